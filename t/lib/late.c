/*
 * For LD_PRELOAD: while there is the file that LATE names, a worker of nginx
 * does not get beyond the first socketpair() of its own.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>


static char  file[1024];


/* nginx takes the environment's memory for its title */

__attribute__((constructor)) static void
init(void)
{
    const char *name = getenv("LATE");

    snprintf(file, sizeof(file), "%s", name ? name : "/nonexistent");
}


int
socketpair(int domain, int type, int protocol, int fds[2])
{
    int (*real)(int, int, int, int[2]) = dlsym(RTLD_NEXT, "socketpair");

    /* the master makes its own without the flag */

    while ((type & SOCK_CLOEXEC) && access(file, F_OK) == 0) {
        usleep(10 * 1000);
    }

    return real(domain, type, protocol, fds);
}
