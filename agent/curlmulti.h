/*
 * A libcurl multi handle driven by the event loop through its socket
 * interface.
 *
 * libcurl (7.88) must not be called from its own callbacks, and what it calls
 * back from within one call may be anything: so whoever uses this changes a
 * transfer (adds it, pauses it, removes it) from a deferred task only.
 */

#ifndef AGENT_CURLMULTI_H
#define AGENT_CURLMULTI_H

#include <stdbool.h>

#include <curl/curl.h>

#include "loop.h"

struct curlmulti;

/* What CURLOPT_PRIVATE of every handle added points to. */
struct transfer {
    CURL *easy;
    bool stays; /* in the multi when it is over: CONNECT_ONLY needs that */
    /* It is over, and the handle removed unless it stays. Not called by
     * libcurl. */
    void (*done)(struct transfer *t, CURLcode result);
    /* libcurl wants this socket watched, or not any more; it may be another
     * one's that it closes. Called by libcurl; NULL: nobody wants to know. */
    void (*watched)(struct transfer *t, int fd, bool on);
};

struct curlmulti *curlmulti_new(struct loop *loop);

/* All transfers must be gone; closes the kept connections. */
void curlmulti_free(struct curlmulti *m);

/* A new easy handle with what this driver needs set; aborts without memory. */
CURL *curlmulti_easy(struct curlmulti *m);

/* See the rule above. */
void curlmulti_add(struct curlmulti *m, struct transfer *t);
void curlmulti_remove(struct curlmulti *m, struct transfer *t);

/*
 * Let libcurl go on sending now, instead of having the socket watched until
 * it is writable, which it most probably is. See the rule above, too.
 */
void curlmulti_push(struct curlmulti *m, struct transfer *t);

/*
 * The connection of a transfer that is over, if it is kept: whatever comes on
 * it now, other than the next response, ends it.
 */
void curlmulti_idle(struct curlmulti *m, struct transfer *t, int fd);

/* Watch the descriptor of a transfer that stays no more: it is the user's. */
void curlmulti_let_go(struct curlmulti *m, int fd);

#endif
