/*
 * Which fields go from one connection to the next (RFC 9110 §7.6.1), and how
 * HTTP/1.1 writes them.
 */

#ifndef AGENT_FIELDS_H
#define AGENT_FIELDS_H

#include <stdbool.h>

#include "buf.h"
#include "head.h"

/* Whether a Connection field of h names it. */
bool field_is_named(const struct head *h, struct span name);

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

/* Write "name: value" CRLF. */
void field_append(struct buf *out, struct span name, struct span value);

/* Write a Content-Length. */
void field_append_length(struct buf *out, int64_t length);

#endif
