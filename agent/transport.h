/*
 * The way that requests take from the proxy to the agent: PTTH, polling, or
 * the one in place of the other (-transport).
 */

#ifndef AGENT_TRANSPORT_H
#define AGENT_TRANSPORT_H

#include "backend.h"
#include "loop.h"
#include "options.h"
#include "proxy.h"

struct transport;

/* on_quiet is called, once, when the last request is done after
 * transport_stop(). What is pointed to stays the caller's. */
struct transport *transport_new(struct loop *loop,
                                const struct options *options,
                                struct proxy *proxy, struct backend *backend,
                                void (*on_quiet)(void *arg), void *arg);

void transport_start(struct transport *t);

/* Take no more requests; finish what was taken. */
void transport_stop(struct transport *t);

/* Requests in progress. */
size_t transport_outstanding(const struct transport *t);

/* Give up what is left. Closes timers: the loop must run once more. */
void transport_free(struct transport *t);

#endif
