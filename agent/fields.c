#include "fields.h"

#include <string.h>


bool field_is_named(const struct head *h, struct span name)
{
    struct span list, token;

    for (size_t i = 0; i < h->nfields; i++) {
        if (!span_is(h->fields[i].name, "Connection")) {
            continue;
        }

        list = h->fields[i].value;
        while (span_next_token(&list, &token)) {
            if (span_same(token, name)) {
                return true;
            }
        }
    }

    return false;
}


static bool is_hop_by_hop(struct span name)
{
    return span_is(name, "Connection") || span_is(name, "Content-Length")
           || span_is(name, "Expect") || span_is(name, "Keep-Alive")
           || span_is(name, "Proxy-Authenticate")
           || span_is(name, "Proxy-Authorization")
           || span_is(name, "Proxy-Connection") || span_is(name, "TE")
           || span_is(name, "Trailer") || span_is(name, "Transfer-Encoding")
           || span_is(name, "Upgrade");
}


bool field_passes(const struct head *h, const struct field *f,
                  enum head_kind kind)
{
    if (kind == HEAD_REQUEST && span_is(f->name, "TE")) {
        return span_is(f->value, "trailers");
    }

    if (kind == HEAD_REQUEST && span_is(f->name, "Host")) {
        return true;
    }

    return !is_hop_by_hop(f->name)
           && !(h->named && field_is_named(h, f->name));
}


bool field_is_ours(struct span name)
{
    static const char prefix[] = "x-inverting-proxy-";

    if (name.n < sizeof(prefix) - 1) {
        return false;
    }

    for (size_t i = 0; i < sizeof(prefix) - 1; i++) {
        char c = name.p[i] == '_' ? '-' : name.p[i];

        if (c >= 'A' && c <= 'Z') {
            c = (char) (c | 0x20);
        }

        if (c != prefix[i]) {
            return false;
        }
    }

    return true;
}


void field_append(struct buf *out, struct span name, struct span value)
{
    size_t n = name.n + 2 + value.n + 2;
    char *p = buf_reserve(out, n);

    memcpy(p, name.p, name.n);
    p += name.n;
    *p++ = ':';
    *p++ = ' ';
    memcpy(p, value.p, value.n);
    p += value.n;
    *p++ = '\r';
    *p = '\n';

    buf_added(out, n);
}


void field_append_length(struct buf *out, int64_t length)
{
    char digits[SPAN_DIGITS];

    field_append(out, SPAN("Content-Length"),
                 span_number(digits, (uint64_t) length));
}
