
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_thread_pool.h>

#include "ngx_http_inverting_rooms.h"
#include "ngx_http_inverting_state.h"
#include "ngx_http_inverting_worker.h"


/* changes in one commit, and those that may wait for the next ones */
#define NGX_HTTP_INVERTING_STATE_BATCH  256
#define NGX_HTTP_INVERTING_STATE_MAX    8192

/* backends that are read again at a time */
#define NGX_HTTP_INVERTING_STATE_STALE  256

#define NGX_HTTP_INVERTING_STATE_POOL   4096


struct ngx_http_inverting_state_s {
    ngx_http_inverting_zone_t      *zone;
    ngx_thread_pool_t              *thread_pool;
    ngx_thread_task_t              *task;      /* ctx: the state */

    /* the thread's while a task runs */
    ngx_http_inverting_db_t         db;

    ngx_http_inverting_batch_t     *running;   /* NULL: no task runs */
    ngx_queue_t                     waiting;   /* more batches */
    ngx_uint_t                      nwaiting;  /* changes in them */

    /* see refresh() */
    ngx_array_t                    *stale;     /* ids, the last ones first */
    ngx_uint_t                      nrefresh;  /* REFRESHs under way */
    ngx_uint_t                      refreshed; /* ids among them */

    unsigned                        failed:1;  /* and said so */
    unsigned                        settling:1;
    unsigned                        refresh_failed:1;
};


typedef struct {
    ngx_queue_t                     queue;
    ngx_http_inverting_batch_t      batch;
} ngx_http_inverting_queued_t;


static ngx_http_inverting_batch_t *ngx_http_inverting_state_batch(
    ngx_http_inverting_state_t *state);
static void ngx_http_inverting_state_refresh(
    ngx_http_inverting_state_t *state);
static void ngx_http_inverting_state_refresh_id(
    ngx_http_inverting_state_t *state, ngx_str_t *id);
static void ngx_http_inverting_state_refreshed(ngx_http_inverting_op_t *op);
static void ngx_http_inverting_state_refresh_done(
    ngx_http_inverting_state_t *state);
static void ngx_http_inverting_state_start(ngx_http_inverting_state_t *state);
static void ngx_http_inverting_state_thread(void *data, ngx_log_t *log);
static void ngx_http_inverting_state_handler(ngx_event_t *ev);
static void ngx_http_inverting_state_fail(ngx_http_inverting_state_t *state,
    ngx_http_inverting_batch_t *batch);
static void ngx_http_inverting_state_apply(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_batch_t *batch);
static ngx_int_t ngx_http_inverting_state_apply_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_entry_t *entry);
static void ngx_http_inverting_state_finish(ngx_http_inverting_state_t *state,
    ngx_http_inverting_batch_t *batch);


#define ngx_http_inverting_state_queued(b)                                    \
    ((ngx_http_inverting_queued_t *)                                          \
     ((u_char *) (b) - offsetof(ngx_http_inverting_queued_t, batch)))


ngx_int_t
ngx_http_inverting_state_load(ngx_http_inverting_zone_t *zone, ngx_log_t *log)
{
    u_char                       error[NGX_HTTP_INVERTING_DB_ERROR];
    ngx_int_t                    rc;
    ngx_pool_t                  *pool;
    ngx_http_inverting_db_t      db;
    ngx_http_inverting_entry_t   entry;

    ngx_memzero(&db, sizeof(ngx_http_inverting_db_t));

    db.file = zone->file;
    db.error = error;

    pool = ngx_create_pool(NGX_HTTP_INVERTING_STATE_POOL, log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_inverting_db_stat(&db, &zone->sh->device,
                                    &zone->sh->inode);
    if (rc != NGX_ERROR) {
        rc = ngx_http_inverting_db_open_read(&db, 1);
    }

    if (rc == NGX_OK) {

        /* first: what is committed meanwhile is read again by a worker */

        rc = ngx_http_inverting_db_number(&db, &zone->sh->applied);

        while (rc == NGX_OK) {
            ngx_reset_pool(pool);

            rc = ngx_http_inverting_db_next(&db, pool, &entry);

            if (rc == NGX_OK
                && ngx_http_inverting_state_apply_locked(zone, &entry)
                   != NGX_OK)
            {
                ngx_log_error(NGX_LOG_EMERG, log, 0,
                              "registry of inverting_proxy_zone \"%V\" is "
                              "too small for what is in state file \"%V\": "
                              "it must have a larger \"registry\"",
                              &zone->name, &zone->file);

                ngx_http_inverting_db_close(&db);
                ngx_destroy_pool(pool);
                return NGX_ERROR;
            }
        }

        ngx_http_inverting_db_close(&db);
    }

    ngx_destroy_pool(pool);

    if (rc == NGX_ERROR) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "inverting_proxy_zone \"%V\": %s", &zone->name, error);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_state_check(ngx_http_inverting_zone_t *zone, ngx_log_t *log)
{
    u_char                    error[NGX_HTTP_INVERTING_DB_ERROR];
    uint64_t                  number, applied, device, inode, known;
    ngx_int_t                 rc;
    ngx_uint_t                strange;
    ngx_http_inverting_db_t   db;

    ngx_memzero(&db, sizeof(ngx_http_inverting_db_t));

    db.file = zone->file;
    db.error = error;

    applied = zone->sh->applied;
    known = __atomic_load_n(&zone->sh->inode, __ATOMIC_ACQUIRE);
    number = 0;
    strange = 0;

    rc = ngx_http_inverting_db_stat(&db, &device, &inode);

    if (known && rc != NGX_ERROR
        && (inode != known || device != zone->sh->device))
    {
        /* it is not opened: the log beside it may be another one's */

        strange = 1;

    } else if (rc == NGX_OK) {
        rc = ngx_http_inverting_db_open_read(&db, 0);

        if (rc == NGX_OK) {
            rc = ngx_http_inverting_db_number(&db, &number);
            ngx_http_inverting_db_close(&db);
        }
    }

    if (rc == NGX_ERROR) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "inverting_proxy_zone \"%V\": %s", &zone->name, error);
        return NGX_ERROR;
    }

    if (number < applied || strange) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "inverting_proxy_zone \"%V\": state file \"%V\" is not "
                      "the one that the zone was loaded from: put that back, "
                      "or restart nginx to load this one",
                      &zone->name, &zone->file);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* only what is not there: others may have their own use for a folder */

ngx_int_t
ngx_http_inverting_state_folder(ngx_http_inverting_zone_t *zone)
{
    char             *folder, *p;
    ngx_cycle_t      *cycle;
    ngx_core_conf_t  *ccf;

    cycle = zone->cycle;

    folder = ngx_pnalloc(cycle->pool, zone->file.len + 1);
    if (folder == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(folder, zone->file.data, zone->file.len + 1);

    p = strrchr(folder, '/');

    if (p == NULL || p == folder) {
        return NGX_OK;
    }

    *p = '\0';

    if (ngx_create_dir(folder, 0700) == NGX_FILE_ERROR) {

        if (ngx_errno == NGX_EEXIST) {
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      ngx_create_dir_n " \"%s\" for the state of "
                      "inverting_proxy_zone \"%V\" failed",
                      folder, &zone->name);
        return NGX_ERROR;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (geteuid() == 0 && chown(folder, ccf->user, ccf->group) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "chown() of \"%s\" failed", folder);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_state_init_process(ngx_http_inverting_zone_t *zone,
    ngx_cycle_t *cycle, ngx_array_t *stale)
{
    ngx_http_inverting_state_t  *state;

    static ngx_str_t  name = ngx_string("default");

    state = ngx_pcalloc(cycle->pool, sizeof(ngx_http_inverting_state_t));
    if (state == NULL) {
        return NGX_ERROR;
    }

    state->zone = zone;
    state->stale = stale;
    state->db.file = zone->file;

    ngx_queue_init(&state->waiting);

    state->thread_pool = ngx_thread_pool_get(cycle, &name);

    state->task = ngx_thread_task_alloc(cycle->pool,
                                        sizeof(ngx_http_inverting_state_t *));

    if (state->thread_pool == NULL || state->task == NULL) {
        return NGX_ERROR;
    }

    *(ngx_http_inverting_state_t **) state->task->ctx = state;

    state->task->handler = ngx_http_inverting_state_thread;
    state->task->event.handler = ngx_http_inverting_state_handler;
    state->task->event.data = state;
    state->task->event.log = cycle->log;

    zone->state = state;

    ngx_http_inverting_state_rescan(zone);

    return NGX_OK;
}


/* the threads are gone by now */

void
ngx_http_inverting_state_exit_process(ngx_http_inverting_zone_t *zone)
{
    ngx_http_inverting_db_close(&zone->state->db);
}


ngx_http_inverting_op_t *
ngx_http_inverting_state_submit(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_change_t *change,
    void (*handler)(ngx_http_inverting_op_t *op), void *data,
    ngx_http_inverting_room_t *room)
{
    ngx_queue_t                  *q;
    ngx_http_inverting_op_t      *op;
    ngx_http_inverting_batch_t   *batch;
    ngx_http_inverting_state_t   *state;
    ngx_http_inverting_queued_t  *queued;

    state = zone->state;

    if (state->nwaiting >= NGX_HTTP_INVERTING_STATE_MAX) {
        return NULL;
    }

    batch = NULL;

    if (!ngx_queue_empty(&state->waiting)) {
        q = ngx_queue_last(&state->waiting);
        queued = ngx_queue_data(q, ngx_http_inverting_queued_t, queue);
        batch = &queued->batch;
    }

    if (batch == NULL || batch->nops == NGX_HTTP_INVERTING_STATE_BATCH) {
        batch = ngx_http_inverting_state_batch(state);
        if (batch == NULL) {
            return NULL;
        }
    }

    op = ngx_pcalloc(batch->pool, sizeof(ngx_http_inverting_op_t));

    if (op == NULL
        || ngx_http_inverting_change_copy(batch->pool, &op->change, change)
           != NGX_OK)
    {
        return NULL;
    }

    op->handler = handler;
    op->data = data;
    op->room = room;

    *batch->last = op;
    batch->last = &op->next;
    batch->nops++;

    state->nwaiting++;

    /* an exiting worker must not leave before it has answered */
    ngx_http_inverting_worker_live(zone, 1);

    ngx_http_inverting_state_start(state);

    return op;
}


/* a new one, the last of those that wait */

static ngx_http_inverting_batch_t *
ngx_http_inverting_state_batch(ngx_http_inverting_state_t *state)
{
    ngx_pool_t                   *pool;
    ngx_http_inverting_queued_t  *queued;

    pool = ngx_create_pool(NGX_HTTP_INVERTING_STATE_POOL, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    queued = ngx_pcalloc(pool, sizeof(ngx_http_inverting_queued_t));
    if (queued == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    queued->batch.pool = pool;
    queued->batch.sh = state->zone->sh;
    queued->batch.last = &queued->batch.ops;

    /* the analyzer loses sight of ngx_queue_init() on the way here */
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    ngx_queue_insert_tail(&state->waiting, &queued->queue);

    return &queued->batch;
}


void
ngx_http_inverting_state_rescan(ngx_http_inverting_zone_t *zone)
{
    ngx_http_inverting_state_t  *state;

    state = zone->state;

    ngx_http_inverting_state_refresh(state);

    if (state->running == NULL && ngx_queue_empty(&state->waiting)) {
        (void) ngx_http_inverting_state_batch(state);
    }

    ngx_http_inverting_state_start(state);
}


/* commits of ours that change nothing: see rescan(), and "stale" */

static void
ngx_http_inverting_state_refresh(ngx_http_inverting_state_t *state)
{
    ngx_str_t                  *id, none;
    ngx_uint_t                  n;
    ngx_http_inverting_zone_t  *zone;

    if (state->nrefresh || ngx_exiting) {
        return;
    }

    zone = state->zone;

    if (zone->sh->unsettled) {

        ngx_http_inverting_lock(zone);

        if (zone->sh->unsettled) {
            zone->sh->unsettled = 0;
            state->settling = 1;

            ngx_http_inverting_rooms_adopt_locked(zone);
        }

        ngx_http_inverting_unlock(zone);
    }

    n = ngx_min(state->stale->nelts, NGX_HTTP_INVERTING_STATE_STALE);

    if (!state->settling && n == 0) {
        return;
    }

    state->refreshed = n;
    state->refresh_failed = 0;

    /* not to be finished before all are under way */
    state->nrefresh = 1;

    if (state->settling) {
        ngx_str_null(&none);
        ngx_http_inverting_state_refresh_id(state, &none);
    }

    id = state->stale->elts;
    id += state->stale->nelts;

    while (n--) {
        ngx_http_inverting_state_refresh_id(state, --id);
    }

    ngx_http_inverting_state_refresh_done(state);
}


static void
ngx_http_inverting_state_refresh_id(ngx_http_inverting_state_t *state,
    ngx_str_t *id)
{
    ngx_http_inverting_change_t  change;

    ngx_memzero(&change, sizeof(ngx_http_inverting_change_t));

    change.type = NGX_HTTP_INVERTING_REFRESH;
    change.record.id = *id;

    if (ngx_http_inverting_state_submit(state->zone, &change,
                                        ngx_http_inverting_state_refreshed,
                                        state, NULL)
        == NULL)
    {
        state->refresh_failed = 1;
        return;
    }

    state->nrefresh++;
}


static void
ngx_http_inverting_state_refreshed(ngx_http_inverting_op_t *op)
{
    ngx_http_inverting_state_t  *state;

    state = op->data;

    if (op->change.result == NGX_HTTP_INVERTING_FAILED) {
        state->refresh_failed = 1;
    }

    ngx_http_inverting_state_refresh_done(state);
}


/* what has failed is done again in the next rescan */

static void
ngx_http_inverting_state_refresh_done(ngx_http_inverting_state_t *state)
{
    ngx_http_inverting_zone_t  *zone;

    if (--state->nrefresh) {
        return;
    }

    zone = state->zone;

    if (state->settling) {

        ngx_http_inverting_lock(zone);

        ngx_http_inverting_rooms_settle_locked(zone, !state->refresh_failed);

        if (state->refresh_failed) {
            zone->sh->unsettled = 1;
        }

        ngx_http_inverting_unlock(zone);

        state->settling = 0;
    }

    if (!state->refresh_failed) {
        state->stale->nelts -= state->refreshed;
    }
}


static void
ngx_http_inverting_state_start(ngx_http_inverting_state_t *state)
{
    ngx_queue_t                  *q;
    ngx_http_inverting_queued_t  *queued;

    if (state->running || ngx_queue_empty(&state->waiting)) {
        return;
    }

    q = ngx_queue_head(&state->waiting);
    ngx_queue_remove(q);

    queued = ngx_queue_data(q, ngx_http_inverting_queued_t, queue);

    state->running = &queued->batch;

    if (ngx_thread_task_post(state->thread_pool, state->task) != NGX_OK) {

        /* that was logged; the rescan tries again */

        ngx_queue_insert_head(&state->waiting, q);
        state->running = NULL;
    }
}


static void
ngx_http_inverting_state_thread(void *data, ngx_log_t *log)
{
    ngx_http_inverting_state_t  *state;

    state = *(ngx_http_inverting_state_t **) data;

    ngx_http_inverting_db_run(&state->db, state->running);
}


static void
ngx_http_inverting_state_handler(ngx_event_t *ev)
{
    ngx_queue_t                 *q;
    ngx_http_inverting_batch_t  *batch;
    ngx_http_inverting_state_t  *state;

    state = ev->data;
    batch = state->running;

    if (batch->rc == NGX_ERROR) {
        ngx_http_inverting_state_fail(state, batch);
    }

    state->failed = (batch->rc == NGX_ERROR);

    ngx_http_inverting_state_apply(state->zone, batch);

    state->running = NULL;

    if (batch->rc == NGX_AGAIN) {

        /* once more, now that the zone is further on */

        q = &ngx_http_inverting_state_queued(batch)->queue;

        batch->entries = NULL;
        ngx_queue_insert_head(&state->waiting, q);

        ngx_http_inverting_state_start(state);
        return;
    }

    ngx_http_inverting_state_start(state);

    ngx_http_inverting_state_finish(state, batch);
}


static void
ngx_http_inverting_state_fail(ngx_http_inverting_state_t *state,
    ngx_http_inverting_batch_t *batch)
{
    ngx_uint_t                asked;
    ngx_http_inverting_op_t  *op;

    asked = 0;

    for (op = batch->ops; op; op = op->next) {
        op->change.result = NGX_HTTP_INVERTING_FAILED;

        asked |= (op->change.type < NGX_HTTP_INVERTING_EXPIRE);
    }

    /* what nobody asked for is tried again every second */

    if (asked || !state->failed) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "inverting_proxy_zone \"%V\": %s",
                      &state->zone->name, batch->error);
    }
}


static void
ngx_http_inverting_state_apply(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_batch_t *batch)
{
    ngx_uint_t                   full;
    ngx_http_inverting_op_t     *op;
    ngx_http_inverting_entry_t  *entry;

    if (batch->entries == NULL && batch->ops == NULL
        && (batch->rc == NGX_ERROR || zone->sh->inode))
    {
        return;
    }

    full = 0;

    ngx_http_inverting_lock(zone);

    if (batch->rc != NGX_ERROR && zone->sh->inode == 0) {
        zone->sh->device = batch->device;
        __atomic_store_n(&zone->sh->inode, batch->inode, __ATOMIC_RELEASE);
    }

    /* else somebody else has been here with these and more */

    if (batch->rc != NGX_ERROR && zone->sh->applied < batch->to) {

        for (entry = batch->entries; entry; entry = entry->next) {

            if (ngx_http_inverting_state_apply_locked(zone, entry) != NGX_OK) {
                full = 1;
            }
        }

        __atomic_store_n(&zone->sh->applied, batch->to, __ATOMIC_RELEASE);
    }

    if (batch->rc != NGX_AGAIN) {

        for (op = batch->ops; op; op = op->next) {
            ngx_http_inverting_room_free_locked(zone, op->room);
        }
    }

    if (batch->unsettled) {
        zone->sh->unsettled = 1;
    }

    ngx_http_inverting_unlock(zone);

    if (full) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "registry of inverting_proxy_zone \"%V\" is full: some "
                      "of what is in state file \"%V\" is not in force; "
                      "restart nginx with a larger \"registry\"",
                      &zone->name, &zone->file);
    }
}


static ngx_int_t
ngx_http_inverting_state_apply_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_entry_t *entry)
{
    ngx_int_t                      rc;
    ngx_http_inverting_backend_t  *backend;

    if (!entry->present) {
        (void) ngx_http_inverting_registry_delete_locked(zone,
                                                         &entry->record.id, 0);
        return NGX_OK;
    }

    rc = ngx_http_inverting_registry_set_locked(zone, &entry->record,
                                                entry->room);

    /* NGX_DECLINED: one of the configuration stands before it */

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : NGX_ERROR;
    }

    backend = ngx_http_inverting_registry_find_locked(zone,
                                                      &entry->record.id);

    return ngx_http_inverting_keys_set_locked(zone, backend, entry->keys,
                                              entry->nkeys, entry->room);
}


static void
ngx_http_inverting_state_finish(ngx_http_inverting_state_t *state,
    ngx_http_inverting_batch_t *batch)
{
    ngx_http_inverting_op_t  *op;

    state->nwaiting -= batch->nops;

    for (op = batch->ops; op; op = op->next) {

        if (op->data) {
            op->handler(op);
        }

        ngx_http_inverting_worker_live(state->zone, -1);
    }

    ngx_destroy_pool(batch->pool);
}
