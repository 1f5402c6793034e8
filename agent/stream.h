/*
 * One request on a PTTH connection: from the fields that the proxy sends to
 * the backend and back, with bounded memory.
 */

#ifndef AGENT_STREAM_H
#define AGENT_STREAM_H

#include <stdbool.h>

#include "session.h"

#define STREAM_WINDOW (64 * 1024) /* at first; see stream_data() */

/* All open ones of a session are in a list that begins at core->first. */
struct stream *stream_new(struct session_core *core, int32_t id);

/* The next in that list. */
struct stream *stream_next(const struct stream *st);

/* The request's head; end: nothing follows. */
void stream_request(struct stream *st, struct h2request *r, bool end);

/* Bytes of its body; the connection's window is the caller's business. */
void stream_data(struct stream *st, const char *p, size_t n);

/* The body is over. */
void stream_request_end(struct stream *st);

/* Hand to nghttp2 what has come since the last time. For the first of the
 * dirty ones; returns the next of them. */
struct stream *stream_flush(struct stream *st);

/*
 * nghttp2 wants at most n bytes of the body: returns how many it gets, or
 * NGHTTP2_ERR_DEFERRED. They are in stream_take() then.
 */
ssize_t stream_offer(struct stream *st, size_t n, uint32_t *flags);

/* Append the n bytes offered to out. */
void stream_take(struct stream *st, struct buf *out, size_t n);

/* The end of the response is on its way. */
void stream_answered(struct stream *st);

/* End it if nothing has moved for too long. */
void stream_tick(struct stream *st);

/* It is closed: give up what is still going on, and forget it. */
void stream_free(struct stream *st);

#endif
