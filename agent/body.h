/*
 * The body of an HTTP/1.1 message, decoded as it comes: by length, chunked,
 * or until the connection ends. Pure parsing; strict about chunk framing.
 */

#ifndef AGENT_BODY_H
#define AGENT_BODY_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "head.h"

enum body_kind {
    BODY_NONE,
    BODY_LENGTH,
    BODY_CHUNKED,
    BODY_UNTIL_CLOSE
};

enum body_event {
    BODY_DATA,   /* *data holds bytes of the body */
    BODY_MORE,   /* the input is used up, the body is not over */
    BODY_END,    /* the body is over; the rest of the input is not its own */
    BODY_INVALID /* the framing is broken */
};

#define BODY_MAX_TRAILER (16 * 1024)

struct body {
    enum body_kind kind;
    int state;
    int digits;         /* of the chunk size read so far */
    size_t line;        /* length of the chunk-size line so far */
    uint64_t left;      /* of the body, or of the chunk */
    struct buf trailer; /* trailer lines, without the empty one */
};

/* length is used for BODY_LENGTH only. */
void body_init(struct body *b, enum body_kind kind, int64_t length);

/*
 * Take the next step in *in, moving it past what was used. Call again after
 * BODY_DATA, even with an empty rest; call with new input after BODY_MORE.
 */
enum body_event body_next(struct body *b, struct span *in, struct span *data);

/* The connection has ended: whether the body was whole. */
int body_complete_at_close(const struct body *b);

void body_free(struct body *b);

/* Room that chunk_header() needs. */
#define CHUNK_HEADER_MAX 18

/* Write the size line of a chunk of len bytes; returns its length. */
size_t chunk_header(char *p, size_t len);

#endif
