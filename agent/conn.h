/*
 * Connections to one origin, kept for reuse: last in, first out, so that the
 * number of open ones follows the load. Plain ones (TCP, unix) are made
 * here, others by libcurl.
 */

#ifndef AGENT_CONN_H
#define AGENT_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "curlconn.h"
#include "exchange.h"
#include "loop.h"
#include "origin.h"

struct pool;

struct conn {
    struct pool *pool;
    struct conn *next; /* in the pool's list of idle or of opening ones */
    struct conn *prev;
    struct watch *watch;
    int fd;
    struct curlconn *curl; /* NULL for a plain one */
    uv_timer_t *more;      /* see conn_more(); not for a plain one */
    bool reused;  /* has carried an exchange before */
    bool opening; /* not connected yet */
    size_t address;   /* the one being tried */
    size_t tries;
    bool hung; /* one of them gave no answer so far */
    uint64_t tried_at;
    uint64_t patience; /* with an address, in milliseconds */
    uint64_t since;   /* when it began to open, or became idle */
    const char *error; /* to be reported at the end of the turn */
    struct task failed;

    /* the user of an open connection; all take arg */
    void (*on_open)(void *arg);
    void (*on_fail)(void *arg, enum exchange_result result,
                    const char *why);
    void (*on_event)(void *arg, int events);
    void *arg;
};

/*
 * The origin stays the caller's and must outlive the pool, as what curl
 * points to; curl is NULL for plain connections.
 */
struct pool *pool_new(struct loop *loop, const struct origin *origin,
                      const struct curlhttp_config *curl);
void pool_free(struct pool *pool);

/*
 * What may be had of the kept ones: any; one that the origin will hardly close
 * just then, by what was seen of it, for what can't be sent twice; none.
 */
enum pool_which { POOL_KEPT, POOL_SAFE, POOL_FRESH };

/*
 * A connection with the callbacks set by the caller afterwards. A kept one
 * (reused) is usable at once and makes no on_open call. A new one calls
 * on_open or on_fail, never from within this call; it does not exist any more
 * after on_fail.
 */
struct conn *pool_get(struct pool *pool, enum pool_which which);

/* As recv(), sendmsg() and shutdown() for writing, of which only a plain
 * connection is capable. */
ssize_t conn_recv(struct conn *c, void *p, size_t n);
ssize_t conn_send(struct conn *c, const struct iovec *iov, int n);
void conn_shutdown(struct conn *c);

/*
 * There may be more to read than the descriptor shows: call on_event again.
 * To be called whenever reading goes on, or stopped before EAGAIN.
 */
void conn_more(struct conn *c);

/* Keep an open connection, on which nothing is outstanding, for later. */
void conn_keep(struct conn *c);

/* Close it, whatever its state. The memory lives on until the turn ends. */
void conn_close(struct conn *c);

/* Close a reused one that the origin has closed before it answered. */
void conn_lost(struct conn *c);

#endif
