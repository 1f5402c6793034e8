
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_queue.h"
#include "ngx_http_inverting_random.h"
#include "ngx_http_inverting_worker.h"


static void ngx_http_inverting_fill_receiver_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_receiver_t *rcv);
static void ngx_http_inverting_refused_locked(ngx_http_inverting_tx_t *t);
static void ngx_http_inverting_forget_end(ngx_http_inverting_end_t *end);


ngx_int_t
ngx_http_inverting_connect_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key,
    ngx_http_inverting_end_t *end)
{
    backend->last_present = ngx_current_msec;

    return ngx_http_inverting_make_receiver_locked(zone, backend, key, end, 0)
           ? NGX_OK : NGX_BUSY;
}


void
ngx_http_inverting_set_capacity(ngx_http_inverting_end_t *end,
    ngx_uint_t capacity)
{
    ngx_http_inverting_zone_t  *zone;

    zone = end->zone;

    ngx_http_inverting_lock(zone);

    end->receiver->capacity = capacity;
    ngx_http_inverting_relink_receiver_locked(zone, end->receiver);
    ngx_http_inverting_fill_receiver_locked(zone, end->receiver);

    ngx_http_inverting_unlock(zone);
}


/* there is room in a receiver: for what waits in the queue, as well */

static void
ngx_http_inverting_fill_receiver_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv)
{
    ngx_http_inverting_tx_t       *t;
    ngx_http_inverting_backend_t  *backend;

    backend = rcv->backend;

    while (rcv->state != NGX_HTTP_INVERTING_RECEIVER_ENDING
           && rcv->n < rcv->capacity
           && backend->queue_first != NGX_HTTP_INVERTING_NONE)
    {
        t = &zone->txs[backend->queue_first];

        ngx_http_inverting_dequeue_locked(zone, t);
        ngx_http_inverting_place_locked(zone, t, 1);
    }
}


ngx_int_t
ngx_http_inverting_open(ngx_http_inverting_end_t *end,
    ngx_http_inverting_end_t *taker, ngx_http_inverting_end_t *answerer)
{
    ngx_int_t                       rc;
    ngx_uint_t                      role;
    ngx_http_inverting_tx_t        *t;
    ngx_http_inverting_zone_t      *zone;
    ngx_http_inverting_receiver_t  *rcv;

    zone = end->zone;
    rcv = end->receiver;

    ngx_http_inverting_random_fill();

    ngx_http_inverting_lock(zone);

    if (rcv->state == NGX_HTTP_INVERTING_RECEIVER_ENDING) {
        rc = NGX_DONE;
        goto done;
    }

    rc = NGX_AGAIN;

    if (rcv->first == NGX_HTTP_INVERTING_NONE) {
        goto done;
    }

    t = &zone->txs[rcv->first];

    if (ngx_http_inverting_random_id(t->id) != NGX_OK) {
        goto done;
    }

    /* "n" stays as it is: the transaction is a stream now */

    ngx_http_inverting_unassign_locked(zone, rcv, t);

    if (rcv->first == NGX_HTTP_INVERTING_NONE) {
        rcv->state = NGX_HTTP_INVERTING_RECEIVER_WAITING;
    }

    t->via = rcv - zone->receivers;
    t->via_seq = rcv->seq;
    t->process = end->process;
    t->transport = NGX_HTTP_INVERTING_PTTH;
    t->answered = 1;

    for (role = 0; role < NGX_HTTP_INVERTING_ROLES; role++) {
        t->keys[role] = rcv->key;
    }

    ngx_http_inverting_attach_locked(answerer, zone, t,
                                     NGX_HTTP_INVERTING_ANSWERER);

    if (t->request.head != NGX_HTTP_INVERTING_NONE) {
        ngx_http_inverting_attach_locked(taker, zone, t,
                                         NGX_HTTP_INVERTING_TAKER);
    }

    __atomic_store_n(&t->taken, 1, __ATOMIC_SEQ_CST);

    ngx_http_inverting_notify_tx(zone, t, NGX_HTTP_INVERTING_CLIENT);

    rc = NGX_OK;

done:

    ngx_http_inverting_unlock(zone);

    return rc;
}


void
ngx_http_inverting_stream_close(ngx_http_inverting_end_t *end,
    ngx_http_inverting_end_t *taker, ngx_http_inverting_end_t *answerer,
    ngx_uint_t outcome)
{
    ngx_uint_t                      lost, n;
    ngx_http_inverting_tx_t        *t;
    ngx_http_inverting_zone_t      *zone;
    ngx_http_inverting_receiver_t  *rcv;

    t = answerer->tx;

    if (t == NULL) {
        return;
    }

    zone = answerer->zone;
    rcv = end->receiver;

    lost = (outcome == NGX_HTTP_INVERTING_AGENT_REFUSED)
           ? NGX_HTTP_INVERTING_AGENT_LOST : outcome;
    n = 1;

    ngx_http_inverting_forget_end(answerer);

    if (taker->tx) {
        ngx_http_inverting_forget_end(taker);
        n++;
    }

    ngx_http_inverting_lock(zone);

    if (outcome == NGX_HTTP_INVERTING_AGENT_REFUSED) {
        ngx_http_inverting_refused_locked(t);
    }

    if (n == 2) {
        ngx_http_inverting_detach_locked(zone, t, NGX_HTTP_INVERTING_TAKER,
                                         lost);
    }

    if (rcv) {
        rcv->n--;
        ngx_http_inverting_relink_receiver_locked(zone, rcv);
    }

    ngx_http_inverting_detach_locked(zone, t, NGX_HTTP_INVERTING_ANSWERER,
                                     lost);

    if (rcv) {
        ngx_http_inverting_fill_receiver_locked(zone, rcv);
    }

    ngx_http_inverting_unlock(zone);

    ngx_http_inverting_worker_live(zone, -n);
}


/*
 * The agent did not look at it: as if it had never had it, if what was read of
 * a body is still there.
 */

static void
ngx_http_inverting_refused_locked(ngx_http_inverting_tx_t *t)
{
    ngx_http_inverting_pipe_t  *pipe;

    pipe = &t->request;

    /*
     * A writer in another worker uses the last chunk again when it has been
     * read to its end, and may be about to: nothing but a part is safe.
     */

    if (pipe->begun
        && (pipe->consumed >= NGX_HTTP_INVERTING_CHUNK_SIZE
            || (pipe->abandoned
                && pipe->closed != NGX_HTTP_INVERTING_PIPE_EOF)))
    {
        return;
    }

    if (t->response.written) {
        return;
    }

    pipe->consumed = 0;
    pipe->grown = 0;
    pipe->begun = 0;
    pipe->reader_waits = 0;
    pipe->abandoned = 0;

    t->taken = 0;
}


/* no event, and no wake-up, finds it any more */

static void
ngx_http_inverting_forget_end(ngx_http_inverting_end_t *end)
{
    ngx_uint_t  n;

    n = ngx_http_inverting_tx_index(end->zone, end->tx);

    end->zone->ends[n * NGX_HTTP_INVERTING_ROLES + end->role] = NULL;
    end->tx = NULL;

    if (end->event.posted) {
        ngx_delete_posted_event(&end->event);
    }
}
