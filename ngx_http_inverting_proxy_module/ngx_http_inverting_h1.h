
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_H1_H_INCLUDED_
#define _NGX_HTTP_INVERTING_H1_H_INCLUDED_


#include "ngx_http_inverting_ptth.h"
#include "ngx_http_inverting_chunked.h"


/*
 * What ngx_http_inverting_h1.c (the connection, and one transaction after the
 * other on it) and ..._h1_response.c (where a response ends) share.
 */


typedef enum {
    ngx_http_inverting_h1_idle = 0,
    ngx_http_inverting_h1_head,
    ngx_http_inverting_h1_length,
    ngx_http_inverting_h1_chunked,
    ngx_http_inverting_h1_close,       /* until the connection is closed */
    ngx_http_inverting_h1_done
} ngx_http_inverting_h1_state_e;


typedef struct {
    ngx_http_inverting_ptth_t       *ptth;
    ngx_http_inverting_h1_state_e    state;       /* of the response */

    ngx_http_inverting_end_t         taker;
    ngx_http_inverting_end_t         answerer;

    /* what is needed for one transaction */
    ngx_pool_t                      *pool;

    /* the head of the request, as far as it is not sent */
    ngx_str_t                        request;

    /* the head of the response, as far as it has come */
    u_char                          *head;
    size_t                           head_len;
    size_t                           head_size;

    off_t                            left;
    ngx_http_inverting_chunked_t     chunked;

    /* what the pipe had no room for, in memory of its own */
    ngx_str_t                        pending;
    void                            *kept;

    unsigned                         bodiless:1;  /* to HEAD */
    unsigned                         tunnel:1;
    unsigned                         sent:1;      /* the whole request */
    unsigned                         last:1;      /* "Connection: close" */
    unsigned                         stale:1;     /* gone for a tick */
} ngx_http_inverting_h1_t;


/*
 * The head of the response, line by line, and its body: both return how much
 * of "buf" was theirs, and go on to the next state, after the body to "done".
 * What is wrong with it goes to ngx_http_inverting_h1_bad().
 */
size_t ngx_http_inverting_h1_read_head(ngx_http_inverting_h1_t *h1,
    u_char *buf, size_t size);
size_t ngx_http_inverting_h1_body(ngx_http_inverting_h1_t *h1, u_char *buf,
    size_t size);

/*
 * To the client.  What the pipe has no room for is kept, and nothing else is
 * read then.
 */
void ngx_http_inverting_h1_write(ngx_http_inverting_h1_t *h1, u_char *buf,
    size_t size);

/* the response is none: it is cut, and the connection ends */
void ngx_http_inverting_h1_bad(ngx_http_inverting_h1_t *h1, const char *why);


#endif /* _NGX_HTTP_INVERTING_H1_H_INCLUDED_ */
