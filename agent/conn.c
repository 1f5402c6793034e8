#define _GNU_SOURCE

#include "conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "memory.h"

#define CONNECT_TIMEOUT_MS 10000
#define ADDRESS_TIMEOUT_MS 1000 /* then the name's next one has its turn */
#define IDLE_TIMEOUT_MS 50000 /* servers commonly close after 60 s or more */
#define IDLE_MAX 512
#define KEEPS_AGE_MS 60000 /* then what was seen of the origin is forgotten */
#define SWEEP_MS 1000
#define ADDRESSES_MAX 8
#define ADDRESSES_AGE_MS 30000 /* then the name is resolved again */

struct address {
    struct sockaddr_storage sa;
    socklen_t len;
};

struct pool {
    struct loop *loop;
    const struct origin *origin;
    struct curlhttp_config curl; /* for those made by libcurl */
    bool by_curl;
    struct conn *idle; /* the most recently used first */
    size_t nidle;
    uint64_t keeps;      /* ms: the origin has closed an idle one after that */
    uint64_t keeps_seen; /* when that was seen, or 0 */
    struct conn *opening;
    struct address addresses[ADDRESSES_MAX];
    size_t naddresses;
    size_t preferred; /* worked last time */
    uint64_t resolved_at;
    bool fixed; /* an address, not a name */
    bool resolving;
    uv_getaddrinfo_t resolver;
    uv_timer_t sweep;
    bool closed; /* pool_free() was called, the timer is closed */
    bool dying;
};


static void link_conn(struct conn **list, struct conn *c)
{
    c->prev = NULL;
    c->next = *list;
    if (c->next != NULL) {
        c->next->prev = c;
    }

    *list = c;
}


static void unlink_conn(struct conn **list, struct conn *c)
{
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        *list = c->next;
    }

    if (c->next != NULL) {
        c->next->prev = c->prev;
    }

    c->next = c->prev = NULL;
}


static void conn_event(void *arg, int events);


static void on_more_closed(uv_handle_t *handle)
{
    free(handle);
}


static void close_fd(struct conn *c)
{
    if (c->watch != NULL) {
        watch_free(c->watch);
        c->watch = NULL;
    }

    if (c->curl != NULL) {
        curlconn_close(c->curl);
        uv_close((uv_handle_t *) c->more, on_more_closed);
        c->curl = NULL;
        c->fd = -1;
    }

    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
}


void conn_close(struct conn *c)
{
    struct pool *pool = c->pool;

    close_fd(c);

    if (c->opening) {
        unlink_conn(&pool->opening, c);
    }

    loop_cancel(pool->loop, &c->failed);
    loop_defer_free(pool->loop, c);
}


static void close_idle(struct conn *c)
{
    unlink_conn(&c->pool->idle, c);
    c->pool->nidle--;
    conn_close(c);
}


/* Whether pool->keeps is known. */
static bool has_learnt(const struct pool *pool)
{
    return pool->keeps_seen != 0
           && loop_now(pool->loop) - pool->keeps_seen <= KEEPS_AGE_MS;
}


/* The origin has closed a connection that was idle for so many ms. */
static void learn(struct pool *pool, uint64_t idle)
{
    if (!has_learnt(pool) || idle <= pool->keeps) {
        pool->keeps = idle;
        pool->keeps_seen = loop_now(pool->loop);
    }
}


void conn_lost(struct conn *c)
{
    learn(c->pool, 0);
    conn_close(c);
}


static void fail(struct conn *c, enum exchange_result result, const char *why)
{
    void (*on_fail)(void *arg, enum exchange_result result, const char *why)
        = c->on_fail;
    void *arg = c->arg;

    conn_close(c);
    on_fail(arg, result, why);
}


static void next_address(struct conn *c, int err);


/* Whether this address may be one that drops what it gets, of several. */
static bool is_hanging(const struct conn *c, uint64_t now)
{
    return c->fd >= 0 && c->pool->naddresses > 1
           && now - c->tried_at > c->patience;
}


static void on_sweep(uv_timer_t *timer)
{
    struct pool *pool = timer->data;
    uint64_t now = loop_now(pool->loop);
    struct conn *c, *next;

    for (c = pool->idle; c != NULL; c = next) {
        next = c->next;
        if (now - c->since > IDLE_TIMEOUT_MS) {
            close_idle(c);
        }
    }

    for (c = pool->opening; c != NULL; c = c->next) {
        if (is_hanging(c, now)) {
            c->hung = true;
            next_address(c, ETIMEDOUT);
        }
    }

    /* a failure may start a new connection, which is put at the front, and
     * may end others: look from the front each time */
    do {
        for (c = pool->opening; c != NULL; c = c->next) {
            if (now - c->since > CONNECT_TIMEOUT_MS) {
                fail(c, EXCHANGE_CONNECT_TIME, "timed out connecting");
                break;
            }
        }
    } while (c != NULL);

    if (pool->idle == NULL && pool->opening == NULL) {
        uv_timer_stop(&pool->sweep);
    }
}


static void start_sweep(struct pool *pool)
{
    if (!uv_is_active((uv_handle_t *) &pool->sweep)) {
        uv_timer_start(&pool->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    }
}


/* Reported later: pool_get() must not call back. */
static void run_failed(struct task *task)
{
    struct conn *c = (struct conn *) ((char *) task
                                      - offsetof(struct conn, failed));

    fail(c, EXCHANGE_UNREACHABLE, c->error);
}


static void fail_later(struct conn *c, const char *why)
{
    c->error = why;
    loop_defer(c->pool->loop, &c->failed);
}


/* One attempt; 0 or an errno. */
static int try_address(struct conn *c)
{
    struct pool *pool = c->pool;
    const struct address *a = &pool->addresses[c->address];
    int one = 1;

    c->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                   0);
    if (c->fd < 0) {
        return errno;
    }

    if (a->sa.ss_family != AF_UNIX) {
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }

    /* a unix socket whose queue is full says EAGAIN: that is a failure */
    if (connect(c->fd, (const struct sockaddr *) &a->sa, a->len) != 0
        && errno != EINPROGRESS) {
        return errno;
    }

    c->watch = watch_new(pool->loop, c->fd, conn_event, c);
    if (c->watch == NULL) {
        return EBADF;
    }

    watch_want(c->watch, UV_WRITABLE);
    c->tried_at = loop_now(pool->loop);

    return 0;
}


/* Try the addresses from the current one on, around the list, once each. */
static void try_addresses(struct conn *c, int err)
{
    struct pool *pool = c->pool;

    while (c->tries < pool->naddresses) {
        c->tries++;
        err = try_address(c);
        if (err == 0) {
            return;
        }

        close_fd(c);
        c->address = (c->address + 1) % pool->naddresses;
    }

    if (c->hung) {
        /* that one may only be slow: it has another turn, a longer one */
        c->hung = false;
        c->tries = 0;
        c->patience *= 2;
        try_addresses(c, err);
        return;
    }

    if (!pool->fixed) {
        pool->resolved_at = 0;
    }

    fail_later(c, err == 0 ? "no address" : strerrordesc_np(err));
}


static void next_address(struct conn *c, int err)
{
    close_fd(c);
    c->address = (c->address + 1) % c->pool->naddresses;
    try_addresses(c, err);
}


static void begin(struct conn *c)
{
    c->address = c->pool->preferred;
    c->patience = ADDRESS_TIMEOUT_MS;
    try_addresses(c, 0);
}


static void opened(struct conn *c)
{
    struct pool *pool = c->pool;
    int err = 0;
    socklen_t len = sizeof(err);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0) {
        err = errno;
    }

    if (err != 0) {
        next_address(c, err);
        return;
    }

    pool->preferred = c->address;
    unlink_conn(&pool->opening, c);
    c->opening = false;
    watch_want(c->watch, UV_READABLE);
    c->on_open(c->arg);
}


static void conn_event(void *arg, int events)
{
    struct conn *c = arg;

    if (c->opening) {
        opened(c);

    } else if (c->on_event == NULL) {
        /* idle: closed by the peer, or bytes that nobody asked for */
        learn(c->pool, loop_now(c->pool->loop) - c->since);
        close_idle(c);

    } else {
        c->on_event(c->arg, events);
    }
}


/* By libcurl ------------------------------------------------------------- */

static void on_curl_open(void *arg, const char *why)
{
    struct conn *c = arg;

    if (why != NULL) {
        fail(c, curlconn_refused(c->curl) ? EXCHANGE_BAD
                                          : EXCHANGE_UNREACHABLE, why);
        return;
    }

    c->fd = curlconn_fd(c->curl);
    c->watch = watch_new(c->pool->loop, c->fd, conn_event, c);
    if (c->watch == NULL) {
        fail(c, EXCHANGE_UNREACHABLE, "the connection cannot be watched");
        return;
    }

    unlink_conn(&c->pool->opening, c);
    c->opening = false;
    watch_want(c->watch, UV_READABLE);
    c->on_open(c->arg);
}


static void on_more(uv_timer_t *timer)
{
    struct conn *c = timer->data;

    if (!c->opening) {
        conn_event(c, UV_READABLE);
    }
}


static void begin_curl(struct conn *c)
{
    c->more = mem_zalloc(sizeof(*c->more));
    c->more->data = c;
    uv_timer_init(&c->pool->loop->uv, c->more);
    c->curl = curlconn_open(c->pool->loop, &c->pool->curl, on_curl_open, c);
}


void conn_more(struct conn *c)
{
    if (c->curl != NULL) {
        uv_timer_start(c->more, on_more, 0, 0);
    }
}


ssize_t conn_recv(struct conn *c, void *p, size_t n)
{
    ssize_t rc;

    if (c->curl != NULL) {
        return curlconn_recv(c->curl, p, n);
    }

    do {
        rc = recv(c->fd, p, n, 0);
    } while (rc < 0 && errno == EINTR);

    return rc;
}


ssize_t conn_send(struct conn *c, const struct iovec *iov, int n)
{
    struct msghdr msg = {.msg_iov = (struct iovec *) iov,
                         .msg_iovlen = (size_t) n};
    ssize_t rc;

    if (c->curl != NULL) {
        return curlconn_send(c->curl, iov->iov_base, iov->iov_len);
    }

    do {
        rc = n == 1 ? send(c->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL)
                    : sendmsg(c->fd, &msg, MSG_NOSIGNAL);
    } while (rc < 0 && errno == EINTR);

    return rc;
}


void conn_shutdown(struct conn *c)
{
    shutdown(c->fd, SHUT_WR);
}


/* ------------------------------------------------------------------------ */

static void free_when_quiet(struct pool *pool)
{
    if (pool->closed && !pool->resolving) {
        free(pool);
    }
}


static void on_resolved(uv_getaddrinfo_t *req, int status,
                        struct addrinfo *list)
{
    struct pool *pool = req->data;
    struct conn *c, *next;

    pool->resolving = false;

    if (pool->dying) {
        uv_freeaddrinfo(list);
        free_when_quiet(pool);
        return;
    }

    if (status == 0) {
        pool->naddresses = 0;
        pool->preferred = 0;
        pool->resolved_at = loop_now(pool->loop);

        for (struct addrinfo *ai = list;
             ai != NULL && pool->naddresses < ADDRESSES_MAX; ai = ai->ai_next)
        {
            struct address *a = &pool->addresses[pool->naddresses++];

            memcpy(&a->sa, ai->ai_addr, ai->ai_addrlen);
            a->len = ai->ai_addrlen;
        }
    }

    uv_freeaddrinfo(list);

    for (c = pool->opening; c != NULL; c = next) {
        next = c->next;

        if (c->fd >= 0 || c->failed.queued || c->tries > 0) {
            continue;
        }

        /* old addresses are better than none */
        if (pool->naddresses > 0) {
            begin(c);
        } else {
            fail_later(c, "the name cannot be resolved");
        }
    }
}


static void resolve(struct pool *pool)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int rc;

    if (pool->resolving) {
        return;
    }

    pool->resolver.data = pool;
    rc = uv_getaddrinfo(&pool->loop->uv, &pool->resolver, on_resolved,
                        pool->origin->host, pool->origin->port, &hints);
    if (rc == 0) {
        pool->resolving = true;
    } else {
        on_resolved(&pool->resolver, rc, NULL);
    }
}


/*
 * Whether the origin will hardly close it in the moment in which a request is
 * sent: well before the time after which it has been seen to do that.
 */
static bool is_safe(const struct conn *c)
{
    const struct pool *pool = c->pool;

    return !has_learnt(pool)
           || loop_now(pool->loop) - c->since < pool->keeps / 2;
}


struct conn *pool_get(struct pool *pool, enum pool_which which)
{
    struct conn *c = pool->idle;

    if (c != NULL
        && (which == POOL_KEPT || (which == POOL_SAFE && is_safe(c)))) {
        unlink_conn(&pool->idle, c);
        pool->nidle--;
        return c;
    }

    if (c != NULL && which == POOL_SAFE) {
        /* the new one takes its place: there are no more than are needed */
        close_idle(c);
    }

    c = mem_zalloc(sizeof(*c));
    c->pool = pool;
    c->fd = -1;
    c->opening = true;
    c->failed.run = run_failed;
    c->since = loop_now(pool->loop);
    link_conn(&pool->opening, c);
    start_sweep(pool);

    if (pool->by_curl) {
        begin_curl(c);
    } else if (pool->fixed
               || (pool->naddresses > 0 && pool->resolved_at != 0
                   && loop_now(pool->loop) - pool->resolved_at
                      < ADDRESSES_AGE_MS)) {
        begin(c);
    } else {
        resolve(pool);
    }

    return c;
}


void conn_keep(struct conn *c)
{
    struct pool *pool = c->pool;

    if (pool->nidle >= IDLE_MAX || c->curl != NULL) {
        conn_close(c);
        return;
    }

    c->reused = true;
    c->on_event = NULL;
    c->since = loop_now(pool->loop);
    link_conn(&pool->idle, c);
    pool->nidle++;
    watch_want(c->watch, UV_READABLE);
    start_sweep(pool);
}


/* An address that needs no resolver: a socket's path or a number. */
static void fixed_address(struct pool *pool)
{
    const struct origin *o = pool->origin;
    struct address *a = &pool->addresses[0];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *list;

    if (o->unix_path != NULL) {
        struct sockaddr_un *sun = (struct sockaddr_un *) &a->sa;

        sun->sun_family = AF_UNIX;
        memcpy(sun->sun_path, o->unix_path, strlen(o->unix_path) + 1);
        a->len = sizeof(*sun);

    } else if (getaddrinfo(o->host, o->port, &hints, &list) == 0) {
        memcpy(&a->sa, list->ai_addr, list->ai_addrlen);
        a->len = list->ai_addrlen;
        freeaddrinfo(list);

    } else {
        return;
    }

    pool->naddresses = 1;
    pool->fixed = true;
}


struct pool *pool_new(struct loop *loop, const struct origin *origin,
                      const struct curlhttp_config *curl)
{
    struct pool *pool = mem_zalloc(sizeof(*pool));

    pool->loop = loop;
    pool->origin = origin;
    pool->sweep.data = pool;
    uv_timer_init(&loop->uv, &pool->sweep);

    if (curl != NULL) {
        pool->curl = *curl;
        pool->by_curl = true;
    } else {
        fixed_address(pool);
    }

    return pool;
}


static void on_sweep_closed(uv_handle_t *handle)
{
    struct pool *pool = handle->data;

    pool->closed = true;
    free_when_quiet(pool);
}


void pool_free(struct pool *pool)
{
    pool->dying = true;

    while (pool->idle != NULL) {
        close_idle(pool->idle);
    }

    if (pool->resolving) {
        uv_cancel((uv_req_t *) &pool->resolver);
    }

    uv_close((uv_handle_t *) &pool->sweep, on_sweep_closed);
}
