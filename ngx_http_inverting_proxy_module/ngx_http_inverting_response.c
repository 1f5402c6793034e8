
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_client.h"
#include "ngx_http_inverting_fields.h"


static ngx_int_t ngx_http_inverting_process_header(ngx_http_request_t *r);
static ngx_int_t ngx_http_inverting_response_field(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_response_steers(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx, ngx_table_elt_t *field);
static ngx_int_t ngx_http_inverting_response_fields(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_response_accept(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_input_filter_chunked(
    ngx_http_request_t *r, ngx_http_inverting_client_ctx_t *ctx,
    u_char *pos, u_char *last);
static ngx_int_t ngx_http_inverting_response_trailers(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_response_buf(ngx_http_request_t *r,
    ngx_chain_t ***last, u_char *start, u_char *end);
static ngx_int_t ngx_http_inverting_response_bad(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx, char *what, ngx_str_t *value);


#define ngx_http_inverting_is(s, name)                                        \
    ((s)->key.len == sizeof(name) - 1                                         \
     && ngx_memcmp((s)->lowcase_key, name, sizeof(name) - 1) == 0)


ngx_int_t
ngx_http_inverting_process_status_line(ngx_http_request_t *r)
{
    size_t                            len;
    ngx_int_t                         rc;
    ngx_str_t                         line;
    ngx_http_upstream_t              *u;
    ngx_http_inverting_client_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);
    u = r->upstream;

    rc = ngx_http_parse_status_line(r, &u->buffer, &ctx->status);

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc == NGX_ERROR) {
        return ngx_http_inverting_response_bad(r, ctx, "no HTTP response",
                                               NULL);
    }

    len = ctx->status.end - ctx->status.start;

    line.data = ctx->status.start;
    line.len = len;

    if (!ngx_http_inverting_is_value(&line)) {
        return ngx_http_inverting_response_bad(r, ctx,
                                  "a control character in the status line",
                                  NULL);
    }

    /* only PTTH carries what would follow */

    u->upgrade = (ctx->status.code == NGX_HTTP_SWITCHING_PROTOCOLS
                  && ctx->upgrade
                  && ctx->end.tx->transport == NGX_HTTP_INVERTING_PTTH);

    if (ctx->status.code < 200 && !u->upgrade) {
        return ngx_http_inverting_response_bad(r, ctx,
                                  "a status that nobody asked for:", &line);
    }

    u->headers_in.status_n = ctx->status.code;

    if (u->state) {
        u->state->status = ctx->status.code;
    }

    u->headers_in.status_line.len = len;
    u->headers_in.status_line.data = ngx_pnalloc(r->pool, len);
    if (u->headers_in.status_line.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(u->headers_in.status_line.data, ctx->status.start, len);

    ctx->length = -1;
    u->process_header = ngx_http_inverting_process_header;

    return ngx_http_inverting_process_header(r);
}


static ngx_int_t
ngx_http_inverting_process_header(ngx_http_request_t *r)
{
    ngx_int_t                         rc;
    ngx_http_inverting_client_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    for ( ;; ) {

        rc = ngx_http_parse_header_line(r, &r->upstream->buffer, 1);

        if (rc == NGX_OK) {

            rc = ngx_http_inverting_response_field(r, ctx);

            if (rc != NGX_OK) {
                return rc;
            }

            continue;
        }

        if (rc == NGX_HTTP_PARSE_HEADER_DONE) {

            rc = ngx_http_inverting_response_fields(r, ctx);

            if (rc != NGX_OK) {
                return rc;
            }

            return ngx_http_inverting_response_accept(r, ctx);
        }

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        return ngx_http_inverting_response_bad(r, ctx, "an invalid header",
                                               NULL);
    }
}


/* one line of the head, as nginx parsed it */

static ngx_int_t
ngx_http_inverting_response_field(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx)
{
    u_char           *last;
    ngx_int_t         rc;
    ngx_str_t         name;
    ngx_table_elt_t   field, *h;

    field.hash = r->header_hash;
#if (nginx_version >= 1023000)
    field.next = NULL;
#endif

    field.key.len = r->header_name_end - r->header_name_start;
    field.value.len = r->header_end - r->header_start;

    name.len = field.key.len;
    name.data = r->header_name_start;

    /* nginx takes a line without a colon, and any number of CRs at its end */

    last = r->upstream->buffer.pos;

    if (!ngx_http_inverting_is_token(&name)
        || *r->header_name_end != ':'
        || (last[-2] == CR && last[-3] == CR))
    {
        return ngx_http_inverting_response_bad(r, ctx, "an invalid field:",
                                               &name);
    }

    field.key.data = ngx_pnalloc(r->pool, 2 * field.key.len
                                          + field.value.len + 2);
    if (field.key.data == NULL) {
        return NGX_ERROR;
    }

    field.value.data = field.key.data + field.key.len + 1;
    field.lowcase_key = field.value.data + field.value.len + 1;

    ngx_memcpy(field.key.data, r->header_name_start, field.key.len);
    field.key.data[field.key.len] = '\0';
    ngx_memcpy(field.value.data, r->header_start, field.value.len);
    field.value.data[field.value.len] = '\0';

    if (field.key.len == r->lowcase_index) {
        ngx_memcpy(field.lowcase_key, r->lowcase_header, field.key.len);

    } else {

        /* a long one, or one of which nginx has not hashed all: "X.A" */

        field.hash = ngx_hash_strlow(field.lowcase_key, field.key.data,
                                     field.key.len);
    }

    if (!ngx_http_inverting_is_value(&field.value)) {
        return ngx_http_inverting_response_bad(r, ctx,
                                             "a control character in field",
                                             &field.key);
    }

    rc = ngx_http_inverting_response_steers(r, ctx, &field);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    h = ngx_list_push(&r->upstream->headers_in.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = field;

    return NGX_OK;
}


/*
 * What is about the connection, the framing, or nginx is never copied, and
 * what is not about the framing is not looked at either: backends are
 * strangers.  NGX_DECLINED: it is for the client.
 */

static ngx_int_t
ngx_http_inverting_response_steers(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx, ngx_table_elt_t *field)
{
    off_t                 n;
    ngx_int_t             rc;
    ngx_str_t             name;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (ngx_http_inverting_is(field, "content-length")) {

        n = ngx_atoof(field->value.data, field->value.len);

        if (n == NGX_ERROR || (ctx->length >= 0 && n != ctx->length)) {
            return ngx_http_inverting_response_bad(r, ctx, "Content-Length:",
                                                   &field->value);
        }

        ctx->length = n;

        return NGX_OK;
    }

    if (ngx_http_inverting_is(field, "transfer-encoding")) {

        if (u->headers_in.chunked
            || field->value.len != 7
            || ngx_strncasecmp(field->value.data, (u_char *) "chunked", 7)
               != 0)
        {
            return ngx_http_inverting_response_bad(r, ctx,
                                                   "Transfer-Encoding:",
                                                   &field->value);
        }

        u->headers_in.chunked = 1;

        return NGX_OK;
    }

    if (ngx_http_inverting_is(field, "connection")) {

        if (ctx->named.elts == NULL
            && ngx_array_init(&ctx->named, r->pool, 1, sizeof(ngx_str_t))
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        rc = ngx_http_inverting_add_options(&ctx->named, &field->value);

        if (rc == NGX_DECLINED) {
            return ngx_http_inverting_response_bad(r, ctx,
                                           "too many options in Connection",
                                           NULL);
        }

        return rc;
    }

    if (u->upgrade && ngx_http_inverting_is(field, "upgrade")) {
        return NGX_DECLINED;
    }

    name.len = field->key.len;
    name.data = field->lowcase_key;

    if (ngx_http_inverting_is_hop_by_hop(&name)
        || (name.len >= sizeof("x-accel-") - 1
            && ngx_memcmp(name.data, "x-accel-", sizeof("x-accel-") - 1)
               == 0))
    {
        return NGX_OK;
    }

    return NGX_DECLINED;
}


/* all of the head is there */

static ngx_int_t
ngx_http_inverting_response_fields(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx)
{
    ngx_int_t                       rc;
    ngx_str_t                       name;
    ngx_uint_t                      i;
    ngx_list_part_t                *part;
    ngx_table_elt_t                *h;
    ngx_http_upstream_t            *u;
    ngx_http_upstream_header_t     *hh;
    ngx_http_upstream_main_conf_t  *umcf;

    u = r->upstream;
    umcf = ngx_http_get_module_main_conf(r, ngx_http_upstream_module);

    if (u->headers_in.chunked && ctx->length >= 0) {
        return ngx_http_inverting_response_bad(r, ctx,
                              "both Content-Length and Transfer-Encoding",
                              NULL);
    }

    if (u->headers_in.status_n != NGX_HTTP_NO_CONTENT && !u->upgrade) {
        u->headers_in.content_length_n = ctx->length;
    }

    part = &u->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        name.len = h[i].key.len;
        name.data = h[i].lowcase_key;

        if (!u->upgrade && ngx_http_inverting_is_option(&ctx->named, &name)) {

            /* nobody finds it, and nobody sends it */

            h[i].hash = 0;
            h[i].key.len = 0;
            continue;
        }

        hh = ngx_hash_find(&umcf->headers_in_hash, h[i].hash, name.data,
                           name.len);

        if (hh) {
            rc = hh->handler(r, &h[i], hh->offset);

            if (rc != NGX_OK) {
                return rc;
            }
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_response_accept(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx)
{
    ngx_buf_t                 *b;
    ngx_table_elt_t           *h;
    ngx_http_upstream_t       *u;
    ngx_http_core_loc_conf_t  *clcf;

    u = r->upstream;

    if (u->headers_in.server == NULL
        && !(u->conf->intercept_errors
             && u->headers_in.status_n >= NGX_HTTP_SPECIAL_RESPONSE))
    {
        /* nginx would say that it is the server; hash 0 is not sent */

        h = ngx_pcalloc(r->pool, sizeof(ngx_table_elt_t));
        if (h == NULL) {
            return NGX_ERROR;
        }

        r->headers_out.server = h;
    }

    if (u->headers_in.chunked) {
        r->expect_trailers = 1;
        ngx_http_inverting_chunked_init(&ctx->chunked, u->conf->buffer_size);
    }

    if (r->method == NGX_HTTP_HEAD
        || u->headers_in.status_n == NGX_HTTP_NO_CONTENT
        || u->headers_in.status_n == NGX_HTTP_NOT_MODIFIED
        || u->headers_in.content_length_n == 0)
    {
        ctx->complete = 1;
    }

    if (r == r->main && !u->upgrade) {
        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

        ctx->limit_rate = r->limit_rate_set
                          ? r->limit_rate
                          : ngx_http_complex_value_size(r, clcf->limit_rate,
                                                        0);

        ctx->limit_rate_after = r->limit_rate_after_set
                                ? r->limit_rate_after
                                : ngx_http_complex_value_size(r,
                                                  clcf->limit_rate_after, 0);
        ctx->limit_start = ngx_time();
    }

    if (u->upgrade && u->buffer.pos == u->buffer.last) {

        /* one buffer for both ways: WebSockets are idle most of the time */

        b = &u->buffer;

        u->from_client.start = b->start;
        u->from_client.pos = b->start;
        u->from_client.last = b->start;
        u->from_client.end = b->start + (b->end - b->start) / 8;
        u->from_client.temporary = 1;
        u->from_client.tag = u->output.tag;

        b->start = u->from_client.end;
        b->pos = b->start;
        b->last = b->start;
    }

    if (u->upgrade) {
        ngx_http_inverting_drop_head(&ctx->end);
    }

    ctx->accepted = 1;
    ngx_http_inverting_accept(&ctx->end);

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_input_filter_init(void *data)
{
    ngx_http_request_t *r = data;

    ngx_http_upstream_t              *u;
    ngx_http_inverting_client_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);
    u = r->upstream;

    if (ctx->complete) {
        u->length = 0;

    } else if (u->headers_in.chunked) {

        /* until the last chunk */
        u->length = 1;

    } else {

        /* -1: until the end */
        u->length = u->headers_in.content_length_n;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_input_filter(void *data, ssize_t bytes)
{
    ngx_http_request_t *r = data;

    u_char                           *pos;
    ngx_buf_t                        *b;
    ngx_chain_t                      *cl, **last;
    ngx_http_upstream_t              *u;
    ngx_http_inverting_client_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);
    u = r->upstream;
    b = &u->buffer;

    pos = b->last;
    b->last += bytes;

    if (u->length == 0) {
        return NGX_OK;
    }

    if (u->headers_in.chunked) {
        return ngx_http_inverting_input_filter_chunked(r, ctx, pos, b->last);
    }

    if (u->length > 0 && bytes > u->length) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "backend \"%V\" sent more than its Content-Length",
                      &ctx->vars.backend);
        bytes = u->length;
    }

    for (cl = u->out_bufs, last = &u->out_bufs; cl; cl = cl->next) {
        last = &cl->next;
    }

    if (ngx_http_inverting_response_buf(r, &last, pos, pos + bytes)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (u->length > 0) {
        u->length -= bytes;

        if (u->length == 0) {
            ctx->complete = 1;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_input_filter_chunked(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx, u_char *pos, u_char *last)
{
    ngx_int_t             rc;
    ngx_str_t             piece;
    ngx_chain_t          *cl, **last_out;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    for (cl = u->out_bufs, last_out = &u->out_bufs; cl; cl = cl->next) {
        last_out = &cl->next;
    }

    for ( ;; ) {

        rc = ngx_http_inverting_chunked_parse(&ctx->chunked, r->pool, &pos,
                                              last, &piece);

        if (rc == NGX_OK) {

            if (ngx_http_inverting_response_buf(r, &last_out, piece.data,
                                                piece.data + piece.len)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            continue;
        }

        if (rc == NGX_AGAIN) {
            return NGX_OK;
        }

        if (rc == NGX_DONE
            && ngx_http_inverting_response_trailers(r, ctx) == NGX_OK)
        {
            u->length = 0;
            ctx->complete = 1;
            return NGX_OK;
        }

        (void) ngx_http_inverting_response_bad(r, ctx,
                                               "an invalid chunked body",
                                               NULL);
        return NGX_ERROR;
    }
}


static ngx_int_t
ngx_http_inverting_response_trailers(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx)
{
    size_t     offset;
    ngx_int_t  rc;
    ngx_str_t  name, value;

    offset = 0;

    for ( ;; ) {

        rc = ngx_http_inverting_chunked_trailer(&ctx->chunked, &offset,
                                                &name, &value);
        if (rc != NGX_OK) {
            return (rc == NGX_DONE) ? NGX_OK : NGX_ERROR;
        }

        /* what would change the framing or the routing has no place here */

        if (ngx_http_inverting_is_hop_by_hop(&name)
            || (name.len == 14
                && ngx_strncasecmp(name.data, (u_char *) "content-length", 14)
                   == 0)
            || (name.len == 4
                && ngx_strncasecmp(name.data, (u_char *) "host", 4) == 0)
            || (name.len >= 8
                && ngx_strncasecmp(name.data, (u_char *) "x-accel-", 8) == 0))
        {
            continue;
        }

        if (ngx_http_inverting_add_field(&r->headers_out.trailers, &name,
                                         &value)
            == NULL)
        {
            return NGX_ERROR;
        }
    }
}


static ngx_int_t
ngx_http_inverting_response_buf(ngx_http_request_t *r, ngx_chain_t ***last,
    u_char *start, u_char *end)
{
    ngx_buf_t            *b;
    ngx_chain_t          *cl;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    cl = ngx_chain_get_free_buf(r->pool, &u->free_bufs);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    b = cl->buf;

    b->flush = 1;
    b->memory = 1;
    b->start = start;
    b->pos = start;
    b->last = end;
    b->tag = u->output.tag;

    **last = cl;
    *last = &cl->next;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_response_bad(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx, char *what, ngx_str_t *value)
{
    static ngx_str_t  none = ngx_null_string;

    ctx->bad = 1;

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "the agent of backend \"%V\" sent %s \"%V\"",
                  &ctx->vars.backend, what, value ? value : &none);

    return NGX_HTTP_UPSTREAM_INVALID_HEADER;
}
