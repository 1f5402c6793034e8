
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_UNITS_H_INCLUDED_
#define _NGX_HTTP_INVERTING_UNITS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Memory of the registry, cut in units, with a bitmap of those that are taken.
 * This is not a slab pool, because one whose change was cut short can't be put
 * right without moving what is in it: the bitmap follows from what is there.
 * The zone's lock must be held.
 */


typedef struct {
    u_char      *start;
    ngx_uint_t   n;
    ngx_uint_t   used;
    ngx_uint_t   hint;        /* where to search next */
    uint64_t    *map;
} ngx_http_inverting_units_t;


#define NGX_HTTP_INVERTING_UNIT_SHIFT  6
#define NGX_HTTP_INVERTING_UNIT        (1 << NGX_HTTP_INVERTING_UNIT_SHIFT)


/* cuts the memory; NGX_ERROR: it is too small */
ngx_int_t ngx_http_inverting_units_init(ngx_http_inverting_units_t *units,
    u_char *p, size_t size);

/* NULL: there is no room for it, which is not logged */
void *ngx_http_inverting_units_alloc(ngx_http_inverting_units_t *units,
    size_t size);
void ngx_http_inverting_units_free(ngx_http_inverting_units_t *units, void *p,
    size_t size);

/* whether none of it is taken */
ngx_uint_t ngx_http_inverting_units_are_free(
    ngx_http_inverting_units_t *units, void *p, size_t size);

/* to make the bitmap anew: frees all; takes what is there */
void ngx_http_inverting_units_reset(ngx_http_inverting_units_t *units);
void ngx_http_inverting_units_take(ngx_http_inverting_units_t *units, void *p,
    size_t size);


#endif /* _NGX_HTTP_INVERTING_UNITS_H_INCLUDED_ */
