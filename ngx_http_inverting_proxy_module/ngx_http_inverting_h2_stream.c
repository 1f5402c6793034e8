
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_h2.h"


/* free streams that a connection keeps */
#define NGX_HTTP_INVERTING_H2_KEEP  32

/* after a stream was refused, milliseconds */
#define NGX_HTTP_INVERTING_H2_RETRY  200


static void ngx_http_inverting_h2_end_handler(ngx_http_inverting_end_t *end);
static void ngx_http_inverting_h2_cancel(ngx_http_inverting_h2_stream_t *st,
    ngx_uint_t outcome);
static void ngx_http_inverting_h2_refused(ngx_http_inverting_h2_t *h2);
static void ngx_http_inverting_h2_retry_handler(ngx_event_t *ev);


ngx_http_inverting_h2_stream_t *
ngx_http_inverting_h2_get_stream(ngx_http_inverting_h2_t *h2)
{
    ngx_queue_t                     *q;
    ngx_http_inverting_h2_stream_t  *st;

    if (!ngx_queue_empty(&h2->free)) {
        q = ngx_queue_head(&h2->free);
        st = ngx_queue_data(q, ngx_http_inverting_h2_stream_t, queue);

        ngx_queue_remove(q);
        h2->nfree--;

    } else {
        st = ngx_alloc(sizeof(ngx_http_inverting_h2_stream_t), ngx_cycle->log);
        if (st == NULL) {
            return NULL;
        }
    }

    ngx_memzero(st, sizeof(ngx_http_inverting_h2_stream_t));

    st->h2 = h2;
    st->taker.data = st;
    st->taker.handler = ngx_http_inverting_h2_end_handler;
    st->answerer.data = st;
    st->answerer.handler = ngx_http_inverting_h2_end_handler;

    ngx_queue_insert_tail(&h2->streams, &st->queue);
    h2->ptth->streams++;

    return st;
}


void
ngx_http_inverting_h2_put_stream(ngx_http_inverting_h2_stream_t *st)
{
    ngx_http_inverting_h2_t   *h2;
    ngx_http_inverting_end_t  *end;

    h2 = st->h2;
    end = &h2->ptth->agent->end;

    ngx_queue_remove(&st->queue);
    h2->ptth->streams--;

    if (h2->held && end->receiver && !end->event.posted) {
        ngx_post_event(&end->event, &ngx_posted_events);
    }

    if (h2->nfree == NGX_HTTP_INVERTING_H2_KEEP) {
        ngx_free(st);
        return;
    }

    ngx_queue_insert_head(&h2->free, &st->queue);
    h2->nfree++;
}


/* of both ends */

static void
ngx_http_inverting_h2_end_handler(ngx_http_inverting_end_t *end)
{
    ngx_uint_t                       outcome;
    ngx_http_inverting_ptth_t       *ptth;
    ngx_http_inverting_h2_stream_t  *st;

    st = end->data;
    ptth = st->h2->ptth;

    ngx_http_set_log_request(ptth->request->connection->log, ptth->request);

    outcome = ngx_http_inverting_outcome(end);

    if (outcome != NGX_HTTP_INVERTING_PENDING) {
        ngx_http_inverting_h2_cancel(st, outcome);

    } else if (end == &st->taker) {
        ngx_http_inverting_h2_request_moved(st);

    } else {
        ngx_http_inverting_h2_response_moved(st);
    }

    if (nghttp2_session_want_write(st->h2->session)) {
        ngx_http_inverting_ptth_flush(ptth);
    }

    if (st->closed && st->released) {
        ngx_http_inverting_h2_put_stream(st);
    }

    (void) ngx_http_inverting_ptth_check(ptth);
}


/* the transaction is over, whatever the agent still has of it */

static void
ngx_http_inverting_h2_cancel(ngx_http_inverting_h2_stream_t *st,
    ngx_uint_t outcome)
{
    switch (outcome) {

    case NGX_HTTP_INVERTING_COMPLETE:

        /* the end of the stream may be on its way */

        if (!st->sent) {
            ngx_http_inverting_h2_reset(st, NGHTTP2_CANCEL);
        }

        break;

    case NGX_HTTP_INVERTING_BAD_RESPONSE:
        ngx_http_inverting_h2_reset(st, NGHTTP2_PROTOCOL_ERROR);
        break;

    case NGX_HTTP_INVERTING_CLIENT_GONE:

        if (st->tunnel && st->answering && !st->closed) {

            /*
             * The last that it has sent, first; and in the agent a reset would
             * overtake that.
             */

            st->gone = 1;

            if (st->taker.tx) {
                ngx_http_inverting_h2_request_moved(st);

            } else {
                ngx_http_inverting_h2_gone(st);
            }

            return;
        }

        /* fall through */

    default:
        ngx_http_inverting_h2_reset(st, NGHTTP2_CANCEL);
        break;
    }

    ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_PENDING);
}


void
ngx_http_inverting_h2_gone(ngx_http_inverting_h2_stream_t *st)
{
    nghttp2_session  *session;

    session = st->h2->session;

    /* a byte of what waits for a window is enough to see that it sends on */

    if (nghttp2_session_get_stream_local_window_size(session, st->id) == 0) {
        (void) nghttp2_submit_window_update(session, NGHTTP2_FLAG_NONE,
                                            st->id, 1);
    }

    ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_PENDING);
}


void
ngx_http_inverting_h2_reset(ngx_http_inverting_h2_stream_t *st, uint32_t code)
{
    if (st->closed) {
        return;
    }

    (void) nghttp2_submit_rst_stream(st->h2->session, NGHTTP2_FLAG_NONE,
                                     st->id, code);

    ngx_http_inverting_ptth_flush(st->h2->ptth);
}


void
ngx_http_inverting_h2_release(ngx_http_inverting_h2_stream_t *st,
    ngx_uint_t outcome)
{
    if (st->released) {
        return;
    }

    st->released = 1;

    if (st->pending && st->answerer.tx) {

        /* its client gets what it can of a response that is cut */

        (void) ngx_http_inverting_h2_write_kept(st);
    }

    if (st->pending) {
        ngx_free(st->pending);
        st->pending = NULL;
        st->pending_len = 0;
        st->merged = 0;
    }

    ngx_http_inverting_stream_close(&st->h2->ptth->agent->end, &st->taker,
                                    &st->answerer, outcome);
}


void
ngx_http_inverting_h2_closed(ngx_http_inverting_h2_stream_t *st,
    uint32_t error)
{
    ngx_http_inverting_h2_t  *h2;

    h2 = st->h2;
    st->closed = 1;

    if (st->ended && st->pending_len && !st->gone) {

        /* the client has not read all of it yet: it may still be writing */

        ngx_http_inverting_close(&st->taker, NGX_HTTP_INVERTING_PENDING);
        return;
    }

    if (st->released) {
        /* void */

    } else if (st->ended) {
        ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_PENDING);

        if (h2->refused.timer_set) {
            ngx_http_inverting_h2_retry(h2);
        }

    } else if (error == NGHTTP2_REFUSED_STREAM) {
        ngx_http_inverting_h2_refused(h2);
        ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_AGENT_REFUSED);

    } else if (st->reset) {
        ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_AGENT_LOST);

    } else {

        /* what it has sent is no response: another agent is not asked */

        if (st->answerer.tx) {
            ngx_http_inverting_pipe_finish(&st->answerer,
                                           NGX_HTTP_INVERTING_PIPE_CUT);
        }

        ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_PENDING);
    }

    ngx_http_inverting_h2_put_stream(st);
}


/*
 * It can't take as many as it said: no more than it has, until one of these
 * has ended, or for a while.
 */

static void
ngx_http_inverting_h2_refused(ngx_http_inverting_h2_t *h2)
{
    ngx_http_inverting_end_t  *end;

    end = &h2->ptth->agent->end;

    if (end->receiver == NULL) {
        return;
    }

    if (!h2->refused.timer_set) {
        h2->refused.handler = ngx_http_inverting_h2_retry_handler;
        h2->refused.data = h2;
        h2->refused.log = h2->ptth->request->connection->log;
        h2->refused.cancelable = 1;

        ngx_add_timer(&h2->refused, NGX_HTTP_INVERTING_H2_RETRY);
    }

    if (h2->ptth->streams - 1 < end->receiver->capacity) {
        ngx_http_inverting_set_capacity(end, h2->ptth->streams - 1);
    }
}


static void
ngx_http_inverting_h2_retry_handler(ngx_event_t *ev)
{
    ngx_http_inverting_h2_retry(ev->data);
}


void
ngx_http_inverting_h2_retry(ngx_http_inverting_h2_t *h2)
{
    ngx_http_inverting_end_t  *end;

    end = &h2->ptth->agent->end;

    if (h2->refused.timer_set) {
        ngx_del_timer(&h2->refused);
    }

    if (end->receiver) {
        ngx_http_inverting_set_capacity(end, h2->capacity);
    }
}


void
ngx_http_inverting_h2_sweep(ngx_http_inverting_h2_t *h2)
{
    ngx_queue_t                     *q, *next;
    ngx_http_inverting_h2_stream_t  *st;

    for (q = ngx_queue_head(&h2->streams);
         q != ngx_queue_sentinel(&h2->streams);
         q = next)
    {
        next = ngx_queue_next(q);
        st = ngx_queue_data(q, ngx_http_inverting_h2_stream_t, queue);

        if (!st->released && !st->gone) {
            continue;
        }

        if (st->stale) {
            ngx_http_inverting_h2_reset(st, NGHTTP2_CANCEL);
            ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_PENDING);
        }

        st->stale = 1;
    }
}
