/*
 * A queue of bytes: appended at the end, consumed at the front. The memory
 * of a large one is given back as soon as it is empty, so that a quiet
 * connection costs next to nothing.
 */

#ifndef AGENT_BUF_H
#define AGENT_BUF_H

#include <stddef.h>

struct buf {
    char *data;
    size_t start; /* first byte not consumed */
    size_t end;   /* behind the last byte */
    size_t cap;
};

/* A buf of zeroes is an empty one; there is no constructor. */

static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}

static inline char *buf_ptr(const struct buf *b)
{
    return b->data + b->start;
}

/* What buf_reserve() does when there is no room. */
void buf_make_room(struct buf *b, size_t len);

/* Make room for len more bytes; returns where they go (see buf_added). */
static inline char *buf_reserve(struct buf *b, size_t len)
{
    if (b->cap - b->end < len) {
        buf_make_room(b, len);
    }

    return b->data + b->end;
}

/* len bytes were written to where buf_reserve() said. */
static inline void buf_added(struct buf *b, size_t len)
{
    b->end += len;
}

void buf_append(struct buf *b, const char *p, size_t len);
void buf_append_str(struct buf *b, const char *s);

/* Drop len bytes (at most all) from the front. */
void buf_consume(struct buf *b, size_t len);

/* Forget the contents, keep the memory. */
void buf_reset(struct buf *b);

/* Give the memory back; the buf is empty and usable afterwards. */
void buf_free(struct buf *b);

#endif
