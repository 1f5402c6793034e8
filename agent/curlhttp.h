/*
 * Exchanges by libcurl: TLS, HTTP and SOCKS proxies on the way. They are of
 * HTTP/1.1, on which pausing a transfer holds the peer back at once.
 */

#ifndef AGENT_CURLHTTP_H
#define AGENT_CURLHTTP_H

#include <curl/curl.h>

#include "exchange.h"
#include "loop.h"
#include "origin.h"

struct curlhttp_config {
    const struct origin *origin;
    bool via_proxy;   /* use the proxies that the environment names */
    bool raw_target;  /* send the target byte for byte */
    bool http2;       /* a connection for it: see curlconn.h */
    const char *ca_file; /* may be NULL, as the next two */
    const char *client_cert;
    const char *client_key;
};

/* Set what config says of the way to the origin, and of TLS. */
void curlhttp_configure(CURL *easy, const struct curlhttp_config *config);

/* What config points to must outlive the carrier. */
struct carrier *curlhttp_new(struct loop *loop,
                             const struct curlhttp_config *config);

#endif
