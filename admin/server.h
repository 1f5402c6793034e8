/*
 * The address of the API: http://host[:port]/prefix/, https://..., or
 * unix:/path/of/a/socket:/prefix/.
 */

#ifndef ADMIN_SERVER_H
#define ADMIN_SERVER_H

#include <stdbool.h>

#include "agent/origin.h"

/* Returns NULL, or what is wrong. To be freed by origin_free() anyway. */
const char *server_parse(struct origin *server, const char *text);

/* Whether both are the same server, whatever the prefix. */
bool server_same(const struct origin *a, const struct origin *b);

#endif
