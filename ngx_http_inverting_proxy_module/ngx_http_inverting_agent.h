
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_AGENT_H_INCLUDED_
#define _NGX_HTTP_INVERTING_AGENT_H_INCLUDED_


#include "ngx_http_inverting_proxy_module.h"
#include "ngx_http_inverting_keys.h"


/*
 * The agent location.  What the files ngx_http_inverting_agent.c (which call
 * it is, and who calls), ..._poll.c, ..._fetch.c and ..._post.c (the poll
 * protocol), and ..._ptth.c share.
 */


typedef struct {
    ngx_http_inverting_vars_t        vars;

    ngx_http_request_t              *request;
    ngx_http_inverting_zone_t       *zone;
    ngx_http_inverting_end_t         end;
    ngx_event_t                      timer;

    /* as the agent says */
    ngx_str_t                        backend;
    ngx_str_t                        id;
    ngx_str_t                        process;

    /* the key that it came by, once the backend is found, or NO_KEY */
    uint64_t                         key;
    u_char                           hash[NGX_HTTP_INVERTING_HASH_LEN];

    /* why the agent was not authenticated */
    const char                      *reason;

    /* pending */
    ngx_queue_t                      parked;

    /* request */
    ngx_buf_t                        head;
    ngx_buf_t                        body;

    /* response */
    size_t                           dropped;

    unsigned                         blocked:1;
    unsigned                         received:1;
    unsigned                         dropping:1;
    unsigned                         complete:1;
    unsigned                         finished:1;   /* did its part */
    unsigned                         secret:1;     /* it showed a key */
} ngx_http_inverting_agent_ctx_t;


#define NGX_HTTP_INVERTING_START_LEN                                          \
    (sizeof("2000-01-01T00:00:00.000000000Z") - 1)

/* why what was in progress has ended */
#define NGX_HTTP_INVERTING_GONE                                               \
    "the backend was deleted, or is another agent's now, or its key was "     \
    "revoked"

/* the calls */
ngx_int_t ngx_http_inverting_poll_handler(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
ngx_int_t ngx_http_inverting_fetch_handler(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
ngx_int_t ngx_http_inverting_post_handler(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);

ngx_int_t ngx_http_inverting_ptth_handler(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);

/* the worker is exiting: ends waiting polls, drains connections */
void ngx_http_inverting_poll_exiting(ngx_http_inverting_zone_t *zone);
void ngx_http_inverting_ptth_exiting(ngx_http_inverting_zone_t *zone);

/*
 * The backend that the agent serves, or NULL: it is to be answered with
 * ngx_http_inverting_agent_unauthorized().  The zone's lock must be held.
 */
ngx_http_inverting_backend_t *ngx_http_inverting_agent_backend_locked(
    ngx_http_inverting_agent_ctx_t *ctx);

/* answers; what they return is for ngx_http_finalize_request() */
ngx_int_t ngx_http_inverting_agent_unauthorized(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
ngx_int_t ngx_http_inverting_agent_unavailable(ngx_http_request_t *r,
    const char *text);
ngx_int_t ngx_http_inverting_agent_answer(ngx_http_request_t *r,
    ngx_uint_t status, const char *text);
ngx_int_t ngx_http_inverting_agent_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *type, ngx_str_t *body);

/*
 * X-Inverting-Proxy-Request-Start-Time; value->data has room for as much as
 * NGX_HTTP_INVERTING_START_LEN bytes.
 */
void ngx_http_inverting_agent_start(ngx_http_inverting_tx_t *t,
    ngx_str_t *value);

/* the cleanup handler of a request that holds an end of a transaction */
void ngx_http_inverting_agent_cleanup(void *data);


#endif /* _NGX_HTTP_INVERTING_AGENT_H_INCLUDED_ */
