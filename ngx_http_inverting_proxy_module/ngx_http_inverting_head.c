
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <nghttp2/nghttp2.h>

#include "ngx_http_inverting_fields.h"
#include "ngx_http_inverting_head.h"


static ngx_uint_t ngx_http_inverting_is_discarded(ngx_http_request_t *r);
static ngx_int_t ngx_http_inverting_head_host(ngx_http_request_t *r,
    ngx_str_t *host);
static ngx_int_t ngx_http_inverting_head_scan(ngx_http_request_t *r,
    ngx_array_t *connection, size_t *len, ngx_uint_t *trailers);
static ngx_uint_t ngx_http_inverting_head_is_dropped(ngx_table_elt_t *h,
    ngx_array_t *fields, ngx_array_t *connection);
static ngx_int_t ngx_http_inverting_head_check_args(ngx_http_request_t *r);
static u_char *ngx_http_inverting_head_target(ngx_http_request_t *r,
    u_char *p);


/* written anew, or answered by nginx */

static ngx_str_t  ngx_http_inverting_rewritten[] = {
    ngx_string("host"),
    ngx_string("content-length"),
    ngx_string("expect"),
    ngx_string("http2-settings"),
    ngx_null_string
};


/* of this worker */

static u_char  *ngx_http_inverting_head;
static size_t   ngx_http_inverting_head_size;


void
ngx_http_inverting_request_body(ngx_http_request_t *r,
    ngx_http_inverting_body_t *body)
{
    ngx_chain_t  *cl;

    body->length = 0;
    body->present = 0;
    body->discarded = 0;

    if (ngx_http_inverting_is_discarded(r)) {
        body->discarded = 1;
        return;
    }

    if (r != r->main && r->main->request_body_no_buffering) {

        /* is being passed on by the main request */

        return;
    }

    if (r->request_body) {

        /* was read before, or is the empty one of a subrequest */

        for (cl = r->request_body->bufs; cl; cl = cl->next) {
            body->length += ngx_buf_size(cl->buf);
        }

        body->present = (body->length > 0);
        return;
    }

    if (r != r->main) {
        return;
    }

    if (r->headers_in.chunked) {
        body->length = -1;
        body->present = 1;
        return;
    }

    if (r->headers_in.content_length_n > 0) {
        body->length = r->headers_in.content_length_n;
        body->present = 1;
    }
}


/*
 * Whoever had the request before, and has failed: error_page after a 413, or
 * after a module that discards the body of any request, as memcached does.
 */

static ngx_uint_t
ngx_http_inverting_is_discarded(ngx_http_request_t *r)
{
    if (r != r->main || r->request_body) {
        return 0;
    }

#if (NGX_HTTP_V2)

    if (r->stream) {
        return r->stream->skip_data;
    }

#endif

    return r->discard_body
           || (r->headers_in.chunked && r->headers_in.content_length_n == 0);
}


ngx_uint_t
ngx_http_inverting_is_websocket(ngx_http_request_t *r)
{
    ngx_str_t         upgrade;
    ngx_uint_t        i, keys, named;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    h = r->headers_in.upgrade;

    if (h == NULL
        || r != r->main
        || r->method != NGX_HTTP_GET
        || r->http_version != NGX_HTTP_VERSION_11
        || r->headers_in.content_length_n > 0
        || r->headers_in.chunked
        || h->value.len != sizeof("websocket") - 1
        || ngx_strncasecmp(h->value.data, (u_char *) "websocket",
                           sizeof("websocket") - 1)
           != 0)
    {
        return 0;
    }

    ngx_str_set(&upgrade, "upgrade");
    keys = 0;
    named = 0;

    part = &r->headers_in.headers.part;
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

        if (h[i].key.len == sizeof("connection") - 1
            && ngx_memcmp(h[i].lowcase_key, "connection",
                          sizeof("connection") - 1)
               == 0)
        {
            named |= ngx_http_inverting_has_token(&h[i].value, &upgrade);

        } else if (h[i].key.len == sizeof("sec-websocket-key") - 1
                   && ngx_memcmp(h[i].lowcase_key, "sec-websocket-key",
                                 sizeof("sec-websocket-key") - 1)
                      == 0)
        {
            /* 16 bytes in Base64 */

            if (h[i].value.len != 24) {
                return 0;
            }

            keys++;
        }
    }

    return named && keys == 1;
}


ngx_int_t
ngx_http_inverting_request_head(ngx_http_request_t *r, ngx_array_t *fields,
    ngx_http_inverting_body_t *body, ngx_str_t *head)
{
    size_t                       len;
    u_char                      *p;
    ngx_str_t                   *value, host;
    ngx_uint_t                   i, trailers, has_host;
    ngx_array_t                  connection, values;
    ngx_list_part_t             *part;
    ngx_table_elt_t             *h;
    ngx_http_inverting_field_t  *field;

    if (ngx_array_init(&connection, r->pool, 1, sizeof(ngx_str_t)) != NGX_OK
        || ngx_array_init(&values, r->pool, fields->nelts + 1,
                          sizeof(ngx_str_t)) != NGX_OK)
    {
        return NGX_ERROR;
    }

    len = r->method_name.len + sizeof(" / HTTP/1.1" CRLF) - 1
          + ngx_max(r->unparsed_uri.len,
                    r->uri.len * 3 + sizeof("?") + r->args.len)
          + sizeof("Host: " CRLF) - 1
          + sizeof("Content-Length: " CRLF) - 1 + NGX_OFF_T_LEN
          + sizeof("Transfer-Encoding: chunked" CRLF) - 1
          + sizeof("TE: trailers" CRLF CRLF) - 1;

    if (ngx_http_inverting_head_scan(r, &connection, &len, &trailers)
        != NGX_OK
        || ngx_http_inverting_head_check_args(r) != NGX_OK
        || ngx_http_inverting_head_host(r, &host) != NGX_OK)
    {
        return NGX_HTTP_BAD_REQUEST;
    }

    len += host.len;

    has_host = 0;
    field = fields->elts;

    for (i = 0; i < fields->nelts; i++) {
        value = ngx_array_push(&values);
        if (value == NULL) {
            return NGX_ERROR;
        }

        if (ngx_http_complex_value(r, &field[i].value, value) != NGX_OK) {
            return NGX_ERROR;
        }

        if (!ngx_http_inverting_is_value(value)) {
            ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                          "control character in the value of "
                          "inverting_proxy_set_header \"%V\"",
                          &field[i].name);
            return NGX_HTTP_BAD_REQUEST;
        }

        if (field[i].lowcase.len == 4
            && ngx_strncmp(field[i].lowcase.data, "host", 4) == 0)
        {
            has_host = 1;
            host = *value;
        }

        len += field[i].name.len + sizeof(": " CRLF) - 1 + value->len;
    }

    /* nginx takes almost any bytes, over HTTP/2 none but these would pass */

    if (!nghttp2_check_authority(host.data, host.len)) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "client sent an invalid host");
        return NGX_HTTP_BAD_REQUEST;
    }

    p = ngx_http_inverting_head_room(len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    head->data = p;

    p = ngx_cpymem(p, r->method_name.data, r->method_name.len);
    *p++ = ' ';
    p = ngx_http_inverting_head_target(r, p);
    p = ngx_cpymem(p, " HTTP/1.1" CRLF, sizeof(" HTTP/1.1" CRLF) - 1);

    if (!has_host) {
        p = ngx_cpymem(p, "Host: ", sizeof("Host: ") - 1);
        p = ngx_cpymem(p, host.data, host.len);
        *p++ = CR; *p++ = LF;
    }

    value = values.elts;

    for (i = 0; i < fields->nelts; i++) {

        if (value[i].len == 0) {
            continue;
        }

        p = ngx_cpymem(p, field[i].name.data, field[i].name.len);
        *p++ = ':'; *p++ = ' ';
        p = ngx_cpymem(p, value[i].data, value[i].len);
        *p++ = CR; *p++ = LF;
    }

    if (body->length < 0) {
        p = ngx_cpymem(p, "Transfer-Encoding: chunked" CRLF,
                       sizeof("Transfer-Encoding: chunked" CRLF) - 1);

    } else if (body->length > 0 || r->headers_in.content_length_n == 0) {
        p = ngx_sprintf(p, "Content-Length: %O" CRLF, body->length);
    }

    if (trailers) {
        p = ngx_cpymem(p, "TE: trailers" CRLF,
                       sizeof("TE: trailers" CRLF) - 1);
    }

    part = &r->headers_in.headers.part;
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

        if (ngx_http_inverting_head_is_dropped(&h[i], fields, &connection)) {
            continue;
        }

        p = ngx_cpymem(p, h[i].key.data, h[i].key.len);
        *p++ = ':'; *p++ = ' ';
        p = ngx_cpymem(p, h[i].value.data, h[i].value.len);
        *p++ = CR; *p++ = LF;
    }

    *p++ = CR; *p++ = LF;

    head->len = p - head->data;

    return NGX_OK;
}


u_char *
ngx_http_inverting_head_room(size_t size)
{
    void  *p;

    if (size > ngx_http_inverting_head_size) {

        size = ngx_align(size, 16384);

        p = ngx_alloc(size, ngx_cycle->log);
        if (p == NULL) {
            return NULL;
        }

        if (ngx_http_inverting_head) {
            ngx_free(ngx_http_inverting_head);
        }

        ngx_http_inverting_head = p;
        ngx_http_inverting_head_size = size;
    }

    return ngx_http_inverting_head;
}


/*
 * By the authority of an absolute target nginx has found the server, and its
 * access rules: the field Host may be another one, and must not be passed on
 * (RFC 9112, 3.2.2), by "$http_host" neither.  nginx does not look at what is
 * behind the colon: in "public:@private" others may see another host.
 */

static ngx_int_t
ngx_http_inverting_head_host(ngx_http_request_t *r, ngx_str_t *host)
{
    u_char  *p, *last;

    if (r->main->host_start) {
        last = r->main->host_end;

        /* up to it only, but for HTTP/3 */

        if (*last == ':' && r->main->http_version <= NGX_HTTP_VERSION_11) {
            do {
                last++;
            } while (*last >= '0' && *last <= '9');
        }

        host->data = r->main->host_start;
        host->len = last - host->data;

        if (r->headers_in.host) {
            r->headers_in.host->value = *host;
        }

    } else if (r->headers_in.host) {
        *host = r->headers_in.host->value;

    } else {
        *host = r->headers_in.server;
    }

    p = host->data;
    last = p + host->len;

    if (host->len && *p == '[') {
        p = ngx_strlchr(p, last, ']');
    }

    p = p ? ngx_strlchr(p, last, ':') : NULL;

    while (p && ++p < last) {
        if (*p < '0' || *p > '9') {
            ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                          "client sent a host with an invalid port");
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* looks at the client's fields before they are written */

static ngx_int_t
ngx_http_inverting_head_scan(ngx_http_request_t *r, ngx_array_t *connection,
    size_t *len, ngx_uint_t *trailers)
{
    ngx_int_t                  rc;
    ngx_str_t                  token;
    ngx_uint_t                 i;
    ngx_list_part_t           *part;
    ngx_table_elt_t           *h;
    ngx_http_core_srv_conf_t  *cscf;

    *trailers = 0;

    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);

    part = &r->headers_in.headers.part;
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

        if (!ngx_http_inverting_is_value(&h[i].value)) {
            ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                          "client sent a control character in \"%V\"",
                          &h[i].key);
            return NGX_ERROR;
        }

        if (!cscf->ignore_invalid_headers
            && !ngx_http_inverting_is_token(&h[i].key))
        {
            ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                          "client sent an invalid field \"%V\"", &h[i].key);
            return NGX_ERROR;
        }

        *len += h[i].key.len + sizeof(": " CRLF) - 1 + h[i].value.len;

        if (h[i].key.len == sizeof("connection") - 1
            && ngx_strncmp(h[i].lowcase_key, "connection",
                           sizeof("connection") - 1)
               == 0)
        {
            rc = ngx_http_inverting_add_options(connection, &h[i].value);

            if (rc == NGX_DECLINED) {
                ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                              "client sent too many options in "
                              "\"Connection\"");
            }

            if (rc != NGX_OK) {
                return NGX_ERROR;
            }

        } else if (h[i].key.len == 2
                   && ngx_strncmp(h[i].lowcase_key, "te", 2) == 0)
        {
            ngx_str_set(&token, "trailers");
            *trailers |= ngx_http_inverting_has_token(&h[i].value, &token);
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_inverting_head_is_dropped(ngx_table_elt_t *h, ngx_array_t *fields,
    ngx_array_t *connection)
{
    ngx_str_t                    name, *s;
    ngx_uint_t                   i;
    ngx_http_inverting_field_t  *field;

    name.len = h->key.len;
    name.data = h->lowcase_key;

    if (ngx_http_inverting_is_hop_by_hop(&name)
        || ngx_http_inverting_is_ours(&name))
    {
        return 1;
    }

    for (s = ngx_http_inverting_rewritten; s->len; s++) {
        if (s->len == name.len
            && ngx_memcmp(s->data, name.data, name.len) == 0)
        {
            return 1;
        }
    }

    field = fields->elts;

    for (i = 0; i < fields->nelts; i++) {
        if (field[i].lowcase.len == name.len
            && ngx_memcmp(field[i].lowcase.data, name.data, name.len) == 0)
        {
            return 1;
        }
    }

    return ngx_http_inverting_is_option(connection, &name);
}


/* what the client sent was checked, what "set $args" made of it was not */

static ngx_int_t
ngx_http_inverting_head_check_args(ngx_http_request_t *r)
{
    size_t  i;

    if (r->valid_unparsed_uri) {
        return NGX_OK;
    }

    for (i = 0; i < r->args.len; i++) {

        if (r->args.data[i] <= 0x20 || r->args.data[i] == 0x7f) {
            ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                          "space or control character in the arguments");
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static u_char *
ngx_http_inverting_head_target(ngx_http_request_t *r, u_char *p)
{
    if (r->valid_unparsed_uri) {

        if (r->unparsed_uri.len == 0 || r->unparsed_uri.data[0] != '/') {
            *p++ = '/';
        }

        return ngx_cpymem(p, r->unparsed_uri.data, r->unparsed_uri.len);
    }

    p = (u_char *) ngx_escape_uri(p, r->uri.data, r->uri.len, NGX_ESCAPE_URI);

    if (r->args.len) {
        *p++ = '?';
        p = ngx_cpymem(p, r->args.data, r->args.len);
    }

    return p;
}
