
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_api.h"
#include "ngx_http_inverting_record.h"


typedef struct {
    ngx_uint_t     methods;
    ngx_str_t      allow;
} ngx_http_inverting_api_methods_t;


static ngx_int_t ngx_http_inverting_api_find(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_api_rest(ngx_http_request_t *r,
    ngx_str_t *rest);
static ngx_int_t ngx_http_inverting_api_read(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_api_write_handler(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_api_refuse_write(ngx_http_request_t *r);
static ngx_uint_t ngx_http_inverting_api_foreign(ngx_http_request_t *r);
static ngx_uint_t ngx_http_inverting_api_same_origin(ngx_http_request_t *r,
    ngx_str_t *origin);

static ngx_int_t ngx_http_inverting_api_get(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_api_show(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_api_set(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_api_was_set(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_api_delete(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);


/* by ngx_http_inverting_api_resource_e */

static ngx_http_inverting_api_methods_t  ngx_http_inverting_api_methods[] = {

    { NGX_HTTP_GET|NGX_HTTP_HEAD,
      ngx_string("GET, HEAD") },

    { NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_POST,
      ngx_string("GET, HEAD, POST") },

    { NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_DELETE,
      ngx_string("GET, HEAD, DELETE") },

    { NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_POST,
      ngx_string("GET, HEAD, POST") },

    { NGX_HTTP_DELETE,
      ngx_string("DELETE") }
};


ngx_int_t
ngx_http_inverting_api_handler(ngx_http_request_t *r)
{
    ngx_http_inverting_api_ctx_t         *ctx;
    ngx_http_inverting_api_methods_t     *methods;
    ngx_http_inverting_proxy_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    if (plcf->api_zone->slot == NGX_HTTP_INVERTING_NONE) {
        return ngx_http_inverting_api_unavailable(r,
                                 "this worker process does not use the zone");
    }

    if (ngx_http_inverting_api_foreign(r)) {
        return ngx_http_inverting_api_error(r, NGX_HTTP_FORBIDDEN, NULL,
                             "the request was made by a page of another site");
    }

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_inverting_api_ctx_t));
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->vars.queue_time = -1;
    ctx->request = r;
    ctx->zone = plcf->api_zone;

    ngx_http_inverting_set_vars(r, ctx);

    if (ngx_http_inverting_api_find(r, ctx) != NGX_OK) {
        return ngx_http_inverting_api_error(r, NGX_HTTP_NOT_FOUND, NULL,
                          "there are \"backends\", \"backends/ID\", "
                          "\"backends/ID/keys\", \"backends/ID/keys/KEY\" "
                          "and \"status\"");
    }

    methods = &ngx_http_inverting_api_methods[ctx->resource];

    if (!(r->method & methods->methods)) {
        return ngx_http_inverting_api_not_allowed(r, &methods->allow);
    }

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return ngx_http_inverting_api_read(r, ctx);
    }

    return ngx_http_inverting_api_write_handler(r, ctx);
}


static ngx_int_t
ngx_http_inverting_api_find(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    u_char     *p, *last;
    ngx_str_t   rest;

    if (ngx_http_inverting_api_rest(r, &rest) != NGX_OK) {
        return NGX_DECLINED;
    }

    if (rest.len == 6 && ngx_strncmp(rest.data, "status", 6) == 0) {
        ctx->resource = NGX_HTTP_INVERTING_API_STATUS;
        return NGX_OK;
    }

    if (rest.len == 8 && ngx_strncmp(rest.data, "backends", 8) == 0) {
        ctx->resource = NGX_HTTP_INVERTING_API_BACKENDS;
        return NGX_OK;
    }

    if (rest.len <= 9 || ngx_strncmp(rest.data, "backends/", 9) != 0) {
        return NGX_DECLINED;
    }

    p = rest.data + 9;
    last = rest.data + rest.len;

    ctx->backend.data = p;

    p = ngx_strlchr(p, last, '/');

    if (p == NULL) {
        ctx->backend.len = last - ctx->backend.data;
        ctx->resource = NGX_HTTP_INVERTING_API_BACKEND;
        return NGX_OK;
    }

    ctx->backend.len = p - ctx->backend.data;

    if (last - p < 5 || ngx_strncmp(p, "/keys", 5) != 0) {
        return NGX_DECLINED;
    }

    p += 5;

    if (p == last) {
        ctx->resource = NGX_HTTP_INVERTING_API_KEYS;
        return NGX_OK;
    }

    if (*p++ != '/' || p == last || ngx_strlchr(p, last, '/')) {
        return NGX_DECLINED;
    }

    ctx->key.data = p;
    ctx->key.len = last - p;
    ctx->resource = NGX_HTTP_INVERTING_API_KEY;

    return NGX_OK;
}


/* what follows the name of the location */

static ngx_int_t
ngx_http_inverting_api_rest(ngx_http_request_t *r, ngx_str_t *rest)
{
    ngx_str_t                 *name;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ngx_str_null(rest);

    name = &clcf->name;

    if (r->uri.len < name->len
        || ngx_strncmp(r->uri.data, name->data, name->len) != 0)
    {
        return NGX_DECLINED;
    }

    rest->data = r->uri.data + name->len;
    rest->len = r->uri.len - name->len;

    /* "location /api" as well as "location /api/" */

    if (rest->len && rest->data[0] == '/'
        && name->len && name->data[name->len - 1] != '/')
    {
        rest->data++;
        rest->len--;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_api_read(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    switch (ctx->resource) {

    case NGX_HTTP_INVERTING_API_BACKEND:
        return ngx_http_inverting_api_get(r, ctx);

    case NGX_HTTP_INVERTING_API_KEYS:
        return ngx_http_inverting_api_keys(r, ctx);

    default: /* BACKENDS, STATUS */
        return ngx_http_inverting_api_list(r, ctx);
    }
}


static ngx_int_t
ngx_http_inverting_api_write_handler(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_inverting_api_refuse_write(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ctx->change.record.id = ctx->backend;

    if (r->method == NGX_HTTP_POST) {
        ctx->handler = (ctx->resource == NGX_HTTP_INVERTING_API_KEYS)
                       ? ngx_http_inverting_api_add_key
                       : ngx_http_inverting_api_set;

        return ngx_http_inverting_api_read_body(r, ctx);
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    return (ctx->resource == NGX_HTTP_INVERTING_API_KEY)
           ? ngx_http_inverting_api_delete_key(r, ctx)
           : ngx_http_inverting_api_delete(r, ctx);
}


/* NGX_DECLINED: there is nothing against it */

static ngx_int_t
ngx_http_inverting_api_refuse_write(ngx_http_request_t *r)
{
    ngx_http_inverting_proxy_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    if (!plcf->api_write) {
        return ngx_http_inverting_api_error(r, NGX_HTTP_FORBIDDEN, NULL,
                      "\"inverting_proxy_api\" has no \"write=on\" here");
    }

    if (ngx_exiting || ngx_terminate) {
        return ngx_http_inverting_api_unavailable(r,
                                  "this worker process is exiting, try again");
    }

    return NGX_DECLINED;
}


/*
 * What a browser says about the page counts, if it does: no page can change
 * that.  Its "Origin" may name another scheme than nginx sees, where TLS ends
 * before nginx.
 */

static ngx_uint_t
ngx_http_inverting_api_foreign(ngx_http_request_t *r)
{
    ngx_uint_t        i, other, told;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    other = 0;
    told = 0;

    part = &r->headers_in.headers.part;
    header = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            header = part->elts;
            i = 0;
        }

        if (header[i].key.len == 6
            && ngx_strncasecmp(header[i].key.data, (u_char *) "origin", 6)
               == 0)
        {
            if (!ngx_http_inverting_api_same_origin(r, &header[i].value)) {
                other = 1;
            }

            continue;
        }

        if (header[i].key.len == 14
            && ngx_strncasecmp(header[i].key.data,
                               (u_char *) "sec-fetch-site", 14)
               == 0)
        {
            if (ngx_strcmp(header[i].value.data, "same-origin") != 0
                && ngx_strcmp(header[i].value.data, "none") != 0)
            {
                return 1;
            }

            told = 1;
        }
    }

    return other && !told;
}


static ngx_uint_t
ngx_http_inverting_api_same_origin(ngx_http_request_t *r, ngx_str_t *origin)
{
    ngx_str_t  scheme, *host;

    ngx_str_set(&scheme, "http://");

#if (NGX_HTTP_SSL)

    if (r->connection->ssl) {
        ngx_str_set(&scheme, "https://");
    }

#endif

    if (r->headers_in.host == NULL) {
        return 0;
    }

    host = &r->headers_in.host->value;

    return origin->len == scheme.len + host->len
           && ngx_strncasecmp(origin->data, scheme.data, scheme.len) == 0
           && ngx_strncasecmp(origin->data + scheme.len, host->data, host->len)
              == 0;
}


static ngx_int_t
ngx_http_inverting_api_get(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_inverting_api_show(r, ctx);

    return (rc == NGX_DECLINED) ? ngx_http_inverting_api_no_backend(r) : rc;
}


/* sends the record of the backend; NGX_DECLINED: there is none such */

static ngx_int_t
ngx_http_inverting_api_show(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_buf_t                     *b;
    ngx_http_inverting_backend_t  *backend;

    b = NULL;

    ngx_http_inverting_lock(ctx->zone);

    backend = ngx_http_inverting_registry_find_locked(ctx->zone,
                                                      &ctx->backend);
    if (backend) {
        b = ngx_create_temp_buf(r->pool,
                                ngx_http_inverting_api_len(backend) + 1);
        if (b) {
            b->last = ngx_http_inverting_api_write(b->last, backend);
            *b->last++ = LF;
        }
    }

    ngx_http_inverting_unlock(ctx->zone);

    if (backend == NULL) {
        return NGX_DECLINED;
    }

    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_api_send(r, NGX_HTTP_OK, b);
}


static ngx_int_t
ngx_http_inverting_api_set(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_int_t                           rc;
    ngx_str_t                           json;
    ngx_http_inverting_record_error_t   error;

    json.data = ctx->body;
    json.len = ctx->len;

    rc = ngx_http_inverting_record_parse(r->pool, &json, &ctx->change.record,
                                         &error);

    if (rc == NGX_DECLINED) {
        return ngx_http_inverting_api_invalid(r, &error);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->backend = ctx->change.record.id;
    ctx->change.type = NGX_HTTP_INVERTING_SET;
    ctx->done = ngx_http_inverting_api_was_set;

    return ngx_http_inverting_api_change(r, ctx);
}


static ngx_int_t
ngx_http_inverting_api_was_set(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_buf_t  *b;
    ngx_int_t   rc;

    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                  "backend \"%V\" of zone \"%V\" was set",
                  &ctx->backend, &ctx->zone->name);

    rc = ngx_http_inverting_api_show(r, ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    /* somebody has deleted it since */

    b = ngx_create_temp_buf(r->pool, sizeof("{}\n") - 1
                      + ngx_http_inverting_record_len(&ctx->change.record));
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *b->last++ = '{';
    b->last = ngx_http_inverting_record_write(b->last, &ctx->change.record);
    *b->last++ = '}';
    *b->last++ = LF;

    return ngx_http_inverting_api_send(r, NGX_HTTP_OK, b);
}


static ngx_int_t
ngx_http_inverting_api_delete(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ctx->change.type = NGX_HTTP_INVERTING_DELETE;
    ctx->done = ngx_http_inverting_api_deleted;

    return ngx_http_inverting_api_change(r, ctx);
}


ngx_int_t
ngx_http_inverting_api_deleted(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_buf_t  *b;

    if (ctx->change.result == NGX_HTTP_INVERTING_UNCHANGED) {

        /*
         * To delete a backend that is not there is no error in this family of
         * proxies.  But whoever mistypes a key must not take it for revoked.
         */

        if (ctx->change.type != NGX_HTTP_INVERTING_DELETE) {
            return ngx_http_inverting_api_error(r, NGX_HTTP_NOT_FOUND, NULL,
                                                "there is no such key");
        }

    } else if (ctx->change.type == NGX_HTTP_INVERTING_DELETE) {
        ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                      "backend \"%V\" of zone \"%V\" was deleted",
                      &ctx->backend, &ctx->zone->name);

    } else {
        ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                      "key \"%V\" of backend \"%V\" of zone \"%V\" was "
                      "revoked", &ctx->key, &ctx->backend, &ctx->zone->name);
    }

    b = ngx_create_temp_buf(r->pool, sizeof("{}\n") - 1);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_cpymem(b->last, "{}\n", 3);

    return ngx_http_inverting_api_send(r, NGX_HTTP_OK, b);
}


ngx_int_t
ngx_http_inverting_api_change(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_int_t  rc;

    /* once more: a body may have taken a while to come */

    rc = ngx_http_inverting_api_refuse_write(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ctx->zone->state) {
        return ngx_http_inverting_api_commit(r, ctx);
    }

    ngx_http_inverting_lock(ctx->zone);

    ngx_http_inverting_change_locked(ctx->zone, &ctx->change);

    ngx_http_inverting_unlock(ctx->zone);

    return ngx_http_inverting_api_changed(r, ctx);
}


ngx_int_t
ngx_http_inverting_api_changed(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    switch (ctx->change.result) {

    case NGX_HTTP_INVERTING_NO_BACKEND:
        return ngx_http_inverting_api_no_backend(r);

    case NGX_HTTP_INVERTING_STATIC:
        return ngx_http_inverting_api_configured(r, &ctx->backend);

    case NGX_HTTP_INVERTING_KEYS_FULL:
        return ngx_http_inverting_api_error(r, NGX_HTTP_CONFLICT, NULL,
                                "the backend has 16 keys, delete one first");

    case NGX_HTTP_INVERTING_REGISTRY_FULL:
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "registry of inverting_proxy_zone \"%V\" is full: "
                      "no room for backend \"%V\" or its keys",
                      &ctx->zone->name, &ctx->backend);

        return ngx_http_inverting_api_error(r, NGX_HTTP_INSUFFICIENT_STORAGE,
                                            NULL, "the registry is full");

    case NGX_HTTP_INVERTING_FAILED:
        return ngx_http_inverting_api_error(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                              NULL, "the state file could not be written, and "
                              "nothing was changed: see nginx's error log");

    default: /* CHANGED, UNCHANGED */
        return ctx->done(r, ctx);
    }
}
