/*
 * What both transports do with a request on its way to the backend: which
 * are refused, which fields it gets, what is logged when it fails.
 */

#ifndef AGENT_BACKEND_H
#define AGENT_BACKEND_H

#include <stdbool.h>

#include "exchange.h"
#include "loop.h"
#include "options.h"

struct backend {
    const struct options *options;
    struct carrier *carrier;
    struct carrier *upgrades; /* for requests that ask for a protocol */
    uint64_t idle_timeout; /* of a request that stands still, milliseconds */

    /* the rest belongs to backend.c */
    struct field *fields; /* of the request being written */
    size_t room;
    bool failing;
};

/* Fill in a zeroed one; false after a line in the log. The options stay the
 * caller's. */
bool backend_init(struct backend *b, struct loop *loop,
                  const struct options *options);
void backend_free(struct backend *b);

/* Whether the agent answers h itself: the status, *why says why; or 0. */
int backend_refuses(const struct head *h, const char **why);

/*
 * Send it: h with framing for a body of that length (see exchange.h). user is
 * empty when it is not known. own is appended: fields of the agent's own.
 * upgrade is NULL, or the protocol asked for. The rest as exchange_start().
 */
struct backend_request {
    const struct head *head;
    int64_t length;
    struct span user;
    const char *upgrade;
    const struct field *own;
    size_t nown;
    uint64_t *moved;
};

struct exchange *backend_start(struct backend *b,
                               const struct backend_request *r,
                               const struct exchange_handler *handler,
                               void *arg);

/* It has failed: log that, as often as is of use. Returns the status for the
 * client. */
int backend_failed(struct backend *b, const struct exchange_end *e);

/* It has not. */
void backend_worked(struct backend *b);

#endif
