#include "poll.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "idlist.h"
#include "idset.h"
#include "jitter.h"
#include "log.h"
#include "memory.h"

#define REMEMBERED 1000
#define BACKOFF_MIN_MS 1
#define BACKOFF_MAX_MS 3000
#define BACKOFF_JITTER 10 /* percent */

/* An answer without anything new that came sooner than this is followed by
 * a pause: some proxies offer what is in progress again at once. */
#define TOO_SOON_MS 100
#define PAUSE_MAX_MS 100

/* A poll on which nothing went wrong for so long is waiting at the proxy. */
#define SETTLED_MS 250

struct waiting {
    struct waiting *next;
    char id[];
};

enum state { STATE_UNKNOWN, STATE_UP, STATE_DOWN };

struct poller {
    struct loop *loop;
    const struct options *options;
    struct proxy *proxy;
    struct forwarder *forwarder;
    void (*on_quiet)(void *arg);
    void *arg;

    struct exchange *exchange; /* the outstanding poll */
    struct buf list;
    int status;
    char answer[512]; /* describes one that is not 200 */
    uint64_t began;
    uint64_t moved;
    uv_timer_t deadline;
    uv_timer_t settled;
    uv_timer_t again;
    int timers; /* not closed yet */
    uint64_t backoff;
    uint64_t pause;
    enum state state;
    struct log_reason down;

    struct idset *seen;
    struct waiting *first; /* IDs whose turn has not come */
    struct waiting **last;
    size_t nwaiting;
    size_t nrunning;
    size_t nnew; /* in this answer */
    bool paused;
    bool stopped;
    bool quiet; /* said so */
};


static void next_poll(struct poller *p);


static void state_up(struct poller *p)
{
    if (p->state != STATE_UP) {
        log_info("connected to proxy %s", p->options->proxy.authority);
        p->state = STATE_UP;
    }

    p->backoff = 0;
}


static void state_down(struct poller *p, int status, const char *why)
{
    if (log_reason(&p->down, p->state != STATE_DOWN, status, why)) {
        log_warn("proxy unreachable: %s; retrying", why);
        p->state = STATE_DOWN;
    }
}


static void on_again(uv_timer_t *timer)
{
    next_poll(timer->data);
}


static void poll_after(struct poller *p, uint64_t ms)
{
    if (ms == 0) {
        next_poll(p);
    } else {
        uv_timer_start(&p->again, on_again, ms, 0);
    }
}


static void failed(struct poller *p, int status, const char *why)
{
    log_debug("poll: %s", why);
    state_down(p, status, why);

    p->backoff = p->backoff == 0 ? BACKOFF_MIN_MS : p->backoff * 2;
    if (p->backoff > BACKOFF_MAX_MS) {
        p->backoff = BACKOFF_MAX_MS;
    }

    poll_after(p, jitter(p->backoff, BACKOFF_JITTER));
}


/* IDs ---------------------------------------------------------------------*/

static void tell_if_quiet(struct poller *p)
{
    if (p->stopped && !p->quiet && poll_outstanding(p) == 0) {
        p->quiet = true;
        p->on_quiet(p->arg);
    }
}


static void run_waiting(struct poller *p)
{
    while (p->first != NULL
           && p->nrunning < (size_t) p->options->max_concurrency) {
        struct waiting *w = p->first;

        p->first = w->next;
        if (p->first == NULL) {
            p->last = &p->first;
        }

        p->nwaiting--;
        p->nrunning++;
        forward_start(p->forwarder, w->id);
        free(w);
    }
}


static void on_id(void *arg, const char *id)
{
    struct poller *p = arg;
    struct waiting *w;
    size_t n;

    if (!idset_add(p->seen, id)) {
        return;
    }

    n = strlen(id);
    w = mem_alloc(sizeof(*w) + n + 1);
    memcpy(w->id, id, n + 1);
    w->next = NULL;
    *p->last = w;
    p->last = &w->next;
    p->nwaiting++;
    p->nnew++;
}


static void on_forward_end(void *arg)
{
    struct poller *p = arg;

    p->nrunning--;
    run_waiting(p);

    if (p->stopped) {
        tell_if_quiet(p);

    } else if (p->exchange == NULL
               && !uv_is_active((uv_handle_t *) &p->again)) {
        next_poll(p);
    }
}


/* Poll --------------------------------------------------------------------*/

static void poll_over(struct poller *p)
{
    uv_timer_stop(&p->deadline);
    uv_timer_stop(&p->settled);
    p->exchange = NULL;
}


static void on_head(void *arg, const struct head *head)
{
    struct poller *p = arg;

    p->status = head->status;

    if (head->status != 200) {
        proxy_describe(head, p->answer, sizeof(p->answer));
    }
}


static void on_data(void *arg, const char *data, size_t n)
{
    struct poller *p = arg;

    if (p->status != 200) {
        return;
    }

    if (buf_len(&p->list) + n > IDLIST_MAX_BYTES) {
        exchange_abort(p->exchange);
        poll_over(p);
        failed(p, 200, "the list of requests is too long");
        return;
    }

    buf_append(&p->list, data, n);
}


static void on_drain(void *arg)
{
    (void) arg;
}


static void on_done(void *arg, const struct exchange_end *e)
{
    struct poller *p = arg;
    const char *error;

    poll_over(p);

    if (e->result != EXCHANGE_OK) {
        failed(p, 0, e->why);
        return;
    }

    if (p->status != 200) {
        failed(p, p->status, p->answer);
        return;
    }

    p->nnew = 0;
    error = idlist_parse(buf_len(&p->list) > 0 ? buf_ptr(&p->list) : "",
                         buf_len(&p->list), on_id, p);
    if (error != NULL) {
        char text[128];

        snprintf(text, sizeof(text), "the list of requests is not valid: %s",
                 error);
        failed(p, 200, text);
        return;
    }

    state_up(p);

    if (p->nnew > 0 || loop_now(p->loop) - p->began >= TOO_SOON_MS) {
        p->pause = 0;
    } else {
        p->pause = p->pause == 0 ? 1 : p->pause * 2;
        if (p->pause > PAUSE_MAX_MS) {
            p->pause = PAUSE_MAX_MS;
        }
    }

    run_waiting(p);
    poll_after(p, p->pause);
}


static const struct exchange_handler handler = {
    .head = on_head,
    .data = on_data,
    .drain = on_drain,
    .done = on_done,
};


static void on_deadline(uv_timer_t *timer)
{
    struct poller *p = timer->data;
    bool connected = exchange_connected(p->exchange);

    exchange_abort(p->exchange);
    poll_over(p);

    if (connected) {
        /* a proxy that waits longer than we do is not away; its connection
         * was closed, so if it is, that shows when a new one is made */
        log_debug("poll: no answer within -proxy-timeout");
        poll_after(p, BACKOFF_MIN_MS);
    } else {
        failed(p, 0, "no connection within -proxy-timeout");
    }
}


static void on_settled(uv_timer_t *timer)
{
    struct poller *p = timer->data;

    if (exchange_connected(p->exchange)) {
        uv_timer_stop(timer);
        state_up(p);
    }
}


static void next_poll(struct poller *p)
{
    if (p->stopped || p->paused || p->exchange != NULL
        || poll_outstanding(p) >= (size_t) p->options->max_concurrency) {
        return;
    }

    buf_reset(&p->list);
    p->status = 0;
    p->began = loop_now(p->loop);
    p->exchange = proxy_call(p->proxy, CALL_PENDING, NULL, &p->moved, &handler,
                             p);

    uv_timer_start(&p->deadline, on_deadline, p->options->proxy_timeout, 0);
    if (p->state != STATE_UP) {
        uv_timer_start(&p->settled, on_settled, SETTLED_MS, SETTLED_MS);
    }
}


void poll_start(struct poller *p)
{
    p->paused = false;

    if (!uv_is_active((uv_handle_t *) &p->again)) {
        next_poll(p);
    }
}


void poll_pause(struct poller *p)
{
    p->paused = true;
    p->state = STATE_UNKNOWN;
    p->backoff = 0;
    uv_timer_stop(&p->again);
}


void poll_take(struct poller *p, struct span answer)
{
    if (idlist_parse(answer.n > 0 ? answer.p : "", answer.n, on_id, p)
        == NULL) {
        run_waiting(p);
    }
}


void poll_stop(struct poller *p)
{
    p->stopped = true;
    uv_timer_stop(&p->again);

    if (p->exchange != NULL) {
        exchange_abort(p->exchange);
        poll_over(p);
    }

    tell_if_quiet(p);
}


size_t poll_outstanding(const struct poller *p)
{
    return p->nrunning + p->nwaiting;
}


struct poller *poll_new(struct loop *loop, const struct options *options,
                        struct proxy *proxy, struct forwarder *forwarder,
                        void (*on_quiet)(void *arg), void *arg)
{
    struct poller *p = mem_zalloc(sizeof(*p));

    p->loop = loop;
    p->options = options;
    p->proxy = proxy;
    p->forwarder = forwarder;
    p->on_quiet = on_quiet;
    p->arg = arg;
    p->last = &p->first;
    p->seen = idset_new(REMEMBERED);
    p->deadline.data = p->settled.data = p->again.data = p;
    uv_timer_init(&loop->uv, &p->deadline);
    uv_timer_init(&loop->uv, &p->settled);
    uv_timer_init(&loop->uv, &p->again);

    forwarder->on_end = on_forward_end;
    forwarder->arg = p;

    return p;
}


static void on_timer_closed(uv_handle_t *handle)
{
    struct poller *p = handle->data;

    if (--p->timers == 0) {
        free(p);
    }
}


void poll_abort(struct poller *p)
{
    p->quiet = true;
    poll_stop(p);

    while (p->first != NULL) {
        struct waiting *w = p->first;

        p->first = w->next;
        free(w);
    }

    p->last = &p->first;
    p->nwaiting = 0;
}


void poll_free(struct poller *p)
{
    poll_abort(p);
    buf_free(&p->list);
    idset_free(p->seen);

    /* closed later, in any order; the last one frees p */
    p->timers = 3;
    uv_close((uv_handle_t *) &p->deadline, on_timer_closed);
    uv_close((uv_handle_t *) &p->settled, on_timer_closed);
    uv_close((uv_handle_t *) &p->again, on_timer_closed);
}
