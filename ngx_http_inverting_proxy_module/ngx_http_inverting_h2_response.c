
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_h2.h"
#include "ngx_http_inverting_head.h"
#include "../agent/reason.h"


/* of a chunk in what waits: eight digits, CR LF */
#define NGX_HTTP_INVERTING_H2_SIZE_LINE  10

/* the status line, with the fields of a 101, goes before the fields */
#define NGX_HTTP_INVERTING_H2_STATUS_ROOM  160


#define ngx_http_inverting_h2_is(name, len, s)                                \
    ((len) == sizeof(s) - 1 && ngx_memcmp(name, s, sizeof(s) - 1) == 0)


static void ngx_http_inverting_h2_status_line(
    ngx_http_inverting_h2_stream_t *st, ngx_str_t *head);
static void ngx_http_inverting_h2_trailers(
    ngx_http_inverting_h2_stream_t *st);
static ngx_int_t ngx_http_inverting_h2_append(ngx_http_inverting_h2_t *h2,
    const void *data, size_t len);
static u_char *ngx_http_inverting_h2_head_room(ngx_http_inverting_h2_t *h2,
    size_t len);
static void ngx_http_inverting_h2_merge(ngx_http_inverting_h2_stream_t *st,
    const u_char *data, size_t len);
static void ngx_http_inverting_h2_write(ngx_http_inverting_h2_stream_t *st,
    const u_char *data, size_t len);
static ngx_int_t ngx_http_inverting_h2_keep(
    ngx_http_inverting_h2_stream_t *st, const u_char *data, size_t len);
static void ngx_http_inverting_h2_finish(ngx_http_inverting_h2_stream_t *st);


int
ngx_http_inverting_h2_head_begin(ngx_http_inverting_h2_stream_t *st)
{
    ngx_int_t                 rc;
    ngx_http_inverting_h2_t  *h2;

    static u_char  last[] = CRLF "0" CRLF;
    static u_char  room[NGX_HTTP_INVERTING_H2_STATUS_ROOM];

    h2 = st->h2;

    h2->head_len = 0;
    h2->status = 0;
    h2->reason_len = 0;
    h2->chunked = 1;

    if (!st->answering) {
        rc = ngx_http_inverting_h2_append(h2, room, sizeof(room));

    } else if (st->in_chunk) {
        rc = ngx_http_inverting_h2_append(h2, last, sizeof(last) - 1);

    } else {
        rc = ngx_http_inverting_h2_append(h2, last + 2, sizeof(last) - 3);
    }

    return (rc == NGX_OK) ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}


int
ngx_http_inverting_h2_head_field(ngx_http_inverting_h2_stream_t *st,
    const uint8_t *name, size_t namelen, const uint8_t *value, size_t valuelen)
{
    u_char                   *p;
    ngx_http_inverting_h2_t  *h2;

    h2 = st->h2;

    if (h2->status == 0 && !st->answering) {

        /* of its value the library has seen that it is three digits */

        if (!ngx_http_inverting_h2_is(name, namelen, ":status")) {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }

        h2->status = ngx_atoi((u_char *) value, 3);

        /* what would follow a 101 can't be carried */

        return (h2->status == NGX_HTTP_SWITCHING_PROTOCOLS)
               ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
    }

    if (h2->status / 100 == 1) {
        return 0;
    }

    if (ngx_http_inverting_h2_is(name, namelen, "content-length")) {
        h2->chunked = 0;

    } else if (!st->answering
               && ngx_http_inverting_h2_is(name, namelen,
                                           "x-inverting-proxy-reason"))
    {
        h2->reason_len = ngx_min(valuelen, NGX_HTTP_INVERTING_H2_REASON_LEN);
        ngx_memcpy(h2->reason, value, h2->reason_len);
        return 0;
    }

    if (st->tunnel && h2->status == NGX_HTTP_OK
        && (!h2->chunked
            || ngx_http_inverting_h2_is(name, namelen,
                                        "sec-websocket-accept")))
    {
        h2->chunked = 1;
        return 0;
    }

    p = ngx_http_inverting_h2_head_room(h2, namelen + 2 + valuelen + 2);

    if (p == NULL) {
        ngx_log_error(NGX_LOG_ERR, h2->ptth->request->connection->log, 0,
                      "the agent of backend \"%V\" sent too large a head",
                      &h2->ptth->agent->backend);

        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }

    p = ngx_cpymem(p, name, namelen);
    *p++ = ':'; *p++ = ' ';
    p = ngx_cpymem(p, value, valuelen);
    *p++ = CR; *p++ = LF;

    return 0;
}


/* there is room for it before the fields, which have been written already */

static void
ngx_http_inverting_h2_status_line(ngx_http_inverting_h2_stream_t *st,
    ngx_str_t *head)
{
    u_char                   *p;
    ngx_http_inverting_h2_t  *h2;
    u_char                    buf[NGX_HTTP_INVERTING_H2_STATUS_ROOM];

    static char  upgrade[] =
        "HTTP/1.1 101 Switching Protocols" CRLF
        "Upgrade: websocket" CRLF
        "Sec-WebSocket-Accept: ";

    h2 = st->h2;

    if (st->tunnel && h2->status == NGX_HTTP_OK) {
        p = ngx_sprintf(buf, "%s%*s" CRLF, upgrade,
                        (size_t) NGX_HTTP_INVERTING_H2_ACCEPT_LEN, st->accept);

    } else if (h2->reason_len) {
        p = ngx_sprintf(buf, "HTTP/1.1 %03ui %*s" CRLF, h2->status,
                        h2->reason_len, h2->reason);

    } else {
        p = ngx_sprintf(buf, "HTTP/1.1 %03ui %s" CRLF, h2->status,
                        reason_of(h2->status));
    }

    head->data = h2->head + NGX_HTTP_INVERTING_H2_STATUS_ROOM - (p - buf);
    head->len = h2->head_len - NGX_HTTP_INVERTING_H2_STATUS_ROOM + (p - buf);

    ngx_memcpy(head->data, buf, p - buf);
}


void
ngx_http_inverting_h2_head_end(ngx_http_inverting_h2_stream_t *st,
    ngx_uint_t last)
{
    ngx_int_t                 rc;
    ngx_str_t                 head;
    ngx_http_inverting_h2_t  *h2;

    static u_char  none[] = "Content-Length: 0" CRLF;
    static u_char  chunked[] = "Transfer-Encoding: chunked" CRLF;

    h2 = st->h2;

    if (st->answering) {
        ngx_http_inverting_h2_trailers(st);
        return;
    }

    if (h2->status / 100 == 1) {
        return;
    }

    st->answering = 1;
    rc = NGX_OK;

    if (st->tunnel && h2->status == NGX_HTTP_OK) {

        /* whatever follows is the WebSocket's */

        h2->chunked = 0;

    } else if (last
               || h2->status == NGX_HTTP_NO_CONTENT
               || h2->status == NGX_HTTP_NOT_MODIFIED)
    {
        if (h2->chunked
            && h2->status != NGX_HTTP_NO_CONTENT
            && h2->status != NGX_HTTP_NOT_MODIFIED
            && !st->bodiless)
        {
            rc = ngx_http_inverting_h2_append(h2, none, sizeof(none) - 1);
        }

        h2->chunked = 0;

    } else if (h2->chunked) {
        rc = ngx_http_inverting_h2_append(h2, chunked, sizeof(chunked) - 1);
    }

    if (rc != NGX_OK || ngx_http_inverting_h2_append(h2, CRLF, 2) != NGX_OK) {
        ngx_http_inverting_h2_reset(st, NGHTTP2_INTERNAL_ERROR);
        return;
    }

    st->framed = h2->chunked;

    ngx_http_inverting_h2_status_line(st, &head);
    ngx_http_inverting_h2_write(st, head.data, head.len);

    if (last) {
        st->ended = 1;
        ngx_http_inverting_h2_finish(st);
    }
}


/* they end the response */

static void
ngx_http_inverting_h2_trailers(ngx_http_inverting_h2_stream_t *st)
{
    ngx_http_inverting_h2_t  *h2;

    h2 = st->h2;

    if (st->framed) {

        if (ngx_http_inverting_h2_append(h2, CRLF, 2) != NGX_OK) {
            ngx_http_inverting_h2_reset(st, NGHTTP2_INTERNAL_ERROR);
            return;
        }

        ngx_http_inverting_h2_write(st, h2->head, h2->head_len);
    }

    st->ended = 1;
    ngx_http_inverting_h2_finish(st);
}


/* to the head that is being received */

static ngx_int_t
ngx_http_inverting_h2_append(ngx_http_inverting_h2_t *h2, const void *data,
    size_t len)
{
    u_char  *p;

    p = ngx_http_inverting_h2_head_room(h2, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, data, len);

    return NGX_OK;
}


/* for "len" bytes more of the head, which count from now on */

static u_char *
ngx_http_inverting_h2_head_room(ngx_http_inverting_h2_t *h2, size_t len)
{
    void    *p;
    size_t   size;

    if (h2->head_size - h2->head_len < len) {

        if (h2->head_len + len > NGX_HTTP_INVERTING_H2_HEAD_MAX) {
            return NULL;
        }

        size = ngx_max(h2->head_size, 1024);

        while (size < h2->head_len + len) {
            size *= 2;
        }

        p = realloc(h2->head, size);
        if (p == NULL) {
            return NULL;
        }

        h2->head = p;
        h2->head_size = size;
    }

    h2->head_len += len;

    return h2->head + h2->head_len - len;
}


void
ngx_http_inverting_h2_data(ngx_http_inverting_h2_stream_t *st,
    const uint8_t *data, size_t len)
{
    u_char  *p;
    u_char   buf[NGX_SIZE_T_LEN + 4];

    if (!st->framed) {
        ngx_http_inverting_h2_write(st, data, len);
        return;
    }

    if (st->answerer.tx == NULL) {
        return;
    }

    if (len < NGX_HTTP_INVERTING_H2_PIECE
        && ngx_http_inverting_pipe_is_behind(&st->answerer,
                                             NGX_HTTP_INVERTING_H2_PIECE))
    {
        ngx_http_inverting_h2_merge(st, data, len);

        if (st->merged >= NGX_HTTP_INVERTING_H2_PIECE) {
            (void) ngx_http_inverting_h2_write_kept(st);
        }

        return;
    }

    if (st->pending_len && ngx_http_inverting_h2_write_kept(st) != NGX_OK) {
        ngx_http_inverting_h2_merge(st, data, len);
        return;
    }

    p = ngx_sprintf(buf, "%s%xz" CRLF, st->in_chunk ? CRLF : "", len);

    st->in_chunk = 1;

    ngx_http_inverting_h2_write(st, buf, p - buf);
    ngx_http_inverting_h2_write(st, data, len);
}


/* to the chunk at the end of what waits, or the first of another one */

static void
ngx_http_inverting_h2_merge(ngx_http_inverting_h2_stream_t *st,
    const u_char *data, size_t len)
{
    u_char  *p, buf[sizeof(CRLF) + NGX_HTTP_INVERTING_H2_SIZE_LINE];

    if (st->merged == 0) {
        p = ngx_sprintf(buf, "%s%08xz" CRLF, st->in_chunk ? CRLF : "", len);

        if (ngx_http_inverting_h2_keep(st, buf, p - buf) != NGX_OK) {
            return;
        }

        st->in_chunk = 1;
    }

    if (ngx_http_inverting_h2_keep(st, data, len) != NGX_OK) {
        return;
    }

    st->merged += len;

    p = st->pending + st->pending_pos + st->pending_len - st->merged
        - NGX_HTTP_INVERTING_H2_SIZE_LINE;

    (void) ngx_sprintf(p, "%08xz", st->merged);
}


void
ngx_http_inverting_h2_data_end(ngx_http_inverting_h2_stream_t *st)
{
    static u_char  end[] = CRLF "0" CRLF CRLF;

    if (st->framed) {
        if (st->in_chunk) {
            ngx_http_inverting_h2_write(st, end, sizeof(end) - 1);

        } else {
            ngx_http_inverting_h2_write(st, end + 2, sizeof(end) - 3);
        }
    }

    st->ended = 1;
    ngx_http_inverting_h2_finish(st);
}


/* into the pipe; what it has no room for is kept */

static void
ngx_http_inverting_h2_write(ngx_http_inverting_h2_stream_t *st,
    const u_char *data, size_t len)
{
    ssize_t  n;

    if (st->answerer.tx == NULL) {
        return;
    }

    n = 0;

    if (st->pending_len == 0) {

        /* how much of it there is in a turn was limited when it was read */

        st->answerer.moved = 0;

        n = ngx_http_inverting_pipe_send(&st->answerer, (u_char *) data, len);

        if (n == NGX_ERROR) {

            /* nobody wants it: the handler of the end will say so */

            return;
        }
    }

    if ((size_t) n < len) {
        st->merged = 0;

        (void) ngx_http_inverting_h2_keep(st, data + n, len - n);
    }
}


/* NGX_ERROR: it could not, and the stream is given up */

static ngx_int_t
ngx_http_inverting_h2_keep(ngx_http_inverting_h2_stream_t *st,
    const u_char *data, size_t len)
{
    void    *p;
    size_t   size;

    if (st->pending_pos) {
        ngx_memmove(st->pending, st->pending + st->pending_pos,
                    st->pending_len);
        st->pending_pos = 0;
    }

    if (st->pending_size - st->pending_len < len) {

        if (st->pending_len + len > NGX_HTTP_INVERTING_H2_PENDING_MAX) {
            goto failed;
        }

        size = ngx_max(st->pending_size, 2 * NGX_HTTP_INVERTING_H2_PIECE);

        while (size < st->pending_len + len) {
            size *= 2;
        }

        p = realloc(st->pending, size);
        if (p == NULL) {
            goto failed;
        }

        st->pending = p;
        st->pending_size = size;
    }

    ngx_memcpy(st->pending + st->pending_len, data, len);
    st->pending_len += len;

    return NGX_OK;

failed:

    ngx_log_error(NGX_LOG_WARN, st->h2->ptth->request->connection->log, 0,
                  "the agent of backend \"%V\" sends in too small pieces",
                  &st->h2->ptth->agent->backend);

    ngx_http_inverting_h2_reset(st, NGHTTP2_ENHANCE_YOUR_CALM);
    ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_AGENT_LOST);

    return NGX_ERROR;
}


ngx_int_t
ngx_http_inverting_h2_write_kept(ngx_http_inverting_h2_stream_t *st)
{
    ssize_t  n;

    st->answerer.moved = 0;

    n = ngx_http_inverting_pipe_send(&st->answerer,
                                     st->pending + st->pending_pos,
                                     st->pending_len);
    if (n == NGX_ERROR) {

        /* nobody wants it: the handler of the end will say so */

        n = st->pending_len;
    }

    st->pending_pos += n;
    st->pending_len -= n;

    if (st->pending_len < st->merged + NGX_HTTP_INVERTING_H2_SIZE_LINE) {

        /* it has been told how long the chunk is */

        st->merged = 0;
    }

    if (st->pending_len) {
        return NGX_AGAIN;
    }

    ngx_free(st->pending);

    st->pending = NULL;
    st->pending_pos = 0;
    st->pending_size = 0;

    return NGX_OK;
}


/* the response is whole, and so is what the client will read of it */

static void
ngx_http_inverting_h2_finish(ngx_http_inverting_h2_stream_t *st)
{
    if (st->answerer.tx == NULL) {
        return;
    }

    if (st->pending_len && ngx_http_inverting_h2_write_kept(st) != NGX_OK) {
        return;
    }

    ngx_http_inverting_pipe_finish(&st->answerer, NGX_HTTP_INVERTING_PIPE_EOF);
}


void
ngx_http_inverting_h2_response_moved(ngx_http_inverting_h2_stream_t *st)
{
    if (st->pending_len) {

        if (ngx_http_inverting_h2_write_kept(st) != NGX_OK) {
            return;
        }

        if (st->ended) {
            ngx_http_inverting_h2_finish(st);

            if (st->closed) {
                ngx_http_inverting_h2_release(st, NGX_HTTP_INVERTING_PENDING);
            }
        }
    }

    ngx_http_inverting_h2_grant(st);
}


/* the first window is given to all, the rest only against room that is held */

void
ngx_http_inverting_h2_grant(ngx_http_inverting_h2_stream_t *st)
{
    int32_t  window;
    size_t   room;

    if (!st->answering || st->ended || st->pending_len) {
        return;
    }

    window = nghttp2_session_get_stream_local_window_size(st->h2->session,
                                                          st->id);

    if (!st->granted && window > NGX_HTTP_INVERTING_H2_WINDOW / 2) {

        /* nothing is held for those that send little */

        return;
    }

    room = ngx_http_inverting_pipe_reserve(&st->answerer);

    if (st->framed) {

        /* of each 4096 bytes a chunk takes 12 more, at the most */

        room -= room / 256;
    }

    /* not for a few bytes, but for how few there may be in a full zone */

    room = ngx_min(room, NGX_HTTP_INVERTING_H2_WINDOW_MAX);

    if (window >= 0 && room >= window + ngx_max(room / 2, 1)) {
        (void) nghttp2_submit_window_update(st->h2->session, NGHTTP2_FLAG_NONE,
                                            st->id, room - window);
        ngx_http_inverting_ptth_flush(st->h2->ptth);

        st->granted = 1;
    }
}
