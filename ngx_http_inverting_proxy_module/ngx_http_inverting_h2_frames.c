
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_h2.h"


/* between two ticks: more of these can't be meant well */
#define NGX_HTTP_INVERTING_H2_MAX_SETTINGS  100
#define NGX_HTTP_INVERTING_H2_MAX_RESETS    10000
#define NGX_HTTP_INVERTING_H2_MAX_USELESS   10000

/* nor are more lines of the log needed in that time */
#define NGX_HTTP_INVERTING_H2_MAX_ERRORS    10


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


nghttp2_session_callbacks *
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

    } else if (st && st->gone) {

        /* as TCP does after a close */

        st->gone = 0;
        ngx_http_inverting_h2_reset(st, NGHTTP2_CANCEL);
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

    /* what was not sent is among the last ones */

    for (q = ngx_queue_last(&h2->streams);
         q != ngx_queue_sentinel(&h2->streams);
         q = ngx_queue_prev(q))
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
