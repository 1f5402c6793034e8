
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_ROUTES_H_INCLUDED_
#define _NGX_HTTP_INVERTING_ROUTES_H_INCLUDED_


#include "ngx_http_inverting_registry.h"


/*
 * The registry's look-up by end user and path.  A route stands for one prefix
 * of one backend.  Routes are ordered by the end user (by its hash first), the
 * prefix, and the backend's id; there is a tree of all of them, and one of
 * those whose backend is present or has not been found absent yet.
 *
 * Routes of the same user and prefix are a group.  The first of each is in an
 * index, by user and prefix, so that a look-up tries the prefixes of the path,
 * the longest first, and goes through a tree only where there is a choice.
 * Which lengths to try is known for each user: mostly one or two.
 */


typedef enum {
    NGX_HTTP_INVERTING_ROUTES_ALL = 0,
    NGX_HTTP_INVERTING_ROUTES_PRESENT,
    NGX_HTTP_INVERTING_ROUTES_TREES
} ngx_http_inverting_routes_tree_e;


typedef struct {
    ngx_http_inverting_indexed_t   indexed;      /* the first of a group */
    ngx_rbtree_node_t              nodes[NGX_HTTP_INVERTING_ROUTES_TREES];
} ngx_http_inverting_route_t;


/* of the users whose hashes meet here */

typedef struct {
    uint64_t                       lengths;      /* of prefixes, modulo 64 */
    uint64_t                       n;            /* routes */
} ngx_http_inverting_route_users_t;


/* how a record is stored; its routes, prefixes and strings follow */

typedef struct {
    ngx_http_inverting_record_t    record;
    ngx_http_inverting_backend_t  *backend;
    uint32_t                       size;
    uint32_t                       hash;         /* of the end user */
    ngx_http_inverting_route_t     routes[1];
} ngx_http_inverting_block_t;


typedef struct {
    ngx_rbtree_t                   trees[NGX_HTTP_INVERTING_ROUTES_TREES];
    ngx_rbtree_node_t              sentinels[NGX_HTTP_INVERTING_ROUTES_TREES];
    ngx_http_inverting_index_t     index;
    ngx_http_inverting_route_users_t  *users;

    /* the longest that any look-up has asked for */
    ngx_msec_t                     backend_timeout;
} ngx_http_inverting_routes_t;


#define ngx_http_inverting_record_block(r)                                    \
    ((ngx_http_inverting_block_t *)                                           \
     ((u_char *) (r) - offsetof(ngx_http_inverting_block_t, record)))

#define ngx_http_inverting_str_cmp(one, two)                                  \
    ngx_memn2cmp((one)->data, (two)->data, (one)->len, (two)->len)


#define ngx_http_inverting_routes_size(n)                                     \
    (ngx_http_inverting_index_size(n)                                         \
     + (n) * sizeof(ngx_http_inverting_route_users_t))


/* no routes, an index of n buckets: as ngx_http_inverting_index_init() */
void ngx_http_inverting_routes_init(ngx_http_inverting_routes_t *routes,
    u_char *base, u_char *p, uint32_t n);

/* no routes again */
void ngx_http_inverting_routes_reset(ngx_http_inverting_routes_t *routes);

/* makes the routes of a block, in no tree yet */
void ngx_http_inverting_routes_make(ngx_http_inverting_block_t *block);

/* the routes of a backend's record, in the second tree if it is present */
void ngx_http_inverting_routes_add(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_backend_t *backend);
void ngx_http_inverting_routes_remove(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_backend_t *backend);

/* puts the backend among those that are present */
void ngx_http_inverting_routes_present(ngx_http_inverting_routes_t *routes,
    ngx_http_inverting_backend_t *backend);

/*
 * Among the backends of this end user the one with the longest prefix, then
 * a present one, then the one with the smallest id.
 */
ngx_http_inverting_backend_t *ngx_http_inverting_routes_match(
    ngx_http_inverting_routes_t *routes, ngx_str_t *user, ngx_str_t *path,
    ngx_msec_t backend_timeout);

/*
 * A tree in the zone must not keep a pointer to a function of one process:
 * this sets and clears it.
 */
void ngx_http_inverting_tree_insert(ngx_rbtree_t *tree,
    ngx_rbtree_node_t *node, ngx_rbtree_insert_pt insert);

/* the same for all trees: what is left to do once the place is known */
void ngx_http_inverting_tree_link(ngx_rbtree_node_t **p,
    ngx_rbtree_node_t *parent, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel);


#endif /* _NGX_HTTP_INVERTING_ROUTES_H_INCLUDED_ */
