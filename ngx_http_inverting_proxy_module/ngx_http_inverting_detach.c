
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_queue.h"
#include "ngx_http_inverting_worker.h"


static void ngx_http_inverting_client_detach_locked(
    ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t outcome);
static void ngx_http_inverting_taker_detach_locked(
    ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t outcome);
static void ngx_http_inverting_answerer_detach_locked(
    ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t outcome);
static ngx_uint_t ngx_http_inverting_lost_twice_locked(
    ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);
static void ngx_http_inverting_free_tx_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);


void
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
    if (t->lost && t->outcome == NGX_HTTP_INVERTING_PENDING) {
        t->lost = 0;

        ngx_http_inverting_lost_locked(zone, t);

        if (t->outcome == NGX_HTTP_INVERTING_PENDING) {

            /* offered again */

            return;
        }
    }

    if (outcome == NGX_HTTP_INVERTING_AGENT_LOST
        && t->outcome == NGX_HTTP_INVERTING_PENDING)
    {
        if (!t->request.begun && !t->answered) {

            /* agents try again when a fetch fails */

            t->fetchable = 1;
            t->lease = ngx_current_msec + NGX_HTTP_INVERTING_LEASE;
            return;
        }

        /* the slot first, then the state: the answerer does the reverse */

        __atomic_thread_fence(__ATOMIC_SEQ_CST);

        if (!t->request.begun
            && __atomic_load_n(&t->state, __ATOMIC_SEQ_CST)
               == NGX_HTTP_INVERTING_TX_ASSIGNED)
        {
            /* if its POST goes as well, somebody else reads the body */

            return;
        }

        if (!t->answered) {
            ngx_http_inverting_end_tx_locked(zone, t,
                                             NGX_HTTP_INVERTING_AGENT_LOST);
        }
    }

    __atomic_store_n(&t->request.abandoned, 1, __ATOMIC_SEQ_CST);

    ngx_http_inverting_notify_tx(zone, t, NGX_HTTP_INVERTING_CLIENT);
}


static void
ngx_http_inverting_answerer_detach_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t outcome)
{
    if (t->backend && t->outcome != NGX_HTTP_INVERTING_BACKEND_GONE) {
        t->backend->last_present = ngx_current_msec;
    }

    if (t->response.closed) {
        return;
    }

    if (t->outcome != NGX_HTTP_INVERTING_PENDING) {

        /* it ended while it was being answered: nobody else will cut it */

        __atomic_store_n(&t->response.closed, NGX_HTTP_INVERTING_PIPE_CUT,
                         __ATOMIC_SEQ_CST);

        ngx_http_inverting_notify_tx(zone, t, NGX_HTTP_INVERTING_CLIENT);
        return;
    }

    if (t->response.written == 0) {

        if (t->slot[NGX_HTTP_INVERTING_TAKER] != NGX_HTTP_INVERTING_NONE
            && !ngx_http_inverting_lost_twice_locked(zone, t)
            && ngx_http_inverting_harmless_locked(t))
        {
            /*
             * Another worker may have sent the fetch and be about to say so,
             * or the agent has gone with both connections: of that one we
             * hear next, and only then can it be offered again.
             */

            t->lost = 1;
            t->lease = ngx_current_msec + NGX_HTTP_INVERTING_LEASE;
            return;
        }

        ngx_http_inverting_lost_locked(zone, t);
        return;
    }

    ngx_http_inverting_end_tx_locked(zone, t, NGX_HTTP_INVERTING_AGENT_LOST);
}


/*
 * An agent that goes takes all of its connections with it, and we learn that
 * of one after the other: a transaction that goes from one of them to the next
 * has been lost once.
 */

static ngx_uint_t
ngx_http_inverting_lost_twice_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    if (!t->requeued || !t->taken) {
        return 0;
    }

    return t->process == 0
           || t->process != t->lost_process
           || (int32_t) ((uint32_t) t->via_seq - t->lost_seq) > 0
           || ngx_http_inverting_is_via(zone, t);
}


/*
 * No byte of a response has come, and none will from this agent: offers the
 * transaction again if that can do no harm, else it fails.
 */

void
ngx_http_inverting_lost_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    if (ngx_http_inverting_lost_twice_locked(zone, t)
        || t->slot[NGX_HTTP_INVERTING_CLIENT] == NGX_HTTP_INVERTING_NONE
        || t->slot[NGX_HTTP_INVERTING_TAKER] != NGX_HTTP_INVERTING_NONE
        || !ngx_http_inverting_harmless_locked(t))
    {
        ngx_http_inverting_end_tx_locked(zone, t,
                                         NGX_HTTP_INVERTING_AGENT_LOST);
        return;
    }

    ngx_http_inverting_forget_id_locked(zone, t);

    /* what a dead worker had written of a response was not published */

    t->response.tail = t->response.head;
    t->response.last = t->response.head;
    t->response.ahead = 0;

    /*
     * What was not fetched may wait for its turn in a busy agent: no limit but
     * the time-out of the queue.
     */

    if (t->taken) {

        if (!t->requeued) {
            t->lost_process = t->process;
            t->lost_seq = zone->sh->seq;
        }

        t->requeued = 1;
        t->queued = ngx_current_msec;
    }

    if (!t->body) {

        /* a poll's fetch reads none; of a WebSocket more may come yet */

        t->request.abandoned = 0;
    }

    t->answered = 0;
    t->fetchable = 0;
    t->lost = 0;
    t->lease = 0;

    t->backend->active--;
    t->backend->waiting++;

    ngx_http_inverting_place_locked(zone, t, 1);
}


ngx_uint_t
ngx_http_inverting_harmless_locked(ngx_http_inverting_tx_t *t)
{
    return !t->request.begun
           && (!t->body || !t->request.abandoned)
           && (t->idempotent || !t->taken);
}


/* the transaction has come to its end, whatever its state; all are told */

void
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

            ngx_http_inverting_unassign_locked(zone, rcv, t);

            rcv->n--;
            ngx_http_inverting_relink_receiver_locked(zone, rcv);

            if (rcv->first == NGX_HTTP_INVERTING_NONE
                && rcv->state == NGX_HTTP_INVERTING_RECEIVER_ASSIGNED)
            {
                rcv->state = NGX_HTTP_INVERTING_RECEIVER_WAITING;
            }
        }

        backend->active--;
        break;
    }

    ngx_http_inverting_forget_id_locked(zone, t);

    t->lease = 0;

    __atomic_store_n(&t->state, NGX_HTTP_INVERTING_TX_DONE, __ATOMIC_SEQ_CST);
    __atomic_store_n(&t->outcome, outcome, __ATOMIC_SEQ_CST);

    ngx_http_inverting_ended_locked(zone, t);
}


void
ngx_http_inverting_ended_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
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
    uint32_t                      *list;
    ngx_http_inverting_backend_t  *backend;

    if (t->tainted) {

        /*
         * A chunk may have left its chain without having reached a cache.
         * Thousands may end by the same death: not each of them looks for its
         * chunks among all that there are.
         */

        list = &zone->sh->spent_txs;

    } else {
        ngx_http_inverting_pipes_free_locked(zone, t);
        list = &zone->sh->free_txs;
    }

    backend = t->backend;

    t->backend = NULL;
    t->state = NGX_HTTP_INVERTING_TX_FREE;
    t->next = *list;
    *list = ngx_http_inverting_tx_index(zone, t);

    if (backend) {
        ngx_http_inverting_registry_unref_locked(zone, backend);
    }
}
