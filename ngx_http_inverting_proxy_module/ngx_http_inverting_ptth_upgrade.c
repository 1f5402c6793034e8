
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_fields.h"
#include "ngx_http_inverting_ptth.h"


static ngx_int_t ngx_http_inverting_ptth_answer_426(ngx_http_request_t *r,
    const char *text);
static ngx_uint_t ngx_http_inverting_ptth_has_token(ngx_http_request_t *r,
    const char *name, const char *token);
static ngx_http_inverting_ptth_proto_t *ngx_http_inverting_ptth_alpn(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_inverting_ptth_accept(ngx_http_request_t *r,
    ngx_http_inverting_ptth_t *ptth);


static ngx_str_t  ngx_http_inverting_ptth_upgrade = ngx_string("Upgrade");
static ngx_str_t  ngx_http_inverting_ptth_name = ngx_string("ptth");
static ngx_str_t  ngx_http_inverting_ptth_alpn_name = ngx_string("ALPN");
static ngx_str_t  ngx_http_inverting_ptth_worker =
    ngx_string("X-Inverting-Proxy-Worker");


/* in the order of preference */

static ngx_http_inverting_ptth_proto_t  *ngx_http_inverting_ptth_protos[] = {
    &ngx_http_inverting_h2,
    &ngx_http_inverting_h1,
    NULL
};


ngx_int_t
ngx_http_inverting_ptth_handler(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_int_t                         rc;
    ngx_http_inverting_ptth_t        *ptth;
    ngx_http_inverting_backend_t     *backend;
    ngx_http_inverting_ptth_proto_t  *proto;

    if (r->stream || r->http_version != NGX_HTTP_VERSION_11) {
        return ngx_http_inverting_ptth_answer_426(r,
                                           "ptth takes an HTTP/1.1 request\n");
    }

    if (r->headers_in.content_length_n > 0 || r->headers_in.chunked) {
        return ngx_http_inverting_agent_answer(r, NGX_HTTP_BAD_REQUEST,
                                               "a body is not expected\n");
    }

    ptth = ngx_http_inverting_ptth_create(r, ctx);
    if (ptth == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&ctx->vars.transport, "ptth");

    proto = ngx_http_inverting_ptth_alpn(r);

    rc = NGX_DECLINED;

    ngx_http_inverting_lock(ctx->zone);

    backend = ngx_http_inverting_agent_backend_locked(ctx);

    if (backend && proto && !ngx_exiting) {
        rc = ngx_http_inverting_connect_locked(ctx->zone, backend, ctx->key,
                                               &ctx->end);
        backend->last_seen = ngx_time();
        ngx_http_inverting_registry_present_locked(ctx->zone, backend);
    }

    ngx_http_inverting_unlock(ctx->zone);

    if (backend == NULL) {
        return ngx_http_inverting_agent_unauthorized(r, ctx);
    }

    if (ngx_exiting) {

        /* without "Retry-After": the new workers take it at once */

        return ngx_http_inverting_agent_answer(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                               "try again\n");
    }

    if (proto == NULL) {
        return ngx_http_inverting_ptth_answer_426(r,
                "\"Upgrade: ptth\", \"Connection: upgrade\" and \"ALPN\" with "
                "h2 or http%2F1.1 are expected\n");
    }

    if (rc == NGX_BUSY) {
        return ngx_http_inverting_agent_unavailable(r,
                                              "too many agents are waiting\n");
    }

    if (proto->init(ptth) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ptth->proto = proto;

    return ngx_http_inverting_ptth_accept(r, ptth);
}


static ngx_int_t
ngx_http_inverting_ptth_answer_426(ngx_http_request_t *r, const char *text)
{
    /* nginx has no text for it */
    ngx_str_set(&r->headers_out.status_line, "426 Upgrade Required");

    if (ngx_http_inverting_add_field(&r->headers_out.headers,
                                     &ngx_http_inverting_ptth_upgrade,
                                     &ngx_http_inverting_ptth_name)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_agent_answer(r, 426, text);
}


/* whether one of the fields of this name has the token in its list */

static ngx_uint_t
ngx_http_inverting_ptth_has_token(ngx_http_request_t *r, const char *name,
    const char *token)
{
    ngx_str_t         value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    value.len = ngx_strlen(token);
    value.data = (u_char *) token;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return 0;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == ngx_strlen(name)
            && ngx_memcmp(h[i].lowcase_key, name, h[i].key.len) == 0
            && ngx_http_inverting_has_token(&h[i].value, &value))
        {
            return 1;
        }
    }
}


/* NULL: no protocol that both know was asked for */

static ngx_http_inverting_ptth_proto_t *
ngx_http_inverting_ptth_alpn(ngx_http_request_t *r)
{
    ngx_http_inverting_ptth_proto_t  **proto;

    if (!ngx_http_inverting_ptth_has_token(r, "connection", "upgrade")
        || !ngx_http_inverting_ptth_has_token(r, "upgrade", "ptth"))
    {
        return NULL;
    }

    for (proto = ngx_http_inverting_ptth_protos; *proto; proto++) {

        if (ngx_http_inverting_ptth_has_token(r, "alpn",
                                              (char *) (*proto)->alpn.data))
        {
            return *proto;
        }
    }

    return NULL;
}


/* the 101; then the directions are turned around */

static ngx_int_t
ngx_http_inverting_ptth_accept(ngx_http_request_t *r,
    ngx_http_inverting_ptth_t *ptth)
{
    ngx_int_t          rc;
    ngx_str_t          worker;
    ngx_list_t        *fields;
    ngx_connection_t  *c;
    ngx_core_conf_t   *ccf;

    c = r->connection;

    ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                           ngx_core_module);

    worker.data = ngx_pnalloc(r->pool, 2 * NGX_INT_T_LEN + 1);
    if (worker.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    worker.len = ngx_sprintf(worker.data, "%ui/%i", ngx_worker,
                             ngx_process == NGX_PROCESS_SINGLE
                             ? 1 : ccf->worker_processes)
                 - worker.data;

    r->keepalive = 0;
    r->headers_out.status = NGX_HTTP_SWITCHING_PROTOCOLS;
    ngx_str_set(&r->headers_out.status_line, "101 Switching Protocols");

    fields = &r->headers_out.headers;

    if (ngx_http_inverting_add_field(fields, &ngx_http_inverting_ptth_upgrade,
                                     &ngx_http_inverting_ptth_name)
        == NULL
        || ngx_http_inverting_add_field(fields,
                                        &ngx_http_inverting_ptth_alpn_name,
                                        &ptth->proto->alpn)
           == NULL
        || ngx_http_inverting_add_field(fields,
                                        &ngx_http_inverting_ptth_worker,
                                        &worker)
           == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK
        || ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR
        || c->buffered
        || ngx_tcp_nodelay(c) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_inverting_ptth_start(ptth);

    return NGX_DONE;
}
