#include "message.h"


void message_init(struct message *m, enum head_kind kind, struct head *head)
{
    *m = (struct message) {.kind = kind, .head = head};
}


static enum message_event invalid(struct message *m, const char *error)
{
    m->error = error;

    return MESSAGE_INVALID;
}


static void begin_body(struct message *m)
{
    const struct head *h = m->head;
    enum body_kind kind;

    if (m->to_head || h->status == 204 || h->status == 304) {
        kind = BODY_NONE;
    } else if (h->status == 101) {
        kind = BODY_UNTIL_CLOSE;
    } else if (h->chunked) {
        kind = BODY_CHUNKED;
    } else if (h->length >= 0) {
        kind = BODY_LENGTH;
    } else {
        kind = m->kind == HEAD_REQUEST ? BODY_NONE : BODY_UNTIL_CLOSE;
    }

    body_init(&m->body, kind, h->length);
    m->in_body = true;
}


static enum message_event next_head(struct message *m, struct span *in)
{
    bool carried = buf_len(&m->carry) > 0;
    const char *error;
    struct span s;
    size_t len;

    if (carried) {
        buf_append(&m->carry, in->p, in->n);
        in->p += in->n;
        in->n = 0;
        s = (struct span) {buf_ptr(&m->carry), buf_len(&m->carry)};
    } else {
        s = *in;
    }

    len = s.n > 0 ? head_find_end(s.p, s.n, &m->seen) : 0;

    if (len == HEAD_BROKEN) {
        return invalid(m, "an empty line in place of a head");
    }

    if (len > HEAD_MAX_BYTES || (len == 0 && s.n > HEAD_MAX_BYTES)) {
        return invalid(m, "too large a head");
    }

    if (len == 0) {
        if (!carried) {
            buf_append(&m->carry, in->p, in->n);
            in->p += in->n;
            in->n = 0;
        }

        return MESSAGE_MORE;
    }

    m->seen = 0;

    error = head_parse(m->head, m->kind, s.p, len);
    if (error != NULL) {
        return invalid(m, error);
    }

    if (carried) {
        m->used = len;
    } else {
        in->p += len;
        in->n -= len;
    }

    begin_body(m);

    return MESSAGE_HEAD;
}


static enum message_event body_step(struct message *m, struct span *in,
                                    struct span *data)
{
    switch (body_next(&m->body, in, data)) {

    case BODY_DATA:
        return MESSAGE_DATA;

    case BODY_MORE:
        return MESSAGE_MORE;

    case BODY_END:
        return MESSAGE_END;

    default:
        return invalid(m, "invalid chunked framing");
    }
}


enum message_event message_next(struct message *m, struct span *in,
                                struct span *data)
{
    if (m->used > 0) {
        buf_consume(&m->carry, m->used);
        m->used = 0;
    }

    if (!m->in_body) {
        return next_head(m, in);
    }

    if (buf_len(&m->carry) > 0) {
        struct span s = {buf_ptr(&m->carry), buf_len(&m->carry)};
        enum message_event event = body_step(m, &s, data);

        m->used = buf_len(&m->carry) - s.n;

        if (event != MESSAGE_MORE) {
            return event;
        }

        buf_free(&m->carry);
        m->used = 0;
    }

    return body_step(m, in, data);
}


void message_skip(struct message *m)
{
    body_free(&m->body);
    m->in_body = false;
}


size_t message_extra(const struct message *m, const struct span *in)
{
    return buf_len(&m->carry) - m->used + in->n;
}


bool message_complete_at_close(const struct message *m)
{
    return m->in_body && body_complete_at_close(&m->body);
}


void message_free(struct message *m)
{
    buf_free(&m->carry);
    body_free(&m->body);
}
