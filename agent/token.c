#include "token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "memory.h"

#define TOKEN_MAX (16 * 1024)
#define SCHEME "Bearer "
#define SCHEME_LEN (sizeof(SCHEME) - 1)

struct token {
    char *path;
    char *value;
    size_t len;
    struct stat seen;
    bool broken; /* and said so */
};


static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino
           && a->st_size == b->st_size
           && a->st_mtim.tv_sec == b->st_mtim.tv_sec
           && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec
           && a->st_ctim.tv_sec == b->st_ctim.tv_sec
           && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}


static void forget(struct token *token)
{
    if (token->value != NULL) {
        explicit_bzero(token->value, token->len);
        free(token->value);
        token->value = NULL;
    }
}


/* Takes n bytes of a file's contents over; NULL or what is wrong. */
static const char *adopt(struct token *token, char *text, size_t n)
{
    size_t skip = SCHEME_LEN;

    while (n > skip && (text[n - 1] == '\n' || text[n - 1] == '\r')) {
        n--;
    }

    if (n == skip) {
        return "it is empty";
    }

    for (size_t i = skip; i < n; i++) {
        unsigned char c = (unsigned char) text[i];

        if (c <= 0x20 || c >= 0x7f) {
            return "it has a space, a control or a non-ASCII character";
        }
    }

    forget(token);
    token->value = mem_dup(text, n);
    token->len = n;

    return NULL;
}


static const char *read_file(struct token *token, int fd)
{
    char text[SCHEME_LEN + TOKEN_MAX + 1] = SCHEME;
    size_t n = SCHEME_LEN;
    const char *why;
    ssize_t rc;

    if (fstat(fd, &token->seen) != 0) {
        return strerror(errno);
    }

    if (!S_ISREG(token->seen.st_mode)) {
        return "it is not a regular file";
    }

    do {
        rc = read(fd, text + n, sizeof(text) - n);
        if (rc > 0) {
            n += (size_t) rc;
        }
    } while (rc > 0 && n < sizeof(text));

    if (rc < 0) {
        why = strerror(errno);
    } else if (n == sizeof(text)) {
        why = "it is too large";
    } else {
        why = adopt(token, text, n);
    }

    explicit_bzero(text, sizeof(text));

    return why;
}


static const char *load(struct token *token)
{
    /* a FIFO must not block */
    int fd = open(token->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const char *why;

    if (fd < 0) {
        return strerror(errno);
    }

    why = read_file(token, fd);
    close(fd);

    return why;
}


struct token *token_open(const char *path, const char **why)
{
    struct token *token = mem_zalloc(sizeof(*token));

    token->path = mem_dup(path, strlen(path));

    *why = load(token);
    if (*why != NULL) {
        token_close(token);
        return NULL;
    }

    return token;
}


const char *token_value(struct token *token)
{
    struct stat now;
    const char *why = NULL;

    if (stat(token->path, &now) != 0) {
        why = strerror(errno);
    } else if (!same_file(&now, &token->seen)) {
        why = load(token);
    } else {
        token->broken = false;
        return token->value;
    }

    if (why != NULL && !token->broken) {
        log_warn("cannot read the token file \"%s\": %s; the last token stays "
                 "in use", token->path, why);
    } else if (why == NULL) {
        log_info("the token file \"%s\" was read again", token->path);
    }

    token->broken = why != NULL;

    return token->value;
}


void token_close(struct token *token)
{
    if (token == NULL) {
        return;
    }

    forget(token);
    free(token->path);
    free(token);
}
