
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_client.h"


static ngx_int_t ngx_http_inverting_peer_get(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_inverting_peer_free(ngx_peer_connection_t *pc,
    void *data, ngx_uint_t state);
static ngx_uint_t ngx_http_inverting_peer_outcome(
    ngx_http_inverting_client_ctx_t *ctx, ngx_connection_t *c);
static ssize_t ngx_http_inverting_peer_recv(ngx_connection_t *c, u_char *buf,
    size_t size);
static size_t ngx_http_inverting_peer_limit(
    ngx_http_inverting_client_ctx_t *ctx, size_t size);
static void ngx_http_inverting_peer_limit_handler(ngx_event_t *ev);
static ssize_t ngx_http_inverting_peer_recv_chain(ngx_connection_t *c,
    ngx_chain_t *cl, off_t limit);
static ssize_t ngx_http_inverting_peer_send(ngx_connection_t *c, u_char *buf,
    size_t size);
static ngx_chain_t *ngx_http_inverting_peer_send_chain(ngx_connection_t *c,
    ngx_chain_t *in, off_t limit);
static ngx_int_t ngx_http_inverting_peer_write(
    ngx_http_inverting_client_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_peer_write_buf(
    ngx_http_inverting_client_ctx_t *ctx, ngx_buf_t *b);
static ngx_int_t ngx_http_inverting_peer_frame(
    ngx_http_inverting_client_ctx_t *ctx);
static ssize_t ngx_http_inverting_peer_put(
    ngx_http_inverting_client_ctx_t *ctx, u_char *buf, size_t size);
static void ngx_http_inverting_peer_blocked(
    ngx_http_inverting_client_ctx_t *ctx);
static void ngx_http_inverting_peer_check_client(ngx_http_request_t *r);


/* upstream looks at the descriptor here and there: it has to be a socket */

static ngx_socket_t  ngx_http_inverting_peer_fds[2] = {
    (ngx_socket_t) -1, (ngx_socket_t) -1
};

static struct sockaddr  ngx_http_inverting_peer_sockaddr = {
    .sa_family = AF_UNSPEC
};


ngx_int_t
ngx_http_inverting_peer_init_process(ngx_cycle_t *cycle)
{
    if (socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0,
                   ngx_http_inverting_peer_fds)
        == -1)
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_socket_errno,
                      "socketpair() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_inverting_peer_exit_process(void)
{
    ngx_uint_t  i;

    for (i = 0; i < 2; i++) {
        if (ngx_http_inverting_peer_fds[i] != (ngx_socket_t) -1) {
            (void) ngx_close_socket(ngx_http_inverting_peer_fds[i]);
            ngx_http_inverting_peer_fds[i] = (ngx_socket_t) -1;
        }
    }
}


ngx_int_t
ngx_http_inverting_peer_init(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    u->peer.get = ngx_http_inverting_peer_get;
    u->peer.free = ngx_http_inverting_peer_free;
    u->peer.data = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);
    u->peer.tries = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_peer_get(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_inverting_client_ctx_t *ctx = data;

    ngx_event_t       *rev, *wev;
    ngx_connection_t  *c;

    c = ngx_get_connection(ngx_http_inverting_peer_fds[0], pc->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    rev = c->read;
    wev = c->write;

    c->type = SOCK_STREAM;
    c->shared = 1;

    c->recv = ngx_http_inverting_peer_recv;
    c->recv_chain = ngx_http_inverting_peer_recv_chain;
    c->send = ngx_http_inverting_peer_send;
    c->send_chain = ngx_http_inverting_peer_send_chain;

    c->sendfile = 0;
    c->sndlowat = 1;
    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
    c->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;

    c->log_error = pc->log_error;
    c->log = pc->log;
    rev->log = pc->log;
    wev->log = pc->log;

    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->start_time = ngx_current_msec;

    /* upstream makes one for what outlives the request, and nothing does */
    c->pool = ctx->request->pool;

    /* active or ready, so that nothing is ever asked of epoll */
    rev->active = 1;
    wev->active = 1;

    pc->connection = c;
    pc->cached = 0;
    pc->sockaddr = &ngx_http_inverting_peer_sockaddr;
    pc->socklen = sizeof(sa_family_t);
    pc->name = &ctx->vars.backend;

    ctx->connection = c;

    if (ngx_http_inverting_taken(&ctx->end)
        || ngx_http_inverting_outcome(&ctx->end)
           != NGX_HTTP_INVERTING_PENDING)
    {
        ngx_post_event(&ctx->end.event, &ngx_posted_events);
    }

    return NGX_AGAIN;
}


/* something moved: the request was taken, bytes came, there is room */

void
ngx_http_inverting_peer_wake(ngx_http_inverting_end_t *end)
{
    ngx_uint_t                        outcome, all;
    ngx_connection_t                 *c;
    ngx_http_inverting_client_ctx_t  *ctx;

    ctx = end->data;
    c = ctx->connection;

    if (c == NULL) {
        return;
    }

    outcome = ngx_http_inverting_outcome(end);
    all = (outcome != NGX_HTTP_INVERTING_PENDING);

    if (!ctx->connected) {

        if (!ngx_http_inverting_taken(end) && !all) {
            return;
        }

        all = 1;
        ctx->connected = 1;
        ctx->vars.queue_time = end->tx->assigned - end->tx->opened;
        ctx->vars.queue_time = ngx_max(ctx->vars.queue_time, 0);

        if (ngx_http_inverting_taken(end)) {
            c->sent = ctx->head_len;
        }
    }

    if (outcome == NGX_HTTP_INVERTING_TIMED_OUT) {
        c->read->timedout = 1;
    }

    /* upstream starts its time-outs again with each event */

    if (!c->write->ready
        && (all || ngx_http_inverting_pipe_can_send(end)))
    {
        c->write->ready = 1;
        c->write->active = 0;
        ngx_post_event(c->write, &ngx_posted_events);
    }

    if (!c->read->ready
        && (all || ngx_http_inverting_pipe_can_recv(end)))
    {
        c->read->ready = 1;
        c->read->active = 0;
        ngx_post_event(c->read, &ngx_posted_events);
    }
}


static void
ngx_http_inverting_peer_free(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_inverting_client_ctx_t *ctx = data;

    ngx_connection_t         *c;
    ngx_http_inverting_tx_t  *t;

    pc->tries = 0;

    c = pc->connection;

    if (c == NULL) {
        return;
    }

    t = ctx->end.tx;

    if (t) {

        /* for the log */

        if (t->transport != NGX_HTTP_INVERTING_NO_TRANSPORT) {
            ctx->vars.id.data = ngx_pnalloc(ctx->request->pool,
                                            NGX_HTTP_INVERTING_ID_LEN);
            if (ctx->vars.id.data) {
                ctx->vars.id.len = NGX_HTTP_INVERTING_ID_LEN;
                ngx_memcpy(ctx->vars.id.data, t->id,
                           NGX_HTTP_INVERTING_ID_LEN);
            }

            if (t->transport == NGX_HTTP_INVERTING_PTTH) {
                ngx_str_set(&ctx->vars.transport, "ptth");

            } else {
                ngx_str_set(&ctx->vars.transport, "poll");
            }

            ngx_http_inverting_show_key(ctx->request->pool, &ctx->vars,
                                        t->keys[NGX_HTTP_INVERTING_CLIENT]);
        }

        ngx_http_inverting_close(&ctx->end,
                                 ngx_http_inverting_peer_outcome(ctx, c));
    }

    if (ctx->limit.timer_set) {
        ngx_del_timer(&ctx->limit);
    }

    ctx->connection = NULL;
    pc->connection = NULL;

    c->pool = NULL;
    ngx_close_connection(c);
}


static ngx_uint_t
ngx_http_inverting_peer_outcome(ngx_http_inverting_client_ctx_t *ctx,
    ngx_connection_t *c)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ctx->complete) {
        return NGX_HTTP_INVERTING_COMPLETE;
    }

    if (ctx->accepted && c->read->eof && !c->read->error
        && !r->upstream->headers_in.chunked
        && r->upstream->headers_in.content_length_n == -1)
    {
        /* a body without a length */

        return NGX_HTTP_INVERTING_COMPLETE;
    }

    if (c->read->timedout || c->write->timedout) {
        return NGX_HTTP_INVERTING_TIMED_OUT;
    }

    /* too large a head, too short a body: upstream found out for itself */

    if (ctx->bad
        || (c->read->eof && !c->read->error)
        || (!ctx->accepted && r->upstream->buffer.start
            && r->upstream->buffer.last == r->upstream->buffer.end))
    {
        return NGX_HTTP_INVERTING_BAD_RESPONSE;
    }

    if (ctx->accepted && !r->upstream->header_sent) {

        /* error_page in its place */

        return NGX_HTTP_INVERTING_COMPLETE;
    }

    return NGX_HTTP_INVERTING_CLIENT_GONE;
}


static ssize_t
ngx_http_inverting_peer_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
    ssize_t                           n;
    ngx_event_t                      *rev;
    ngx_http_request_t               *r;
    ngx_http_inverting_client_ctx_t  *ctx;

    r = c->data;
    rev = c->read;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    if (ctx->limit_rate) {
        size = ngx_http_inverting_peer_limit(ctx, size);

        if (size == 0) {
            rev->ready = 0;
            rev->active = 1;
            return NGX_AGAIN;
        }
    }

    n = ngx_http_inverting_pipe_recv(&ctx->end, buf, size);

    if (n > 0) {
        ctx->limit_read += n;
        return n;
    }

    /* at the end as well: upstream may still wait for the client then */

    rev->ready = 0;
    rev->active = 1;

    if (n == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (n == 0) {
        rev->eof = 1;
        return 0;
    }

    if (rev->error) {
        return NGX_ERROR;
    }

    if (ngx_http_inverting_outcome(&ctx->end)
        == NGX_HTTP_INVERTING_BACKEND_GONE)
    {
        ngx_log_error(NGX_LOG_NOTICE, c->log, 0,
                      "backend \"%V\" was deleted or changed",
                      &ctx->vars.backend);

    } else {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "the agent of backend \"%V\" was lost %s its response",
                      &ctx->vars.backend,
                      ctx->accepted ? "inside" : "before");
    }

    rev->error = 1;

    return NGX_ERROR;
}


/* as ngx_http_write_filter() does; 0: not before the timer expires */

static size_t
ngx_http_inverting_peer_limit(ngx_http_inverting_client_ctx_t *ctx,
    size_t size)
{
    off_t        limit;
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    limit = (off_t) ctx->limit_rate * (tp->sec - ctx->limit_start + 1)
            - (ctx->limit_read - (off_t) ctx->limit_rate_after);

    if (limit > 0) {
        return ngx_min((off_t) size, limit);
    }

    if (!ctx->limit.timer_set) {
        ctx->limit.handler = ngx_http_inverting_peer_limit_handler;
        ctx->limit.data = ctx->connection;
        ctx->limit.log = ctx->connection->log;

        /* there is more of it with the next second, and nothing before */

        ngx_add_timer(&ctx->limit,
                      (ngx_msec_t) (-limit / ctx->limit_rate + 1) * 1000
                      - tp->msec);
    }

    return 0;
}


static void
ngx_http_inverting_peer_limit_handler(ngx_event_t *ev)
{
    ngx_connection_t *c = ev->data;

    if (!c->read->ready) {
        c->read->ready = 1;
        c->read->active = 0;
        ngx_post_event(c->read, &ngx_posted_events);
    }
}


static ssize_t
ngx_http_inverting_peer_recv_chain(ngx_connection_t *c, ngx_chain_t *cl,
    off_t limit)
{
    size_t   size;
    ssize_t  n, total;
    u_char  *p;

    total = 0;

    for ( /* void */ ; cl; cl = cl->next) {
        p = cl->buf->last;
        size = cl->buf->end - p;

        if (limit) {
            if (total >= limit) {
                break;
            }

            size = ngx_min((off_t) size, limit - total);
        }

        n = ngx_http_inverting_peer_recv(c, p, size);

        if (n <= 0) {
            return total ? total : n;
        }

        total += n;

        if ((size_t) n < size) {
            break;
        }
    }

    return total;
}


/*
 * Requests are written by the output filter below; these two are here for
 * what upstream might do with a connection that is one.
 */

static ssize_t
ngx_http_inverting_peer_send(ngx_connection_t *c, u_char *buf, size_t size)
{
    ssize_t                           n;
    ngx_http_request_t               *r;
    ngx_http_inverting_client_ctx_t  *ctx;

    r = c->data;
    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    n = ngx_http_inverting_peer_put(ctx, buf, size);

    return n ? n : NGX_AGAIN;
}


static ngx_chain_t *
ngx_http_inverting_peer_send_chain(ngx_connection_t *c, ngx_chain_t *in,
    off_t limit)
{
    ssize_t  n;

    for ( /* void */ ; in; in = in->next) {

        if (ngx_buf_special(in->buf)) {
            continue;
        }

        n = ngx_http_inverting_peer_send(c, in->buf->pos,
                                         ngx_buf_size(in->buf));
        if (n < 0) {
            return in;
        }

        in->buf->pos += n;

        if (in->buf->pos != in->buf->last) {
            return in;
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_inverting_peer_output(void *data, ngx_chain_t *in)
{
    ngx_http_inverting_client_ctx_t *ctx = data;

    ngx_chain_t  *cl;

    for ( /* void */ ; in; in = in->next) {

        cl = ngx_alloc_chain_link(ctx->request->pool);
        if (cl == NULL) {
            return NGX_ERROR;
        }

        cl->buf = in->buf;
        cl->next = NULL;
        *ctx->last_out = cl;
        ctx->last_out = &cl->next;
    }

    if (ctx->connection == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_inverting_peer_write(ctx);
}


static ngx_int_t
ngx_http_inverting_peer_write(ngx_http_inverting_client_ctx_t *ctx)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    while (ctx->out) {
        cl = ctx->out;
        b = cl->buf;

        rc = ngx_http_inverting_peer_write_buf(ctx, b);

        if (rc == NGX_AGAIN) {
            ngx_http_inverting_peer_blocked(ctx);
            return NGX_AGAIN;
        }

        if (b->last_buf && ctx->body.length < 0 && !ctx->finished) {

            if (ctx->frame_len == 0) {
                ctx->frame_len = ngx_sprintf(ctx->frame, "%s0" CRLF CRLF,
                                             ctx->in_frame ? CRLF : "")
                                 - ctx->frame;
            }

            if (ngx_http_inverting_peer_frame(ctx) != NGX_OK) {
                ngx_http_inverting_peer_blocked(ctx);
                return NGX_AGAIN;
            }

            ctx->finished = 1;
            ngx_http_inverting_pipe_finish(&ctx->end,
                                           NGX_HTTP_INVERTING_PIPE_EOF);
        }

        ctx->out = cl->next;
        ngx_free_chain(ctx->request->pool, cl);
    }

    ctx->last_out = &ctx->out;

    if (ctx->body.length > 0 && ctx->body_left == 0 && !ctx->finished) {
        ctx->finished = 1;
        ngx_http_inverting_pipe_finish(&ctx->end,
                                       NGX_HTTP_INVERTING_PIPE_EOF);
    }

    return NGX_OK;
}


/* NGX_OK: all of the buffer is in the pipe; NGX_AGAIN */

static ngx_int_t
ngx_http_inverting_peer_write_buf(ngx_http_inverting_client_ctx_t *ctx,
    ngx_buf_t *b)
{
    ssize_t  sent;

    if (b->pos == b->last) {
        return NGX_OK;
    }

    if (ctx->body.length >= 0) {

        sent = ngx_http_inverting_peer_put(ctx, b->pos, b->last - b->pos);

        b->pos += sent;
        ctx->body_left -= sent;

        return (b->pos == b->last) ? NGX_OK : NGX_AGAIN;
    }

    /*
     * A chunk for each buffer.  The line end behind its data is written with
     * what comes next: nginx uses a buffer again as soon as it is empty.
     */

    if (ctx->frame_data == 0) {
        ctx->frame_data = b->last - b->pos;
        ctx->frame_len = ngx_sprintf(ctx->frame, "%s%xz" CRLF,
                                     ctx->in_frame ? CRLF : "",
                                     ctx->frame_data)
                         - ctx->frame;
        ctx->in_frame = 1;
    }

    if (ngx_http_inverting_peer_frame(ctx) != NGX_OK) {
        return NGX_AGAIN;
    }

    sent = ngx_http_inverting_peer_put(ctx, b->pos, ctx->frame_data);

    b->pos += sent;
    ctx->frame_data -= sent;

    return ctx->frame_data ? NGX_AGAIN : NGX_OK;
}


static ngx_int_t
ngx_http_inverting_peer_frame(ngx_http_inverting_client_ctx_t *ctx)
{
    ctx->frame_pos += ngx_http_inverting_peer_put(ctx,
                                                ctx->frame + ctx->frame_pos,
                                                ctx->frame_len
                                                - ctx->frame_pos);

    if (ctx->frame_pos < ctx->frame_len) {
        return NGX_AGAIN;
    }

    ctx->frame_pos = 0;
    ctx->frame_len = 0;

    return NGX_OK;
}


static ssize_t
ngx_http_inverting_peer_put(ngx_http_inverting_client_ctx_t *ctx, u_char *buf,
    size_t size)
{
    ssize_t            n;
    ngx_connection_t  *c;

    c = ctx->connection;

    n = ngx_http_inverting_pipe_send(&ctx->end, buf, size);

    if (n == NGX_ERROR) {

        /* not read to its end: the response may say why */

        n = size;
    }

    c->sent += n;

    if ((size_t) n < size) {
        c->write->ready = 0;
        c->write->active = 1;
    }

    return n;
}


/*
 * While the pipe is full nobody reads from the client, so nobody would see it
 * go: upstream's handler is called for what epoll tells of it, by way of ours.
 */

static void
ngx_http_inverting_peer_blocked(ngx_http_inverting_client_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (r->reading_body
        && r->read_event_handler != ngx_http_inverting_peer_check_client)
    {
        ctx->read_request_handler = r->read_event_handler;
        r->read_event_handler = ngx_http_inverting_peer_check_client;
    }
}


static void
ngx_http_inverting_peer_check_client(ngx_http_request_t *r)
{
    ngx_event_t                      *rev;
    ngx_connection_t                 *c;
    ngx_http_inverting_client_ctx_t  *ctx;

    c = r->connection;
    rev = c->read;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    if (c->error || rev->eof || rev->error
#if (NGX_HAVE_EPOLLRDHUP)
        || rev->pending_eof
#endif
       )
    {
        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "client closed connection while its request was "
                      "waiting for the agent to read on");

        c->error = 1;

        /* upstream's cleanup finalizes too: the request must outlive it */
        r->main->count++;

        ngx_http_finalize_request(r, NGX_HTTP_CLIENT_CLOSED_REQUEST);
        return;
    }

    ctx->read_request_handler(r);
}
