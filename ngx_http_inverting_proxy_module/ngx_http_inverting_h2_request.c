
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <ngx_sha1.h>

#include "ngx_http_inverting_fields.h"
#include "ngx_http_inverting_h2.h"
#include "ngx_http_inverting_head.h"


/* in every so many'th request the names of all fields get into the table */
#define NGX_HTTP_INVERTING_H2_NAMES  64


/* names that are our own, in lower case, stay where they are */
#define NGX_HTTP_INVERTING_H2_OWN    NGHTTP2_NV_FLAG_NO_COPY_NAME


/* others come in any case: the library writes them in lower case */
#define ngx_http_inverting_h2_is(name, s)                                     \
    ((name)->len == sizeof(s) - 1                                             \
     && ngx_strncasecmp((name)->data, (u_char *) s, sizeof(s) - 1) == 0)


/* pieces of a head, as they are found */

typedef struct {
    ngx_str_t                        method;
    ngx_str_t                        target;
    ngx_str_t                        host;
    ngx_str_t                        key;       /* Sec-WebSocket-Key */
    ngx_str_t                        user;
} ngx_http_inverting_h2_head_t;


static ngx_int_t ngx_http_inverting_h2_parse(
    ngx_http_inverting_h2_stream_t *st, ngx_http_inverting_h2_head_t *head);
static ngx_int_t ngx_http_inverting_h2_field(
    ngx_http_inverting_h2_stream_t *st, ngx_http_inverting_h2_head_t *head,
    ngx_str_t *name, ngx_str_t *value);
static ngx_int_t ngx_http_inverting_h2_push(ngx_str_t *name, ngx_str_t *value,
    uint8_t flags);
static void ngx_http_inverting_h2_set(ngx_uint_t i, ngx_str_t *name,
    ngx_str_t *value, uint8_t flags);
static void ngx_http_inverting_h2_accept(ngx_http_inverting_h2_stream_t *st,
    ngx_str_t *key);
static ssize_t ngx_http_inverting_h2_read(nghttp2_session *session,
    int32_t stream_id, uint8_t *buf, size_t length, uint32_t *flags,
    nghttp2_data_source *source, void *data);
static ssize_t ngx_http_inverting_h2_read_chunked(
    ngx_http_inverting_h2_stream_t *st, uint8_t *buf, size_t length);


static ngx_str_t  ngx_http_inverting_h2_method = ngx_string(":method");
static ngx_str_t  ngx_http_inverting_h2_scheme = ngx_string(":scheme");
static ngx_str_t  ngx_http_inverting_h2_authority = ngx_string(":authority");
static ngx_str_t  ngx_http_inverting_h2_path = ngx_string(":path");
static ngx_str_t  ngx_http_inverting_h2_protocol = ngx_string(":protocol");

static ngx_str_t  ngx_http_inverting_h2_connect = ngx_string("CONNECT");
static ngx_str_t  ngx_http_inverting_h2_http = ngx_string("http");
static ngx_str_t  ngx_http_inverting_h2_websocket = ngx_string("websocket");

static ngx_str_t  ngx_http_inverting_h2_user =
    ngx_string("x-inverting-proxy-user-id");
static ngx_str_t  ngx_http_inverting_h2_id =
    ngx_string("x-inverting-proxy-request-id");
static ngx_str_t  ngx_http_inverting_h2_start_time =
    ngx_string("x-inverting-proxy-request-start-time");


/* the library copies the array: one place for all requests will do */

static nghttp2_nv  *ngx_http_inverting_h2_nv;
static size_t       ngx_http_inverting_h2_nv_size;
static size_t       ngx_http_inverting_h2_nv_n;

static u_char       ngx_http_inverting_h2_coded[16384];


ngx_int_t
ngx_http_inverting_h2_request(ngx_http_inverting_h2_stream_t *st)
{
    u_char                        *text;
    uint8_t                        flags;
    ngx_str_t                      id, start;
    nghttp2_data_provider          provider;
    ngx_http_inverting_tx_t       *t;
    ngx_http_inverting_h2_head_t   head;
    u_char                         buf[NGX_HTTP_INVERTING_START_LEN];

    t = st->answerer.tx;

    st->tunnel = (t->upgrade
                  && nghttp2_session_get_remote_settings(st->h2->session,
                                     NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL)
                     == 1);
    st->sent = !(t->body || st->tunnel);

    ngx_memzero(&head, sizeof(ngx_http_inverting_h2_head_t));

    text = ngx_http_inverting_head_room(t->user_len + t->head_len);
    if (text == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_head_copy(&st->answerer, text);

    head.user.data = text;
    head.user.len = t->user_len;

    id.data = t->id;
    id.len = NGX_HTTP_INVERTING_ID_LEN;

    start.data = buf;
    ngx_http_inverting_agent_start(t, &start);

    /* the pseudo-fields come first, and are known last */

    ngx_http_inverting_h2_nv_n = 4 + st->tunnel;

    /*
     * The table of HPACK is not for what is never the same; but their names,
     * which are long, have to get there.
     */

    flags = NGX_HTTP_INVERTING_H2_OWN;

    if (st->h2->requests++ % NGX_HTTP_INVERTING_H2_NAMES) {
        flags |= NGHTTP2_NV_FLAG_NO_INDEX;
    }

    if (ngx_http_inverting_h2_parse(st, &head) != NGX_OK
        || (head.user.len
            && ngx_http_inverting_h2_push(&ngx_http_inverting_h2_user,
                                          &head.user,
                                          NGX_HTTP_INVERTING_H2_OWN)
               != NGX_OK)
        || ngx_http_inverting_h2_push(&ngx_http_inverting_h2_id, &id, flags)
           != NGX_OK
        || ngx_http_inverting_h2_push(&ngx_http_inverting_h2_start_time,
                                      &start, flags)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    st->bodiless = (head.method.len == 4
                    && ngx_memcmp(head.method.data, "HEAD", 4) == 0);

    if (head.host.len == 0) {

        /* HTTP/1.0: there has to be one */

        ngx_str_set(&head.host, "localhost");
    }

    ngx_http_inverting_h2_set(0, &ngx_http_inverting_h2_method,
                              st->tunnel ? &ngx_http_inverting_h2_connect
                                         : &head.method,
                              NGX_HTTP_INVERTING_H2_OWN);
    ngx_http_inverting_h2_set(1, &ngx_http_inverting_h2_scheme,
                              &ngx_http_inverting_h2_http,
                              NGX_HTTP_INVERTING_H2_OWN);
    ngx_http_inverting_h2_set(2, &ngx_http_inverting_h2_authority,
                              &head.host, NGX_HTTP_INVERTING_H2_OWN);
    ngx_http_inverting_h2_set(3, &ngx_http_inverting_h2_path, &head.target,
                              NGX_HTTP_INVERTING_H2_OWN);

    if (st->tunnel) {
        ngx_http_inverting_h2_set(4, &ngx_http_inverting_h2_protocol,
                                  &ngx_http_inverting_h2_websocket,
                                  NGX_HTTP_INVERTING_H2_OWN);
        ngx_http_inverting_h2_accept(st, &head.key);
    }

    provider.source.ptr = st;
    provider.read_callback = ngx_http_inverting_h2_read;

    st->id = nghttp2_submit_request(st->h2->session, NULL,
                                    ngx_http_inverting_h2_nv,
                                    ngx_http_inverting_h2_nv_n,
                                    st->sent ? NULL : &provider, st);

    return (st->id > 0) ? NGX_OK : NGX_ERROR;
}


/* the text is our own: ngx_http_inverting_request_head() wrote it */

static ngx_int_t
ngx_http_inverting_h2_parse(ngx_http_inverting_h2_stream_t *st,
    ngx_http_inverting_h2_head_t *head)
{
    u_char                   *p, *last, *end, *colon;
    ngx_str_t                 name, value;
    ngx_http_inverting_tx_t  *t;

    t = st->answerer.tx;

    p = head->user.data + t->user_len;
    last = p + t->head_len;

    /* GET /target HTTP/1.1 */

    head->method.data = p;
    p = ngx_strlchr(p, last, ' ');

    if (p == NULL) {
        return NGX_ERROR;
    }

    head->method.len = p - head->method.data;

    head->target.data = ++p;
    p = ngx_strlchr(p, last, ' ');

    if (p == NULL) {
        return NGX_ERROR;
    }

    head->target.len = p - head->target.data;

    p += sizeof(" HTTP/1.1" CRLF) - 1;

    while (last - p > 2) {

        end = memchr(p, LF, last - p);

        if (end == NULL) {
            return NGX_ERROR;
        }

        colon = ngx_strlchr(p, end, ':');

        if (colon == NULL) {
            return NGX_ERROR;
        }

        name.data = p;
        name.len = colon - p;

        value.data = colon + 2;
        value.len = end - 1 - value.data;

        /* nginx leaves tabulators around it, HTTP/2 has no place for any */

        ngx_http_inverting_trim(&value);

        p = end + 1;

        if (ngx_http_inverting_h2_field(st, head, &name, &value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_h2_field(ngx_http_inverting_h2_stream_t *st,
    ngx_http_inverting_h2_head_t *head, ngx_str_t *name, ngx_str_t *value)
{
    if (ngx_http_inverting_h2_is(name, "host")) {
        head->host = *value;
        return NGX_OK;
    }

    if (ngx_http_inverting_h2_is(name, "transfer-encoding")) {
        st->left = -1;
        ngx_http_inverting_chunked_init(&st->chunked, 0);
        return NGX_OK;
    }

    if (ngx_http_inverting_h2_is(name, "content-length")) {
        st->left = ngx_atoof(value->data, value->len);

        if (st->tunnel) {
            return NGX_OK;
        }

    } else if (st->tunnel
               && ngx_http_inverting_h2_is(name, "sec-websocket-key"))
    {
        head->key = *value;
        return NGX_OK;

    } else if (ngx_http_inverting_is_hop_by_hop(name)
               && !ngx_http_inverting_h2_is(name, "te"))
    {
        /* inverting_proxy_set_header: has no meaning here */

        return NGX_OK;
    }

    return ngx_http_inverting_h2_push(name, value, NGHTTP2_NV_FLAG_NONE);
}


static ngx_int_t
ngx_http_inverting_h2_push(ngx_str_t *name, ngx_str_t *value, uint8_t flags)
{
    void    *p;
    size_t   n;

    if (ngx_http_inverting_h2_nv_n >= ngx_http_inverting_h2_nv_size) {

        n = ngx_max(2 * ngx_http_inverting_h2_nv_size, 64);

        p = realloc(ngx_http_inverting_h2_nv, n * sizeof(nghttp2_nv));
        if (p == NULL) {
            return NGX_ERROR;
        }

        ngx_http_inverting_h2_nv = p;
        ngx_http_inverting_h2_nv_size = n;
    }

    ngx_http_inverting_h2_set(ngx_http_inverting_h2_nv_n++, name, value,
                              flags);
    return NGX_OK;
}


static void
ngx_http_inverting_h2_set(ngx_uint_t i, ngx_str_t *name, ngx_str_t *value,
    uint8_t flags)
{
    nghttp2_nv  *nv;

    nv = &ngx_http_inverting_h2_nv[i];

    nv->name = name->data;
    nv->namelen = name->len;
    nv->value = value->data;
    nv->valuelen = value->len;
    nv->flags = flags;
}


/* RFC 6455, 4.2.2 */

static void
ngx_http_inverting_h2_accept(ngx_http_inverting_h2_stream_t *st,
    ngx_str_t *key)
{
    ngx_str_t   digest, accept;
    ngx_sha1_t  sha1;
    u_char      buf[20];

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, key->data, key->len);
    ngx_sha1_update(&sha1, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    ngx_sha1_final(buf, &sha1);

    digest.data = buf;
    digest.len = sizeof(buf);

    accept.data = st->accept;
    ngx_encode_base64(&accept, &digest);
}


static ssize_t
ngx_http_inverting_h2_read(nghttp2_session *session, int32_t stream_id,
    uint8_t *buf, size_t length, uint32_t *flags, nghttp2_data_source *source,
    void *data)
{
    ssize_t                          n;
    ngx_http_inverting_h2_stream_t  *st;

    st = source->ptr;

    if (st->taker.tx == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }

    if (!st->tunnel && st->left < 0) {
        n = ngx_http_inverting_h2_read_chunked(st, buf, length);

    } else {
        n = ngx_http_inverting_pipe_recv(&st->taker, buf, length);

        if (n > 0 && !st->tunnel) {

            /* the end of the stream goes with the last byte */

            st->left -= n;
            st->sent = (st->left <= 0);
        }
    }

    if (n == NGX_AGAIN) {
        st->deferred = 1;
        return NGHTTP2_ERR_DEFERRED;
    }

    if (n == NGX_ERROR && !st->tunnel) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }

    if (n <= 0) {
        n = 0;
        st->sent = 1;
    }

    if (st->sent) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;

        if (st->gone) {
            ngx_http_inverting_h2_gone(st);

        } else {
            ngx_http_inverting_close(&st->taker, NGX_HTTP_INVERTING_PENDING);
        }
    }

    return n;
}


/* more than 0: bytes of the body; else as ngx_http_inverting_pipe_recv() */

static ssize_t
ngx_http_inverting_h2_read_chunked(ngx_http_inverting_h2_stream_t *st,
    uint8_t *buf, size_t length)
{
    u_char     *p, *last, *dst;
    ssize_t     n;
    ngx_int_t   rc;
    ngx_str_t   piece;

    dst = buf;

    /* nothing gets longer by being decoded */

    do {
        n = ngx_http_inverting_pipe_recv(&st->taker,
                           ngx_http_inverting_h2_coded,
                           ngx_min(length,
                                   sizeof(ngx_http_inverting_h2_coded)));
        if (n <= 0) {
            return (n == 0) ? NGX_ERROR : n;
        }

        p = ngx_http_inverting_h2_coded;
        last = p + n;

        for ( ;; ) {
            rc = ngx_http_inverting_chunked_parse(&st->chunked, NULL, &p, last,
                                                  &piece);
            if (rc != NGX_OK) {
                break;
            }

            dst = ngx_cpymem(dst, piece.data, piece.len);
        }

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        st->sent = (rc == NGX_DONE);

    } while (dst == buf && !st->sent);

    return dst - buf;
}


void
ngx_http_inverting_h2_request_moved(ngx_http_inverting_h2_stream_t *st)
{
    if (st->deferred) {
        st->deferred = 0;
        (void) nghttp2_session_resume_data(st->h2->session, st->id);
    }
}
