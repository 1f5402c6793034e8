
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_h2.h"


/*
 * The largest head of a request, as large as HPACK could make it.  An agent's
 * library takes eight frames of CONTINUATION, and ends the connection of all
 * requests when there are more.
 */
#define NGX_HTTP_INVERTING_H2_REQUEST_MAX  (128 * 1024)

/*
 * More than these, for each transaction that there can be, are not waiting to
 * be sent by what the module does: a HEADERS, a RST_STREAM, WINDOW_UPDATEs, of
 * the last one, too.
 */
#define NGX_HTTP_INVERTING_H2_MAX_QUEUED    8

/*
 * Nor is it given requests while so many frames wait: to take one back, which
 * its client has given up, the library looks at all before it.
 */
#define NGX_HTTP_INVERTING_H2_MAX_UNSENT    256


static ngx_int_t ngx_http_inverting_h2_init(ngx_http_inverting_ptth_t *ptth);
static ngx_int_t ngx_http_inverting_h2_session(ngx_http_inverting_h2_t *h2);
static void ngx_http_inverting_h2_input(ngx_http_inverting_ptth_t *ptth,
    u_char *buf, size_t size);
static void ngx_http_inverting_h2_output(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h2_receive(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h2_drain(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h2_tick(ngx_http_inverting_ptth_t *ptth,
    ngx_uint_t silent);
static ngx_uint_t ngx_http_inverting_h2_over(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h2_free(ngx_http_inverting_ptth_t *ptth);


ngx_http_inverting_ptth_proto_t  ngx_http_inverting_h2 = {
    ngx_string("h2"),
    ngx_http_inverting_h2_init,
    ngx_http_inverting_h2_input,
    ngx_http_inverting_h2_output,
    ngx_http_inverting_h2_receive,
    ngx_http_inverting_h2_drain,
    ngx_http_inverting_h2_tick,
    ngx_http_inverting_h2_over,
    ngx_http_inverting_h2_free
};


static ngx_int_t
ngx_http_inverting_h2_init(ngx_http_inverting_ptth_t *ptth)
{
    ngx_http_inverting_h2_t  *h2;

    h2 = ngx_pcalloc(ptth->request->pool, sizeof(ngx_http_inverting_h2_t));
    if (h2 == NULL) {
        return NGX_ERROR;
    }

    h2->ptth = ptth;

    ngx_queue_init(&h2->streams);
    ngx_queue_init(&h2->free);

    if (ngx_http_inverting_h2_session(h2) != NGX_OK) {
        nghttp2_session_del(h2->session);
        return NGX_ERROR;
    }

    ptth->session = h2;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_h2_session(ngx_http_inverting_h2_t *h2)
{
    int                         rc;
    nghttp2_option             *option;
    nghttp2_session_callbacks  *callbacks;

    static nghttp2_settings_entry  settings[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, NGX_HTTP_INVERTING_H2_WINDOW },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
          NGX_HTTP_INVERTING_H2_HEAD_MAX }
    };

    callbacks = ngx_http_inverting_h2_callbacks();

    if (callbacks == NULL || nghttp2_option_new(&option) != 0) {
        return NGX_ERROR;
    }

    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_send_header_block_length(option,
                                        NGX_HTTP_INVERTING_H2_REQUEST_MAX);
    nghttp2_option_set_max_outbound_ack(option,
                                        NGX_HTTP_INVERTING_H2_MAX_PINGS);

    rc = nghttp2_session_client_new2(&h2->session, callbacks, h2, option);

    nghttp2_option_del(option);

    if (rc != 0) {
        h2->session = NULL;
        return NGX_ERROR;
    }

    if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings,
                                sizeof(settings) / sizeof(settings[0]))
        != 0
        || nghttp2_session_set_local_window_size(h2->session,
                                           NGHTTP2_FLAG_NONE, 0,
                                           NGX_HTTP_INVERTING_H2_CONNECTION)
           != 0)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_inverting_h2_input(ngx_http_inverting_ptth_t *ptth, u_char *buf,
    size_t size)
{
    size_t                    max;
    ssize_t                   rc;
    ngx_http_inverting_h2_t  *h2;

    h2 = ptth->session;

    /* also the end of the connection: nothing ends well by it */

    rc = nghttp2_session_mem_recv(h2->session, buf, size);

    /* what the library answers by itself is bounded only in part */

    max = NGX_HTTP_INVERTING_H2_MAX_PINGS
          + NGX_HTTP_INVERTING_H2_MAX_QUEUED * ptth->agent->zone->sh->ntxs;

    if (rc >= 0
        && nghttp2_session_get_outbound_queue_size(h2->session) > max)
    {
        rc = NGHTTP2_ERR_FLOODED;
    }

    if (rc < 0) {

        if (rc == NGHTTP2_ERR_FLOODED) {
            ngx_log_error(NGX_LOG_WARN, ptth->request->connection->log, 0,
                          "the agent of backend \"%V\" sent too many frames "
                          "that want an answer", &ptth->agent->backend);
        }

        ptth->failed = nghttp2_strerror(rc);
        return;
    }

    if (!nghttp2_session_want_read(h2->session)
        && !nghttp2_session_want_write(h2->session))
    {
        ptth->failed = "the session is over";
        return;
    }

    if (nghttp2_session_want_write(h2->session)) {
        ngx_http_inverting_ptth_flush(ptth);
    }
}


static void
ngx_http_inverting_h2_output(ngx_http_inverting_ptth_t *ptth)
{
    size_t                     n;
    ssize_t                    rc;
    ngx_buf_t                 *b;
    ngx_http_inverting_h2_t   *h2;
    ngx_http_inverting_end_t  *end;

    h2 = ptth->session;
    b = &ptth->out;
    end = &ptth->agent->end;

    while (b->last < b->end) {

        if (h2->frame_len == 0) {

            rc = nghttp2_session_mem_send(h2->session, &h2->frame);

            if (rc < 0) {
                ptth->failed = nghttp2_strerror(rc);
                return;
            }

            if (rc == 0) {
                break;
            }

            h2->frame_len = rc;
        }

        n = ngx_min(h2->frame_len, (size_t) (b->end - b->last));

        b->last = ngx_cpymem(b->last, h2->frame, n);

        h2->frame += n;
        h2->frame_len -= n;
    }

    if (h2->held
        && ptth->streams < h2->capacity
        && end->receiver && !end->event.posted
        && nghttp2_session_get_outbound_queue_size(h2->session)
           < NGX_HTTP_INVERTING_H2_MAX_UNSENT)
    {
        /* others first */

        ngx_post_event(&end->event, &ngx_posted_next_events);
    }

    if (b->last == b->pos
        && !nghttp2_session_want_read(h2->session)
        && !nghttp2_session_want_write(h2->session))
    {
        ptth->failed = "the session is over";
    }
}


static void
ngx_http_inverting_h2_receive(ngx_http_inverting_ptth_t *ptth)
{
    ngx_int_t                        rc;
    ngx_http_inverting_h2_t         *h2;
    ngx_http_inverting_receiver_t   *rcv;
    ngx_http_inverting_h2_stream_t  *st;

    h2 = ptth->session;
    rcv = ptth->agent->end.receiver;

    h2->held = 0;

    for ( ;; ) {

        /* who gives it something later on calls this again */

        if (__atomic_load_n(&rcv->state, __ATOMIC_SEQ_CST)
            == NGX_HTTP_INVERTING_RECEIVER_WAITING)
        {
            return;
        }

        if ((ptth->streams >= h2->capacity
             || nghttp2_session_get_outbound_queue_size(h2->session)
                >= NGX_HTTP_INVERTING_H2_MAX_UNSENT)
            && rcv->state != NGX_HTTP_INVERTING_RECEIVER_ENDING)
        {
            /*
             * The library would keep them.  A stream that its client has given
             * up counts until the agent has been told: clients that come and
             * go must not fill the memory while an agent does not read.
             */

            h2->held = 1;
            return;
        }

        st = ngx_http_inverting_h2_get_stream(h2);
        if (st == NULL) {

            /* the rescan comes back to what was given and is not opened */

            return;
        }

        rc = ngx_http_inverting_open(&ptth->agent->end, &st->taker,
                                     &st->answerer);

        if (rc != NGX_OK) {
            ngx_http_inverting_h2_put_stream(st);

            if (rc == NGX_DONE) {
                ngx_http_inverting_ptth_gone(ptth);
            }

            return;
        }

        if (ngx_http_inverting_h2_request(st) != NGX_OK) {

            /* the IDs of streams may be used up: another connection, then */

            ngx_http_inverting_h2_release(st,
                                          NGX_HTTP_INVERTING_AGENT_REFUSED);
            ngx_http_inverting_h2_put_stream(st);
            ngx_http_inverting_ptth_drain(ptth);
            return;
        }

        if (h2->resets) {

            /* that of a stream may cross its end: a request pays for one */

            h2->resets--;
        }

        ngx_http_inverting_ptth_flush(ptth);
    }
}


static void
ngx_http_inverting_h2_drain(ngx_http_inverting_ptth_t *ptth)
{
    ngx_http_inverting_h2_t  *h2;

    h2 = ptth->session;

    (void) nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, 0,
                                 NGHTTP2_NO_ERROR, NULL, 0);
}


static void
ngx_http_inverting_h2_tick(ngx_http_inverting_ptth_t *ptth, ngx_uint_t silent)
{
    ngx_http_inverting_h2_t  *h2;

    h2 = ptth->session;

    h2->errors = 0;
    h2->settings = 0;
    h2->pings = 0;
    h2->resets = 0;
    h2->useless = 0;

    if (!silent) {
        h2->ping = 0;

    } else if (h2->ping) {
        ptth->failed = "it does not answer";
        return;
    }

    if (silent
        && nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL) == 0)
    {
        h2->ping = 1;
        ngx_http_inverting_ptth_flush(ptth);
    }

    ngx_http_inverting_h2_sweep(h2);
}


static ngx_uint_t
ngx_http_inverting_h2_over(ngx_http_inverting_ptth_t *ptth)
{
    ngx_queue_t                     *q, *next;
    ngx_http_inverting_h2_t         *h2;
    ngx_http_inverting_h2_stream_t  *st;

    h2 = ptth->session;

    for (q = ngx_queue_head(&h2->streams);
         q != ngx_queue_sentinel(&h2->streams);
         q = next)
    {
        next = ngx_queue_next(q);
        st = ngx_queue_data(q, ngx_http_inverting_h2_stream_t, queue);

        if (st->ended && st->pending_len && !st->gone) {
            st->closed = 1;
            ngx_http_inverting_close(&st->taker, NGX_HTTP_INVERTING_PENDING);
            continue;
        }

        ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_AGENT_LOST);
        ngx_http_inverting_h2_put_stream(st);
    }

    return ptth->streams;
}


static void
ngx_http_inverting_h2_free(ngx_http_inverting_ptth_t *ptth)
{
    ngx_queue_t                     *q, *next;
    ngx_http_inverting_h2_t         *h2;
    ngx_http_inverting_h2_stream_t  *st;

    h2 = ptth->session;

    for (q = ngx_queue_head(&h2->streams);
         q != ngx_queue_sentinel(&h2->streams);
         q = next)
    {
        next = ngx_queue_next(q);
        st = ngx_queue_data(q, ngx_http_inverting_h2_stream_t, queue);

        ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_AGENT_LOST);
        ngx_free(st);
    }

    for (q = ngx_queue_head(&h2->free);
         q != ngx_queue_sentinel(&h2->free);
         q = next)
    {
        next = ngx_queue_next(q);
        ngx_free(ngx_queue_data(q, ngx_http_inverting_h2_stream_t, queue));
    }

    if (h2->head) {
        ngx_free(h2->head);
    }

    if (h2->refused.timer_set) {
        ngx_del_timer(&h2->refused);
    }

    /* no callbacks come of it */
    nghttp2_session_del(h2->session);
}
