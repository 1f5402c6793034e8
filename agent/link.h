/*
 * One connection for PTTH: the call to the proxy that asks for it, then the
 * session on it.
 */

#ifndef AGENT_LINK_H
#define AGENT_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "proxy.h"
#include "session.h"

struct link;

enum link_failure {
    LINK_AWAY,   /* no connection, or not for us: it may come */
    LINK_BUSY,   /* the proxy says when to come again */
    LINK_REFUSED /* the proxy, or what is in between, knows no PTTH */
};

/* What to do about the first two is up to the receiver. Neither failed nor
 * down leaves a link. */
struct link_handler {
    void (*up)(void *arg, struct link *l);
    void (*draining)(void *arg, struct link *l); /* by the proxy */
    void (*failed)(void *arg, struct link *l, enum link_failure failure,
                   const char *why);
    /* why is NULL when that was intended */
    void (*down)(void *arg, struct link *l, const char *why);
};

enum link_state { LINK_DIALLING, LINK_UP, LINK_DRAINING };

struct link {
    enum link_state state;
    struct link *next; /* the user's */
    int worker;        /* of the proxy, once up: from 0 on; -1 is unknown */
    int workers;       /* how many there are; 0 is unknown */
    uint64_t since;    /* connected, or up */
    uint64_t retry_after; /* milliseconds, with LINK_BUSY */
    int status;        /* of an answer that is no upgrade; 0: there is none */
    struct buf answer; /* a 200 of this kind: its body */

    /* the rest belongs to link.c */
    struct sessions *all;
    struct exchange *exchange;
    struct session *session;
    const struct link_handler *handler;
    void *arg;
    uint64_t moved;
    enum link_failure failure;
    bool listing; /* the answer may be a list of IDs */
    char why[512];
};

/* Dial. No callback from within. */
struct link *link_new(struct sessions *all, struct proxy *proxy,
                      const struct link_handler *handler, void *arg);

/* To be called about once a second, or more often. */
void link_tick(struct link *l);

/* Finish what is going on, then go. For one that is up. */
void link_goaway(struct link *l);

/* Close it; no callback any more. */
void link_free(struct link *l);

#endif
