/*
 * One HTTP exchange: a request sent, its response received, both streamed.
 * Callers do not know who carries it: direct.h (plain TCP and unix sockets),
 * curlhttp.h (TLS, HTTP and SOCKS proxies, by libcurl) or h2client.h (HTTP/2).
 *
 * All calls and callbacks happen on the loop's thread. No callback is made
 * from within exchange_start(), nor after done or exchange_abort(). A
 * callback may abort its own exchange.
 */

#ifndef AGENT_EXCHANGE_H
#define AGENT_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "head.h"

struct exchange;

#define EXCHANGE_NO_BODY (-1) /* the request has neither body nor length */
#define EXCHANGE_CHUNKED (-2) /* the request body is sent chunked */

/* More than so much waiting to be sent: the writer should stop. */
#define EXCHANGE_HIGH_WATER (64 * 1024)

struct exchange_request {
    struct span method;
    struct span target; /* sent as it is */
    const struct field *fields; /* with Host, without any framing */
    size_t nfields;
    int64_t length;  /* of the body, or one of the above */
    const char *upgrade; /* protocol to change to, or NULL; see below */
    bool idempotent; /* without a body: sent again, once, when a kept
                        connection proves to be closed */
    uint64_t *moved; /* set to the loop's time whenever bytes move */
};

/*
 * An upgrade has no body, and needs a carrier made for it (carriers.h). When
 * the peer agrees, head is called with the 101; from then on data and
 * exchange_write() are the other protocol's bytes, exchange_finish() says that
 * no more are sent, and done comes when the peer sends no more. What is
 * written before the 101 is held back, and dropped when another answer comes.
 */

enum exchange_result {
    EXCHANGE_OK,
    EXCHANGE_UNREACHABLE,  /* no connection: refused, no address, TLS */
    EXCHANGE_CONNECT_TIME, /* no connection in time */
    EXCHANGE_RESET,        /* connection lost, or ended too early */
    EXCHANGE_BAD           /* what came is not a valid response */
};

struct exchange_end {
    enum exchange_result result;
    const char *why; /* for the log; "" when result is EXCHANGE_OK */
    const char *hint; /* the same without names or addresses */
    const struct field *trailers;
    size_t ntrailers;
};

struct exchange_handler {
    /* The final response's head; interim ones are not reported. */
    void (*head)(void *arg, const struct head *head);

    /* Bytes of the body. To be taken at once: see exchange_pause(). */
    void (*data)(void *arg, const char *p, size_t n);

    /* More than EXCHANGE_HIGH_WATER waited to be sent; now nothing does.
     * (The system's own buffer keeps the connection busy meanwhile.) */
    void (*drain)(void *arg);

    /* It is over; the exchange does not exist any more. */
    void (*done)(void *arg, const struct exchange_end *end);
};

/* What carries exchanges to one origin: direct_new(), curlhttp_new() or
 * h2client_new(). */
struct carrier {
    const struct carrier_ops *ops;
};

struct exchange {
    const struct carrier_ops *ops;
    const struct exchange_handler *handler;
    void *arg;
};

/* What a carrier implements; callers use the functions below. */
struct carrier_ops {
    struct exchange *(*start)(struct carrier *c,
                              const struct exchange_request *request,
                              const struct exchange_handler *handler,
                              void *arg);
    void (*write)(struct exchange *x, const struct span *parts, int nparts);
    void (*finish)(struct exchange *x);
    size_t (*pending)(const struct exchange *x);
    bool (*retract)(struct exchange *x);
    bool (*connected)(const struct exchange *x);
    void (*pause)(struct exchange *x, bool on);
    void (*abort)(struct exchange *x);
    void (*free)(struct carrier *c);
};

static inline struct exchange *
exchange_start(struct carrier *c, const struct exchange_request *request,
               const struct exchange_handler *handler, void *arg)
{
    return c->ops->start(c, request, handler, arg);
}

/*
 * Send more of the request body: the parts one after the other. What cannot
 * be sent at once is copied; the caller stops when exchange_pending() tells
 * more than EXCHANGE_HIGH_WATER, and goes on upon drain.
 */
static inline void exchange_write(struct exchange *x, const struct span *parts,
                                  int nparts)
{
    x->ops->write(x, parts, nparts);
}

/* The request body is over. Not to be called with EXCHANGE_NO_BODY. */
static inline void exchange_finish(struct exchange *x)
{
    x->ops->finish(x);
}

/* Bytes of the request that wait to be sent. */
static inline size_t exchange_pending(const struct exchange *x)
{
    return x->ops->pending(x);
}

/*
 * Take back what was written of the body, not finished yet. False if part of
 * it is on its way already.
 */
static inline bool exchange_retract(struct exchange *x)
{
    return x->ops->retract(x);
}

/* Whether the request has been sent, at least in part. */
static inline bool exchange_connected(const struct exchange *x)
{
    return x->ops->connected(x);
}

/* Stop, or go on, reading the response. What was read already still comes. */
static inline void exchange_pause(struct exchange *x, bool on)
{
    x->ops->pause(x, on);
}

/* Close the connection and forget the exchange; no callback any more. */
static inline void exchange_abort(struct exchange *x)
{
    x->ops->abort(x);
}

static inline void carrier_free(struct carrier *c)
{
    c->ops->free(c);
}

#endif
