/*
 * The text of what the agent sends: heads of requests to the backend and of
 * responses to the proxy, with the framing written anew. Pure.
 */

#ifndef AGENT_RESPONSE_H
#define AGENT_RESPONSE_H

#include <stdbool.h>

#include "buf.h"
#include "head.h"

/* Whether its body is posted in chunks: the backend did not say how long. */
bool response_is_chunked(const struct head *h, bool to_head);

/*
 * Append the head of a response as it is posted: status line, fields that
 * pass, framing.
 */
void response_head(struct buf *out, const struct head *h, bool to_head);

/* Append the last chunk and the trailers that pass. */
void response_last_chunk(struct buf *out, const struct field *trailers,
                         size_t n);

/* Room that is always enough for the next one. */
#define RESPONSE_ERROR_MAX 256

/* The body of a response of the agent's own, into p; returns its length. */
size_t response_error_body(char *p, size_t size, int status,
                           const char *text);

/* Append a whole response of the agent's own: plain text. */
void response_error(struct buf *out, int status, const char *text,
                    bool to_head);

#endif
