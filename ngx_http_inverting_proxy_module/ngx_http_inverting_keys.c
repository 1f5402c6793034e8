
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include <openssl/crypto.h>

#include "ngx_http_inverting_keys.h"
#include "ngx_http_inverting_rooms.h"
#include "ngx_http_inverting_exchange.h"


static ngx_http_inverting_stored_key_t *ngx_http_inverting_key_lookup(
    ngx_http_inverting_registry_sh_t *sh, u_char *hash);
static ngx_http_inverting_stored_key_t **ngx_http_inverting_key_link(
    ngx_http_inverting_backend_t *backend, uint64_t id);
static void ngx_http_inverting_key_insert(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_stored_key_t *stored);
static void ngx_http_inverting_key_remove(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_stored_key_t **link);


#define ngx_http_inverting_key_size(k)                                        \
    (sizeof(ngx_http_inverting_stored_key_t) + (k)->note.len)


static ngx_inline ngx_rbtree_key_t
ngx_http_inverting_key_prefix(u_char *hash)
{
    ngx_rbtree_key_t  prefix;

    ngx_memcpy(&prefix, hash, sizeof(ngx_rbtree_key_t));

    return prefix;
}


ngx_http_inverting_stored_key_t *
ngx_http_inverting_key_find_locked(ngx_http_inverting_zone_t *zone,
    u_char *hash)
{
    u_char                           *known;
    ngx_http_inverting_stored_key_t  *stored;

    static u_char  dummy[NGX_HTTP_INVERTING_HASH_LEN];

    stored = ngx_http_inverting_key_lookup(zone->sh->registry, hash);

    known = stored ? stored->key.hash : dummy;

    if (CRYPTO_memcmp(known, hash, NGX_HTTP_INVERTING_HASH_LEN) != 0) {
        return NULL;
    }

    return stored;
}


/* those whose first bytes are the same are taken for the same */

static ngx_http_inverting_stored_key_t *
ngx_http_inverting_key_lookup(ngx_http_inverting_registry_sh_t *sh,
    u_char *hash)
{
    ngx_rbtree_key_t    prefix;
    ngx_rbtree_node_t  *node;

    prefix = ngx_http_inverting_key_prefix(hash);

    for (node = sh->keys.root; node != sh->keys.sentinel; /* void */ ) {

        if (prefix == node->key) {
            return ngx_rbtree_data(node, ngx_http_inverting_stored_key_t,
                                   node);
        }

        node = (prefix < node->key) ? node->left : node->right;
    }

    return NULL;
}


ngx_int_t
ngx_http_inverting_key_add_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_http_inverting_key_t *key,
    ngx_http_inverting_room_t *room)
{
    ngx_uint_t                         n;
    ngx_http_inverting_stored_key_t   *stored;
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    stored = ngx_http_inverting_key_lookup(sh, key->hash);

    if (stored) {
        return (stored->backend == backend && stored->key.id == key->id)
               ? NGX_OK : NGX_DECLINED;
    }

    n = 0;

    for (stored = backend->keys; stored; stored = stored->next) {

        if (stored->key.id == key->id) {
            return NGX_DECLINED;
        }

        n++;
    }

    if (n >= NGX_HTTP_INVERTING_KEYS) {
        return NGX_BUSY;
    }

    stored = ngx_http_inverting_room_alloc_locked(sh, room, &backend->id,
                                            ngx_http_inverting_key_size(key));
    if (stored == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(stored, sizeof(ngx_http_inverting_stored_key_t));

    stored->key = *key;
    stored->key.note.data = (u_char *) stored
                            + sizeof(ngx_http_inverting_stored_key_t);
    ngx_memcpy(stored->key.note.data, key->note.data, key->note.len);

    stored->backend = backend;
    stored->next = backend->keys;

    /* from here on it exists */
    __atomic_store_n(&backend->keys, stored, __ATOMIC_RELEASE);

    ngx_http_inverting_key_insert(sh, stored);

    return NGX_OK;
}


static void
ngx_http_inverting_key_insert(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_stored_key_t *stored)
{
    stored->node.key = ngx_http_inverting_key_prefix(stored->key.hash);

    ngx_http_inverting_tree_insert(&sh->keys, &stored->node,
                                   ngx_rbtree_insert_value);
}


ngx_int_t
ngx_http_inverting_key_delete_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t id)
{
    ngx_http_inverting_stored_key_t  **link;

    link = ngx_http_inverting_key_link(backend, id);

    if (*link == NULL) {
        return NGX_DONE;
    }

    ngx_http_inverting_key_remove(zone, link);

    return NGX_OK;
}


static ngx_http_inverting_stored_key_t **
ngx_http_inverting_key_link(ngx_http_inverting_backend_t *backend, uint64_t id)
{
    ngx_http_inverting_stored_key_t  **link;

    for (link = &backend->keys; *link; link = &(*link)->next) {

        if ((*link)->key.id == id) {
            break;
        }
    }

    return link;
}


static void
ngx_http_inverting_key_remove(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_stored_key_t **link)
{
    ngx_http_inverting_stored_key_t   *stored;
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;
    stored = *link;

    /* first: nothing that came by a key outlives it */

    ngx_http_inverting_key_end_locked(zone, stored->backend, stored->key.id);

    __atomic_store_n(link, stored->next, __ATOMIC_RELEASE);

    ngx_rbtree_delete(&sh->keys, &stored->node);

    ngx_http_inverting_units_free(&sh->units, stored,
                                  ngx_http_inverting_key_size(&stored->key));
}


ngx_http_inverting_room_t *
ngx_http_inverting_key_room_locked(ngx_http_inverting_zone_t *zone,
    ngx_str_t *backend, ngx_http_inverting_key_t *key)
{
    size_t  size;

    size = ngx_http_inverting_key_size(key);

    return ngx_http_inverting_room_make_locked(zone, backend, &size, 1);
}


ngx_int_t
ngx_http_inverting_keys_set_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_http_inverting_key_t *keys,
    ngx_uint_t n, ngx_http_inverting_room_t *room)
{
    ngx_int_t                          rc;
    ngx_uint_t                         i;
    ngx_http_inverting_stored_key_t  **link;

    for (link = &backend->keys; *link; /* void */ ) {

        for (i = 0; i < n; i++) {

            if (keys[i].id == (*link)->key.id
                && ngx_memcmp(keys[i].hash, (*link)->key.hash,
                              NGX_HTTP_INVERTING_HASH_LEN)
                   == 0)
            {
                break;
            }
        }

        if (i < n) {
            link = &(*link)->next;
            continue;
        }

        ngx_http_inverting_key_remove(zone, link);
    }

    rc = NGX_OK;

    for (i = 0; i < n; i++) {

        if (ngx_http_inverting_key_add_locked(zone, backend, &keys[i], room)
            != NGX_OK)
        {
            rc = NGX_ERROR;
        }
    }

    return rc;
}


void
ngx_http_inverting_keys_configure_locked(ngx_http_inverting_zone_t *zone,
    ngx_log_t *log)
{
    ngx_uint_t                          i;
    ngx_http_inverting_static_key_t    *keys;
    ngx_http_inverting_backend_t       *backend;
    ngx_http_inverting_stored_key_t    *stored, **link;
    ngx_http_inverting_registry_sh_t   *sh;

    sh = zone->sh->registry;
    keys = zone->keys->elts;

    for (i = 0; i < zone->keys->nelts; i++) {
        stored = ngx_http_inverting_key_lookup(sh, keys[i].key.hash);

        if (stored && stored->key.created == 0
            && ngx_http_inverting_str_cmp(&stored->backend->id,
                                          &keys[i].backend)
               == 0)
        {
            stored->keep = 1;
        }
    }

    for (backend = sh->nconfigured ? sh->first : NULL;
         backend;
         backend = backend->next)
    {
        if (!backend->record->configured) {
            continue;
        }

        for (link = &backend->keys; *link; /* void */ ) {

            if ((*link)->keep) {
                (*link)->keep = 0;
                link = &(*link)->next;
                continue;
            }

            ngx_http_inverting_key_remove(zone, link);
        }
    }

    for (i = 0; i < zone->keys->nelts; i++) {
        backend = ngx_http_inverting_registry_find_locked(zone,
                                                          &keys[i].backend);

        /* NULL: there was no room for it, which was logged */

        if (backend
            && ngx_http_inverting_key_add_locked(zone, backend, &keys[i].key,
                                                 NULL)
               != NGX_OK)
        {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "a key of inverting_proxy_backend \"%V\" is not in "
                          "force: the registry of inverting_proxy_zone \"%V\" "
                          "is full, or another backend has it",
                          &keys[i].backend, &zone->name);
        }
    }
}


void
ngx_http_inverting_keys_hide(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_backend_t *backend)
{
    ngx_http_inverting_stored_key_t  *stored;

    for (stored = backend->keys; stored; stored = stored->next) {
        ngx_rbtree_delete(&sh->keys, &stored->node);
    }
}


void
ngx_http_inverting_keys_free(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_backend_t *backend)
{
    ngx_http_inverting_stored_key_t  *stored, *next;

    for (stored = backend->keys; stored; stored = next) {
        next = stored->next;

        ngx_http_inverting_units_free(&sh->units, stored,
                                   ngx_http_inverting_key_size(&stored->key));
    }
}


void
ngx_http_inverting_keys_rebuild(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_backend_t *backend)
{
    ngx_http_inverting_stored_key_t  *stored;

    for (stored = backend->keys; stored; stored = stored->next) {
        stored->keep = 0;

        ngx_http_inverting_units_take(&sh->units, stored,
                                   ngx_http_inverting_key_size(&stored->key));
        ngx_http_inverting_key_insert(sh, stored);
    }
}
