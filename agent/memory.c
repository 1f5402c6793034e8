#include "memory.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"

/* A sanitizer is to see the use of what is over. */
#ifdef __SANITIZE_ADDRESS__
#define SPARES_MAX 0
#else
#define SPARES_MAX 64 /* of each size */
#endif


static void *checked(void *p)
{
    if (p == NULL) {
        log_error("out of memory");
        abort();
    }

    return p;
}


void *mem_alloc(size_t size)
{
    return checked(malloc(size ? size : 1));
}


void *mem_zalloc(size_t size)
{
    return checked(calloc(1, size ? size : 1));
}


void *mem_realloc(void *p, size_t size)
{
    return checked(realloc(p, size ? size : 1));
}


char *mem_dup(const char *s, size_t len)
{
    char *p = mem_alloc(len + 1);

    memcpy(p, s, len);
    p[len] = '\0';

    return p;
}


void *mem_take(struct mem_spares *spares)
{
    void *p = spares->first;

    if (p == NULL) {
        return mem_alloc(spares->size);
    }

    memcpy(&spares->first, p, sizeof(spares->first));
    spares->n--;

    return p;
}


void mem_give(struct mem_spares *spares, void *p)
{
    if (spares->n >= SPARES_MAX) {
        free(p);
        return;
    }

    memcpy(p, &spares->first, sizeof(spares->first));
    spares->first = p;
    spares->n++;
}
