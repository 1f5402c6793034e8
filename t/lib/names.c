/*
 * For LD_PRELOAD: names that begin with "one" are 127.0.0.1, those with "two"
 * are 127.0.0.2 and, behind it, 127.0.0.1.  While there is the file that NAMES
 * names, none of them is found, which takes up to a minute; if it has something
 * in it they are, after six seconds: the first name server is dead.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TURNS  6000
#define LATE   600

typedef int (*resolver)(const char *, const char *, const struct addrinfo *,
                        struct addrinfo **);


int
getaddrinfo(const char *name, const char *service,
    const struct addrinfo *hints, struct addrinfo **list)
{
    int                rc, i;
    resolver           real = (resolver) dlsym(RTLD_NEXT, "getaddrinfo");
    const char        *file = getenv("NAMES");
    struct addrinfo  **last;
    struct stat        st;

    if (name == NULL
        || (hints != NULL && (hints->ai_flags & AI_NUMERICHOST))
        || (strncmp(name, "one", 3) != 0 && strncmp(name, "two", 3) != 0))
    {
        return real(name, service, hints, list);
    }

    for (i = 0; file != NULL && stat(file, &st) == 0; i++) {
        if (i == TURNS) {
            return EAI_AGAIN;
        }

        if (i == LATE && st.st_size != 0) {
            break;
        }

        usleep(10 * 1000);
    }

    if (strncmp(name, "one", 3) == 0) {
        return real("127.0.0.1", service, hints, list);
    }

    rc = real("127.0.0.2", service, hints, list);

    for (last = list; rc == 0 && *last != NULL; last = &(*last)->ai_next) {
        /* to the end */
    }

    return rc == 0 ? real("127.0.0.1", service, hints, last) : rc;
}
