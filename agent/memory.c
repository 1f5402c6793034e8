#include "memory.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"


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
