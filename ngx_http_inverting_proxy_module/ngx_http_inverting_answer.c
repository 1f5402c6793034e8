
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_api.h"
#include "ngx_http_inverting_fields.h"
#include "ngx_http_inverting_record.h"


ngx_int_t
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


ngx_int_t
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


ngx_int_t
ngx_http_inverting_api_no_backend(ngx_http_request_t *r)
{
    return ngx_http_inverting_api_error(r, NGX_HTTP_NOT_FOUND, NULL,
                                        "there is no such backend");
}


ngx_int_t
ngx_http_inverting_api_not_allowed(ngx_http_request_t *r, ngx_str_t *methods)
{
    static ngx_str_t  name = ngx_string("Allow");

    if (ngx_http_inverting_add_field(&r->headers_out.headers, &name, methods)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_api_error(r, NGX_HTTP_NOT_ALLOWED, NULL,
                                        "the method is not allowed here");
}


ngx_int_t
ngx_http_inverting_api_unavailable(ngx_http_request_t *r, char *message)
{
    static ngx_str_t  name = ngx_string("Retry-After");
    static ngx_str_t  value = ngx_string("1");

    if (ngx_http_inverting_add_field(&r->headers_out.headers, &name, &value)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_api_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, NULL,
                                        message);
}


ngx_int_t
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


ngx_int_t
ngx_http_inverting_api_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_buf_t *b)
{
    ngx_int_t     rc;
    ngx_chain_t   out;

    static ngx_str_t  name = ngx_string("Cache-Control");
    static ngx_str_t  value = ngx_string("no-store");

    if (ngx_http_inverting_add_field(&r->headers_out.headers, &name, &value)
        == NULL)
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

    /* without a time: never */

    if (backend->last_used) {
        p = ngx_cpymem(p, ",\"lastUsed\":", 12);
        p = ngx_http_inverting_api_time(p, backend->last_used);
    }

    if (backend->last_seen) {
        p = ngx_cpymem(p, ",\"lastSeen\":", 12);
        p = ngx_http_inverting_api_time(p, backend->last_seen);
    }

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


u_char *
ngx_http_inverting_api_time(u_char *p, time_t t)
{
    ngx_tm_t  tm;

    if (t == 0) {
        return ngx_cpymem(p, "null", 4);
    }

    ngx_gmtime(t, &tm);

    return ngx_sprintf(p, "\"%4d-%02d-%02dT%02d:%02d:%02dZ\"",
                       tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                       tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);
}
