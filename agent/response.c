#include "response.h"

#include <stdio.h>
#include <string.h>

#include "fields.h"


bool response_is_chunked(const struct head *h, bool to_head)
{
    return !to_head && h->status != 204 && h->status != 304 && h->length < 0;
}


void response_head(struct buf *out, const struct head *h, bool to_head)
{
    char line[64];
    int n;

    n = snprintf(line, sizeof(line), "HTTP/1.1 %03d ", h->status);
    buf_append(out, line, (size_t) n);
    buf_append(out, h->reason.p, h->reason.n);
    buf_append(out, "\r\n", 2);

    for (size_t i = 0; i < h->nfields; i++) {
        if (field_passes(h, &h->fields[i], HEAD_RESPONSE)) {
            field_append(out, h->fields[i].name, h->fields[i].value);
        }
    }

    if (response_is_chunked(h, to_head)) {
        buf_append_str(out, "Transfer-Encoding: chunked\r\n");

    } else if (h->length >= 0 && h->status != 204) {
        field_append_length(out, h->length);
    }

    buf_append(out, "\r\n", 2);
}


void response_last_chunk(struct buf *out, const struct field *trailers,
                         size_t n)
{
    struct head none = {0};

    buf_append(out, "0\r\n", 3);

    for (size_t i = 0; i < n; i++) {
        if (field_passes(&none, &trailers[i], HEAD_RESPONSE)) {
            field_append(out, trailers[i].name, trailers[i].value);
        }
    }

    buf_append(out, "\r\n", 2);
}


static const char *reason_of(int status)
{
    switch (status) {
    case 431:
        return "Request Header Fields Too Large";
    case 501:
        return "Not Implemented";
    case 504:
        return "Gateway Timeout";
    default:
        return "Bad Gateway";
    }
}


size_t response_error_body(char *p, size_t size, int status,
                           const char *text)
{
    size_t n = (size_t) snprintf(p, size, "%d %s: %s\n", status,
                                 reason_of(status), text);

    return n < size ? n : size - 1;
}


void response_error(struct buf *out, int status, const char *text,
                    bool to_head)
{
    char head[512], body[RESPONSE_ERROR_MAX];
    size_t len = response_error_body(body, sizeof(body), status, text);
    int n = snprintf(head, sizeof(head),
                     "HTTP/1.1 %d %s\r\n"
                     "Content-Type: text/plain; charset=utf-8\r\n"
                     "Cache-Control: no-store\r\n"
                     "Content-Length: %zu\r\n"
                     "\r\n", status, reason_of(status), len);

    buf_append(out, head, (size_t) n);

    if (!to_head) {
        buf_append(out, body, len);
    }
}
