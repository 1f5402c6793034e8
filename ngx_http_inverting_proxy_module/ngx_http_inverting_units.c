
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_units.h"


#define NGX_HTTP_INVERTING_NO_UNIT  ((ngx_uint_t) -1)


static ngx_uint_t ngx_http_inverting_units_find(
    ngx_http_inverting_units_t *units, ngx_uint_t from, ngx_uint_t to,
    ngx_uint_t n);
static void ngx_http_inverting_units_mark(ngx_http_inverting_units_t *units,
    void *p, ngx_uint_t n, ngx_uint_t used);


#define ngx_http_inverting_nunits(size)                                       \
    (((size) + NGX_HTTP_INVERTING_UNIT - 1) >> NGX_HTTP_INVERTING_UNIT_SHIFT)

#define ngx_http_inverting_nwords(n)  ((n) / 64 + 1)


ngx_int_t
ngx_http_inverting_units_init(ngx_http_inverting_units_t *units, u_char *p,
    size_t size)
{
    size_t   map;
    u_char  *start;

    map = ngx_http_inverting_nwords(size >> NGX_HTTP_INVERTING_UNIT_SHIFT)
          * sizeof(uint64_t);

    if (size < map + 2 * NGX_HTTP_INVERTING_UNIT) {
        return NGX_ERROR;
    }

    start = ngx_align_ptr(p + map, NGX_HTTP_INVERTING_UNIT);

    units->start = start;
    units->n = (p + size - start) >> NGX_HTTP_INVERTING_UNIT_SHIFT;
    units->map = (uint64_t *) p;

    ngx_http_inverting_units_reset(units);

    return NGX_OK;
}


void *
ngx_http_inverting_units_alloc(ngx_http_inverting_units_t *units, size_t size)
{
    u_char      *p;
    ngx_uint_t   n, unit;

    n = ngx_http_inverting_nunits(size);

    if (units->n - units->used < n) {
        return NULL;
    }

    unit = ngx_http_inverting_units_find(units, units->hint, units->n, n);

    if (unit == NGX_HTTP_INVERTING_NO_UNIT) {
        unit = ngx_http_inverting_units_find(units, 0,
                                     ngx_min(units->hint + n, units->n), n);
    }

    if (unit == NGX_HTTP_INVERTING_NO_UNIT) {
        return NULL;
    }

    units->hint = unit + n;

    p = units->start + (unit << NGX_HTTP_INVERTING_UNIT_SHIFT);

    ngx_http_inverting_units_mark(units, p, n, 1);

    return p;
}


static ngx_uint_t
ngx_http_inverting_units_find(ngx_http_inverting_units_t *units,
    ngx_uint_t from, ngx_uint_t to, ngx_uint_t n)
{
    uint64_t    word;
    ngx_uint_t  unit, end;

    unit = from;

    while (unit + n <= to) {

        /* the next one that is free */

        word = ~units->map[unit / 64] >> (unit % 64);

        if (word == 0) {
            unit = (unit / 64 + 1) * 64;
            continue;
        }

        unit += __builtin_ctzll(word);

        /* the next one after it that is not */

        end = unit + 1;

        while (end < unit + n) {
            word = units->map[end / 64] >> (end % 64);

            if (word) {
                end += __builtin_ctzll(word);
                break;
            }

            end = (end / 64 + 1) * 64;
        }

        if (end >= unit + n && unit + n <= to) {
            return unit;
        }

        unit = end;
    }

    return NGX_HTTP_INVERTING_NO_UNIT;
}


void
ngx_http_inverting_units_free(ngx_http_inverting_units_t *units, void *p,
    size_t size)
{
    ngx_http_inverting_units_mark(units, p, ngx_http_inverting_nunits(size),
                                  0);
}


ngx_uint_t
ngx_http_inverting_units_are_free(ngx_http_inverting_units_t *units, void *p,
    size_t size)
{
    ngx_uint_t  n, unit;

    n = ngx_http_inverting_nunits(size);
    unit = ((u_char *) p - units->start) >> NGX_HTTP_INVERTING_UNIT_SHIFT;

    return ngx_http_inverting_units_find(units, unit, unit + n, n) == unit;
}


void
ngx_http_inverting_units_reset(ngx_http_inverting_units_t *units)
{
    ngx_memzero(units->map,
                ngx_http_inverting_nwords(units->n) * sizeof(uint64_t));

    units->used = 0;
    units->hint = 0;
}


void
ngx_http_inverting_units_take(ngx_http_inverting_units_t *units, void *p,
    size_t size)
{
    ngx_http_inverting_units_mark(units, p, ngx_http_inverting_nunits(size),
                                  1);
}


static void
ngx_http_inverting_units_mark(ngx_http_inverting_units_t *units, void *p,
    ngx_uint_t n, ngx_uint_t used)
{
    uint64_t    mask;
    ngx_uint_t  unit, k;

    unit = ((u_char *) p - units->start) >> NGX_HTTP_INVERTING_UNIT_SHIFT;

    if (used) {
        units->used += n;

    } else {
        units->used -= n;
    }

    while (n) {
        k = ngx_min(n, 64 - unit % 64);

        mask = (((uint64_t) -1) >> (64 - k)) << (unit % 64);

        if (used) {
            units->map[unit / 64] |= mask;

        } else {
            units->map[unit / 64] &= ~mask;
        }

        unit += k;
        n -= k;
    }
}
