/*
 * An HTTP/1.1 message as it comes, in pieces of any size: its head, the
 * bytes of its body, its end. Pure parsing.
 */

#ifndef AGENT_MESSAGE_H
#define AGENT_MESSAGE_H

#include <stdbool.h>

#include "body.h"
#include "buf.h"
#include "head.h"

enum message_event {
    MESSAGE_HEAD,   /* m->head tells */
    MESSAGE_DATA,   /* *data holds bytes of the body; all behind a 101 */
    MESSAGE_MORE,   /* the input is used up */
    MESSAGE_END,    /* the message is whole */
    MESSAGE_INVALID /* m->error tells */
};

struct message {
    enum head_kind kind;
    bool to_head; /* the response to a HEAD: no body whatever it says */
    bool in_body;
    const char *error;
    struct head *head;
    struct buf carry; /* a head, until it is whole, and what came with it */
    size_t used;      /* of it, in the last call */
    size_t seen;
    struct body body;
};

/*
 * head is the caller's, used while a head is parsed: what it tells is valid
 * until the next call of message_next() on a message that shares it.
 */
void message_init(struct message *m, enum head_kind kind, struct head *head);

/*
 * Take the next step in *in, moving it past what was used or stored. Call
 * until it says MORE, END or INVALID.
 */
enum message_event message_next(struct message *m, struct span *in,
                                struct span *data);

/* Upon MESSAGE_HEAD: it was an interim response, another head follows. */
void message_skip(struct message *m);

/* Upon MESSAGE_END: bytes that are there behind the message. */
size_t message_extra(const struct message *m, const struct span *in);

/* Whether the message is whole, now that no more comes. */
bool message_complete_at_close(const struct message *m);

void message_free(struct message *m);

#endif
