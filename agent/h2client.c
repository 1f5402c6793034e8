#include "h2client.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "h2conn.h"
#include "memory.h"

#define TICK_MS 1000

/* What was sent of a body is kept up to here, until the backend answers: it
 * may say that it has looked at nothing of it. */
#define AGAIN_MAX (64 * 1024)
#define TRIES 7

struct h2client {
    struct carrier base;
    struct loop *loop;
    struct pool *pool;
    struct h2conn *first; /* the oldest, so that the others become idle */
    size_t allowed; /* see h2conn_new() */
    struct span scheme;
    uv_timer_t *tick;
};

struct h2exchange {
    struct exchange base;
    struct h2stream stream;
    struct h2client *client;
    struct task drain;
    struct h2fields *fields;
    uint64_t *moved;
    unsigned tries;
    bool has_body;
    bool idempotent;

    struct buf out;
    size_t taken;  /* bytes of out that are on their way */
    bool dropped;  /* or were, and are not in out any more */
    bool finished; /* no more are written */
    bool want_drain;

    bool paused;
    size_t unconsumed; /* bytes that came meanwhile */
};


static struct h2exchange *exchange_of(struct h2stream *s)
{
    return (struct h2exchange *) ((char *) s
                                  - offsetof(struct h2exchange, stream));
}


static void moved(struct h2exchange *x)
{
    *x->moved = loop_now(x->client->loop);
}


static void dispose(struct h2exchange *x)
{
    loop_cancel(x->client->loop, &x->drain);
    buf_free(&x->out);
    free(x->fields);
    loop_defer_free(x->client->loop, x);
}


static void end(struct h2exchange *x, const struct exchange_end *e)
{
    x->base.handler->done(x->base.arg, e);
    dispose(x);
}


/* Connections ------------------------------------------------------------ */

static const struct h2conn_handler handler;


static void on_tick(uv_timer_t *timer)
{
    struct h2client *client = timer->data;

    for (struct h2conn *c = client->first; c != NULL; c = c->next) {
        h2conn_tick(c);
    }

    if (client->first == NULL) {
        uv_timer_stop(timer);
    }
}


static struct h2conn *choose(struct h2client *client)
{
    struct h2conn **link = &client->first;

    while (*link != NULL) {
        if (h2conn_room(*link) > 0) {
            return *link;
        }

        link = &(*link)->next;
    }

    *link = h2conn_new(client->loop, client->pool, &handler, client,
                       &client->allowed);
    uv_timer_start(client->tick, on_tick, TICK_MS, TICK_MS);

    return *link;
}


static void on_closed(void *arg, struct h2conn *c)
{
    struct h2client *client = arg;
    struct h2conn **link = &client->first;

    while (*link != c) {
        link = &(*link)->next;
    }

    *link = c->next;
}


static void send_request(struct h2exchange *x)
{
    x->tries++;
    x->taken = 0;

    do {
        x->stream = (struct h2stream) {0};
    } while (!h2conn_request(choose(x->client), &x->stream, x->fields,
                             x->has_body));
}


/* Sending ---------------------------------------------------------------- */

static size_t waiting(const struct h2exchange *x)
{
    return buf_len(&x->out) - x->taken;
}


static void run_drain(struct task *task)
{
    struct h2exchange *x = (struct h2exchange *)
                           ((char *) task - offsetof(struct h2exchange,
                                                     drain));

    if (x->want_drain && waiting(x) == 0) {
        x->want_drain = false;
        x->base.handler->drain(x->base.arg);
    }
}


static size_t on_take(struct h2stream *s, char *p, size_t n, bool *end)
{
    struct h2exchange *x = exchange_of(s);

    if (n > waiting(x)) {
        n = waiting(x);
    }

    if (n > 0) {
        memcpy(p, buf_ptr(&x->out) + x->taken, n);
        x->taken += n;
        moved(x);
    }

    if (x->dropped || x->taken > AGAIN_MAX) {
        x->dropped = true;
        buf_consume(&x->out, x->taken);
        x->taken = 0;
    }

    if (waiting(x) == 0) {
        *end = x->finished;
        if (x->want_drain) {
            loop_defer(x->client->loop, &x->drain);
        }
    }

    return n;
}


static void h2_write(struct exchange *base, const struct span *parts,
                     int nparts)
{
    struct h2exchange *x = (struct h2exchange *) base;

    for (int i = 0; i < nparts; i++) {
        buf_append(&x->out, parts[i].p, parts[i].n);
    }

    x->want_drain |= waiting(x) > EXCHANGE_HIGH_WATER;
    h2conn_resume(&x->stream);
}


static void h2_finish(struct exchange *base)
{
    struct h2exchange *x = (struct h2exchange *) base;

    x->finished = true;
    h2conn_resume(&x->stream);
}


static size_t h2_pending(const struct exchange *base)
{
    return waiting((const struct h2exchange *) base);
}


static bool h2_retract(struct exchange *base)
{
    struct h2exchange *x = (struct h2exchange *) base;

    if (x->taken > 0 || x->dropped) {
        return false;
    }

    buf_reset(&x->out);

    return true;
}


static bool h2_connected(const struct exchange *base)
{
    return ((const struct h2exchange *) base)->stream.sent;
}


/* Receiving -------------------------------------------------------------- */

static void on_head(struct h2stream *s, const struct head *head)
{
    struct h2exchange *x = exchange_of(s);

    moved(x);
    x->base.handler->head(x->base.arg, head);
}


static void on_data(struct h2stream *s, const char *p, size_t n)
{
    struct h2exchange *x = exchange_of(s);

    moved(x);

    if (x->paused) {
        x->unconsumed += n;
    } else {
        h2conn_consume(s, n);
    }

    x->base.handler->data(x->base.arg, p, n);
}


static void h2_pause(struct exchange *base, bool on)
{
    struct h2exchange *x = (struct h2exchange *) base;

    x->paused = on;

    if (!on && x->unconsumed > 0) {
        h2conn_consume(&x->stream, x->unconsumed);
        x->unconsumed = 0;
    }
}


static void on_end(struct h2stream *s, const struct head *trailers)
{
    end(exchange_of(s), &(struct exchange_end) {
        .result = EXCHANGE_OK,
        .why = "",
        .hint = "",
        .trailers = trailers->fields,
        .ntrailers = trailers->nfields,
    });
}


/* What the backend has not looked at may be sent again, whatever it is; a
 * connection that had been kept may have been closed just then. */
static bool may_try_again(const struct h2exchange *x,
                          enum exchange_result result, bool refused)
{
    if (x->stream.answered || x->tries == TRIES) {
        return false;
    }

    return refused ? !x->dropped
                   : result == EXCHANGE_RESET && x->stream.kept
                     && x->idempotent && x->tries == 1;
}


static const char *hint_of(enum exchange_result result, const char *why)
{
    switch (result) {

    case EXCHANGE_UNREACHABLE:
        return "no connection";

    case EXCHANGE_CONNECT_TIME:
        return "timed out connecting";

    default:
        return why;
    }
}


static void on_lost(struct h2stream *s, enum exchange_result result,
                    bool refused, const char *why)
{
    struct h2exchange *x = exchange_of(s);

    if (may_try_again(x, result, refused)) {
        send_request(x);
        return;
    }

    end(x, &(struct exchange_end) {
        .result = result,
        .why = why,
        .hint = hint_of(result, why),
    });
}


static void h2_abort(struct exchange *base)
{
    struct h2exchange *x = (struct h2exchange *) base;

    if (x->stream.conn != NULL) {
        h2conn_reset(&x->stream);
    }

    dispose(x);
}


static const struct h2conn_handler handler = {
    .head = on_head,
    .data = on_data,
    .end = on_end,
    .lost = on_lost,
    .take = on_take,
    .closed = on_closed,
};


/* The carrier ------------------------------------------------------------ */

static struct exchange *h2_start(struct carrier *c,
                                 const struct exchange_request *request,
                                 const struct exchange_handler *users,
                                 void *arg)
{
    struct h2exchange *x = mem_zalloc(sizeof(*x));

    x->base = (struct exchange) {c->ops, users, arg};
    x->client = (struct h2client *) c;
    x->drain.run = run_drain;
    x->fields = h2fields_request(request, x->client->scheme);
    x->moved = request->moved;
    x->idempotent = request->idempotent;
    x->has_body = request->length != EXCHANGE_NO_BODY && request->length != 0;
    send_request(x);

    return &x->base;
}


static void on_tick_closed(uv_handle_t *handle)
{
    free(handle);
}


static void h2_free(struct carrier *base)
{
    struct h2client *client = (struct h2client *) base;

    while (client->first != NULL) {
        struct h2conn *c = client->first;

        client->first = c->next;
        h2conn_free(c);
    }

    pool_free(client->pool);
    uv_close((uv_handle_t *) client->tick, on_tick_closed);
    free(client);
}


static const struct carrier_ops h2_ops = {
    .start = h2_start,
    .write = h2_write,
    .finish = h2_finish,
    .pending = h2_pending,
    .retract = h2_retract,
    .connected = h2_connected,
    .pause = h2_pause,
    .abort = h2_abort,
    .free = h2_free,
};


struct carrier *h2client_new(struct loop *loop, const struct origin *origin,
                             const struct curlhttp_config *curl)
{
    struct h2client *client = mem_zalloc(sizeof(*client));

    client->base.ops = &h2_ops;
    client->loop = loop;
    client->allowed = SIZE_MAX;
    client->pool = pool_new(loop, origin, curl);
    client->scheme = origin->tls ? SPAN("https") : SPAN("http");
    client->tick = mem_zalloc(sizeof(*client->tick));
    client->tick->data = client;
    uv_timer_init(&loop->uv, client->tick);

    return &client->base;
}
