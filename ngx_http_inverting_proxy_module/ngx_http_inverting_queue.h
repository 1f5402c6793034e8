
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_QUEUE_H_INCLUDED_
#define _NGX_HTTP_INVERTING_QUEUE_H_INCLUDED_


#include "ngx_http_inverting_zone.h"


/*
 * What the exchange's own files share: ..._exchange.c has transactions and
 * their ends, ..._detach.c what becomes of a transaction when an end goes,
 * ..._queue.c who gets them and their IDs, ..._receiver.c what connections of
 * PTTH make of that, ..._recovery.c what is done after a worker's death.  What
 * ends in "_locked" wants the zone's lock held.
 */


/* the handler of every end's event */
void ngx_http_inverting_end_event(ngx_event_t *ev);

/* "end" holds this role of the transaction from now on */
void ngx_http_inverting_attach_locked(ngx_http_inverting_end_t *end,
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_tx_t *t,
    ngx_uint_t role);

/*
 * The end of this role is given up, by its owner or because its owner died;
 * the last one frees the transaction.
 */
void ngx_http_inverting_detach_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t role, ngx_uint_t outcome);

/*
 * No byte of a response has come, and none will from this agent: offers the
 * transaction again if that can do no harm, else it fails.
 */
void ngx_http_inverting_lost_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);

/* the transaction has come to its end, whatever its state; all are told */
void ngx_http_inverting_end_tx_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t outcome);

/* what follows from that: ends of pipes that nobody holds are given up */
void ngx_http_inverting_ended_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);

/* whether another agent may get it, if the one that had it is lost */
ngx_uint_t ngx_http_inverting_harmless_locked(ngx_http_inverting_tx_t *t);

/*
 * Gives a transaction, which counts as waiting, to a receiver, or puts it into
 * the queue, at its front or its back.
 */
void ngx_http_inverting_place_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t front);

/*
 * A client of this worker has given something to this receiver: if it is of
 * this worker, too, and its batch is full, it takes it now.  The lock must not
 * be held; the receiver and its connection may be gone afterwards.
 */
void ngx_http_inverting_given(ngx_http_inverting_zone_t *zone,
    ngx_uint_t receiver);

/* into the queue of its backend */
void ngx_http_inverting_enqueue_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t front);

/* out of its backend's queue; counts and state are the caller's */
void ngx_http_inverting_dequeue_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);

/* out of the list of the receiver that it was given to */
void ngx_http_inverting_unassign_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv, ngx_http_inverting_tx_t *t);

/* by the ID that an agent sent; NULL: this backend has none such */
ngx_http_inverting_tx_t *ngx_http_inverting_find_locked(
    ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_str_t *id);

/* so that it is found by its ID, or no more */
void ngx_http_inverting_remember_id_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);
void ngx_http_inverting_forget_id_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t);

/* whether it is, or was last, on the connection of its receiver "via" */
#define ngx_http_inverting_is_via(zone, t)                                    \
    ((t)->via != NGX_HTTP_INVERTING_NONE                                      \
     && (zone)->receivers[(t)->via].seq == (t)->via_seq                       \
     && (zone)->receivers[(t)->via].state != NGX_HTTP_INVERTING_RECEIVER_FREE)

/*
 * Makes a receiver, with "end" as the one to tell of what it gets; NULL: there
 * can be no more in this zone, or none for this backend, which has many.
 */
ngx_http_inverting_receiver_t *ngx_http_inverting_make_receiver_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_backend_t *backend,
    uint64_t key, ngx_http_inverting_end_t *end, ngx_uint_t capacity);

/*
 * A receiver into its backend's list of those with room, or of those that are
 * full; into the other one, if it must be, after its state, "n" or capacity
 * has changed; out of it, and free.
 */
void ngx_http_inverting_link_receiver_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv);
void ngx_http_inverting_relink_receiver_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_receiver_t *rcv);
void ngx_http_inverting_free_receiver_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *rcv);


#endif /* _NGX_HTTP_INVERTING_QUEUE_H_INCLUDED_ */
