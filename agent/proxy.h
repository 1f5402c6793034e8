/*
 * The calls that the agent makes to the proxy: same base URL, same fields,
 * same credentials.
 */

#ifndef AGENT_PROXY_H
#define AGENT_PROXY_H

#include "exchange.h"
#include "loop.h"
#include "options.h"

enum proxy_call {
    CALL_PENDING,  /* GET agent/pending: what is to be done */
    CALL_REQUEST,  /* GET agent/request: one request */
    CALL_RESPONSE, /* POST agent/response, chunked */
    CALL_PTTH      /* GET agent/ptth, an upgrade */
};

struct proxy;

/* NULL after a line in the log: credentials or certificates are not usable,
 * or would travel in the clear. The options stay the caller's. */
struct proxy *proxy_new(struct loop *loop, const struct options *options);
void proxy_free(struct proxy *proxy);

/* Start a call; id is for CALL_REQUEST and CALL_RESPONSE, NULL for the others.
 * The rest as exchange_start(). */
struct exchange *proxy_call(struct proxy *proxy, enum proxy_call call,
                            const char *id, uint64_t *moved,
                            const struct exchange_handler *handler, void *arg);

/*
 * Describe an answer that is not the expected one, in buf: the status, and
 * the Location of a redirect. Returns buf.
 */
const char *proxy_describe(const struct head *head, char *buf, size_t size);

#endif
