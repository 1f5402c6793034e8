#define _GNU_SOURCE

#include "direct.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "conn.h"
#include "fields.h"
#include "memory.h"
#include "message.h"

#define READ_MIN (16 * 1024)
#define READ_MAX LOOP_SCRATCH
#define DIRECT_WRITE_MIN (16 * 1024) /* from here on without a copy */
#define PARTS_MAX 8

/*
 * The size line of a chunk that is still growing: so many digits, filled in
 * when it is sent. What is written in one turn makes one chunk.
 */
#define OPEN_CHUNK_DIGITS 8
#define OPEN_CHUNK_HEADER (OPEN_CHUNK_DIGITS + 2)

struct direct {
    struct carrier base;
    struct loop *loop;
    struct pool *pool;
    struct head head; /* of the response being looked at */
};

enum phase { PHASE_HEAD, PHASE_BODY, PHASE_OVER };

struct direct_exchange {
    struct exchange base;
    struct direct *direct;
    struct conn *conn; /* NULL when it is over */
    struct task flush;

    /* request */
    struct buf out;
    size_t head_len;    /* of the request's head, kept until answered */
    size_t chunk_at;    /* offset in out of an open chunk's size line */
    uint64_t *moved;
    bool body_sent; /* some of it */
    bool chunk_open;
    bool chunked;
    bool finished;  /* the whole request is in out, or sent */
    bool blocked;   /* the socket takes no more for now */
    bool want_drain;
    bool write_dead; /* the peer reads no more; it may still answer */
    bool again;      /* may be sent a second time */
    const char *upgrade; /* asked for and not agreed to yet */
    bool tunnel;         /* agreed to */
    bool shut;           /* the way out of it */
    size_t resend;   /* bytes of out that were sent, while again */

    /* response */
    enum phase phase;
    bool paused;
    bool keep;
    bool any; /* a byte of the response has come */
    size_t read_size;
    struct message message;
};


static void start_conn(struct direct_exchange *x, enum pool_which which);


static void dispose(struct direct_exchange *x)
{
    x->phase = PHASE_OVER;
    loop_cancel(x->direct->loop, &x->flush);
    buf_free(&x->out);
    message_free(&x->message);
    loop_defer_free(x->direct->loop, x);
}


static void direct_abort(struct exchange *base)
{
    struct direct_exchange *x = (struct direct_exchange *) base;

    if (x->conn != NULL) {
        conn_close(x->conn);
        x->conn = NULL;
    }

    dispose(x);
}


static void end(struct direct_exchange *x, enum exchange_result result,
                const char *why, const char *hint)
{
    struct exchange_end e = {.result = result, .why = why, .hint = hint};
    struct head trailers = {0};

    const struct buf *lines = &x->message.body.trailer;

    if (result == EXCHANGE_OK && buf_len(lines) > 0) {
        const char *error = head_parse_fields(&trailers, buf_ptr(lines),
                                              buf_len(lines));

        if (error != NULL) {
            e.result = EXCHANGE_BAD;
            e.why = e.hint = error;
            x->keep = false;
        }

        e.trailers = trailers.fields;
        e.ntrailers = trailers.nfields;
    }

    if (x->conn != NULL) {
        if (x->keep && e.result == EXCHANGE_OK) {
            conn_keep(x->conn);
        } else {
            conn_close(x->conn);
        }

        x->conn = NULL;
    }

    x->phase = PHASE_OVER;
    x->base.handler->done(x->base.arg, &e);
    head_free(&trailers);
    dispose(x);
}


static void bad(struct direct_exchange *x, const char *why)
{
    end(x, EXCHANGE_BAD, why, why);
}


static void lost(struct direct_exchange *x, const char *why)
{
    if (!x->conn->reused || x->any) {
        end(x, EXCHANGE_RESET, why, why);
        return;
    }

    conn_lost(x->conn);
    x->conn = NULL;

    if (!x->again) {
        end(x, EXCHANGE_RESET, why, why);
        return;
    }

    x->again = false;
    x->resend = 0;
    x->blocked = false;
    x->write_dead = false;
    start_conn(x, POOL_FRESH);
}


/* Sending ---------------------------------------------------------------- */

static void update_watch(struct direct_exchange *x)
{
    int want = 0;

    if (x->conn == NULL || x->conn->opening) {
        return;
    }

    if (!x->paused || x->phase == PHASE_HEAD) {
        want |= UV_READABLE;
    }

    if (x->blocked) {
        want |= UV_WRITABLE;
    }

    watch_want(x->conn->watch, want);
}


static void seal_chunk(struct direct_exchange *x)
{
    static const char digits[] = "0123456789abcdef";
    char *line;
    size_t len;

    if (!x->chunk_open) {
        return;
    }

    line = buf_ptr(&x->out) + x->chunk_at;
    len = buf_len(&x->out) - x->chunk_at - OPEN_CHUNK_HEADER;

    for (int i = OPEN_CHUNK_DIGITS - 1; i >= 0; i--) {
        line[i] = digits[len & 15];
        len >>= 4;
    }

    buf_append(&x->out, "\r\n", 2);
    x->chunk_open = false;
}


static void open_chunk(struct direct_exchange *x)
{
    if (!x->chunk_open) {
        x->chunk_at = buf_len(&x->out);
        buf_append(&x->out, "00000000\r\n", OPEN_CHUNK_HEADER);
        x->chunk_open = true;
    }
}


static void wrote(struct direct_exchange *x, size_t n)
{
    size_t head = n < x->head_len ? n : x->head_len;

    x->head_len -= head;
    x->body_sent |= n > head;
    *x->moved = loop_now(x->direct->loop);
}


static void write_failed(struct direct_exchange *x)
{
    /* an answer may have come before the peer closed: reading tells */
    x->write_dead = true;
    x->keep = false;
    x->blocked = false;
    x->chunk_open = false;

    if (!x->again) {
        buf_free(&x->out);
    }
}


static ssize_t send_parts(struct direct_exchange *x, struct iovec *iov, int n)
{
    ssize_t sent = conn_send(x->conn, iov, n);

    if (sent >= 0) {
        wrote(x, (size_t) sent);
        return sent;
    }

    if (errno != EAGAIN) {
        write_failed(x);
        return -1;
    }

    return 0;
}


/* Send what waits; false when the socket takes no more, or never will. */
static bool flush_out(struct direct_exchange *x)
{
    size_t len;
    ssize_t sent;
    struct iovec iov;

    seal_chunk(x);

    len = x->upgrade != NULL ? x->head_len : buf_len(&x->out) - x->resend;
    if (len == 0 || x->write_dead) {
        return !x->write_dead;
    }

    iov = (struct iovec) {buf_ptr(&x->out) + x->resend, len};
    sent = send_parts(x, &iov, 1);

    if (sent > 0) {
        if (x->again) {
            x->resend += (size_t) sent;
        } else {
            buf_consume(&x->out, (size_t) sent);
        }
    }

    x->blocked = sent >= 0 && (size_t) sent < len;

    return sent >= 0 && !x->blocked;
}


/*
 * The way out is over; the other one is not. Over TLS that is said without a
 * close_notify, which libcurl does not send on its own.
 */
static void end_of_tunnel(struct direct_exchange *x)
{
    if (!x->shut) {
        x->shut = true;
        conn_shutdown(x->conn);
    }
}


static void flush(struct direct_exchange *x)
{
    if (x->conn == NULL || x->conn->opening || x->blocked) {
        return;
    }

    flush_out(x);
    update_watch(x);

    if (x->tunnel && buf_len(&x->out) == 0) {
        buf_free(&x->out);
        if (x->finished) {
            end_of_tunnel(x);
            return;
        }
    }

    if (x->want_drain && buf_len(&x->out) == 0) {
        x->want_drain = false;
        x->base.handler->drain(x->base.arg);
    }
}


static void run_flush(struct task *task)
{
    flush((struct direct_exchange *) ((char *) task
                                      - offsetof(struct direct_exchange,
                                                 flush)));
}


/*
 * Send a large piece from where it is; only what the socket does not take is
 * copied. False if something waits before it.
 */
static bool write_large(struct direct_exchange *x, const struct span *parts,
                        int nparts, size_t total)
{
    struct iovec iov[PARTS_MAX + 3];
    char line[CHUNK_HEADER_MAX];
    size_t waiting, sent;
    ssize_t rc;
    int n = 0;

    if (x->conn == NULL || x->conn->opening || x->blocked || x->again
        || x->upgrade != NULL || x->conn->curl != NULL
        || nparts > PARTS_MAX) {
        return false;
    }

    seal_chunk(x);

    waiting = buf_len(&x->out);
    if (waiting > 0) {
        iov[n++] = (struct iovec) {buf_ptr(&x->out), waiting};
    }

    if (x->chunked) {
        iov[n++] = (struct iovec) {line, chunk_header(line, total)};
    }

    for (int i = 0; i < nparts; i++) {
        iov[n++] = (struct iovec) {(char *) parts[i].p, parts[i].n};
    }

    if (x->chunked) {
        iov[n++] = (struct iovec) {(char *) "\r\n", 2};
    }

    rc = send_parts(x, iov, n);
    if (rc < 0) {
        return true;
    }

    sent = (size_t) rc;
    if (waiting > 0) {
        size_t gone = sent < waiting ? sent : waiting;

        buf_consume(&x->out, gone);
        sent -= gone;
    }

    for (int i = waiting > 0 ? 1 : 0; i < n; i++) {
        size_t gone = sent < iov[i].iov_len ? sent : iov[i].iov_len;

        sent -= gone;
        buf_append(&x->out, (char *) iov[i].iov_base + gone,
                   iov[i].iov_len - gone);
    }

    x->blocked = buf_len(&x->out) > 0;
    update_watch(x);

    return true;
}


static void direct_write(struct exchange *base, const struct span *parts,
                         int nparts)
{
    struct direct_exchange *x = (struct direct_exchange *) base;
    size_t total = 0;

    for (int i = 0; i < nparts; i++) {
        total += parts[i].n;
    }

    if (total == 0 || x->write_dead) {
        return;
    }

    if (total < DIRECT_WRITE_MIN || !write_large(x, parts, nparts, total)) {
        if (x->chunked) {
            open_chunk(x);
        }

        for (int i = 0; i < nparts; i++) {
            buf_append(&x->out, parts[i].p, parts[i].n);
        }

        loop_defer(x->direct->loop, &x->flush);
    }

    if (buf_len(&x->out) > EXCHANGE_HIGH_WATER) {
        x->want_drain = true;
    }
}


static void direct_finish(struct exchange *base)
{
    struct direct_exchange *x = (struct direct_exchange *) base;

    x->finished = true;

    if (x->write_dead) {
        return;
    }

    if (x->chunked) {
        seal_chunk(x);
        buf_append(&x->out, "0\r\n\r\n", 5);
    }

    if (x->chunked || x->tunnel) {
        loop_defer(x->direct->loop, &x->flush);
    }
}


static size_t direct_pending(const struct exchange *base)
{
    return buf_len(&((const struct direct_exchange *) base)->out);
}


static bool direct_retract(struct exchange *base)
{
    struct direct_exchange *x = (struct direct_exchange *) base;

    if (x->body_sent || x->write_dead) {
        return false;
    }

    x->out.end = x->out.start + x->head_len;
    x->chunk_open = false;

    return true;
}


static bool direct_connected(const struct exchange *base)
{
    const struct direct_exchange *x = (const struct direct_exchange *) base;

    return x->conn != NULL && !x->conn->opening;
}


/* Receiving -------------------------------------------------------------- */

/* The rest that may have come behind it is nobody's. */
static void response_over(struct direct_exchange *x, size_t rest)
{
    if (rest > 0 || !x->finished || buf_len(&x->out) > x->resend
        || x->write_dead) {
        x->keep = false;
    }

    end(x, EXCHANGE_OK, "", "");
}


/* Whether a 101 changes to what was asked for, and to nothing else. */
static bool agrees(const struct head *h, const char *upgrade)
{
    const struct field *to = head_field(h, "Upgrade");

    return to != NULL && span_is(to->value, upgrade)
           && field_is_named(h, SPAN("upgrade"));
}


/* A head has come; false when the exchange is over by that. */
static bool input_head(struct direct_exchange *x)
{
    const struct head *h = &x->direct->head;
    const struct body *body = &x->message.body;

    if (h->status == 101) {
        if (x->upgrade == NULL || !agrees(h, x->upgrade)) {
            bad(x, "a 101 that nobody asked for");
            return false;
        }

        x->tunnel = true;
        x->upgrade = NULL;
        loop_defer(x->direct->loop, &x->flush);

    } else if (h->status < 200) {
        message_skip(&x->message);
        return true;
    }

    if (x->upgrade != NULL) {
        x->upgrade = NULL;
        write_failed(x);
    }

    x->phase = PHASE_BODY;
    x->keep = !h->close && !x->write_dead && body->kind != BODY_UNTIL_CLOSE;
    x->base.handler->head(x->base.arg, h);

    return x->phase != PHASE_OVER;
}


static void input(struct direct_exchange *x, const char *p, size_t n)
{
    struct span in = {p, n}, data;

    for (;;) {
        switch (message_next(&x->message, &in, &data)) {

        case MESSAGE_HEAD:
            if (!input_head(x)) {
                return;
            }
            break;

        case MESSAGE_DATA:
            x->base.handler->data(x->base.arg, data.p, data.n);
            if (x->phase == PHASE_OVER) {
                return;
            }
            break;

        case MESSAGE_MORE:
            return;

        case MESSAGE_END:
            response_over(x, message_extra(&x->message, &in));
            return;

        case MESSAGE_INVALID:
            bad(x, x->message.error);
            return;
        }
    }
}


static void at_close(struct direct_exchange *x)
{
    if (x->phase == PHASE_HEAD) {
        lost(x, x->any ? "the connection was closed within the head"
                       : "the connection was closed without an answer");

    } else if (message_complete_at_close(&x->message)) {
        x->keep = false;
        end(x, EXCHANGE_OK, "", "");

    } else {
        lost(x, "the connection was closed within the body");
    }
}


static void readable(struct direct_exchange *x)
{
    struct loop *loop = x->direct->loop;
    ssize_t n;

    n = conn_recv(x->conn, loop->scratch, x->read_size);

    if (n < 0 && errno == EAGAIN) {
        return;
    }

    if (n < 0) {
        lost(x, strerrordesc_np(errno));
        return;
    }

    if (n == 0) {
        at_close(x);
        return;
    }

    if (!x->any) {
        x->any = true;

        if (x->again) {
            x->again = false;
            buf_consume(&x->out, x->resend);
            x->resend = 0;
        }
    }

    *x->moved = loop_now(loop);
    conn_more(x->conn);

    /* larger steps for those whose reader keeps up */
    if ((size_t) n == x->read_size && x->read_size < READ_MAX) {
        x->read_size *= 2;
    }

    input(x, loop->scratch, (size_t) n);
}


static void direct_pause(struct exchange *base, bool on)
{
    struct direct_exchange *x = (struct direct_exchange *) base;

    x->paused = on;
    update_watch(x);

    if (!on && direct_connected(base)) {
        conn_more(x->conn);
    }

    if (on && x->read_size > 2 * READ_MIN) {
        x->read_size = 2 * READ_MIN;
    }
}


/* Connection ------------------------------------------------------------- */

static void on_open(void *arg)
{
    struct direct_exchange *x = arg;

    *x->moved = loop_now(x->direct->loop);
    flush(x);
}


static void on_fail(void *arg, enum exchange_result result, const char *why)
{
    struct direct_exchange *x = arg;

    x->conn = NULL;
    end(x, result, why, result == EXCHANGE_CONNECT_TIME
                        ? "timed out connecting" : "no connection");
}


static void on_event(void *arg, int events)
{
    struct direct_exchange *x = arg;

    if ((events & UV_WRITABLE) != 0) {
        x->blocked = false;
        flush(x);
    }

    /* draining may have ended the exchange, or even paused it */
    if ((events & UV_READABLE) != 0 && x->phase != PHASE_OVER
        && x->conn != NULL && !x->conn->opening
        && (!x->paused || x->phase == PHASE_HEAD)) {
        readable(x);
    }
}


static void start_conn(struct direct_exchange *x, enum pool_which which)
{
    x->conn = pool_get(x->direct->pool, which);
    x->conn->on_open = on_open;
    x->conn->on_fail = on_fail;
    x->conn->on_event = on_event;
    x->conn->arg = x;

    update_watch(x);
    loop_defer(x->direct->loop, &x->flush);
}


static void append_request(struct buf *out, const struct exchange_request *r)
{
    buf_reserve(out, 1024);
    buf_append(out, r->method.p, r->method.n);
    buf_append(out, " ", 1);
    buf_append(out, r->target.p, r->target.n);
    buf_append(out, " HTTP/1.1\r\n", 11);

    for (size_t i = 0; i < r->nfields; i++) {
        field_append(out, r->fields[i].name, r->fields[i].value);
    }

    if (r->upgrade != NULL) {
        buf_append_str(out, "Connection: Upgrade\r\nUpgrade: ");
        buf_append_str(out, r->upgrade);
        buf_append(out, "\r\n", 2);
    }

    if (r->length >= 0) {
        field_append_length(out, r->length);

    } else if (r->length == EXCHANGE_CHUNKED) {
        buf_append_str(out, "Transfer-Encoding: chunked\r\n");
    }

    buf_append(out, "\r\n", 2);
}


static struct exchange *direct_start(struct carrier *c,
                                     const struct exchange_request *request,
                                     const struct exchange_handler *handler,
                                     void *arg)
{
    struct direct_exchange *x = mem_alloc(sizeof(*x));

    *x = (struct direct_exchange) {
        .base = {.ops = c->ops, .handler = handler, .arg = arg},
        .direct = (struct direct *) c,
        .flush.run = run_flush,
        .moved = request->moved,
        .chunked = request->length == EXCHANGE_CHUNKED,
        .finished = (request->length == EXCHANGE_NO_BODY
                     && request->upgrade == NULL) || request->length == 0,
        .upgrade = request->upgrade,
        .read_size = READ_MIN,
    };

    message_init(&x->message, HEAD_RESPONSE, &x->direct->head);
    x->message.to_head = span_is(request->method, "HEAD");
    x->again = request->idempotent && x->finished;
    append_request(&x->out, request);
    x->head_len = buf_len(&x->out);
    start_conn(x, x->upgrade != NULL ? POOL_FRESH
                  : x->again         ? POOL_KEPT
                                     : POOL_SAFE);

    return &x->base;
}


static void direct_free(struct carrier *c)
{
    struct direct *d = (struct direct *) c;

    pool_free(d->pool);
    head_free(&d->head);
    free(d);
}


static const struct carrier_ops direct_ops = {
    .start = direct_start,
    .write = direct_write,
    .finish = direct_finish,
    .pending = direct_pending,
    .retract = direct_retract,
    .connected = direct_connected,
    .pause = direct_pause,
    .abort = direct_abort,
    .free = direct_free,
};


struct carrier *direct_new(struct loop *loop, const struct origin *origin,
                           const struct curlhttp_config *curl)
{
    struct direct *d = mem_zalloc(sizeof(*d));

    d->base.ops = &direct_ops;
    d->loop = loop;
    d->pool = pool_new(loop, origin, curl);

    return &d->base;
}
