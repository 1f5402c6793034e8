/*
 * HTTP/1.1 spoken directly over connections: plain ones (TCP and unix
 * sockets), for about a third of what a transfer by libcurl costs, or those
 * that libcurl has made. Upgrades are possible.
 */

#ifndef AGENT_DIRECT_H
#define AGENT_DIRECT_H

#include "curlhttp.h"
#include "exchange.h"
#include "loop.h"
#include "origin.h"

/*
 * The origin stays the caller's and must outlive the carrier. curl is NULL
 * for plain connections; with it libcurl makes them, which is dear, and they
 * are not kept: for upgrades.
 */
struct carrier *direct_new(struct loop *loop, const struct origin *origin,
                           const struct curlhttp_config *curl);

#endif
