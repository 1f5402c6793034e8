
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_h1.h"


/* all of the response has come, and not yet the end of the request */
#define ngx_http_inverting_h1_is_early(h1)                                    \
    ((h1)->state == ngx_http_inverting_h1_done && (h1)->pending.len == 0      \
     && !(h1)->sent)

/* the client of a tunnel has: what it has sent is still to be read */
#define ngx_http_inverting_h1_is_gone(h1)                                     \
    ((h1)->tunnel && (h1)->state == ngx_http_inverting_h1_close               \
     && (h1)->taker.tx                                                        \
     && ngx_http_inverting_outcome(&(h1)->taker)                              \
        == NGX_HTTP_INVERTING_CLIENT_GONE)

#define NGX_HTTP_INVERTING_H1_EARLY                                           \
    "its response came before the end of the request"

#define NGX_HTTP_INVERTING_H1_GONE  "the client has gone"


static ngx_int_t ngx_http_inverting_h1_init(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h1_input(ngx_http_inverting_ptth_t *ptth,
    u_char *buf, size_t size);
static void ngx_http_inverting_h1_output(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h1_receive(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h1_drain(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h1_tick(ngx_http_inverting_ptth_t *ptth,
    ngx_uint_t silent);
static ngx_uint_t ngx_http_inverting_h1_over(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_h1_free(ngx_http_inverting_ptth_t *ptth);
static ngx_int_t ngx_http_inverting_h1_request(ngx_http_inverting_h1_t *h1);
static void ngx_http_inverting_h1_end_handler(ngx_http_inverting_end_t *end);
static void ngx_http_inverting_h1_end(ngx_http_inverting_h1_t *h1);
static void ngx_http_inverting_h1_release(ngx_http_inverting_h1_t *h1,
    ngx_uint_t outcome);
static void ngx_http_inverting_h1_forget(ngx_http_inverting_h1_t *h1);


ngx_http_inverting_ptth_proto_t  ngx_http_inverting_h1 = {
    ngx_string("http%2F1.1"),
    ngx_http_inverting_h1_init,
    ngx_http_inverting_h1_input,
    ngx_http_inverting_h1_output,
    ngx_http_inverting_h1_receive,
    ngx_http_inverting_h1_drain,
    ngx_http_inverting_h1_tick,
    ngx_http_inverting_h1_over,
    ngx_http_inverting_h1_free
};


static ngx_int_t
ngx_http_inverting_h1_init(ngx_http_inverting_ptth_t *ptth)
{
    int                       on, idle, count;
    ngx_socket_t              fd;
    ngx_http_inverting_h1_t  *h1;

    h1 = ngx_pcalloc(ptth->request->pool, sizeof(ngx_http_inverting_h1_t));
    if (h1 == NULL) {
        return NGX_ERROR;
    }

    h1->ptth = ptth;
    h1->sent = 1;

    h1->taker.data = h1;
    h1->taker.handler = ngx_http_inverting_h1_end_handler;
    h1->answerer.data = h1;
    h1->answerer.handler = ngx_http_inverting_h1_end_handler;

    ptth->session = h1;

    /* there is no PING; a unix socket's peer can't vanish */

    fd = ptth->request->connection->fd;
    on = 1;
    count = 3;
    idle = ngx_max(ptth->tick / 1000, 1);

    (void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(int));
    (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(int));
    (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof(int));
    (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(int));

    /* one at a time */

    ngx_http_inverting_set_capacity(&ptth->agent->end, 1);

    return NGX_OK;
}


static void
ngx_http_inverting_h1_drain(ngx_http_inverting_ptth_t *ptth)
{
    /* there is nothing to say: it is closed when it is idle */
}


static void
ngx_http_inverting_h1_tick(ngx_http_inverting_ptth_t *ptth, ngx_uint_t silent)
{
    ngx_http_inverting_h1_t  *h1;

    /* the kernel looks after the connection */

    h1 = ptth->session;

    if (ngx_http_inverting_h1_is_early(h1)) {
        ptth->failed = NGX_HTTP_INVERTING_H1_EARLY;
    }

    if (ngx_http_inverting_h1_is_gone(h1)) {

        if (h1->stale) {
            ptth->failed = NGX_HTTP_INVERTING_H1_GONE;
        }

        h1->stale = 1;
    }
}


static ngx_uint_t
ngx_http_inverting_h1_over(ngx_http_inverting_ptth_t *ptth)
{
    ngx_http_inverting_h1_t  *h1;

    h1 = ptth->session;

    if (h1->state != ngx_http_inverting_h1_done || h1->pending.len == 0) {
        return 0;
    }

    ngx_http_inverting_close(&h1->taker, NGX_HTTP_INVERTING_PENDING);
    h1->sent = 1;

    return 1;
}


static void
ngx_http_inverting_h1_free(ngx_http_inverting_ptth_t *ptth)
{
    ngx_http_inverting_h1_release(ptth->session,
                                  NGX_HTTP_INVERTING_AGENT_LOST);
}


static void
ngx_http_inverting_h1_receive(ngx_http_inverting_ptth_t *ptth)
{
    ngx_int_t                 rc;
    ngx_http_inverting_h1_t  *h1;

    h1 = ptth->session;

    if (h1->state != ngx_http_inverting_h1_idle) {
        return;
    }

    rc = ngx_http_inverting_open(&ptth->agent->end, &h1->taker,
                                 &h1->answerer);
    if (rc == NGX_AGAIN) {
        return;
    }

    if (rc == NGX_DONE) {
        ngx_http_inverting_ptth_gone(ptth);
        return;
    }

    h1->state = ngx_http_inverting_h1_head;
    ptth->streams = 1;

    if (ngx_http_inverting_h1_request(h1) != NGX_OK) {
        ngx_http_inverting_h1_release(h1, NGX_HTTP_INVERTING_AGENT_REFUSED);
        ptth->failed = "there is no memory";
        return;
    }

    ngx_http_inverting_ptth_flush(ptth);
}


/* the text in the zone, with the proxy's own fields behind its first line */

static ngx_int_t
ngx_http_inverting_h1_request(ngx_http_inverting_h1_t *h1)
{
    u_char                   *text, *p, *line, *last;
    ngx_str_t                 user, start;
    ngx_http_inverting_tx_t  *t;
    u_char                    buf[NGX_HTTP_INVERTING_START_LEN];

    static u_char  upgrade[] =
        "Connection: upgrade" CRLF "Upgrade: websocket" CRLF;

    t = h1->answerer.tx;

    h1->tunnel = t->upgrade;
    h1->sent = !(t->body || t->upgrade);
    h1->last = 0;
    h1->head_len = 0;

    h1->pool = ngx_create_pool(1024, h1->ptth->request->connection->log);
    if (h1->pool == NULL) {
        return NGX_ERROR;
    }

    text = ngx_pnalloc(h1->pool, t->user_len + t->head_len);

    p = ngx_pnalloc(h1->pool, t->user_len + t->head_len
                    + sizeof("X-Inverting-Proxy-User-ID: " CRLF) - 1
                    + sizeof("X-Inverting-Proxy-Request-ID: " CRLF) - 1
                    + NGX_HTTP_INVERTING_ID_LEN
                    + sizeof("X-Inverting-Proxy-Request-Start-Time: " CRLF) - 1
                    + NGX_HTTP_INVERTING_START_LEN
                    + sizeof(upgrade) - 1);

    if (text == NULL || p == NULL) {
        return NGX_ERROR;
    }

    h1->request.data = p;

    ngx_http_inverting_head_copy(&h1->answerer, text);

    user.data = text;
    user.len = t->user_len;

    text += t->user_len;
    last = text + t->head_len;

    line = ngx_strlchr(text, last, LF);
    if (line == NULL) {
        return NGX_ERROR;
    }

    line++;

    h1->bodiless = (ngx_strncmp(text, "HEAD ", 5) == 0);

    start.data = buf;
    ngx_http_inverting_agent_start(t, &start);

    p = ngx_cpymem(p, text, line - text);

    if (user.len) {
        p = ngx_sprintf(p, "X-Inverting-Proxy-User-ID: %V" CRLF, &user);
    }

    p = ngx_sprintf(p, "X-Inverting-Proxy-Request-ID: %*s" CRLF
                    "X-Inverting-Proxy-Request-Start-Time: %V" CRLF,
                    (size_t) NGX_HTTP_INVERTING_ID_LEN, t->id, &start);

    if (t->upgrade) {
        p = ngx_cpymem(p, upgrade, sizeof(upgrade) - 1);
    }

    p = ngx_cpymem(p, line, last - line);

    h1->request.len = p - h1->request.data;

    return NGX_OK;
}


static void
ngx_http_inverting_h1_output(ngx_http_inverting_ptth_t *ptth)
{
    size_t                    n;
    ssize_t                   rc;
    ngx_buf_t                *b;
    ngx_http_inverting_h1_t  *h1;

    h1 = ptth->session;
    b = &ptth->out;

    n = ngx_min(h1->request.len, (size_t) (b->end - b->last));

    b->last = ngx_cpymem(b->last, h1->request.data, n);
    h1->request.data += n;
    h1->request.len -= n;

    while (!h1->sent && h1->request.len == 0 && b->last < b->end) {

        rc = ngx_http_inverting_pipe_recv(&h1->taker, b->last,
                                          b->end - b->last);
        if (rc == NGX_AGAIN) {
            break;
        }

        if (rc == 0) {
            h1->sent = 1;
            ngx_http_inverting_close(&h1->taker, NGX_HTTP_INVERTING_PENDING);

            if (h1->state == ngx_http_inverting_h1_done) {
                ngx_http_inverting_h1_end(h1);
            }

            break;
        }

        if (ngx_http_inverting_h1_is_early(h1)) {
            ptth->failed = NGX_HTTP_INVERTING_H1_EARLY;
            break;
        }

        if (rc == NGX_ERROR) {

            /* only that can say it, behind the last that the client sent */

            if (b->last == b->pos) {
                ptth->failed = NGX_HTTP_INVERTING_H1_GONE;
            }

            break;
        }

        b->last += rc;
    }
}


/* of both ends */

static void
ngx_http_inverting_h1_end_handler(ngx_http_inverting_end_t *end)
{
    u_char                     *p;
    ssize_t                     n;
    ngx_uint_t                  gone, outcome;
    ngx_http_inverting_h1_t    *h1;
    ngx_http_inverting_ptth_t  *ptth;

    h1 = end->data;
    ptth = h1->ptth;

    ngx_http_set_log_request(ptth->request->connection->log, ptth->request);

    outcome = ngx_http_inverting_outcome(end);
    gone = ngx_http_inverting_h1_is_gone(h1);

    if (gone) {

        /* the last that it has sent, first, and no other transaction */

        ngx_http_inverting_ptth_drain(ptth);
    }

    if (outcome != NGX_HTTP_INVERTING_PENDING
        && h1->state != ngx_http_inverting_h1_done && !gone)
    {
        ptth->failed = (outcome == NGX_HTTP_INVERTING_BAD_RESPONSE)
                       ? "its response was refused"
                       : "the transaction was given up";

    } else if (end == &h1->taker) {
        ngx_http_inverting_ptth_flush(ptth);

    } else if (h1->pending.len) {

        p = h1->pending.data;
        n = (outcome == NGX_HTTP_INVERTING_PENDING)
            ? ngx_http_inverting_pipe_send(end, p, h1->pending.len)
            : NGX_ERROR;

        if (n == NGX_ERROR) {

            /* nobody wants the rest */

            n = h1->pending.len;
        }

        h1->pending.data += n;
        h1->pending.len -= n;

        if (h1->pending.len == 0) {
            ptth->blocked = 0;
            ngx_post_event(ptth->request->connection->read,
                           &ngx_posted_events);

            if (h1->state == ngx_http_inverting_h1_done) {
                ngx_http_inverting_h1_end(h1);
            }
        }
    }

    (void) ngx_http_inverting_ptth_check(ptth);
}


static void
ngx_http_inverting_h1_input(ngx_http_inverting_ptth_t *ptth, u_char *buf,
    size_t size)
{
    size_t                    n;
    ngx_http_inverting_h1_t  *h1;

    h1 = ptth->session;

    if (size == 0) {

        if (h1->state == ngx_http_inverting_h1_close) {
            h1->last = 1;
            h1->state = ngx_http_inverting_h1_done;
            ngx_http_inverting_h1_end(h1);
        }

        return;
    }

    while (size && !ptth->failed) {

        switch (h1->state) {

        case ngx_http_inverting_h1_idle:
        case ngx_http_inverting_h1_done:
            ngx_http_inverting_h1_bad(h1, "bytes that nobody asked for");
            return;

        case ngx_http_inverting_h1_head:
            n = ngx_http_inverting_h1_read_head(h1, buf, size);
            break;

        default:
            n = ngx_http_inverting_h1_body(h1, buf, size);
            break;
        }

        buf += n;
        size -= n;

        if (h1->state == ngx_http_inverting_h1_done && !ptth->failed) {
            ngx_http_inverting_h1_end(h1);
        }
    }
}


void
ngx_http_inverting_h1_write(ngx_http_inverting_h1_t *h1, u_char *buf,
    size_t size)
{
    u_char   *p;
    size_t    len;
    ssize_t   n;

    n = 0;

    if (h1->pending.len == 0) {

        /* how much of it there is in a turn was limited when it was read */

        h1->answerer.moved = 0;

        n = ngx_http_inverting_pipe_send(&h1->answerer, buf, size);

        if (n == NGX_ERROR || (size_t) n == size) {

            /* if nobody wants it the handler of the end will say so */

            return;
        }
    }

    buf += n;
    size -= n;

    len = h1->pending.len + size;

    p = ngx_alloc(len, ngx_cycle->log);
    if (p == NULL) {
        h1->ptth->failed = "there is no memory";
        return;
    }

    ngx_memcpy(ngx_cpymem(p, h1->pending.data, h1->pending.len), buf, size);

    ngx_http_inverting_h1_forget(h1);

    h1->kept = p;
    h1->pending.data = p;
    h1->pending.len = len;

    h1->ptth->blocked = 1;
}


/* all of the response has come: can the connection be used again? */

static void
ngx_http_inverting_h1_end(ngx_http_inverting_h1_t *h1)
{
    ngx_uint_t  again;

    if (h1->pending.len) {

        /* when the client has read on */

        return;
    }

    again = (!h1->last && !h1->tunnel);

    if (h1->answerer.tx) {
        ngx_http_inverting_pipe_finish(&h1->answerer,
                                       NGX_HTTP_INVERTING_PIPE_EOF);

        if (again && !h1->sent) {

            /*
             * All of the request may have been sent, and its end not have
             * been said yet: the client's worker does that by itself.  If it
             * was not all, more comes, or the client goes, or the next tick.
             */

            return;
        }
    }

    ngx_http_inverting_h1_release(h1, NGX_HTTP_INVERTING_PENDING);

    if (!again) {
        h1->ptth->failed = "it can't be used again";
    }
}


void
ngx_http_inverting_h1_bad(ngx_http_inverting_h1_t *h1, const char *why)
{
    ngx_http_inverting_ptth_t  *ptth;

    ptth = h1->ptth;

    ngx_log_error(NGX_LOG_ERR, ptth->request->connection->log, 0,
                  "the agent of backend \"%V\" sent %s", &ptth->agent->backend,
                  why);

    if (h1->answerer.tx && h1->state != ngx_http_inverting_h1_done) {

        /* another agent is not asked */

        ngx_http_inverting_pipe_finish(&h1->answerer,
                                       NGX_HTTP_INVERTING_PIPE_CUT);
        ngx_http_inverting_h1_release(h1, NGX_HTTP_INVERTING_PENDING);
    }

    ptth->failed = "its response was refused";
}


static void
ngx_http_inverting_h1_release(ngx_http_inverting_h1_t *h1, ngx_uint_t outcome)
{
    ngx_http_inverting_stream_close(&h1->ptth->agent->end, &h1->taker,
                                    &h1->answerer, outcome);

    ngx_http_inverting_h1_forget(h1);

    if (h1->pool) {
        ngx_destroy_pool(h1->pool);
        h1->pool = NULL;
    }

    h1->head = NULL;
    h1->head_len = 0;
    h1->head_size = 0;
    h1->request.len = 0;
    h1->sent = 1;

    h1->state = ngx_http_inverting_h1_idle;
    h1->ptth->streams = 0;
}


/* what was kept for the pipe */

static void
ngx_http_inverting_h1_forget(ngx_http_inverting_h1_t *h1)
{
    if (h1->kept) {
        ngx_free(h1->kept);
    }

    h1->kept = NULL;
    h1->pending.len = 0;
}
