
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_ROOMS_H_INCLUDED_
#define _NGX_HTTP_INVERTING_ROOMS_H_INCLUDED_


#include "ngx_http_inverting_store.h"


/*
 * What is committed to the state can't be refused any more, so the memory for
 * it is taken before: a room has the blocks that one change of a backend may
 * need, and is its worker's until the change is in the zone or has failed.
 * The room of a worker that has died belongs to nobody, for its change may
 * have been committed, until that is settled.
 *
 * Rooms are a list in the registry: what is in it exists.  A block that has
 * become part of a backend is not in its room any more; which ones those are
 * is seen from the backends when the registry is rebuilt.
 *
 * The zone's lock must be held.
 */


#define NGX_HTTP_INVERTING_ROOM_BLOCKS  2


typedef struct {
    u_char                        *p;
    size_t                         size;
    ngx_uint_t                     used;     /* not in here any more */
} ngx_http_inverting_room_block_t;


struct ngx_http_inverting_room_s {
    ngx_http_inverting_room_t       *next;
    ngx_http_inverting_room_t       *prev;
    uint32_t                         slot;    /* NONE: nobody's */
    uint32_t                         adopted; /* by this slot */
    ngx_uint_t                       nblocks;
    ngx_http_inverting_room_block_t  blocks[NGX_HTTP_INVERTING_ROOM_BLOCKS];
    ngx_str_t                        id;      /* of the backend */
};


/* with blocks of these sizes, n of them; NULL: the registry is full */
ngx_http_inverting_room_t *ngx_http_inverting_room_make_locked(
    ngx_http_inverting_zone_t *zone, ngx_str_t *id, size_t *sizes,
    ngx_uint_t n);

/* gives back the room, with what is left in it; "room" may be NULL */
void ngx_http_inverting_room_free_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_room_t *room);

/*
 * Memory for a backend: from "room", if it is not NULL, else from what is
 * free, else from any room of the backend.  NULL: there is none.
 */
void *ngx_http_inverting_room_alloc_locked(
    ngx_http_inverting_registry_sh_t *sh, ngx_http_inverting_room_t *room,
    ngx_str_t *id, size_t size);

/* the rooms of a slot's worker, which is gone; whether there were any */
ngx_uint_t ngx_http_inverting_rooms_orphan_locked(
    ngx_http_inverting_zone_t *zone, ngx_uint_t slot);

/*
 * Makes nobody's rooms this worker's while it settles what has become of the
 * changes; then gives them back, or up again.
 */
void ngx_http_inverting_rooms_adopt_locked(ngx_http_inverting_zone_t *zone);
void ngx_http_inverting_rooms_settle_locked(ngx_http_inverting_zone_t *zone,
    ngx_uint_t settled);

/* when all backends have taken what is theirs */
void ngx_http_inverting_rooms_rebuild_locked(
    ngx_http_inverting_registry_sh_t *sh);


#endif /* _NGX_HTTP_INVERTING_ROOMS_H_INCLUDED_ */
