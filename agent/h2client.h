/*
 * Exchanges with a backend that speaks HTTP/2: many at a time on a connection,
 * and as many connections as it takes.
 */

#ifndef AGENT_H2CLIENT_H
#define AGENT_H2CLIENT_H

#include "curlhttp.h"
#include "exchange.h"
#include "loop.h"
#include "origin.h"

/*
 * The origin stays the caller's and must outlive the carrier. curl is NULL for
 * plain connections, on which the backend is known to speak HTTP/2; with it
 * libcurl makes them, and TLS asks for it (config->http2).
 */
struct carrier *h2client_new(struct loop *loop, const struct origin *origin,
                             const struct curlhttp_config *curl);

#endif
