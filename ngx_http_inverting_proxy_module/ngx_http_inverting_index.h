
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_INDEX_H_INCLUDED_
#define _NGX_HTTP_INVERTING_INDEX_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * An index by hash, in the registry's memory: chains of what is in it.  A
 * bucket also tells which hashes can be in its chain, so that for one that
 * is not nothing but the bucket is read, as a rule.  The zone's lock must be
 * held.
 */


/* what a thing in the index has in it, aligned to 8 bytes */

typedef struct {
    uint32_t                       hash;
    uint32_t                       next;
} ngx_http_inverting_indexed_t;


/* things are told by their distance from "base", in units of 8 bytes */

typedef struct {
    uint32_t                       first;      /* 0: none */
    uint32_t                       filter;     /* a bit for some hashes each */
} ngx_http_inverting_bucket_t;


typedef struct {
    u_char                        *base;
    ngx_http_inverting_bucket_t   *buckets;
    uint32_t                       n;
} ngx_http_inverting_index_t;


/* so far from "base" a thing may be */
#define NGX_HTTP_INVERTING_INDEX_MAX  ((uint64_t) 8 << 32)

#define ngx_http_inverting_index_size(n)                                      \
    ((n) * sizeof(ngx_http_inverting_bucket_t))


/* an empty one of n buckets, in memory of ..._index_size() after "base" */
void ngx_http_inverting_index_init(ngx_http_inverting_index_t *index,
    u_char *base, void *p, uint32_t n);

/* makes it empty again */
void ngx_http_inverting_index_reset(ngx_http_inverting_index_t *index);

void ngx_http_inverting_index_insert(ngx_http_inverting_index_t *index,
    ngx_http_inverting_indexed_t *thing, uint32_t hash);
void ngx_http_inverting_index_delete(ngx_http_inverting_index_t *index,
    ngx_http_inverting_indexed_t *thing);

/* the things with this hash, one after the other; NULL: no more */
ngx_http_inverting_indexed_t *ngx_http_inverting_index_first(
    ngx_http_inverting_index_t *index, uint32_t hash);
ngx_http_inverting_indexed_t *ngx_http_inverting_index_next(
    ngx_http_inverting_index_t *index, ngx_http_inverting_indexed_t *thing);

/* which of n parts of a table a hash belongs to */
#define ngx_http_inverting_index_part(hash, n)                                \
    ((uint32_t) (((uint64_t) (hash) * (n)) >> 32))


#endif /* _NGX_HTTP_INVERTING_INDEX_H_INCLUDED_ */
