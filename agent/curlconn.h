/*
 * A connection made by libcurl for another protocol's use: TLS, and HTTP and
 * SOCKS proxies on the way. It costs far more than a socket.
 */

#ifndef AGENT_CURLCONN_H
#define AGENT_CURLCONN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "curlhttp.h"
#include "loop.h"

struct curlconn;

/*
 * With config->http2, TLS is to agree on HTTP/2 (ALPN).
 *
 * on_open(arg, NULL) when it is open, on_open(arg, why) when that failed;
 * never from within this call, nor after curlconn_close().
 */
struct curlconn *curlconn_open(struct loop *loop,
                               const struct curlhttp_config *config,
                               void (*on_open)(void *arg, const char *why),
                               void *arg);

/*
 * Of one that failed, without TLS: whether an HTTP proxy on the way refused to
 * make a tunnel. Requests that it is to pass on itself may be another matter.
 */
bool curlconn_refused(const struct curlconn *c);

/* The descriptor of an open one, for watching it. */
int curlconn_fd(const struct curlconn *c);

/*
 * As recv() and send(): -1 with errno set, EAGAIN when there is nothing to
 * do. Reading goes on until EAGAIN: bytes may wait where no descriptor shows
 * them. Sending what was refused must be tried again with the same bytes.
 */
ssize_t curlconn_recv(struct curlconn *c, void *p, size_t n);
ssize_t curlconn_send(struct curlconn *c, const void *p, size_t n);

/* Whatever its state. The memory lives on until the turn ends. */
void curlconn_close(struct curlconn *c);

#endif
