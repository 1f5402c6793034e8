
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_api.h"
#include "ngx_http_inverting_rooms.h"


/* milliseconds: no disk takes as long */
#define NGX_HTTP_INVERTING_COMMIT_TIMEOUT  30000


static void ngx_http_inverting_commit_handler(ngx_http_inverting_op_t *op);
static void ngx_http_inverting_commit_timer(ngx_event_t *ev);
static void ngx_http_inverting_commit_cleanup(void *data);


ngx_int_t
ngx_http_inverting_api_commit(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_int_t                   rc;
    ngx_http_cleanup_t         *cln;
    ngx_http_inverting_room_t  *room;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_inverting_lock(ctx->zone);

    rc = ngx_http_inverting_change_prepare_locked(ctx->zone, &ctx->change,
                                                  &room);
    ngx_http_inverting_unlock(ctx->zone);

    if (rc != NGX_OK) {
        return ngx_http_inverting_api_changed(r, ctx);
    }

    ctx->op = ngx_http_inverting_state_submit(ctx->zone, &ctx->change,
                                           ngx_http_inverting_commit_handler,
                                           ctx, room);
    if (ctx->op == NULL) {
        ngx_http_inverting_lock(ctx->zone);
        ngx_http_inverting_room_free_locked(ctx->zone, room);
        ngx_http_inverting_unlock(ctx->zone);

        return ngx_http_inverting_api_unavailable(r,
                                        "too many changes wait to be written");
    }

    cln->handler = ngx_http_inverting_commit_cleanup;
    cln->data = ctx;

    ctx->timer.handler = ngx_http_inverting_commit_timer;
    ctx->timer.data = ctx;
    ctx->timer.log = r->connection->log;

    ngx_add_timer(&ctx->timer, NGX_HTTP_INVERTING_COMMIT_TIMEOUT);

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    r->main->count++;

    return NGX_DONE;
}


static void
ngx_http_inverting_commit_handler(ngx_http_inverting_op_t *op)
{
    ngx_connection_t              *c;
    ngx_http_request_t            *r;
    ngx_http_inverting_api_ctx_t  *ctx;

    ctx = op->data;
    r = ctx->request;
    c = r->connection;

    ctx->change.result = op->change.result;

    ngx_http_inverting_commit_cleanup(ctx);

    ngx_http_set_log_request(c->log, r);

    ngx_http_finalize_request(r, ngx_http_inverting_api_changed(r, ctx));

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_inverting_commit_timer(ngx_event_t *ev)
{
    ngx_int_t                      rc;
    ngx_connection_t              *c;
    ngx_http_request_t            *r;
    ngx_http_inverting_api_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_inverting_commit_cleanup(ctx);

    ngx_http_set_log_request(c->log, r);

    rc = ngx_http_inverting_api_error(r, NGX_HTTP_INTERNAL_SERVER_ERROR, NULL,
                            "the state file takes too long: whether the "
                            "change was or will be made is not known");

    ngx_http_finalize_request(r, rc);

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_inverting_commit_cleanup(void *data)
{
    ngx_http_inverting_api_ctx_t *ctx = data;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (ctx->op) {
        ctx->op->data = NULL;
        ctx->op = NULL;
    }
}
