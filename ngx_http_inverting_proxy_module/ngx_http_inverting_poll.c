
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_agent.h"


static ngx_int_t ngx_http_inverting_poll_park(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
static void ngx_http_inverting_poll_end_handler(ngx_http_inverting_end_t *end);
static void ngx_http_inverting_poll_timer_handler(ngx_event_t *ev);
static void ngx_http_inverting_poll_wake(ngx_http_inverting_agent_ctx_t *ctx,
    ngx_uint_t over);
static void ngx_http_inverting_poll_unpark(
    ngx_http_inverting_agent_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_poll_send(ngx_http_request_t *r,
    u_char ids[][NGX_HTTP_INVERTING_ID_LEN], ngx_uint_t n);
static void ngx_http_inverting_poll_cleanup(void *data);


static ngx_str_t  ngx_http_inverting_poll_type =
    ngx_string("application/json");


/* the polls of this worker that wait, of all zones */
static ngx_queue_t  ngx_http_inverting_parked;


ngx_int_t
ngx_http_inverting_poll_handler(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_int_t                      n, rc;
    ngx_http_cleanup_t            *cln;
    ngx_http_inverting_backend_t  *backend;
    u_char  ids[NGX_HTTP_INVERTING_POLL_MAX][NGX_HTTP_INVERTING_ID_LEN];

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (r->discard_body) {
        return ngx_http_inverting_agent_answer(r, NGX_HTTP_BAD_REQUEST,
                                               "a body is not expected\n");
    }

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_inverting_poll_cleanup;
    cln->data = ctx;

    ctx->end.handler = ngx_http_inverting_poll_end_handler;

    ngx_http_inverting_lock(ctx->zone);

    backend = ngx_http_inverting_agent_backend_locked(ctx);

    if (backend == NULL) {
        ngx_http_inverting_unlock(ctx->zone);
        return ngx_http_inverting_agent_unauthorized(r, ctx);
    }

    backend->last_seen = ngx_time();
    backend->last_present = ngx_current_msec;

    if (ngx_exiting) {
        n = 0;

    } else {
        n = ngx_http_inverting_poll_locked(ctx->zone, backend, ctx->key,
                                           &ctx->end, ids);
        ngx_http_inverting_registry_present_locked(ctx->zone, backend);
    }

    ngx_http_inverting_unlock(ctx->zone);

    if (n == NGX_AGAIN) {
        return ngx_http_inverting_poll_park(r, ctx);
    }

    if (n < 0) {
        return ngx_http_inverting_agent_unavailable(r,
                                              "too many agents are waiting\n");
    }

    return ngx_http_inverting_poll_send(r, ids, n);
}


static ngx_int_t
ngx_http_inverting_poll_park(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_connection_t                     *c;
    ngx_http_inverting_proxy_loc_conf_t  *conf;

    c = r->connection;

    conf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    ctx->timer.handler = ngx_http_inverting_poll_timer_handler;
    ctx->timer.data = ctx;
    ctx->timer.log = c->log;

    ngx_add_timer(&ctx->timer, conf->poll_timeout);

    if (ngx_http_inverting_parked.next == NULL) {
        ngx_queue_init(&ngx_http_inverting_parked);
    }

    ngx_queue_insert_tail(&ngx_http_inverting_parked, &ctx->parked);

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    /* a close that came along with the request raises no event any more */

    if (c->read->pending_eof) {
        ngx_post_event(c->read, &ngx_posted_events);
    }

    r->main->count++;

    return NGX_DONE;
}


static void
ngx_http_inverting_poll_end_handler(ngx_http_inverting_end_t *end)
{
    ngx_http_inverting_poll_wake(end->data, 0);
}


static void
ngx_http_inverting_poll_timer_handler(ngx_event_t *ev)
{
    ngx_http_inverting_poll_wake(ev->data, 1);
}


void
ngx_http_inverting_poll_exiting(ngx_http_inverting_zone_t *zone)
{
    ngx_queue_t                     *q;
    ngx_http_inverting_agent_ctx_t  *ctx;

    if (ngx_http_inverting_parked.next == NULL) {
        return;
    }

    q = ngx_queue_head(&ngx_http_inverting_parked);

    while (q != ngx_queue_sentinel(&ngx_http_inverting_parked)) {

        ctx = ngx_queue_data(q, ngx_http_inverting_agent_ctx_t, parked);

        if (ctx->zone != zone) {
            q = ngx_queue_next(q);
            continue;
        }

        ngx_http_inverting_poll_wake(ctx, 1);

        /* with one request of a connection others may have gone */

        q = ngx_queue_head(&ngx_http_inverting_parked);
    }
}


static void
ngx_http_inverting_poll_wake(ngx_http_inverting_agent_ctx_t *ctx,
    ngx_uint_t over)
{
    ngx_int_t            n, rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;
    u_char  ids[NGX_HTTP_INVERTING_POLL_MAX][NGX_HTTP_INVERTING_ID_LEN];

    r = ctx->request;
    c = r->connection;

    n = ngx_http_inverting_receive(&ctx->end, ids);

    if (n == NGX_AGAIN) {

        if (!over) {
            return;
        }

        n = 0;
    }

    ngx_http_set_log_request(c->log, r);

    ngx_http_inverting_poll_unpark(ctx);

    if (n == NGX_DONE) {
        ctx->reason = NGX_HTTP_INVERTING_GONE;
        rc = ngx_http_inverting_agent_unauthorized(r, ctx);

    } else {
        rc = ngx_http_inverting_poll_send(r, ids, n);
    }

    ngx_http_finalize_request(r, rc);

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_inverting_poll_unpark(ngx_http_inverting_agent_ctx_t *ctx)
{
    if (ctx->parked.next) {
        ngx_queue_remove(&ctx->parked);
        ctx->parked.next = NULL;
    }

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (ctx->end.receiver) {
        ngx_http_inverting_poll_close(&ctx->end);
    }
}


static ngx_int_t
ngx_http_inverting_poll_send(ngx_http_request_t *r,
    u_char ids[][NGX_HTTP_INVERTING_ID_LEN], ngx_uint_t n)
{
    u_char      *p;
    ngx_str_t    body;
    ngx_uint_t   i;

    p = ngx_pnalloc(r->pool,
                    sizeof("[]") - 1
                    + n * (NGX_HTTP_INVERTING_ID_LEN + sizeof("\"\",") - 1));
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.data = p;

    *p++ = '[';

    for (i = 0; i < n; i++) {

        if (i) {
            *p++ = ',';
        }

        *p++ = '"';
        p = ngx_cpymem(p, ids[i], NGX_HTTP_INVERTING_ID_LEN);
        *p++ = '"';
    }

    *p++ = ']';

    body.len = p - body.data;

    return ngx_http_inverting_agent_send(r, NGX_HTTP_OK,
                                         &ngx_http_inverting_poll_type, &body);
}


static void
ngx_http_inverting_poll_cleanup(void *data)
{
    ngx_http_inverting_poll_unpark(data);
}
