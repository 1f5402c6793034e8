/*
 * One forwarded request: fetched from the proxy, sent to the backend, the
 * response posted; all three at the same time, with bounded memory.
 */

#ifndef AGENT_FORWARD_H
#define AGENT_FORWARD_H

#include "backend.h"
#include "loop.h"
#include "proxy.h"

/* What all forwarded requests share. */
struct forwarder {
    struct loop *loop;
    struct proxy *proxy;
    struct backend *backend;

    /* one of them is over */
    void (*on_end)(void *arg);
    void *arg;

    /* the rest belongs to forward.c */
    struct head head; /* of the request being looked at */
    struct forward *first;
};

/* Fill in a zeroed forwarder; what is pointed to stays the caller's. */
void forwarder_init(struct forwarder *f, struct loop *loop,
                    struct proxy *proxy, struct backend *backend);

/* Take the request with this ID through. */
void forward_start(struct forwarder *f, const char *id);

/* Give up all that are in progress. */
void forwarder_abort_all(struct forwarder *f);

void forwarder_free(struct forwarder *f);

#endif
