
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_store.h"
#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_keys.h"
#include "ngx_http_inverting_rooms.h"


static ngx_uint_t ngx_http_inverting_record_equal(
    ngx_http_inverting_record_t *one, ngx_http_inverting_record_t *two);
static size_t ngx_http_inverting_block_size(
    ngx_http_inverting_record_t *record);
static ngx_http_inverting_block_t *ngx_http_inverting_block_make(
    ngx_http_inverting_registry_sh_t *sh, ngx_http_inverting_record_t *record,
    ngx_http_inverting_room_t *room);
static ngx_http_inverting_backend_t *ngx_http_inverting_backend_make(
    ngx_http_inverting_registry_sh_t *sh, ngx_http_inverting_block_t *block,
    ngx_http_inverting_room_t *room);
static void ngx_http_inverting_backend_reset(
    ngx_http_inverting_backend_t *backend);
static void ngx_http_inverting_backend_link(
    ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_backend_t *backend);
static void ngx_http_inverting_backend_remove(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend);
static void ngx_http_inverting_backend_free(
    ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_backend_t *backend);

static void ngx_http_inverting_id_insert_value(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);


#define ngx_http_inverting_node_backend(n)                                    \
    (ngx_rbtree_data(n, ngx_http_inverting_backend_t, node))

#define ngx_http_inverting_backend_size(b)                                    \
    (sizeof(ngx_http_inverting_backend_t) + (b)->id.len)


ngx_int_t
ngx_http_inverting_registry_init(ngx_http_inverting_zone_t *zone)
{
    u_char                            *p, *end;
    size_t                             size;
    uint32_t                           n;
    ngx_http_inverting_registry_sh_t  *sh;

    /* a slab pool could not be put right after a change that was cut short */

    size = zone->registry_pool->pfree * ngx_pagesize;

    p = ngx_slab_alloc_locked(zone->registry_pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    end = p + size;
    sh = (ngx_http_inverting_registry_sh_t *) p;

    ngx_memzero(sh, sizeof(ngx_http_inverting_registry_sh_t));
    p += sizeof(ngx_http_inverting_registry_sh_t);

    /* a backend takes seven units or more */

    n = size / (8 * NGX_HTTP_INVERTING_UNIT);

    ngx_http_inverting_index_init(&sh->index, (u_char *) sh, p, n);
    p += ngx_http_inverting_index_size(n);

    ngx_http_inverting_routes_init(&sh->routes, (u_char *) sh, p, n);
    p += ngx_http_inverting_routes_size(n);

    if (ngx_http_inverting_units_init(&sh->units, p, end - p) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_rbtree_init(&sh->ids, &sh->ids_sentinel, NULL);
    ngx_rbtree_init(&sh->keys, &sh->keys_sentinel, NULL);

    zone->sh->registry = sh;

    return NGX_OK;
}


ngx_http_inverting_backend_t *
ngx_http_inverting_registry_find_locked(ngx_http_inverting_zone_t *zone,
    ngx_str_t *id)
{
    ngx_http_inverting_indexed_t      *thing;
    ngx_http_inverting_backend_t      *backend;
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    for (thing = ngx_http_inverting_index_first(&sh->index,
                                        ngx_murmur_hash2(id->data, id->len));
         thing;
         thing = ngx_http_inverting_index_next(&sh->index, thing))
    {
        backend = (ngx_http_inverting_backend_t *) thing;

        if (ngx_http_inverting_str_cmp(id, &backend->id) == 0) {
            return backend;
        }
    }

    return NULL;
}


ngx_http_inverting_backend_t *
ngx_http_inverting_registry_next_locked(ngx_http_inverting_zone_t *zone,
    ngx_str_t *id)
{
    ngx_rbtree_node_t                 *node, *sentinel;
    ngx_http_inverting_backend_t      *backend, *next;
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    node = sh->ids.root;
    sentinel = sh->ids.sentinel;
    next = NULL;

    while (node != sentinel) {
        backend = ngx_http_inverting_node_backend(node);

        if (ngx_http_inverting_str_cmp(id, &backend->id) < 0) {
            next = backend;
            node = node->left;

        } else {
            node = node->right;
        }
    }

    return next;
}


ngx_http_inverting_backend_t *
ngx_http_inverting_registry_lookup_locked(ngx_http_inverting_zone_t *zone,
    ngx_str_t *user, ngx_str_t *path, ngx_msec_t backend_timeout)
{
    ngx_http_inverting_backend_t      *backend;
    ngx_http_inverting_registry_sh_t  *sh;

    static ngx_str_t  all = ngx_string(NGX_HTTP_INVERTING_ALL_USERS);

    sh = zone->sh->registry;

    if (user->len) {
        backend = ngx_http_inverting_routes_match(&sh->routes, user, path,
                                                  backend_timeout);
        if (backend) {
            return backend;
        }
    }

    return ngx_http_inverting_routes_match(&sh->routes, &all, path,
                                           backend_timeout);
}


ngx_uint_t
ngx_http_inverting_registry_allowed(ngx_http_inverting_backend_t *backend,
    ngx_str_t *user)
{
    ngx_str_t  *end_user;

    static ngx_str_t  all = ngx_string(NGX_HTTP_INVERTING_ALL_USERS);

    end_user = &backend->record->end_user;

    return ngx_http_inverting_str_cmp(end_user, &all) == 0
           || ngx_http_inverting_str_cmp(end_user, user) == 0;
}


ngx_int_t
ngx_http_inverting_registry_set_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_record_t *record, ngx_http_inverting_room_t *room)
{
    ngx_http_inverting_block_t        *block, *old;
    ngx_http_inverting_backend_t      *backend;
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    backend = ngx_http_inverting_registry_find_locked(zone, &record->id);

    if (backend) {
        if (backend->record->configured && !record->configured) {
            return NGX_DECLINED;
        }

        /* whoever says so once more expects its agent from now on */
        backend->expected = ngx_current_msec;

        if (ngx_http_inverting_record_equal(backend->record, record)) {
            return NGX_OK;
        }
    }

    block = ngx_http_inverting_block_make(sh, record, room);
    if (block == NULL) {
        return NGX_ERROR;
    }

    if (backend == NULL) {
        backend = ngx_http_inverting_backend_make(sh, block, room);

        if (backend == NULL) {
            ngx_http_inverting_units_free(&sh->units, block, block->size);
            return NGX_ERROR;
        }

        /* from here on it exists */
        __atomic_store_n(&sh->first, backend, __ATOMIC_RELEASE);

        if (backend->next) {
            backend->next->prev = backend;
        }

        ngx_http_inverting_backend_link(sh, backend);

        return NGX_OK;
    }

    old = ngx_http_inverting_record_block(backend->record);

    /* first, so that a new agent's record never has an old agent's polls */

    if (ngx_http_inverting_str_cmp(&old->record.backend_user,
                                   &record->backend_user)
        != 0)
    {
        ngx_http_inverting_backend_end_locked(zone, backend);
        backend->last_present = 0;
    }

    ngx_http_inverting_routes_remove(&sh->routes, backend);

    block->record.id = backend->id;
    block->backend = backend;

    __atomic_store_n(&backend->record, &block->record, __ATOMIC_RELEASE);

    ngx_http_inverting_routes_add(&sh->routes, backend);

    sh->nconfigured += record->configured;
    sh->nconfigured -= old->record.configured;

    ngx_http_inverting_units_free(&sh->units, old, old->size);

    return NGX_OK;
}


static ngx_uint_t
ngx_http_inverting_record_equal(ngx_http_inverting_record_t *one,
    ngx_http_inverting_record_t *two)
{
    ngx_uint_t  i;

    if (one->configured != two->configured
        || one->nprefixes != two->nprefixes
        || ngx_http_inverting_str_cmp(&one->end_user, &two->end_user) != 0
        || ngx_http_inverting_str_cmp(&one->backend_user, &two->backend_user)
           != 0)
    {
        return 0;
    }

    for (i = 0; i < one->nprefixes; i++) {
        if (ngx_http_inverting_str_cmp(&one->prefixes[i], &two->prefixes[i])
            != 0)
        {
            return 0;
        }
    }

    return 1;
}


static size_t
ngx_http_inverting_block_size(ngx_http_inverting_record_t *record)
{
    size_t      size;
    ngx_uint_t  i, n;

    n = record->nprefixes;

    size = offsetof(ngx_http_inverting_block_t, routes)
           + n * (sizeof(ngx_http_inverting_route_t) + sizeof(ngx_str_t))
           + record->end_user.len + record->backend_user.len;

    for (i = 0; i < n; i++) {
        size += record->prefixes[i].len;
    }

    return size;
}


static ngx_http_inverting_block_t *
ngx_http_inverting_block_make(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_record_t *record, ngx_http_inverting_room_t *room)
{
    size_t                        size;
    u_char                       *p;
    ngx_uint_t                    i, n;
    ngx_http_inverting_block_t   *block;
    ngx_http_inverting_record_t  *copy;

    n = record->nprefixes;

    size = ngx_http_inverting_block_size(record);

    block = ngx_http_inverting_room_alloc_locked(sh, room, &record->id, size);
    if (block == NULL) {
        return NULL;
    }

    block->size = size;

    copy = &block->record;

    *copy = *record;

    p = (u_char *) &block->routes[n];

    copy->prefixes = (ngx_str_t *) p;
    p += n * sizeof(ngx_str_t);

    copy->end_user.data = p;
    p = ngx_cpymem(p, record->end_user.data, record->end_user.len);

    copy->backend_user.data = p;
    p = ngx_cpymem(p, record->backend_user.data, record->backend_user.len);

    for (i = 0; i < n; i++) {
        copy->prefixes[i].len = record->prefixes[i].len;
        copy->prefixes[i].data = p;
        p = ngx_cpymem(p, record->prefixes[i].data, record->prefixes[i].len);
    }

    ngx_http_inverting_routes_make(block);

    return block;
}


static ngx_http_inverting_backend_t *
ngx_http_inverting_backend_make(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_block_t *block, ngx_http_inverting_room_t *room)
{
    ngx_str_t                     *id;
    ngx_http_inverting_backend_t  *backend;

    id = &block->record.id;

    backend = ngx_http_inverting_room_alloc_locked(sh, room, id,
                             sizeof(ngx_http_inverting_backend_t) + id->len);
    if (backend == NULL) {
        return NULL;
    }

    ngx_memzero(backend, sizeof(ngx_http_inverting_backend_t));

    backend->id.len = id->len;
    backend->id.data = (u_char *) backend
                       + sizeof(ngx_http_inverting_backend_t);
    ngx_memcpy(backend->id.data, id->data, id->len);

    block->record.id = backend->id;
    block->backend = backend;

    backend->record = &block->record;
    backend->next = sh->first;
    backend->expected = ngx_current_msec;

    ngx_http_inverting_backend_reset(backend);

    return backend;
}


static void
ngx_http_inverting_backend_reset(ngx_http_inverting_backend_t *backend)
{
    backend->queue_first = NGX_HTTP_INVERTING_NONE;
    backend->queue_last = NGX_HTTP_INVERTING_NONE;
    backend->waiting = 0;
    backend->active = 0;
    backend->receivers[0] = NGX_HTTP_INVERTING_NONE;
    backend->receivers[1] = NGX_HTTP_INVERTING_NONE;
    backend->receivers_last[0] = NGX_HTTP_INVERTING_NONE;
    backend->receivers_last[1] = NGX_HTTP_INVERTING_NONE;
    backend->nreceivers = 0;
    backend->refs = 0;
}


/* so that it is found: what follows from its being in the list of all */

static void
ngx_http_inverting_backend_link(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_backend_t *backend)
{
    ngx_http_inverting_index_insert(&sh->index, &backend->indexed,
                        ngx_murmur_hash2(backend->id.data, backend->id.len));

    ngx_http_inverting_tree_insert(&sh->ids, &backend->node,
                                   ngx_http_inverting_id_insert_value);

    ngx_http_inverting_routes_add(&sh->routes, backend);

    sh->nbackends++;
    sh->nconfigured += backend->record->configured;
}


ngx_int_t
ngx_http_inverting_registry_delete_locked(ngx_http_inverting_zone_t *zone,
    ngx_str_t *id, ngx_uint_t configured)
{
    ngx_http_inverting_backend_t  *backend;

    backend = ngx_http_inverting_registry_find_locked(zone, id);

    if (backend == NULL) {
        return NGX_DONE;
    }

    if (backend->record->configured && !configured) {
        return NGX_DECLINED;
    }

    ngx_http_inverting_backend_remove(zone, backend);

    return NGX_OK;
}


static void
ngx_http_inverting_backend_remove(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend)
{
    ngx_http_inverting_backend_t      **link;
    ngx_http_inverting_registry_sh_t   *sh;

    sh = zone->sh->registry;

    ngx_http_inverting_registry_ref_locked(backend);

    /* from here on it doesn't exist */
    backend->deleted = 1;

    link = backend->prev ? &backend->prev->next : &sh->first;

    __atomic_store_n(link, backend->next, __ATOMIC_RELEASE);

    if (backend->next) {
        backend->next->prev = backend->prev;
    }

    ngx_http_inverting_index_delete(&sh->index, &backend->indexed);
    ngx_rbtree_delete(&sh->ids, &backend->node);

    ngx_http_inverting_keys_hide(sh, backend);
    ngx_http_inverting_routes_remove(&sh->routes, backend);

    sh->nbackends--;
    sh->nconfigured -= backend->record->configured;

    ngx_http_inverting_backend_end_locked(zone, backend);

    ngx_http_inverting_registry_unref_locked(zone, backend);
}


void
ngx_http_inverting_registry_unref_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend)
{
    backend->refs--;

    if (backend->refs == 0 && backend->deleted) {
        ngx_http_inverting_backend_free(zone->sh->registry, backend);
    }
}


static void
ngx_http_inverting_backend_free(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_backend_t *backend)
{
    ngx_http_inverting_block_t  *block;

    block = ngx_http_inverting_record_block(backend->record);

    ngx_http_inverting_keys_free(sh, backend);
    ngx_http_inverting_units_free(&sh->units, block, block->size);
    ngx_http_inverting_units_free(&sh->units, backend,
                                  ngx_http_inverting_backend_size(backend));
}


void
ngx_http_inverting_registry_present_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend)
{
    ngx_http_inverting_registry_sh_t  *sh;

    if (backend->present || backend->deleted) {
        return;
    }

    sh = zone->sh->registry;

    ngx_http_inverting_routes_present(&sh->routes, backend);
}


ngx_uint_t
ngx_http_inverting_registry_count_locked(ngx_http_inverting_zone_t *zone)
{
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    return sh->nbackends;
}


void
ngx_http_inverting_registry_space_locked(ngx_http_inverting_zone_t *zone,
    size_t *size, size_t *used)
{
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    *size = (size_t) sh->units.n << NGX_HTTP_INVERTING_UNIT_SHIFT;
    *used = (size_t) sh->units.used << NGX_HTTP_INVERTING_UNIT_SHIFT;
}


ngx_http_inverting_room_t *
ngx_http_inverting_registry_room_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_record_t *record)
{
    size_t  sizes[2];

    /* also of a backend that is there, for it may be deleted before */

    sizes[0] = ngx_http_inverting_block_size(record);
    sizes[1] = sizeof(ngx_http_inverting_backend_t) + record->id.len;

    return ngx_http_inverting_room_make_locked(zone, &record->id, sizes, 2);
}


void
ngx_http_inverting_registry_configure_locked(ngx_http_inverting_zone_t *zone,
    ngx_array_t *gone, ngx_log_t *log)
{
    ngx_str_t                         *id;
    ngx_uint_t                         i, n;
    ngx_http_inverting_record_t       *records;
    ngx_http_inverting_backend_t      *backend, *next;
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    records = zone->backends->elts;
    n = zone->backends->nelts;

    /* those that are to go first, they may leave room for the others */

    if (sh->nconfigured) {

        for (i = 0; i < n; i++) {
            backend = ngx_http_inverting_registry_find_locked(zone,
                                                              &records[i].id);
            if (backend) {
                backend->keep = 1;
            }
        }

        for (backend = sh->first; backend; backend = next) {
            next = backend->next;

            if (backend->record->configured && !backend->keep) {

                id = ngx_array_push(gone);

                if (id) {
                    id->len = backend->id.len;
                    id->data = ngx_pstrdup(gone->pool, &backend->id);
                }

                ngx_http_inverting_backend_remove(zone, backend);
                continue;
            }

            backend->keep = 0;
        }
    }

    for (i = 0; i < n; i++) {

        if (ngx_http_inverting_registry_set_locked(zone, &records[i], NULL)
            != NGX_OK)
        {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "registry of inverting_proxy_zone \"%V\" is full: "
                          "no room for inverting_proxy_backend \"%V\"",
                          &zone->name, &records[i].id);
        }
    }

    ngx_http_inverting_keys_configure_locked(zone, log);
}


void
ngx_http_inverting_registry_rebuild_locked(ngx_http_inverting_zone_t *zone)
{
    ngx_uint_t                          i;
    ngx_http_inverting_tx_t            *t;
    ngx_http_inverting_block_t         *block;
    ngx_http_inverting_backend_t       *backend, *prev, **link;
    ngx_http_inverting_receiver_t      *receiver;
    ngx_http_inverting_registry_sh_t   *sh;

    sh = zone->sh->registry;

    ngx_http_inverting_units_reset(&sh->units);
    ngx_rbtree_init(&sh->ids, &sh->ids_sentinel, NULL);
    ngx_rbtree_init(&sh->keys, &sh->keys_sentinel, NULL);
    ngx_http_inverting_index_reset(&sh->index);
    ngx_http_inverting_routes_reset(&sh->routes);

    sh->nbackends = 0;
    sh->nconfigured = 0;

    prev = NULL;
    link = &sh->first;

    for (backend = sh->first; backend; backend = backend->next) {

        if (backend->deleted) {
            __atomic_store_n(link, backend->next, __ATOMIC_RELEASE);
            continue;
        }

        backend->prev = prev;
        prev = backend;
        link = &backend->next;

        backend->keep = 0;
        ngx_http_inverting_backend_reset(backend);

        block = ngx_http_inverting_record_block(backend->record);

        ngx_http_inverting_units_take(&sh->units, block, block->size);
        ngx_http_inverting_units_take(&sh->units, backend,
                                   ngx_http_inverting_backend_size(backend));

        ngx_http_inverting_keys_rebuild(sh, backend);

        ngx_http_inverting_backend_link(sh, backend);
    }

    ngx_http_inverting_rooms_rebuild_locked(sh);

    /* deleted ones are as they were left, even where they are free now */

    for (i = 0; i < zone->sh->ntxs; i++) {
        t = &zone->txs[i];

        if (t->state != NGX_HTTP_INVERTING_TX_FREE
            && t->backend && t->backend->deleted)
        {
            t->backend = NULL;
        }
    }

    for (i = 0; i < zone->sh->nreceivers; i++) {
        receiver = &zone->receivers[i];

        if (receiver->state != NGX_HTTP_INVERTING_RECEIVER_FREE
            && receiver->backend && receiver->backend->deleted)
        {
            receiver->backend = NULL;
        }
    }
}


static void
ngx_http_inverting_id_insert_value(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel)
{
    ngx_str_t           *id;
    ngx_rbtree_node_t  **p;

    id = &ngx_http_inverting_node_backend(node)->id;

    for ( ;; ) {

        p = (ngx_http_inverting_str_cmp(id,
                                  &ngx_http_inverting_node_backend(temp)->id)
             < 0)
            ? &temp->left : &temp->right;

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    ngx_http_inverting_tree_link(p, temp, node, sentinel);
}
