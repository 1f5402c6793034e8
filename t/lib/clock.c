/*
 * For LD_PRELOAD: while there is the file that CLOCK names, the wall clock is a
 * day ahead.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>


static char  file[1024];


/* nginx takes the environment's memory for its title */

__attribute__((constructor)) static void
init(void)
{
    const char *name = getenv("CLOCK");

    snprintf(file, sizeof(file), "%s", name ? name : "/nonexistent");
}


int
gettimeofday(struct timeval *tv, void *tz)
{
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int rc = real(tv, tz);

    if (rc == 0 && access(file, F_OK) == 0) {
        tv->tv_sec += 24 * 60 * 60;
    }

    return rc;
}
