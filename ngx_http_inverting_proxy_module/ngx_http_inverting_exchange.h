
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_EXCHANGE_H_INCLUDED_
#define _NGX_HTTP_INVERTING_EXCHANGE_H_INCLUDED_


#include "ngx_http_inverting_zone.h"
#include "ngx_http_inverting_registry.h"
#include "ngx_http_inverting_pipe.h"


/*
 * The exchange: the only thing that the client side and the agent side know
 * of each other.
 *
 *     waiting --> assigned --> answering --> done
 *
 * A client reserves a transaction, copies the head in and offers it.  It is
 * given to a receiver of its backend, or waits in the backend's queue.  The
 * agent side takes it by its ID (reads the head and the body of the request)
 * and answers it by its ID (writes the response), from any worker, in any
 * order.  Each of the three parties holds an end; the transaction is free
 * again when the last one has closed its own.
 *
 * Functions called ..._locked want the zone's lock held.
 */


/* the most that one poll is told of */
#define NGX_HTTP_INVERTING_POLL_MAX   100

/* after being told, an agent has as long to fetch; then, to open its POST */
#define NGX_HTTP_INVERTING_LEASE      5000

/* in all calls "key" is the one that the agent has shown, or NO_KEY */


typedef struct {
    ngx_str_t      user;             /* of the end user, may be empty */
    ngx_str_t      head;             /* the whole head of the request */
    ngx_uint_t     share;            /* largest share of a pipe, chunks */
    ngx_uint_t     queue;            /* most that may wait for the backend */
    ngx_msec_t     queue_timeout;    /* how long it may wait when requeued */
    ngx_msec_t     backend_timeout;  /* for an agent to count as present */
    unsigned       body:1;
    unsigned       upgrade:1;        /* to websocket, if the backend agrees */
    unsigned       idempotent:1;
} ngx_http_inverting_offer_t;


/* reserve's refusals */
#define NGX_HTTP_INVERTING_ABSENT      1
#define NGX_HTTP_INVERTING_QUEUE_FULL  2
#define NGX_HTTP_INVERTING_ZONE_FULL   3


/*
 * Reserves a transaction for the backend: NGX_OK, and "end" is attached as the
 * client's, or one of the refusals above.
 */
ngx_int_t ngx_http_inverting_reserve_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_http_inverting_offer_t *offer,
    ngx_http_inverting_end_t *end);

/* copies the head in and offers the transaction; takes the lock itself */
void ngx_http_inverting_offer(ngx_http_inverting_end_t *end,
    ngx_http_inverting_offer_t *offer);

/* the client accepts the head of the response */
void ngx_http_inverting_accept(ngx_http_inverting_end_t *end);

/*
 * Gives back the memory of the request's head before the end; for the client's
 * end, once there is a response.  Takes the lock itself.
 */
void ngx_http_inverting_drop_head(ngx_http_inverting_end_t *end);

/*
 * Lets go of an end, which need not be attached.  For the client's, "outcome"
 * says why.  For the others PENDING says that it has done its part (the
 * request was read, or is not wanted; the response was written and finished),
 * AGENT_LOST that it has not: then the transaction is offered again where that
 * is allowed, or fails, or the response is cut.  Takes the lock itself.
 */
void ngx_http_inverting_close(ngx_http_inverting_end_t *end,
    ngx_uint_t outcome);

/*
 * A poll.  Returns how many IDs were written to "ids", or NGX_AGAIN: the poll
 * is a receiver now and its handler will be called, or NGX_BUSY: there can be
 * no more receivers in this zone, or none for this backend.  Having IDs is
 * leasing them: they must be sent to the agent at once.
 */
ngx_int_t ngx_http_inverting_poll_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key,
    ngx_http_inverting_end_t *end, u_char ids[][NGX_HTTP_INVERTING_ID_LEN]);

/*
 * What came for a waiting poll; to be called from its handler, takes the lock
 * itself.  Returns how many IDs, or NGX_AGAIN: nothing yet, or NGX_DONE: the
 * backend was deleted or is another agent's now, or the key was revoked.  The
 * end is detached then, but for NGX_AGAIN.
 */
ngx_int_t ngx_http_inverting_receive(ngx_http_inverting_end_t *end,
    u_char ids[][NGX_HTTP_INVERTING_ID_LEN]);

/* the poll is over; what it was given and has not received is queued again */
void ngx_http_inverting_poll_close(ngx_http_inverting_end_t *end);

/*
 * A PTTH connection becomes a receiver, which takes nothing until it is given
 * a capacity: NGX_OK, or NGX_BUSY as above.  Its handler is called when there
 * is something to open.  ngx_http_inverting_poll_close() ends it; its streams
 * go on.
 */
ngx_int_t ngx_http_inverting_connect_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key,
    ngx_http_inverting_end_t *end);

/* how many transactions it may have at a time; takes the lock itself */
void ngx_http_inverting_set_capacity(ngx_http_inverting_end_t *end,
    ngx_uint_t capacity);

/*
 * The next transaction for a PTTH connection: NGX_OK, and "answerer" is
 * attached, and "taker" if there is something to read, NGX_AGAIN, or NGX_DONE:
 * the connection is to be closed, see ngx_http_inverting_receive().  Takes the
 * lock itself.
 */
ngx_int_t ngx_http_inverting_open(ngx_http_inverting_end_t *end,
    ngx_http_inverting_end_t *taker, ngx_http_inverting_end_t *answerer);

/*
 * The stream of a transaction that was opened is over; closes both ends as
 * ngx_http_inverting_close() does.  AGENT_REFUSED: the agent has not looked at
 * it.  Takes the lock itself.
 */
void ngx_http_inverting_stream_close(ngx_http_inverting_end_t *end,
    ngx_http_inverting_end_t *taker, ngx_http_inverting_end_t *answerer,
    ngx_uint_t outcome);

/*
 * Attaches "end" as the one that reads the request: NGX_OK, or NGX_DECLINED:
 * no such ID for this backend, or it was fetched already.
 */
ngx_int_t ngx_http_inverting_take_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key, ngx_str_t *id,
    ngx_http_inverting_end_t *end);

/*
 * Copies user and head, tx->user_len + tx->head_len bytes in a row, of an
 * attached end's transaction; a body follows in the pipe if tx->body is set.
 */
void ngx_http_inverting_head_copy(ngx_http_inverting_end_t *end, u_char *buf);

/*
 * Attaches "end" as the one that writes the response: NGX_OK, or NGX_DECLINED:
 * no such ID for this backend, or it was answered already, or not fetched.
 */
ngx_int_t ngx_http_inverting_answer_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key, ngx_str_t *id,
    ngx_http_inverting_end_t *end);

/*
 * The answerer's view: what ended the transaction (tx->outcome), and whether
 * the client has accepted the head of the response.
 */
#define ngx_http_inverting_outcome(end)                                       \
    __atomic_load_n(&(end)->tx->outcome, __ATOMIC_ACQUIRE)
#define ngx_http_inverting_accepted(end)                                      \
    __atomic_load_n(&(end)->tx->accepted, __ATOMIC_ACQUIRE)

/* whether the transaction of a client's end was fetched */
#define ngx_http_inverting_taken(end)                                         \
    __atomic_load_n(&(end)->tx->taken, __ATOMIC_ACQUIRE)

/*
 * The backend is deleted, or from now on another agent's: waiting polls end,
 * transactions fail.
 */
void ngx_http_inverting_backend_end_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend);

/*
 * The key is revoked: polls that came by it end, and transactions whose ends
 * it holds, unless the whole response is there; those that its agent was told
 * of and has not answered are offered to others where that can do no harm.
 */
void ngx_http_inverting_key_end_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t key);

/* whether an agent counts as present */
ngx_uint_t ngx_http_inverting_present_locked(
    ngx_http_inverting_backend_t *backend, ngx_msec_t timeout);

/*
 * For the rescan of this worker: requeues or fails those of its clients'
 * transactions whose lease ran out, wakes every end.
 */
void ngx_http_inverting_rescan(ngx_http_inverting_zone_t *zone);

/* takes back what a dead worker's slot held */
void ngx_http_inverting_slot_recover_locked(ngx_http_inverting_zone_t *zone,
    ngx_uint_t slot);

/*
 * Transactions that were tainted, and are free now, leave their chunks to be
 * found by one scan for all of them: here, by a rescan, or when they are
 * wanted.
 */
void ngx_http_inverting_spent_locked(ngx_http_inverting_zone_t *zone);

/* rebuilds free lists, queues and counts by a scan */
void ngx_http_inverting_rebuild_locked(ngx_http_inverting_zone_t *zone);


#endif /* _NGX_HTTP_INVERTING_EXCHANGE_H_INCLUDED_ */
