
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_http_inverting_exchange.h"
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
static ngx_int_t ngx_http_inverting_expire_id(
    ngx_http_inverting_zone_t *zone, ngx_str_t *id, uint64_t applied);
static void ngx_http_inverting_expire_handler(ngx_http_inverting_op_t *op);
static void ngx_http_inverting_expire_log(ngx_http_inverting_zone_t *zone,
    ngx_str_t *id);


void
ngx_http_inverting_expire(ngx_http_inverting_zone_t *zone)
{
    uint64_t                       applied;
    ngx_str_t                      id;
    ngx_uint_t                     i, n;
    ngx_http_inverting_backend_t  *backend;
    ngx_http_inverting_expired_t   expired[NGX_HTTP_INVERTING_EXPIRE_DELETE];

    /* what was looked at is to be gone first */

    if (ngx_exiting || zone->expiring) {
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

    applied = zone->sh->applied;

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

        if (ngx_http_inverting_expire_id(zone, &id, applied) != NGX_OK) {
            break;
        }
    }
}


static ngx_uint_t
ngx_http_inverting_expired_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend)
{
    ngx_msec_t  since;

    /* a long response is as good as a poll */

    if (backend->record->configured
        || backend->nreceivers || backend->active)
    {
        return 0;
    }

    /* the wall clock may be set; another worker's may be ahead of ours */

    since = backend->expected;

    if (backend->last_present
        && (ngx_msec_int_t) (backend->last_present - since) > 0)
    {
        since = backend->last_present;
    }

    return (ngx_msec_int_t) (ngx_current_msec - since)
           >= (ngx_msec_int_t) zone->expiry * 1000;
}


/* NGX_ERROR: better later */

static ngx_int_t
ngx_http_inverting_expire_id(ngx_http_inverting_zone_t *zone, ngx_str_t *id,
    uint64_t applied)
{
    ngx_http_inverting_change_t    change;
    ngx_http_inverting_backend_t  *backend;

    ngx_memzero(&change, sizeof(ngx_http_inverting_change_t));

    change.record.id = *id;

    if (zone->state) {

        /* not one that somebody has created anew meanwhile */

        change.type = NGX_HTTP_INVERTING_EXPIRE;
        change.since = applied;

        if (ngx_http_inverting_state_submit(zone, &change,
                                            ngx_http_inverting_expire_handler,
                                            zone, NULL)
            == NULL)
        {
            return NGX_ERROR;
        }

        zone->expiring++;

        return NGX_OK;
    }

    change.type = NGX_HTTP_INVERTING_DELETE;
    change.result = NGX_HTTP_INVERTING_UNCHANGED;

    ngx_http_inverting_lock(zone);

    backend = ngx_http_inverting_registry_find_locked(zone, id);

    /* an agent may have come meanwhile, or another worker been here */

    if (backend && ngx_http_inverting_expired_locked(zone, backend)) {
        ngx_http_inverting_change_locked(zone, &change);
    }

    ngx_http_inverting_unlock(zone);

    if (change.result == NGX_HTTP_INVERTING_CHANGED) {
        ngx_http_inverting_expire_log(zone, id);
    }

    return NGX_OK;
}


static void
ngx_http_inverting_expire_handler(ngx_http_inverting_op_t *op)
{
    ngx_http_inverting_zone_t  *zone;

    zone = op->data;

    zone->expiring--;

    if (op->change.result == NGX_HTTP_INVERTING_CHANGED) {
        ngx_http_inverting_expire_log(zone, &op->change.record.id);
    }
}


static void
ngx_http_inverting_expire_log(ngx_http_inverting_zone_t *zone, ngx_str_t *id)
{
    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "backend \"%V\" of zone \"%V\" expires: its agent has "
                  "not been seen for %T seconds",
                  id, &zone->name, zone->expiry);
}
