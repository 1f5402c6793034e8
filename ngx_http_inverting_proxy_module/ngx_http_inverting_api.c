
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_api.h"
#include "ngx_http_inverting_record.h"


static ngx_int_t ngx_http_inverting_api_rest(ngx_http_request_t *r,
    ngx_str_t *rest);
static ngx_int_t ngx_http_inverting_api_refuse_write(ngx_http_request_t *r);
static ngx_uint_t ngx_http_inverting_api_foreign(ngx_http_request_t *r);
static ngx_uint_t ngx_http_inverting_api_same_origin(ngx_http_request_t *r,
    ngx_str_t *origin);

static ngx_int_t ngx_http_inverting_api_get(ngx_http_request_t *r,
    ngx_http_inverting_zone_t *zone, ngx_str_t *id);
static ngx_int_t ngx_http_inverting_api_delete(ngx_http_request_t *r,
    ngx_http_inverting_zone_t *zone, ngx_str_t *id);

static ngx_int_t ngx_http_inverting_api_post(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);


ngx_int_t
ngx_http_inverting_api_handler(ngx_http_request_t *r)
{
    ngx_int_t                             rc;
    ngx_str_t                             rest;
    ngx_uint_t                            list, status;
    ngx_http_inverting_zone_t            *zone;
    ngx_http_inverting_api_ctx_t         *ctx;
    ngx_http_inverting_proxy_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    zone = plcf->api_zone;

    if (zone->slot == NGX_HTTP_INVERTING_NONE) {
        return ngx_http_inverting_api_unavailable(r,
                                 "this worker process does not use the zone");
    }

    if (ngx_http_inverting_api_foreign(r)) {
        return ngx_http_inverting_api_error(r, NGX_HTTP_FORBIDDEN, NULL,
                             "the request was made by a page of another site");
    }

    rc = ngx_http_inverting_api_rest(r, &rest);

    list = (rest.len == 8 && ngx_strncmp(rest.data, "backends", 8) == 0);
    status = (rest.len == 6 && ngx_strncmp(rest.data, "status", 6) == 0);

    if (!list && !status
        && (rest.len <= 9 || ngx_strncmp(rest.data, "backends/", 9) != 0))
    {
        rc = NGX_DECLINED;
    }

    if (rc != NGX_OK) {
        return ngx_http_inverting_api_error(r, NGX_HTTP_NOT_FOUND, NULL,
                          "there are \"backends\", \"backends/ID\" "
                          "and \"status\"");
    }

    if (status) {
        if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
            return ngx_http_inverting_api_not_allowed(r, "GET, HEAD");
        }

    } else if (list) {
        if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_POST))) {
            return ngx_http_inverting_api_not_allowed(r, "GET, HEAD, POST");
        }

    } else {
        rest.data += 9;
        rest.len -= 9;

        if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_DELETE))) {
            return ngx_http_inverting_api_not_allowed(r, "GET, HEAD, DELETE");
        }
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {

        rc = ngx_http_inverting_api_refuse_write(r);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    if (!list && !status) {

        if (r->method == NGX_HTTP_DELETE) {
            return ngx_http_inverting_api_delete(r, zone, &rest);
        }

        return ngx_http_inverting_api_get(r, zone, &rest);
    }

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_inverting_api_ctx_t));
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->vars.queue_time = -1;
    ctx->request = r;
    ctx->zone = zone;
    ctx->status = status;

    ngx_http_inverting_set_vars(r, ctx);

    if (r->method == NGX_HTTP_POST) {
        ctx->handler = ngx_http_inverting_api_post;
        return ngx_http_inverting_api_read_body(r, ctx);
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_inverting_api_list(r, ctx);
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


static ngx_uint_t
ngx_http_inverting_api_foreign(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

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
                return 1;
            }

            continue;
        }

        if (header[i].key.len == 14
            && ngx_strncasecmp(header[i].key.data,
                               (u_char *) "sec-fetch-site", 14)
               == 0
            && ngx_strcmp(header[i].value.data, "same-origin") != 0
            && ngx_strcmp(header[i].value.data, "none") != 0)
        {
            return 1;
        }
    }

    return 0;
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
    ngx_http_inverting_zone_t *zone, ngx_str_t *id)
{
    ngx_buf_t                     *b;
    ngx_int_t                      rc;
    ngx_http_inverting_backend_t  *backend;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    b = NULL;

    ngx_http_inverting_lock(zone);

    backend = ngx_http_inverting_registry_find_locked(zone, id);

    if (backend) {
        b = ngx_create_temp_buf(r->pool,
                                ngx_http_inverting_api_len(backend) + 1);
        if (b) {
            b->last = ngx_http_inverting_api_write(b->last, backend);
            *b->last++ = LF;
        }
    }

    ngx_http_inverting_unlock(zone);

    if (backend == NULL) {
        return ngx_http_inverting_api_error(r, NGX_HTTP_NOT_FOUND, NULL,
                                            "there is no such backend");
    }

    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_api_send(r, NGX_HTTP_OK, b);
}


static ngx_int_t
ngx_http_inverting_api_delete(ngx_http_request_t *r,
    ngx_http_inverting_zone_t *zone, ngx_str_t *id)
{
    ngx_buf_t  *b;
    ngx_int_t   rc;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    ngx_http_inverting_lock(zone);

    rc = ngx_http_inverting_registry_delete_locked(zone, id, 0);

    ngx_http_inverting_unlock(zone);

    if (rc == NGX_DECLINED) {
        return ngx_http_inverting_api_configured(r, id);
    }

    /* to delete what is not there is no error in this family of proxies */

    if (rc == NGX_OK) {
        ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                      "backend \"%V\" of zone \"%V\" was deleted",
                      id, &zone->name);
    }

    b = ngx_create_temp_buf(r->pool, sizeof("{}" CRLF) - 1);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_cpymem(b->last, "{}\n", 3);

    return ngx_http_inverting_api_send(r, NGX_HTTP_OK, b);
}


static ngx_int_t
ngx_http_inverting_api_post(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_buf_t                          *b;
    ngx_int_t                           rc;
    ngx_str_t                           json;
    ngx_http_inverting_zone_t          *zone;
    ngx_http_inverting_record_t         record;
    ngx_http_inverting_backend_t       *backend;
    ngx_http_inverting_record_error_t   error;

    json.data = ctx->body;
    json.len = ctx->len;

    rc = ngx_http_inverting_record_parse(r->pool, &json, &record, &error);

    if (rc == NGX_DECLINED) {
        return ngx_http_inverting_api_invalid(r, &error);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* once more: it may have taken a while to come */

    rc = ngx_http_inverting_api_refuse_write(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    zone = ctx->zone;
    b = NULL;

    ngx_http_inverting_lock(zone);

    rc = ngx_http_inverting_registry_set_locked(zone, &record);

    if (rc == NGX_OK) {
        backend = ngx_http_inverting_registry_find_locked(zone, &record.id);

        b = ngx_create_temp_buf(r->pool,
                                ngx_http_inverting_api_len(backend) + 1);
        if (b) {
            b->last = ngx_http_inverting_api_write(b->last, backend);
            *b->last++ = LF;
        }
    }

    ngx_http_inverting_unlock(zone);

    if (rc == NGX_DECLINED) {
        return ngx_http_inverting_api_configured(r, &record.id);
    }

    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "registry of inverting_proxy_zone \"%V\" is full: "
                      "no room for backend \"%V\"", &zone->name, &record.id);

        return ngx_http_inverting_api_error(r, NGX_HTTP_INSUFFICIENT_STORAGE,
                                            NULL, "the registry is full");
    }

    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                  "backend \"%V\" of zone \"%V\" was set",
                  &record.id, &zone->name);

    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_api_send(r, NGX_HTTP_OK, b);
}
