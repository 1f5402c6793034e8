
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_http_inverting_expiry.h"
#include "ngx_http_inverting_state.h"


/* in one turn: looked at, and deleted */
#define NGX_HTTP_INVERTING_EXPIRE_LOOK    1000
#define NGX_HTTP_INVERTING_EXPIRE_DELETE  64


typedef struct {
    size_t         len;
    u_char         data[NGX_HTTP_INVERTING_BACKEND_ID_LEN];
} ngx_http_inverting_expired_t;


static ngx_uint_t ngx_http_inverting_expired_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_backend_t *backend);
static void ngx_http_inverting_expire_id(ngx_http_inverting_zone_t *zone,
    ngx_str_t *id);


void
ngx_http_inverting_expire(ngx_http_inverting_zone_t *zone)
{
    ngx_str_t                      id;
    ngx_uint_t                     i, n;
    ngx_http_inverting_backend_t  *backend;
    ngx_http_inverting_expired_t   expired[NGX_HTTP_INVERTING_EXPIRE_DELETE];

    if (ngx_exiting) {
        return;
    }

    if (zone->expire.data == NULL) {
        zone->expire.data = ngx_pnalloc(ngx_cycle->pool,
                                        NGX_HTTP_INVERTING_BACKEND_ID_LEN);
        if (zone->expire.data == NULL) {
            return;
        }
    }

    n = 0;

    ngx_http_inverting_lock(zone);

    for (i = 0; i < NGX_HTTP_INVERTING_EXPIRE_LOOK; i++) {

        backend = ngx_http_inverting_registry_next_locked(zone, &zone->expire);

        if (backend == NULL) {
            zone->expire.len = 0;
            break;
        }

        zone->expire.len = backend->id.len;
        ngx_memcpy(zone->expire.data, backend->id.data, backend->id.len);

        if (!ngx_http_inverting_expired_locked(zone, backend)) {
            continue;
        }

        expired[n].len = backend->id.len;
        ngx_memcpy(expired[n].data, backend->id.data, backend->id.len);

        if (++n == NGX_HTTP_INVERTING_EXPIRE_DELETE) {
            break;
        }
    }

    ngx_http_inverting_unlock(zone);

    for (i = 0; i < n; i++) {
        id.len = expired[i].len;
        id.data = expired[i].data;

        ngx_http_inverting_expire_id(zone, &id);
    }
}


static ngx_uint_t
ngx_http_inverting_expired_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend)
{
    time_t  seen;

    /* a long response is as good as a poll */

    if (backend->record->configured
        || backend->nreceivers || backend->active
        || (backend->last_present
            && (ngx_current_msec - backend->last_present) / 1000
               < (ngx_msec_t) zone->expiry))
    {
        return 0;
    }

    seen = ngx_max(backend->last_seen, backend->created);

    return ngx_time() - seen >= zone->expiry;
}


static void
ngx_http_inverting_expire_id(ngx_http_inverting_zone_t *zone, ngx_str_t *id)
{
    ngx_http_inverting_change_t    change;
    ngx_http_inverting_backend_t  *backend;

    ngx_memzero(&change, sizeof(ngx_http_inverting_change_t));

    change.type = NGX_HTTP_INVERTING_DELETE;
    change.record.id = *id;
    change.result = NGX_HTTP_INVERTING_UNCHANGED;

    if (zone->state) {
        (void) ngx_http_inverting_state_submit(zone, &change, NULL, NULL, 0);

    } else {
        ngx_http_inverting_lock(zone);

        backend = ngx_http_inverting_registry_find_locked(zone, id);

        /* an agent may have come meanwhile, or another worker been here */

        if (backend && ngx_http_inverting_expired_locked(zone, backend)) {
            ngx_http_inverting_change_locked(zone, &change);
        }

        ngx_http_inverting_unlock(zone);

        if (change.result != NGX_HTTP_INVERTING_CHANGED) {
            return;
        }
    }

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "backend \"%V\" of zone \"%V\" expires: its agent has not "
                  "been seen for %T seconds", id, &zone->name, zone->expiry);
}
