
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_rooms.h"


static ngx_http_inverting_room_block_t *ngx_http_inverting_room_block(
    ngx_http_inverting_room_t *room, size_t size);


#define ngx_http_inverting_room_size(id)                                      \
    (sizeof(ngx_http_inverting_room_t) + (id)->len)


ngx_http_inverting_room_t *
ngx_http_inverting_room_make_locked(ngx_http_inverting_zone_t *zone,
    ngx_str_t *id, size_t *sizes, ngx_uint_t n)
{
    ngx_uint_t                         i;
    ngx_http_inverting_room_t         *room;
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    room = ngx_http_inverting_units_alloc(&sh->units,
                                          ngx_http_inverting_room_size(id));
    if (room == NULL) {
        return NULL;
    }

    ngx_memzero(room, sizeof(ngx_http_inverting_room_t));

    room->slot = zone->slot;

    room->id.len = id->len;
    room->id.data = (u_char *) room + sizeof(ngx_http_inverting_room_t);
    ngx_memcpy(room->id.data, id->data, id->len);

    for (i = 0; i < n; i++) {

        room->blocks[i].size = sizes[i];
        room->blocks[i].p = ngx_http_inverting_units_alloc(&sh->units,
                                                           sizes[i]);
        if (room->blocks[i].p == NULL) {
            break;
        }

        room->nblocks++;
    }

    room->next = sh->rooms;

    /* from here on it exists */
    __atomic_store_n(&sh->rooms, room, __ATOMIC_RELEASE);

    if (room->next) {
        room->next->prev = room;
    }

    if (i < n) {
        ngx_http_inverting_room_free_locked(zone, room);
        return NULL;
    }

    return room;
}


void
ngx_http_inverting_room_free_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_room_t *room)
{
    ngx_uint_t                          i;
    ngx_http_inverting_room_t         **link;
    ngx_http_inverting_registry_sh_t   *sh;

    if (room == NULL) {
        return;
    }

    sh = zone->sh->registry;

    link = room->prev ? &room->prev->next : &sh->rooms;

    __atomic_store_n(link, room->next, __ATOMIC_RELEASE);

    if (room->next) {
        room->next->prev = room->prev;
    }

    for (i = 0; i < room->nblocks; i++) {

        if (!room->blocks[i].used) {
            ngx_http_inverting_units_free(&sh->units, room->blocks[i].p,
                                          room->blocks[i].size);
        }
    }

    ngx_http_inverting_units_free(&sh->units, room,
                                  ngx_http_inverting_room_size(&room->id));
}


void *
ngx_http_inverting_room_alloc_locked(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_room_t *room, ngx_str_t *id, size_t size)
{
    void                             *p;
    ngx_http_inverting_room_block_t  *block;

    block = room ? ngx_http_inverting_room_block(room, size) : NULL;

    if (block == NULL) {
        p = ngx_http_inverting_units_alloc(&sh->units, size);

        if (p) {
            return p;
        }

        for (room = sh->rooms; room && block == NULL; room = room->next) {

            if (ngx_http_inverting_str_cmp(&room->id, id) == 0) {
                block = ngx_http_inverting_room_block(room, size);
            }
        }

        if (block == NULL) {
            return NULL;
        }
    }

    /* no more and no less of it will be given back */
    block->used = 1;

    return block->p;
}


/* of just this size, for what is given back is told by its size */

static ngx_http_inverting_room_block_t *
ngx_http_inverting_room_block(ngx_http_inverting_room_t *room, size_t size)
{
    ngx_uint_t  i;

    for (i = 0; i < room->nblocks; i++) {

        if (room->blocks[i].size == size && !room->blocks[i].used) {
            return &room->blocks[i];
        }
    }

    return NULL;
}


ngx_uint_t
ngx_http_inverting_rooms_orphan_locked(ngx_http_inverting_zone_t *zone,
    ngx_uint_t slot)
{
    ngx_uint_t                         n;
    ngx_http_inverting_room_t         *room;
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    n = 0;

    for (room = sh->rooms; room; room = room->next) {

        if (room->slot == slot) {
            room->adopted = 0;
            room->slot = NGX_HTTP_INVERTING_NONE;
            n++;
        }
    }

    return n;
}


void
ngx_http_inverting_rooms_adopt_locked(ngx_http_inverting_zone_t *zone)
{
    ngx_http_inverting_room_t         *room;
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    for (room = sh->rooms; room; room = room->next) {

        if (room->slot == NGX_HTTP_INVERTING_NONE) {
            room->adopted = 1;
            room->slot = zone->slot;
        }
    }
}


void
ngx_http_inverting_rooms_settle_locked(ngx_http_inverting_zone_t *zone,
    ngx_uint_t settled)
{
    ngx_http_inverting_room_t         *room, *next;
    ngx_http_inverting_registry_sh_t  *sh;

    sh = zone->sh->registry;

    for (room = sh->rooms; room; room = next) {
        next = room->next;

        if (room->slot != zone->slot || !room->adopted) {
            continue;
        }

        if (settled) {
            ngx_http_inverting_room_free_locked(zone, room);

        } else {
            room->adopted = 0;
            room->slot = NGX_HTTP_INVERTING_NONE;
        }
    }
}


void
ngx_http_inverting_rooms_rebuild_locked(ngx_http_inverting_registry_sh_t *sh)
{
    ngx_uint_t                        i;
    ngx_http_inverting_room_t        *room, *prev;
    ngx_http_inverting_room_block_t  *block;

    prev = NULL;

    for (room = sh->rooms; room; room = room->next) {
        room->prev = prev;
        prev = room;

        ngx_http_inverting_units_take(&sh->units, room,
                                      ngx_http_inverting_room_size(&room->id));
    }

    for (room = sh->rooms; room; room = room->next) {

        for (i = 0; i < room->nblocks; i++) {
            block = &room->blocks[i];

            /* what was to become part of a backend may not have come to it */

            block->used = !ngx_http_inverting_units_are_free(&sh->units,
                                                             block->p,
                                                             block->size);
            if (!block->used) {
                ngx_http_inverting_units_take(&sh->units, block->p,
                                              block->size);
            }
        }
    }
}
