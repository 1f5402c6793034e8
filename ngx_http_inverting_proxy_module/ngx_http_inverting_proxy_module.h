
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_PROXY_MODULE_H_INCLUDED_
#define _NGX_HTTP_INVERTING_PROXY_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_worker.h"


typedef struct {
    ngx_array_t                     zones;    /* ngx_http_inverting_zone_t * */
    ngx_shm_zone_t                 *workers;
    uint64_t                        generation;   /* of the configuration */
    ngx_http_upstream_srv_conf_t   *upstream;
} ngx_http_inverting_proxy_main_conf_t;


typedef struct {
    ngx_http_upstream_conf_t        upstream;

    /* inverting_proxy_pass */
    ngx_http_inverting_zone_t      *zone;
    ngx_http_complex_value_t       *backend;      /* NULL: by user and path */

    /* inverting_proxy_agent, inverting_proxy_api */
    ngx_http_inverting_zone_t      *agent_zone;
    ngx_http_inverting_zone_t      *api_zone;
    ngx_flag_t                      api_write;

    /* NULL: not set, or set to "" in the configuration */
    ngx_http_complex_value_t       *user;
    ngx_http_complex_value_t       *agent_user;

    ngx_uint_t                      queue;
    ngx_msec_t                      queue_timeout;
    ngx_msec_t                      poll_timeout;
    ngx_msec_t                      backend_timeout;
    ngx_bufs_t                      buffers;

    /* inverting_proxy_set_header: see ngx_http_inverting_head.h */
    ngx_array_t                    *set_headers;
    ngx_array_t                    *fields;
} ngx_http_inverting_proxy_loc_conf_t;


/* what $inverting_proxy_... variables show of a request */

typedef struct {
    ngx_str_t                       backend;
    ngx_str_t                       id;
    ngx_str_t                       agent;
    ngx_str_t                       transport;
    ngx_msec_int_t                  queue_time;   /* -1: none */
} ngx_http_inverting_vars_t;


/*
 * The context of a request starts with its variables, in a client location as
 * in an agent location.
 */
#define ngx_http_inverting_set_vars(r, ctx)                                   \
    ngx_http_set_ctx(r, ctx, ngx_http_inverting_proxy_module)


/* defines them: NGX_OK or NGX_ERROR */
ngx_int_t ngx_http_inverting_add_variables(ngx_conf_t *cf);

/* $inverting_proxy_agent is "key:<id>", unless there is no key */
void ngx_http_inverting_show_key(ngx_pool_t *pool,
    ngx_http_inverting_vars_t *vars, uint64_t key);

/* content handlers */
ngx_int_t ngx_http_inverting_client_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_inverting_agent_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_inverting_api_handler(ngx_http_request_t *r);

/* this worker is exiting: its agents are told */
void ngx_http_inverting_agent_exiting(ngx_http_inverting_zone_t *zone);

/* inverting_proxy_backend, parsed into zone->backends, with its messages */
char *ngx_http_inverting_backend_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* the zone of this name, which may be defined later; NULL: no memory */
ngx_http_inverting_zone_t *ngx_http_inverting_use_zone(ngx_conf_t *cf,
    ngx_str_t *name);


extern ngx_module_t  ngx_http_inverting_proxy_module;


#endif /* _NGX_HTTP_INVERTING_PROXY_MODULE_H_INCLUDED_ */
