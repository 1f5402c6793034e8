
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_channel.h>

#include <sys/eventfd.h>

#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_expiry.h"
#include "ngx_http_inverting_process.h"
#include "ngx_http_inverting_random.h"
#include "ngx_http_inverting_state.h"
#include "ngx_http_inverting_worker.h"


#define NGX_HTTP_INVERTING_WORKERS_SIZE  (64 * 1024)

/* milliseconds */
#define NGX_HTTP_INVERTING_RESCAN        1000

/* one in so many rescans looks for dead workers thoroughly */
#define NGX_HTTP_INVERTING_THOROUGH      8


typedef struct {
    ngx_http_inverting_process_t     process;      /* none: free */
    uint32_t                         generation;
    uint32_t                         worker;
    uint32_t                         exiting;
} ngx_http_inverting_worker_slot_t;


typedef struct {
    uint64_t                         configuration;  /* the last accepted */
    uint32_t                         generation;
    ngx_http_inverting_worker_slot_t slots[NGX_HTTP_INVERTING_SLOTS];
} ngx_http_inverting_workers_sh_t;


/* the master's, and inherited: one for all cycles that have the zone */

typedef struct {
    ngx_uint_t                       cycles;
    ngx_slab_pool_t                 *shpool;
    ngx_http_inverting_workers_sh_t *sh;
    ngx_fd_t                         fds[NGX_HTTP_INVERTING_SLOTS];
} ngx_http_inverting_workers_t;


static ngx_int_t ngx_http_inverting_worker_zone_init(ngx_shm_zone_t *shm_zone,
    void *data);
static ngx_http_inverting_workers_t *ngx_http_inverting_worker_zone_make(
    ngx_shm_zone_t *shm_zone);
static ngx_int_t ngx_http_inverting_worker_make_fds(
    ngx_http_inverting_workers_t *workers, ngx_log_t *log);
static void ngx_http_inverting_worker_zone_cleanup(void *data);
static ngx_uint_t ngx_http_inverting_worker_claim(ngx_cycle_t *cycle);
static void ngx_http_inverting_worker_attach(ngx_http_inverting_zone_t *zone,
    uint32_t generation);
static ngx_int_t ngx_http_inverting_worker_listen(ngx_cycle_t *cycle);
static void ngx_http_inverting_worker_event(ngx_event_t *ev);
static void ngx_http_inverting_worker_drain(ngx_http_inverting_zone_t *zone);
static void ngx_http_inverting_worker_wake(ngx_http_inverting_zone_t *zone,
    ngx_uint_t bit);
static void ngx_http_inverting_worker_signal(ngx_http_inverting_zone_t *zone,
    ngx_uint_t slot, ngx_uint_t bit);
static void ngx_http_inverting_worker_post(ngx_http_inverting_end_t *end,
    ngx_queue_t *queue);
static void ngx_http_inverting_worker_notify(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t role, ngx_queue_t *queue);
static void ngx_http_inverting_worker_rescan(ngx_event_t *ev);
static void ngx_http_inverting_worker_bury(ngx_http_inverting_zone_t *zone,
    ngx_uint_t thorough);


static ngx_http_inverting_workers_t     *ngx_http_inverting_workers;
static ngx_array_t                      *ngx_http_inverting_worker_zones;
static ngx_uint_t                        ngx_http_inverting_worker_slot;
static ngx_http_inverting_exiting_pt     ngx_http_inverting_worker_exiting;

/* for debug messages of timers, which want a descriptor */
static ngx_connection_t                  ngx_http_inverting_worker_dumb;


ngx_shm_zone_t *
ngx_http_inverting_worker_add_zone(ngx_conf_t *cf, void *tag)
{
    ngx_shm_zone_t      *shm_zone;
    ngx_pool_cleanup_t  *cln;

    static ngx_str_t     name = ngx_string("inverting_proxy_workers");

    shm_zone = ngx_shared_memory_add(cf, &name,
                                     NGX_HTTP_INVERTING_WORKERS_SIZE, tag);
    if (shm_zone == NULL) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_inverting_worker_zone_cleanup;
    cln->data = shm_zone;

    shm_zone->init = ngx_http_inverting_worker_zone_init;

    return shm_zone;
}


static ngx_int_t
ngx_http_inverting_worker_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_inverting_workers_t  *workers;

    workers = data ? data : ngx_http_inverting_worker_zone_make(shm_zone);

    if (workers == NULL) {
        return NGX_ERROR;
    }

    workers->cycles++;
    shm_zone->data = workers;

    return NGX_OK;
}


static ngx_http_inverting_workers_t *
ngx_http_inverting_worker_zone_make(ngx_shm_zone_t *shm_zone)
{
    ngx_http_inverting_workers_t  *workers;

    workers = ngx_calloc(sizeof(ngx_http_inverting_workers_t),
                         shm_zone->shm.log);
    if (workers == NULL) {
        return NULL;
    }

    workers->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;
    workers->sh = ngx_slab_calloc(workers->shpool,
                                  sizeof(ngx_http_inverting_workers_sh_t));

    if (workers->sh == NULL
        || (!ngx_test_config
            && ngx_http_inverting_worker_make_fds(workers, shm_zone->shm.log)
               != NGX_OK))
    {
        ngx_free(workers);
        return NULL;
    }

    return workers;
}


/*
 * They have to be there before the first worker is: only then do all workers
 * have them under the same number.
 */

static ngx_int_t
ngx_http_inverting_worker_make_fds(ngx_http_inverting_workers_t *workers,
    ngx_log_t *log)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_INVERTING_SLOTS; i++) {

        workers->fds[i] = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

        if (workers->fds[i] == -1) {
            ngx_log_error(NGX_LOG_EMERG, log, ngx_errno,
                          "eventfd() failed: the inverting proxy needs %d "
                          "descriptors in the master process: raise its limit "
                          "(\"ulimit -n\", or LimitNOFILE= of systemd)",
                          NGX_HTTP_INVERTING_SLOTS);

            while (i--) {
                (void) close(workers->fds[i]);
            }

            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* a configuration is done with, or was refused */

static void
ngx_http_inverting_worker_zone_cleanup(void *data)
{
    ngx_shm_zone_t  *shm_zone = data;

    ngx_uint_t                     i;
    ngx_http_inverting_workers_t  *workers;

    workers = shm_zone->data;

    if (workers == NULL || --workers->cycles) {
        return;
    }

    for (i = 0; i < NGX_HTTP_INVERTING_SLOTS && !ngx_test_config; i++) {
        (void) close(workers->fds[i]);
    }

    ngx_free(workers);
}


void
ngx_http_inverting_worker_accept(ngx_shm_zone_t *shm_zone,
    uint64_t configuration)
{
    ngx_http_inverting_workers_t  *workers;

    workers = shm_zone->data;

    __atomic_store_n(&workers->sh->configuration, configuration,
                     __ATOMIC_SEQ_CST);
}


ngx_uint_t
ngx_http_inverting_worker_is_current(uint64_t configuration)
{
    return __atomic_load_n(&ngx_http_inverting_workers->sh->configuration,
                           __ATOMIC_SEQ_CST)
           == configuration;
}


ngx_int_t
ngx_http_inverting_worker_init_process(ngx_cycle_t *cycle,
    ngx_shm_zone_t *workers, ngx_array_t *zones)
{
    size_t                      size;
    uint32_t                    generation;
    ngx_uint_t                  i;
    ngx_http_inverting_zone_t  *zone, **zonep;

    ngx_http_inverting_random_init();

    ngx_http_inverting_workers = workers->data;
    ngx_http_inverting_worker_zones = zones;
    ngx_http_inverting_worker_dumb.fd = -1;

    ngx_http_inverting_worker_slot = ngx_http_inverting_worker_claim(cycle);

    if (ngx_http_inverting_worker_slot == NGX_HTTP_INVERTING_NONE) {
        return NGX_DECLINED;
    }

    if (ngx_http_inverting_worker_listen(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    i = ngx_http_inverting_worker_slot;
    generation = ngx_http_inverting_workers->sh->slots[i].generation;

    zonep = zones->elts;

    for (i = 0; i < zones->nelts; i++) {
        zone = zonep[i];

        size = zone->sh->ntxs * NGX_HTTP_INVERTING_ROLES
               * sizeof(ngx_http_inverting_end_t *);

        zone->ends = ngx_pcalloc(cycle->pool, size);
        if (zone->ends == NULL) {
            return NGX_ERROR;
        }

        size = zone->sh->nreceivers * sizeof(ngx_http_inverting_end_t *);

        zone->pollers = ngx_pcalloc(cycle->pool, size);
        if (zone->pollers == NULL) {
            return NGX_ERROR;
        }

        ngx_http_inverting_worker_attach(zone, generation);

        zone->rescan.handler = ngx_http_inverting_worker_rescan;
        zone->rescan.data = &ngx_http_inverting_worker_dumb;
        zone->rescan.log = cycle->log;
        zone->rescan.cancelable = 1;

        ngx_add_timer(&zone->rescan, NGX_HTTP_INVERTING_RESCAN);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_inverting_worker_claim(ngx_cycle_t *cycle)
{
    ngx_uint_t                         i;
    ngx_http_inverting_workers_sh_t   *sh;
    ngx_http_inverting_worker_slot_t  *slot;

    sh = ngx_http_inverting_workers->sh;

    ngx_http_inverting_mutex_lock(&ngx_http_inverting_workers->shpool->mutex);

    for (i = 0; i < NGX_HTTP_INVERTING_SLOTS; i++) {
        slot = &sh->slots[i];

        if (slot->process.pid
            && !ngx_http_inverting_process_is_dead(&slot->process, 1))
        {
            continue;
        }

        ngx_http_inverting_process_self(&slot->process);

        slot->worker = ngx_worker;
        slot->exiting = 0;
        slot->generation = ++sh->generation;

        break;
    }

    ngx_shmtx_unlock(&ngx_http_inverting_workers->shpool->mutex);

    return (i < NGX_HTTP_INVERTING_SLOTS) ? i : NGX_HTTP_INVERTING_NONE;
}


/* makes the zone's slot ours, and cleans up after whoever had it */

static void
ngx_http_inverting_worker_attach(ngx_http_inverting_zone_t *zone,
    uint32_t generation)
{
    size_t                           words;
    ngx_uint_t                       n;
    ngx_http_inverting_zone_slot_t  *slot;

    n = ngx_http_inverting_worker_slot;
    slot = &zone->slots[n];

    words = zone->sh->nwords + zone->sh->nsummary;

    ngx_http_inverting_lock(zone);

    if (slot->generation) {
        ngx_http_inverting_slot_recover_locked(zone, n);
        zone->sh->unsettled = 1;
    }

    slot->generation = generation;
    slot->signaled = 0;

    ngx_memzero(zone->bits + n * words, words * sizeof(uint64_t));

    zone->slot = n;

    ngx_http_inverting_unlock(zone);

    ngx_http_inverting_worker_bury(zone, 1);
}


static ngx_int_t
ngx_http_inverting_worker_listen(ngx_cycle_t *cycle)
{
    ngx_fd_t           fd;
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    fd = ngx_http_inverting_workers->fds[ngx_http_inverting_worker_slot];

    c = ngx_get_connection(fd, cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    rev = c->read;

    c->log = cycle->log;
    rev->log = cycle->log;
    c->write->log = cycle->log;

    /* not a socket left open; and to be told when the shutdown begins */
    rev->channel = 1;
    c->write->channel = 1;
    c->idle = 1;

    rev->handler = ngx_http_inverting_worker_event;

    if (ngx_add_event(rev, NGX_READ_EVENT, 0) == NGX_ERROR) {
        ngx_free_connection(c);
        c->fd = (ngx_socket_t) -1;
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_inverting_worker_exit_process(void)
{
    ngx_uint_t                         i, n;
    ngx_http_inverting_zone_t         *zone, **zonep;
    ngx_http_inverting_worker_slot_t  *slot;

    n = ngx_http_inverting_worker_slot;

    if (ngx_http_inverting_worker_zones == NULL
        || n == NGX_HTTP_INVERTING_NONE)
    {
        return;
    }

    zonep = ngx_http_inverting_worker_zones->elts;

    for (i = 0; i < ngx_http_inverting_worker_zones->nelts; i++) {
        zone = zonep[i];

        if (zone->slot == NGX_HTTP_INVERTING_NONE) {
            continue;
        }

        ngx_http_inverting_lock(zone);

        ngx_http_inverting_slot_recover_locked(zone, n);
        zone->slots[n].generation = 0;

        ngx_http_inverting_unlock(zone);

        zone->slot = NGX_HTTP_INVERTING_NONE;
    }

    ngx_http_inverting_mutex_lock(&ngx_http_inverting_workers->shpool->mutex);

    slot = &ngx_http_inverting_workers->sh->slots[n];
    slot->process.pid = 0;

    ngx_shmtx_unlock(&ngx_http_inverting_workers->shpool->mutex);
}


static void
ngx_http_inverting_worker_event(ngx_event_t *ev)
{
    ssize_t                      n;
    uint64_t                     count;
    ngx_uint_t                   i;
    ngx_connection_t            *c;
    ngx_http_inverting_zone_t  **zone;

    c = ev->data;
    zone = ngx_http_inverting_worker_zones->elts;

    if (c->close) {

        /* ngx_close_idle_connections(): graceful shutdown begins */

        c->close = 0;

        i = ngx_http_inverting_worker_slot;
        ngx_http_inverting_workers->sh->slots[i].exiting = 1;

        for (i = 0; i < ngx_http_inverting_worker_zones->nelts; i++) {
            ngx_http_inverting_worker_exiting(zone[i]);
        }

        return;
    }

    n = read(c->fd, &count, sizeof(uint64_t));

    if (n == -1 && ngx_errno != NGX_EAGAIN) {
        ngx_log_error(NGX_LOG_ALERT, ev->log, ngx_errno,
                      "read() from eventfd failed");
    }

    for (i = 0; i < ngx_http_inverting_worker_zones->nelts; i++) {
        ngx_http_inverting_worker_drain(zone[i]);
    }
}


static void
ngx_http_inverting_worker_drain(ngx_http_inverting_zone_t *zone)
{
    uint64_t                       *summary, *words, map, word;
    ngx_uint_t                      i, n, bit;
    ngx_http_inverting_zone_sh_t   *sh;

    sh = zone->sh;

    summary = zone->bits + zone->slot * (sh->nwords + sh->nsummary);
    words = summary + sh->nsummary;

    /* before the bits are read: what comes later signals again */
    (void) __atomic_exchange_n(&zone->slots[zone->slot].signaled, 0,
                               __ATOMIC_SEQ_CST);

    for (i = 0; i < sh->nsummary; i++) {

        if (__atomic_load_n(&summary[i], __ATOMIC_RELAXED) == 0) {
            continue;
        }

        map = __atomic_exchange_n(&summary[i], 0, __ATOMIC_SEQ_CST);

        for ( /* void */ ; map; map &= map - 1) {
            n = i * 64 + __builtin_ctzll(map);

            word = __atomic_exchange_n(&words[n], 0, __ATOMIC_SEQ_CST);

            for ( /* void */ ; word; word &= word - 1) {
                bit = n * 64 + __builtin_ctzll(word);
                ngx_http_inverting_worker_wake(zone, bit);
            }
        }
    }
}


static void
ngx_http_inverting_worker_wake(ngx_http_inverting_zone_t *zone, ngx_uint_t bit)
{
    ngx_uint_t                  i;
    ngx_http_inverting_end_t  **end;

    if (bit >= zone->sh->ntxs) {
        ngx_http_inverting_worker_post(zone->pollers[bit - zone->sh->ntxs],
                                       &ngx_posted_events);
        return;
    }

    end = &zone->ends[bit * NGX_HTTP_INVERTING_ROLES];

    for (i = 0; i < NGX_HTTP_INVERTING_ROLES; i++) {
        ngx_http_inverting_worker_post(end[i], &ngx_posted_events);
    }
}


static void
ngx_http_inverting_worker_post(ngx_http_inverting_end_t *end,
    ngx_queue_t *queue)
{
    if (end && !end->event.posted) {
        ngx_post_event(&end->event, queue);
    }
}


void
ngx_http_inverting_notify_tx(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t role)
{
    ngx_http_inverting_worker_notify(zone, t, role, &ngx_posted_events);
}


void
ngx_http_inverting_notify_room(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t role)
{
    ngx_http_inverting_worker_notify(zone, t, role, &ngx_posted_next_events);
}


static void
ngx_http_inverting_worker_notify(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_tx_t *t, ngx_uint_t role, ngx_queue_t *queue)
{
    uint32_t    slot;
    ngx_uint_t  n;

    slot = __atomic_load_n(&t->slot[role], __ATOMIC_ACQUIRE);

    if (slot == NGX_HTTP_INVERTING_NONE) {
        return;
    }

    n = ngx_http_inverting_tx_index(zone, t);

    if (slot == zone->slot) {
        ngx_http_inverting_worker_post(
                             zone->ends[n * NGX_HTTP_INVERTING_ROLES + role],
                             queue);
        return;
    }

    ngx_http_inverting_worker_signal(zone, slot, n);
}


void
ngx_http_inverting_notify_receiver(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_receiver_t *receiver)
{
    ngx_uint_t  n;

    n = receiver - zone->receivers;

    if (receiver->slot == zone->slot) {
        ngx_http_inverting_worker_post(zone->pollers[n], &ngx_posted_events);
        return;
    }

    ngx_http_inverting_worker_signal(zone, receiver->slot,
                                     zone->sh->ntxs + n);
}


static void
ngx_http_inverting_worker_signal(ngx_http_inverting_zone_t *zone,
    ngx_uint_t slot, ngx_uint_t bit)
{
    uint64_t                       *summary, *words, one;
    ngx_uint_t                      n;
    ngx_http_inverting_zone_sh_t   *sh;

    sh = zone->sh;
    one = 1;
    n = bit / 64;

    summary = zone->bits + slot * (sh->nwords + sh->nsummary);
    words = summary + sh->nsummary;

    (void) __atomic_fetch_or(&words[n], one << (bit % 64), __ATOMIC_SEQ_CST);
    (void) __atomic_fetch_or(&summary[n / 64], one << (n % 64),
                             __ATOMIC_SEQ_CST);

    if (__atomic_exchange_n(&zone->slots[slot].signaled, 1, __ATOMIC_SEQ_CST)
        == 0)
    {
        /* a full counter is as good: it will be read */

        if (write(ngx_http_inverting_workers->fds[slot], &one,
                  sizeof(uint64_t))
            == -1
            && ngx_errno != NGX_EAGAIN)
        {
            ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                          "write() to eventfd failed");
        }
    }
}


void
ngx_http_inverting_worker_live(ngx_http_inverting_zone_t *zone, ngx_int_t n)
{
    zone->live += n;

    /*
     * An exiting worker goes as soon as only cancelable timers are left; this
     * one always is, and so can hold it back.
     */
    zone->rescan.cancelable = (zone->live == 0);
}


static void
ngx_http_inverting_worker_rescan(ngx_event_t *ev)
{
    ngx_uint_t                   i, n;
    ngx_http_inverting_zone_t   *zone;

    zone = (ngx_http_inverting_zone_t *)
               ((u_char *) ev - offsetof(ngx_http_inverting_zone_t, rescan));

    ngx_http_inverting_worker_bury(zone, zone->rescans++
                                         % NGX_HTTP_INVERTING_THOROUGH == 0);

    /* a writer may have died between setting a bit and signaling it */

    n = zone->sh->nsummary;

    for (i = 0; i < n; i++) {
        (void) __atomic_fetch_or(zone->bits
                                 + zone->slot * (zone->sh->nwords + n) + i,
                                 (uint64_t) -1 >> ((i + 1 < n)
                                  ? 0 : 63 - (zone->sh->nwords - 1) % 64),
                                 __ATOMIC_SEQ_CST);
    }

    ngx_http_inverting_worker_drain(zone);

    ngx_http_inverting_rescan(zone);

    ngx_http_inverting_cache_return(zone);

    if (zone->state) {
        ngx_http_inverting_state_rescan(zone);
    }

    if (zone->expiry) {
        ngx_http_inverting_expire(zone);
    }

    ngx_add_timer(ev, NGX_HTTP_INVERTING_RESCAN);
}


/* takes back what dead workers held in this zone */

static void
ngx_http_inverting_worker_bury(ngx_http_inverting_zone_t *zone,
    ngx_uint_t thorough)
{
    uint32_t                           generation;
    ngx_uint_t                         i;
    ngx_http_inverting_worker_slot_t  *slot;

    for (i = 0; i < NGX_HTTP_INVERTING_SLOTS; i++) {

        generation = zone->slots[i].generation;

        if (generation == 0 || i == zone->slot) {
            continue;
        }

        slot = &ngx_http_inverting_workers->sh->slots[i];

        if (slot->generation == generation
            && slot->process.pid
            && !ngx_http_inverting_process_is_dead(&slot->process, thorough))
        {
            continue;
        }

        ngx_http_inverting_lock(zone);

        if (zone->slots[i].generation == generation) {
            ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                          "zone \"%V\": taking back what worker slot %ui held",
                          &zone->name, i);

            ngx_http_inverting_slot_recover_locked(zone, i);
            zone->slots[i].generation = 0;
            zone->sh->unsettled = 1;
        }

        ngx_http_inverting_unlock(zone);
    }
}


void
ngx_http_inverting_worker_on_exiting(ngx_http_inverting_exiting_pt handler)
{
    ngx_http_inverting_worker_exiting = handler;
}


void
ngx_http_inverting_worker_each(ngx_http_inverting_worker_add_pt add,
    void *data)
{
    ngx_uint_t                         i;
    ngx_http_inverting_worker_slot_t  *slot;

    for (i = 0; i < NGX_HTTP_INVERTING_SLOTS; i++) {
        slot = &ngx_http_inverting_workers->sh->slots[i];

        if (slot->process.pid
            && !ngx_http_inverting_process_is_dead(&slot->process, 1))
        {
            add(data, i, slot->process.pid, slot->worker, slot->exiting);
        }
    }
}
