
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_CLIENT_H_INCLUDED_
#define _NGX_HTTP_INVERTING_CLIENT_H_INCLUDED_


#include "ngx_http_inverting_proxy_module.h"
#include "ngx_http_inverting_chunked.h"
#include "ngx_http_inverting_head.h"


/*
 * The client side: an ngx_http_upstream protocol whose connection is the two
 * pipes of a transaction.
 *
 *     ..._client.c    the content handler: finds the backend, offers
 *     ..._peer.c      the virtual connection
 *     ..._response.c  head and body of the response
 */


typedef struct {
    ngx_http_inverting_vars_t        vars;      /* must be the first */

    ngx_http_request_t              *request;
    ngx_http_inverting_end_t         end;

    ngx_http_inverting_body_t        body;

    /* the virtual connection, while upstream has it */
    ngx_connection_t                *connection;

    /* the request on its way into the pipe */
    ngx_chain_t                     *out;
    ngx_chain_t                    **last_out;
    size_t                           head_len;     /* is in the zone already */
    off_t                            body_left;
    u_char                           frame[NGX_OFF_T_LEN + 6];
    ngx_uint_t                       frame_pos;
    ngx_uint_t                       frame_len;
    size_t                           frame_data;   /* of the chunk */
    ngx_http_event_handler_pt        read_request_handler;

    /* the response */
    ngx_http_status_t                status;
    off_t                            length;       /* -1: was not said */
    ngx_array_t                      named;        /* in Connection */
    ngx_http_inverting_chunked_t     chunked;

    /* limit_rate, which upstream sets aside when it does not buffer */
    size_t                           limit_rate;   /* bytes a second, 0: no */
    size_t                           limit_rate_after;
    off_t                            limit_read;
    time_t                           limit_start;
    ngx_event_t                      limit;

    unsigned                         upgrade:1;    /* to websocket */
    unsigned                         connected:1;  /* upstream was told */
    unsigned                         in_frame:1;   /* a chunk has no end yet */
    unsigned                         finished:1;   /* the request is written */
    unsigned                         accepted:1;
    unsigned                         complete:1;
    unsigned                         bad:1;
} ngx_http_inverting_client_ctx_t;


/*
 * The variables of a request that has left its client location, by
 * "error_page" for one: nginx has reset its context.  NULL: it was in none.
 */
ngx_http_inverting_vars_t *ngx_http_inverting_client_left(
    ngx_http_request_t *r);

/* per worker: the descriptor that every virtual connection shows */
ngx_int_t ngx_http_inverting_peer_init_process(ngx_cycle_t *cycle);
void ngx_http_inverting_peer_exit_process(void);

/* of the static upstream, and of the end of a transaction */
ngx_int_t ngx_http_inverting_peer_init(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
void ngx_http_inverting_peer_wake(ngx_http_inverting_end_t *end);

/* u->output.output_filter: frames the body and writes it to the pipe */
ngx_int_t ngx_http_inverting_peer_output(void *data, ngx_chain_t *in);

/* u->process_header, u->input_filter_init, u->input_filter */
ngx_int_t ngx_http_inverting_process_status_line(ngx_http_request_t *r);
ngx_int_t ngx_http_inverting_input_filter_init(void *data);
ngx_int_t ngx_http_inverting_input_filter(void *data, ssize_t bytes);


#endif /* _NGX_HTTP_INVERTING_CLIENT_H_INCLUDED_ */
