/*
 * The loop that asks the proxy for work: one poll outstanding at a time,
 * back-off when it fails, bounded concurrency.
 */

#ifndef AGENT_POLL_H
#define AGENT_POLL_H

#include "forward.h"
#include "loop.h"
#include "options.h"
#include "proxy.h"

struct poller;

/* on_quiet is called, once, when the last request is done after poll_stop().
 * Takes the forwarder's on_end for itself. */
struct poller *poll_new(struct loop *loop, const struct options *options,
                        struct proxy *proxy, struct forwarder *forwarder,
                        void (*on_quiet)(void *arg), void *arg);

void poll_start(struct poller *p);

/* Begin no other poll, until poll_start(). The outstanding one is not broken
 * off: a proxy may tell an ID only once. */
void poll_pause(struct poller *p);

/* Take over IDs that came as the answer to something else; what is no list
 * of IDs is ignored. */
void poll_take(struct poller *p, struct span answer);

/* Ask for no more; what was received is still forwarded. */
void poll_stop(struct poller *p);

/* Requests in progress or waiting for their turn. */
size_t poll_outstanding(const struct poller *p);

/* Ask for no more, and forget what has not begun; no on_quiet any more. */
void poll_abort(struct poller *p);

/* Closes its timers: the loop must run once more, see loop_free(). */
void poll_free(struct poller *p);

#endif
