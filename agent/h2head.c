#include "h2head.h"

#include <stdlib.h>
#include <string.h>

#include "fields.h"
#include "memory.h"
#include "reason.h"

#define FIELD_OVERHEAD 32 /* what RFC 9113 §6.5.2 adds for each */

/* In --------------------------------------------------------------------- */

/* Whether one more field fits into a head of which list bytes have come. */
static bool has_room(const struct head *h, size_t *list, struct span name,
                     struct span value)
{
    *list += name.n + value.n + FIELD_OVERHEAD;

    return *list <= HEAD_MAX_BYTES && h->nfields < HEAD_MAX_FIELDS;
}


static struct span keep_in(char *text, size_t *used, struct span s)
{
    char *p = text + *used;

    memcpy(p, s.p, s.n);
    *used += s.n;

    return (struct span) {p, s.n};
}


static void add_field(struct head *h, struct span name, struct span value)
{
    if (h->nfields == h->room) {
        h->room = h->room ? h->room * 2 : 32;
        h->fields = mem_realloc(h->fields, h->room * sizeof(*h->fields));
    }

    h->fields[h->nfields++] = (struct field) {name, value};
}


static bool is(struct span name, const char *literal, size_t n)
{
    return name.n == n && memcmp(name.p, literal, n) == 0;
}

#define IS(name, literal) is(name, literal, sizeof(literal) - 1)


/* Digits, as nghttp2 has made sure. */
static int64_t number_of(struct span s)
{
    int64_t number = 0;

    for (size_t i = 0; i < s.n; i++) {
        number = number * 10 + (s.p[i] - '0');
    }

    return number;
}


/* Requests --------------------------------------------------------------- */

void h2request_begin(struct h2request *r)
{
    r->head.method = r->head.target = (struct span) {"", 0};
    r->head.nfields = 0;
    r->head.length = -1;
    r->protocol = r->user = r->id = r->authority = (struct span) {"", 0};
    r->list = 0;
    r->used = 0;
    r->too_large = false;
}


static struct span keep(struct h2request *r, struct span s)
{
    return keep_in(r->text, &r->used, s);
}


static struct span *special(struct h2request *r, struct span name)
{
    if (name.p[0] == ':') {
        return IS(name, ":method") ? &r->head.method
               : IS(name, ":path") ? &r->head.target
               : IS(name, ":authority") ? &r->authority
               : IS(name, ":protocol") ? &r->protocol : NULL;
    }

    return IS(name, "x-inverting-proxy-user-id") ? &r->user
           : IS(name, "x-inverting-proxy-request-id") ? &r->id : NULL;
}


void h2request_field(struct h2request *r, struct span name, struct span value)
{
    struct span *where;

    if (!has_room(&r->head, &r->list, name, value)) {
        r->too_large = true;
    }

    if (r->too_large || name.n == 0) {
        return;
    }

    where = special(r, name);

    if (where != NULL) {
        *where = keep(r, value);

    } else if (IS(name, "content-length")) {
        r->head.length = number_of(value);

    } else if (name.p[0] != ':' && !field_is_ours(name)) {
        name = keep(r, name);
        add_field(&r->head, name, keep(r, value));
    }
}


/* HTTP/2 may have cut Cookie in pieces: RFC 9113 §8.2.3. */
static bool join_cookies(struct h2request *r)
{
    struct head *h = &r->head;
    struct span all = {r->text + r->used, 0};
    struct field *first = NULL;
    size_t n = 0, count = 0;

    for (size_t i = 0; i < h->nfields; i++) {
        count += IS(h->fields[i].name, "cookie");
    }

    if (count < 2) {
        return true;
    }

    for (size_t i = 0; i < h->nfields; i++) {
        struct field *f = &h->fields[i];

        if (!IS(f->name, "cookie")) {
            h->fields[n++] = *f;
            continue;
        }

        if (f->value.n + 2 > sizeof(r->text) - r->used) {
            return false;
        }

        if (first == NULL) {
            first = &h->fields[n++];
            *first = *f;
        } else {
            keep(r, SPAN("; "));
        }

        keep(r, f->value);
        all.n = (size_t) (r->text + r->used - all.p);
    }

    if (first != NULL) {
        first->value = all;
    }

    h->nfields = n;

    return true;
}


/* :authority is what counts, if it is there. */
static void put_host(struct h2request *r)
{
    struct head *h = &r->head;
    size_t n = 0;

    if (r->authority.n == 0) {
        return;
    }

    for (size_t i = 0; i < h->nfields; i++) {
        if (!IS(h->fields[i].name, "host")) {
            h->fields[n++] = h->fields[i];
        }
    }

    h->nfields = n;
    add_field(h, SPAN("Host"), r->authority);
    memmove(h->fields + 1, h->fields, n * sizeof(*h->fields));
    h->fields[0] = (struct field) {SPAN("Host"), r->authority};
}


/* A path or "*", without what a line of HTTP/1.1 would end or split at.
 * nghttp2 looks only if the scheme is one it knows. */
static bool is_target(struct span s)
{
    if (s.n == 0 || (s.p[0] != '/' && !IS(s, "*"))) {
        return false;
    }

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char) s.p[i];

        if (c <= 0x20 || c == 0x7f) {
            return false;
        }
    }

    return true;
}


const char *h2request_end(struct h2request *r)
{
    struct head *h = &r->head;

    if (r->too_large || !join_cookies(r)) {
        r->too_large = true;
        return "too large a head";
    }

    if (h->method.n == 0) {
        return "no method";
    }

    if (!is_target(h->target)
        && !(IS(h->method, "CONNECT") && h->target.n == 0)) {
        return "an invalid target";
    }

    put_host(r);

    return NULL;
}


void h2request_free(struct h2request *r)
{
    head_free(&r->head);
}


/* Responses -------------------------------------------------------------- */

void h2response_begin(struct h2response *r)
{
    r->head.status = 0;
    r->head.reason = (struct span) {"", 0};
    r->head.nfields = 0;
    r->head.length = -1;
    r->list = 0;
    r->used = 0;
    r->too_large = false;
}


void h2response_field(struct h2response *r, struct span name,
                      struct span value)
{
    if (!has_room(&r->head, &r->list, name, value)) {
        r->too_large = true;
    }

    if (r->too_large) {
        return;
    }

    if (IS(name, ":status")) {
        r->head.status = (int) number_of(value);

    } else if (IS(name, "content-length")) {
        r->head.length = number_of(value);

    } else if (name.n > 0 && name.p[0] != ':') {
        name = keep_in(r->text, &r->used, name);
        value = keep_in(r->text, &r->used, span_trim(value));
        add_field(&r->head, name, value);
    }
}


void h2response_free(struct h2response *r)
{
    head_free(&r->head);
}


/* Out -------------------------------------------------------------------- */

/* Room for n fields with so many bytes of names and values. */
static struct h2fields *new_fields(size_t n, size_t bytes, char **text)
{
    struct h2fields *f = mem_alloc(sizeof(*f) + n * sizeof(f->nv[0]) + bytes);

    f->n = 0;
    *text = (char *) &f->nv[n];

    return f;
}


static void put(struct h2fields *f, char **text, struct span name,
                struct span value)
{
    nghttp2_nv *nv = &f->nv[f->n++];
    char *p = *text;

    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        p[i] = c >= 'A' && c <= 'Z' ? (char) (c | 0x20) : c;
    }

    memcpy(p + name.n, value.p, value.n);

    *nv = (nghttp2_nv) {
        .name = (uint8_t *) p,
        .namelen = name.n,
        .value = (uint8_t *) p + name.n,
        .valuelen = value.n,
        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE,
    };

    *text = p + name.n + value.n;
}


static size_t bytes_of(const struct field *fields, size_t n)
{
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++) {
        bytes += fields[i].name.n + fields[i].value.n;
    }

    return bytes;
}


struct h2fields *h2fields_request(const struct exchange_request *r,
                                  struct span scheme)
{
    char number[SPAN_DIGITS], *text;
    struct span host = {"", 0};
    struct h2fields *f = new_fields(r->nfields + 5,
                                    bytes_of(r->fields, r->nfields)
                                        + r->method.n + scheme.n + r->target.n
                                        + 96,
                                    &text);

    for (size_t i = 0; i < r->nfields; i++) {
        if (span_is(r->fields[i].name, "Host")) {
            host = r->fields[i].value;
        }
    }

    put(f, &text, SPAN(":method"), r->method);
    put(f, &text, SPAN(":scheme"), scheme);
    put(f, &text, SPAN(":authority"), host);
    put(f, &text, SPAN(":path"), r->target);

    for (size_t i = 0; i < r->nfields; i++) {
        if (!span_is(r->fields[i].name, "Host")) {
            put(f, &text, r->fields[i].name, r->fields[i].value);
        }
    }

    if (r->length >= 0) {
        put(f, &text, SPAN("content-length"),
            span_number(number, (uint64_t) r->length));
    }

    return f;
}


struct h2fields *h2fields_response(int status, const struct head *h,
                                   int64_t length)
{
    char number[SPAN_DIGITS], *text;
    struct span reason = span_trim(h->reason);
    struct h2fields *f = new_fields(h->nfields + 3,
                                    bytes_of(h->fields, h->nfields)
                                        + reason.n + 96,
                                    &text);

    put(f, &text, SPAN(":status"), span_number(number, (uint64_t) status));

    if (reason.n != 0 && !span_is(reason, reason_of(status))) {
        put(f, &text, SPAN("x-inverting-proxy-reason"), reason);
    }

    for (size_t i = 0; i < h->nfields; i++) {
        if (field_passes(h, &h->fields[i], HEAD_RESPONSE)
            && !span_is(h->fields[i].name, "Sec-WebSocket-Accept")) {
            put(f, &text, h->fields[i].name, h->fields[i].value);
        }
    }

    if (length >= 0) {
        put(f, &text, SPAN("content-length"),
            span_number(number, (uint64_t) length));
    }

    return f;
}


struct h2fields *h2fields_trailers(const struct field *fields, size_t n)
{
    static const struct head none;
    struct h2fields *f;
    char *text;

    if (n == 0) {
        return NULL;
    }

    f = new_fields(n, bytes_of(fields, n), &text);

    for (size_t i = 0; i < n; i++) {
        if (field_passes(&none, &fields[i], HEAD_RESPONSE)) {
            put(f, &text, fields[i].name, fields[i].value);
        }
    }

    if (f->n == 0) {
        free(f);
        return NULL;
    }

    return f;
}
