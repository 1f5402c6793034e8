
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_agent.h"
#include "ngx_http_inverting_fields.h"


#define NGX_HTTP_INVERTING_FETCH_BUFFER  32768

/* buffers in a row: other requests of this worker want their turn */
#define NGX_HTTP_INVERTING_FETCH_TURNS   8


static ngx_int_t ngx_http_inverting_fetch_header(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx, ngx_str_t *user);
static ngx_int_t ngx_http_inverting_fetch_read(
    ngx_http_inverting_agent_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_fetch_output(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx, ngx_chain_t *in);
static void ngx_http_inverting_fetch_end_handler(
    ngx_http_inverting_end_t *end);
static void ngx_http_inverting_fetch_write_handler(ngx_http_request_t *r);
static void ngx_http_inverting_fetch_process(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);


static ngx_str_t  ngx_http_inverting_fetch_type =
    ngx_string("application/octet-stream");

static ngx_str_t  ngx_http_inverting_fetch_user =
    ngx_string("X-Inverting-Proxy-User-ID");
static ngx_str_t  ngx_http_inverting_fetch_id =
    ngx_string("X-Inverting-Proxy-Request-ID");
static ngx_str_t  ngx_http_inverting_fetch_start =
    ngx_string("X-Inverting-Proxy-Request-Start-Time");


ngx_int_t
ngx_http_inverting_fetch_handler(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    u_char                        *p;
    ngx_int_t                      rc;
    ngx_str_t                      user, head;
    ngx_chain_t                    out[2];
    ngx_http_cleanup_t            *cln;
    ngx_http_inverting_backend_t  *backend;

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

    cln->handler = ngx_http_inverting_agent_cleanup;
    cln->data = ctx;

    ctx->end.handler = ngx_http_inverting_fetch_end_handler;

    ngx_http_inverting_lock(ctx->zone);

    backend = ngx_http_inverting_agent_backend_locked(ctx);

    if (backend == NULL) {
        ngx_http_inverting_unlock(ctx->zone);
        return ngx_http_inverting_agent_unauthorized(r, ctx);
    }

    rc = ngx_http_inverting_take_locked(ctx->zone, backend, ctx->key,
                                        &ctx->id, &ctx->end);

    ngx_http_inverting_unlock(ctx->zone);

    if (rc != NGX_OK) {
        return ngx_http_inverting_agent_answer(r, NGX_HTTP_NOT_FOUND,
                                               "no such request\n");
    }

    user.len = ctx->end.tx->user_len;
    head.len = ctx->end.tx->head_len;

    user.data = ngx_pnalloc(r->pool, user.len + head.len);
    if (user.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    head.data = user.data + user.len;

    ngx_http_inverting_head_copy(&ctx->end, user.data);

    ctx->head.pos = head.data;
    ctx->head.last = head.data + head.len;
    ctx->head.temporary = 1;

    rc = NGX_DONE;

    if (ctx->end.tx->body) {

        p = ngx_palloc(r->pool, NGX_HTTP_INVERTING_FETCH_BUFFER);
        if (p == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ctx->body.start = p;
        ctx->body.end = p + NGX_HTTP_INVERTING_FETCH_BUFFER;

        rc = ngx_http_inverting_fetch_read(ctx);

        if (rc == NGX_ERROR) {
            ctx->finished = 1;
            return ngx_http_inverting_agent_answer(r, NGX_HTTP_NOT_FOUND,
                                                   "no such request\n");
        }
    }

    if (ngx_http_inverting_fetch_header(r, ctx, &user) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DONE) {
        r->headers_out.content_length_n = head.len
                                          + (ctx->body.last - ctx->body.pos);
        ctx->finished = 1;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        ctx->finished = 0;
        return rc;
    }

    out[0].buf = &ctx->head;
    out[0].next = NULL;

    if (ctx->body.last != ctx->body.pos) {
        out[0].next = &out[1];
        out[1].buf = &ctx->body;
        out[1].next = NULL;

    } else {
        ctx->head.flush = !ctx->finished;
        ctx->head.last_buf = ctx->finished;
        ctx->head.last_in_chain = ctx->finished;
    }

    rc = ngx_http_inverting_fetch_output(r, ctx, out);

    if (rc == NGX_ERROR) {
        ctx->finished = 0;
        return rc;
    }

    if (ctx->finished) {
        ngx_http_inverting_close(&ctx->end, NGX_HTTP_INVERTING_PENDING);
        return rc;
    }

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_inverting_fetch_write_handler;

    /* a close that came along with the request raises no event any more */

    if (r->connection->read->pending_eof) {
        ngx_post_event(r->connection->read, &ngx_posted_events);
    }

    r->main->count++;

    ngx_http_inverting_fetch_process(r, ctx);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_inverting_fetch_header(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx, ngx_str_t *user)
{
    ngx_str_t  start;

    start.data = ngx_pnalloc(r->pool, NGX_HTTP_INVERTING_START_LEN);
    if (start.data == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_agent_start(ctx->end.tx, &start);

    if (user->len
        && ngx_http_inverting_add_field(&r->headers_out.headers,
                                        &ngx_http_inverting_fetch_user, user)
           == NULL)
    {
        return NGX_ERROR;
    }

    if (ngx_http_inverting_add_field(&r->headers_out.headers,
                                     &ngx_http_inverting_fetch_id, &ctx->id)
        == NULL)
    {
        return NGX_ERROR;
    }

    if (ngx_http_inverting_add_field(&r->headers_out.headers,
                                     &ngx_http_inverting_fetch_start, &start)
        == NULL)
    {
        return NGX_ERROR;
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_type = ngx_http_inverting_fetch_type;
    r->headers_out.content_type_len = ngx_http_inverting_fetch_type.len;

    return NGX_OK;
}


/*
 * Fills the buffer, which must be free, from the pipe.  NGX_OK: it is full;
 * NGX_AGAIN: there is no more now; NGX_DONE: there will be no more;
 * NGX_ERROR: the client is gone.
 */

static ngx_int_t
ngx_http_inverting_fetch_read(ngx_http_inverting_agent_ctx_t *ctx)
{
    ssize_t     n;
    ngx_int_t   rc;
    ngx_buf_t  *b;

    b = &ctx->body;

    b->pos = b->start;
    b->last = b->start;

    rc = NGX_OK;

    while (b->last < b->end) {

        n = ngx_http_inverting_pipe_recv(&ctx->end, b->last,
                                         b->end - b->last);

        if (n > 0) {
            b->last += n;
            continue;
        }

        if (n == NGX_ERROR) {
            return NGX_ERROR;
        }

        rc = (n == 0) ? NGX_DONE : NGX_AGAIN;

        break;
    }

    b->temporary = (b->last != b->pos);
    b->flush = (rc != NGX_DONE);
    b->last_buf = (rc == NGX_DONE);
    b->last_in_chain = (rc == NGX_DONE);

    return rc;
}


static ngx_int_t
ngx_http_inverting_fetch_output(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx, ngx_chain_t *in)
{
    ngx_int_t  rc;

    rc = ngx_http_output_filter(r, in);

    ctx->blocked = (r->connection->buffered || r->buffered
                    || ctx->head.last != ctx->head.pos
                    || ctx->body.last != ctx->body.pos);

    return rc;
}


static void
ngx_http_inverting_fetch_end_handler(ngx_http_inverting_end_t *end)
{
    ngx_uint_t                       outcome;
    ngx_connection_t                *c;
    ngx_http_request_t              *r;
    ngx_http_inverting_agent_ctx_t  *ctx;

    ctx = end->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (ctx->blocked) {

        /* the pipe is read when there is room, but a cut can't wait */

        outcome = ngx_http_inverting_outcome(end);

        if (outcome == NGX_HTTP_INVERTING_PENDING
            || outcome == NGX_HTTP_INVERTING_COMPLETE)
        {
            return;
        }

        ngx_http_finalize_request(r, NGX_ERROR);

    } else {
        ngx_http_inverting_fetch_process(r, ctx);
    }

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_inverting_fetch_write_handler(ngx_http_request_t *r)
{
    ngx_event_t                     *wev;
    ngx_connection_t                *c;
    ngx_http_inverting_agent_ctx_t  *ctx;

    c = r->connection;
    wev = c->write;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT, "agent timed out");
        c->timedout = 1;
        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    ngx_http_inverting_fetch_process(r, ctx);
}


static void
ngx_http_inverting_fetch_process(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_int_t                  rc;
    ngx_uint_t                 turns;
    ngx_chain_t                out;
    ngx_event_t               *wev;
    ngx_http_core_loc_conf_t  *clcf;

    wev = r->connection->write;

    for (turns = 0; /* void */ ; turns++) {

        if (ctx->blocked) {
            rc = ngx_http_inverting_fetch_output(r, ctx, NULL);

            if (rc == NGX_ERROR) {
                ngx_http_finalize_request(r, NGX_ERROR);
                return;
            }

            if (ctx->blocked) {
                break;
            }
        }

        if (turns == NGX_HTTP_INVERTING_FETCH_TURNS) {
            ngx_post_event(wev, &ngx_posted_next_events);
            break;
        }

        rc = ngx_http_inverting_fetch_read(ctx);

        if (rc == NGX_ERROR) {
            ngx_http_finalize_request(r, NGX_ERROR);
            return;
        }

        if (rc == NGX_AGAIN && ctx->body.last == ctx->body.pos) {
            break;
        }

        ctx->finished = (rc == NGX_DONE);

        out.buf = &ctx->body;
        out.next = NULL;

        rc = ngx_http_inverting_fetch_output(r, ctx, &out);

        if (rc == NGX_ERROR) {
            ctx->finished = 0;
            ngx_http_finalize_request(r, NGX_ERROR);
            return;
        }

        if (ctx->finished) {
            ngx_http_inverting_close(&ctx->end, NGX_HTTP_INVERTING_PENDING);
            ngx_http_finalize_request(r, rc);
            return;
        }
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    /* while limit_rate holds the output back, the timer is its own */

    if (wev->delayed) {
        return;
    }

    if (ctx->blocked) {
        ngx_add_timer(wev, clcf->send_timeout);

    } else if (wev->timer_set) {
        ngx_del_timer(wev);
    }
}
