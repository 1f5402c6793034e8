/*
 * The POST that carries one response to the proxy. It is opened before there
 * is anything to say, and made again when it fails early enough.
 */

#ifndef AGENT_POST_H
#define AGENT_POST_H

#include <stdbool.h>

#include "buf.h"
#include "exchange.h"
#include "loop.h"
#include "proxy.h"

struct post_handler {
    /* As in struct exchange_handler. */
    void (*drain)(void *arg);

    /* The post is over. delivered: the proxy has read all of it. */
    void (*done)(void *arg, bool delivered, const char *why);
};

struct post {
    struct proxy *proxy;
    const char *id;
    const struct post_handler *handler;
    void *arg;
    uint64_t *moved;
    struct exchange *exchange; /* NULL between tries and when it is over */
    struct buf replay;  /* all that was written, while that is little */
    bool replayable;
    bool finished;
    bool over;
    int tries;
    int status;
    uv_timer_t retry;
};

/* Fill in a zeroed post. id and moved must outlive it. */
void post_init(struct post *post, struct loop *loop, struct proxy *proxy,
               const char *id, uint64_t *moved,
               const struct post_handler *handler, void *arg);

/* Open it within a few milliseconds, at once if something is written. */
void post_open(struct post *post);

/* More of the message; see exchange_write(). Ignored when it is over. */
void post_write(struct post *post, const struct span *parts, int nparts);

/* The message is whole. */
void post_finish(struct post *post);

/* Take back what was written; false if part of it is on its way. */
bool post_retract(struct post *post);

/* Bytes that wait to be sent. */
size_t post_pending(const struct post *post);

/* Cut it off: the proxy must not take what it has for the whole. No done. */
void post_abort(struct post *post);

/* Release everything; on_closed is called when the memory may be freed. */
void post_close(struct post *post, uv_close_cb on_closed);

#endif
