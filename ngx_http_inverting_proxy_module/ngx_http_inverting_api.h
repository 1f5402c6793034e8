
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_API_H_INCLUDED_
#define _NGX_HTTP_INVERTING_API_H_INCLUDED_


#include "ngx_http_inverting_proxy_module.h"
#include "ngx_http_inverting_change.h"
#include "ngx_http_inverting_json.h"
#include "ngx_http_inverting_state.h"


/*
 * The API of inverting_proxy_api, below its (prefix) location:
 *
 *     GET          backends       all records, a bare array; with
 *                                 ?limit=N&after=ID at most N after ID
 *     POST         backends       creates or replaces one, answers with it
 *     GET, DELETE  backends/ID    one record
 *     GET          backends/ID/keys
 *     POST         backends/ID/keys       makes one, answers with its secret
 *     DELETE       backends/ID/keys/KEY   revokes it
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

/* the most that limit= may ask for */
#define NGX_HTTP_INVERTING_API_LIMIT   10000

/* one step of a list, and how many records are taken under one lock */
#define NGX_HTTP_INVERTING_API_BUFFER  65536
#define NGX_HTTP_INVERTING_API_BATCH   100


typedef enum {
    NGX_HTTP_INVERTING_API_STATUS = 0,
    NGX_HTTP_INVERTING_API_BACKENDS,
    NGX_HTTP_INVERTING_API_BACKEND,
    NGX_HTTP_INVERTING_API_KEYS,
    NGX_HTTP_INVERTING_API_KEY
} ngx_http_inverting_api_resource_e;


typedef struct ngx_http_inverting_api_ctx_s  ngx_http_inverting_api_ctx_t;

struct ngx_http_inverting_api_ctx_s {
    ngx_http_inverting_vars_t      vars;

    ngx_http_request_t            *request;
    ngx_http_inverting_zone_t     *zone;

    /* what it is about, as in the URI */
    ngx_uint_t                     resource;
    ngx_str_t                      backend;
    ngx_str_t                      key;

    /* a change, and what answers once it is made */
    ngx_http_inverting_change_t    change;
    ngx_int_t                    (*done)(ngx_http_request_t *r,
                                         ngx_http_inverting_api_ctx_t *ctx);
    u_char                        *secret;       /* of a new key */
    ngx_http_inverting_op_t       *op;           /* while it is committed */
    ngx_event_t                    timer;

    /* the body of a request, and what to do when it is there */
    ngx_int_t                    (*handler)(ngx_http_request_t *r,
                                            ngx_http_inverting_api_ctx_t *ctx);
    u_char                        *body;
    size_t                         len;
    size_t                         size;

    /* a list: how many more (0: all), and the last id in it so far */
    ngx_uint_t                     limit;
    ngx_str_t                      after;
    u_char                         id[NGX_HTTP_INVERTING_BACKEND_ID_LEN];

    ngx_chain_t                    out;
    ngx_event_t                    event;

    unsigned                       some:1;      /* not the first any more */
    unsigned                       sending:1;   /* the buffer is not free */
    unsigned                       complete:1;
};


/*
 * Reads the body of a request, whatever nginx's own limits are: a zero byte
 * follows it when ctx->handler is called, whose result finalizes the request.
 */
ngx_int_t ngx_http_inverting_api_read_body(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);

/*
 * Answers; what they return is for ngx_http_finalize_request().  The first
 * one makes the head and the only buffer, or the head alone (NULL).
 */
ngx_int_t ngx_http_inverting_api_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_buf_t *b);
ngx_int_t ngx_http_inverting_api_error(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *field, char *message);
ngx_int_t ngx_http_inverting_api_invalid(ngx_http_request_t *r,
    ngx_http_inverting_record_error_t *error);
ngx_int_t ngx_http_inverting_api_configured(ngx_http_request_t *r,
    ngx_str_t *id);
ngx_int_t ngx_http_inverting_api_not_allowed(ngx_http_request_t *r,
    ngx_str_t *methods);
ngx_int_t ngx_http_inverting_api_unavailable(ngx_http_request_t *r,
    char *message);

ngx_int_t ngx_http_inverting_api_no_backend(ngx_http_request_t *r);

/* makes ctx->change and answers: by ctx->done, or says why it was not made */
ngx_int_t ngx_http_inverting_api_change(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);

/* the same where there is a state; answers once the change is committed */
ngx_int_t ngx_http_inverting_api_commit(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);

/* answers a change that has its result */
ngx_int_t ngx_http_inverting_api_changed(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);

/* ctx->done of what deletes */
ngx_int_t ngx_http_inverting_api_deleted(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);

/* backends/ID/keys; the second one is for when the body has come */
ngx_int_t ngx_http_inverting_api_keys(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
ngx_int_t ngx_http_inverting_api_add_key(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
ngx_int_t ngx_http_inverting_api_delete_key(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);

/* sends the list of all records, or the status, in steps */
ngx_int_t ngx_http_inverting_api_list(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);

/* one record with what is known of it; the most it takes */
u_char *ngx_http_inverting_api_write(u_char *p,
    ngx_http_inverting_backend_t *backend);
size_t ngx_http_inverting_api_len(ngx_http_inverting_backend_t *backend);

/* writes a time as JSON, null for 0: at most so many characters */
#define NGX_HTTP_INVERTING_TIME_LEN  (sizeof("\"1970-01-01T00:00:00Z\"") - 1)
u_char *ngx_http_inverting_api_time(u_char *p, time_t t);


#endif /* _NGX_HTTP_INVERTING_API_H_INCLUDED_ */
