/*
 * A connection to a backend that speaks HTTP/2, of which the agent is the
 * client: frames, flow control, limits. Each request is a stream.
 *
 * All that comes of a stream is handed over at once; who does not want more
 * does not call h2conn_consume(), and gets no more than a window.
 */

#ifndef AGENT_H2CONN_H
#define AGENT_H2CONN_H

#include <stdbool.h>

#include "buf.h"
#include "conn.h"
#include "exchange.h"
#include "h2head.h"
#include "loop.h"

struct h2conn;

/* The user embeds it in what is his. */
struct h2stream {
    struct h2conn *conn; /* NULL before and after */
    bool sent;     /* its head is on its way */
    bool answered; /* a final head has come */
    bool kept;     /* the connection had served others before */

    /* the rest belongs to h2conn.c */
    struct h2stream *next;
    struct h2stream *prev;
    int32_t id;
    uint64_t since;
    bool deferred;
    const char *invalid;
};

/*
 * Called from the loop, or from within h2conn_consume() and the like of
 * another stream; a callback may reset its own stream, and begin others. None
 * is made from h2conn_request(), nor after end, lost and h2conn_reset().
 */
struct h2conn_handler {
    /* The final head; interim ones are not reported. */
    void (*head)(struct h2stream *s, const struct head *head);

    /* Bytes of the body. */
    void (*data)(struct h2stream *s, const char *p, size_t n);

    /* That was all; trailers->nfields may be 0. */
    void (*end)(struct h2stream *s, const struct head *trailers);

    /* It ends otherwise. refused: the backend has done nothing of it. */
    void (*lost)(struct h2stream *s, enum exchange_result result,
                 bool refused, const char *why);

    /*
     * Up to n bytes of the request's body into p, and *end if no more come;
     * returns how many. None and no end: it is asked again after
     * h2conn_resume().
     */
    size_t (*take)(struct h2stream *s, char *p, size_t n, bool *end);

    /* The connection does not exist any more; its streams were lost. */
    void (*closed)(void *arg, struct h2conn *c);
};

struct h2conn {
    struct h2conn *next; /* the user's */

    /* the rest belongs to h2conn.c */
    const struct h2conn_handler *handler;
    void *arg;
    size_t *allowed;
    struct loop *loop;
    struct conn *conn;
    nghttp2_session *h2;
    struct task flush;
    struct buf out;
    struct h2response response; /* the one whose fields come */
    struct h2stream *first;
    size_t nstreams;
    unsigned resets; /* by us */
    uint64_t heard; /* when something came last */
    uint64_t since; /* when the last stream ended */
    bool blocked; /* the connection takes no more for now */
    bool deaf;    /* nor ever; something may still come */
    bool settled; /* the backend's SETTINGS have come */
    bool worked;  /* a response has come */
    bool retired; /* gets no more streams */
    const char *broken; /* it ends; why */
};

/*
 * Dial, by the pool; it may be used at once. *allowed is the caller's, for all
 * connections: how many streams the backend has allowed on the last one; at
 * first as many as there can be.
 */
struct h2conn *h2conn_new(struct loop *loop, struct pool *pool,
                          const struct h2conn_handler *handler, void *arg,
                          size_t *allowed);

/* For how many more streams there is room. */
size_t h2conn_room(const struct h2conn *c);

/*
 * Send a request, with a body or not; s is to be all zeroes. The fields stay
 * the caller's and must live as long as the stream. False if the connection
 * takes no more of them: there is no room then.
 */
bool h2conn_request(struct h2conn *c, struct h2stream *s,
                    const struct h2fields *fields, bool body);

/* There is something to take. */
void h2conn_resume(struct h2stream *s);

/* n bytes of those that came are done with: as many more may come. */
void h2conn_consume(struct h2stream *s, size_t n);

/* The response is wanted no more. */
void h2conn_reset(struct h2stream *s);

/* To be called about once a second: connections that nobody uses end. */
void h2conn_tick(struct h2conn *c);

/* Close it; it must have no streams. No callback any more. */
void h2conn_free(struct h2conn *c);

#endif
