#include "body.h"

#include <string.h>

/* the size line of a chunk, extensions included; extensions are skipped */
#define CHUNK_LINE_MAX 256

enum {
    S_SIZE,
    S_EXTENSION,
    S_SIZE_LF,
    S_DATA,
    S_DATA_CR,
    S_DATA_LF,
    S_TRAILER,      /* at the beginning of a trailer line */
    S_TRAILER_LINE, /* within one */
    S_TRAILER_LF,
    S_LAST_LF,
    S_DONE
};


void body_init(struct body *b, enum body_kind kind, int64_t length)
{
    *b = (struct body) {.kind = kind, .state = S_SIZE};

    if (kind == BODY_LENGTH) {
        b->left = (uint64_t) length;
    }
}


void body_free(struct body *b)
{
    buf_free(&b->trailer);
}


static void take(struct span *in, size_t n)
{
    in->p += n;
    in->n -= n;
}


/* Up to b->left bytes of the input are data. */
static enum body_event data_of(struct body *b, struct span *in,
                               struct span *data)
{
    size_t n = in->n < b->left ? in->n : (size_t) b->left;

    if (n == 0) {
        return BODY_MORE;
    }

    *data = (struct span) {in->p, n};
    take(in, n);
    b->left -= n;

    return BODY_DATA;
}


static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}


/* One byte of the framing; false if it cannot stand there. */
static int framing_byte(struct body *b, char c)
{
    int digit;

    switch (b->state) {

    case S_SIZE:
        digit = hex_digit(c);

        if (digit >= 0) {
            b->left = b->left << 4 | (unsigned) digit;
            return ++b->digits <= 15;
        }

        if (b->digits == 0) {
            return 0;
        }

        if (c == '\r') {
            b->state = S_SIZE_LF;
            return 1;
        }

        b->state = S_EXTENSION;
        return c == ';' || c == ' ' || c == '\t';

    case S_EXTENSION:
        if (c == '\r') {
            b->state = S_SIZE_LF;
            return 1;
        }

        return ++b->line <= CHUNK_LINE_MAX
               && ((unsigned char) c >= 0x20 || c == '\t') && c != 0x7f;

    case S_SIZE_LF:
        b->state = b->left == 0 ? S_TRAILER : S_DATA;
        return c == '\n';

    case S_DATA_CR:
        b->state = S_DATA_LF;
        return c == '\r';

    case S_DATA_LF:
        b->state = S_SIZE;
        b->digits = 0;
        b->line = 0;
        return c == '\n';

    case S_TRAILER:
        if (c == '\r') {
            b->state = S_LAST_LF;
            return 1;
        }

        b->state = S_TRAILER_LINE;
        buf_append(&b->trailer, &c, 1);
        return c != '\n';

    case S_TRAILER_LINE:
        if (c == '\r') {
            b->state = S_TRAILER_LF;
        }

        buf_append(&b->trailer, &c, 1);
        return c != '\n' && buf_len(&b->trailer) < BODY_MAX_TRAILER;

    case S_TRAILER_LF:
        b->state = S_TRAILER;
        buf_append(&b->trailer, &c, 1);
        return c == '\n';

    default: /* S_LAST_LF */
        b->state = S_DONE;
        return c == '\n';
    }
}


enum body_event body_next(struct body *b, struct span *in, struct span *data)
{
    switch (b->kind) {

    case BODY_NONE:
        return BODY_END;

    case BODY_LENGTH:
        return b->left == 0 ? BODY_END : data_of(b, in, data);

    case BODY_UNTIL_CLOSE:
        b->left = UINT64_MAX;
        return data_of(b, in, data);

    case BODY_CHUNKED:
        break;
    }

    while (b->state != S_DONE) {
        if (b->state == S_DATA) {
            if (b->left > 0) {
                return data_of(b, in, data);
            }

            b->state = S_DATA_CR;
        }

        if (in->n == 0) {
            return BODY_MORE;
        }

        if (!framing_byte(b, *in->p)) {
            return BODY_INVALID;
        }

        take(in, 1);
    }

    return BODY_END;
}


int body_complete_at_close(const struct body *b)
{
    switch (b->kind) {

    case BODY_LENGTH:
        return b->left == 0;

    case BODY_CHUNKED:
        return b->state == S_DONE;

    default:
        return 1;
    }
}


size_t chunk_header(char *p, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char text[16];
    size_t n = 0, out = 0;

    do {
        text[n++] = digits[len & 15];
        len >>= 4;
    } while (len != 0);

    while (n > 0) {
        p[out++] = text[--n];
    }

    p[out++] = '\r';
    p[out++] = '\n';

    return out;
}
