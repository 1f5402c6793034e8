/*
 * Who carries the exchanges of each hop.
 */

#ifndef AGENT_CARRIERS_H
#define AGENT_CARRIERS_H

#include "exchange.h"
#include "loop.h"
#include "options.h"

/* Towards the proxy; NULL after a line in the log. */
struct carrier *carrier_to_proxy(struct loop *loop,
                                 const struct options *options);

/*
 * Upgrades on the same way. To be asked for after the above, which has looked
 * at the options.
 */
struct carrier *carrier_to_proxy_upgrade(struct loop *loop,
                                         const struct options *options);

/* Towards the backend; NULL after a line in the log. */
struct carrier *carrier_to_backend(struct loop *loop,
                                   const struct options *options);

/* Upgrades to the backend. */
struct carrier *carrier_to_backend_upgrade(struct loop *loop,
                                           const struct options *options);

#endif
