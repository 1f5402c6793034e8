/*
 * The answer to a poll: a JSON array of request IDs. Pure.
 */

#ifndef AGENT_IDLIST_H
#define AGENT_IDLIST_H

#include <stddef.h>

#define IDLIST_MAX_BYTES (1024 * 1024)
#define ID_MAX 256

/*
 * Calls each(arg, id) for the IDs in text, in their order. An empty text,
 * null and [] have none. IDs that cannot be a field's value are left out.
 * Returns NULL, or what is wrong; each was not called then.
 */
const char *idlist_parse(const char *text, size_t n,
                         void (*each)(void *arg, const char *id), void *arg);

#endif
