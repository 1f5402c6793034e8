#include "transport.h"

#include <stdlib.h>

#include "forward.h"
#include "log.h"
#include "memory.h"
#include "poll.h"
#include "ptth.h"

enum state { STATE_UNKNOWN, STATE_UP, STATE_DOWN };

struct transport {
    const struct options *options;
    struct forwarder forwarder;
    struct poller *poller; /* NULL when there is none, as ptth */
    struct ptth *ptth;
    bool polling;
    enum state state; /* of PTTH; polling has its own */
    struct log_reason away;
    int busy;         /* of the two, since transport_stop() */
    void (*on_quiet)(void *arg);
    void *arg;
};


static void on_one_quiet(void *arg)
{
    struct transport *t = arg;

    if (--t->busy == 0) {
        t->on_quiet(t->arg);
    }
}


static void on_up(void *arg)
{
    struct transport *t = arg;

    log_info("connected to proxy %s by PTTH", t->options->proxy.authority);
    t->state = STATE_UP;

    if (t->polling) {
        t->polling = false;
        poll_pause(t->poller);
    }
}


static void on_down(void *arg, const char *why)
{
    struct transport *t = arg;

    log_warn("connection to the proxy lost: %s; dialling again", why);
    t->state = STATE_UNKNOWN;
}


static void on_away(void *arg, int status, const char *why)
{
    struct transport *t = arg;

    if (t->polling
        || !log_reason(&t->away, t->state != STATE_DOWN, status, why))
    {
        return;
    }

    log_warn("proxy unreachable: %s; retrying", why);
    t->state = STATE_DOWN;
}


static bool on_refused(void *arg, const char *why, struct span answer)
{
    struct transport *t = arg;

    if (t->poller == NULL) {
        return false;
    }

    if (!t->polling) {
        log_info("no PTTH with this proxy, or on the way to it: %s; polling",
                 why);
        t->state = STATE_UNKNOWN;
        t->polling = true;
        poll_take(t->poller, answer);
        poll_start(t->poller);
    } else {
        poll_take(t->poller, answer);
    }

    return true;
}


static const struct ptth_handler ptth_handler = {
    .up = on_up,
    .down = on_down,
    .away = on_away,
    .refused = on_refused,
    .quiet = on_one_quiet,
};


void transport_start(struct transport *t)
{
    if (t->ptth != NULL) {
        ptth_start(t->ptth);
    } else {
        poll_start(t->poller);
    }
}


void transport_stop(struct transport *t)
{
    t->busy = (t->ptth != NULL) + (t->poller != NULL);

    if (t->ptth != NULL) {
        ptth_stop(t->ptth);
    }

    if (t->poller != NULL) {
        poll_stop(t->poller);
    }
}


size_t transport_outstanding(const struct transport *t)
{
    return (t->ptth != NULL ? ptth_outstanding(t->ptth) : 0)
           + (t->poller != NULL ? poll_outstanding(t->poller) : 0);
}


struct transport *transport_new(struct loop *loop,
                                const struct options *options,
                                struct proxy *proxy, struct backend *backend,
                                void (*on_quiet)(void *arg), void *arg)
{
    struct transport *t = mem_zalloc(sizeof(*t));

    t->options = options;
    t->on_quiet = on_quiet;
    t->arg = arg;
    forwarder_init(&t->forwarder, loop, proxy, backend);

    if (options->transport != TRANSPORT_PTTH) {
        t->poller = poll_new(loop, options, proxy, &t->forwarder,
                             on_one_quiet, t);
    }

    if (options->transport != TRANSPORT_POLL) {
        t->ptth = ptth_new(loop, options, proxy, backend, &ptth_handler, t);
    }

    return t;
}


void transport_free(struct transport *t)
{
    if (t->ptth != NULL) {
        ptth_free(t->ptth);
    }

    if (t->poller != NULL) {
        poll_abort(t->poller);
        forwarder_abort_all(&t->forwarder);
        poll_free(t->poller);
    }

    forwarder_free(&t->forwarder);
    free(t);
}
