#include "head.h"

#include <stdlib.h>

#include "memory.h"

/* tchar of RFC 9110 §5.6.2 */
static const unsigned char is_token[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1,
    ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1, ['^'] = 1, ['_'] = 1,
    ['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1,
    ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};


struct span span_trim(struct span s)
{
    while (s.n > 0 && (*s.p == ' ' || *s.p == '\t')) {
        s.p++;
        s.n--;
    }

    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) {
        s.n--;
    }

    return s;
}


bool span_next_token(struct span *list, struct span *token)
{
    while (list->n > 0) {
        const char *end = list->p + list->n;
        const char *comma = memchr(list->p, ',', list->n);
        const char *stop = comma ? comma : end;

        *token = span_trim((struct span) {list->p,
                                          (size_t) (stop - list->p)});
        list->p = comma ? comma + 1 : end;
        list->n = (size_t) (end - list->p);

        if (token->n > 0) {
            return true;
        }
    }

    return false;
}


struct span span_number(char text[SPAN_DIGITS], uint64_t n)
{
    char *end = text + SPAN_DIGITS, *p = end;

    do {
        *--p = (char) ('0' + n % 10);
        n /= 10;
    } while (n > 0);

    return (struct span) {p, (size_t) (end - p)};
}


/* Whether one of eight bytes is a control character, tab included. */
static bool has_control(uint64_t bytes)
{
    const uint64_t each = UINT64_MAX / 255, tops = each << 7;
    uint64_t del = bytes ^ each * 0x7f;

    return (((bytes - each * 0x20) & ~bytes & tops)
            | ((del - each) & ~del & tops)) != 0;
}


/* No control characters but tab. */
static bool span_is_field_value(struct span s)
{
    uint64_t bytes;
    size_t i;

    for (i = 0; s.n - i >= sizeof(bytes); i += sizeof(bytes)) {
        memcpy(&bytes, s.p + i, sizeof(bytes));
        if (has_control(bytes)) {
            break;
        }
    }

    for (; i < s.n; i++) {
        unsigned char c = (unsigned char) s.p[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }

    return true;
}


/* The end of a line that has its LF there, and begins at p or behind it. */
static const char *without_cr(const char *p, const char *lf)
{
    return lf > p && lf[-1] == '\r' ? lf - 1 : lf;
}


size_t head_find_end(const char *p, size_t n, size_t *seen)
{
    const char *from = p + *seen, *end = p + n, *lf, *eol;

    for (;;) {
        lf = memchr(from, '\n', (size_t) (end - from));
        if (lf == NULL) {
            *seen = n;
            return 0;
        }

        eol = without_cr(p, lf);
        if (eol == p) {
            return HEAD_BROKEN;
        }

        from = lf + 1;

        if (eol[-1] == '\n') {
            return (size_t) (from - p);
        }
    }
}


static void add_field(struct head *h, struct span name, struct span value)
{
    if (h->nfields == h->room) {
        h->room = h->room ? h->room * 2 : 32;
        h->fields = mem_realloc(h->fields, h->room * sizeof(*h->fields));
    }

    h->fields[h->nfields++] = (struct field) {name, value};
}


static const char *field_line(struct head *h, const char *p, const char *end)
{
    const char *name = p;
    struct span value;

    while (p < end && is_token[(unsigned char) *p]) {
        p++;
    }

    if (p == name || p == end || *p != ':') {
        return *name == ' ' || *name == '\t' ? "a folded field line"
                                             : "an invalid field name";
    }

    value = span_trim((struct span) {p + 1, (size_t) (end - p - 1)});
    if (!span_is_field_value(value)) {
        return "a control character in a field";
    }

    if (h->nfields == HEAD_MAX_FIELDS) {
        return "too many fields";
    }

    add_field(h, (struct span) {name, (size_t) (p - name)}, value);

    return NULL;
}


/* The end of the line at p; what comes behind it is at *next. */
static const char *find_eol(const char *p, const char *end, const char **next)
{
    const char *lf = memchr(p, '\n', (size_t) (end - p));

    if (lf == NULL) {
        return NULL;
    }

    *next = lf + 1;

    return without_cr(p, lf);
}


const char *head_parse_fields(struct head *h, const char *p, size_t n)
{
    const char *end = p + n;

    h->nfields = 0;

    while (p < end) {
        const char *next, *error, *eol = find_eol(p, end, &next);

        if (eol == NULL) {
            return "an unfinished field line";
        }

        error = field_line(h, p, eol);
        if (error != NULL) {
            return error;
        }

        p = next;
    }

    return NULL;
}


/* "HTTP/1.0" or "HTTP/1.1"; any later minor version is read as 1.1. */
static bool version(struct head *h, const char *p, size_t n)
{
    if (n != 8 || memcmp(p, "HTTP/1.", 7) != 0 || p[7] < '0' || p[7] > '9') {
        return false;
    }

    h->minor = p[7] == '0' ? 0 : 1;

    return true;
}


static const char *request_line(struct head *h, const char *p, const char *end)
{
    const char *start = p;

    while (p < end && is_token[(unsigned char) *p]) {
        p++;
    }

    h->method = (struct span) {start, (size_t) (p - start)};
    if (h->method.n == 0 || p == end || *p != ' ') {
        return "an invalid method";
    }

    start = ++p;
    while (p < end && (unsigned char) *p > 0x20 && *p != 0x7f) {
        p++;
    }

    h->target = (struct span) {start, (size_t) (p - start)};
    if (h->target.n == 0 || p == end || *p != ' ') {
        return "an invalid target";
    }

    p++;
    if (!version(h, p, (size_t) (end - p))) {
        return "an unknown protocol version";
    }

    return NULL;
}


static const char *status_line(struct head *h, const char *p, const char *end)
{
    size_t n = (size_t) (end - p);

    if (n < 8 || !version(h, p, 8)) {
        return "no HTTP/1 status line";
    }

    /* the reason and the space before it may be missing */
    if (n < 12 || p[8] != ' ' || p[9] < '1' || p[9] > '9' || p[10] < '0'
        || p[10] > '9' || p[11] < '0' || p[11] > '9'
        || (n > 12 && p[12] != ' ')) {
        return "an invalid status";
    }

    h->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    h->reason = (struct span) {n > 13 ? p + 13 : end, n > 13 ? n - 13 : 0};

    if (!span_is_field_value(h->reason)) {
        return "a control character in the status line";
    }

    return NULL;
}


/* Strictly digits: no sign, no list, no white space; fits in 63 bits. */
static bool parse_length(struct span s, int64_t *length)
{
    int64_t value = 0;

    if (s.n == 0 || s.n > 18) {
        return false;
    }

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }

        value = value * 10 + (s.p[i] - '0');
    }

    *length = value;

    return true;
}


static const char *framing(struct head *h)
{
    struct span list, token;
    bool keep_alive = false;
    size_t options = 0, named = 0;

    for (size_t i = 0; i < h->nfields; i++) {
        const struct field *f = &h->fields[i];

        if (span_is(f->name, "Connection")) {
            list = f->value;
            named += list.n;

            while (span_next_token(&list, &token)) {
                options++;

                if (span_is(token, "keep-alive")) {
                    keep_alive = true;
                } else {
                    h->named = true;
                    h->close |= span_is(token, "close");
                }
            }

            if (options > HEAD_MAX_OPTIONS || named > HEAD_MAX_OPTIONS_BYTES) {
                return "too many options in Connection";
            }

        } else if (span_is(f->name, "Content-Length")) {
            int64_t length;

            if (!parse_length(f->value, &length)) {
                return "an invalid Content-Length";
            }

            if (h->length >= 0 && h->length != length) {
                return "two differing Content-Length fields";
            }

            h->length = length;

        } else if (span_is(f->name, "Transfer-Encoding")) {
            if (h->chunked || !span_is(f->value, "chunked")) {
                return "a transfer coding other than chunked";
            }

            h->chunked = true;
        }
    }

    if (h->chunked && h->length >= 0) {
        return "both Content-Length and Transfer-Encoding";
    }

    if (h->chunked && h->minor == 0) {
        return "Transfer-Encoding in an HTTP/1.0 message";
    }

    if (h->minor == 0 && !keep_alive) {
        h->close = true;
    }

    return NULL;
}


static bool has_bare_lf(const char *p, const char *end)
{
    const char *start = p, *lf;

    for (;;) {
        lf = memchr(p, '\n', (size_t) (end - p));
        if (lf == NULL) {
            return false;
        }

        if (without_cr(start, lf) == lf) {
            return true;
        }

        p = lf + 1;
    }
}


const char *head_parse(struct head *h, enum head_kind kind, const char *p,
                       size_t n)
{
    const char *end = p + n, *next, *error, *eol = find_eol(p, end, &next);

    h->method = h->target = h->reason = (struct span) {"", 0};
    h->status = 0;
    h->nfields = 0;
    h->length = -1;
    h->chunked = false;
    h->named = false;
    h->close = false;

    if (eol == NULL || next == end) {
        return "no start line";
    }

    if (kind == HEAD_REQUEST && has_bare_lf(p, end)) {
        return "a line that does not end in CRLF";
    }

    error = kind == HEAD_REQUEST ? request_line(h, p, eol)
                                 : status_line(h, p, eol);
    if (error != NULL) {
        return error;
    }

    end = without_cr(next, end - 1); /* the empty line */
    error = head_parse_fields(h, next, (size_t) (end - next));

    return error != NULL ? error : framing(h);
}


void head_free(struct head *h)
{
    free(h->fields);
    h->fields = NULL;
    h->nfields = 0;
    h->room = 0;
}


const struct field *head_field(const struct head *h, const char *name)
{
    struct span wanted = {name, strlen(name)};

    for (size_t i = 0; i < h->nfields; i++) {
        if (span_same(h->fields[i].name, wanted)) {
            return &h->fields[i];
        }
    }

    return NULL;
}
