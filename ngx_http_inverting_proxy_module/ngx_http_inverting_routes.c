
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_routes.h"
#include "ngx_http_inverting_exchange.h"


/* how many that turn out to be absent one look-up may pass by */
#define NGX_HTTP_INVERTING_ABSENT_MAX  100

/* node->data is the number of the prefix, and this in the second tree */
#define NGX_HTTP_INVERTING_SECOND      0x40


typedef struct {
    uint32_t       hash;
    ngx_str_t     *user;
    ngx_str_t      prefix;
} ngx_http_inverting_route_key_t;


static ngx_rbtree_node_t *ngx_http_inverting_route_floor(ngx_rbtree_t *tree,
    ngx_http_inverting_route_key_t *key);
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


static ngx_inline ngx_http_inverting_block_t *
ngx_http_inverting_route_block(ngx_rbtree_node_t *node, ngx_str_t **prefix)
{
    ngx_uint_t                   n;
    ngx_http_inverting_route_t  *route;
    ngx_http_inverting_block_t  *block;

    n = node->data;

    if (n & NGX_HTTP_INVERTING_SECOND) {
        n &= ~NGX_HTTP_INVERTING_SECOND;
        node--;
    }

    route = (ngx_http_inverting_route_t *) node - n;

    block = (ngx_http_inverting_block_t *)
             ((u_char *) route - offsetof(ngx_http_inverting_block_t, routes));

    *prefix = &block->record.prefixes[n];

    return block;
}


void
ngx_http_inverting_routes_init(ngx_http_inverting_routes_t *routes)
{
    ngx_uint_t  i;

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
    size_t                           len;
    ngx_str_t                       *prefix;
    ngx_uint_t                       n;
    ngx_rbtree_t                    *tree;
    ngx_rbtree_node_t               *node, *next;
    ngx_http_inverting_block_t      *block;
    ngx_http_inverting_backend_t    *backend;
    ngx_http_inverting_route_key_t   key;

    if (routes->backend_timeout < backend_timeout) {
        routes->backend_timeout = backend_timeout;
    }

    key.hash = ngx_murmur_hash2(user->data, user->len);
    key.user = user;
    key.prefix.data = path->data;
    key.prefix.len = ngx_min(path->len, NGX_HTTP_INVERTING_PREFIX_LEN);

    /*
     * If the last prefix up to the path is not a prefix of the path, then one
     * that is can't be longer than what the two have in common.
     */

    tree = &routes->trees[NGX_HTTP_INVERTING_ROUTES_ALL];

    for ( ;; ) {
        node = ngx_http_inverting_route_floor(tree, &key);

        if (node == NULL || node->key != key.hash) {
            return NULL;
        }

        block = ngx_http_inverting_route_block(node, &prefix);

        if (ngx_http_inverting_str_cmp(&block->record.end_user, user) != 0) {
            return NULL;
        }

        for (len = 0;
             len < prefix->len && len < key.prefix.len
             && prefix->data[len] == key.prefix.data[len];
             len++)
        {
            /* void */
        }

        key.prefix.len = len;

        if (len == prefix->len) {
            break;
        }
    }

    tree = &routes->trees[NGX_HTTP_INVERTING_ROUTES_PRESENT];

    node = ngx_http_inverting_route_first(tree, &key);

    for (n = 0; node && n < NGX_HTTP_INVERTING_ABSENT_MAX; n++) {

        if (ngx_http_inverting_route_cmp(node, &key) != 0) {
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
        }

        node = next;
    }

    tree = &routes->trees[NGX_HTTP_INVERTING_ROUTES_ALL];

    node = ngx_http_inverting_route_first(tree, &key);

    return ngx_http_inverting_route_block(node, &prefix)->backend;
}


/* the last route that is not after the key */

static ngx_rbtree_node_t *
ngx_http_inverting_route_floor(ngx_rbtree_t *tree,
    ngx_http_inverting_route_key_t *key)
{
    ngx_rbtree_node_t  *node, *found;

    found = NULL;

    for (node = tree->root; node != tree->sentinel; /* void */ ) {

        if (ngx_http_inverting_route_cmp(node, key) <= 0) {
            found = node;
            node = node->right;

        } else {
            node = node->left;
        }
    }

    return found;
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
        ngx_rbtree_delete(&routes->trees[tree], &block->routes[i].nodes[tree]);
    }
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
