/*
 * Which fields go from one connection to the next (RFC 9110 §7.6.1).
 */

#ifndef AGENT_FIELDS_H
#define AGENT_FIELDS_H

#include <stdbool.h>

#include "head.h"

/*
 * Whether the field f of h is passed on: not the hop-by-hop ones, nor those
 * that Connection names, nor Content-Length and Transfer-Encoding (framing is
 * written anew), nor Expect. "TE: trailers" is passed on in a request, and
 * Host always.
 */
bool field_passes(const struct head *h, const struct field *f,
                  enum head_kind kind);

/* Whether a name begins with X-Inverting-Proxy-, with - or _ alike. */
bool field_is_ours(struct span name);

#endif
