/*
 * The HTTP/2 server that the agent is on a connection to the proxy: frames,
 * flow control, liveness, limits. It knows the connection as an upgraded
 * exchange only. Each request is a stream (stream.h).
 */

#ifndef AGENT_SESSION_H
#define AGENT_SESSION_H

#include <nghttp2/nghttp2.h>

#include "backend.h"
#include "buf.h"
#include "exchange.h"
#include "h2head.h"
#include "loop.h"
#include "options.h"

struct session;
struct stream;

/* What all sessions share. */
struct sessions {
    struct loop *loop;
    const struct options *options;
    struct backend *backend;
    size_t nstreams; /* open in all of them */

    /* the rest belongs to session.c */
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    struct buf out; /* what one turn sends, before it is sent */
};

/* Fill in a zeroed one; what is pointed to stays the caller's. */
void sessions_init(struct sessions *all, struct loop *loop,
                   const struct options *options, struct backend *backend);
void sessions_free(struct sessions *all);

struct session_handler {
    /* The proxy opens no more streams (GOAWAY). */
    void (*draining)(void *arg);

    /* It is over, everything is sent: to be freed, now or later. why is NULL
     * when that was intended. */
    void (*closed)(void *arg, const char *why);
};

/* x is an upgraded exchange and stays the caller's. The callbacks are made
 * from a deferred task, or from session_tick(). */
struct session *session_new(struct sessions *all, struct exchange *x,
                            const struct session_handler *handler, void *arg);

/* Gives up all streams; no callback any more. */
void session_free(struct session *s);

/* The exchange's data and drain. */
void session_input(struct session *s, const char *p, size_t n);
void session_drain(struct session *s);

/* To be called about once a second, or more often. */
void session_tick(struct session *s);

/* Take no more streams, finish those that are open, then close. */
void session_goaway(struct session *s);

/* Whether all is done and said, so that the proxy may close. */
bool session_is_over(const struct session *s);

/* Streams that are open. */
size_t session_streams(const struct session *s);

/* For streams ------------------------------------------------------------ */

/* The parts of a session that its streams use. */
struct session_core {
    struct sessions *all;
    nghttp2_session *h2;
    struct stream *first;
    struct stream *dirty; /* have something for stream_flush() */
    struct stream **dirty_end;
    size_t nstreams;
    size_t grown; /* bytes by which windows were opened further */
};

/* Something is to be sent, by the end of this turn. */
void session_wake(struct session_core *core);

#endif
