
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_h2.h"


/* the largest head of a request, as large as HPACK could make it */
#define NGX_HTTP_INVERTING_H2_REQUEST_MAX  (1024 * 1024)

/* between two ticks: more of these can't be meant well */
#define NGX_HTTP_INVERTING_H2_MAX_SETTINGS  100
#define NGX_HTTP_INVERTING_H2_MAX_PINGS     1000
#define NGX_HTTP_INVERTING_H2_MAX_RESETS    10000
#define NGX_HTTP_INVERTING_H2_MAX_USELESS   10000

/* nor are more lines of the log needed in that time */
#define NGX_HTTP_INVERTING_H2_MAX_ERRORS    10

/*
 * More than these, for each transaction that there can be, are not waiting to
 * be sent by what the module does: a HEADERS, a RST_STREAM, WINDOW_UPDATEs, of
 * the last one, too.
 */
#define NGX_HTTP_INVERTING_H2_MAX_QUEUED    8


static ngx_int_t ngx_http_inverting_h2_init(ngx_http_inverting_ptth_t *ptth);
static ngx_int_t ngx_http_inverting_h2_session(ngx_http_inverting_h2_t *h2);
static nghttp2_session_callbacks *ngx_http_inverting_h2_callbacks(void);
static void ngx_http_inverting_h2_input(ngx_http_inverting_ptth_t *ptth,
    u_char *buf, size_t size);
static void ngx_http_inverting_h2_output(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h2_receive(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h2_drain(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h2_tick(ngx_http_inverting_ptth_t *ptth,
    ngx_uint_t silent);
static ngx_uint_t ngx_http_inverting_h2_over(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h2_free(ngx_http_inverting_ptth_t *ptth);
static int ngx_http_inverting_h2_on_begin_frame(nghttp2_session *session,
    const nghttp2_frame_hd *hd, void *data);
static int ngx_http_inverting_h2_on_begin_headers(nghttp2_session *session,
    const nghttp2_frame *frame, void *data);
static int ngx_http_inverting_h2_on_header(nghttp2_session *session,
    const nghttp2_frame *frame, const uint8_t *name, size_t namelen,
    const uint8_t *value, size_t valuelen, uint8_t flags, void *data);
static int ngx_http_inverting_h2_on_data_chunk(nghttp2_session *session,
    uint8_t flags, int32_t stream_id, const uint8_t *buf, size_t len,
    void *data);
static int ngx_http_inverting_h2_on_frame(nghttp2_session *session,
    const nghttp2_frame *frame, void *data);
static void ngx_http_inverting_h2_settings(ngx_http_inverting_h2_t *h2);
static void ngx_http_inverting_h2_count(ngx_http_inverting_h2_t *h2,
    ngx_uint_t *counter, ngx_uint_t max, const char *what);
static int ngx_http_inverting_h2_on_not_sent(nghttp2_session *session,
    const nghttp2_frame *frame, int error, void *data);
static int ngx_http_inverting_h2_on_close(nghttp2_session *session,
    int32_t stream_id, uint32_t error, void *data);
static int ngx_http_inverting_h2_on_sent(nghttp2_session *session,
    const nghttp2_frame *frame, void *data);
static int ngx_http_inverting_h2_on_error(nghttp2_session *session, int code,
    const char *msg, size_t len, void *data);


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


/* the same for all sessions of this process; NULL: no memory */

static nghttp2_session_callbacks *
ngx_http_inverting_h2_callbacks(void)
{
    static nghttp2_session_callbacks  *cb;

    if (cb || nghttp2_session_callbacks_new(&cb) != 0) {
        return cb;
    }

    nghttp2_session_callbacks_set_on_begin_frame_callback(cb,
                                        ngx_http_inverting_h2_on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb,
                                      ngx_http_inverting_h2_on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb,
                                             ngx_http_inverting_h2_on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb,
                                         ngx_http_inverting_h2_on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb,
                                              ngx_http_inverting_h2_on_frame);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb,
                                           ngx_http_inverting_h2_on_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb,
                                              ngx_http_inverting_h2_on_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb,
                                               ngx_http_inverting_h2_on_sent);
    nghttp2_session_callbacks_set_error_callback2(cb,
                                              ngx_http_inverting_h2_on_error);

    return cb;
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
    size_t                    n;
    ssize_t                   rc;
    ngx_buf_t                *b;
    ngx_http_inverting_h2_t  *h2;

    h2 = ptth->session;
    b = &ptth->out;

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

        if (ptth->streams >= h2->capacity
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


/*
 * Before the agent has acknowledged that it may not push, the library resets
 * what it pushes, one by one, and tells nobody.
 */

static int
ngx_http_inverting_h2_on_begin_frame(nghttp2_session *session,
    const nghttp2_frame_hd *hd, void *data)
{
    ngx_http_inverting_h2_t *h2 = data;

    if (hd->type != NGHTTP2_PUSH_PROMISE) {
        return 0;
    }

    ngx_log_error(NGX_LOG_WARN, h2->ptth->request->connection->log, 0,
                  "the agent of backend \"%V\" broke the rules of HTTP/2: "
                  "PUSH_PROMISE", &h2->ptth->agent->backend);

    return NGHTTP2_ERR_CALLBACK_FAILURE;
}


static int
ngx_http_inverting_h2_on_begin_headers(nghttp2_session *session,
    const nghttp2_frame *frame, void *data)
{
    ngx_http_inverting_h2_stream_t  *st;

    st = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    return (st && !st->released) ? ngx_http_inverting_h2_head_begin(st) : 0;
}


static int
ngx_http_inverting_h2_on_header(nghttp2_session *session,
    const nghttp2_frame *frame, const uint8_t *name, size_t namelen,
    const uint8_t *value, size_t valuelen, uint8_t flags, void *data)
{
    ngx_http_inverting_h2_stream_t  *st;

    st = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    if (st == NULL || st->released) {
        return 0;
    }

    return ngx_http_inverting_h2_head_field(st, name, namelen, value,
                                            valuelen);
}


static int
ngx_http_inverting_h2_on_data_chunk(nghttp2_session *session, uint8_t flags,
    int32_t stream_id, const uint8_t *buf, size_t len, void *data)
{
    ngx_http_inverting_h2_stream_t  *st;

    (void) nghttp2_session_consume_connection(session, len);

    st = nghttp2_session_get_stream_user_data(session, stream_id);

    if (st && !st->released) {
        ngx_http_inverting_h2_data(st, buf, len);
    }

    return 0;
}


static int
ngx_http_inverting_h2_on_frame(nghttp2_session *session,
    const nghttp2_frame *frame, void *data)
{
    ngx_http_inverting_h2_t *h2 = data;

    ngx_uint_t                       last;
    ngx_http_inverting_h2_stream_t  *st;

    last = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

    switch (frame->hd.type) {

    case NGHTTP2_DATA:

        if (frame->hd.length == 0 && !last) {
            ngx_http_inverting_h2_count(h2, &h2->useless,
                                        NGX_HTTP_INVERTING_H2_MAX_USELESS,
                                        "empty DATA");
        }

        st = nghttp2_session_get_stream_user_data(session,
                                                  frame->hd.stream_id);
        if (st && !st->released) {

            if (last) {
                ngx_http_inverting_h2_data_end(st);

            } else {
                ngx_http_inverting_h2_grant(st);
            }
        }

        break;

    case NGHTTP2_HEADERS:

        st = nghttp2_session_get_stream_user_data(session,
                                                  frame->hd.stream_id);
        if (st && !st->released) {
            ngx_http_inverting_h2_head_end(st, last);
        }

        break;

    case NGHTTP2_SETTINGS:

        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
            ngx_http_inverting_h2_count(h2, &h2->settings,
                                        NGX_HTTP_INVERTING_H2_MAX_SETTINGS,
                                        "SETTINGS");
            ngx_http_inverting_h2_settings(h2);
        }

        break;

    case NGHTTP2_PING:

        if (frame->hd.flags & NGHTTP2_FLAG_ACK) {
            h2->ping = 0;

        } else {
            ngx_http_inverting_h2_count(h2, &h2->pings,
                                        NGX_HTTP_INVERTING_H2_MAX_PINGS,
                                        "PING");
        }

        break;

    case NGHTTP2_RST_STREAM:

        st = nghttp2_session_get_stream_user_data(session,
                                                  frame->hd.stream_id);
        if (st) {

            /* once for each request, as after an answer to half of one */

            st->reset = 1;
            break;
        }

        ngx_http_inverting_h2_count(h2, &h2->resets,
                                    NGX_HTTP_INVERTING_H2_MAX_RESETS,
                                    "RST_STREAM");
        break;

    case NGHTTP2_GOAWAY:
        ngx_http_inverting_ptth_drain(h2->ptth);
        break;

    case NGHTTP2_WINDOW_UPDATE:
        break;

    default:
        ngx_http_inverting_h2_count(h2, &h2->useless,
                                    NGX_HTTP_INVERTING_H2_MAX_USELESS,
                                    "PRIORITY");
        break;
    }

    return 0;
}


/* from the first SETTINGS on it takes transactions */

static void
ngx_http_inverting_h2_settings(ngx_http_inverting_h2_t *h2)
{
    uint32_t                   n;
    ngx_http_inverting_end_t  *end;

    end = &h2->ptth->agent->end;

    n = nghttp2_session_get_remote_settings(h2->session,
                                     NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

    h2->capacity = ngx_min(n, end->zone->sh->ntxs);

    ngx_http_inverting_h2_retry(h2);
}


static void
ngx_http_inverting_h2_count(ngx_http_inverting_h2_t *h2, ngx_uint_t *counter,
    ngx_uint_t max, const char *what)
{
    if (++*counter <= max || h2->terminated) {
        return;
    }

    h2->terminated = 1;

    ngx_log_error(NGX_LOG_WARN, h2->ptth->request->connection->log, 0,
                  "the agent of backend \"%V\" sent too many %s frames",
                  &h2->ptth->agent->backend, what);

    (void) nghttp2_session_terminate_session(h2->session,
                                             NGHTTP2_ENHANCE_YOUR_CALM);
}


/* the HEADERS of a request could not be sent */

static int
ngx_http_inverting_h2_on_not_sent(nghttp2_session *session,
    const nghttp2_frame *frame, int error, void *data)
{
    ngx_http_inverting_h2_t *h2 = data;

    uint32_t                         code;
    ngx_queue_t                     *q;
    ngx_http_inverting_h2_stream_t  *st;

    if (frame->hd.type != NGHTTP2_HEADERS) {
        return 0;
    }

    code = NGHTTP2_REFUSED_STREAM;

    if (error == NGHTTP2_ERR_FRAME_SIZE_ERROR) {

        /* it is the request's fault: no other agent could be sent it */

        ngx_log_error(NGX_LOG_ERR, h2->ptth->request->connection->log, 0,
                      "a request for backend \"%V\" has too large a head for "
                      "HTTP/2", &h2->ptth->agent->backend);
        code = NGHTTP2_INTERNAL_ERROR;
    }

    for (q = ngx_queue_head(&h2->streams);
         q != ngx_queue_sentinel(&h2->streams);
         q = ngx_queue_next(q))
    {
        st = ngx_queue_data(q, ngx_http_inverting_h2_stream_t, queue);

        if (st->id == frame->hd.stream_id && !st->closed) {

            (void) nghttp2_session_set_stream_user_data(session, st->id, NULL);

            ngx_http_inverting_h2_closed(st, code);
            break;
        }
    }

    return 0;
}


static int
ngx_http_inverting_h2_on_close(nghttp2_session *session, int32_t stream_id,
    uint32_t error, void *data)
{
    ngx_http_inverting_h2_stream_t  *st;

    st = nghttp2_session_get_stream_user_data(session, stream_id);

    if (st) {
        ngx_http_inverting_h2_closed(st, error);
    }

    return 0;
}


/* a connection that is given up */

static int
ngx_http_inverting_h2_on_sent(nghttp2_session *session,
    const nghttp2_frame *frame, void *data)
{
    ngx_http_inverting_h2_t *h2 = data;

    if (frame->hd.type == NGHTTP2_GOAWAY
        && frame->goaway.error_code != NGHTTP2_NO_ERROR
        && !h2->terminated)
    {
        h2->terminated = 1;

        ngx_log_error(NGX_LOG_WARN, h2->ptth->request->connection->log, 0,
                      "the agent of backend \"%V\" broke the rules of HTTP/2: "
                      "%s, %*s", &h2->ptth->agent->backend,
                      nghttp2_http2_strerror(frame->goaway.error_code),
                      frame->goaway.opaque_data_len,
                      frame->goaway.opaque_data);
    }

    return 0;
}


/* also of a single stream; it may have what the agent sent in it */

static int
ngx_http_inverting_h2_on_error(nghttp2_session *session, int code,
    const char *msg, size_t len, void *data)
{
    ngx_http_inverting_h2_t *h2 = data;

    size_t  i;
    u_char  buf[256];

    if (++h2->errors > NGX_HTTP_INVERTING_H2_MAX_ERRORS) {
        return 0;
    }

    len = ngx_min(len, sizeof(buf));

    for (i = 0; i < len; i++) {
        buf[i] = (msg[i] >= 0x20 && msg[i] < 0x7f) ? msg[i] : '?';
    }

    ngx_log_error(NGX_LOG_WARN, h2->ptth->request->connection->log, 0,
                  "the agent of backend \"%V\" broke the rules of HTTP/2: %*s",
                  &h2->ptth->agent->backend, len, buf);

    return 0;
}
