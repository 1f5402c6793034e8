
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_agent.h"


/* what is read in vain after the client has got its whole response */
#define NGX_HTTP_INVERTING_POST_DROP   65536

/* buffers in a row: other requests of this worker want their turn */
#define NGX_HTTP_INVERTING_POST_TURNS  16


static void ngx_http_inverting_post_init(ngx_http_request_t *r);
static void ngx_http_inverting_post_end_handler(
    ngx_http_inverting_end_t *end);
static void ngx_http_inverting_post_timer_handler(ngx_event_t *ev);
static void ngx_http_inverting_post_read_handler(ngx_http_request_t *r);
static void ngx_http_inverting_post_process(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_post_outcome(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_post_copy(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
static void ngx_http_inverting_post_drop(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
static void ngx_http_inverting_post_finish(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
static void ngx_http_inverting_post_failed(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx, ngx_int_t rc);
static void ngx_http_inverting_post_finalize(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx, ngx_uint_t status,
    const char *text);


ngx_int_t
ngx_http_inverting_post_handler(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_int_t                      rc;
    ngx_http_cleanup_t            *cln;
    ngx_http_inverting_backend_t  *backend;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_inverting_agent_cleanup;
    cln->data = ctx;

    ctx->end.handler = ngx_http_inverting_post_end_handler;

    ngx_http_inverting_lock(ctx->zone);

    backend = ngx_http_inverting_agent_backend_locked(ctx);

    if (backend == NULL) {
        ngx_http_inverting_unlock(ctx->zone);
        return ngx_http_inverting_agent_unauthorized(r, ctx);
    }

    rc = ngx_http_inverting_answer_locked(ctx->zone, backend, ctx->key,
                                          &ctx->id, &ctx->end);

    ngx_http_inverting_unlock(ctx->zone);

    if (rc != NGX_OK) {
        return ngx_http_inverting_agent_answer(r, NGX_HTTP_NOT_FOUND,
                                               "no such request\n");
    }

    r->request_body_no_buffering = 1;
    r->request_body_in_file_only = 0;

    rc = ngx_http_read_client_request_body(r, ngx_http_inverting_post_init);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {

        /* now: the connection may linger on */

        ngx_http_inverting_agent_cleanup(ctx);
        return rc;
    }

    return NGX_DONE;
}


static void
ngx_http_inverting_post_init(ngx_http_request_t *r)
{
    ngx_http_inverting_agent_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    r->read_event_handler = ngx_http_inverting_post_read_handler;
    r->write_event_handler = ngx_http_request_empty_handler;

    ngx_http_inverting_post_process(r, ctx);
}


static void
ngx_http_inverting_post_end_handler(ngx_http_inverting_end_t *end)
{
    ngx_connection_t                *c;
    ngx_http_request_t              *r;
    ngx_http_inverting_agent_ctx_t  *ctx;

    ctx = end->data;

    /* with nothing to send or to answer, it is the agent's turn */

    if (!ctx->blocked
        && !ctx->finished
        && ngx_http_inverting_outcome(end) == NGX_HTTP_INVERTING_PENDING)
    {
        return;
    }

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ngx_http_inverting_post_process(r, ctx);

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_inverting_post_timer_handler(ngx_event_t *ev)
{
    ngx_connection_t                *c;
    ngx_http_request_t              *r;
    ngx_http_inverting_agent_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ngx_http_inverting_post_finalize(r, ctx, NGX_HTTP_BAD_REQUEST,
                                     "the response does not end\n");

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_inverting_post_read_handler(ngx_http_request_t *r)
{
    ngx_http_inverting_agent_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    r->connection->read->timedout = 0;

    if (ctx->blocked) {
        ngx_http_test_reading(r);
        return;
    }

    ngx_http_inverting_post_process(r, ctx);
}


static void
ngx_http_inverting_post_process(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_int_t          rc;
    ngx_uint_t         turns;
    ngx_connection_t  *c;

    c = r->connection;

    for (turns = 0; /* void */ ; turns++) {

        /* how long an agent may be silent is for its client to say */

        if (c->read->timer_set) {
            ngx_del_timer(c->read);
        }

        if (ngx_http_inverting_post_outcome(r, ctx) != NGX_OK) {
            return;
        }

        rc = ngx_http_inverting_post_copy(r, ctx);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_inverting_post_finalize(r, ctx, rc,
                                             "the response goes on\n");
            return;
        }

        if (rc == NGX_AGAIN) {

            /* nobody reads the socket now: has it been closed already? */

            ngx_http_test_reading(r);
            return;
        }

        if (!r->reading_body) {
            ngx_http_inverting_post_finish(r, ctx);
            return;
        }

        if (turns == NGX_HTTP_INVERTING_POST_TURNS) {
            ngx_post_event(c->read, &ngx_posted_next_events);
            return;
        }

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_inverting_post_failed(r, ctx, rc);
            return;
        }

        if (r->reading_body && r->request_body->bufs == NULL) {

            if (c->read->timer_set) {
                ngx_del_timer(c->read);
            }

            return;
        }
    }
}


/* NGX_DONE: the transaction has ended and the request is finalized */

static ngx_int_t
ngx_http_inverting_post_outcome(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    if (ctx->complete) {
        return NGX_OK;
    }

    switch (ngx_http_inverting_outcome(&ctx->end)) {

    case NGX_HTTP_INVERTING_PENDING:
        return NGX_OK;

    case NGX_HTTP_INVERTING_COMPLETE:
        ctx->complete = 1;
        ngx_http_inverting_close(&ctx->end, NGX_HTTP_INVERTING_PENDING);
        ngx_http_inverting_post_drop(r, ctx);
        return NGX_OK;

    case NGX_HTTP_INVERTING_BAD_RESPONSE:
        ngx_http_inverting_post_finalize(r, ctx, NGX_HTTP_BAD_REQUEST,
                                         "not an acceptable HTTP response\n");
        break;

    case NGX_HTTP_INVERTING_BACKEND_GONE:
        ctx->reason = NGX_HTTP_INVERTING_GONE;
        ngx_http_inverting_post_finalize(r, ctx, NGX_HTTP_UNAUTHORIZED, NULL);
        break;

    default:
        ngx_http_inverting_post_finalize(r, ctx, NGX_HTTP_NOT_FOUND,
                                         "no such request\n");
    }

    return NGX_DONE;
}


/* NGX_AGAIN: the pipe is full; an HTTP status: that is enough */

static ngx_int_t
ngx_http_inverting_post_copy(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    size_t                    size;
    ssize_t                   n;
    ngx_buf_t                *b;
    ngx_chain_t              *cl;
    ngx_http_request_body_t  *rb;

    rb = r->request_body;

    ctx->blocked = 0;

    while (rb && rb->bufs) {
        cl = rb->bufs;
        b = cl->buf;

        if (b->in_file) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "the response of an agent was buffered to a file");
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        size = b->last - b->pos;

        if (ctx->dropping) {
            ctx->dropped += size;
            b->pos = b->last;

            if (ctx->dropped > NGX_HTTP_INVERTING_POST_DROP) {
                return NGX_HTTP_BAD_REQUEST;
            }

        } else if (size) {

            n = ngx_http_inverting_pipe_send(&ctx->end, b->pos, size);

            if (n == 0) {
                ctx->blocked = 1;
                return NGX_AGAIN;
            }

            if (n == NGX_ERROR) {
                ngx_http_inverting_post_drop(r, ctx);
                continue;
            }

            ctx->received = 1;
            b->pos += n;

            if (b->pos != b->last) {
                continue;
            }
        }

        rb->bufs = cl->next;
        ngx_free_chain(r->pool, cl);
    }

    return NGX_OK;
}


/* the client wants no more: waits for the end of the body, but not for long */

static void
ngx_http_inverting_post_drop(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (ctx->dropping) {
        return;
    }

    ctx->dropping = 1;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ctx->timer.handler = ngx_http_inverting_post_timer_handler;
    ctx->timer.data = ctx;
    ctx->timer.log = r->connection->log;

    ngx_add_timer(&ctx->timer, clcf->lingering_time);
}


/* the body has been read to its end */

static void
ngx_http_inverting_post_finish(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    if (!ctx->received && !ctx->dropping) {
        ngx_http_inverting_post_failed(r, ctx, NGX_HTTP_BAD_REQUEST);
        return;
    }

    if (!ctx->finished) {
        ctx->finished = 1;

        if (!ctx->dropping) {
            ngx_http_inverting_pipe_finish(&ctx->end,
                                           NGX_HTTP_INVERTING_PIPE_EOF);
        }
    }

    if (ctx->complete || ngx_http_inverting_accepted(&ctx->end)) {
        ngx_http_inverting_post_finalize(r, ctx, NGX_HTTP_OK, "");
        return;
    }

    r->read_event_handler = ngx_http_test_reading;
}


/* the agent is gone, or has sent no message */

static void
ngx_http_inverting_post_failed(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx, ngx_int_t rc)
{
    if (ctx->end.tx) {
        ngx_http_inverting_close(&ctx->end, NGX_HTTP_INVERTING_AGENT_LOST);
    }

    if (r->connection->error || r->connection->timedout) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    ngx_http_inverting_post_finalize(r, ctx, rc, "not a complete response\n");
}


static void
ngx_http_inverting_post_finalize(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx, ngx_uint_t status,
    const char *text)
{
    ngx_int_t  rc;

    ctx->finished = 1;

    ngx_http_inverting_agent_cleanup(ctx);

    rc = (status == NGX_HTTP_UNAUTHORIZED)
         ? ngx_http_inverting_agent_unauthorized(r, ctx)
         : ngx_http_inverting_agent_answer(r, status, text);

    ngx_http_finalize_request(r, rc);
}
