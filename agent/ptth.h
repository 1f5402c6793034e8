/*
 * The PTTH connections to the proxy: as many as are of use, made again when
 * they go.
 */

#ifndef AGENT_PTTH_H
#define AGENT_PTTH_H

#include "backend.h"
#include "head.h"
#include "loop.h"
#include "options.h"
#include "proxy.h"

struct ptth;

struct ptth_handler {
    /* The first connection is up. */
    void (*up)(void *arg);

    /* The last one is gone, and not because we wanted that. */
    void (*down)(void *arg, const char *why);

    /* None is up, and this try has failed. status is that of the proxy's
     * answer, or 0. */
    void (*away)(void *arg, int status, const char *why);

    /* The same, and it will fail for long: the proxy knows no PTTH. answer
     * is what it said instead. Returns whether there is another way. */
    bool (*refused)(void *arg, const char *why, struct span answer);

    /* All is done after ptth_stop(). */
    void (*quiet)(void *arg);
};

struct ptth *ptth_new(struct loop *loop, const struct options *options,
                      struct proxy *proxy, struct backend *backend,
                      const struct ptth_handler *handler, void *arg);

void ptth_start(struct ptth *p);

/* Tell the proxy, finish what is going on. */
void ptth_stop(struct ptth *p);

/* Requests in progress. */
size_t ptth_outstanding(const struct ptth *p);

/* Cut everything off. Closes timers: the loop must run once more. */
void ptth_free(struct ptth *p);

#endif
