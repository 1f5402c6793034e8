
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_PIPE_H_INCLUDED_
#define _NGX_HTTP_INVERTING_PIPE_H_INCLUDED_


#include "ngx_http_inverting_zone.h"


/*
 * A pipe is a bounded byte stream with one writer and one reader, a chain of
 * chunks in the zone.  Bytes move without the lock: the writer publishes by
 * storing "written", the reader gives room by storing "consumed".  Byte n
 * stands in the chunk number n / CHUNK_SIZE of the stream; a pipe never holds
 * less than one chunk, so it moves even when the zone is full.
 *
 * All functions are called with an attached end; which pipe is meant follows
 * from the end's role: a client writes the request and reads the response.
 */


#define NGX_HTTP_INVERTING_PIPE_OPEN  0
#define NGX_HTTP_INVERTING_PIPE_EOF   1     /* a well-formed end */
#define NGX_HTTP_INVERTING_PIPE_CUT   2     /* there will be no more */


/* makes an empty pipe of one chunk; "max" is its largest share in chunks */
void ngx_http_inverting_pipe_init(ngx_http_inverting_pipe_t *pipe,
    uint32_t chunk, ngx_uint_t max);

/*
 * Writes as much as there is room for and returns how much that was.  0 (as
 * NGX_AGAIN): no room, the handler will be called when there is.  NGX_ERROR:
 * the reader wants no more.
 */
ssize_t ngx_http_inverting_pipe_send(ngx_http_inverting_end_t *end,
    u_char *buf, size_t size);

/*
 * Takes chunks for what will be written, as far as the share of the pipe and
 * the zone allow.  Returns how much can be written for certain; the handler is
 * called when the reader has made room for more.  Something must have been
 * written before.
 */
size_t ngx_http_inverting_pipe_reserve(ngx_http_inverting_end_t *end);

/* after the last byte; or, with CUT, because there will be no last byte */
void ngx_http_inverting_pipe_finish(ngx_http_inverting_end_t *end,
    ngx_uint_t how);

/*
 * Reads up to size bytes.  NGX_AGAIN: nothing there, the handler will be
 * called.  0: the well-formed end.  NGX_ERROR: cut; what had been written
 * before was read before.
 */
ssize_t ngx_http_inverting_pipe_recv(ngx_http_inverting_end_t *end,
    u_char *buf, size_t size);

/*
 * Whether the next call may do other than return NGX_AGAIN, or 0: handlers
 * are called for other reasons, too.
 */
ngx_uint_t ngx_http_inverting_pipe_can_recv(ngx_http_inverting_end_t *end);
ngx_uint_t ngx_http_inverting_pipe_can_send(ngx_http_inverting_end_t *end);

/*
 * Whether the reader has "size" bytes, or more, to read yet; then the handler
 * is called, at the latest when it has read all that there is.
 */
ngx_uint_t ngx_http_inverting_pipe_is_behind(ngx_http_inverting_end_t *end,
    size_t size);

/*
 * Frees the chunks of both pipes and of the head, unless it is tainted: see
 * ngx_http_inverting_spent_locked().  The lock must be held.
 */
void ngx_http_inverting_pipes_free_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);


#endif /* _NGX_HTTP_INVERTING_PIPE_H_INCLUDED_ */
