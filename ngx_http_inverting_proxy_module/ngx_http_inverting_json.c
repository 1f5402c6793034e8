
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_json.h"


/* more than a record needs, less than would cost anything */
#define NGX_HTTP_INVERTING_JSON_DEPTH  4

/* of a name in the text of an error */
#define NGX_HTTP_INVERTING_NAME_MAX    64


static ngx_int_t ngx_http_inverting_json_scan(ngx_pool_t *pool,
    ngx_str_t *json, ngx_http_inverting_record_error_t *error);
static ngx_int_t ngx_http_inverting_json_syntax(ngx_pool_t *pool,
    ngx_str_t *json, size_t offset, ngx_http_inverting_record_error_t *error);
static ngx_int_t ngx_http_inverting_json_text(
    ngx_http_inverting_record_error_t *error, char *text);
static ngx_int_t ngx_http_inverting_utf8_next(u_char **p, u_char *last,
    uint32_t *u);


ngx_int_t
ngx_http_inverting_json_parse(ngx_pool_t *pool, ngx_str_t *json,
    cJSON **object, ngx_http_inverting_record_error_t *error)
{
    cJSON       *root;
    ngx_int_t    rc;
    const char  *end, *last;

    ngx_memzero(error, sizeof(ngx_http_inverting_record_error_t));

    rc = ngx_http_inverting_json_scan(pool, json, error);
    if (rc != NGX_OK) {
        return rc;
    }

    end = (char *) json->data;
    last = end + json->len;

    root = cJSON_ParseWithLengthOpts(end, json->len, &end, 0);

    if (root == NULL) {
        return ngx_http_inverting_json_syntax(pool, json,
                                              end - (char *) json->data,
                                              error);
    }

    /* the scan has left no other characters below the space */

    while (end < last && *end <= ' ') {
        end++;
    }

    if (end != last) {
        rc = ngx_http_inverting_json_syntax(pool, json,
                                            end - (char *) json->data, error);

    } else if (!cJSON_IsObject(root)) {
        rc = ngx_http_inverting_json_text(error, "must be a JSON object");

    } else {
        *object = root;
        return NGX_OK;
    }

    cJSON_Delete(root);

    return rc;
}


/*
 * What cJSON lets pass: control characters, bad UTF-8, an escaped zero, which
 * would end its strings, and nesting that takes a lot of stack.
 */

static ngx_int_t
ngx_http_inverting_json_scan(ngx_pool_t *pool, ngx_str_t *json,
    ngx_http_inverting_record_error_t *error)
{
    u_char      *p, *last, *start, ch;
    uint32_t     u;
    ngx_str_t    name, string;
    ngx_uint_t   depth;

    p = json->data;
    last = p + json->len;

    start = NULL;
    depth = 0;

    ngx_str_null(&name);
    ngx_str_null(&string);

    while (p < last) {
        ch = *p;

        if (start) {

            if (ch < 0x20) {
                return ngx_http_inverting_json_error(pool, &name,
                                   "must not have control characters", error);
            }

            if (ch == '"') {
                if (depth == 1) {
                    string.data = start;
                    string.len = p - start;
                }

                start = NULL;

            } else if (ch == '\\' && last - p > 1) {

                if (last - p > 5 && ngx_strncmp(p, "\\u0000", 6) == 0) {
                    return ngx_http_inverting_json_error(pool, &name,
                                   "must not have control characters", error);
                }

                p += (p[1] < 0x80) ? 2 : 1;
                continue;

            } else if (ch >= 0x80) {

                if (ngx_http_inverting_utf8_next(&p, last, &u) != NGX_OK) {
                    return ngx_http_inverting_json_error(pool, &name,
                                                "must be valid UTF-8", error);
                }

                continue;
            }

            p++;
            continue;
        }

        switch (ch) {

        case '"':
            start = p + 1;
            break;

        case '{':
        case '[':
            if (++depth > NGX_HTTP_INVERTING_JSON_DEPTH) {
                return ngx_http_inverting_json_error(pool, &name,
                                               "is nested too deeply", error);
            }

            break;

        case '}':
        case ']':
            if (depth == 0) {
                return ngx_http_inverting_json_syntax(pool, json,
                                                      p - json->data, error);
            }

            depth--;
            break;

        case ':':
            if (depth == 1) {
                name = string;
            }

            break;

        case ',':
            if (depth == 1) {
                ngx_str_null(&name);
            }

            break;

        case ' ':
        case '\t':
        case '\r':
        case '\n':
            break;

        default:
            if (ch < 0x20 || ch >= 0x7f) {
                return ngx_http_inverting_json_syntax(pool, json,
                                                      p - json->data, error);
            }
        }

        p++;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_json_error(ngx_pool_t *pool, ngx_str_t *name, char *text,
    ngx_http_inverting_record_error_t *error)
{
    size_t  len;

    (void) ngx_http_inverting_json_text(error, text);

    len = name->len;

    if (len > NGX_HTTP_INVERTING_NAME_MAX) {
        len = NGX_HTTP_INVERTING_NAME_MAX;

        /* not in the middle of a character */

        while (len && (name->data[len] & 0xc0) == 0x80) {
            len--;
        }
    }

    ngx_str_null(&error->name);

    if (len) {
        error->name.len = len;
        error->name.data = ngx_pnalloc(pool, len);
        if (error->name.data == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(error->name.data, name->data, len);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_inverting_json_syntax(ngx_pool_t *pool, ngx_str_t *json,
    size_t offset, ngx_http_inverting_record_error_t *error)
{
    u_char  *p;

    if (json->len == 0) {
        return ngx_http_inverting_json_text(error, "is empty");
    }

    p = ngx_pnalloc(pool, sizeof("is not valid JSON at byte ")
                          + NGX_SIZE_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(p, "is not valid JSON at byte %uz%Z",
                ngx_min(offset, json->len));

    return ngx_http_inverting_json_text(error, (char *) p);
}


/* an error of the text as a whole */

static ngx_int_t
ngx_http_inverting_json_text(ngx_http_inverting_record_error_t *error,
    char *text)
{
    ngx_memzero(error, sizeof(ngx_http_inverting_record_error_t));

    error->text.len = ngx_strlen(text);
    error->text.data = (u_char *) text;

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_inverting_json_string(ngx_pool_t *pool, cJSON *item, ngx_str_t *s)
{
    s->len = ngx_strlen(item->valuestring);

    /* not NULL where it is empty: the field is there */

    s->data = ngx_pnalloc(pool, s->len + 1);
    if (s->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(s->data, item->valuestring, s->len + 1);

    return NGX_OK;
}


char *
ngx_http_inverting_string_error(ngx_str_t *s, size_t max)
{
    u_char    *p, *last;
    uint32_t   u;

    if (s->data == NULL) {
        return "is required";
    }

    if (s->len == 0) {
        return "must not be empty";
    }

    if (s->len > max) {
        return "must not have more than 256 bytes";
    }

    p = s->data;
    last = p + s->len;

    while (p < last) {

        if (ngx_http_inverting_utf8_next(&p, last, &u) != NGX_OK) {
            return "must be valid UTF-8";
        }

        if (u < 0x20 || (u >= 0x7f && u < 0xa0)) {
            return "must not have control characters";
        }
    }

    return NULL;
}


/* stricter than ngx_utf8_decode(), which takes surrogates, and 0xf8 to 0xff */

static ngx_int_t
ngx_http_inverting_utf8_next(u_char **p, u_char *last, uint32_t *u)
{
    u_char  ch;

    ch = **p;

    if (ch < 0x80) {
        (*p)++;
        *u = ch;
        return NGX_OK;
    }

    if (ch > 0xf4) {
        return NGX_ERROR;
    }

    *u = ngx_utf8_decode(p, last - *p);

    if (*u > 0x10ffff || (*u >= 0xd800 && *u <= 0xdfff)) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


u_char *
ngx_http_inverting_json_write(u_char *p, ngx_str_t *s)
{
    *p++ = '"';
    p = (u_char *) ngx_escape_json(p, s->data, s->len);
    *p++ = '"';

    return p;
}


size_t
ngx_http_inverting_json_len(ngx_str_t *s)
{
    return 2 + s->len + (size_t) ngx_escape_json(NULL, s->data, s->len);
}
