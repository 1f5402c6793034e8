
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_HEAD_H_INCLUDED_
#define _NGX_HTTP_INVERTING_HEAD_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* a field of inverting_proxy_set_header */

typedef struct {
    ngx_str_t                  name;
    ngx_str_t                  lowcase;
    ngx_http_complex_value_t   value;
} ngx_http_inverting_field_t;


/* how the body of a request travels */

typedef struct {
    off_t                      length;    /* -1: chunked */
    unsigned                   present:1;
    unsigned                   discarded:1;   /* there was one */
} ngx_http_inverting_body_t;


/* whether there is a body, and how long it is */
void ngx_http_inverting_request_body(ngx_http_request_t *r,
    ngx_http_inverting_body_t *body);

/*
 * One place in the worker for the text of a request's head, while something
 * else is made of it: it is the next caller's afterwards.  NULL: no memory,
 * which was logged.
 */
u_char *ngx_http_inverting_head_room(size_t size);

/*
 * The head of the request as the backend is to see it, with the empty line at
 * its end, in ngx_http_inverting_head_room().  "fields" are
 * ngx_http_inverting_field_t, those of the defaults included.  NGX_OK,
 * NGX_HTTP_BAD_REQUEST with a message in the log, or NGX_ERROR.
 */
ngx_int_t ngx_http_inverting_request_head(ngx_http_request_t *r,
    ngx_array_t *fields, ngx_http_inverting_body_t *body, ngx_str_t *head);

/*
 * Whether the client asks for a WebSocket in the way of RFC 6455, so that the
 * connection may become one.
 */
ngx_uint_t ngx_http_inverting_is_websocket(ngx_http_request_t *r);

/* whether a field is the connection's own, by its name in any case */
ngx_uint_t ngx_http_inverting_is_hop_by_hop(ngx_str_t *name);

/*
 * Adds what a value of Connection names to "options" (of ngx_str_t), each by
 * itself: every field of the message is looked for among them.  NGX_DECLINED:
 * too many in all; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_inverting_add_options(ngx_array_t *options,
    ngx_str_t *value);

/* whether the field is one of them */
ngx_uint_t ngx_http_inverting_is_option(ngx_array_t *options,
    ngx_str_t *name);

/* whether the list has the token, in any case */
ngx_uint_t ngx_http_inverting_has_token(ngx_str_t *list, ngx_str_t *token);

/* field-name; field-value: no control character but the tabulator */
ngx_uint_t ngx_http_inverting_is_token(ngx_str_t *s);
ngx_uint_t ngx_http_inverting_is_value(ngx_str_t *s);

/*
 * What a stranger has chosen, for the log, where it must not look like another
 * line: itself, or a copy with escapes as in a URI.
 */
ngx_str_t *ngx_http_inverting_escaped(ngx_pool_t *pool, ngx_str_t *s);

/* any "X-Inverting-Proxy-...", also with "_" for "-" */
ngx_uint_t ngx_http_inverting_is_ours(ngx_str_t *lowcase);


#endif /* _NGX_HTTP_INVERTING_HEAD_H_INCLUDED_ */
