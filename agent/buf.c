#include "buf.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define BUF_MIN 1024
#define BUF_KEEP 4096 /* an empty buffer larger than this is freed */

static struct mem_spares spares = {.size = BUF_MIN};


void buf_make_room(struct buf *b, size_t len)
{
    size_t used = buf_len(b), cap;

    if (b->cap == 0) {
        b->data = mem_take(&spares);
        b->cap = BUF_MIN;
    }

    cap = b->cap;
    if (cap - b->end >= len) {
        return;
    }

    if (b->start > 0 && b->cap - used >= len && b->start >= used) {
        memmove(b->data, b->data + b->start, used);
        b->start = 0;
        b->end = used;
        return;
    }

    while (cap - used < len) {
        cap *= 2;
    }

    if (b->start > 0) {
        char *data = mem_alloc(cap);

        memcpy(data, b->data + b->start, used);
        free(b->data);
        b->data = data;
        b->start = 0;
        b->end = used;

    } else {
        b->data = mem_realloc(b->data, cap);
    }

    b->cap = cap;
}


void buf_append(struct buf *b, const char *p, size_t len)
{
    if (len == 0) {
        return;
    }

    memcpy(buf_reserve(b, len), p, len);
    b->end += len;
}


void buf_append_str(struct buf *b, const char *s)
{
    buf_append(b, s, strlen(s));
}


void buf_consume(struct buf *b, size_t len)
{
    b->start += len;

    if (b->start < b->end) {
        return;
    }

    b->start = 0;
    b->end = 0;

    if (b->cap > BUF_KEEP) {
        buf_free(b);
    }
}


void buf_reset(struct buf *b)
{
    b->start = 0;
    b->end = 0;
}


void buf_free(struct buf *b)
{
    if (b->cap == BUF_MIN) {
        mem_give(&spares, b->data);
    } else {
        free(b->data);
    }

    *b = (struct buf) {0};
}
