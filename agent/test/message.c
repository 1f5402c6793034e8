/* Whole messages and their bodies, in pieces of every size. */

#include <string.h>

#include "body.h"
#include "message.h"
#include "response.h"
#include "tap.h"

static struct head head;
static struct buf got;     /* the body */
static struct buf trailer; /* as received */
static size_t extra;


/* Feed text in pieces of step bytes; the last event that came. */
static enum message_event feed(enum head_kind kind, const char *text,
                               size_t step, bool to_head)
{
    enum message_event event = MESSAGE_MORE;
    size_t n = strlen(text);
    struct message m;

    buf_reset(&got);
    buf_reset(&trailer);
    message_init(&m, kind, &head);
    m.to_head = to_head;

    for (size_t i = 0; i < n && event == MESSAGE_MORE; i += step) {
        struct span in = {text + i, n - i < step ? n - i : step}, data;

        do {
            event = message_next(&m, &in, &data);

            if (event == MESSAGE_DATA) {
                buf_append(&got, data.p, data.n);
            } else if (event == MESSAGE_HEAD && kind == HEAD_RESPONSE
                       && head.status < 200) {
                message_skip(&m);
            }
        } while (event == MESSAGE_HEAD || event == MESSAGE_DATA);

        extra = message_extra(&m, &in);
    }

    if (event == MESSAGE_MORE && message_complete_at_close(&m)) {
        event = MESSAGE_END;
    }

    buf_append(&trailer, m.body.trailer.data, buf_len(&m.body.trailer));
    message_free(&m);

    return event;
}


/* Whether text is a whole message with this body, however it is cut up. */
static bool whole(enum head_kind kind, const char *text, const char *body,
                  bool to_head)
{
    size_t n = strlen(body);

    for (size_t step = 1; step <= strlen(text); step++) {
        if (feed(kind, text, step, to_head) != MESSAGE_END
            || buf_len(&got) != n || extra != 0
            || (n > 0 && memcmp(buf_ptr(&got), body, n) != 0)) {
            printf("# in steps of %zu\n", step);
            return false;
        }
    }

    return true;
}


static bool ends_as(enum message_event event, const char *text)
{
    for (size_t step = 1; step <= strlen(text); step++) {
        if (feed(HEAD_RESPONSE, text, step, false) != event) {
            printf("# in steps of %zu\n", step);
            return false;
        }
    }

    return true;
}

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


static void messages(void)
{
    static char text[BODY_MAX_TRAILER + 256];

    OK(whole(HEAD_RESPONSE, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
             "hello", "hello", false), "by length");
    OK(whole(HEAD_RESPONSE, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "",
             false), "of length 0");
    OK(whole(HEAD_RESPONSE, "HTTP/1.0 200 OK\r\n\r\nhello", "hello", false),
       "until the connection ends");
    OK(whole(HEAD_RESPONSE, CHUNKED "5\r\nhello\r\n6;a=\"b\"\r\n world\r\n"
             "000\r\n\r\n", "hello world", false), "in chunks");
    OK(whole(HEAD_RESPONSE, CHUNKED "A\r\n0123456789\r\n0\r\nX: y\r\nZ: z\r\n"
             "\r\n", "0123456789", false)
       && buf_len(&trailer) == 12
       && memcmp(buf_ptr(&trailer), "X: y\r\nZ: z\r\n", 12) == 0,
       "with trailers");
    OK(whole(HEAD_RESPONSE, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\n"
             "Link: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
             "ok", false), "after interim responses");
    OK(whole(HEAD_RESPONSE, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "",
             true), "to a HEAD");
    OK(whole(HEAD_RESPONSE, "HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n", "",
             false), "a 304");
    OK(whole(HEAD_RESPONSE, "HTTP/1.1 204 N\r\n\r\n", "", false), "a 204");
    OK(whole(HEAD_REQUEST, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "", false),
       "a request without a body");
    OK(whole(HEAD_REQUEST, "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
             "abc", false), "and with one");

    OK(ends_as(MESSAGE_MORE, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"),
       "cut short, by length");
    OK(ends_as(MESSAGE_MORE, CHUNKED "5\r\nhello\r\n"), "cut between chunks");
    OK(ends_as(MESSAGE_MORE, CHUNKED "5\r\nhello\r\n0\r\n"),
       "cut before the last line");
    OK(ends_as(MESSAGE_MORE, "HTTP/1.1 200 OK\r\n"), "cut in the head");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "5\r\nhelloX\r\n"),
       "a chunk that is too long");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "5\r\nhelloX\n0\r\n\r\n"),
       "something else than CR behind a chunk");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "5\r\nhello\rX0\r\n\r\n"),
       "something else than LF behind that");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "5\nhello\r\n"), "a bare LF");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "5\rhello\r\n"), "a bare CR");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "x\r\n"), "no number");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "\r\n"), "no size");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "-5\r\n"), "a sign");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "0x5\r\n"), "a prefix");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "1000000000000000\r\n"),
       "a size that is too large");
    OK(ends_as(MESSAGE_INVALID, CHUNKED "0\r\nX: y\n\r\n"),
       "a bare LF in the trailers");
    OK(ends_as(MESSAGE_INVALID, "HTTP/1.1 200 OK\r\nA : b\r\n\r\n"),
       "an invalid head");

    OK(feed(HEAD_RESPONSE, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
            100, false) == MESSAGE_END && extra == 2, "bytes behind the end");

    snprintf(text, sizeof(text), CHUNKED "0\r\nX: %0*d\r\n\r\n",
             BODY_MAX_TRAILER, 0);
    OK(feed(HEAD_RESPONSE, text, 1000, false) == MESSAGE_INVALID,
       "too long a trailer");
}


static void large_heads(void)
{
    struct buf text = {0};
    char *p;

    buf_append_str(&text, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ");
    p = buf_reserve(&text, HEAD_MAX_BYTES);
    memset(p, 'x', HEAD_MAX_BYTES);
    buf_added(&text, HEAD_MAX_BYTES - 200);
    buf_append(&text, "\r\n\r\n", 5); /* and a NUL */
    OK(feed(HEAD_RESPONSE, buf_ptr(&text), 1000, false) == MESSAGE_END,
       "a head just below the limit");

    buf_reset(&text);
    buf_append_str(&text, "HTTP/1.1 200 OK\r\nX: ");
    p = buf_reserve(&text, HEAD_MAX_BYTES + 1);
    memset(p, 'x', HEAD_MAX_BYTES);
    p[HEAD_MAX_BYTES] = '\0';
    OK(feed(HEAD_RESPONSE, buf_ptr(&text), 1000, false) == MESSAGE_INVALID,
       "one above it, even if unfinished");
    buf_free(&text);
}


static void chunks(void)
{
    static const struct {
        size_t len;
        const char *line;
    } cases[] = {{0, "0\r\n"}, {1, "1\r\n"}, {255, "ff\r\n"},
                 {65536, "10000\r\n"}, {SIZE_MAX, "ffffffffffffffff\r\n"}};
    char line[CHUNK_HEADER_MAX];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n = chunk_header(line, cases[i].len);

        OK(n == strlen(cases[i].line) && memcmp(line, cases[i].line, n) == 0,
           "the size line of %zu", cases[i].len);
    }
}


static bool is(const struct buf *b, const char *text)
{
    return buf_len(b) == strlen(text)
           && memcmp(buf_ptr(b), text, buf_len(b)) == 0;
}


static void parse(const char *text)
{
    head_parse(&head, HEAD_RESPONSE, text, strlen(text));
}


static void posted(void)
{
    struct buf out = {0};
    struct head fields = {0};

    parse("HTTP/1.0 200 Fine\r\nB: 1\r\nContent-Length: 3\r\nA: 2\r\n"
          "Connection: close\r\nB: 3\r\n\r\n");
    response_head(&out, &head, false);
    OK(is(&out, "HTTP/1.1 200 Fine\r\nB: 1\r\nA: 2\r\nB: 3\r\n"
          "Content-Length: 3\r\n\r\n"), "the head of a response");

    buf_reset(&out);
    response_head(&out, &head, true);
    OK(is(&out, "HTTP/1.1 200 Fine\r\nB: 1\r\nA: 2\r\nB: 3\r\n"
          "Content-Length: 3\r\n\r\n"), "the same to a HEAD");

    buf_reset(&out);
    parse("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n");
    response_head(&out, &head, true);
    OK(is(&out, "HTTP/1.1 200 \r\n\r\n"), "to a HEAD, no length");

    buf_reset(&out);
    parse("HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n");
    response_head(&out, &head, false);
    OK(is(&out, "HTTP/1.1 204 N\r\n\r\n"), "a 204 has no length");

    buf_reset(&out);
    parse("HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n");
    response_head(&out, &head, false);
    OK(is(&out, "HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n"),
       "a 304 may have one");

    buf_reset(&out);
    head_parse_fields(&fields, "X: y\r\nContent-Length: 3\r\n", 25);
    response_last_chunk(&out, fields.fields, fields.nfields);
    OK(is(&out, "0\r\nX: y\r\n\r\n"), "trailers that may pass");

    buf_reset(&out);
    response_error(&out, 502, "no connection", false);
    buf_append(&out, "", 1);
    OK(strstr(buf_ptr(&out), "HTTP/1.1 502 Bad Gateway\r\n") == buf_ptr(&out)
       && strstr(buf_ptr(&out), "\r\n\r\n502 Bad Gateway: no connection\n")
          != NULL, "a response of the agent's");
    OK(feed(HEAD_RESPONSE, buf_ptr(&out), 7, false) == MESSAGE_END
       && extra == 0, "whose length is right");

    buf_free(&out);
    head_free(&fields);
}


int main(void)
{
    messages();
    large_heads();
    chunks();
    posted();
    buf_free(&got);
    buf_free(&trailer);
    head_free(&head);

    return tap_done();
}
