
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_WORKER_H_INCLUDED_
#define _NGX_HTTP_INVERTING_WORKER_H_INCLUDED_


#include "ngx_http_inverting_zone.h"


/*
 * Worker processes, and how they wake each other.
 *
 * A zone of our own, "inverting_proxy_workers", has a slot for each worker
 * that serves; to each belongs an eventfd, which the master made before any
 * fork.  A worker is its slot and the slot's generation.
 *
 * In each zone every slot has a bitmap with a bit for each transaction and for
 * each receiver.  To notify is to set a bit and, if the slot was not signaled
 * yet, to write its eventfd; within one worker it is posting an event.  It is
 * idempotent, so nothing breaks when a worker dies half-way, and a bit that
 * got lost is found by the rescan, once a second.
 */


/*
 * Adds the workers' zone to the cycle; NULL: an error was logged.  The
 * eventfds come with it, and go with the last cycle that has it.
 */
ngx_shm_zone_t *ngx_http_inverting_worker_add_zone(ngx_conf_t *cf, void *tag);

/* in the master: from now on this configuration is the current one */
void ngx_http_inverting_worker_accept(ngx_shm_zone_t *workers,
    uint64_t configuration);

/* in a worker, which may have started late, of an earlier configuration */
ngx_uint_t ngx_http_inverting_worker_is_current(uint64_t configuration);

/*
 * In a worker: claims a slot, cleans up after dead ones, listens.  The zones
 * are "zones", an array of ngx_http_inverting_zone_t *.  NGX_DECLINED: all
 * slots are taken, and zone->slot stays NONE; it may be tried again.
 */
ngx_int_t ngx_http_inverting_worker_init_process(ngx_cycle_t *cycle,
    ngx_shm_zone_t *workers, ngx_array_t *zones);
void ngx_http_inverting_worker_exit_process(void);

/* wakes the end that holds this role of the transaction, if any does */
void ngx_http_inverting_notify_tx(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t role);

/*
 * As ngx_http_inverting_notify_tx(), for who waits for room in a pipe: in this
 * worker not before the next turn of its loop, or two ends that are never
 * short of anything would keep it to themselves.
 */
void ngx_http_inverting_notify_room(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t role);

/* wakes the poll that is this receiver */
void ngx_http_inverting_notify_receiver(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *receiver);

/* attached ends keep an exiting worker alive: "n" is 1 or -1 */
void ngx_http_inverting_worker_live(ngx_http_inverting_zone_t *zone,
    ngx_int_t n);

/* called for each zone when this worker begins its graceful shutdown */
typedef void (*ngx_http_inverting_exiting_pt)(ngx_http_inverting_zone_t *zone);
void ngx_http_inverting_worker_on_exiting(
    ngx_http_inverting_exiting_pt handler);

/* workers as the status shows them: calls add(data, ...) for each live one */
typedef void (*ngx_http_inverting_worker_add_pt)(void *data, ngx_uint_t slot,
    ngx_pid_t pid, ngx_uint_t worker, ngx_uint_t exiting);
void ngx_http_inverting_worker_each(ngx_http_inverting_worker_add_pt add,
    void *data);


#endif /* _NGX_HTTP_INVERTING_WORKER_H_INCLUDED_ */
