
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_pipe.h"
#include "ngx_http_inverting_worker.h"


#define NGX_HTTP_INVERTING_CHUNK_MASK                                         \
    ((uint64_t) NGX_HTTP_INVERTING_CHUNK_SIZE - 1)

/* the share that every pipe starts with, chunks */
#define NGX_HTTP_INVERTING_SHARE  8

/* what one end may move in one turn of the loop, so that others get theirs */
#define NGX_HTTP_INVERTING_TURN   (64 * 1024)


#define ngx_http_inverting_pipe_load(field)                                   \
    __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define ngx_http_inverting_pipe_store(field, value)                           \
    __atomic_store_n(&(field), value, __ATOMIC_RELEASE)
#define ngx_http_inverting_pipe_fence()                                       \
    __atomic_thread_fence(__ATOMIC_SEQ_CST)


static ngx_uint_t ngx_http_inverting_pipe_turn_is_over(
    ngx_http_inverting_end_t *end);
static ngx_int_t ngx_http_inverting_pipe_extend(ngx_http_inverting_end_t *end,
    ngx_http_inverting_pipe_t *pipe, uint64_t written);
static ngx_int_t ngx_http_inverting_pipe_hold(ngx_http_inverting_end_t *end,
    ngx_http_inverting_pipe_t *pipe, uint64_t written, uint64_t consumed);
static void ngx_http_inverting_pipe_publish(ngx_http_inverting_end_t *end,
    ngx_http_inverting_pipe_t *pipe, uint64_t written);
static ngx_uint_t ngx_http_inverting_pipe_writer_sleeps(
    ngx_http_inverting_pipe_t *pipe, uint64_t written);
static ngx_uint_t ngx_http_inverting_pipe_wake_at(
    ngx_http_inverting_pipe_t *pipe, uint64_t consumed);
static ngx_uint_t ngx_http_inverting_pipe_reader_sleeps(
    ngx_http_inverting_pipe_t *pipe);


void
ngx_http_inverting_pipe_init(ngx_http_inverting_pipe_t *pipe, uint32_t chunk,
    ngx_uint_t max)
{
    ngx_memzero(pipe, sizeof(ngx_http_inverting_pipe_t));

    pipe->head = chunk;
    pipe->tail = chunk;
    pipe->last = chunk;
    pipe->max = max;
    pipe->limit = ngx_min(NGX_HTTP_INVERTING_SHARE, max);
}


ssize_t
ngx_http_inverting_pipe_send(ngx_http_inverting_end_t *end, u_char *buf,
    size_t size)
{
    size_t                      n, offset;
    u_char                     *p;
    uint32_t                    assigned;
    uint64_t                    written;
    ngx_http_inverting_tx_t    *t;
    ngx_http_inverting_pipe_t  *pipe;

    if (size && ngx_http_inverting_pipe_turn_is_over(end)) {
        return 0;
    }

    t = end->tx;
    p = buf;

    pipe = (end->role == NGX_HTTP_INVERTING_CLIENT) ? &t->request
                                                    : &t->response;

    written = pipe->written;

    if (written == 0 && end->role == NGX_HTTP_INVERTING_ANSWERER) {

        /* from here on it can't be offered again */

        assigned = NGX_HTTP_INVERTING_TX_ASSIGNED;

        (void) __atomic_compare_exchange_n(&t->state, &assigned,
                                           NGX_HTTP_INVERTING_TX_ANSWERING, 0,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);

        /* nor will anybody read what the agent did not want of it */

        if (__atomic_load_n(&t->slot[NGX_HTTP_INVERTING_TAKER],
                            __ATOMIC_SEQ_CST)
            == NGX_HTTP_INVERTING_NONE
            && !ngx_http_inverting_pipe_load(t->request.abandoned))
        {
            __atomic_store_n(&t->request.abandoned, 1, __ATOMIC_SEQ_CST);
            ngx_http_inverting_notify_tx(end->zone, t,
                                         NGX_HTTP_INVERTING_CLIENT);
        }
    }

    while (size) {

        if (ngx_http_inverting_pipe_load(pipe->abandoned)) {
            return NGX_ERROR;
        }

        offset = written & NGX_HTTP_INVERTING_CHUNK_MASK;

        if (offset == 0 && written
            && ngx_http_inverting_pipe_extend(end, pipe, written) != NGX_OK)
        {
            ngx_http_inverting_pipe_publish(end, pipe, written);

            if (ngx_http_inverting_pipe_writer_sleeps(pipe, written)) {
                break;
            }

            continue;
        }

        n = ngx_min(size, NGX_HTTP_INVERTING_CHUNK_SIZE - offset);

        ngx_memcpy(ngx_http_inverting_chunk_data(end->zone, pipe->tail)
                   + offset, p, n);

        p += n;
        size -= n;
        written += n;
    }

    ngx_http_inverting_pipe_publish(end, pipe, written);

    end->moved += p - buf;

    return p - buf;
}


/* then the handler is called in the next one */

static ngx_uint_t
ngx_http_inverting_pipe_turn_is_over(ngx_http_inverting_end_t *end)
{
    if (end->moved < NGX_HTTP_INVERTING_TURN) {
        return 0;
    }

    if (!end->event.posted) {
        ngx_post_event(&end->event, &ngx_posted_next_events);
    }

    return 1;
}


/* the last chunk is full: takes another, if the share and the zone allow */

static ngx_int_t
ngx_http_inverting_pipe_extend(ngx_http_inverting_end_t *end,
    ngx_http_inverting_pipe_t *pipe, uint64_t written)
{
    uint64_t  consumed;

    if (pipe->ahead) {
        pipe->ahead--;
        pipe->tail = end->zone->chunk_next[pipe->tail];
        return NGX_OK;
    }

    consumed = ngx_http_inverting_pipe_load(pipe->consumed);

    if (consumed == written) {

        /* the reader is in this chunk too, and done with it */

        pipe->restart = written;
        return NGX_OK;
    }

    if (ngx_http_inverting_pipe_hold(end, pipe, written, consumed)
        != NGX_OK)
    {
        return NGX_AGAIN;
    }

    pipe->tail = pipe->last;

    return NGX_OK;
}


/* one more chunk behind the last, if the share and the zone allow */

static ngx_int_t
ngx_http_inverting_pipe_hold(ngx_http_inverting_end_t *end,
    ngx_http_inverting_pipe_t *pipe, uint64_t written, uint64_t consumed)
{
    uint32_t                    chunk;
    ngx_uint_t                  held;
    ngx_http_inverting_zone_t  *zone;

    zone = end->zone;

    held = (written >> NGX_HTTP_INVERTING_CHUNK_SHIFT)
           - (consumed >> NGX_HTTP_INVERTING_CHUNK_SHIFT)
           + pipe->ahead;

    if (held >= ngx_http_inverting_pipe_load(pipe->limit)
        || ngx_http_inverting_zone_is_low(zone))
    {
        return NGX_AGAIN;
    }

    /* the more the others have, the less is one's: some can't have it all */

    if (held >= NGX_HTTP_INVERTING_SHARE
        && held >= ngx_http_inverting_zone_free(zone) / 8)
    {
        return NGX_AGAIN;
    }

    chunk = ngx_http_inverting_chunk_get(zone,
                                   ngx_http_inverting_tx_index(zone, end->tx));

    if (chunk == NGX_HTTP_INVERTING_NONE) {
        return NGX_AGAIN;
    }

    zone->chunk_next[pipe->last] = chunk;
    pipe->last = chunk;

    return NGX_OK;
}


static void
ngx_http_inverting_pipe_publish(ngx_http_inverting_end_t *end,
    ngx_http_inverting_pipe_t *pipe, uint64_t written)
{
    if (written == pipe->written) {
        return;
    }

    ngx_http_inverting_pipe_store(pipe->written, written);
    ngx_http_inverting_pipe_fence();

    if (pipe->reader_waits
        && __atomic_exchange_n(&pipe->reader_waits, 0, __ATOMIC_SEQ_CST))
    {
        ngx_http_inverting_notify_tx(end->zone, end->tx,
                                     end->role == NGX_HTTP_INVERTING_CLIENT
                                     ? NGX_HTTP_INVERTING_TAKER
                                     : NGX_HTTP_INVERTING_CLIENT);
    }
}


/*
 * Asks to be woken when half of what the pipe holds was read, and all of it
 * when that is one chunk; 0: there is room already.
 */

static ngx_uint_t
ngx_http_inverting_pipe_writer_sleeps(ngx_http_inverting_pipe_t *pipe,
    uint64_t written)
{
    uint64_t  consumed, held;

    consumed = ngx_http_inverting_pipe_load(pipe->consumed);

    held = (written - consumed) >> NGX_HTTP_INVERTING_CHUNK_SHIFT;

    return ngx_http_inverting_pipe_wake_at(pipe, written
                                 - (held / 2) * NGX_HTTP_INVERTING_CHUNK_SIZE);
}


/* 0: so much has been read already */

static ngx_uint_t
ngx_http_inverting_pipe_wake_at(ngx_http_inverting_pipe_t *pipe,
    uint64_t consumed)
{
    pipe->wake_at = consumed;

    __atomic_store_n(&pipe->writer_waits, 1, __ATOMIC_SEQ_CST);
    ngx_http_inverting_pipe_fence();

    if (ngx_http_inverting_pipe_load(pipe->consumed) >= pipe->wake_at
        || ngx_http_inverting_pipe_load(pipe->abandoned))
    {
        __atomic_store_n(&pipe->writer_waits, 0, __ATOMIC_SEQ_CST);
        return 0;
    }

    return 1;
}


size_t
ngx_http_inverting_pipe_reserve(ngx_http_inverting_end_t *end)
{
    size_t                      room;
    uint64_t                    written, consumed;
    ngx_http_inverting_pipe_t  *pipe;

    pipe = (end->role == NGX_HTTP_INVERTING_CLIENT) ? &end->tx->request
                                                    : &end->tx->response;

    written = pipe->written;

    do {
        consumed = ngx_http_inverting_pipe_load(pipe->consumed);

        while (ngx_http_inverting_pipe_hold(end, pipe, written, consumed)
               == NGX_OK)
        {
            pipe->ahead++;
        }

    } while (consumed != written
             && !ngx_http_inverting_pipe_load(pipe->abandoned)
             && !ngx_http_inverting_pipe_writer_sleeps(pipe, written));

    room = (size_t) pipe->ahead * NGX_HTTP_INVERTING_CHUNK_SIZE;

    if (written & NGX_HTTP_INVERTING_CHUNK_MASK) {
        room += NGX_HTTP_INVERTING_CHUNK_SIZE
                - (written & NGX_HTTP_INVERTING_CHUNK_MASK);

    } else if (room == 0 && consumed == written) {

        /* the last chunk again */

        room = NGX_HTTP_INVERTING_CHUNK_SIZE;
    }

    return room;
}


void
ngx_http_inverting_pipe_finish(ngx_http_inverting_end_t *end, ngx_uint_t how)
{
    ngx_http_inverting_pipe_t  *pipe;

    pipe = (end->role == NGX_HTTP_INVERTING_CLIENT) ? &end->tx->request
                                                    : &end->tx->response;

    ngx_http_inverting_pipe_store(pipe->closed, how);
    ngx_http_inverting_pipe_fence();

    if (pipe->reader_waits
        && __atomic_exchange_n(&pipe->reader_waits, 0, __ATOMIC_SEQ_CST))
    {
        ngx_http_inverting_notify_tx(end->zone, end->tx,
                                     end->role == NGX_HTTP_INVERTING_CLIENT
                                     ? NGX_HTTP_INVERTING_TAKER
                                     : NGX_HTTP_INVERTING_CLIENT);
    }
}


ssize_t
ngx_http_inverting_pipe_recv(ngx_http_inverting_end_t *end, u_char *buf,
    size_t size)
{
    size_t                      n, offset;
    u_char                     *p;
    uint32_t                    chunk, next, closed;
    uint64_t                    written, consumed;
    ngx_http_inverting_zone_t  *zone;
    ngx_http_inverting_pipe_t  *pipe;

    if (ngx_http_inverting_pipe_turn_is_over(end)) {
        return NGX_AGAIN;
    }

    zone = end->zone;
    p = buf;

    pipe = (end->role == NGX_HTTP_INVERTING_CLIENT) ? &end->tx->response
                                                    : &end->tx->request;

    consumed = pipe->consumed;

    for ( ;; ) {
        closed = ngx_http_inverting_pipe_load(pipe->closed);
        written = ngx_http_inverting_pipe_load(pipe->written);

        if (written != consumed) {
            break;
        }

        if (closed) {
            return (closed == NGX_HTTP_INVERTING_PIPE_EOF) ? 0 : NGX_ERROR;
        }

        if (ngx_http_inverting_pipe_reader_sleeps(pipe)) {
            return NGX_AGAIN;
        }
    }

    /* "consumed" comes last, and a reader may die before */

    if (consumed == 0) {
        ngx_http_inverting_pipe_store(pipe->begun, 1);
    }

    while (size && consumed != written) {

        offset = consumed & NGX_HTTP_INVERTING_CHUNK_MASK;
        chunk = pipe->head;

        if (offset == 0 && consumed != pipe->restart) {
            next = zone->chunk_next[chunk];

            pipe->head = next;
            ngx_http_inverting_chunk_put(zone, chunk);
            chunk = next;
        }

        n = ngx_min(size, NGX_HTTP_INVERTING_CHUNK_SIZE - offset);
        n = ngx_min(n, written - consumed);

        ngx_memcpy(p, ngx_http_inverting_chunk_data(zone, chunk) + offset, n);

        p += n;
        size -= n;
        consumed += n;
    }

    ngx_http_inverting_pipe_store(pipe->consumed, consumed);
    ngx_http_inverting_pipe_fence();

    if (pipe->writer_waits
        && consumed >= ngx_http_inverting_pipe_load(pipe->wake_at)
        && __atomic_exchange_n(&pipe->writer_waits, 0, __ATOMIC_SEQ_CST))
    {
        ngx_http_inverting_notify_room(zone, end->tx,
                                       end->role == NGX_HTTP_INVERTING_CLIENT
                                       ? NGX_HTTP_INVERTING_ANSWERER
                                       : NGX_HTTP_INVERTING_CLIENT);
    }

    end->moved += p - buf;

    return p - buf;
}


/*
 * The pipe is empty, so the reader keeps up: after a whole share was read, the
 * next one may be larger.  Asks to be woken; 0: something came already.
 */

static ngx_uint_t
ngx_http_inverting_pipe_reader_sleeps(ngx_http_inverting_pipe_t *pipe)
{
    if (pipe->limit < pipe->max
        && pipe->consumed - pipe->grown
           >= (uint64_t) pipe->limit * NGX_HTTP_INVERTING_CHUNK_SIZE)
    {
        pipe->grown = pipe->consumed;
        ngx_http_inverting_pipe_store(pipe->limit,
                                      ngx_min(pipe->limit * 2, pipe->max));
    }

    __atomic_store_n(&pipe->reader_waits, 1, __ATOMIC_SEQ_CST);
    ngx_http_inverting_pipe_fence();

    if (ngx_http_inverting_pipe_load(pipe->written) != pipe->consumed
        || ngx_http_inverting_pipe_load(pipe->closed))
    {
        __atomic_store_n(&pipe->reader_waits, 0, __ATOMIC_SEQ_CST);
        return 0;
    }

    return 1;
}


ngx_uint_t
ngx_http_inverting_pipe_can_recv(ngx_http_inverting_end_t *end)
{
    ngx_http_inverting_pipe_t  *pipe;

    pipe = (end->role == NGX_HTTP_INVERTING_CLIENT) ? &end->tx->response
                                                    : &end->tx->request;

    return !ngx_http_inverting_pipe_load(pipe->reader_waits)
           || ngx_http_inverting_pipe_load(pipe->written) != pipe->consumed
           || ngx_http_inverting_pipe_load(pipe->closed);
}


ngx_uint_t
ngx_http_inverting_pipe_can_send(ngx_http_inverting_end_t *end)
{
    ngx_http_inverting_pipe_t  *pipe;

    pipe = (end->role == NGX_HTTP_INVERTING_CLIENT) ? &end->tx->request
                                                    : &end->tx->response;

    return !ngx_http_inverting_pipe_load(pipe->writer_waits)
           || ngx_http_inverting_pipe_load(pipe->consumed) >= pipe->wake_at
           || ngx_http_inverting_pipe_load(pipe->abandoned);
}


ngx_uint_t
ngx_http_inverting_pipe_is_behind(ngx_http_inverting_end_t *end, size_t size)
{
    uint64_t                    written;
    ngx_http_inverting_pipe_t  *pipe;

    pipe = (end->role == NGX_HTTP_INVERTING_CLIENT) ? &end->tx->request
                                                    : &end->tx->response;

    written = pipe->written;

    if (written - ngx_http_inverting_pipe_load(pipe->consumed) < size) {
        return 0;
    }

    if (ngx_http_inverting_pipe_load(pipe->writer_waits)) {

        /* for some of it */

        return 1;
    }

    return ngx_http_inverting_pipe_wake_at(pipe, written - size + 1);
}


void
ngx_http_inverting_pipes_free_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t)
{
    uint32_t                    chunk, next;
    ngx_uint_t                  i;
    ngx_http_inverting_pipe_t  *pipe;

    for (chunk = t->head; chunk != NGX_HTTP_INVERTING_NONE; chunk = next) {
        next = zone->chunk_next[chunk];
        ngx_http_inverting_chunk_free_locked(zone, chunk);
    }

    for (i = 0; i < 2; i++) {
        pipe = i ? &t->request : &t->response;

        if (pipe->head == NGX_HTTP_INVERTING_NONE) {
            continue;
        }

        for (chunk = pipe->head; chunk != pipe->last; chunk = next) {
            next = zone->chunk_next[chunk];
            ngx_http_inverting_chunk_free_locked(zone, chunk);
        }

        ngx_http_inverting_chunk_free_locked(zone, chunk);
    }
}
