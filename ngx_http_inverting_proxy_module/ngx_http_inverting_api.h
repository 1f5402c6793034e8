
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_API_H_INCLUDED_
#define _NGX_HTTP_INVERTING_API_H_INCLUDED_


#include "ngx_http_inverting_proxy_module.h"


/*
 * The API of inverting_proxy_api, below its (prefix) location:
 *
 *     GET          backends       all records, a bare array
 *     POST         backends       creates or replaces one, answers with it
 *     GET, DELETE  backends/ID    one record
 *     GET          status         the zone, its workers and backends
 *
 * Every answer of the module's is JSON.  An error is
 *
 *     {"error": {"status": 400, "message": "...", "field": "..."}}
 *
 * where "field" is there if the error is about one.  Lists are made and sent
 * in steps, so that neither the lock nor the event loop is held up by a large
 * registry.
 */


#define NGX_HTTP_INVERTING_VERSION     "0.1.0"


/* largest body of a request */
#define NGX_HTTP_INVERTING_API_BODY    65536

/* one step of a list, and how many records are taken under one lock */
#define NGX_HTTP_INVERTING_API_BUFFER  65536
#define NGX_HTTP_INVERTING_API_BATCH   100


typedef struct {
    ngx_http_inverting_vars_t      vars;

    ngx_http_request_t            *request;
    ngx_http_inverting_zone_t     *zone;

    /* the body of a request */
    u_char                        *body;
    size_t                         len;
    size_t                         size;

    /* a list: the last id in it so far */
    ngx_str_t                      after;
    u_char                         id[NGX_HTTP_INVERTING_BACKEND_ID_LEN];

    ngx_chain_t                    out;
    ngx_event_t                    event;

    unsigned                       status:1;    /* not records */
    unsigned                       some:1;      /* not the first any more */
    unsigned                       sending:1;   /* the buffer is not free */
    unsigned                       complete:1;
} ngx_http_inverting_api_ctx_t;


/* makes an answer: its head and its only buffer */
ngx_int_t ngx_http_inverting_api_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_buf_t *b);

/* sends the list of all records, or the status, in steps */
ngx_int_t ngx_http_inverting_api_list(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);

/* one record with what is known of it; the most it takes */
u_char *ngx_http_inverting_api_write(u_char *p,
    ngx_http_inverting_backend_t *backend);
size_t ngx_http_inverting_api_len(ngx_http_inverting_backend_t *backend);


#endif /* _NGX_HTTP_INVERTING_API_H_INCLUDED_ */
