/* Heads: what is taken, what is refused, which fields pass. */

#include <string.h>

#include "fields.h"
#include "head.h"
#include "tap.h"

#define TIMES_8(s) s s s s s s s s
#define OPTIONS_64 TIMES_8(TIMES_8("x,"))

static struct head h;


/* What is wrong with the text, or NULL. */
static const char *parse(enum head_kind kind, const char *text)
{
    size_t seen = 0, n = strlen(text), len = head_find_end(text, n, &seen);

    if (len == 0 || len == HEAD_BROKEN) {
        return len == 0 ? "not whole" : "broken";
    }

    return head_parse(&h, kind, text, len);
}


static const char *response(const char *text)
{
    return parse(HEAD_RESPONSE, text);
}


static const char *request(const char *text)
{
    return parse(HEAD_REQUEST, text);
}


static bool is(struct span s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}


static void responses(void)
{
    OK(response("HTTP/1.1 200 OK\r\nA: b\r\nC:  d \t\r\nE:\r\n\r\n") == NULL,
       "a response");
    OK(h.status == 200 && is(h.reason, "OK") && h.nfields == 3
       && h.minor == 1 && !h.close && h.length == -1 && !h.chunked,
       "its status line");
    OK(is(h.fields[1].value, "d") && is(h.fields[2].value, ""),
       "white space around values");
    OK(response("HTTP/1.1 404\r\n\r\n") == NULL && h.status == 404
       && h.reason.n == 0, "no reason");
    OK(response("HTTP/1.1 404 \r\n\r\n") == NULL && h.reason.n == 0,
       "an empty reason");
    OK(response("HTTP/1.1 200 a b\r\n\r\n") == NULL && is(h.reason, "a b"),
       "a reason of two words");
    OK(response("HTTP/1.0 200 OK\r\n\r\n") == NULL && h.close && h.minor == 0,
       "HTTP/1.0 closes");
    OK(response("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n") == NULL
       && !h.close, "unless it says otherwise");
    OK(response("HTTP/1.1 200 OK\r\nconnection: x, CLOSE\r\n\r\n") == NULL
       && h.close, "Connection: close");
    OK(response("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n") == NULL
       && h.length == 12, "Content-Length");
    OK(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
                "Content-Length: 5\r\n\r\n") == NULL && h.length == 5,
       "the same twice");
    OK(response("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n")
       == NULL && h.chunked, "chunked");
    OK(response("HTTP/1.1 200 OK\r\nX: \xc3\xa4\tb\r\n\r\n") == NULL,
       "bytes beyond ASCII, and a tab");

    OK(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
                "Content-Length: 6\r\n\r\n") != NULL, "two lengths");
    OK(response("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n") != NULL,
       "a list of lengths");
    OK(response("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n") != NULL,
       "a signed length");
    OK(response("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n") != NULL,
       "a negative one");
    OK(response("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n") != NULL,
       "an empty one");
    OK(response("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999"
                "\r\n\r\n") != NULL, "one that is too large");
    OK(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
                "Transfer-Encoding: chunked\r\n\r\n") != NULL,
       "both framings");
    OK(response("HTTP/1.1 200 OK\r\nConnection: " OPTIONS_64 "\r\n\r\n")
       == NULL, "many options");
    OK(response("HTTP/1.1 200 OK\r\nConnection: " OPTIONS_64 "\r\n"
                "Connection: close\r\n\r\n") != NULL, "too many options");
    OK(response("HTTP/1.1 200 OK\r\nConnection: "
                TIMES_8(TIMES_8(TIMES_8("long"))) "\r\n\r\n") == NULL,
       "a long one");
    OK(response("HTTP/1.1 200 OK\r\nConnection: x"
                TIMES_8(TIMES_8(TIMES_8("long"))) "\r\n\r\n") != NULL,
       "too long a one");
    OK(response("HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: "
                TIMES_8(TIMES_8(TIMES_8(",,,,"))) "\r\n\r\n") != NULL,
       "too many that are empty");
    OK(response("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
       != NULL, "another coding");
    OK(response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                "Transfer-Encoding: chunked\r\n\r\n") != NULL,
       "chunked twice");
    OK(response("HTTP/1.1 200 OK\r\nTransfer-Encoding: \r\n\r\n") != NULL,
       "an empty coding");
    OK(response("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
       != NULL, "chunked in HTTP/1.0");
    OK(response("HTTP/1.1 200 OK\r\nA : b\r\n\r\n") != NULL,
       "a space before the colon");
    OK(response("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n") != NULL,
       "a folded line");
    OK(response("HTTP/1.1 200 OK\r\n A: b\r\n\r\n") != NULL,
       "a space at the beginning");
    OK(response("HTTP/1.1 200 OK\r\n: b\r\n\r\n") != NULL, "no name");
    OK(response("HTTP/1.1 200 OK\r\nA\r\n\r\n") != NULL, "no colon");
    OK(response("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n") != NULL, "a bare CR");
    OK(response("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n") == NULL
       && h.nfields == 2 && is(h.fields[0].value, "b")
       && is(h.fields[1].value, "d"), "a bare LF");
    OK(response("HTTP/1.1 200 OK\r\nA: b\n\n") == NULL
       && h.nfields == 1 && is(h.fields[0].value, "b"), "two at the end");
    OK(response("HTTP/1.1 200 OK\nA: b\n\r\n") == NULL
       && is(h.reason, "OK") && h.nfields == 1, "all but the last");
    OK(response("HTTP/1.1 200 OK\n\n") == NULL && is(h.reason, "OK")
       && h.nfields == 0, "bare LFs only");
    OK(response("HTTP/1.1 200 OK\nA: b\n c\n\n") != NULL,
       "a folded line between them");
    OK(response("HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n") != NULL, "two CRs");
    OK(response("HTTP/1.1 200 OK\r\nA: \x01\r\n\r\n") != NULL,
       "a control character");
    OK(response("HTTP/1.1 200 O\x7fK\r\n\r\n") != NULL, "one in the reason");
    OK(response("HTTP/1.1 20 OK\r\n\r\n") != NULL, "a short status");
    OK(response("HTTP/1.1 2000 OK\r\n\r\n") != NULL, "a long status");
    OK(response("HTTP/1.1 099 OK\r\n\r\n") != NULL, "a status below 100");
    OK(response("HTTP/2.0 200 OK\r\n\r\n") != NULL, "another version");
    OK(response("HTTP/1.1  200 OK\r\n\r\n") != NULL, "two spaces");
    OK(response("\r\n\r\n") != NULL, "nothing");
    OK(response("garbage\r\n\r\n") != NULL, "garbage");
}


static void requests(void)
{
    OK(request("GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n") == NULL
       && is(h.method, "GET") && is(h.target, "/a?b"), "a request");
    OK(request("OPTIONS * HTTP/1.1\r\n\r\n") == NULL && is(h.target, "*"),
       "the target *");
    OK(request("QUERY /\xff%00\"<> HTTP/1.1\r\n\r\n") == NULL,
       "any method, and any visible bytes");
    OK(request("GET / HTTP/1.1\r\nContent-Length: 1\r\n"
               "Transfer-Encoding: chunked\r\n\r\n") != NULL, "both framings");
    OK(request("GET  / HTTP/1.1\r\n\r\n") != NULL, "two spaces");
    OK(request("GET / x HTTP/1.1\r\n\r\n") != NULL, "a space in the target");
    OK(request("GET /\x01 HTTP/1.1\r\n\r\n") != NULL, "a control character");
    OK(request("G(T / HTTP/1.1\r\n\r\n") != NULL, "a bad method");
    OK(request("GET /\r\n\r\n") != NULL, "no version");
    OK(request("GET / HTTP/1.1 \r\n\r\n") != NULL, "a space at the end");
    OK(request(" / HTTP/1.1\r\n\r\n") != NULL, "no method");
    OK(request("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n") != NULL, "a bare LF");
    OK(request("GET / HTTP/1.1\nA: b\r\n\r\n") != NULL, "one in front");
    OK(request("GET / HTTP/1.1\r\nA: b\r\n\n") != NULL, "one at the end");
    OK(request("GET / HTTP/1.1\n\n") != NULL, "bare LFs only");
}


static void ends(void)
{
    const char *text = "HTTP/1.1 200 OK\r\nA: b\r\n\r\nrest";
    size_t n = strlen(text) - 4, seen = 0;
    bool early = false;

    for (size_t i = 1; i < n; i++) {
        early |= head_find_end(text, i, &seen) != 0;
    }

    OK(!early, "no end before the end, byte by byte");
    OK(head_find_end(text, n + 4, &seen) == n, "and then the end");
    seen = 0;
    OK(head_find_end("\n", 1, &seen) == HEAD_BROKEN, "a bare LF at once");
    seen = 0;
    OK(head_find_end("\r\n", 2, &seen) == HEAD_BROKEN, "an empty line");
    seen = 0;
    OK(head_find_end("a\n\nb", 4, &seen) == 3, "the end, of bare LFs");
    seen = 0;
    OK(head_find_end("a\n\r", 3, &seen) == 0
       && head_find_end("a\n\r\n", 4, &seen) == 4, "of a bare LF and CRLF");
}


/* The names of the fields that pass, joined by a comma. */
static const char *passing(enum head_kind kind)
{
    static char names[256];
    size_t n = 0;

    names[0] = '\0';
    for (size_t i = 0; i < h.nfields; i++) {
        if (field_passes(&h, &h.fields[i], kind)) {
            n += (size_t) snprintf(names + n, sizeof(names) - n, "%.*s,",
                                   (int) h.fields[i].name.n,
                                   h.fields[i].name.p);
        }
    }

    return names;
}


static void filter(void)
{
    request("GET / HTTP/1.1\r\nHost: h\r\nConnection: close, X-A , host\r\n"
            "X-a: 1\r\nB: 2\r\nKeep-Alive: x\r\nProxy-Connection: x\r\n"
            "Proxy-Authenticate: x\r\nProxy-Authorization: x\r\n"
            "TE: gzip\r\nTE: trailers\r\nTrailer: x\r\nUpgrade: x\r\n"
            "Expect: 100-continue\r\nContent-Length: 3\r\nb: 3\r\n\r\n");
    OK(strcmp(passing(HEAD_REQUEST), "Host,B,TE,b,") == 0,
       "what passes of a request: %s", passing(HEAD_REQUEST));

    response("HTTP/1.1 200 OK\r\nConnection: x-one\r\nconnection: X-Two\r\n"
             "X-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nTE: trailers\r\n"
             "Transfer-Encoding: chunked\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
             "\r\n");
    OK(strcmp(passing(HEAD_RESPONSE), "X-Three,Set-Cookie,Set-Cookie,") == 0,
       "what passes of a response: %s", passing(HEAD_RESPONSE));

    OK(field_is_ours(SPAN("X-Inverting-Proxy-User-ID"))
       && field_is_ours(SPAN("x_inverting-PROXY_anything")),
       "fields of the proxy's");
    OK(!field_is_ours(SPAN("X-Inverting-Proxy"))
       && !field_is_ours(SPAN("X-Inverting-Prox-y-a")), "and others");
}


static bool number_is(uint64_t n, const char *text)
{
    char digits[SPAN_DIGITS];

    return span_is(span_number(digits, n), text);
}


static void numbers(void)
{
    OK(number_is(0, "0") && number_is(10, "10") && number_is(503, "503"),
       "numbers");
    OK(number_is(UINT64_MAX, "18446744073709551615"), "the largest number");
}


int main(void)
{
    responses();
    requests();
    ends();
    filter();
    numbers();
    head_free(&h);

    return tap_done();
}
