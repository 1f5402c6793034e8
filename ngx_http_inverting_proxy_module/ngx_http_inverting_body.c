
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_api.h"


static void ngx_http_inverting_api_body_handler(ngx_http_request_t *r);
static void ngx_http_inverting_api_read_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_inverting_api_take_body(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_api_too_large(ngx_http_request_t *r);


/* nginx's own limit may be any; this way nothing is written to a file */

ngx_int_t
ngx_http_inverting_api_read_body(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (r->headers_in.content_length_n > NGX_HTTP_INVERTING_API_BODY) {
        r->expect_tested = 1;
        return ngx_http_inverting_api_too_large(r);
    }

    ctx->size = (r->headers_in.content_length_n > 0)
                ? (size_t) r->headers_in.content_length_n
                : NGX_HTTP_INVERTING_API_BODY;

    ctx->body = ngx_pnalloc(r->pool, ctx->size + 1);
    if (ctx->body == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->request_body_no_buffering = 1;
    r->request_body_in_file_only = 0;

    rc = ngx_http_read_client_request_body(r,
                                          ngx_http_inverting_api_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static void
ngx_http_inverting_api_body_handler(ngx_http_request_t *r)
{
    if (r->reading_body) {
        r->read_event_handler = ngx_http_inverting_api_read_handler;
    }

    ngx_http_inverting_api_read_handler(r);
}


static void
ngx_http_inverting_api_read_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_http_inverting_api_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    for ( ;; ) {
        rc = ngx_http_inverting_api_take_body(r, ctx);

        if (rc == NGX_DECLINED) {
            ngx_http_finalize_request(r, ngx_http_inverting_api_too_large(r));
            return;
        }

        if (rc != NGX_OK) {
            ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
            return;
        }

        if (!r->reading_body) {
            break;
        }

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_finalize_request(r, rc);
            return;
        }

        if (rc == NGX_AGAIN && r->request_body->bufs == NULL) {
            return;
        }
    }

    r->read_event_handler = ngx_http_block_reading;

    ctx->body[ctx->len] = '\0';

    ngx_http_finalize_request(r, ctx->handler(r, ctx));
}


/* NGX_DECLINED: it is too large */

static ngx_int_t
ngx_http_inverting_api_take_body(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    off_t         size;
    ngx_buf_t    *b;
    ngx_chain_t  *cl, *ln;

    if (r->request_body == NULL) {
        return NGX_OK;
    }

    for (cl = r->request_body->bufs; cl; /* void */ ) {
        b = cl->buf;

        size = ngx_buf_special(b) ? 0 : ngx_buf_size(b);

        if (size > (off_t) (ctx->size - ctx->len)) {
            return NGX_DECLINED;
        }

        if (ngx_buf_in_memory(b)) {
            ngx_memcpy(ctx->body + ctx->len, b->pos, (size_t) size);

        } else if (size
                   && ngx_read_file(b->file, ctx->body + ctx->len,
                                    (size_t) size, b->file_pos)
                      != (ssize_t) size)
        {
            return NGX_ERROR;
        }

        ctx->len += (size_t) size;

        b->pos = b->last;
        b->file_pos = b->file_last;

        ln = cl;
        cl = cl->next;
        ngx_free_chain(r->pool, ln);
    }

    r->request_body->bufs = NULL;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_api_too_large(ngx_http_request_t *r)
{
    r->keepalive = 0;

    return ngx_http_inverting_api_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                         NULL, "the body must not have more than 65536 bytes");
}
