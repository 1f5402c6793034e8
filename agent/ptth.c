#include "ptth.h"

#include <stdlib.h>

#include "jitter.h"
#include "link.h"
#include "log.h"
#include "memory.h"

#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 3000
#define BACKOFF_JITTER 25 /* percent */

/* A proxy that knows no PTTH may be another one some day. */
#define SLOW_MIN_MS 5000
#define SLOW_MAX_MS 300000

/* So many connections may be made in haste, then one in so long: a proxy that
 * takes them and ends them must not keep us busy. */
#define DIALS_BURST TRIES(WORKERS_MAX)
#define DIAL_MS 250

/* A connection that was up for so long was a good one. */
#define GOOD_MS 10000

/* One in each worker: which worker one reaches is chance. */
#define WORKERS_MAX 16
#define TRIES(workers) (4 * (workers) + 8)

#define TICK_MAX_MS 1000

struct ptth {
    struct loop *loop;
    const struct options *options;
    struct proxy *proxy;
    const struct ptth_handler *handler;
    void *arg;
    struct sessions sessions;
    struct link *first;
    uv_timer_t tick;
    uv_timer_t again;
    int timers;
    uint64_t backoff;
    uint64_t slow; /* not 0: the proxy knows no PTTH, we try now and then */
    int workers;
    int tries; /* left, for another worker */
    uint64_t dialled; /* when the dials so far would be done, one by one */
    bool up;
    bool stopped;
};


static void go_on(struct ptth *p);


static size_t count(const struct ptth *p, enum link_state state)
{
    size_t n = 0;

    for (const struct link *l = p->first; l != NULL; l = l->next) {
        n += l->state == state;
    }

    return n;
}


static void unlink_one(struct ptth *p, struct link *l)
{
    struct link **at = &p->first;

    while (*at != l) {
        at = &(*at)->next;
    }

    *at = l->next;
}


static void on_again(uv_timer_t *timer)
{
    go_on(timer->data);
}


static void again_after(struct ptth *p, uint64_t ms)
{
    if (!p->stopped) {
        uv_timer_start(&p->again, on_again, ms, 0);
    }
}


static uint64_t next_backoff(struct ptth *p)
{
    p->backoff = p->backoff == 0 ? BACKOFF_MIN_MS : p->backoff * 2;
    if (p->backoff > BACKOFF_MAX_MS) {
        p->backoff = BACKOFF_MAX_MS;
    }

    return jitter(p->backoff, BACKOFF_JITTER);
}


static uint64_t next_slow(struct ptth *p)
{
    p->slow = p->slow == 0 ? SLOW_MIN_MS : p->slow * 2;
    if (p->slow > SLOW_MAX_MS) {
        p->slow = SLOW_MAX_MS;
    }

    return jitter(p->slow, BACKOFF_JITTER);
}


static void tell_if_quiet(struct ptth *p)
{
    if (p->stopped && p->first == NULL) {
        p->handler->quiet(p->arg);
    }
}


/* What becomes of the links ---------------------------------------------- */

static bool is_duplicate(const struct ptth *p, const struct link *link)
{
    for (const struct link *l = p->first; l != NULL; l = l->next) {
        if (l != link && l->state == LINK_UP
            && (l->worker == link->worker || link->worker < 0)) {
            return true;
        }
    }

    return false;
}


static void on_up(void *arg, struct link *l)
{
    struct ptth *p = arg;

    log_debug("connection in worker %d of %d", l->worker, l->workers);
    p->slow = 0;

    if (p->workers != l->workers) {
        p->workers = l->workers;
        p->tries = TRIES(p->workers);
    }

    if (p->stopped || is_duplicate(p, l)) {
        link_goaway(l);
    }

    if (!p->up) {
        p->up = true;
        p->handler->up(p->arg);
    }

    go_on(p);
}


static void on_draining(void *arg, struct link *l)
{
    struct ptth *p = arg;

    log_debug("the proxy ends the connection in worker %d", l->worker);
    p->tries = TRIES(p->workers);
    go_on(p);
}


static void on_down(void *arg, struct link *l, const char *why)
{
    struct ptth *p = arg;
    bool good = loop_now(p->loop) - l->since >= GOOD_MS;

    unlink_one(p, l);

    if (why != NULL) {
        log_debug("connection in worker %d lost: %s", l->worker, why);
    }

    if (good) {
        p->backoff = 0;
    }

    if (l->state == LINK_UP) {
        p->tries = TRIES(p->workers);
    }

    if (p->up && count(p, LINK_UP) == 0 && !p->stopped
        && l->state == LINK_UP) {
        p->up = false;
        p->handler->down(p->arg, why != NULL ? why
                                             : "the proxy has closed it");
        again_after(p, next_backoff(p));
    }

    go_on(p);
    tell_if_quiet(p);
}


static void on_failed(void *arg, struct link *l, enum link_failure failure,
                      const char *why)
{
    struct ptth *p = arg;
    struct span answer = {buf_ptr(&l->answer), buf_len(&l->answer)};

    unlink_one(p, l);
    log_debug("no PTTH: %s", why);

    if (count(p, LINK_UP) > 0) {
        again_after(p, next_backoff(p));
        return;
    }

    p->up = false;

    if (failure == LINK_REFUSED && p->handler->refused(p->arg, why, answer)) {
        again_after(p, next_slow(p));
        return;
    }

    p->handler->away(p->arg, l->status, why);
    again_after(p, failure == LINK_BUSY
                   ? l->retry_after + jitter(500, 100)
                   : p->slow != 0 ? next_slow(p) : next_backoff(p));
}


static const struct link_handler handler = {
    .up = on_up,
    .draining = on_draining,
    .failed = on_failed,
    .down = on_down,
};


/* ------------------------------------------------------------------------ */

static size_t wanted(const struct ptth *p)
{
    size_t most = (size_t) p->options->connections;
    size_t n = p->workers > 1 ? (size_t) p->workers : 1;

    if (most == 0) {
        most = WORKERS_MAX;
    }

    return n < most ? n : most;
}


static void on_tick(uv_timer_t *timer)
{
    struct ptth *p = timer->data;
    struct link *l, *next;

    for (l = p->first; l != NULL; l = next) {
        next = l->next;
        link_tick(l);
    }
}


static void dial(struct ptth *p)
{
    struct link *l = link_new(&p->sessions, p->proxy, &handler, p);

    l->next = p->first;
    p->first = l;
}


/* Whether one more may be dialled now. */
static bool may_dial(struct ptth *p)
{
    uint64_t now = loop_now(p->loop);

    if (p->dialled < now) {
        p->dialled = now;
    }

    if (p->dialled - now < DIALS_BURST * DIAL_MS) {
        p->dialled += DIAL_MS;
        return true;
    }

    return false;
}


static void log_haste(void)
{
    static struct log_brake brake;
    unsigned others;

    if (log_allowed(&brake, 60000, &others)) {
        log_warn("connections to the proxy do not last; dialling more "
                 "slowly");
    }
}


static void go_on(struct ptth *p)
{
    size_t up = count(p, LINK_UP);

    if (p->stopped || uv_is_active((uv_handle_t *) &p->again)
        || count(p, LINK_DIALLING) > 0) {
        return;
    }

    if (up > 0 && (up >= wanted(p) || p->tries == 0)) {
        return;
    }

    if (!may_dial(p)) {
        log_haste();
        again_after(p, jitter(DIAL_MS, BACKOFF_JITTER));
        return;
    }

    if (up > 0) {
        p->tries--;
    }

    dial(p);
}


void ptth_start(struct ptth *p)
{
    uint64_t tick = p->options->proxy_timeout / 8;

    if (tick > p->sessions.backend->idle_timeout / 8) {
        tick = p->sessions.backend->idle_timeout / 8;
    }

    if (tick > TICK_MAX_MS) {
        tick = TICK_MAX_MS;
    }

    uv_timer_start(&p->tick, on_tick, tick + 1, tick + 1);
    go_on(p);
}


void ptth_stop(struct ptth *p)
{
    struct link *l, *next;

    p->stopped = true;
    uv_timer_stop(&p->again);

    for (l = p->first; l != NULL; l = next) {
        next = l->next;

        if (l->state == LINK_DIALLING) {
            unlink_one(p, l);
            link_free(l);

        } else if (l->state == LINK_UP) {
            link_goaway(l);
        }
    }

    tell_if_quiet(p);
}


size_t ptth_outstanding(const struct ptth *p)
{
    return p->sessions.nstreams;
}


struct ptth *ptth_new(struct loop *loop, const struct options *options,
                      struct proxy *proxy, struct backend *backend,
                      const struct ptth_handler *ptth_handler, void *arg)
{
    struct ptth *p = mem_zalloc(sizeof(*p));

    p->loop = loop;
    p->options = options;
    p->proxy = proxy;
    p->handler = ptth_handler;
    p->arg = arg;
    p->tick.data = p->again.data = p;
    uv_timer_init(&loop->uv, &p->tick);
    uv_timer_init(&loop->uv, &p->again);
    sessions_init(&p->sessions, loop, options, backend);

    return p;
}


static void on_timer_closed(uv_handle_t *timer)
{
    struct ptth *p = timer->data;

    if (--p->timers == 0) {
        free(p);
    }
}


void ptth_free(struct ptth *p)
{
    while (p->first != NULL) {
        struct link *l = p->first;

        p->first = l->next;
        link_free(l);
    }

    sessions_free(&p->sessions);
    p->timers = 2;
    uv_close((uv_handle_t *) &p->tick, on_timer_closed);
    uv_close((uv_handle_t *) &p->again, on_timer_closed);
}
