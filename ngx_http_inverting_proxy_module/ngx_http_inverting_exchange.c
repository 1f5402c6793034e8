
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_queue.h"
#include "ngx_http_inverting_worker.h"


static void ngx_http_inverting_receivers_end_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_backend_t *backend,
    uint64_t *key);


ngx_int_t
ngx_http_inverting_reserve_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_http_inverting_offer_t *offer,
    ngx_http_inverting_end_t *end)
{
    uint32_t                       n, chunk, head, request;
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

    head = (offer->user.len + offer->head.len
            + NGX_HTTP_INVERTING_CHUNK_SIZE - 1)
           >> NGX_HTTP_INVERTING_CHUNK_SHIFT;

    /* and the first one of each pipe */

    request = (offer->body || offer->upgrade);

    if (sh->free_txs == NGX_HTTP_INVERTING_NONE
        || sh->nfree_chunks < head + 1 + request)
    {
        ngx_http_inverting_spent_locked(zone);
    }

    n = sh->free_txs;

    if (n == NGX_HTTP_INVERTING_NONE) {
        sh->zone_full++;
        return NGX_HTTP_INVERTING_ZONE_FULL;
    }

    t = &zone->txs[n];

    chunk = ngx_http_inverting_chunks_alloc_locked(zone,
                                                   head + 1 + request, n);
    if (chunk == NGX_HTTP_INVERTING_NONE) {
        sh->zone_full++;
        return NGX_HTTP_INVERTING_ZONE_FULL;
    }

    sh->free_txs = t->next;

    ngx_http_inverting_pipe_init(&t->response, chunk, offer->share);
    chunk = zone->chunk_next[chunk];

    if (request) {
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
    t->via = NGX_HTTP_INVERTING_NONE;
    t->process = 0;
    t->transport = NGX_HTTP_INVERTING_NO_TRANSPORT;

    t->slot[NGX_HTTP_INVERTING_CLIENT] = NGX_HTTP_INVERTING_NONE;
    t->slot[NGX_HTTP_INVERTING_TAKER] = NGX_HTTP_INVERTING_NONE;
    t->slot[NGX_HTTP_INVERTING_ANSWERER] = NGX_HTTP_INVERTING_NONE;

    ngx_memzero(t->keys, sizeof(t->keys));

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
    t->upgrade = offer->upgrade;
    t->idempotent = offer->idempotent;
    t->has_id = 0;
    t->fetchable = 0;
    t->answered = 0;
    t->requeued = 0;
    t->lost = 0;

    t->state = NGX_HTTP_INVERTING_TX_OPENING;

    ngx_http_inverting_registry_ref_locked(backend);
    backend->waiting++;
    backend->last_used = ts.tv_sec;

    ngx_http_inverting_attach_locked(end, zone, t, NGX_HTTP_INVERTING_CLIENT);

    return NGX_OK;
}


void
ngx_http_inverting_attach_locked(ngx_http_inverting_end_t *end,
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t,
    ngx_uint_t role)
{
    ngx_uint_t  n;

    n = ngx_http_inverting_tx_index(zone, t);

    end->zone = zone;
    end->tx = t;
    end->role = role;
    end->moved = 0;

    end->event.handler = ngx_http_inverting_end_event;
    end->event.data = end;
    end->event.log = ngx_cycle->log;

    zone->ends[n * NGX_HTTP_INVERTING_ROLES + role] = end;

    t->slot[role] = zone->slot;

    ngx_http_inverting_worker_live(zone, 1);
}


void
ngx_http_inverting_end_event(ngx_event_t *ev)
{
    ngx_http_inverting_end_t  *end;

    end = ev->data;

    end->moved = 0;
    end->handler(end);
}


void
ngx_http_inverting_offer(ngx_http_inverting_end_t *end,
    ngx_http_inverting_offer_t *offer)
{
    size_t                      n, size, room;
    u_char                     *p, *dst;
    uint32_t                    chunk;
    ngx_uint_t                  i, receiver;
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

    receiver = t->receiver;

    ngx_http_inverting_unlock(zone);

    if (receiver != NGX_HTTP_INVERTING_NONE) {
        ngx_http_inverting_given(zone, receiver);
    }
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
ngx_http_inverting_drop_head(ngx_http_inverting_end_t *end)
{
    uint32_t                    chunk, next;
    ngx_http_inverting_tx_t    *t;
    ngx_http_inverting_zone_t  *zone;

    zone = end->zone;
    t = end->tx;

    ngx_http_inverting_lock(zone);

    /* after a rebuild the chain is not to be relied on */

    if (!t->tainted) {

        for (chunk = t->head; chunk != NGX_HTTP_INVERTING_NONE; chunk = next) {
            next = zone->chunk_next[chunk];
            ngx_http_inverting_chunk_free_locked(zone, chunk);
        }

        t->head = NGX_HTTP_INVERTING_NONE;
        t->head_len = 0;
        t->user_len = 0;
    }

    ngx_http_inverting_unlock(zone);
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


ngx_int_t
ngx_http_inverting_take_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key, ngx_str_t *id,
    ngx_http_inverting_end_t *end)
{
    ngx_http_inverting_tx_t  *t;

    t = ngx_http_inverting_find_locked(zone, backend, id);

    if (t == NULL || !t->fetchable) {
        return NGX_DECLINED;
    }

    t->fetchable = 0;
    t->lease = ngx_current_msec + NGX_HTTP_INVERTING_LEASE;

    t->keys[NGX_HTTP_INVERTING_CLIENT] = key;
    t->keys[NGX_HTTP_INVERTING_TAKER] = key;

    __atomic_store_n(&t->taken, 1, __ATOMIC_SEQ_CST);

    ngx_http_inverting_attach_locked(end, zone, t, NGX_HTTP_INVERTING_TAKER);

    ngx_http_inverting_notify_tx(zone, t, NGX_HTTP_INVERTING_CLIENT);

    return NGX_OK;
}


void
ngx_http_inverting_head_copy(ngx_http_inverting_end_t *end, u_char *buf)
{
    size_t                    n, size;
    uint32_t                  chunk;
    ngx_http_inverting_tx_t  *t;

    t = end->tx;
    size = t->user_len + t->head_len;

    for (chunk = t->head; size; chunk = end->zone->chunk_next[chunk]) {
        n = ngx_min(size, NGX_HTTP_INVERTING_CHUNK_SIZE);

        buf = ngx_cpymem(buf, ngx_http_inverting_chunk_data(end->zone, chunk),
                         n);
        size -= n;
    }
}


ngx_int_t
ngx_http_inverting_answer_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key, ngx_str_t *id,
    ngx_http_inverting_end_t *end)
{
    ngx_http_inverting_tx_t  *t;

    t = ngx_http_inverting_find_locked(zone, backend, id);

    if (t == NULL || t->fetchable || t->answered) {
        return NGX_DECLINED;
    }

    t->answered = 1;
    t->lease = 0;
    t->keys[NGX_HTTP_INVERTING_ANSWERER] = key;

    ngx_http_inverting_attach_locked(end, zone, t,
                                     NGX_HTTP_INVERTING_ANSWERER);

    return NGX_OK;
}


void
ngx_http_inverting_backend_end_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend)
{
    ngx_uint_t                i;
    ngx_http_inverting_tx_t  *t;

    /* nobody has seen the next agent yet */
    backend->last_present = 0;

    ngx_http_inverting_receivers_end_locked(zone, backend, NULL);

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


/* those of the key, or all */

static void
ngx_http_inverting_receivers_end_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t *key)
{
    uint32_t                        n, next;
    ngx_uint_t                      full;
    ngx_http_inverting_receiver_t  *rcv;

    /* those with room come last: they go to the end of the other list */

    for (full = 2; full-- > 0; /* void */ ) {

        for (n = backend->receivers[full];
             n != NGX_HTTP_INVERTING_NONE;
             n = next)
        {
            rcv = &zone->receivers[n];
            next = rcv->next;

            if (key == NULL || rcv->key == *key) {
                rcv->state = NGX_HTTP_INVERTING_RECEIVER_ENDING;
                ngx_http_inverting_relink_receiver_locked(zone, rcv);
                ngx_http_inverting_notify_receiver(zone, rcv);
            }
        }
    }
}


void
ngx_http_inverting_key_end_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key)
{
    ngx_uint_t                i, role;
    ngx_http_inverting_tx_t  *t;

    ngx_http_inverting_receivers_end_locked(zone, backend, &key);

    if (backend->active == 0) {
        return;
    }

    for (i = 0; i < zone->sh->ntxs; i++) {
        t = &zone->txs[i];

        if (t->backend != backend
            || t->response.closed
            || (t->state != NGX_HTTP_INVERTING_TX_ASSIGNED
                && t->state != NGX_HTTP_INVERTING_TX_ANSWERING))
        {
            continue;
        }

        for (role = NGX_HTTP_INVERTING_TAKER;
             role < NGX_HTTP_INVERTING_ROLES;
             role++)
        {
            if (t->slot[role] != NGX_HTTP_INVERTING_NONE
                && t->keys[role] == key)
            {
                ngx_http_inverting_end_tx_locked(zone, t,
                                             NGX_HTTP_INVERTING_BACKEND_GONE);
            }
        }

        if (t->lease && t->keys[NGX_HTTP_INVERTING_CLIENT] == key) {
            ngx_http_inverting_lost_locked(zone, t);
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

    /* another worker's clock may be ahead of this one's */

    return backend->last_present
           && (ngx_msec_int_t) (ngx_current_msec - backend->last_present)
              < (ngx_msec_int_t) timeout;
}
