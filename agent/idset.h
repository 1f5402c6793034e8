/*
 * The request IDs seen last: a proxy may offer one again and again. When it
 * is full, the one not seen for the longest time is forgotten.
 */

#ifndef AGENT_IDSET_H
#define AGENT_IDSET_H

#include <stdbool.h>
#include <stddef.h>

struct idset;

struct idset *idset_new(size_t capacity);
void idset_free(struct idset *set);

/* Remember an ID; false if it was remembered already. */
bool idset_add(struct idset *set, const char *id);

#endif
