/*
 * The keys of the WebSocket handshake (RFC 6455 §4). Pure, but for the
 * random bytes.
 */

#ifndef AGENT_WEBSOCKET_H
#define AGENT_WEBSOCKET_H

#include <stdbool.h>

#include "head.h"

#define WEBSOCKET_KEY 24 /* characters */

/* A fresh Sec-WebSocket-Key, without a NUL. */
void websocket_key(char key[WEBSOCKET_KEY]);

/* Whether the answer to that key is the one that is due. */
bool websocket_accepts(const char key[WEBSOCKET_KEY], const struct head *h);

#endif
