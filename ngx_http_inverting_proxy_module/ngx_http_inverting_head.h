
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


#endif /* _NGX_HTTP_INVERTING_HEAD_H_INCLUDED_ */
