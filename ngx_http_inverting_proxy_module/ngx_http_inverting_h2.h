
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_H2_H_INCLUDED_
#define _NGX_HTTP_INVERTING_H2_H_INCLUDED_


#include <nghttp2/nghttp2.h>

#include "ngx_http_inverting_ptth.h"
#include "ngx_http_inverting_chunked.h"


/*
 * What ngx_http_inverting_h2.c (the session), ..._h2_frames.c (what it calls),
 * ..._h2_stream.c (its streams, and how they end), ..._h2_request.c and
 * ..._h2_response.c share.
 */


/*
 * The window that each stream begins with.  A pipe need not hold as much: what
 * it can't take yet waits in the stream's own memory, and no more window is
 * granted until it has room that it holds.
 */
#define NGX_HTTP_INVERTING_H2_WINDOW       32768

/*
 * What may wait: this window with the largest head and trailers, and some
 * more, for a pipe that can't get the room which small pieces have used up.
 */
#define NGX_HTTP_INVERTING_H2_PENDING_MAX  (256 * 1024)

/*
 * Pieces that are smaller become one chunk while the client has as much to
 * read: the room that is held for a response is for what its body is in such
 * chunks.
 */
#define NGX_HTTP_INVERTING_H2_PIECE        4096

/* between two ticks, and waiting for their answer to be sent */
#define NGX_HTTP_INVERTING_H2_MAX_PINGS    1000

/* the largest that HTTP/2 knows is a bit less than twice as much */
#define NGX_HTTP_INVERTING_H2_WINDOW_MAX   (1024 * 1024 * 1024)

/* the whole connection's: what comes is taken off it at once */
#define NGX_HTTP_INVERTING_H2_CONNECTION   (16 * 1024 * 1024)

/* the largest head of a response, and the largest trailer section */
#define NGX_HTTP_INVERTING_H2_HEAD_MAX     65536

#define NGX_HTTP_INVERTING_H2_ACCEPT_LEN   28

/* a backend's own reason phrase is cut there */
#define NGX_HTTP_INVERTING_H2_REASON_LEN   100


typedef struct {
    ngx_http_inverting_ptth_t       *ptth;
    nghttp2_session                 *session;
    ngx_queue_t                      streams;
    ngx_queue_t                      free;        /* a few, to be used again */
    ngx_uint_t                       nfree;

    uint32_t                         requests;

    /* the next frame, or what is left of it: the library's memory */
    const uint8_t                   *frame;
    size_t                           frame_len;

    /* the head that is being received, of whichever stream */
    u_char                          *head;
    size_t                           head_len;
    size_t                           head_size;
    ngx_uint_t                       status;
    ngx_uint_t                       chunked;     /* it has no length */
    u_char                           reason[NGX_HTTP_INVERTING_H2_REASON_LEN];
    size_t                           reason_len;

    /* since the last tick */
    ngx_uint_t                       errors;
    ngx_uint_t                       settings;
    ngx_uint_t                       pings;
    ngx_uint_t                       resets;
    ngx_uint_t                       useless;

    ngx_uint_t                       capacity;
    ngx_event_t                      refused;     /* set: it was reduced */

    unsigned                         ping:1;      /* one is unanswered */
    unsigned                         held:1;      /* what could be opened */
    unsigned                         terminated:1;
} ngx_http_inverting_h2_t;


typedef struct {
    ngx_queue_t                      queue;
    ngx_http_inverting_h2_t         *h2;
    int32_t                          id;

    ngx_http_inverting_end_t         taker;
    ngx_http_inverting_end_t         answerer;

    /* the request's body */
    off_t                            left;        /* -1: chunked */
    ngx_http_inverting_chunked_t     chunked;

    /* of the response: what the pipe had no room for, and small pieces */
    u_char                          *pending;
    size_t                           pending_pos;
    size_t                           pending_len;
    size_t                           pending_size;
    size_t                           merged;      /* the chunk that it ends
                                                     with may still grow */

    u_char                           accept[NGX_HTTP_INVERTING_H2_ACCEPT_LEN];

    unsigned                         tunnel:1;       /* extended CONNECT */
    unsigned                         bodiless:1;     /* to HEAD */
    unsigned                         deferred:1;
    unsigned                         sent:1;         /* the whole request */
    unsigned                         gone:1;         /* a tunnel's client */
    unsigned                         answering:1;    /* final head is there */
    unsigned                         framed:1;       /* response in chunks */
    unsigned                         in_chunk:1;
    unsigned                         granted:1;      /* window was */
    unsigned                         ended:1;        /* whole response */
    unsigned                         reset:1;        /* by the agent */
    unsigned                         released:1;     /* ends are closed */
    unsigned                         closed:1;       /* by the session */
    unsigned                         stale:1;        /* a tick has passed */
} ngx_http_inverting_h2_stream_t;


/*
 * What the library calls for the frames that it has received or sent, with an
 * ngx_http_inverting_h2_t as "data"; the same for all sessions of the process.
 * NULL: no memory.
 */
nghttp2_session_callbacks *ngx_http_inverting_h2_callbacks(void);

/*
 * Submits the request of the transaction that the stream's ends hold.
 * NGX_ERROR: it was not submitted.
 */
ngx_int_t ngx_http_inverting_h2_request(ngx_http_inverting_h2_stream_t *st);

/* something came into the request's pipe, or it has ended */
void ngx_http_inverting_h2_request_moved(ngx_http_inverting_h2_stream_t *st);

/* a head begins, has another field, is whole: 0 or an error of nghttp2 */
int ngx_http_inverting_h2_head_begin(ngx_http_inverting_h2_stream_t *st);
int ngx_http_inverting_h2_head_field(ngx_http_inverting_h2_stream_t *st,
    const uint8_t *name, size_t namelen, const uint8_t *value,
    size_t valuelen);
void ngx_http_inverting_h2_head_end(ngx_http_inverting_h2_stream_t *st,
    ngx_uint_t last);

/* bytes of a response's body, and its end */
void ngx_http_inverting_h2_data(ngx_http_inverting_h2_stream_t *st,
    const uint8_t *data, size_t len);
void ngx_http_inverting_h2_data_end(ngx_http_inverting_h2_stream_t *st);

/*
 * Writes what waits, as far as there is room, and grants the agent as much
 * window as there is room for then.
 */
void ngx_http_inverting_h2_response_moved(ngx_http_inverting_h2_stream_t *st);

/* the latter alone; not while something waits */
void ngx_http_inverting_h2_grant(ngx_http_inverting_h2_stream_t *st);

/*
 * The former alone, for an attached end and something that waits: NGX_OK, or
 * NGX_AGAIN: something still does.
 */
ngx_int_t ngx_http_inverting_h2_write_kept(ngx_http_inverting_h2_stream_t *st);

/*
 * A stream of the connection, which counts from now on; NULL: no memory.  It
 * is given back when nobody knows of it any more.
 */
ngx_http_inverting_h2_stream_t *ngx_http_inverting_h2_get_stream(
    ngx_http_inverting_h2_t *h2);
void ngx_http_inverting_h2_put_stream(ngx_http_inverting_h2_stream_t *st);

/*
 * The client of a tunnel is, and all that it has sent was written: it is
 * released, and reset when the backend sends on, or after two ticks.
 */
void ngx_http_inverting_h2_gone(ngx_http_inverting_h2_stream_t *st);

/* tells the agent that its stream is of no use any more */
void ngx_http_inverting_h2_reset(ngx_http_inverting_h2_stream_t *st,
    uint32_t code);

/* closes both ends; the stream itself stays until the session closes it */
void ngx_http_inverting_h2_release(ngx_http_inverting_h2_stream_t *st,
    ngx_uint_t outcome);

/*
 * The session has closed the stream, with an error code of HTTP/2: what
 * follows for the transaction.  The stream may be gone then.
 */
void ngx_http_inverting_h2_closed(ngx_http_inverting_h2_stream_t *st,
    uint32_t error);

/* gives the connection its capacity again after a stream was refused */
void ngx_http_inverting_h2_retry(ngx_http_inverting_h2_t *h2);

/*
 * At a tick: resets streams that nobody has needed since the last one, and
 * that the agent does not end.
 */
void ngx_http_inverting_h2_sweep(ngx_http_inverting_h2_t *h2);


#endif /* _NGX_HTTP_INVERTING_H2_H_INCLUDED_ */
