#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/memory.h"


static const char *read_all(int fd, char *text, bool *private, int *error)
{
    size_t n = 0;
    struct stat st;
    ssize_t rc;

    if (fstat(fd, &st) != 0) {
        *error = errno;
        return strerror(errno);
    }

    if (!S_ISREG(st.st_mode)) {
        return "it is not a regular file";
    }

    *private = (st.st_mode & (S_IRWXG | S_IRWXO)) == 0;

    do {
        rc = read(fd, text + n, FILE_MAX + 1 - n);
        n += rc > 0 ? (size_t) rc : 0;
    } while (rc > 0 && n <= FILE_MAX);

    if (rc < 0) {
        *error = errno;
        return strerror(errno);
    }

    if (n > FILE_MAX) {
        return "it is too large";
    }

    text[n] = '\0';

    return strlen(text) == n ? NULL : "it has a zero byte";
}


char *file_read(const char *path, bool *private, const char **why, int *error)
{
    /* a FIFO must not block */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text;

    *error = 0;

    if (fd < 0) {
        *error = errno;
        *why = strerror(errno);
        return NULL;
    }

    text = mem_zalloc(FILE_MAX + 2);
    *why = read_all(fd, text, private, error);
    close(fd);

    if (*why != NULL) {
        explicit_bzero(text, FILE_MAX + 2);
        free(text);
        return NULL;
    }

    return text;
}


const char *file_bad_secret(const char *text)
{
    if (*text == '\0') {
        return "it is empty";
    }

    for (; *text != '\0'; text++) {
        if ((unsigned char) *text < 0x20 || *text == 0x7f) {
            return "it has more than one line, or a control character";
        }
    }

    return NULL;
}


char *file_secret(const char *path, const char **why)
{
    bool private = false;
    int error;
    char *text = file_read(path, &private, why, &error);
    size_t n;

    if (text == NULL) {
        return NULL;
    }

    n = strlen(text);
    if (n > 0 && text[n - 1] == '\n') {
        text[--n] = '\0';
    }
    if (n > 0 && text[n - 1] == '\r') {
        text[--n] = '\0';
    }

    *why = private ? file_bad_secret(text)
                   : "others may read it: \"chmod 600\" it first";

    if (*why != NULL) {
        file_wipe(text);
        return NULL;
    }

    return text;
}


void file_wipe(char *text)
{
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}
