
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include <openssl/crypto.h>

#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_queue.h"
#include "ngx_http_inverting_random.h"
#include "ngx_http_inverting_worker.h"


/* how many receivers are looked at for one transaction */
#define NGX_HTTP_INVERTING_CANDIDATES  64

/* as many receivers any backend may have, while there are any */
#define NGX_HTTP_INVERTING_RECEIVERS_MIN  16


/* takes nothing now, or never again */
#define ngx_http_inverting_is_full(rcv)                                       \
    ((rcv)->state == NGX_HTTP_INVERTING_RECEIVER_ENDING                       \
     || (rcv)->n >= (rcv)->capacity)


static ngx_http_inverting_receiver_t *ngx_http_inverting_choose_locked(
    ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend);
static ngx_int_t ngx_http_inverting_tell_locked(
    ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, uint64_t key, u_char *id);
static ngx_uint_t ngx_http_inverting_bucket(ngx_http_inverting_zone_t *zone,
    u_char *id);
static void ngx_http_inverting_unlink_receiver_locked(
    ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv);
static void ngx_http_inverting_return_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv);


/* counted in backend->waiting; gives it to a receiver, or into the queue */

void
ngx_http_inverting_place_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t front)
{
    uint32_t                        n;
    ngx_http_inverting_backend_t   *backend;
    ngx_http_inverting_receiver_t  *rcv;

    backend = t->backend;

    rcv = ngx_http_inverting_choose_locked(zone, backend);

    if (rcv == NULL) {
        ngx_http_inverting_enqueue_locked(zone, t, front);
        return;
    }

    n = ngx_http_inverting_tx_index(zone, t);

    t->next = NGX_HTTP_INVERTING_NONE;
    t->prev = rcv->last;

    if (rcv->last != NGX_HTTP_INVERTING_NONE) {
        zone->txs[rcv->last].next = n;

    } else {
        rcv->first = n;
    }

    rcv->last = n;
    rcv->n++;

    ngx_http_inverting_relink_receiver_locked(zone, rcv);

    t->receiver = rcv - zone->receivers;
    t->assigned = ngx_current_msec;
    t->state = NGX_HTTP_INVERTING_TX_ASSIGNED;

    backend->waiting--;
    backend->active++;

    if (rcv->state == NGX_HTTP_INVERTING_RECEIVER_WAITING) {
        rcv->state = NGX_HTTP_INVERTING_RECEIVER_ASSIGNED;
        ngx_http_inverting_notify_receiver(zone, rcv);
    }
}


void
ngx_http_inverting_given(ngx_http_inverting_zone_t *zone, ngx_uint_t receiver)
{
    ngx_http_inverting_end_t  *end;

    if (zone->receivers[receiver].slot != zone->slot) {
        return;
    }

    end = zone->pollers[receiver];

    if (end == NULL || !end->event.posted || ++end->given != end->batch) {
        return;
    }

    ngx_delete_posted_event(&end->event);
    end->event.handler(&end->event);
}


/* the least loaded of this worker's own, else the least loaded */

static ngx_http_inverting_receiver_t *
ngx_http_inverting_choose_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend)
{
    uint32_t                        n;
    ngx_uint_t                      i;
    ngx_http_inverting_receiver_t  *rcv, *best;

    best = NULL;
    i = 0;

    for (n = backend->receivers[0];
         n != NGX_HTTP_INVERTING_NONE && i < NGX_HTTP_INVERTING_CANDIDATES;
         n = rcv->next, i++)
    {
        rcv = &zone->receivers[n];

        if (best == NULL
            || (rcv->slot == zone->slot) > (best->slot == zone->slot)
            || ((rcv->slot == zone->slot) == (best->slot == zone->slot)
                && rcv->n < best->n))
        {
            best = rcv;
        }
    }

    return best;
}


void
ngx_http_inverting_enqueue_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t front)
{
    uint32_t                       n;
    ngx_http_inverting_backend_t  *backend;

    backend = t->backend;
    n = ngx_http_inverting_tx_index(zone, t);

    t->receiver = NGX_HTTP_INVERTING_NONE;
    t->state = NGX_HTTP_INVERTING_TX_WAITING;

    if (backend->queue_first == NGX_HTTP_INVERTING_NONE) {
        t->next = NGX_HTTP_INVERTING_NONE;
        t->prev = NGX_HTTP_INVERTING_NONE;
        backend->queue_first = n;
        backend->queue_last = n;

    } else if (front) {
        t->prev = NGX_HTTP_INVERTING_NONE;
        t->next = backend->queue_first;
        zone->txs[backend->queue_first].prev = n;
        backend->queue_first = n;

    } else {
        t->next = NGX_HTTP_INVERTING_NONE;
        t->prev = backend->queue_last;
        zone->txs[backend->queue_last].next = n;
        backend->queue_last = n;
    }
}


void
ngx_http_inverting_dequeue_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    ngx_http_inverting_backend_t  *backend;

    backend = t->backend;

    if (t->prev != NGX_HTTP_INVERTING_NONE) {
        zone->txs[t->prev].next = t->next;

    } else {
        backend->queue_first = t->next;
    }

    if (t->next != NGX_HTTP_INVERTING_NONE) {
        zone->txs[t->next].prev = t->prev;

    } else {
        backend->queue_last = t->prev;
    }
}


void
ngx_http_inverting_unassign_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv, ngx_http_inverting_tx_t *t)
{
    if (t->prev != NGX_HTTP_INVERTING_NONE) {
        zone->txs[t->prev].next = t->next;

    } else {
        rcv->first = t->next;
    }

    if (t->next != NGX_HTTP_INVERTING_NONE) {
        zone->txs[t->next].prev = t->prev;

    } else {
        rcv->last = t->prev;
    }

    t->receiver = NGX_HTTP_INVERTING_NONE;
}


ngx_int_t
ngx_http_inverting_poll_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key,
    ngx_http_inverting_end_t *end, u_char ids[][NGX_HTTP_INVERTING_ID_LEN])
{
    ngx_int_t                 told;
    ngx_http_inverting_tx_t  *t;

    backend->last_present = ngx_current_msec;

    told = 0;

    while (told < NGX_HTTP_INVERTING_POLL_MAX
           && backend->queue_first != NGX_HTTP_INVERTING_NONE)
    {
        t = &zone->txs[backend->queue_first];

        if (ngx_http_inverting_tell_locked(zone, t, key, ids[told])
            != NGX_OK)
        {
            break;
        }

        ngx_http_inverting_dequeue_locked(zone, t);

        t->assigned = ngx_current_msec;
        t->state = NGX_HTTP_INVERTING_TX_ASSIGNED;

        backend->waiting--;
        backend->active++;
        told++;
    }

    if (told) {
        return told;
    }

    return ngx_http_inverting_make_receiver_locked(zone, backend, key, end,
                                                   NGX_HTTP_INVERTING_POLL_MAX)
           ? NGX_AGAIN : NGX_BUSY;
}


ngx_http_inverting_receiver_t *
ngx_http_inverting_make_receiver_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key,
    ngx_http_inverting_end_t *end, ngx_uint_t capacity)
{
    uint32_t                        n;
    ngx_http_inverting_receiver_t  *rcv;

    n = zone->sh->free_receivers;

    if (n == NGX_HTTP_INVERTING_NONE) {
        return NULL;
    }

    /* always some for other backends, whatever the agents of one do */

    if (backend->nreceivers >= NGX_HTTP_INVERTING_RECEIVERS_MIN
        && backend->nreceivers >= zone->sh->nfree_receivers)
    {
        return NULL;
    }

    rcv = &zone->receivers[n];
    zone->sh->free_receivers = rcv->next;
    zone->sh->nfree_receivers--;

    rcv->slot = zone->slot;
    rcv->backend = backend;
    rcv->first = NGX_HTTP_INVERTING_NONE;
    rcv->last = NGX_HTTP_INVERTING_NONE;
    rcv->n = 0;
    rcv->capacity = capacity;
    rcv->key = key;
    rcv->seq = ++zone->sh->seq;
    rcv->state = NGX_HTTP_INVERTING_RECEIVER_WAITING;

    ngx_http_inverting_registry_ref_locked(backend);
    ngx_http_inverting_link_receiver_locked(zone, rcv);

    end->zone = zone;
    end->receiver = rcv;
    end->event.handler = ngx_http_inverting_end_event;
    end->event.data = end;
    end->event.log = ngx_cycle->log;

    zone->pollers[n] = end;

    ngx_http_inverting_worker_live(zone, 1);

    return rcv;
}


ngx_int_t
ngx_http_inverting_receive(ngx_http_inverting_end_t *end,
    u_char ids[][NGX_HTTP_INVERTING_ID_LEN])
{
    ngx_int_t                       told;
    ngx_http_inverting_tx_t        *t;
    ngx_http_inverting_zone_t      *zone;
    ngx_http_inverting_receiver_t  *rcv;

    zone = end->zone;
    rcv = end->receiver;
    told = 0;

    ngx_http_inverting_lock(zone);

    if (rcv->state == NGX_HTTP_INVERTING_RECEIVER_ENDING) {
        told = NGX_DONE;
    }

    while (rcv->first != NGX_HTTP_INVERTING_NONE
           && told >= 0 && told < NGX_HTTP_INVERTING_POLL_MAX)
    {
        t = &zone->txs[rcv->first];

        if (ngx_http_inverting_tell_locked(zone, t, rcv->key, ids[told])
            != NGX_OK)
        {
            break;
        }

        ngx_http_inverting_unassign_locked(zone, rcv, t);
        rcv->n--;
        told++;
    }

    ngx_http_inverting_unlock(zone);

    if (told == 0) {
        return NGX_AGAIN;
    }

    ngx_http_inverting_poll_close(end);

    return told;
}


/* the agent is about to be told of it: a fresh ID, and a lease */

static ngx_int_t
ngx_http_inverting_tell_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, uint64_t key, u_char *id)
{
    if (ngx_http_inverting_random_id(t->id) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_memcpy(id, t->id, NGX_HTTP_INVERTING_ID_LEN);

    ngx_http_inverting_remember_id_locked(zone, t);

    t->has_id = 1;
    t->fetchable = 1;
    t->via = NGX_HTTP_INVERTING_NONE;
    t->process = 0;
    t->transport = NGX_HTTP_INVERTING_POLL;
    t->lease = ngx_current_msec + NGX_HTTP_INVERTING_LEASE;
    t->keys[NGX_HTTP_INVERTING_CLIENT] = key;

    return NGX_OK;
}


void
ngx_http_inverting_poll_close(ngx_http_inverting_end_t *end)
{
    ngx_http_inverting_zone_t      *zone;
    ngx_http_inverting_receiver_t  *rcv;

    rcv = end->receiver;

    if (rcv == NULL) {
        return;
    }

    zone = end->zone;

    end->receiver = NULL;
    zone->pollers[rcv - zone->receivers] = NULL;

    if (end->event.posted) {
        ngx_delete_posted_event(&end->event);
    }

    ngx_http_inverting_lock(zone);
    ngx_http_inverting_free_receiver_locked(zone, rcv);
    ngx_http_inverting_unlock(zone);

    ngx_http_inverting_worker_live(zone, -1);
}


ngx_http_inverting_tx_t *
ngx_http_inverting_find_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_str_t *id)
{
    uint32_t                  n;
    ngx_http_inverting_tx_t  *t;

    if (id->len != NGX_HTTP_INVERTING_ID_LEN) {
        return NULL;
    }

    n = zone->buckets[ngx_http_inverting_bucket(zone, id->data)];

    while (n != NGX_HTTP_INVERTING_NONE) {
        t = &zone->txs[n];

        if (t->backend == backend
            && CRYPTO_memcmp(t->id, id->data, NGX_HTTP_INVERTING_ID_LEN) == 0)
        {
            return t;
        }

        n = t->id_next;
    }

    return NULL;
}


static ngx_uint_t
ngx_http_inverting_bucket(ngx_http_inverting_zone_t *zone, u_char *id)
{
    ngx_uint_t  i, n;

    /* whatever the agent sent: four bits of each of eight digits */

    for (n = 0, i = 0; i < 8; i++) {
        n = n << 4 | ((id[i] & 0x0f) + (id[i] >> 6) * 9);
    }

    return n & (zone->sh->nbuckets - 1);
}


void
ngx_http_inverting_remember_id_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    uint32_t  *bucket;

    bucket = &zone->buckets[ngx_http_inverting_bucket(zone, t->id)];

    t->id_next = *bucket;
    *bucket = ngx_http_inverting_tx_index(zone, t);
}


void
ngx_http_inverting_forget_id_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    uint32_t  *p, n;

    if (!t->has_id) {
        return;
    }

    n = ngx_http_inverting_tx_index(zone, t);

    p = &zone->buckets[ngx_http_inverting_bucket(zone, t->id)];

    while (*p != n) {
        p = &zone->txs[*p].id_next;
    }

    *p = t->id_next;
    t->has_id = 0;
}


void
ngx_http_inverting_link_receiver_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv)
{
    uint32_t                       n;
    ngx_http_inverting_backend_t  *backend;

    backend = rcv->backend;
    n = rcv - zone->receivers;

    rcv->full = ngx_http_inverting_is_full(rcv);

    rcv->next = NGX_HTTP_INVERTING_NONE;
    rcv->prev = backend->receivers_last[rcv->full];

    if (rcv->prev != NGX_HTTP_INVERTING_NONE) {
        zone->receivers[rcv->prev].next = n;

    } else {
        backend->receivers[rcv->full] = n;
    }

    backend->receivers_last[rcv->full] = n;
    backend->nreceivers++;
}


void
ngx_http_inverting_relink_receiver_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv)
{
    if (rcv->full == ngx_http_inverting_is_full(rcv)) {
        return;
    }

    ngx_http_inverting_unlink_receiver_locked(zone, rcv);
    ngx_http_inverting_link_receiver_locked(zone, rcv);
}


static void
ngx_http_inverting_unlink_receiver_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv)
{
    ngx_http_inverting_backend_t  *backend;

    backend = rcv->backend;

    if (rcv->prev != NGX_HTTP_INVERTING_NONE) {
        zone->receivers[rcv->prev].next = rcv->next;

    } else {
        backend->receivers[rcv->full] = rcv->next;
    }

    if (rcv->next != NGX_HTTP_INVERTING_NONE) {
        zone->receivers[rcv->next].prev = rcv->prev;

    } else {
        backend->receivers_last[rcv->full] = rcv->prev;
    }

    backend->nreceivers--;
}


void
ngx_http_inverting_free_receiver_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv)
{
    ngx_http_inverting_backend_t  *backend;

    backend = rcv->backend;

    /* NULL: a rebuild did not find it, and it has nothing */

    if (backend) {

        /* not an agent that may not serve the backend any more */

        if (rcv->state != NGX_HTTP_INVERTING_RECEIVER_ENDING) {
            backend->last_present = ngx_current_msec;
        }

        ngx_http_inverting_unlink_receiver_locked(zone, rcv);
        ngx_http_inverting_return_locked(zone, rcv);
    }

    rcv->backend = NULL;
    rcv->state = NGX_HTTP_INVERTING_RECEIVER_FREE;
    rcv->next = zone->sh->free_receivers;
    zone->sh->free_receivers = rcv - zone->receivers;
    zone->sh->nfree_receivers++;

    if (backend) {
        ngx_http_inverting_registry_unref_locked(zone, backend);
    }
}


/* what an unlinked receiver was given goes to others, in its old order */

static void
ngx_http_inverting_return_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv)
{
    uint32_t                  n;
    ngx_http_inverting_tx_t  *t;

    n = rcv->last;

    rcv->first = NGX_HTTP_INVERTING_NONE;
    rcv->last = NGX_HTTP_INVERTING_NONE;
    rcv->n = 0;

    while (n != NGX_HTTP_INVERTING_NONE) {
        t = &zone->txs[n];
        n = t->prev;

        rcv->backend->active--;
        rcv->backend->waiting++;

        ngx_http_inverting_place_locked(zone, t, 1);
    }
}
