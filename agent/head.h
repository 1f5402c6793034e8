/*
 * The head of an HTTP/1.1 message: start line and fields. Pure parsing,
 * strict where RFC 9112 lets a recipient choose: no bare CR, no folded lines,
 * no space before a colon, no control characters; no bare LF in requests.
 * Responses may have it: what a CGI script prints, small servers pass on as
 * it is.
 *
 * The parser that Debian packages (http_parser 2.9.4) is not used: its
 * library is built without HTTP_PARSER_STRICT, so it passes all of the above
 * and garbage between chunks, and it refuses methods that it does not know.
 */

#ifndef AGENT_HEAD_H
#define AGENT_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

/* Bytes in somebody else's memory; no NUL at the end. */
struct span {
    const char *p;
    size_t n;
};

#define SPAN(literal) ((struct span) {literal, sizeof(literal) - 1})
#define SPAN_DIGITS 20 /* of the largest number */

struct field {
    struct span name;
    struct span value; /* without the white space around it */
};

enum head_kind { HEAD_REQUEST, HEAD_RESPONSE };

#define HEAD_MAX_BYTES (64 * 1024) /* start line and fields, of any peer */
#define HEAD_MAX_FIELDS 1000

/* In Connection: they are looked through for each field. */
#define HEAD_MAX_OPTIONS 64
#define HEAD_MAX_OPTIONS_BYTES 2048

/* What points into the message is valid as long as the message's bytes. */
struct head {
    struct span method; /* requests */
    struct span target;
    int status; /* responses */
    struct span reason;
    int minor; /* of HTTP/1.x */

    struct field *fields; /* owned by the head, see head_free() */
    size_t nfields;
    size_t room;

    int64_t length; /* Content-Length, or -1 */
    bool chunked;   /* Transfer-Encoding: chunked */
    bool named;     /* Connection has other tokens than keep-alive */
    bool close;     /* the connection does not outlive the message */
};

#define HEAD_BROKEN ((size_t) -1)

/*
 * Length of the head at the beginning of p[0..n), with its empty line; 0 if
 * it is not whole yet; HEAD_BROKEN if the empty line is its first. *seen (0
 * at first) remembers how far was looked.
 */
size_t head_find_end(const char *p, size_t n, size_t *seen);

/*
 * Parse p[0..n), exactly one head as head_find_end() measured it. Returns
 * NULL, or what is wrong with it (a constant). The head's array of fields is
 * used again from call to call; start with a zeroed struct.
 */
const char *head_parse(struct head *h, enum head_kind kind, const char *p,
                       size_t n);

/*
 * Parse field lines alone, "name: value" CRLF and so on, without an empty
 * line: a trailer section. Returns NULL or what is wrong.
 */
const char *head_parse_fields(struct head *h, const char *p, size_t n);

void head_free(struct head *h);

/* Case-insensitive comparison, for names of fields and tokens. */
static inline bool span_same(struct span a, struct span b)
{
    return a.n == b.n && strncasecmp(a.p, b.p, a.n) == 0;
}

static inline bool span_is(struct span s, const char *literal)
{
    return span_same(s, (struct span) {literal, strlen(literal)});
}

/* The first field of that name, or NULL. */
const struct field *head_field(const struct head *h, const char *name);

/* Without the spaces and tabs around it. */
struct span span_trim(struct span s);

/*
 * Walk through a comma-separated list of tokens: takes the next element off
 * the front of *list. False at the end.
 */
bool span_next_token(struct span *list, struct span *token);

/* n in decimal, written into text. */
struct span span_number(char text[SPAN_DIGITS], uint64_t n);

#endif
