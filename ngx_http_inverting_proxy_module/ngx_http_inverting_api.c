
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

static ngx_int_t ngx_http_inverting_api_read_body(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static void ngx_http_inverting_api_body_handler(ngx_http_request_t *r);
static void ngx_http_inverting_api_read_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_inverting_api_take_body(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_api_too_large(ngx_http_request_t *r);
static ngx_int_t ngx_http_inverting_api_post(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_api_invalid(ngx_http_request_t *r,
    ngx_http_inverting_record_error_t *error);

static ngx_int_t ngx_http_inverting_api_configured(ngx_http_request_t *r,
    ngx_str_t *id);
static ngx_int_t ngx_http_inverting_api_not_allowed(ngx_http_request_t *r,
    char *methods);
static ngx_int_t ngx_http_inverting_api_unavailable(ngx_http_request_t *r,
    char *message);
static ngx_int_t ngx_http_inverting_api_error(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *field, char *message);
static ngx_int_t ngx_http_inverting_api_header(ngx_http_request_t *r,
    char *name, char *value);

static u_char *ngx_http_inverting_api_time(u_char *p, char *name, time_t t);


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


/* nginx's own limit may be any; this way nothing is written to a file */

static ngx_int_t
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

    ngx_http_finalize_request(r, ngx_http_inverting_api_post(r, ctx));
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

    ctx->body[ctx->len] = '\0';

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


static ngx_int_t
ngx_http_inverting_api_invalid(ngx_http_request_t *r,
    ngx_http_inverting_record_error_t *error)
{
    u_char  *p;

    p = ngx_pnalloc(r->pool, sizeof("\"\" ") + sizeof("the body")
                             + error->name.len + error->text.len);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (error->name.len) {
        ngx_sprintf(p, "\"%V\" %V%Z", &error->name, &error->text);

    } else {
        ngx_sprintf(p, "the body %V%Z", &error->text);
    }

    return ngx_http_inverting_api_error(r, NGX_HTTP_BAD_REQUEST, &error->name,
                                        (char *) p);
}


static ngx_int_t
ngx_http_inverting_api_configured(ngx_http_request_t *r, ngx_str_t *id)
{
    static ngx_str_t  name = ngx_string("id");

    u_char  *p;

    p = ngx_pnalloc(r->pool, id->len
                  + sizeof("backend \"\" is from \"inverting_proxy_backend\" "
                           "and can't be changed"));
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_sprintf(p, "backend \"%V\" is from \"inverting_proxy_backend\" "
                "and can't be changed%Z", id);

    return ngx_http_inverting_api_error(r, NGX_HTTP_FORBIDDEN, &name,
                                        (char *) p);
}


static ngx_int_t
ngx_http_inverting_api_not_allowed(ngx_http_request_t *r, char *methods)
{
    if (ngx_http_inverting_api_header(r, "Allow", methods) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_api_error(r, NGX_HTTP_NOT_ALLOWED, NULL,
                                        "the method is not allowed here");
}


static ngx_int_t
ngx_http_inverting_api_unavailable(ngx_http_request_t *r, char *message)
{
    if (ngx_http_inverting_api_header(r, "Retry-After", "1") != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_api_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, NULL,
                                        message);
}


static ngx_int_t
ngx_http_inverting_api_error(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *field, char *message)
{
    size_t      len;
    ngx_buf_t  *b;
    ngx_int_t   rc;
    ngx_str_t   text;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    text.data = (u_char *) message;
    text.len = ngx_strlen(message);

    len = sizeof("{\"error\":{\"status\":599,\"message\":\"\"}}\n") - 1
          + text.len + ngx_escape_json(NULL, text.data, text.len);

    if (field && field->len) {
        len += sizeof(",\"field\":\"\"") - 1
               + field->len + ngx_escape_json(NULL, field->data, field->len);
    }

    b = ngx_create_temp_buf(r->pool, len);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last, "{\"error\":{\"status\":%ui,\"message\":\"",
                          status);
    b->last = (u_char *) ngx_escape_json(b->last, text.data, text.len);
    *b->last++ = '"';

    if (field && field->len) {
        b->last = ngx_cpymem(b->last, ",\"field\":\"", 10);
        b->last = (u_char *) ngx_escape_json(b->last, field->data, field->len);
        *b->last++ = '"';
    }

    b->last = ngx_cpymem(b->last, "}}\n", 3);

    return ngx_http_inverting_api_send(r, status, b);
}


static ngx_int_t
ngx_http_inverting_api_header(ngx_http_request_t *r, char *name, char *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_api_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_buf_t *b)
{
    ngx_int_t     rc;
    ngx_chain_t   out;

    if (ngx_http_inverting_api_header(r, "Cache-Control", "no-store")
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = status;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    r->headers_out.content_length_n = b ? b->last - b->pos : -1;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only || b == NULL) {
        return rc;
    }

    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


u_char *
ngx_http_inverting_api_write(u_char *p, ngx_http_inverting_backend_t *backend)
{
    *p++ = '{';

    p = ngx_http_inverting_record_write(p, backend->record);

    p = ngx_http_inverting_api_time(p, "lastUsed", backend->last_used);
    p = ngx_http_inverting_api_time(p, "lastSeen", backend->last_seen);

    return ngx_sprintf(p, ",\"agents\":%uD,\"waiting\":%uD,\"active\":%uD}",
                       backend->nreceivers, backend->waiting,
                       backend->active);
}


size_t
ngx_http_inverting_api_len(ngx_http_inverting_backend_t *backend)
{
    return ngx_http_inverting_record_len(backend->record)
           + sizeof("{,\"lastUsed\":\"1970-01-01T00:00:00Z\""
                    ",\"lastSeen\":\"1970-01-01T00:00:00Z\""
                    ",\"agents\":,\"waiting\":,\"active\":}")
           + 3 * NGX_INT32_LEN;
}


/* none: never */

static u_char *
ngx_http_inverting_api_time(u_char *p, char *name, time_t t)
{
    ngx_tm_t  tm;

    if (t == 0) {
        return p;
    }

    ngx_gmtime(t, &tm);

    return ngx_sprintf(p, ",\"%s\":\"%4d-%02d-%02dT%02d:%02d:%02dZ\"", name,
                       tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                       tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);
}
