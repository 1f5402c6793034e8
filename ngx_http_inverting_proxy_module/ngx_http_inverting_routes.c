
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_routes.h"
#include "ngx_http_inverting_exchange.h"


/* how many that are present by a longer time-out one look-up may pass by */
#define NGX_HTTP_INVERTING_ABSENT_MAX  100

/* node->data is the number of the prefix, and this in the second tree */
#define NGX_HTTP_INVERTING_SECOND      0x40

/* in the first tree: others of the group follow; only of one in the index */
#define NGX_HTTP_INVERTING_MORE        0x80


typedef struct {
    uint32_t       hash;
    ngx_str_t     *user;
    ngx_str_t      prefix;
} ngx_http_inverting_route_key_t;


typedef struct {
    uint32_t       len;
    uint32_t       hash;
} ngx_http_inverting_route_hash_t;


static ngx_uint_t ngx_http_inverting_route_hashes(uint32_t hash,
    ngx_str_t *path, uint64_t lengths,
    ngx_http_inverting_route_hash_t *hashes);
static ngx_http_inverting_route_t *ngx_http_inverting_route_indexed(
    ngx_http_inverting_index_t *index, ngx_http_inverting_route_key_t *key,
    uint32_t hash);
static ngx_http_inverting_backend_t *ngx_http_inverting_route_choose(
    ngx_http_inverting_routes_t *routes, ngx_http_inverting_route_key_t *key,
    ngx_msec_t backend_timeout);
static void ngx_http_inverting_route_index(
    ngx_http_inverting_routes_t *routes, ngx_http_inverting_block_t *block,
    ngx_uint_t n);
static void ngx_http_inverting_route_unindex(
    ngx_http_inverting_routes_t *routes, ngx_http_inverting_block_t *block,
    ngx_uint_t n);
static uint32_t ngx_http_inverting_route_key(
    ngx_http_inverting_block_t *block, ngx_uint_t n,
    ngx_http_inverting_route_key_t *key);
static ngx_rbtree_node_t *ngx_http_inverting_route_follow(ngx_rbtree_t *tree,
    ngx_rbtree_node_t *node, ngx_http_inverting_route_key_t *key);
static ngx_rbtree_node_t *ngx_http_inverting_route_first(ngx_rbtree_t *tree,
    ngx_http_inverting_route_key_t *key);
static ngx_int_t ngx_http_inverting_route_cmp(ngx_rbtree_node_t *node,
    ngx_http_inverting_route_key_t *key);
static void ngx_http_inverting_routes_insert(
    ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_backend_t *backend, ngx_uint_t tree);
static void ngx_http_inverting_routes_delete(
    ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_backend_t *backend, ngx_uint_t tree);
static void ngx_http_inverting_route_insert_value(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);


/* by its node in the first tree */
#define ngx_http_inverting_node_route(node)                                   \
    ((ngx_http_inverting_route_t *)                                           \
     ((u_char *) (node) - offsetof(ngx_http_inverting_route_t, nodes)))


/*
 * The hash of user and prefix is that of the user, gone on with a byte at a
 * time (FNV-1a), and mixed well in the end (as MurmurHash3 does).
 */

#define ngx_http_inverting_route_step(hash, ch)  (((hash) ^ (ch)) * 0x01000193)

#define ngx_http_inverting_route_length(len)  ((uint64_t) 1 << ((len) & 63))

#define ngx_http_inverting_route_users(routes, hash)                          \
    (&(routes)->users[ngx_http_inverting_index_part(hash, (routes)->index.n)])


static ngx_inline uint32_t
ngx_http_inverting_route_mix(uint32_t hash)
{
    hash ^= hash >> 16;
    hash *= 0x85ebca6b;
    hash ^= hash >> 13;
    hash *= 0xc2b2ae35;
    hash ^= hash >> 16;

    return hash;
}


static ngx_inline ngx_http_inverting_block_t *
ngx_http_inverting_route_block(ngx_rbtree_node_t *node, ngx_str_t **prefix)
{
    ngx_uint_t                   n;
    ngx_http_inverting_route_t  *route;
    ngx_http_inverting_block_t  *block;

    n = node->data & ~NGX_HTTP_INVERTING_MORE;

    if (n & NGX_HTTP_INVERTING_SECOND) {
        n &= ~NGX_HTTP_INVERTING_SECOND;
        node--;
    }

    route = ngx_http_inverting_node_route(node) - n;

    block = (ngx_http_inverting_block_t *)
             ((u_char *) route - offsetof(ngx_http_inverting_block_t, routes));

    *prefix = &block->record.prefixes[n];

    return block;
}


void
ngx_http_inverting_routes_init(ngx_http_inverting_routes_t *routes,
    u_char *base, u_char *p, uint32_t n)
{
    routes->users = (ngx_http_inverting_route_users_t *)
                     (p + ngx_http_inverting_index_size(n));

    ngx_http_inverting_index_init(&routes->index, base, p, n);
    ngx_http_inverting_routes_reset(routes);
}


void
ngx_http_inverting_routes_reset(ngx_http_inverting_routes_t *routes)
{
    ngx_uint_t  i;

    ngx_http_inverting_index_reset(&routes->index);

    ngx_memzero(routes->users,
                routes->index.n * sizeof(ngx_http_inverting_route_users_t));

    for (i = 0; i < NGX_HTTP_INVERTING_ROUTES_TREES; i++) {
        ngx_rbtree_init(&routes->trees[i], &routes->sentinels[i], NULL);
    }
}


void
ngx_http_inverting_routes_make(ngx_http_inverting_block_t *block)
{
    ngx_str_t                   *user;
    ngx_uint_t                   i;
    ngx_http_inverting_route_t  *route;

    user = &block->record.end_user;

    block->hash = ngx_murmur_hash2(user->data, user->len);

    for (i = 0; i < block->record.nprefixes; i++) {
        route = &block->routes[i];

        route->nodes[NGX_HTTP_INVERTING_ROUTES_ALL].data = i;
        route->nodes[NGX_HTTP_INVERTING_ROUTES_PRESENT].data =
                                            i | NGX_HTTP_INVERTING_SECOND;
    }
}


void
ngx_http_inverting_routes_add(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_backend_t *backend)
{
    ngx_http_inverting_routes_insert(routes, backend,
                                     NGX_HTTP_INVERTING_ROUTES_ALL);

    if (backend->present) {
        ngx_http_inverting_routes_insert(routes, backend,
                                         NGX_HTTP_INVERTING_ROUTES_PRESENT);
    }
}


void
ngx_http_inverting_routes_remove(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_backend_t *backend)
{
    ngx_http_inverting_routes_delete(routes, backend,
                                     NGX_HTTP_INVERTING_ROUTES_ALL);

    if (backend->present) {
        ngx_http_inverting_routes_delete(routes, backend,
                                         NGX_HTTP_INVERTING_ROUTES_PRESENT);
    }
}


void
ngx_http_inverting_routes_present(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_backend_t *backend)
{
    backend->present = 1;

    ngx_http_inverting_routes_insert(routes, backend,
                                     NGX_HTTP_INVERTING_ROUTES_PRESENT);
}


ngx_http_inverting_backend_t *
ngx_http_inverting_routes_match(ngx_http_inverting_routes_t *routes,
    ngx_str_t *user, ngx_str_t *path, ngx_msec_t backend_timeout)
{
    ngx_str_t                         *prefix;
    ngx_uint_t                         n;
    ngx_rbtree_node_t                 *node;
    ngx_http_inverting_route_t        *route;
    ngx_http_inverting_backend_t      *backend;
    ngx_http_inverting_route_key_t     key;
    ngx_http_inverting_route_users_t  *users;
    ngx_http_inverting_route_hash_t    hashes[NGX_HTTP_INVERTING_PREFIX_LEN];

    if (routes->backend_timeout < backend_timeout) {
        routes->backend_timeout = backend_timeout;
    }

    key.hash = ngx_murmur_hash2(user->data, user->len);
    key.user = user;
    key.prefix.data = path->data;

    users = ngx_http_inverting_route_users(routes, key.hash);

    n = ngx_http_inverting_route_hashes(key.hash, path, users->lengths,
                                        hashes);

    while (n--) {
        key.prefix.len = hashes[n].len;

        route = ngx_http_inverting_route_indexed(&routes->index, &key,
                                                 hashes[n].hash);
        if (route == NULL) {
            continue;
        }

        node = &route->nodes[NGX_HTTP_INVERTING_ROUTES_ALL];

        if (node->data & NGX_HTTP_INVERTING_MORE) {
            backend = ngx_http_inverting_route_choose(routes, &key,
                                                      backend_timeout);
            if (backend) {
                return backend;
            }
        }

        return ngx_http_inverting_route_block(node, &prefix)->backend;
    }

    return NULL;
}


/* the hashes of those prefixes of the path that can be a route's */

static ngx_uint_t
ngx_http_inverting_route_hashes(uint32_t hash, ngx_str_t *path,
    uint64_t lengths, ngx_http_inverting_route_hash_t *hashes)
{
    size_t      len, max;
    ngx_uint_t  n;

    n = 0;
    max = lengths ? ngx_min(path->len, NGX_HTTP_INVERTING_PREFIX_LEN) : 0;

    for (len = 1; len <= max; len++) {

        hash = ngx_http_inverting_route_step(hash, path->data[len - 1]);

        if (lengths & ngx_http_inverting_route_length(len)) {
            hashes[n].len = len;
            hashes[n].hash = ngx_http_inverting_route_mix(hash);
            n++;
        }
    }

    return n;
}


/* the first one of the key's group */

static ngx_http_inverting_route_t *
ngx_http_inverting_route_indexed(ngx_http_inverting_index_t *index,
    ngx_http_inverting_route_key_t *key, uint32_t hash)
{
    ngx_http_inverting_route_t    *route;
    ngx_http_inverting_indexed_t  *thing;

    for (thing = ngx_http_inverting_index_first(index, hash);
         thing;
         thing = ngx_http_inverting_index_next(index, thing))
    {
        route = (ngx_http_inverting_route_t *) thing;

        if (ngx_http_inverting_route_cmp(
                          &route->nodes[NGX_HTTP_INVERTING_ROUTES_ALL], key)
            == 0)
        {
            return route;
        }
    }

    return NULL;
}


/* of a group the first one that is present; NULL: none is */

static ngx_http_inverting_backend_t *
ngx_http_inverting_route_choose(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_route_key_t *key, ngx_msec_t backend_timeout)
{
    ngx_str_t                     *prefix;
    ngx_uint_t                     n;
    ngx_rbtree_t                  *tree;
    ngx_rbtree_node_t             *node, *next;
    ngx_http_inverting_backend_t  *backend;

    tree = &routes->trees[NGX_HTTP_INVERTING_ROUTES_PRESENT];

    node = ngx_http_inverting_route_first(tree, key);

    for (n = 0; node && n < NGX_HTTP_INVERTING_ABSENT_MAX; /* void */ ) {

        if (ngx_http_inverting_route_cmp(node, key) != 0) {
            break;
        }

        backend = ngx_http_inverting_route_block(node, &prefix)->backend;

        if (ngx_http_inverting_present_locked(backend, backend_timeout)) {
            return backend;
        }

        /* of the same backend it can only be a route with another prefix */

        next = ngx_rbtree_next(tree, node);

        if (!ngx_http_inverting_present_locked(backend,
                                               routes->backend_timeout))
        {
            ngx_http_inverting_routes_delete(routes, backend,
                                           NGX_HTTP_INVERTING_ROUTES_PRESENT);
            backend->present = 0;

        } else {
            n++;
        }

        node = next;
    }

    return NULL;
}


/* the first route that is not before the key */

static ngx_rbtree_node_t *
ngx_http_inverting_route_first(ngx_rbtree_t *tree,
    ngx_http_inverting_route_key_t *key)
{
    ngx_rbtree_node_t  *node, *found;

    found = NULL;

    for (node = tree->root; node != tree->sentinel; /* void */ ) {

        if (ngx_http_inverting_route_cmp(node, key) >= 0) {
            found = node;
            node = node->left;

        } else {
            node = node->right;
        }
    }

    return found;
}


static ngx_int_t
ngx_http_inverting_route_cmp(ngx_rbtree_node_t *node,
    ngx_http_inverting_route_key_t *key)
{
    ngx_int_t                    rc;
    ngx_str_t                   *prefix;
    ngx_http_inverting_block_t  *block;

    if (node->key != key->hash) {
        return (node->key < key->hash) ? -1 : 1;
    }

    block = ngx_http_inverting_route_block(node, &prefix);

    rc = ngx_http_inverting_str_cmp(&block->record.end_user, key->user);

    if (rc == 0) {
        rc = ngx_http_inverting_str_cmp(prefix, &key->prefix);
    }

    return rc;
}


static void
ngx_http_inverting_routes_insert(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_backend_t *backend, ngx_uint_t tree)
{
    ngx_uint_t                   i;
    ngx_rbtree_node_t           *node;
    ngx_http_inverting_block_t  *block;

    block = ngx_http_inverting_record_block(backend->record);

    for (i = 0; i < block->record.nprefixes; i++) {
        node = &block->routes[i].nodes[tree];

        /* ngx_rbtree_delete() may have cleared it */
        node->key = block->hash;

        ngx_http_inverting_tree_insert(&routes->trees[tree], node,
                                       ngx_http_inverting_route_insert_value);

        if (tree == NGX_HTTP_INVERTING_ROUTES_ALL) {
            ngx_http_inverting_route_index(routes, block, i);
        }
    }
}


static void
ngx_http_inverting_routes_delete(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_backend_t *backend, ngx_uint_t tree)
{
    ngx_uint_t                   i;
    ngx_http_inverting_block_t  *block;

    block = ngx_http_inverting_record_block(backend->record);

    for (i = 0; i < block->record.nprefixes; i++) {

        if (tree == NGX_HTTP_INVERTING_ROUTES_ALL) {
            ngx_http_inverting_route_unindex(routes, block, i);
        }

        ngx_rbtree_delete(&routes->trees[tree], &block->routes[i].nodes[tree]);
    }
}


/* a route that has come into the first tree */

static void
ngx_http_inverting_route_index(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_block_t *block, ngx_uint_t n)
{
    uint32_t                           hash;
    ngx_str_t                         *prefix;
    ngx_rbtree_node_t                 *node, *first;
    ngx_http_inverting_route_t        *route, *old;
    ngx_http_inverting_route_key_t     key;
    ngx_http_inverting_route_users_t  *users;

    route = &block->routes[n];
    node = &route->nodes[NGX_HTTP_INVERTING_ROUTES_ALL];
    node->data &= ~NGX_HTTP_INVERTING_MORE;

    hash = ngx_http_inverting_route_key(block, n, &key);

    users = ngx_http_inverting_route_users(routes, key.hash);
    users->lengths |= ngx_http_inverting_route_length(key.prefix.len);
    users->n++;

    old = ngx_http_inverting_route_indexed(&routes->index, &key, hash);

    if (old) {
        first = &old->nodes[NGX_HTTP_INVERTING_ROUTES_ALL];

        if (ngx_http_inverting_str_cmp(
                &ngx_http_inverting_route_block(first, &prefix)->backend->id,
                &block->backend->id)
            < 0)
        {
            first->data |= NGX_HTTP_INVERTING_MORE;
            return;
        }

        node->data |= NGX_HTTP_INVERTING_MORE;

        ngx_http_inverting_index_delete(&routes->index, &old->indexed);
    }

    ngx_http_inverting_index_insert(&routes->index, &route->indexed, hash);
}


/* a route that is about to leave the first tree */

static void
ngx_http_inverting_route_unindex(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_block_t *block, ngx_uint_t n)
{
    uint32_t                           hash;
    ngx_rbtree_t                      *tree;
    ngx_rbtree_node_t                 *node, *first, *next;
    ngx_http_inverting_route_t        *route;
    ngx_http_inverting_route_key_t     key;
    ngx_http_inverting_route_users_t  *users;

    tree = &routes->trees[NGX_HTTP_INVERTING_ROUTES_ALL];
    node = &block->routes[n].nodes[NGX_HTTP_INVERTING_ROUTES_ALL];

    hash = ngx_http_inverting_route_key(block, n, &key);

    users = ngx_http_inverting_route_users(routes, key.hash);
    users->n--;

    if (users->n == 0) {
        users->lengths = 0;
    }

    route = ngx_http_inverting_route_indexed(&routes->index, &key, hash);

    if (route == &block->routes[n]) {
        ngx_http_inverting_index_delete(&routes->index, &route->indexed);

        first = ngx_http_inverting_route_follow(tree, node, &key);
        if (first == NULL) {
            return;
        }

        route = ngx_http_inverting_node_route(first);
        ngx_http_inverting_index_insert(&routes->index, &route->indexed, hash);

    } else {
        first = &route->nodes[NGX_HTTP_INVERTING_ROUTES_ALL];
    }

    next = ngx_http_inverting_route_follow(tree, first, &key);

    if (next == node) {
        next = ngx_http_inverting_route_follow(tree, next, &key);
    }

    if (next) {
        first->data |= NGX_HTTP_INVERTING_MORE;

    } else {
        first->data &= ~NGX_HTTP_INVERTING_MORE;
    }
}


/* makes the key of a route; returns its hash */

static uint32_t
ngx_http_inverting_route_key(ngx_http_inverting_block_t *block, ngx_uint_t n,
    ngx_http_inverting_route_key_t *key)
{
    size_t    i;
    uint32_t  hash;

    key->hash = block->hash;
    key->user = &block->record.end_user;
    key->prefix = block->record.prefixes[n];

    hash = key->hash;

    for (i = 0; i < key->prefix.len; i++) {
        hash = ngx_http_inverting_route_step(hash, key->prefix.data[i]);
    }

    return ngx_http_inverting_route_mix(hash);
}


/* the next one of the same group */

static ngx_rbtree_node_t *
ngx_http_inverting_route_follow(ngx_rbtree_t *tree, ngx_rbtree_node_t *node,
    ngx_http_inverting_route_key_t *key)
{
    node = ngx_rbtree_next(tree, node);

    if (node && ngx_http_inverting_route_cmp(node, key) != 0) {
        return NULL;
    }

    return node;
}


static void
ngx_http_inverting_route_insert_value(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel)
{
    ngx_int_t                         rc;
    ngx_str_t                        *prefix, *id;
    ngx_rbtree_node_t               **p;
    ngx_http_inverting_block_t       *block;
    ngx_http_inverting_route_key_t    key;

    block = ngx_http_inverting_route_block(node, &prefix);
    id = &block->backend->id;

    key.hash = block->hash;
    key.user = &block->record.end_user;
    key.prefix = *prefix;

    for ( ;; ) {

        rc = ngx_http_inverting_route_cmp(temp, &key);

        if (rc == 0) {
            block = ngx_http_inverting_route_block(temp, &prefix);
            rc = ngx_http_inverting_str_cmp(&block->backend->id, id);
        }

        p = (rc > 0) ? &temp->left : &temp->right;

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    ngx_http_inverting_tree_link(p, temp, node, sentinel);
}


void
ngx_http_inverting_tree_insert(ngx_rbtree_t *tree, ngx_rbtree_node_t *node,
    ngx_rbtree_insert_pt insert)
{
    tree->insert = insert;

    ngx_rbtree_insert(tree, node);

    tree->insert = NULL;
}


void
ngx_http_inverting_tree_link(ngx_rbtree_node_t **p, ngx_rbtree_node_t *parent,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel)
{
    *p = node;
    node->parent = parent;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}
