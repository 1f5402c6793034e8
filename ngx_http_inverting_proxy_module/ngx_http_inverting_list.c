
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_api.h"
#include "ngx_http_inverting_record.h"


/* for what stands between records, and at the end */
#define NGX_HTTP_INVERTING_API_RESERVE  64


static ngx_str_t *ngx_http_inverting_list_page(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static void ngx_http_inverting_list_handler(ngx_http_request_t *r);
static void ngx_http_inverting_list_event(ngx_event_t *ev);
static void ngx_http_inverting_list_cleanup(void *data);

static void ngx_http_inverting_list_fill(ngx_http_inverting_api_ctx_t *ctx);
static void ngx_http_inverting_list_start(ngx_http_inverting_api_ctx_t *ctx);
static ngx_uint_t ngx_http_inverting_list_add(
    ngx_http_inverting_api_ctx_t *ctx, ngx_http_inverting_backend_t *backend);

static void ngx_http_inverting_status_start(ngx_http_inverting_api_ctx_t *ctx);
static void ngx_http_inverting_status_zone(ngx_http_inverting_zone_t *zone,
    ngx_buf_t *b);
static void ngx_http_inverting_status_worker(void *data, ngx_uint_t slot,
    ngx_pid_t pid, ngx_uint_t worker, ngx_uint_t exiting);
static size_t ngx_http_inverting_status_len(
    ngx_http_inverting_backend_t *backend);


ngx_int_t
ngx_http_inverting_api_list(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_int_t            rc;
    ngx_buf_t           *b;
    ngx_str_t           *name;
    ngx_http_cleanup_t  *cln;

    b = ngx_create_temp_buf(r->pool, NGX_HTTP_INVERTING_API_BUFFER);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->out.buf = b;
    ctx->out.next = NULL;

    ctx->after.data = ctx->id;

    if (ctx->resource == NGX_HTTP_INVERTING_API_BACKENDS) {
        name = ngx_http_inverting_list_page(r, ctx);

        if (name->len) {
            return ngx_http_inverting_api_error(r, NGX_HTTP_BAD_REQUEST, name,
                               "\"limit\" must be a number from 1 to 10000, "
                               "and \"after\" the id of a backend");
        }
    }

    ngx_http_inverting_list_start(ctx);
    ngx_http_inverting_list_fill(ctx);

    if (ctx->complete) {
        return ngx_http_inverting_api_send(r, NGX_HTTP_OK, b);
    }

    rc = ngx_http_inverting_api_send(r, NGX_HTTP_OK, NULL);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_inverting_list_cleanup;
    cln->data = ctx;

    ctx->event.handler = ngx_http_inverting_list_event;
    ctx->event.data = ctx;
    ctx->event.log = r->connection->log;

    r->write_event_handler = ngx_http_inverting_list_handler;
    r->main->count++;

    ngx_http_inverting_list_handler(r);

    return NGX_DONE;
}


/* ?limit= and ?after=; the name of the one that is wrong, or an empty one */

static ngx_str_t *
ngx_http_inverting_list_page(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_int_t  n;
    ngx_str_t  value;

    static ngx_str_t  limit = ngx_string("limit");
    static ngx_str_t  after = ngx_string("after");
    static ngx_str_t  none = ngx_null_string;

    if (ngx_http_arg(r, limit.data, limit.len, &value) == NGX_OK) {
        n = ngx_atoi(value.data, value.len);

        if (n < 1 || n > NGX_HTTP_INVERTING_API_LIMIT) {
            return &limit;
        }

        ctx->limit = n;
    }

    if (ngx_http_arg(r, after.data, after.len, &value) == NGX_OK) {

        if (!ngx_http_inverting_record_id_valid(&value)) {
            return &after;
        }

        ctx->after.len = value.len;
        ngx_memcpy(ctx->id, value.data, value.len);
    }

    return &none;
}


static void
ngx_http_inverting_list_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_buf_t                     *b;
    ngx_chain_t                   *out;
    ngx_event_t                   *wev;
    ngx_connection_t              *c;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_inverting_api_ctx_t  *ctx;

    c = r->connection;
    wev = c->write;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT,
                      "client timed out");
        c->timedout = 1;

        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (ctx->event.posted) {
        ngx_delete_posted_event(&ctx->event);
    }

    b = ctx->out.buf;
    out = NULL;

    if (!ctx->sending) {

        if (b->pos == b->last) {
            b->pos = b->start;
            b->last = b->start;

            ngx_http_inverting_list_fill(ctx);
        }

        b->flush = 1;
        b->last_buf = (ctx->complete && r == r->main) ? 1 : 0;
        b->last_in_chain = ctx->complete;

        ctx->sending = 1;
        out = &ctx->out;
    }

    rc = ngx_http_output_filter(r, out);

    if (rc == NGX_ERROR || ctx->complete) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    /* the timer also keeps a worker that is exiting from leaving now */

    if (!wev->delayed) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    if (ngx_buf_size(b) == 0) {
        ctx->sending = 0;

        /* others first */

        ngx_post_event(&ctx->event, &ngx_posted_next_events);
        return;
    }

    if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
    }
}


static void
ngx_http_inverting_list_event(ngx_event_t *ev)
{
    ngx_connection_t              *c;
    ngx_http_request_t            *r;
    ngx_http_inverting_api_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ngx_http_inverting_list_handler(r);

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_inverting_list_cleanup(void *data)
{
    ngx_http_inverting_api_ctx_t *ctx = data;

    if (ctx->event.posted) {
        ngx_delete_posted_event(&ctx->event);
    }
}


/* as many as the buffer has room for */

static void
ngx_http_inverting_list_fill(ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_buf_t                     *b;
    ngx_uint_t                     n, full;
    ngx_http_inverting_zone_t     *zone;
    ngx_http_inverting_backend_t  *backend;

    zone = ctx->zone;
    b = ctx->out.buf;

    full = 0;

    do {
        ngx_http_inverting_lock(zone);

        for (n = 0; n < NGX_HTTP_INVERTING_API_BATCH; n++) {

            backend = ngx_http_inverting_registry_next_locked(zone,
                                                              &ctx->after);
            if (backend == NULL) {
                ctx->complete = 1;
                break;
            }

            if (!ngx_http_inverting_list_add(ctx, backend)) {
                full = 1;
                break;
            }

            if (ctx->limit && --ctx->limit == 0) {
                ctx->complete = 1;
                break;
            }
        }

        ngx_http_inverting_unlock(zone);

    } while (!full && !ctx->complete);

    if (ctx->complete) {
        *b->last++ = ']';

        if (ctx->resource == NGX_HTTP_INVERTING_API_STATUS) {
            *b->last++ = '}';
        }

        *b->last++ = LF;
    }
}


static void
ngx_http_inverting_list_start(ngx_http_inverting_api_ctx_t *ctx)
{
    if (ctx->resource == NGX_HTTP_INVERTING_API_STATUS) {
        ngx_http_inverting_status_start(ctx);
    }

    *ctx->out.buf->last++ = '[';
}


static ngx_uint_t
ngx_http_inverting_list_add(ngx_http_inverting_api_ctx_t *ctx,
    ngx_http_inverting_backend_t *backend)
{
    size_t      len;
    ngx_buf_t  *b;

    b = ctx->out.buf;

    len = (ctx->resource == NGX_HTTP_INVERTING_API_STATUS)
          ? ngx_http_inverting_status_len(backend)
          : ngx_http_inverting_api_len(backend);

    if ((size_t) (b->end - b->last) < len + NGX_HTTP_INVERTING_API_RESERVE) {
        return 0;
    }

    if (ctx->some) {
        *b->last++ = ',';
    }

    *b->last++ = LF;

    if (ctx->resource == NGX_HTTP_INVERTING_API_STATUS) {
        b->last = ngx_sprintf(b->last, "{\"id\":\"%V\",\"agents\":%uD,"
                              "\"waiting\":%uD,\"active\":%uD}",
                              &backend->id, backend->nreceivers,
                              backend->waiting, backend->active);

    } else {
        b->last = ngx_http_inverting_api_write(b->last, backend);
    }

    ctx->some = 1;
    ctx->after.len = backend->id.len;
    ngx_memcpy(ctx->id, backend->id.data, backend->id.len);

    return 1;
}


static size_t
ngx_http_inverting_status_len(ngx_http_inverting_backend_t *backend)
{
    return sizeof("{\"id\":\"\",\"agents\":,\"waiting\":,\"active\":}")
           + backend->id.len + 3 * NGX_INT32_LEN;
}


/* fits the buffer even with all slots taken */

static void
ngx_http_inverting_status_start(ngx_http_inverting_api_ctx_t *ctx)
{
    size_t                      size, used;
    ngx_buf_t                  *b;
    ngx_uint_t                  n;
    ngx_http_inverting_zone_t  *zone;

    zone = ctx->zone;
    b = ctx->out.buf;

    b->last = ngx_sprintf(b->last, "{\"version\":\"%s\",\n\"zone\":",
                          NGX_HTTP_INVERTING_VERSION);

    ngx_http_inverting_status_zone(zone, b);

    ngx_http_inverting_lock(zone);

    ngx_http_inverting_registry_space_locked(zone, &size, &used);
    n = ngx_http_inverting_registry_count_locked(zone);

    ngx_http_inverting_unlock(zone);

    b->last = ngx_sprintf(b->last, ",\n\"registry\":{\"size\":%uz,"
                          "\"used\":%uz,\"free\":%uz,\"backends\":%ui}",
                          size, used, size - used, n);

    b->last = ngx_sprintf(b->last, ",\n\"workers\":[");

    ngx_http_inverting_worker_each(ngx_http_inverting_status_worker, ctx);

    b->last = ngx_sprintf(b->last, "],\n\"backends\":");

    ctx->some = 0;
}


/* counted without the lock: each number is right, their sum may not be */

static void
ngx_http_inverting_status_zone(ngx_http_inverting_zone_t *zone, ngx_buf_t *b)
{
    u_char                        *p;
    uint32_t                       state;
    ngx_uint_t                     i, in_tx, in_cache, receivers;
    ngx_uint_t                     n[NGX_HTTP_INVERTING_TX_STATES];
    ngx_http_inverting_zone_sh_t  *sh;

    sh = zone->sh;

    ngx_http_inverting_chunks_count(zone, &in_tx, &in_cache);

    ngx_memzero(n, sizeof(n));

    for (i = 0; i < sh->ntxs; i++) {
        state = __atomic_load_n(&zone->txs[i].state, __ATOMIC_RELAXED);

        if (state < NGX_HTTP_INVERTING_TX_STATES) {
            n[state]++;
        }
    }

    receivers = 0;

    for (i = 0; i < sh->nreceivers; i++) {
        state = __atomic_load_n(&zone->receivers[i].state, __ATOMIC_RELAXED);

        if (state != NGX_HTTP_INVERTING_RECEIVER_FREE) {
            receivers++;
        }
    }

    p = b->last;

    p = ngx_sprintf(p, "{\"name\":");
    p = ngx_http_inverting_json_write(p, &zone->name);

    p = ngx_sprintf(p, ",\"size\":%uz,\"rebuilds\":%uD",
                    zone->shm_zone->shm.size, sh->rebuilds);

    p = ngx_sprintf(p, ",\n\"chunks\":{\"total\":%uD,\"used\":%ui,"
                    "\"free\":%ui,\"cached\":%ui,\"size\":%d}",
                    sh->nchunks, in_tx, sh->nchunks - in_tx, in_cache,
                    NGX_HTTP_INVERTING_CHUNK_SIZE);

    p = ngx_sprintf(p, ",\n\"transactions\":{\"total\":%uD,\"used\":%ui,"
                    "\"free\":%ui,\"opening\":%ui,\"waiting\":%ui,"
                    "\"assigned\":%ui,\"answering\":%ui,\"done\":%ui}",
                    sh->ntxs, sh->ntxs - n[NGX_HTTP_INVERTING_TX_FREE],
                    n[NGX_HTTP_INVERTING_TX_FREE],
                    n[NGX_HTTP_INVERTING_TX_OPENING],
                    n[NGX_HTTP_INVERTING_TX_WAITING],
                    n[NGX_HTTP_INVERTING_TX_ASSIGNED],
                    n[NGX_HTTP_INVERTING_TX_ANSWERING],
                    n[NGX_HTTP_INVERTING_TX_DONE]);

    p = ngx_sprintf(p, ",\n\"receivers\":{\"total\":%uD,\"used\":%ui}",
                    sh->nreceivers, receivers);

    b->last = ngx_sprintf(p, ",\n\"refused\":{\"zoneFull\":%uL,"
                          "\"queueFull\":%uL,\"absent\":%uL}}",
                          sh->zone_full, sh->queue_full, sh->absent);
}


static void
ngx_http_inverting_status_worker(void *data, ngx_uint_t slot, ngx_pid_t pid,
    ngx_uint_t worker, ngx_uint_t exiting)
{
    ngx_http_inverting_api_ctx_t *ctx = data;

    ngx_buf_t  *b;

    b = ctx->out.buf;

    b->last = ngx_sprintf(b->last, "%s\n{\"slot\":%ui,\"pid\":%P,"
                          "\"worker\":%ui,\"exiting\":%s}",
                          ctx->some ? "," : "", slot, pid, worker,
                          exiting ? "true" : "false");

    ctx->some = 1;
}
