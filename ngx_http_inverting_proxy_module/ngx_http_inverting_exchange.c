
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include <openssl/crypto.h>

#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_random.h"
#include "ngx_http_inverting_worker.h"


/* how many receivers are looked at for one transaction */
#define NGX_HTTP_INVERTING_CANDIDATES  64


static void ngx_http_inverting_attach(ngx_http_inverting_end_t *end,
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t,
    ngx_uint_t role);
static void ngx_http_inverting_end_event(ngx_event_t *ev);
static void ngx_http_inverting_detach_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t role, ngx_uint_t outcome);
static void ngx_http_inverting_client_detach_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t,
    ngx_uint_t outcome);
static void ngx_http_inverting_taker_detach_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t,
    ngx_uint_t outcome);
static void ngx_http_inverting_answerer_detach_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t,
    ngx_uint_t outcome);
static void ngx_http_inverting_lost_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);
static void ngx_http_inverting_end_tx_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t outcome);
static void ngx_http_inverting_free_tx_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);
static void ngx_http_inverting_place_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t front);
static ngx_http_inverting_receiver_t *ngx_http_inverting_choose_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_backend_t *backend);
static void ngx_http_inverting_enqueue_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t front);
static void ngx_http_inverting_dequeue_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);
static ngx_int_t ngx_http_inverting_tell_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t, u_char *id);
static ngx_http_inverting_tx_t *ngx_http_inverting_find_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_backend_t *backend,
    ngx_str_t *id);
static ngx_uint_t ngx_http_inverting_bucket(ngx_http_inverting_zone_t *zone,
    u_char *id);
static void ngx_http_inverting_remember_id_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t);
static void ngx_http_inverting_forget_id_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t);
static void ngx_http_inverting_unlink_receiver_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_receiver_t *rcv);
static void ngx_http_inverting_link_receiver_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_receiver_t *rcv);
static void ngx_http_inverting_free_receiver_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_receiver_t *rcv);
static void ngx_http_inverting_return_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv);
static void ngx_http_inverting_rebuild_tx_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t);
static void ngx_http_inverting_enqueue_sorted_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t);


ngx_int_t
ngx_http_inverting_reserve_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_http_inverting_offer_t *offer,
    ngx_http_inverting_end_t *end)
{
    uint32_t                       n, chunk, head;
    ngx_time_t                    *tp;
    struct timespec                ts;
    ngx_http_inverting_tx_t       *t;
    ngx_http_inverting_zone_sh_t  *sh;

    sh = zone->sh;

    if (!ngx_http_inverting_present_locked(backend, offer->backend_timeout)) {
        sh->absent++;
        return NGX_HTTP_INVERTING_ABSENT;
    }

    if (backend->waiting >= offer->queue) {
        sh->queue_full++;
        return NGX_HTTP_INVERTING_QUEUE_FULL;
    }

    n = sh->free_txs;

    if (n == NGX_HTTP_INVERTING_NONE) {
        sh->zone_full++;
        return NGX_HTTP_INVERTING_ZONE_FULL;
    }

    t = &zone->txs[n];

    head = (offer->user.len + offer->head.len
            + NGX_HTTP_INVERTING_CHUNK_SIZE - 1)
           >> NGX_HTTP_INVERTING_CHUNK_SHIFT;

    /* and the first one of each pipe */

    chunk = ngx_http_inverting_chunks_alloc_locked(zone,
                                                   head + 1 + offer->body, n);
    if (chunk == NGX_HTTP_INVERTING_NONE) {
        sh->zone_full++;
        return NGX_HTTP_INVERTING_ZONE_FULL;
    }

    sh->free_txs = t->next;

    ngx_http_inverting_pipe_init(&t->response, chunk, offer->share);
    chunk = zone->chunk_next[chunk];

    if (offer->body) {
        ngx_http_inverting_pipe_init(&t->request, chunk, offer->share);
        chunk = zone->chunk_next[chunk];

    } else {
        ngx_http_inverting_pipe_init(&t->request, NGX_HTTP_INVERTING_NONE, 0);
        t->request.closed = NGX_HTTP_INVERTING_PIPE_EOF;
    }

    t->head = chunk;
    t->head_len = offer->head.len;
    t->user_len = offer->user.len;

    t->outcome = NGX_HTTP_INVERTING_PENDING;
    t->next = NGX_HTTP_INVERTING_NONE;
    t->prev = NGX_HTTP_INVERTING_NONE;
    t->id_next = NGX_HTTP_INVERTING_NONE;
    t->seq = ++sh->seq;
    t->backend = backend;
    t->receiver = NGX_HTTP_INVERTING_NONE;

    t->slot[NGX_HTTP_INVERTING_CLIENT] = NGX_HTTP_INVERTING_NONE;
    t->slot[NGX_HTTP_INVERTING_TAKER] = NGX_HTTP_INVERTING_NONE;
    t->slot[NGX_HTTP_INVERTING_ANSWERER] = NGX_HTTP_INVERTING_NONE;

    /* nginx's cached time has milliseconds only: good enough for the log */
    tp = ngx_timeofday();
    ts.tv_sec = tp->sec;
    ts.tv_nsec = tp->msec * 1000000;
    (void) clock_gettime(CLOCK_REALTIME, &ts);

    t->start_sec = ts.tv_sec;
    t->start_nsec = ts.tv_nsec;

    t->opened = ngx_current_msec;
    t->queued = ngx_current_msec;
    t->assigned = 0;
    t->lease = 0;
    t->queue_timeout = offer->queue_timeout;

    t->accepted = 0;
    t->taken = 0;
    t->tainted = 0;

    t->body = offer->body;
    t->idempotent = offer->idempotent;
    t->has_id = 0;
    t->fetchable = 0;
    t->answered = 0;
    t->requeued = 0;

    t->state = NGX_HTTP_INVERTING_TX_OPENING;

    ngx_http_inverting_registry_ref_locked(backend);
    backend->waiting++;
    backend->last_used = ts.tv_sec;

    ngx_http_inverting_attach(end, zone, t, NGX_HTTP_INVERTING_CLIENT);

    return NGX_OK;
}


static void
ngx_http_inverting_attach(ngx_http_inverting_end_t *end,
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t,
    ngx_uint_t role)
{
    ngx_uint_t  n;

    n = ngx_http_inverting_tx_index(zone, t);

    end->zone = zone;
    end->tx = t;
    end->role = role;

    end->event.handler = ngx_http_inverting_end_event;
    end->event.data = end;
    end->event.log = ngx_cycle->log;

    zone->ends[n * NGX_HTTP_INVERTING_ROLES + role] = end;

    t->slot[role] = zone->slot;

    ngx_http_inverting_worker_live(zone, 1);
}


static void
ngx_http_inverting_end_event(ngx_event_t *ev)
{
    ngx_http_inverting_end_t  *end;

    end = ev->data;

    end->handler(end);
}


void
ngx_http_inverting_offer(ngx_http_inverting_end_t *end,
    ngx_http_inverting_offer_t *offer)
{
    size_t                      n, size, room;
    u_char                     *p, *dst;
    uint32_t                    chunk;
    ngx_uint_t                  i;
    ngx_http_inverting_tx_t    *t;
    ngx_http_inverting_zone_t  *zone;

    zone = end->zone;
    t = end->tx;

    chunk = t->head;
    dst = ngx_http_inverting_chunk_data(zone, chunk);
    room = NGX_HTTP_INVERTING_CHUNK_SIZE;

    for (i = 0; i < 2; i++) {
        p = i ? offer->head.data : offer->user.data;
        size = i ? offer->head.len : offer->user.len;

        while (size) {

            if (room == 0) {
                chunk = zone->chunk_next[chunk];
                dst = ngx_http_inverting_chunk_data(zone, chunk);
                room = NGX_HTTP_INVERTING_CHUNK_SIZE;
            }

            n = ngx_min(size, room);
            dst = ngx_cpymem(dst, p, n);

            p += n;
            size -= n;
            room -= n;
        }
    }

    ngx_http_inverting_lock(zone);

    if (t->state == NGX_HTTP_INVERTING_TX_OPENING) {
        ngx_http_inverting_place_locked(zone, t, 0);
    }

    ngx_http_inverting_unlock(zone);
}


void
ngx_http_inverting_accept(ngx_http_inverting_end_t *end)
{
    ngx_http_inverting_tx_t  *t;

    t = end->tx;

    __atomic_store_n(&t->accepted, 1, __ATOMIC_SEQ_CST);

    /* an answerer that has finished waits for nothing else */

    if (__atomic_load_n(&t->response.closed, __ATOMIC_SEQ_CST)) {
        ngx_http_inverting_notify_tx(end->zone, t,
                                     NGX_HTTP_INVERTING_ANSWERER);
    }
}


void
ngx_http_inverting_close(ngx_http_inverting_end_t *end, ngx_uint_t outcome)
{
    ngx_uint_t                  n;
    ngx_http_inverting_tx_t    *t;
    ngx_http_inverting_zone_t  *zone;

    t = end->tx;

    if (t == NULL) {
        return;
    }

    zone = end->zone;
    n = ngx_http_inverting_tx_index(zone, t);

    end->tx = NULL;
    zone->ends[n * NGX_HTTP_INVERTING_ROLES + end->role] = NULL;

    if (end->event.posted) {
        ngx_delete_posted_event(&end->event);
    }

    ngx_http_inverting_lock(zone);
    ngx_http_inverting_detach_locked(zone, t, end->role, outcome);
    ngx_http_inverting_unlock(zone);

    ngx_http_inverting_worker_live(zone, -1);
}


static void
ngx_http_inverting_detach_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t role, ngx_uint_t outcome)
{
    t->slot[role] = NGX_HTTP_INVERTING_NONE;

    switch (role) {

    case NGX_HTTP_INVERTING_CLIENT:
        ngx_http_inverting_client_detach_locked(zone, t, outcome);
        break;

    case NGX_HTTP_INVERTING_TAKER:
        ngx_http_inverting_taker_detach_locked(zone, t, outcome);
        break;

    default: /* NGX_HTTP_INVERTING_ANSWERER */
        ngx_http_inverting_answerer_detach_locked(zone, t, outcome);
        break;
    }

    /* without a client it is always DONE */

    if (t->slot[NGX_HTTP_INVERTING_CLIENT] == NGX_HTTP_INVERTING_NONE
        && t->slot[NGX_HTTP_INVERTING_TAKER] == NGX_HTTP_INVERTING_NONE
        && t->slot[NGX_HTTP_INVERTING_ANSWERER] == NGX_HTTP_INVERTING_NONE)
    {
        ngx_http_inverting_free_tx_locked(zone, t);
    }
}


static void
ngx_http_inverting_client_detach_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t outcome)
{
    /* the client's two ends of the pipes */

    if (!t->request.closed) {
        __atomic_store_n(&t->request.closed, NGX_HTTP_INVERTING_PIPE_CUT,
                         __ATOMIC_SEQ_CST);
    }

    __atomic_store_n(&t->response.abandoned, 1, __ATOMIC_SEQ_CST);

    ngx_http_inverting_end_tx_locked(zone, t, outcome);
}


static void
ngx_http_inverting_taker_detach_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t outcome)
{
    if (outcome == NGX_HTTP_INVERTING_AGENT_LOST
        && t->outcome == NGX_HTTP_INVERTING_PENDING
        && !t->answered)
    {
        if (t->request.consumed == 0) {

            /* agents try again when a fetch fails */

            t->fetchable = 1;
            t->lease = ngx_current_msec + NGX_HTTP_INVERTING_LEASE;
            return;
        }

        ngx_http_inverting_end_tx_locked(zone, t,
                                         NGX_HTTP_INVERTING_AGENT_LOST);
    }

    __atomic_store_n(&t->request.abandoned, 1, __ATOMIC_SEQ_CST);

    ngx_http_inverting_notify_tx(zone, t, NGX_HTTP_INVERTING_CLIENT);
}


static void
ngx_http_inverting_answerer_detach_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t outcome)
{
    if (t->backend) {
        t->backend->last_present = ngx_current_msec;
    }

    if (t->outcome != NGX_HTTP_INVERTING_PENDING
        || t->response.closed == NGX_HTTP_INVERTING_PIPE_EOF)
    {
        return;
    }

    if (t->response.written == 0) {
        ngx_http_inverting_lost_locked(zone, t);
        return;
    }

    ngx_http_inverting_end_tx_locked(zone, t, NGX_HTTP_INVERTING_AGENT_LOST);
}


/*
 * No byte of a response has come, and none will from this agent: offers the
 * transaction again if that can do no harm, else it fails.
 */

static void
ngx_http_inverting_lost_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    ngx_uint_t  again;

    again = !t->requeued
            && t->slot[NGX_HTTP_INVERTING_CLIENT] != NGX_HTTP_INVERTING_NONE
            && t->slot[NGX_HTTP_INVERTING_TAKER] == NGX_HTTP_INVERTING_NONE
            && t->request.consumed == 0
            && (t->idempotent || !t->taken);

    if (!again) {
        ngx_http_inverting_end_tx_locked(zone, t,
                                         NGX_HTTP_INVERTING_AGENT_LOST);
        return;
    }

    ngx_http_inverting_forget_id_locked(zone, t);

    t->requeued = 1;
    t->answered = 0;
    t->fetchable = 0;
    t->lease = 0;
    t->queued = ngx_current_msec;

    t->backend->active--;
    t->backend->waiting++;

    ngx_http_inverting_place_locked(zone, t, 1);
}


/* the transaction has come to its end, whatever its state; all are told */

static void
ngx_http_inverting_end_tx_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t outcome)
{
    ngx_http_inverting_backend_t   *backend;
    ngx_http_inverting_receiver_t  *rcv;

    if (t->state == NGX_HTTP_INVERTING_TX_DONE) {
        return;
    }

    backend = t->backend;

    /* NULL: a rebuild did not find it, and it counts nothing */

    switch (backend ? t->state : NGX_HTTP_INVERTING_TX_FREE) {

    case NGX_HTTP_INVERTING_TX_FREE:
        break;

    case NGX_HTTP_INVERTING_TX_WAITING:
        ngx_http_inverting_dequeue_locked(zone, t);
        /* fall through */

    case NGX_HTTP_INVERTING_TX_OPENING:
        backend->waiting--;
        break;

    default: /* ASSIGNED, ANSWERING */

        if (t->receiver != NGX_HTTP_INVERTING_NONE) {
            rcv = &zone->receivers[t->receiver];

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

            rcv->n--;

            if (rcv->n == 0
                && rcv->state == NGX_HTTP_INVERTING_RECEIVER_ASSIGNED)
            {
                rcv->state = NGX_HTTP_INVERTING_RECEIVER_WAITING;
            }

            t->receiver = NGX_HTTP_INVERTING_NONE;
        }

        backend->active--;
        break;
    }

    ngx_http_inverting_forget_id_locked(zone, t);

    t->lease = 0;

    __atomic_store_n(&t->state, NGX_HTTP_INVERTING_TX_DONE, __ATOMIC_SEQ_CST);
    __atomic_store_n(&t->outcome, outcome, __ATOMIC_SEQ_CST);

    if (t->slot[NGX_HTTP_INVERTING_ANSWERER] == NGX_HTTP_INVERTING_NONE
        && !t->response.closed)
    {
        __atomic_store_n(&t->response.closed, NGX_HTTP_INVERTING_PIPE_CUT,
                         __ATOMIC_SEQ_CST);
    }

    if (t->slot[NGX_HTTP_INVERTING_TAKER] == NGX_HTTP_INVERTING_NONE) {
        __atomic_store_n(&t->request.abandoned, 1, __ATOMIC_SEQ_CST);
    }

    ngx_http_inverting_notify_tx(zone, t, NGX_HTTP_INVERTING_CLIENT);
    ngx_http_inverting_notify_tx(zone, t, NGX_HTTP_INVERTING_TAKER);
    ngx_http_inverting_notify_tx(zone, t, NGX_HTTP_INVERTING_ANSWERER);
}


static void
ngx_http_inverting_free_tx_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    ngx_http_inverting_backend_t  *backend;

    ngx_http_inverting_pipes_free_locked(zone, t);

    backend = t->backend;

    t->backend = NULL;
    t->state = NGX_HTTP_INVERTING_TX_FREE;
    t->next = zone->sh->free_txs;
    zone->sh->free_txs = ngx_http_inverting_tx_index(zone, t);

    if (backend) {
        ngx_http_inverting_registry_unref_locked(zone, backend);
    }
}


/* counted in backend->waiting; gives it to a receiver, or into the queue */

static void
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


/* one of this worker's own, else the least loaded */

static ngx_http_inverting_receiver_t *
ngx_http_inverting_choose_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend)
{
    uint32_t                        n;
    ngx_uint_t                      i;
    ngx_http_inverting_receiver_t  *rcv, *best;

    best = NULL;
    i = 0;

    for (n = backend->receivers;
         n != NGX_HTTP_INVERTING_NONE && i < NGX_HTTP_INVERTING_CANDIDATES;
         n = rcv->next, i++)
    {
        rcv = &zone->receivers[n];

        if (rcv->state == NGX_HTTP_INVERTING_RECEIVER_ENDING
            || rcv->n >= rcv->capacity)
        {
            continue;
        }

        if (rcv->slot == zone->slot) {
            return rcv;
        }

        if (best == NULL || rcv->n < best->n) {
            best = rcv;
        }
    }

    return best;
}


static void
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


static void
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


ngx_int_t
ngx_http_inverting_poll_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_http_inverting_end_t *end,
    u_char ids[][NGX_HTTP_INVERTING_ID_LEN])
{
    uint32_t                        n;
    ngx_int_t                       told;
    ngx_http_inverting_tx_t        *t;
    ngx_http_inverting_receiver_t  *rcv;

    backend->last_present = ngx_current_msec;

    told = 0;

    while (told < NGX_HTTP_INVERTING_POLL_MAX
           && backend->queue_first != NGX_HTTP_INVERTING_NONE)
    {
        t = &zone->txs[backend->queue_first];

        if (ngx_http_inverting_tell_locked(zone, t, ids[told]) != NGX_OK) {
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

    n = zone->sh->free_receivers;

    if (n == NGX_HTTP_INVERTING_NONE) {
        return NGX_BUSY;
    }

    rcv = &zone->receivers[n];
    zone->sh->free_receivers = rcv->next;

    rcv->slot = zone->slot;
    rcv->backend = backend;
    rcv->first = NGX_HTTP_INVERTING_NONE;
    rcv->last = NGX_HTTP_INVERTING_NONE;
    rcv->n = 0;
    rcv->capacity = NGX_HTTP_INVERTING_POLL_MAX;
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

    return NGX_AGAIN;
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

        if (ngx_http_inverting_tell_locked(zone, t, ids[told]) != NGX_OK) {
            break;
        }

        rcv->first = t->next;

        if (t->next != NGX_HTTP_INVERTING_NONE) {
            zone->txs[t->next].prev = NGX_HTTP_INVERTING_NONE;

        } else {
            rcv->last = NGX_HTTP_INVERTING_NONE;
        }

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
    ngx_http_inverting_tx_t *t, u_char *id)
{
    if (ngx_http_inverting_random_id(t->id) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_memcpy(id, t->id, NGX_HTTP_INVERTING_ID_LEN);

    ngx_http_inverting_remember_id_locked(zone, t);

    t->has_id = 1;
    t->fetchable = 1;
    t->receiver = NGX_HTTP_INVERTING_NONE;
    t->lease = ngx_current_msec + NGX_HTTP_INVERTING_LEASE;

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


ngx_int_t
ngx_http_inverting_take_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_str_t *id,
    ngx_http_inverting_end_t *end)
{
    ngx_http_inverting_tx_t  *t;

    t = ngx_http_inverting_find_locked(zone, backend, id);

    if (t == NULL || !t->fetchable) {
        return NGX_DECLINED;
    }

    t->fetchable = 0;
    t->lease = ngx_current_msec + NGX_HTTP_INVERTING_LEASE;

    __atomic_store_n(&t->taken, 1, __ATOMIC_SEQ_CST);

    ngx_http_inverting_attach(end, zone, t, NGX_HTTP_INVERTING_TAKER);

    ngx_http_inverting_notify_tx(zone, t, NGX_HTTP_INVERTING_CLIENT);

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_head(ngx_http_inverting_end_t *end, ngx_pool_t *pool,
    ngx_str_t *user, ngx_str_t *head)
{
    size_t                      n, size;
    u_char                     *p;
    uint32_t                    chunk;
    ngx_http_inverting_tx_t    *t;
    ngx_http_inverting_zone_t  *zone;

    zone = end->zone;
    t = end->tx;

    size = t->user_len + t->head_len;

    p = ngx_pnalloc(pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    user->len = t->user_len;
    user->data = p;

    head->len = t->head_len;
    head->data = p + t->user_len;

    for (chunk = t->head; size; chunk = zone->chunk_next[chunk]) {
        n = ngx_min(size, NGX_HTTP_INVERTING_CHUNK_SIZE);

        p = ngx_cpymem(p, ngx_http_inverting_chunk_data(zone, chunk), n);
        size -= n;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_answer_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_str_t *id,
    ngx_http_inverting_end_t *end)
{
    ngx_http_inverting_tx_t  *t;

    t = ngx_http_inverting_find_locked(zone, backend, id);

    if (t == NULL || t->fetchable || t->answered) {
        return NGX_DECLINED;
    }

    t->answered = 1;
    t->lease = 0;

    ngx_http_inverting_attach(end, zone, t, NGX_HTTP_INVERTING_ANSWERER);

    return NGX_OK;
}


static ngx_http_inverting_tx_t *
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


static void
ngx_http_inverting_remember_id_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    uint32_t  *bucket;

    bucket = &zone->buckets[ngx_http_inverting_bucket(zone, t->id)];

    t->id_next = *bucket;
    *bucket = ngx_http_inverting_tx_index(zone, t);
}


static void
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


static void
ngx_http_inverting_link_receiver_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv)
{
    uint32_t                       n;
    ngx_http_inverting_backend_t  *backend;

    backend = rcv->backend;
    n = rcv - zone->receivers;

    rcv->next = NGX_HTTP_INVERTING_NONE;
    rcv->prev = backend->receivers_last;

    if (rcv->prev != NGX_HTTP_INVERTING_NONE) {
        zone->receivers[rcv->prev].next = n;

    } else {
        backend->receivers = n;
    }

    backend->receivers_last = n;
    backend->nreceivers++;
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
        backend->receivers = rcv->next;
    }

    if (rcv->next != NGX_HTTP_INVERTING_NONE) {
        zone->receivers[rcv->next].prev = rcv->prev;

    } else {
        backend->receivers_last = rcv->prev;
    }

    backend->nreceivers--;
}


static void
ngx_http_inverting_free_receiver_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv)
{
    ngx_http_inverting_backend_t  *backend;

    backend = rcv->backend;

    ngx_http_inverting_unlink_receiver_locked(zone, rcv);
    ngx_http_inverting_return_locked(zone, rcv);

    rcv->backend = NULL;
    rcv->state = NGX_HTTP_INVERTING_RECEIVER_FREE;
    rcv->next = zone->sh->free_receivers;
    zone->sh->free_receivers = rcv - zone->receivers;

    backend->last_present = ngx_current_msec;

    ngx_http_inverting_registry_unref_locked(zone, backend);
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


void
ngx_http_inverting_backend_end_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend)
{
    uint32_t                        n;
    ngx_uint_t                      i;
    ngx_http_inverting_tx_t        *t;
    ngx_http_inverting_receiver_t  *rcv;

    for (n = backend->receivers; n != NGX_HTTP_INVERTING_NONE; n = rcv->next) {
        rcv = &zone->receivers[n];
        rcv->state = NGX_HTTP_INVERTING_RECEIVER_ENDING;
        ngx_http_inverting_notify_receiver(zone, rcv);
    }

    if (backend->waiting == 0 && backend->active == 0) {
        return;
    }

    for (i = 0; i < zone->sh->ntxs; i++) {
        t = &zone->txs[i];

        if (t->backend == backend && t->state != NGX_HTTP_INVERTING_TX_FREE) {
            ngx_http_inverting_end_tx_locked(zone, t,
                                             NGX_HTTP_INVERTING_BACKEND_GONE);
        }
    }
}


ngx_uint_t
ngx_http_inverting_present_locked(ngx_http_inverting_backend_t *backend,
    ngx_msec_t timeout)
{
    if (backend->nreceivers || backend->active) {
        return 1;
    }

    return backend->last_present
           && ngx_current_msec - backend->last_present < timeout;
}


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
                       && t->requeued
                       && now - t->queued > t->queue_timeout)
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

    ngx_http_inverting_cache_recover_locked(zone, slot);
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
    sh->free_receivers = NGX_HTTP_INVERTING_NONE;

    for (i = 0; i < sh->nbuckets; i++) {
        zone->buckets[i] = NGX_HTTP_INVERTING_NONE;
    }

    for (i = sh->nreceivers; i-- > 0; /* void */ ) {
        rcv = &zone->receivers[i];

        rcv->first = NGX_HTTP_INVERTING_NONE;
        rcv->last = NGX_HTTP_INVERTING_NONE;
        rcv->n = 0;

        if (rcv->state == NGX_HTTP_INVERTING_RECEIVER_FREE
            || rcv->backend == NULL)
        {
            rcv->state = NGX_HTTP_INVERTING_RECEIVER_FREE;
            rcv->next = sh->free_receivers;
            sh->free_receivers = i;
            continue;
        }

        if (rcv->state == NGX_HTTP_INVERTING_RECEIVER_ASSIGNED) {
            rcv->state = NGX_HTTP_INVERTING_RECEIVER_WAITING;
        }

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

    backend = t->backend;

    if (backend) {
        ngx_http_inverting_registry_ref_locked(backend);
    }

    if (t->receiver != NGX_HTTP_INVERTING_NONE
        || t->state < NGX_HTTP_INVERTING_TX_ASSIGNED)
    {
        t->has_id = 0;
    }

    switch (t->state) {

    case NGX_HTTP_INVERTING_TX_DONE:
        return;

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

        if (t->has_id) {
            ngx_http_inverting_remember_id_locked(zone, t);
            backend->active++;

        } else if (!attached) {

            /* nobody was told of it: back to the queue */

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

    } else if (t->slot[NGX_HTTP_INVERTING_CLIENT]
               == NGX_HTTP_INVERTING_NONE)
    {
        ngx_http_inverting_end_tx_locked(zone, t,
                                         NGX_HTTP_INVERTING_CLIENT_GONE);
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
