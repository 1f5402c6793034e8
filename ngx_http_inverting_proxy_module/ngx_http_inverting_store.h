
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_STORE_H_INCLUDED_
#define _NGX_HTTP_INVERTING_STORE_H_INCLUDED_


#include "ngx_http_inverting_registry.h"
#include "ngx_http_inverting_routes.h"
#include "ngx_http_inverting_units.h"


/*
 * A backend is blocks of the registry's memory: itself, with its id; its
 * record, which is replaced as a whole; and its keys.  What is in the list of
 * all backends and not marked deleted exists, with the keys in its own list;
 * so do rooms, see ngx_http_inverting_rooms.h.  Everything else (the bitmap of
 * the memory, the trees, the indices, the numbers) follows from it.
 */

struct ngx_http_inverting_registry_sh_s {
    ngx_http_inverting_backend_t    *first;
    ngx_http_inverting_room_t       *rooms;

    ngx_rbtree_t                     ids;            /* for lists */
    ngx_rbtree_node_t                ids_sentinel;
    ngx_http_inverting_index_t       index;          /* by id */
    ngx_rbtree_t                     keys;
    ngx_rbtree_node_t                keys_sentinel;
    ngx_http_inverting_routes_t      routes;
    ngx_http_inverting_units_t       units;

    ngx_uint_t                       nbackends;
    ngx_uint_t                       nconfigured;
};


#endif /* _NGX_HTTP_INVERTING_STORE_H_INCLUDED_ */
