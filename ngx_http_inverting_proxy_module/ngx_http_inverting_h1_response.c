
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_fields.h"
#include "ngx_http_inverting_h1.h"


/* the largest head of a response */
#define NGX_HTTP_INVERTING_H1_HEAD_MAX  65536


static ngx_int_t ngx_http_inverting_h1_parse_head(
    ngx_http_inverting_h1_t *h1);
static ngx_int_t ngx_http_inverting_h1_field(ngx_http_inverting_h1_t *h1,
    ngx_str_t *name, ngx_str_t *value, ngx_uint_t *chunked);


size_t
ngx_http_inverting_h1_read_head(ngx_http_inverting_h1_t *h1, u_char *buf,
    size_t size)
{
    u_char  *p;
    size_t   n, len;

    p = ngx_strlchr(buf, buf + size, LF);
    n = p ? (size_t) (p + 1 - buf) : size;

    if (h1->head_len + n > NGX_HTTP_INVERTING_H1_HEAD_MAX) {
        ngx_http_inverting_h1_bad(h1, "too large a head");
        return size;
    }

    if (h1->head_len + n > h1->head_size) {

        len = ngx_max(h1->head_size, 1024);

        while (len < h1->head_len + n) {
            len *= 2;
        }

        p = ngx_palloc(h1->pool, len);
        if (p == NULL) {
            h1->ptth->failed = "there is no memory";
            return size;
        }

        ngx_memcpy(p, h1->head, h1->head_len);

        h1->head = p;
        h1->head_size = len;
    }

    ngx_memcpy(h1->head + h1->head_len, buf, n);
    h1->head_len += n;

    if (h1->head_len >= 4
        && ngx_memcmp(h1->head + h1->head_len - 4, CRLF CRLF, 4) == 0
        && ngx_http_inverting_h1_parse_head(h1) != NGX_OK)
    {
        ngx_http_inverting_h1_bad(h1, "no HTTP response");
    }

    return n;
}


/*
 * Only what tells where the response ends, and that strictly; the client side
 * looks at all of it.
 */

static ngx_int_t
ngx_http_inverting_h1_parse_head(ngx_http_inverting_h1_t *h1)
{
    u_char      *p, *last, *end, *colon;
    ngx_int_t    status;
    ngx_str_t    name, value;
    ngx_uint_t   chunked;

    p = h1->head;
    last = h1->head + h1->head_len;

    if (h1->head_len < sizeof("HTTP/1.1 200" CRLF CRLF) - 1
        || ngx_memcmp(p, "HTTP/1.", 7) != 0
        || p[8] != ' ')
    {
        return NGX_ERROR;
    }

    status = ngx_atoi(p + 9, 3);

    if (status < 100 || (p[12] != ' ' && p[12] != CR)) {
        return NGX_ERROR;
    }

    h1->last |= (p[7] == '0');
    h1->left = -1;
    chunked = 0;

    p = ngx_strlchr(p, last, LF) + 1;

    for ( /* void */ ; last - p > 2; p = end + 1) {

        end = ngx_strlchr(p, last, LF);
        colon = ngx_strlchr(p, end, ':');

        if (end[-1] != CR || colon == NULL) {
            return NGX_ERROR;
        }

        name.data = p;
        name.len = colon - p;

        value.data = colon + 1;
        value.len = end - 1 - value.data;

        ngx_http_inverting_trim(&value);

        if (!ngx_http_inverting_is_token(&name)
            || !ngx_http_inverting_is_value(&value)
            || ngx_http_inverting_h1_field(h1, &name, &value, &chunked)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (chunked && h1->left >= 0) {
        return NGX_ERROR;
    }

    if (status == NGX_HTTP_SWITCHING_PROTOCOLS) {

        if (!h1->tunnel) {
            return NGX_ERROR;
        }

        h1->state = ngx_http_inverting_h1_close;

    } else if (status < 200) {
        h1->head_len = 0;
        return NGX_OK;

    } else if (h1->bodiless
               || status == NGX_HTTP_NO_CONTENT
               || status == NGX_HTTP_NOT_MODIFIED
               || h1->left == 0)
    {
        h1->state = ngx_http_inverting_h1_done;

    } else if (chunked) {
        h1->state = ngx_http_inverting_h1_chunked;
        ngx_http_inverting_chunked_init(&h1->chunked,
                                        NGX_HTTP_INVERTING_H1_HEAD_MAX);

    } else if (h1->left > 0) {
        h1->state = ngx_http_inverting_h1_length;

    } else {
        h1->state = ngx_http_inverting_h1_close;
    }

    ngx_http_inverting_h1_write(h1, h1->head, h1->head_len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_h1_field(ngx_http_inverting_h1_t *h1, ngx_str_t *name,
    ngx_str_t *value, ngx_uint_t *chunked)
{
    off_t        n;
    ngx_str_t    close;

    if (name->len == sizeof("content-length") - 1
        && ngx_strncasecmp(name->data, (u_char *) "content-length",
                           name->len) == 0)
    {
        n = ngx_atoof(value->data, value->len);

        if (n == NGX_ERROR || (h1->left >= 0 && h1->left != n)) {
            return NGX_ERROR;
        }

        h1->left = n;

    } else if (name->len == sizeof("transfer-encoding") - 1
               && ngx_strncasecmp(name->data, (u_char *) "transfer-encoding",
                                  name->len) == 0)
    {
        if (*chunked
            || value->len != sizeof("chunked") - 1
            || ngx_strncasecmp(value->data, (u_char *) "chunked", value->len)
               != 0)
        {
            return NGX_ERROR;
        }

        *chunked = 1;

    } else if (name->len == sizeof("connection") - 1
               && ngx_strncasecmp(name->data, (u_char *) "connection",
                                  name->len) == 0)
    {
        ngx_str_set(&close, "close");

        h1->last |= ngx_http_inverting_has_token(value, &close);
    }

    return NGX_OK;
}


size_t
ngx_http_inverting_h1_body(ngx_http_inverting_h1_t *h1, u_char *buf,
    size_t size)
{
    u_char     *p;
    ngx_int_t   rc;
    ngx_str_t   piece;

    if (h1->state == ngx_http_inverting_h1_length) {
        size = ngx_min((off_t) size, h1->left);
        h1->left -= size;

        if (h1->left == 0) {
            h1->state = ngx_http_inverting_h1_done;
        }

    } else if (h1->state == ngx_http_inverting_h1_chunked) {

        p = buf;

        do {
            rc = ngx_http_inverting_chunked_parse(&h1->chunked, h1->pool, &p,
                                                  buf + size, &piece);
        } while (rc == NGX_OK);

        if (rc == NGX_ERROR) {
            ngx_http_inverting_h1_bad(h1, "an invalid chunked body");
            return size;
        }

        size = p - buf;

        if (rc == NGX_DONE) {
            h1->state = ngx_http_inverting_h1_done;
        }
    }

    ngx_http_inverting_h1_write(h1, buf, size);

    return size;
}
