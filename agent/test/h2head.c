/* Heads between HTTP/2 and HTTP/1.1, and the keys of WebSockets. */

#include <stdlib.h>
#include <string.h>

#include "h2head.h"
#include "tap.h"
#include "websocket.h"

static struct h2request r;


static struct span span_of(const char *s)
{
    return (struct span) {s, strlen(s)};
}


static void add(const char *name, const char *value)
{
    h2request_field(&r, span_of(name), span_of(value));
}


static void begin(const char *path)
{
    h2request_begin(&r);
    add(":method", "GET");
    add(":scheme", "http");
    add(":path", path);
    add(":authority", "front");
}


static bool has(size_t i, const char *name, const char *value)
{
    return i < r.head.nfields && span_is(r.head.fields[i].name, name)
           && span_is(r.head.fields[i].value, value);
}


static void test_requests(void)
{
    begin("/x?y");
    add("host", "other");
    add("cookie", "a=1");
    add("x", "1");
    add("cookie", "b=2");
    add("cookie", "c=3");
    add("x-inverting-proxy-user-id", "someone");
    add("x-inverting-proxy-request-id", "4711");
    add("x_inverting_proxy_user_id", "root");
    add("content-length", "12");
    OK(h2request_end(&r) == NULL, "a request");
    OK(span_is(r.head.method, "GET") && span_is(r.head.target, "/x?y"),
       "method and target");
    OK(r.head.nfields == 3, "three fields are left");
    OK(has(0, "Host", "front"), ":authority is the Host");
    OK(has(1, "cookie", "a=1; b=2; c=3"), "cookies are joined");
    OK(has(2, "x", "1"), "others stay");
    OK(r.head.length == 12, "the length");
    OK(span_is(r.user, "someone") && span_is(r.id, "4711"), "user and ID");

    h2request_begin(&r);
    OK(r.user.n == 0 && r.id.n == 0 && r.head.length == -1,
       "nothing is left of the one before");

    begin("/a b");
    OK(h2request_end(&r) != NULL, "a space in the target");
    begin("/a\r\nX: y");
    OK(h2request_end(&r) != NULL, "a line feed in the target");
    begin("");
    OK(h2request_end(&r) != NULL, "no target");
    begin("x");
    OK(h2request_end(&r) != NULL, "a target without a slash");
    begin("http://other/x");
    OK(h2request_end(&r) != NULL, "a target in another host");
    begin("*");
    OK(h2request_end(&r) == NULL, "no target at all: *");

    begin("/");
    for (int i = 0; i < HEAD_MAX_FIELDS + 1; i++) {
        add("x", "");
    }
    OK(h2request_end(&r) != NULL && r.too_large, "too many fields");

    static char large[HEAD_MAX_BYTES];

    memset(large, 'x', sizeof(large) - 1);
    begin("/");
    add("x", large);
    OK(h2request_end(&r) != NULL && r.too_large, "too large a field");

    large[30000] = '\0';
    begin("/");
    add("cookie", large);
    add("cookie", large);
    OK(h2request_end(&r) == NULL && r.head.fields[1].value.n == 60002,
       "large cookies are joined as well");
}


static void test_responses(void)
{
    struct field fields[] = {
        {SPAN("X-Upper"), SPAN("Value")},
        {SPAN("Connection"), SPAN("x-gone")},
        {SPAN("X-Gone"), SPAN("1")},
        {SPAN("Transfer-Encoding"), SPAN("chunked")},
        {SPAN("Sec-WebSocket-Accept"), SPAN("z")},
    };
    struct head h = {.fields = fields, .nfields = 5, .named = true};
    struct h2fields *f = h2fields_response(200, &h, 17);

    OK(f->n == 3, "what is left of a response");
    OK(memcmp(f->nv[0].name, ":status", 7) == 0
       && memcmp(f->nv[0].value, "200", 3) == 0, "the status comes first");
    OK(f->nv[1].namelen == 7 && memcmp(f->nv[1].name, "x-upper", 7) == 0
       && memcmp(f->nv[1].value, "Value", 5) == 0,
       "names are in lower case, values are not");
    OK(memcmp(f->nv[2].name, "content-length", 14) == 0
       && f->nv[2].valuelen == 2, "the length");
    free(f);

    f = h2fields_trailers(fields, 1);
    OK(f != NULL && f->n == 1, "a trailer");
    free(f);
    OK(h2fields_trailers(fields + 3, 1) == NULL, "none that passes");
    OK(h2fields_trailers(fields, 0) == NULL, "none at all");
}


static bool is_nv(const nghttp2_nv *nv, const char *name, const char *value)
{
    return nv->namelen == strlen(name) && nv->valuelen == strlen(value)
           && memcmp(nv->name, name, nv->namelen) == 0
           && memcmp(nv->value, value, nv->valuelen) == 0;
}


static void test_requests_out(void)
{
    struct field fields[] = {
        {SPAN("X-Upper"), SPAN("Value")},
        {SPAN("Host"), SPAN("front:8080")},
        {SPAN("TE"), SPAN("trailers")},
    };
    struct exchange_request request = {
        .method = SPAN("POST"),
        .target = SPAN("/x?y"),
        .fields = fields,
        .nfields = 3,
        .length = 17,
    };
    struct h2fields *f = h2fields_request(&request, SPAN("https"));

    OK(f->n == 7, "a request");
    OK(is_nv(&f->nv[0], ":method", "POST")
       && is_nv(&f->nv[1], ":scheme", "https")
       && is_nv(&f->nv[2], ":authority", "front:8080")
       && is_nv(&f->nv[3], ":path", "/x?y"), "the pseudo fields come first");
    OK(is_nv(&f->nv[4], "x-upper", "Value") && is_nv(&f->nv[5], "te",
                                                     "trailers"),
       "then the others, without Host");
    OK(is_nv(&f->nv[6], "content-length", "17"), "and the length");
    free(f);

    request.length = EXCHANGE_CHUNKED;
    f = h2fields_request(&request, SPAN("http"));
    OK(f->n == 6, "or none");
    free(f);
}


static void test_responses_in(void)
{
    static struct h2response in;
    static char large[HEAD_MAX_BYTES];

    h2response_begin(&in);
    h2response_field(&in, SPAN(":status"), SPAN("404"));
    h2response_field(&in, SPAN("content-length"), SPAN("12"));
    h2response_field(&in, SPAN("x"), SPAN("y"));
    OK(in.head.status == 404 && in.head.length == 12 && in.head.nfields == 1
       && span_is(in.head.fields[0].name, "x")
       && span_is(in.head.fields[0].value, "y"), "a response");

    h2response_begin(&in);
    OK(in.head.status == 0 && in.head.length == -1 && in.head.nfields == 0,
       "nothing is left of the one before");

    memset(large, 'x', sizeof(large) - 1);
    h2response_field(&in, SPAN("x"), span_of(large));
    OK(in.too_large, "too large a field");
    h2response_field(&in, SPAN("x"), SPAN("y"));
    OK(in.too_large && in.head.nfields == 0, "and what comes after it");

    h2response_begin(&in);
    for (int i = 0; i < HEAD_MAX_FIELDS + 1; i++) {
        h2response_field(&in, SPAN("x"), SPAN(""));
    }
    OK(in.too_large, "too many fields");

    h2response_free(&in);
}


static void test_keys(void)
{
    /* the example of RFC 6455 §1.3 */
    struct field f = {SPAN("Sec-WebSocket-Accept"),
                      SPAN("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")};
    struct head h = {.fields = &f, .nfields = 1};
    char a[WEBSOCKET_KEY], b[WEBSOCKET_KEY];

    OK(websocket_accepts("dGhlIHNhbXBsZSBub25jZQ==", &h), "the answer due");
    OK(!websocket_accepts("dGhlIHNhbXBsZSBub25jZA==", &h), "another key");
    h.nfields = 0;
    OK(!websocket_accepts("dGhlIHNhbXBsZSBub25jZQ==", &h), "no answer");
    websocket_key(a);
    websocket_key(b);
    OK(memcmp(a, b, WEBSOCKET_KEY) != 0, "keys differ");
    OK(memcmp(a + WEBSOCKET_KEY - 2, "==", 2) == 0, "and are of 16 bytes");
}


int main(void)
{
    test_requests();
    test_responses();
    test_requests_out();
    test_responses_in();
    test_keys();
    h2request_free(&r);

    return tap_done();
}
