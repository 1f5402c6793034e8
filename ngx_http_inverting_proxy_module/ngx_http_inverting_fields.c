
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_fields.h"


/* in all fields Connection of a message */
#define NGX_HTTP_INVERTING_OPTIONS  64

/* a word of which each byte is "b" */
#define ngx_http_inverting_bytes(b)  ((uint64_t) (b) * 0x0101010101010101)


static ngx_uint_t ngx_http_inverting_next_token(u_char **pos, u_char *last,
    ngx_str_t *token);


static ngx_str_t  ngx_http_inverting_hop_by_hop[] = {
    ngx_string("connection"),
    ngx_string("keep-alive"),
    ngx_string("proxy-connection"),
    ngx_string("proxy-authenticate"),
    ngx_string("proxy-authorization"),
    ngx_string("te"),
    ngx_string("trailer"),
    ngx_string("transfer-encoding"),
    ngx_string("upgrade"),
    ngx_null_string
};


/* tchar of RFC 9110, 5.6.2 */

static uint32_t  ngx_http_inverting_tchar[] = {
    0x00000000,
                /* ?>=< ;:98 7654 3210  /.-, +*)( '&%$ #"!  */
    0x03ff6cfa, /* 0000 0011 1111 1111  0110 1100 1111 1010 */

                /* _^]\ [ZYX WVUT SRQP  ONML KJIH GFED CBA@ */
    0xc7fffffe, /* 1100 0111 1111 1111  1111 1111 1111 1110 */

                /*  ~}| {zyx wvut srqp  onml kjih gfed cba` */
    0x57ffffff, /* 0101 0111 1111 1111  1111 1111 1111 1111 */

    0x00000000,
    0x00000000,
    0x00000000,
    0x00000000
};


ngx_uint_t
ngx_http_inverting_is_hop_by_hop(ngx_str_t *name)
{
    ngx_str_t  *s;

    /* most are not: none of these has another length */

    switch (name->len) {
    case 2: case 7: case 10: case 16: case 17: case 18: case 19:
        break;

    default:
        return 0;
    }

    for (s = ngx_http_inverting_hop_by_hop; s->len; s++) {
        if (s->len == name->len
            && ngx_strncasecmp(s->data, name->data, name->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_inverting_add_options(ngx_array_t *options, ngx_str_t *value)
{
    u_char     *p, *last;
    ngx_str_t   option, *added;

    p = value->data;
    last = p + value->len;

    while (ngx_http_inverting_next_token(&p, last, &option)) {

        if (options->nelts == NGX_HTTP_INVERTING_OPTIONS) {
            return NGX_DECLINED;
        }

        added = ngx_array_push(options);
        if (added == NULL) {
            return NGX_ERROR;
        }

        *added = option;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_inverting_is_option(ngx_array_t *options, ngx_str_t *name)
{
    ngx_str_t   *option;
    ngx_uint_t   i;

    option = options->elts;

    for (i = 0; i < options->nelts; i++) {
        if (option[i].len == name->len
            && ngx_strncasecmp(option[i].data, name->data, name->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_http_inverting_has_token(ngx_str_t *list, ngx_str_t *token)
{
    u_char     *p, *last;
    ngx_str_t   s;

    p = list->data;
    last = p + list->len;

    while (ngx_http_inverting_next_token(&p, last, &s)) {
        if (s.len == token->len
            && ngx_strncasecmp(s.data, token->data, token->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* of a list, without the white space around it, from "*pos" on; 0: none */

static ngx_uint_t
ngx_http_inverting_next_token(u_char **pos, u_char *last, ngx_str_t *token)
{
    u_char  *p;

    p = *pos;

    while (p < last) {
        token->data = p;

        while (p < last && *p != ',') {
            p++;
        }

        token->len = p++ - token->data;

        ngx_http_inverting_trim(token);

        if (token->len) {
            *pos = p;
            return 1;
        }
    }

    *pos = last;

    return 0;
}


void
ngx_http_inverting_trim(ngx_str_t *s)
{
    u_char  *p, *last;

    p = s->data;
    last = p + s->len;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    while (last > p && (last[-1] == ' ' || last[-1] == '\t')) {
        last--;
    }

    s->data = p;
    s->len = last - p;
}


ngx_uint_t
ngx_http_inverting_is_token(ngx_str_t *s)
{
    u_char  *p, *last;

    last = s->data + s->len;

    for (p = s->data; p < last; p++) {

        if (!(ngx_http_inverting_tchar[*p >> 5]
              & ((uint32_t) 1 << (*p & 0x1f))))
        {
            return 0;
        }
    }

    return s->len > 0;
}


ngx_uint_t
ngx_http_inverting_is_value(ngx_str_t *s)
{
    u_char    *p, *last;
    uint64_t   word, del;

    p = s->data;
    last = p + s->len;

    while (last - p >= (ssize_t) sizeof(uint64_t)) {

        /* eight bytes at a time: one less than 0x20, or equal to 0x7f? */

        ngx_memcpy(&word, p, sizeof(uint64_t));
        del = word ^ ngx_http_inverting_bytes(0x7f);

        if ((((word - ngx_http_inverting_bytes(0x20)) & ~word)
             | ((del - ngx_http_inverting_bytes(0x01)) & ~del))
            & ngx_http_inverting_bytes(0x80))
        {
            /* or a tabulator, which is one byte's business */
            break;
        }

        p += sizeof(uint64_t);
    }

    for ( /* void */ ; p < last; p++) {
        if ((*p < 0x20 && *p != '\t') || *p == 0x7f) {
            return 0;
        }
    }

    return 1;
}


ngx_str_t *
ngx_http_inverting_escaped(ngx_pool_t *pool, ngx_str_t *s)
{
    uintptr_t   n;
    ngx_str_t  *escaped;

    static ngx_str_t  none = ngx_null_string;

    n = ngx_escape_uri(NULL, s->data, s->len, NGX_ESCAPE_URI);

    if (n == 0) {
        return s;
    }

    escaped = ngx_palloc(pool, sizeof(ngx_str_t) + s->len + 2 * n);
    if (escaped == NULL) {
        return &none;
    }

    escaped->len = s->len + 2 * n;
    escaped->data = (u_char *) &escaped[1];

    (void) ngx_escape_uri(escaped->data, s->data, s->len, NGX_ESCAPE_URI);

    return escaped;
}


ngx_table_elt_t *
ngx_http_inverting_add_field(ngx_list_t *fields, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(fields);
    if (h == NULL) {
        return NULL;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key = *name;
    h->value = *value;

    return h;
}


ngx_uint_t
ngx_http_inverting_is_ours(ngx_str_t *lowcase)
{
    u_char      ch;
    ngx_uint_t  i;

    static u_char  prefix[] = "x-inverting-proxy-";

    if (lowcase->len < sizeof(prefix) - 1) {
        return 0;
    }

    for (i = 0; i < sizeof(prefix) - 1; i++) {
        ch = lowcase->data[i];

        if ((ch == '_' ? '-' : ch) != prefix[i]) {
            return 0;
        }
    }

    return 1;
}
