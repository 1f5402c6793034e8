
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_client.h"
#include "ngx_http_inverting_fields.h"


static ngx_int_t ngx_http_inverting_client_keep(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx);
static void ngx_http_inverting_client_kept(void *data);
static ngx_int_t ngx_http_inverting_client_open(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx, ngx_str_t *head);
static ngx_int_t ngx_http_inverting_client_user(ngx_http_request_t *r,
    ngx_str_t *user);
static ngx_uint_t ngx_http_inverting_client_is_user(ngx_str_t *user);
static ngx_int_t ngx_http_inverting_client_refuse(ngx_http_request_t *r,
    ngx_str_t *backend, ngx_int_t why, uint32_t *logged);
static ngx_int_t ngx_http_inverting_client_unknown(ngx_http_request_t *r,
    ngx_str_t *user, ngx_str_t *named);
static ngx_int_t ngx_http_inverting_client_upstream(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_client_create(ngx_http_request_t *r);
static ngx_int_t ngx_http_inverting_client_reinit(ngx_http_request_t *r);
static void ngx_http_inverting_client_abort(ngx_http_request_t *r);
static void ngx_http_inverting_client_finalize(ngx_http_request_t *r,
    ngx_int_t rc);
static void ngx_http_inverting_client_cleanup(void *data);


ngx_int_t
ngx_http_inverting_client_handler(ngx_http_request_t *r)
{
    ngx_int_t                             rc;
    ngx_str_t                             head;
    ngx_http_cleanup_t                   *cln;
    ngx_http_inverting_client_ctx_t      *ctx;
    ngx_http_inverting_proxy_loc_conf_t  *conf;

    conf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    if (conf->zone->slot == NGX_HTTP_INVERTING_NONE) {
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    if (r == r->main && r->request_body && r->request_body_no_buffering) {

        /* error_page: what was read unbuffered is not there any more */

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the body of the request was passed on already");
        return NGX_HTTP_BAD_GATEWAY;
    }

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_inverting_client_ctx_t));
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->request = r;
    ctx->vars.queue_time = -1;
    ctx->last_out = &ctx->out;

    ctx->end.handler = ngx_http_inverting_peer_wake;
    ctx->end.data = ctx;

    ngx_http_inverting_set_vars(r, ctx);

    if (ngx_http_inverting_client_keep(r, ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_inverting_request_body(r, &ctx->body);
    ctx->upgrade = ngx_http_inverting_is_websocket(r);

    rc = ngx_http_inverting_request_head(r, conf->fields, &ctx->body, &head);
    if (rc != NGX_OK) {
        return (rc == NGX_ERROR) ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
    }

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_inverting_client_cleanup;
    cln->data = ctx;

    rc = ngx_http_inverting_client_open(r, ctx, &head);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_inverting_client_upstream(r, ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->body.discarded) {

        /* nginx would take what follows a chunked one for another body */

        r->request_body_no_buffering = 0;
        r->main->count++;
        ngx_http_upstream_init(r);

        return NGX_DONE;
    }

    r->request_body_no_buffering = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_upstream_init);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {

        /* now: the connection may linger on */

        ngx_http_inverting_close(&ctx->end, NGX_HTTP_INVERTING_CLIENT_GONE);
        return rc;
    }

    return NGX_DONE;
}


/*
 * Failures are what a log is read for, and "error_page" leads them to another
 * location, without a context: as in the realip module it is found by its
 * cleanup handler then.
 */

static ngx_int_t
ngx_http_inverting_client_keep(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_inverting_client_kept;
    cln->data = ctx;

    return NGX_OK;
}


static void
ngx_http_inverting_client_kept(void *data)
{
}


ngx_http_inverting_vars_t *
ngx_http_inverting_client_left(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t               *cln;
    ngx_http_inverting_client_ctx_t  *ctx;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler != ngx_http_inverting_client_kept) {
            continue;
        }

        ctx = cln->data;

        /* subrequests have the same pool */

        if (ctx->request == r) {
            return &ctx->vars;
        }
    }

    return NULL;
}


/* finds the backend and offers it the request: NGX_OK or a status */

static ngx_int_t
ngx_http_inverting_client_open(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx, ngx_str_t *head)
{
    uint32_t                             *logged, now;
    ngx_int_t                             rc;
    ngx_str_t                             named, id, agent;
    ngx_http_inverting_zone_t            *zone;
    ngx_http_inverting_offer_t            offer;
    ngx_http_inverting_backend_t         *backend;
    ngx_http_inverting_proxy_loc_conf_t  *conf;
    u_char                     buf[NGX_HTTP_INVERTING_BACKEND_ID_LEN
                                   + NGX_HTTP_INVERTING_USER_LEN];

    conf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);
    zone = conf->zone;

    rc = ngx_http_inverting_client_user(r, &offer.user);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_str_null(&named);

    if (conf->backend
        && ngx_http_complex_value(r, conf->backend, &named) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    offer.head = *head;
    offer.body = ctx->body.present;
    offer.upgrade = ctx->upgrade;
    offer.idempotent = (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD
                                     |NGX_HTTP_OPTIONS|NGX_HTTP_TRACE
                                     |NGX_HTTP_PUT|NGX_HTTP_DELETE)) != 0;
    offer.queue = conf->queue;
    offer.queue_timeout = conf->queue_timeout;
    offer.backend_timeout = conf->backend_timeout;
    offer.share = ngx_max(conf->buffers.num * conf->buffers.size
                          / NGX_HTTP_INVERTING_CHUNK_SIZE, 1);

    logged = NULL;
    ngx_str_null(&id);
    ngx_str_null(&agent);

    ngx_http_inverting_lock(zone);

    if (conf->backend) {
        backend = ngx_http_inverting_registry_find_locked(zone, &named);

        if (backend
            && !ngx_http_inverting_registry_allowed(backend, &offer.user))
        {
            backend = NULL;
        }

    } else {
        backend = ngx_http_inverting_registry_lookup_locked(zone, &offer.user,
                                              &r->uri, conf->backend_timeout);
    }

    rc = NGX_DECLINED;

    if (backend) {

        /* after the unlock it may be gone */

        id.data = buf;
        id.len = backend->id.len;
        agent.data = ngx_cpymem(buf, backend->id.data, id.len);
        agent.len = backend->record->backend_user.len;
        ngx_memcpy(agent.data, backend->record->backend_user.data, agent.len);

        rc = ngx_http_inverting_reserve_locked(zone, backend, &offer,
                                               &ctx->end);

        if (rc == NGX_HTTP_INVERTING_ABSENT) {
            logged = &backend->logged_absent;

        } else if (rc == NGX_HTTP_INVERTING_QUEUE_FULL) {
            logged = &backend->logged_queue_full;

        } else {
            logged = &zone->sh->logged_zone_full;
        }

        if (rc != NGX_OK) {

            /* once a minute, whoever is the first */

            now = (uint32_t) ngx_time();

            if (now - *logged < 60) {
                logged = NULL;

            } else {
                *logged = now;
            }
        }
    }

    ngx_http_inverting_unlock(zone);

    if (backend == NULL) {
        return ngx_http_inverting_client_unknown(r, &offer.user,
                                              conf->backend ? &named : NULL);
    }

    ctx->vars.backend.data = ngx_pnalloc(r->pool, id.len + agent.len);
    if (ctx->vars.backend.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(ctx->vars.backend.data, buf, id.len + agent.len);
    ctx->vars.backend.len = id.len;

    if (rc != NGX_OK) {
        return ngx_http_inverting_client_refuse(r, &ctx->vars.backend, rc,
                                                logged);
    }

    ctx->vars.agent.data = ctx->vars.backend.data + id.len;
    ctx->vars.agent.len = agent.len;

    ngx_http_inverting_offer(&ctx->end, &offer);

    ctx->head_len = head->len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_client_user(ngx_http_request_t *r, ngx_str_t *user)
{
    ngx_http_inverting_proxy_loc_conf_t  *conf;

    conf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    ngx_str_null(user);

    if (conf->user == NULL) {
        return NGX_OK;
    }

    if (ngx_http_complex_value(r, conf->user, user) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!ngx_http_inverting_client_is_user(user)) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the value of inverting_proxy_user is longer than %d "
                      "bytes, has control characters, or begins or ends "
                      "with a space", NGX_HTTP_INVERTING_USER_LEN);
        return NGX_HTTP_FORBIDDEN;
    }

    return NGX_OK;
}


/* as the value of a field it has to reach the backend unchanged */

static ngx_uint_t
ngx_http_inverting_client_is_user(ngx_str_t *user)
{
    if (user->len == 0) {
        return 1;
    }

    return user->len <= NGX_HTTP_INVERTING_USER_LEN
           && user->data[0] != ' '
           && user->data[user->len - 1] != ' '
           && ngx_strlchr(user->data, user->data + user->len, '\t') == NULL
           && ngx_http_inverting_is_value(user);
}


static ngx_int_t
ngx_http_inverting_client_refuse(ngx_http_request_t *r, ngx_str_t *backend,
    ngx_int_t why, uint32_t *logged)
{
    ngx_http_inverting_proxy_loc_conf_t  *conf;

    static ngx_str_t  name = ngx_string("Retry-After");
    static ngx_str_t  value = ngx_string("1");

    conf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    if (logged) {

        switch (why) {

        case NGX_HTTP_INVERTING_ABSENT:
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "no agent of backend \"%V\" is present", backend);
            break;

        case NGX_HTTP_INVERTING_QUEUE_FULL:
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "inverting_proxy_queue of backend \"%V\" is full: "
                          "%ui requests are waiting", backend, conf->queue);
            break;

        default: /* NGX_HTTP_INVERTING_ZONE_FULL */
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "inverting_proxy_zone \"%V\" is full: "
                          "make it larger", &conf->zone->name);
        }
    }

    if (ngx_http_inverting_add_field(&r->headers_out.headers, &name, &value)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_HTTP_SERVICE_UNAVAILABLE;
}


static ngx_int_t
ngx_http_inverting_client_unknown(ngx_http_request_t *r, ngx_str_t *user,
    ngx_str_t *named)
{
    ngx_http_inverting_proxy_loc_conf_t  *conf;

    static ngx_str_t  name = ngx_string("WWW-Authenticate");
    static ngx_str_t  value = ngx_string("Bearer");

    conf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    if (named) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "no backend \"%V\" for user \"%V\"",
                      ngx_http_inverting_escaped(r->pool, named), user);
        return NGX_HTTP_NOT_FOUND;
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "no backend for user \"%V\" and path \"%V\"",
                  user, ngx_http_inverting_escaped(r->pool, &r->uri));

    if (conf->user == NULL || user->len) {
        return NGX_HTTP_NOT_FOUND;
    }

    r->headers_out.www_authenticate =
        ngx_http_inverting_add_field(&r->headers_out.headers, &name, &value);

    return r->headers_out.www_authenticate ? NGX_HTTP_UNAUTHORIZED
                                           : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


static ngx_int_t
ngx_http_inverting_client_upstream(ngx_http_request_t *r,
    ngx_http_inverting_client_ctx_t *ctx)
{
    ngx_http_upstream_t                  *u;
    ngx_http_inverting_proxy_loc_conf_t  *conf;

    conf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    if (ngx_http_upstream_create(r) != NGX_OK) {
        return NGX_ERROR;
    }

    u = r->upstream;

    ngx_str_set(&u->schema, "inverting://");
    u->output.tag = (ngx_buf_tag_t) &ngx_http_inverting_proxy_module;
    u->output.output_filter = ngx_http_inverting_peer_output;
    u->output.filter_ctx = ctx;

    u->conf = &conf->upstream;
    u->buffering = 0;

    u->create_request = ngx_http_inverting_client_create;
    u->reinit_request = ngx_http_inverting_client_reinit;
    u->process_header = ngx_http_inverting_process_status_line;
    u->abort_request = ngx_http_inverting_client_abort;
    u->finalize_request = ngx_http_inverting_client_finalize;

    u->input_filter_init = ngx_http_inverting_input_filter_init;
    u->input_filter = ngx_http_inverting_input_filter;
    u->input_filter_ctx = r;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_client_create(ngx_http_request_t *r)
{
    ngx_buf_t                        *b;
    ngx_chain_t                      *cl, *body, **last;
    ngx_http_inverting_client_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    b = ngx_calloc_buf(r->pool);
    cl = ngx_alloc_chain_link(r->pool);

    if (b == NULL || cl == NULL) {
        return NGX_ERROR;
    }

    /* upstream wants one for the head, which the exchange has already */

    b->flush = 1;

    cl->buf = b;
    cl->next = NULL;

    r->upstream->request_bufs = cl;

    ctx->body_left = ctx->body.length;

    if (r->request_body_no_buffering || !ctx->body.present) {
        return NGX_OK;
    }

    /* it was read before: what others may still want is not consumed */

    last = &cl->next;

    for (body = r->request_body->bufs; body; body = body->next) {
        b = ngx_alloc_buf(r->pool);
        cl = ngx_alloc_chain_link(r->pool);

        if (b == NULL || cl == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(b, body->buf, sizeof(ngx_buf_t));

        cl->buf = b;
        *last = cl;
        last = &cl->next;
    }

    *last = NULL;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_client_reinit(ngx_http_request_t *r)
{
    /* upstream never tries again: the exchange does */

    return NGX_ERROR;
}


static void
ngx_http_inverting_client_abort(ngx_http_request_t *r)
{
}


static void
ngx_http_inverting_client_finalize(ngx_http_request_t *r, ngx_int_t rc)
{
}


static void
ngx_http_inverting_client_cleanup(void *data)
{
    ngx_http_inverting_client_ctx_t *ctx = data;

    /* for a request that did not get as far as upstream */

    ngx_http_inverting_close(&ctx->end, NGX_HTTP_INVERTING_CLIENT_GONE);
}
