
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_change.h"


static ngx_uint_t ngx_http_inverting_change_key_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_change_t *change);
static ngx_int_t ngx_http_inverting_change_copy_str(ngx_pool_t *pool,
    ngx_str_t *s);


void
ngx_http_inverting_change_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_change_t *change)
{
    ngx_int_t  rc;

    switch (change->type) {

    case NGX_HTTP_INVERTING_SET:
        rc = ngx_http_inverting_registry_set_locked(zone, &change->record,
                                                    NULL);
        break;

    case NGX_HTTP_INVERTING_DELETE:
        rc = ngx_http_inverting_registry_delete_locked(zone,
                                                       &change->record.id, 0);
        break;

    default: /* ADD_KEY, DELETE_KEY */
        change->result = ngx_http_inverting_change_key_locked(zone, change);
        return;
    }

    switch (rc) {

    case NGX_OK:
        change->result = NGX_HTTP_INVERTING_CHANGED;
        break;

    case NGX_DONE:
        change->result = NGX_HTTP_INVERTING_UNCHANGED;
        break;

    case NGX_DECLINED:
        change->result = NGX_HTTP_INVERTING_STATIC;
        break;

    default: /* NGX_ERROR */
        change->result = NGX_HTTP_INVERTING_REGISTRY_FULL;
    }
}


ngx_int_t
ngx_http_inverting_change_prepare_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_change_t *change, ngx_http_inverting_room_t **room)
{
    ngx_http_inverting_backend_t  *backend;

    *room = NULL;

    backend = ngx_http_inverting_registry_find_locked(zone,
                                                      &change->record.id);

    if (backend && backend->record->configured) {
        change->result = NGX_HTTP_INVERTING_STATIC;
        return NGX_DECLINED;
    }

    switch (change->type) {

    case NGX_HTTP_INVERTING_SET:
        *room = ngx_http_inverting_registry_room_locked(zone, &change->record);
        break;

    case NGX_HTTP_INVERTING_ADD_KEY:
        *room = ngx_http_inverting_key_room_locked(zone, &change->record.id,
                                                   &change->key);
        break;

    default:
        return NGX_OK;
    }

    if (*room == NULL) {
        change->result = NGX_HTTP_INVERTING_REGISTRY_FULL;
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_inverting_change_key_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_change_t *change)
{
    ngx_int_t                      rc;
    ngx_http_inverting_backend_t  *backend;

    backend = ngx_http_inverting_registry_find_locked(zone,
                                                      &change->record.id);
    if (backend == NULL) {
        return NGX_HTTP_INVERTING_NO_BACKEND;
    }

    if (backend->record->configured) {
        return NGX_HTTP_INVERTING_STATIC;
    }

    if (change->type == NGX_HTTP_INVERTING_DELETE_KEY) {
        rc = ngx_http_inverting_key_delete_locked(zone, backend,
                                                  change->key.id);

        return (rc == NGX_OK) ? NGX_HTTP_INVERTING_CHANGED
                              : NGX_HTTP_INVERTING_UNCHANGED;
    }

    switch (ngx_http_inverting_key_add_locked(zone, backend, &change->key,
                                              NULL))
    {

    case NGX_OK:
        return NGX_HTTP_INVERTING_CHANGED;

    case NGX_ERROR:
        return NGX_HTTP_INVERTING_REGISTRY_FULL;

    default: /* NGX_BUSY; NGX_DECLINED would be the same random bits */
        return NGX_HTTP_INVERTING_KEYS_FULL;
    }
}


ngx_int_t
ngx_http_inverting_change_copy(ngx_pool_t *pool,
    ngx_http_inverting_change_t *to, ngx_http_inverting_change_t *from)
{
    ngx_str_t                    *prefixes;
    ngx_uint_t                    i;
    ngx_http_inverting_record_t  *record;

    *to = *from;

    record = &to->record;

    if (ngx_http_inverting_change_copy_str(pool, &record->id) != NGX_OK
        || ngx_http_inverting_change_copy_str(pool, &record->end_user)
           != NGX_OK
        || ngx_http_inverting_change_copy_str(pool, &record->backend_user)
           != NGX_OK
        || ngx_http_inverting_change_copy_str(pool, &to->key.note) != NGX_OK)
    {
        return NGX_ERROR;
    }

    prefixes = ngx_palloc(pool, (record->nprefixes + 1) * sizeof(ngx_str_t));
    if (prefixes == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < record->nprefixes; i++) {
        prefixes[i] = record->prefixes[i];

        if (ngx_http_inverting_change_copy_str(pool, &prefixes[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    record->prefixes = prefixes;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_change_copy_str(ngx_pool_t *pool, ngx_str_t *s)
{
    u_char  *p;

    p = ngx_pnalloc(pool, s->len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (s->len) {
        ngx_memcpy(p, s->data, s->len);
    }

    s->data = p;

    return NGX_OK;
}
