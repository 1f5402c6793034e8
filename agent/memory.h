/*
 * Allocation that does not fail: a daemon without memory for a few hundred
 * bytes has nothing better to do than to say so and end.
 */

#ifndef AGENT_MEMORY_H
#define AGENT_MEMORY_H

#include <stddef.h>

/* Each returns memory to be given to free(); none returns NULL. */
void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);
void *mem_realloc(void *p, size_t size);
char *mem_dup(const char *s, size_t len); /* with a NUL added */

/*
 * Blocks of one size that come and go with each request: some of those that
 * are over are kept for the next. Initialise with the size alone.
 */
struct mem_spares {
    size_t size;
    void *first;
    int n;
};

/* A block for free(), or for mem_give(); what is in it is undefined. */
void *mem_take(struct mem_spares *spares);

void mem_give(struct mem_spares *spares, void *p);

#endif
