
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_PTTH_H_INCLUDED_
#define _NGX_HTTP_INVERTING_PTTH_H_INCLUDED_


#include "ngx_http_inverting_agent.h"


/*
 * PTTH: a connection that an agent has made, on which the proxy is the client.
 *
 *     ..._ptth_upgrade.c    the request for it, and the 101
 *     ..._ptth.c            bytes in and out, when it ends
 *     ..._h2.c              its transactions as streams of HTTP/2
 *     ..._h2_frames.c       what comes of the frames of those
 *     ..._h2_stream.c       how a stream begins and ends
 *     ..._h2_request.c      a request: from the text in the zone to frames
 *     ..._h2_response.c     a response: from frames to text in the zone
 *     ..._h1.c              its transactions one by one, as HTTP/1.1
 *     ..._h1_response.c     where a response of these ends
 *
 * A connection is a receiver: see ngx_http_inverting_connect_locked().  It
 * belongs to the worker that accepted it, for as long as it lives.
 */


/* what is read, and what is written, at once */
#define NGX_HTTP_INVERTING_PTTH_BUFFER  65536


typedef struct ngx_http_inverting_ptth_s  ngx_http_inverting_ptth_t;


/*
 * The protocol spoken on it.  All but "free" may set ptth->failed, and then
 * the connection is closed as soon as they have returned.
 */

typedef struct {
    ngx_str_t    alpn;

    /* NGX_OK or NGX_ERROR */
    ngx_int_t  (*init)(ngx_http_inverting_ptth_t *ptth);

    /* bytes came from the agent; none: it has closed the connection */
    void       (*input)(ngx_http_inverting_ptth_t *ptth, u_char *buf,
                        size_t size);

    /* fills what is free of ptth->out */
    void       (*output)(ngx_http_inverting_ptth_t *ptth);

    /* there is something to open: see ngx_http_inverting_open() */
    void       (*receive)(ngx_http_inverting_ptth_t *ptth);

    /* no transaction is given to it any more: tells the agent */
    void       (*drain)(ngx_http_inverting_ptth_t *ptth);

    /* from time to time; "silent": no sign of life since the last time */
    void       (*tick)(ngx_http_inverting_ptth_t *ptth, ngx_uint_t silent);

    /*
     * Nothing comes and goes any more: gives up what it has in progress, but
     * for responses that have come whole, and returns how many of these the
     * clients have not read yet.
     */
    ngx_uint_t (*over)(ngx_http_inverting_ptth_t *ptth);

    /* gives up what it has in progress */
    void       (*free)(ngx_http_inverting_ptth_t *ptth);
} ngx_http_inverting_ptth_proto_t;


struct ngx_http_inverting_ptth_s {
    ngx_http_request_t               *request;
    ngx_http_inverting_agent_ctx_t   *agent;
    ngx_http_inverting_ptth_proto_t  *proto;
    void                             *session;     /* the protocol's */

    ngx_queue_t                       queue;       /* of this worker's */
    ngx_uint_t                        streams;     /* in progress */

    ngx_event_t                       flush;
    ngx_event_t                       timer;
    ngx_msec_t                        tick;        /* between two of them */
    off_t                             taken;       /* bytes, at the last one */

    /* on its way to the agent; no memory while there is nothing */
    ngx_buf_t                         out;

    const char                       *failed;      /* why, or NULL */

    unsigned                          blocked:1;   /* not to be read from */
    unsigned                          heard:1;     /* since the last tick */
    unsigned                          draining:1;
    unsigned                          over:1;      /* clients still read */
    unsigned                          closed:1;
};


/*
 * A connection that is to be, in the pool of the agent's request, and ends
 * with it; NULL: no memory.
 */
ngx_http_inverting_ptth_t *ngx_http_inverting_ptth_create(
    ngx_http_request_t *r, ngx_http_inverting_agent_ctx_t *ctx);

/* the 101 was sent: the connection is not nginx's to read from any more */
void ngx_http_inverting_ptth_start(ngx_http_inverting_ptth_t *ptth);

/*
 * There is something to write: behind what has been posted in this turn, or
 * with the next batch.
 */
void ngx_http_inverting_ptth_flush(ngx_http_inverting_ptth_t *ptth);

/*
 * Takes no more transactions and ends when those in progress have ended; may
 * be called more than once.
 */
void ngx_http_inverting_ptth_drain(ngx_http_inverting_ptth_t *ptth);

/* to be closed: the agent may not serve the backend any more */
void ngx_http_inverting_ptth_gone(ngx_http_inverting_ptth_t *ptth);

/*
 * Closes the connection if the protocol has failed, or has drained, as soon as
 * the clients have read what has come whole, or the time of the worker is up.
 * For the handlers of events, as the last thing that they do: NGX_DONE, and
 * the connection is no more, or NGX_OK.
 */
ngx_int_t ngx_http_inverting_ptth_check(ngx_http_inverting_ptth_t *ptth);


extern ngx_http_inverting_ptth_proto_t  ngx_http_inverting_h2;
extern ngx_http_inverting_ptth_proto_t  ngx_http_inverting_h1;


#endif /* _NGX_HTTP_INVERTING_PTTH_H_INCLUDED_ */
