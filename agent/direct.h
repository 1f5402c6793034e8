/*
 * HTTP/1.1 spoken directly over plain connections: TCP and unix sockets. It
 * costs about a third of a transfer by libcurl.
 */

#ifndef AGENT_DIRECT_H
#define AGENT_DIRECT_H

#include "exchange.h"
#include "loop.h"
#include "origin.h"

/* The origin stays the caller's and must outlive the carrier. */
struct carrier *direct_new(struct loop *loop, const struct origin *origin);

#endif
