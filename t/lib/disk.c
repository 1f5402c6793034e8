/*
 * For LD_PRELOAD: a disk that is full while there is a file "full" in the folder
 * that DISK names, and one that fails while there is a file "broken".  Of all
 * that nginx writes, SQLite's files are what pwrite() is used for.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>


static char  folder[1024];


/* nginx takes the environment's memory for its title */

__attribute__((constructor)) static void
init(void)
{
    const char *name = getenv("DISK");

    snprintf(folder, sizeof(folder), "%s", name ? name : "/nonexistent");
}


static int
is(const char *what)
{
    char path[sizeof(folder) + 16];

    snprintf(path, sizeof(path), "%s/%s", folder, what);
    return access(path, F_OK) == 0;
}


ssize_t
pwrite64(int fd, const void *buf, size_t n, off64_t offset)
{
    ssize_t (*next)(int, const void *, size_t, off64_t);

    if (is("full")) {
        errno = ENOSPC;
        return -1;
    }

    next = (ssize_t (*)(int, const void *, size_t, off64_t))
               dlsym(RTLD_NEXT, "pwrite64");
    return next(fd, buf, n, offset);
}


ssize_t
pwrite(int fd, const void *buf, size_t n, off_t offset)
{
    return pwrite64(fd, buf, n, offset);
}


int
fdatasync(int fd)
{
    int (*next)(int);

    if (is("broken")) {
        errno = EIO;
        return -1;
    }

    next = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
    return next(fd);
}


int
fsync(int fd)
{
    return fdatasync(fd);
}
