
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_chunked.h"
#include "ngx_http_inverting_fields.h"


#define NGX_HTTP_INVERTING_SIZE_DIGITS    15
#define NGX_HTTP_INVERTING_EXTENSIONS     4096


enum {
    sw_size = 0,
    sw_extension,
    sw_size_lf,
    sw_data,
    sw_data_cr,
    sw_data_lf,
    sw_trailer_start,
    sw_trailer,
    sw_trailer_lf,
    sw_end_lf,
    sw_done
};


static ngx_int_t ngx_http_inverting_chunked_keep(
    ngx_http_inverting_chunked_t *ck, ngx_pool_t *pool, u_char ch);


void
ngx_http_inverting_chunked_init(ngx_http_inverting_chunked_t *ck, size_t max)
{
    ngx_memzero(ck, sizeof(ngx_http_inverting_chunked_t));

    ck->state = sw_size;
    ck->trailers_max = max;
}


ngx_int_t
ngx_http_inverting_chunked_parse(ngx_http_inverting_chunked_t *ck,
    ngx_pool_t *pool, u_char **pos, u_char *last, ngx_str_t *data)
{
    u_char  *p, ch, c;

    for (p = *pos; p < last; p++) {
        ch = *p;

        switch (ck->state) {

        case sw_size:
            c = ch | 0x20;

            if ((ch >= '0' && ch <= '9') || (c >= 'a' && c <= 'f')) {

                if (++ck->digits > NGX_HTTP_INVERTING_SIZE_DIGITS) {
                    return NGX_ERROR;
                }

                ck->size = ck->size * 16
                           + (ch <= '9' ? ch - '0' : c - 'a' + 10);
                break;
            }

            if (ck->digits == 0) {
                return NGX_ERROR;
            }

            if (ch == CR) {
                ck->state = sw_size_lf;
                break;
            }

            if (ch != ';') {
                return NGX_ERROR;
            }

            ck->state = sw_extension;
            break;

        case sw_extension:
            if (ch == CR) {
                ck->state = sw_size_lf;
                break;
            }

            if ((ch < 0x20 && ch != '\t') || ch == 0x7f
                || ++ck->skipped > NGX_HTTP_INVERTING_EXTENSIONS)
            {
                return NGX_ERROR;
            }

            break;

        case sw_size_lf:
            if (ch != LF) {
                return NGX_ERROR;
            }

            ck->digits = 0;
            ck->skipped = 0;
            ck->state = ck->size ? sw_data : sw_trailer_start;
            break;

        case sw_data:
            data->data = p;
            data->len = ngx_min(ck->size, (uint64_t) (last - p));

            ck->size -= data->len;

            if (ck->size == 0) {
                ck->state = sw_data_cr;
            }

            *pos = p + data->len;
            return NGX_OK;

        case sw_data_cr:
            if (ch != CR) {
                return NGX_ERROR;
            }

            ck->state = sw_data_lf;
            break;

        case sw_data_lf:
            if (ch != LF) {
                return NGX_ERROR;
            }

            ck->state = sw_size;
            break;

        case sw_trailer_start:
            if (ch == CR) {
                ck->state = sw_end_lf;
                break;
            }

            ck->state = sw_trailer;
            /* fall through */

        case sw_trailer:
            if (ch == LF
                || ngx_http_inverting_chunked_keep(ck, pool, ch) != NGX_OK)
            {
                return NGX_ERROR;
            }

            if (ch == CR) {
                ck->state = sw_trailer_lf;
            }

            break;

        case sw_trailer_lf:
            if (ch != LF
                || ngx_http_inverting_chunked_keep(ck, pool, ch) != NGX_OK)
            {
                return NGX_ERROR;
            }

            ck->state = sw_trailer_start;
            break;

        case sw_end_lf:
            if (ch != LF) {
                return NGX_ERROR;
            }

            ck->state = sw_done;
            *pos = p + 1;
            return NGX_DONE;

        default: /* sw_done */
            *pos = p;
            return NGX_DONE;
        }
    }

    *pos = last;

    return (ck->state == sw_done) ? NGX_DONE : NGX_AGAIN;
}


static ngx_int_t
ngx_http_inverting_chunked_keep(ngx_http_inverting_chunked_t *ck,
    ngx_pool_t *pool, u_char ch)
{
    if (ck->trailers == NULL) {
        ck->trailers = ngx_pnalloc(pool, ck->trailers_max);
        if (ck->trailers == NULL) {
            return NGX_ERROR;
        }
    }

    if (ck->trailers_len == ck->trailers_max) {
        return NGX_ERROR;
    }

    ck->trailers[ck->trailers_len++] = ch;

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_chunked_trailer(ngx_http_inverting_chunked_t *ck,
    size_t *offset, ngx_str_t *name, ngx_str_t *value)
{
    u_char  *p, *colon, *end, *last;

    p = ck->trailers + *offset;
    last = ck->trailers + ck->trailers_len;

    if (p == last) {
        return NGX_DONE;
    }

    end = ngx_strlchr(p, last, CR);
    colon = ngx_strlchr(p, end, ':');

    if (colon == NULL) {
        return NGX_ERROR;
    }

    name->data = p;
    name->len = colon - p;

    *offset = end + 2 - ck->trailers;

    value->data = colon + 1;
    value->len = end - value->data;

    ngx_http_inverting_trim(value);

    if (!ngx_http_inverting_is_token(name)
        || !ngx_http_inverting_is_value(value))
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}
