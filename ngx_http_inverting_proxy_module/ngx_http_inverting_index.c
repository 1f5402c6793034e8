
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_index.h"


static ngx_http_inverting_indexed_t *ngx_http_inverting_index_find(
    ngx_http_inverting_index_t *index, uint32_t at, uint32_t hash);


#define ngx_http_inverting_index_bucket(index, hash)                          \
    (&(index)->buckets[ngx_http_inverting_index_part(hash, (index)->n)])

/* the bucket is of the upper bits */
#define ngx_http_inverting_index_bit(hash)  ((uint32_t) 1 << ((hash) & 31))

#define ngx_http_inverting_index_at(index, thing)                             \
    ((uint32_t) (((u_char *) (thing) - (index)->base) >> 3))

#define ngx_http_inverting_index_thing(index, at)                             \
    ((ngx_http_inverting_indexed_t *) ((index)->base + ((size_t) (at) << 3)))


void
ngx_http_inverting_index_init(ngx_http_inverting_index_t *index, u_char *base,
    void *p, uint32_t n)
{
    index->base = base;
    index->buckets = p;
    index->n = n;

    ngx_http_inverting_index_reset(index);
}


void
ngx_http_inverting_index_reset(ngx_http_inverting_index_t *index)
{
    ngx_memzero(index->buckets, ngx_http_inverting_index_size(index->n));
}


void
ngx_http_inverting_index_insert(ngx_http_inverting_index_t *index,
    ngx_http_inverting_indexed_t *thing, uint32_t hash)
{
    ngx_http_inverting_bucket_t  *bucket;

    bucket = ngx_http_inverting_index_bucket(index, hash);

    thing->hash = hash;
    thing->next = bucket->first;

    bucket->first = ngx_http_inverting_index_at(index, thing);
    bucket->filter |= ngx_http_inverting_index_bit(hash);
}


void
ngx_http_inverting_index_delete(ngx_http_inverting_index_t *index,
    ngx_http_inverting_indexed_t *thing)
{
    uint32_t                      *link, at;
    ngx_http_inverting_bucket_t   *bucket;
    ngx_http_inverting_indexed_t  *other;

    bucket = ngx_http_inverting_index_bucket(index, thing->hash);
    at = ngx_http_inverting_index_at(index, thing);

    bucket->filter = 0;

    for (link = &bucket->first; *link; /* void */ ) {

        if (*link == at) {
            *link = thing->next;
            continue;
        }

        other = ngx_http_inverting_index_thing(index, *link);

        bucket->filter |= ngx_http_inverting_index_bit(other->hash);
        link = &other->next;
    }
}


ngx_http_inverting_indexed_t *
ngx_http_inverting_index_first(ngx_http_inverting_index_t *index,
    uint32_t hash)
{
    ngx_http_inverting_bucket_t  *bucket;

    bucket = ngx_http_inverting_index_bucket(index, hash);

    if (!(bucket->filter & ngx_http_inverting_index_bit(hash))) {
        return NULL;
    }

    return ngx_http_inverting_index_find(index, bucket->first, hash);
}


ngx_http_inverting_indexed_t *
ngx_http_inverting_index_next(ngx_http_inverting_index_t *index,
    ngx_http_inverting_indexed_t *thing)
{
    return ngx_http_inverting_index_find(index, thing->next, thing->hash);
}


static ngx_http_inverting_indexed_t *
ngx_http_inverting_index_find(ngx_http_inverting_index_t *index, uint32_t at,
    uint32_t hash)
{
    ngx_http_inverting_indexed_t  *thing;

    while (at) {
        thing = ngx_http_inverting_index_thing(index, at);

        if (thing->hash == hash) {
            return thing;
        }

        at = thing->next;
    }

    return NULL;
}
