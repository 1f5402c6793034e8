#include "link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "idlist.h"
#include "memory.h"

#define ANSWER_TIMEOUT_MS 5000
#define RETRY_AFTER_MAX 300 /* seconds */
#define WORKERS_MAX 4096


void link_free(struct link *l)
{
    if (l->session != NULL) {
        session_free(l->session);
    }

    if (l->exchange != NULL) {
        exchange_abort(l->exchange);
    }

    buf_free(&l->answer);
    loop_defer_free(l->all->loop, l);
}


static void fail(struct link *l, enum link_failure failure, const char *why)
{
    l->handler->failed(l->arg, l, failure, why);
    link_free(l);
}


static void down(struct link *l, const char *why)
{
    l->handler->down(l->arg, l, why);
    link_free(l);
}


/* The session ------------------------------------------------------------ */

static void on_draining(void *arg)
{
    struct link *l = arg;

    l->state = LINK_DRAINING;
    l->handler->draining(l->arg, l);
}


static void on_closed(void *arg, const char *why)
{
    down(arg, why);
}


static const struct session_handler session_handler = {
    .draining = on_draining,
    .closed = on_closed,
};


/* The call --------------------------------------------------------------- */

/* Digits at the front of *s, at most max; false if there are none. */
static bool number(struct span *s, long max, long *value)
{
    size_t n = 0;

    *value = 0;

    while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9') {
        *value = *value * 10 + (s->p[n] - '0');
        if (*value > max) {
            *value = max;
        }
        n++;
    }

    s->p += n;
    s->n -= n;

    return n > 0;
}


/* X-Inverting-Proxy-Worker: n/count */
static void take_worker(struct link *l, const struct head *head)
{
    const struct field *f = head_field(head, "X-Inverting-Proxy-Worker");
    struct span s = f != NULL ? f->value : SPAN("");
    long worker, workers;

    l->worker = -1;

    if (number(&s, WORKERS_MAX, &worker) && s.n > 0 && *s.p == '/') {
        s.p++;
        s.n--;

        if (number(&s, WORKERS_MAX, &workers) && s.n == 0) {
            l->worker = (int) worker;
            l->workers = (int) workers;
        }
    }
}


static void upgraded(struct link *l, const struct head *head)
{
    const struct field *alpn = head_field(head, "ALPN");

    if (alpn == NULL || !span_is(alpn->value, "h2")) {
        fail(l, LINK_REFUSED, "it changes to PTTH, but not over h2");
        return;
    }

    take_worker(l, head);
    l->state = LINK_UP;
    l->since = loop_now(l->all->loop);
    l->session = session_new(l->all, l->exchange, &session_handler, l);
    l->handler->up(l->arg, l);
}


static void refused(struct link *l, const struct head *head)
{
    const struct field *f = head_field(head, "Retry-After");
    struct span after = f != NULL ? f->value : SPAN("");
    long seconds;

    l->status = head->status;
    l->listing = head->status == 200;
    proxy_describe(head, l->why, sizeof(l->why));

    switch (head->status) {

    case 401:
    case 403:
        l->failure = LINK_AWAY;
        break;

    case 503:
        l->failure = LINK_AWAY;
        if (number(&after, RETRY_AFTER_MAX, &seconds) && after.n == 0) {
            l->failure = LINK_BUSY;
            l->retry_after = (uint64_t) seconds * 1000;
        }
        break;

    default:
        l->failure = LINK_REFUSED;
    }
}


static void on_head(void *arg, const struct head *head)
{
    struct link *l = arg;

    if (head->status == 101) {
        upgraded(l, head);
    } else {
        refused(l, head);
    }
}


/*
 * A proxy may take any call of an agent for a poll, and tell an ID only once:
 * what it says is not to be lost.
 */
static void on_data(void *arg, const char *p, size_t n)
{
    struct link *l = arg;

    if (l->session != NULL) {
        session_input(l->session, p, n);

    } else if (buf_len(&l->answer) + n > IDLIST_MAX_BYTES) {
        buf_free(&l->answer);
        fail(l, l->failure, l->why);

    } else if (l->listing) {
        buf_append(&l->answer, p, n);
    }
}


static void on_drain(void *arg)
{
    struct link *l = arg;

    session_drain(l->session);
}


static void on_done(void *arg, const struct exchange_end *e)
{
    struct link *l = arg;

    l->exchange = NULL;

    if (l->session != NULL && session_is_over(l->session)) {
        down(l, NULL);

    } else if (l->session != NULL) {
        down(l, e->result == EXCHANGE_OK ? "the proxy has closed it" : e->why);

    } else if (l->status != 0) {
        fail(l, l->failure, l->why);

    } else {
        /* one that listens but does not answer an upgrade knows none */
        fail(l, e->result == EXCHANGE_RESET || e->result == EXCHANGE_BAD
                ? LINK_REFUSED : LINK_AWAY, e->why);
    }
}


static const struct exchange_handler handler = {
    .head = on_head,
    .data = on_data,
    .drain = on_drain,
    .done = on_done,
};


struct link *link_new(struct sessions *all, struct proxy *proxy,
                      const struct link_handler *link_handler, void *arg)
{
    struct link *l = mem_zalloc(sizeof(*l));

    l->all = all;
    l->handler = link_handler;
    l->arg = arg;
    l->since = loop_now(all->loop);
    l->exchange = proxy_call(proxy, CALL_PTTH, NULL, &l->moved, &handler, l);

    return l;
}


void link_tick(struct link *l)
{
    uint64_t timeout = l->all->options->proxy_timeout;

    if (l->session != NULL) {
        session_tick(l->session);
        return;
    }

    if (!exchange_connected(l->exchange)) {
        /* that has a time-out of its own */
        l->since = loop_now(l->all->loop);
        return;
    }

    if (timeout > ANSWER_TIMEOUT_MS) {
        timeout = ANSWER_TIMEOUT_MS;
    }

    if (loop_now(l->all->loop) - l->since >= timeout) {
        fail(l, LINK_REFUSED, "no answer in time");
    }
}


void link_goaway(struct link *l)
{
    l->state = LINK_DRAINING;
    session_goaway(l->session);
}
