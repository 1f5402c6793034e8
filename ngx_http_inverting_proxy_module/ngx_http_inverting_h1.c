
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_ptth.h"
#include "ngx_http_inverting_chunked.h"
#include "ngx_http_inverting_head.h"


/* the largest head of a response */
#define NGX_HTTP_INVERTING_H1_HEAD_MAX  65536


typedef enum {
    ngx_http_inverting_h1_idle = 0,
    ngx_http_inverting_h1_head,
    ngx_http_inverting_h1_length,
    ngx_http_inverting_h1_chunked,
    ngx_http_inverting_h1_close,       /* until the connection is closed */
    ngx_http_inverting_h1_done
} ngx_http_inverting_h1_state_e;


typedef struct {
    ngx_http_inverting_ptth_t       *ptth;
    ngx_http_inverting_h1_state_e    state;       /* of the response */

    ngx_http_inverting_end_t         taker;
    ngx_http_inverting_end_t         answerer;

    /* what is needed for one transaction */
    ngx_pool_t                      *pool;

    /* the head of the request, as far as it is not sent */
    ngx_str_t                        request;

    /* the head of the response, as far as it has come */
    u_char                          *head;
    size_t                           head_len;
    size_t                           head_size;

    off_t                            left;
    ngx_http_inverting_chunked_t     chunked;

    /* what the pipe had no room for, in memory of its own */
    ngx_str_t                        pending;
    void                            *kept;

    unsigned                         bodiless:1;  /* to HEAD */
    unsigned                         tunnel:1;
    unsigned                         sent:1;      /* the whole request */
    unsigned                         last:1;      /* "Connection: close" */
} ngx_http_inverting_h1_t;


/* all of the response has come, and not yet the end of the request */
#define ngx_http_inverting_h1_is_early(h1)                                    \
    ((h1)->state == ngx_http_inverting_h1_done && (h1)->pending.len == 0      \
     && !(h1)->sent)

#define NGX_HTTP_INVERTING_H1_EARLY                                           \
    "its response came before the end of the request"


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
static size_t ngx_http_inverting_h1_read_head(ngx_http_inverting_h1_t *h1,
    u_char *buf, size_t size);
static ngx_int_t ngx_http_inverting_h1_parse_head(
    ngx_http_inverting_h1_t *h1);
static ngx_int_t ngx_http_inverting_h1_field(ngx_http_inverting_h1_t *h1,
    ngx_str_t *name, ngx_str_t *value, ngx_uint_t *chunked);
static size_t ngx_http_inverting_h1_body(ngx_http_inverting_h1_t *h1,
    u_char *buf, size_t size);
static void ngx_http_inverting_h1_write(ngx_http_inverting_h1_t *h1,
    u_char *buf, size_t size);
static void ngx_http_inverting_h1_end(ngx_http_inverting_h1_t *h1);
static void ngx_http_inverting_h1_bad(ngx_http_inverting_h1_t *h1,
    const char *why);
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

            /* only that can say it */

            ptth->failed = "the client has gone";
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
    ngx_uint_t                  outcome;
    ngx_http_inverting_h1_t    *h1;
    ngx_http_inverting_ptth_t  *ptth;

    h1 = end->data;
    ptth = h1->ptth;

    ngx_http_set_log_request(ptth->request->connection->log, ptth->request);

    outcome = ngx_http_inverting_outcome(end);

    if (outcome != NGX_HTTP_INVERTING_PENDING
        && h1->state != ngx_http_inverting_h1_done)
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


/* line by line, until the empty one; returns how much of it was the head's */

static size_t
ngx_http_inverting_h1_read_head(ngx_http_inverting_h1_t *h1, u_char *buf,
    size_t size)
{
    u_char  *p;
    size_t   n, len;

    p = ngx_strlchr(buf, buf + size, LF);
    n = p ? (size_t) (p + 1 - buf) : size;

    if (h1->head_len + n > NGX_HTTP_INVERTING_H1_HEAD_MAX) {
        ngx_http_inverting_h1_bad(h1, "too large a head");
        return size;
    }

    if (h1->head_len + n > h1->head_size) {

        len = ngx_max(h1->head_size, 1024);

        while (len < h1->head_len + n) {
            len *= 2;
        }

        p = ngx_palloc(h1->pool, len);
        if (p == NULL) {
            h1->ptth->failed = "there is no memory";
            return size;
        }

        ngx_memcpy(p, h1->head, h1->head_len);

        h1->head = p;
        h1->head_size = len;
    }

    ngx_memcpy(h1->head + h1->head_len, buf, n);
    h1->head_len += n;

    if (h1->head_len >= 4
        && ngx_memcmp(h1->head + h1->head_len - 4, CRLF CRLF, 4) == 0
        && ngx_http_inverting_h1_parse_head(h1) != NGX_OK)
    {
        ngx_http_inverting_h1_bad(h1, "no HTTP response");
    }

    return n;
}


/*
 * Only what tells where the response ends, and that strictly; the client side
 * looks at all of it.
 */

static ngx_int_t
ngx_http_inverting_h1_parse_head(ngx_http_inverting_h1_t *h1)
{
    u_char      *p, *last, *end, *colon;
    ngx_int_t    status;
    ngx_str_t    name, value;
    ngx_uint_t   chunked;

    p = h1->head;
    last = h1->head + h1->head_len;

    if (h1->head_len < sizeof("HTTP/1.1 200" CRLF CRLF) - 1
        || ngx_memcmp(p, "HTTP/1.", 7) != 0
        || p[8] != ' ')
    {
        return NGX_ERROR;
    }

    status = ngx_atoi(p + 9, 3);

    if (status < 100 || (p[12] != ' ' && p[12] != CR)) {
        return NGX_ERROR;
    }

    h1->last |= (p[7] == '0');
    h1->left = -1;
    chunked = 0;

    p = ngx_strlchr(p, last, LF) + 1;

    for ( /* void */ ; last - p > 2; p = end + 1) {

        end = ngx_strlchr(p, last, LF);
        colon = ngx_strlchr(p, end, ':');

        if (end[-1] != CR || colon == NULL) {
            return NGX_ERROR;
        }

        name.data = p;
        name.len = colon - p;

        for (colon++; colon < end - 1 && *colon == ' '; colon++) {
            /* void */
        }

        value.data = colon;
        value.len = end - 1 - colon;

        while (value.len && value.data[value.len - 1] == ' ') {
            value.len--;
        }

        if (!ngx_http_inverting_is_token(&name)
            || !ngx_http_inverting_is_value(&value)
            || ngx_http_inverting_h1_field(h1, &name, &value, &chunked)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (chunked && h1->left >= 0) {
        return NGX_ERROR;
    }

    if (status == NGX_HTTP_SWITCHING_PROTOCOLS) {

        if (!h1->tunnel) {
            return NGX_ERROR;
        }

        h1->state = ngx_http_inverting_h1_close;

    } else if (status < 200) {
        h1->head_len = 0;
        return NGX_OK;

    } else if (h1->bodiless
               || status == NGX_HTTP_NO_CONTENT
               || status == NGX_HTTP_NOT_MODIFIED
               || h1->left == 0)
    {
        h1->state = ngx_http_inverting_h1_done;

    } else if (chunked) {
        h1->state = ngx_http_inverting_h1_chunked;
        ngx_http_inverting_chunked_init(&h1->chunked,
                                        NGX_HTTP_INVERTING_H1_HEAD_MAX);

    } else if (h1->left > 0) {
        h1->state = ngx_http_inverting_h1_length;

    } else {
        h1->state = ngx_http_inverting_h1_close;
    }

    ngx_http_inverting_h1_write(h1, h1->head, h1->head_len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_h1_field(ngx_http_inverting_h1_t *h1, ngx_str_t *name,
    ngx_str_t *value, ngx_uint_t *chunked)
{
    off_t        n;
    ngx_str_t    close;

    if (name->len == sizeof("content-length") - 1
        && ngx_strncasecmp(name->data, (u_char *) "content-length",
                           name->len) == 0)
    {
        n = ngx_atoof(value->data, value->len);

        if (n == NGX_ERROR || (h1->left >= 0 && h1->left != n)) {
            return NGX_ERROR;
        }

        h1->left = n;

    } else if (name->len == sizeof("transfer-encoding") - 1
               && ngx_strncasecmp(name->data, (u_char *) "transfer-encoding",
                                  name->len) == 0)
    {
        if (*chunked
            || value->len != sizeof("chunked") - 1
            || ngx_strncasecmp(value->data, (u_char *) "chunked", value->len)
               != 0)
        {
            return NGX_ERROR;
        }

        *chunked = 1;

    } else if (name->len == sizeof("connection") - 1
               && ngx_strncasecmp(name->data, (u_char *) "connection",
                                  name->len) == 0)
    {
        ngx_str_set(&close, "close");

        h1->last |= ngx_http_inverting_has_token(value, &close);
    }

    return NGX_OK;
}


/* returns how much of it was the body's */

static size_t
ngx_http_inverting_h1_body(ngx_http_inverting_h1_t *h1, u_char *buf,
    size_t size)
{
    u_char     *p;
    ngx_int_t   rc;
    ngx_str_t   piece;

    if (h1->state == ngx_http_inverting_h1_length) {
        size = ngx_min((off_t) size, h1->left);
        h1->left -= size;

        if (h1->left == 0) {
            h1->state = ngx_http_inverting_h1_done;
        }

    } else if (h1->state == ngx_http_inverting_h1_chunked) {

        p = buf;

        do {
            rc = ngx_http_inverting_chunked_parse(&h1->chunked, h1->pool, &p,
                                                  buf + size, &piece);
        } while (rc == NGX_OK);

        if (rc == NGX_ERROR) {
            ngx_http_inverting_h1_bad(h1, "an invalid chunked body");
            return size;
        }

        size = p - buf;

        if (rc == NGX_DONE) {
            h1->state = ngx_http_inverting_h1_done;
        }
    }

    ngx_http_inverting_h1_write(h1, buf, size);

    return size;
}


/* what the pipe has no room for is kept, and nothing else is read then */

static void
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


static void
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
