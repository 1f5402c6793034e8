/*
 * Heads of messages between HTTP/2 and what the agent is made of: as their
 * fields come, and as nghttp2 takes them. From the proxy come requests, from a
 * backend that speaks HTTP/2 responses. Pure.
 */

#ifndef AGENT_H2HEAD_H
#define AGENT_H2HEAD_H

#include <stdbool.h>

#include <nghttp2/nghttp2.h>

#include "exchange.h"
#include "head.h"

/* One head at a time: HTTP/2 does not interleave them. */
struct h2request {
    struct head head; /* what the backend gets to see */
    struct span protocol; /* of an extended CONNECT, as the next two */
    struct span user; /* end user, as the proxy says; may be empty */
    struct span id;   /* request ID */
    bool too_large;

    /* the rest belongs to h2head.c */
    struct span authority;
    size_t list; /* the size of it all, as RFC 9113 counts */
    size_t used;
    char text[2 * HEAD_MAX_BYTES]; /* twice: cookies are joined */
};

/* Begin a head. Start with a zeroed struct. */
void h2request_begin(struct h2request *r);

/* A field, as nghttp2 has validated it. Copied. */
void h2request_field(struct h2request *r, struct span name,
                     struct span value);

/*
 * That was all: make r->head whole. Returns NULL, or what is wrong with it.
 * The spans are valid until the next h2request_begin().
 */
const char *h2request_end(struct h2request *r);

void h2request_free(struct h2request *r);

/* As h2request: the head of a response, or its trailers, of one connection. */
struct h2response {
    struct head head; /* the status is 0 in trailers */
    bool too_large;

    /* the rest belongs to h2head.c */
    size_t list;
    size_t used;
    char text[HEAD_MAX_BYTES];
};

void h2response_begin(struct h2response *r);

/* A field, as nghttp2 has validated it. Copied. */
void h2response_field(struct h2response *r, struct span name,
                      struct span value);

void h2response_free(struct h2response *r);

/* Fields in one piece of memory, given to free(). */
struct h2fields {
    size_t n;
    nghttp2_nv nv[];
};

/* The head of a request; scheme is that of the backend. */
struct h2fields *h2fields_request(const struct exchange_request *r,
                                  struct span scheme);

/*
 * The head of a response: status, the fields of h that pass (the answer to a
 * WebSocket's key does not: it belongs to our key), and a Content-Length
 * unless length is negative.
 */
struct h2fields *h2fields_response(int status, const struct head *h,
                                   int64_t length);

/* The trailers that pass; NULL if there are none. */
struct h2fields *h2fields_trailers(const struct field *fields, size_t n);

#endif
