
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_queue.h"
#include "ngx_http_inverting_rooms.h"
#include "ngx_http_inverting_worker.h"


static void ngx_http_inverting_rebuild_tx_locked(
    ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);
static void ngx_http_inverting_enqueue_sorted_locked(
    ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);


void
ngx_http_inverting_rescan(ngx_http_inverting_zone_t *zone)
{
    ngx_uint_t                  i, n;
    ngx_msec_t                  now;
    ngx_http_inverting_tx_t    *t;
    ngx_http_inverting_end_t  **end;

    now = ngx_current_msec;
    n = zone->sh->ntxs * NGX_HTTP_INVERTING_ROLES;

    for (i = 0; i < n; i++) {

        if (zone->ends[i] == NULL) {
            continue;
        }

        end = &zone->ends[i];
        t = (*end)->tx;

        if (i % NGX_HTTP_INVERTING_ROLES == NGX_HTTP_INVERTING_CLIENT) {

            if (t->lease && (ngx_msec_int_t) (now - t->lease) > 0) {

                ngx_http_inverting_lock(zone);

                if (t->lease && (ngx_msec_int_t) (now - t->lease) > 0) {
                    ngx_http_inverting_lost_locked(zone, t);
                }

                ngx_http_inverting_unlock(zone);

            } else if (t->state == NGX_HTTP_INVERTING_TX_WAITING
                       && t->transport != NGX_HTTP_INVERTING_NO_TRANSPORT
                       && (ngx_msec_int_t) (now - t->queued)
                          > (ngx_msec_int_t) t->queue_timeout)
            {
                /* upstream stopped its own clock when it was first fetched */

                ngx_http_inverting_lock(zone);

                if (t->state == NGX_HTTP_INVERTING_TX_WAITING) {
                    ngx_http_inverting_end_tx_locked(zone, t,
                                                NGX_HTTP_INVERTING_TIMED_OUT);
                }

                ngx_http_inverting_unlock(zone);
            }
        }

        if (!(*end)->event.posted) {
            ngx_post_event(&(*end)->event, &ngx_posted_next_events);
        }
    }

    if (zone->sh->spent_txs != NGX_HTTP_INVERTING_NONE) {
        ngx_http_inverting_lock(zone);
        ngx_http_inverting_spent_locked(zone);
        ngx_http_inverting_unlock(zone);
    }

    n = zone->sh->nreceivers;

    for (i = 0; i < n; i++) {

        if (zone->pollers[i]
            && zone->receivers[i].state != NGX_HTTP_INVERTING_RECEIVER_WAITING
            && !zone->pollers[i]->event.posted)
        {
            ngx_post_event(&zone->pollers[i]->event, &ngx_posted_next_events);
        }
    }
}


void
ngx_http_inverting_slot_recover_locked(ngx_http_inverting_zone_t *zone,
    ngx_uint_t slot)
{
    ngx_uint_t                      i, role;
    ngx_http_inverting_tx_t        *t;
    ngx_http_inverting_receiver_t  *rcv;

    for (i = 0; i < zone->sh->nreceivers; i++) {
        rcv = &zone->receivers[i];

        if (rcv->state != NGX_HTTP_INVERTING_RECEIVER_FREE
            && rcv->slot == slot)
        {
            ngx_http_inverting_free_receiver_locked(zone, rcv);
        }
    }

    for (i = 0; i < zone->sh->ntxs; i++) {
        t = &zone->txs[i];

        for (role = 0; role < NGX_HTTP_INVERTING_ROLES; role++) {

            if (t->state == NGX_HTTP_INVERTING_TX_FREE
                || t->slot[role] != slot)
            {
                continue;
            }

            t->tainted = 1;

            ngx_http_inverting_detach_locked(zone, t, role,
                                             role == NGX_HTTP_INVERTING_CLIENT
                                             ? NGX_HTTP_INVERTING_CLIENT_GONE
                                             : NGX_HTTP_INVERTING_AGENT_LOST);
        }
    }

    ngx_http_inverting_spent_locked(zone);
    ngx_http_inverting_cache_recover_locked(zone, slot);

    /* what they are for may have been committed */

    if (ngx_http_inverting_rooms_orphan_locked(zone, slot)) {
        zone->sh->unsettled = 1;
    }
}


void
ngx_http_inverting_spent_locked(ngx_http_inverting_zone_t *zone)
{
    uint32_t                      *last;
    ngx_http_inverting_zone_sh_t  *sh;

    sh = zone->sh;

    if (sh->spent_txs == NGX_HTTP_INVERTING_NONE) {
        return;
    }

    ngx_http_inverting_chunks_sweep_locked(zone);

    for (last = &sh->spent_txs;
         *last != NGX_HTTP_INVERTING_NONE;
         last = &zone->txs[*last].next)
    {
        /* void */
    }

    *last = sh->free_txs;
    sh->free_txs = sh->spent_txs;
    sh->spent_txs = NGX_HTTP_INVERTING_NONE;
}


void
ngx_http_inverting_rebuild_locked(ngx_http_inverting_zone_t *zone)
{
    ngx_uint_t                      i;
    ngx_http_inverting_tx_t        *t;
    ngx_http_inverting_zone_sh_t   *sh;
    ngx_http_inverting_receiver_t  *rcv;

    sh = zone->sh;

    sh->rebuilds++;
    sh->free_txs = NGX_HTTP_INVERTING_NONE;
    sh->spent_txs = NGX_HTTP_INVERTING_NONE;
    sh->free_receivers = NGX_HTTP_INVERTING_NONE;
    sh->nfree_receivers = 0;

    for (i = 0; i < sh->nbuckets; i++) {
        zone->buckets[i] = NGX_HTTP_INVERTING_NONE;
    }

    for (i = sh->nreceivers; i-- > 0; /* void */ ) {
        rcv = &zone->receivers[i];

        rcv->first = NGX_HTTP_INVERTING_NONE;
        rcv->last = NGX_HTTP_INVERTING_NONE;
        rcv->n = 0;

        if (rcv->state == NGX_HTTP_INVERTING_RECEIVER_FREE) {
            rcv->next = sh->free_receivers;
            sh->free_receivers = i;
            sh->nfree_receivers++;
            continue;
        }

        if (rcv->backend == NULL) {

            /* deleted, but the poll is still there, and has to be told */

            rcv->state = NGX_HTTP_INVERTING_RECEIVER_ENDING;
            rcv->full = 1;
            ngx_http_inverting_notify_receiver(zone, rcv);
            continue;
        }

        if (rcv->state == NGX_HTTP_INVERTING_RECEIVER_ASSIGNED) {
            rcv->state = NGX_HTTP_INVERTING_RECEIVER_WAITING;
        }

        /* its streams are counted with the transactions, below */

        ngx_http_inverting_registry_ref_locked(rcv->backend);
        ngx_http_inverting_link_receiver_locked(zone, rcv);
    }

    for (i = sh->ntxs; i-- > 0; /* void */ ) {
        t = &zone->txs[i];

        ngx_http_inverting_rebuild_tx_locked(zone, t);

        if (t->state == NGX_HTTP_INVERTING_TX_FREE) {
            t->next = sh->free_txs;
            sh->free_txs = i;
        }
    }

    ngx_http_inverting_chunks_rebuild_locked(zone);

    for (i = 0; i < sh->nreceivers; i++) {
        rcv = &zone->receivers[i];

        while (rcv->state == NGX_HTTP_INVERTING_RECEIVER_WAITING
               && rcv->backend->queue_first != NGX_HTTP_INVERTING_NONE)
        {
            t = &zone->txs[rcv->backend->queue_first];

            ngx_http_inverting_dequeue_locked(zone, t);
            ngx_http_inverting_place_locked(zone, t, 1);

            if (t->state == NGX_HTTP_INVERTING_TX_WAITING) {

                /* none has room */

                break;
            }
        }
    }
}


static void
ngx_http_inverting_rebuild_tx_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    ngx_uint_t                     attached;
    ngx_http_inverting_backend_t  *backend;

    if (t->state == NGX_HTTP_INVERTING_TX_FREE) {
        return;
    }

    /* nor can the chains of its chunks be relied on */
    t->tainted = 1;

    attached = t->slot[NGX_HTTP_INVERTING_TAKER] != NGX_HTTP_INVERTING_NONE
               || t->slot[NGX_HTTP_INVERTING_ANSWERER]
                  != NGX_HTTP_INVERTING_NONE;

    if (t->slot[NGX_HTTP_INVERTING_CLIENT] == NGX_HTTP_INVERTING_NONE
        && !attached)
    {
        t->backend = NULL;
        t->state = NGX_HTTP_INVERTING_TX_FREE;
        return;
    }

    if (t->slot[NGX_HTTP_INVERTING_ANSWERER] != NGX_HTTP_INVERTING_NONE
        && ngx_http_inverting_is_via(zone, t))
    {
        zone->receivers[t->via].n++;
        ngx_http_inverting_relink_receiver_locked(zone,
                                                  &zone->receivers[t->via]);
    }

    backend = t->backend;

    if (backend) {
        ngx_http_inverting_registry_ref_locked(backend);
    }

    /* an ID that no agent was told of, or that nobody will ask for */

    if (backend == NULL
        || t->receiver != NGX_HTTP_INVERTING_NONE
        || t->state < NGX_HTTP_INVERTING_TX_ASSIGNED
        || t->state == NGX_HTTP_INVERTING_TX_DONE)
    {
        t->has_id = 0;
        t->fetchable = 0;
        t->lease = 0;
    }

    switch (t->state) {

    case NGX_HTTP_INVERTING_TX_DONE:
        if (t->outcome == NGX_HTTP_INVERTING_PENDING) {
            t->outcome = NGX_HTTP_INVERTING_AGENT_LOST;
        }

        break;

    case NGX_HTTP_INVERTING_TX_OPENING:
        if (backend) {
            backend->waiting++;
        }

        break;

    case NGX_HTTP_INVERTING_TX_WAITING:
        if (backend) {
            backend->waiting++;
            ngx_http_inverting_enqueue_sorted_locked(zone, t);
        }

        break;

    default: /* ASSIGNED, ANSWERING */

        if (backend == NULL) {
            break;
        }

        if (attached && t->via != NGX_HTTP_INVERTING_NONE) {
            backend->active++;

        } else if (t->has_id) {
            ngx_http_inverting_remember_id_locked(zone, t);
            backend->active++;

            if (!t->answered && t->lease == 0) {
                t->lease = ngx_current_msec + NGX_HTTP_INVERTING_LEASE;
            }

        } else if (!attached && t->response.written == 0
                   && ngx_http_inverting_harmless_locked(t))
        {

            /* nobody was told of it, or it was to be offered again */

            t->answered = 0;
            backend->waiting++;
            ngx_http_inverting_enqueue_sorted_locked(zone, t);

        } else {
            backend->active++;
            ngx_http_inverting_end_tx_locked(zone, t,
                                             NGX_HTTP_INVERTING_AGENT_LOST);
        }
    }

    if (backend == NULL || backend->deleted) {
        ngx_http_inverting_end_tx_locked(zone, t,
                                         NGX_HTTP_INVERTING_BACKEND_GONE);

    }

    /* an end may have been given up, and nothing more */

    if (t->slot[NGX_HTTP_INVERTING_CLIENT] == NGX_HTTP_INVERTING_NONE) {
        ngx_http_inverting_detach_locked(zone, t, NGX_HTTP_INVERTING_CLIENT,
                                         NGX_HTTP_INVERTING_CLIENT_GONE);

    } else if (t->answered && !t->response.closed
               && t->slot[NGX_HTTP_INVERTING_ANSWERER]
                  == NGX_HTTP_INVERTING_NONE)
    {
        ngx_http_inverting_detach_locked(zone, t, NGX_HTTP_INVERTING_ANSWERER,
                                         NGX_HTTP_INVERTING_AGENT_LOST);

    } else if (t->answered
               && t->slot[NGX_HTTP_INVERTING_TAKER] == NGX_HTTP_INVERTING_NONE)
    {
        ngx_http_inverting_detach_locked(zone, t, NGX_HTTP_INVERTING_TAKER,
                                         NGX_HTTP_INVERTING_PENDING);
    }

    if (t->state == NGX_HTTP_INVERTING_TX_DONE) {
        ngx_http_inverting_ended_locked(zone, t);
    }
}


/* into the queue, in the order of arrival */

static void
ngx_http_inverting_enqueue_sorted_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    uint32_t                       n, before;
    ngx_http_inverting_backend_t  *backend;

    backend = t->backend;
    n = ngx_http_inverting_tx_index(zone, t);

    for (before = backend->queue_last;
         before != NGX_HTTP_INVERTING_NONE && zone->txs[before].seq > t->seq;
         before = zone->txs[before].prev)
    {
        /* void */
    }

    if (before == NGX_HTTP_INVERTING_NONE
        || before == backend->queue_last)
    {
        ngx_http_inverting_enqueue_locked(zone, t,
                                         before == NGX_HTTP_INVERTING_NONE);
        return;
    }

    t->receiver = NGX_HTTP_INVERTING_NONE;
    t->state = NGX_HTTP_INVERTING_TX_WAITING;

    t->prev = before;
    t->next = zone->txs[before].next;
    zone->txs[t->next].prev = n;
    zone->txs[before].next = n;
}
