
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <openssl/rand.h>

#include "ngx_http_inverting_client.h"
#include "ngx_http_inverting_random.h"


/* for the default of the registry's share */
#define NGX_HTTP_INVERTING_REGISTRY_PART  4

/* in an agent location: the exchange knows better when to give up */
#define NGX_HTTP_INVERTING_BODY_TIMEOUT   (24 * 60 * 60 * 1000)


static ngx_int_t ngx_http_inverting_add_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_inverting_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_inverting_queue_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

static void *ngx_http_inverting_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_inverting_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_inverting_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_inverting_merge_handler(ngx_conf_t *cf,
    ngx_http_inverting_proxy_loc_conf_t *prev,
    ngx_http_inverting_proxy_loc_conf_t *conf);
static char *ngx_http_inverting_merge_headers(ngx_conf_t *cf,
    ngx_http_inverting_proxy_loc_conf_t *prev,
    ngx_http_inverting_proxy_loc_conf_t *conf);

static char *ngx_http_inverting_zone_directive(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_inverting_pass(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_inverting_agent(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_inverting_api(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_inverting_identity(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_inverting_queue(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_inverting_set_header(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_http_inverting_zone_t *ngx_http_inverting_use_zone(ngx_conf_t *cf,
    ngx_str_t *name);
static ngx_int_t ngx_http_inverting_check_positive(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_int_t value);
static char *ngx_http_inverting_positive_msec(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_inverting_positive_size(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_inverting_bufs(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

static ngx_int_t ngx_http_inverting_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_inverting_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_inverting_init_process(ngx_cycle_t *cycle);
static void ngx_http_inverting_exit_process(ngx_cycle_t *cycle);


static ngx_command_t  ngx_http_inverting_commands[] = {

    { ngx_string("inverting_proxy_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_inverting_zone_directive,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("inverting_proxy_backend"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_inverting_backend_directive,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("inverting_proxy_pass"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_HTTP_LMT_CONF|NGX_CONF_TAKE12,
      ngx_http_inverting_pass,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("inverting_proxy_user"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_inverting_identity,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_inverting_proxy_loc_conf_t, user),
      NULL },

    { ngx_string("inverting_proxy_agent"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_inverting_agent,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("inverting_proxy_agent_user"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_inverting_identity,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_inverting_proxy_loc_conf_t, agent_user),
      NULL },

    { ngx_string("inverting_proxy_api"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_inverting_api,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("inverting_proxy_queue"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_inverting_queue,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("inverting_proxy_read_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_inverting_positive_msec,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_inverting_proxy_loc_conf_t, upstream.read_timeout),
      NULL },

    { ngx_string("inverting_proxy_send_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_inverting_positive_msec,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_inverting_proxy_loc_conf_t, upstream.send_timeout),
      NULL },

    { ngx_string("inverting_proxy_poll_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_inverting_positive_msec,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_inverting_proxy_loc_conf_t, poll_timeout),
      NULL },

    { ngx_string("inverting_proxy_backend_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_inverting_proxy_loc_conf_t, backend_timeout),
      NULL },

    { ngx_string("inverting_proxy_buffer_size"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_inverting_positive_size,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_inverting_proxy_loc_conf_t, upstream.buffer_size),
      NULL },

    { ngx_string("inverting_proxy_buffers"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_http_inverting_bufs,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_inverting_proxy_loc_conf_t, buffers),
      NULL },

    { ngx_string("inverting_proxy_set_header"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_http_inverting_set_header,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("inverting_proxy_intercept_errors"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_inverting_proxy_loc_conf_t,
               upstream.intercept_errors),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_inverting_proxy_module_ctx = {
    ngx_http_inverting_add_variables,      /* preconfiguration */
    ngx_http_inverting_postconfiguration,  /* postconfiguration */

    ngx_http_inverting_create_main_conf,   /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_inverting_create_loc_conf,    /* create location configuration */
    ngx_http_inverting_merge_loc_conf      /* merge location configuration */
};


ngx_module_t  ngx_http_inverting_proxy_module = {
    NGX_MODULE_V1,
    &ngx_http_inverting_proxy_module_ctx,  /* module context */
    ngx_http_inverting_commands,           /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_inverting_init_module,        /* init module */
    ngx_http_inverting_init_process,       /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_inverting_exit_process,       /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_variable_t  ngx_http_inverting_vars[] = {

    { ngx_string("inverting_proxy_backend"), NULL,
      ngx_http_inverting_variable,
      offsetof(ngx_http_inverting_vars_t, backend),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("inverting_proxy_id"), NULL,
      ngx_http_inverting_variable,
      offsetof(ngx_http_inverting_vars_t, id),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("inverting_proxy_agent"), NULL,
      ngx_http_inverting_variable,
      offsetof(ngx_http_inverting_vars_t, agent),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("inverting_proxy_transport"), NULL,
      ngx_http_inverting_variable,
      offsetof(ngx_http_inverting_vars_t, transport),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("inverting_proxy_queue_time"), NULL,
      ngx_http_inverting_queue_time, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


static ngx_str_t  ngx_http_inverting_hide_headers[] = {
    ngx_string("X-Accel-Expires"),
    ngx_string("X-Accel-Redirect"),
    ngx_string("X-Accel-Limit-Rate"),
    ngx_string("X-Accel-Buffering"),
    ngx_string("X-Accel-Charset"),
    ngx_null_string
};


static ngx_keyval_t  ngx_http_inverting_default_headers[] = {
    { ngx_string("X-Forwarded-For"), ngx_string("$proxy_add_x_forwarded_for") },
    { ngx_string("X-Forwarded-Proto"), ngx_string("$scheme") },
    { ngx_string("X-Forwarded-Host"), ngx_string("$http_host") },
    { ngx_null_string, ngx_null_string }
};


/* the module's own, which nobody sets */

static ngx_str_t  ngx_http_inverting_own_headers[] = {
    ngx_string("content-length"),
    ngx_string("expect"),
    ngx_null_string
};


static ngx_int_t
ngx_http_inverting_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_inverting_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                  *s;
    ngx_http_inverting_vars_t  *vars;

    vars = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    s = vars ? (ngx_str_t *) ((u_char *) vars + data) : NULL;

    if (s == NULL || s->len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->len = s->len;
    v->data = s->data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_queue_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                     *p;
    ngx_http_inverting_vars_t  *vars;

    vars = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    if (vars == NULL || vars->queue_time < 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(p, "%T.%03M", (time_t) vars->queue_time / 1000,
                         (ngx_msec_t) vars->queue_time % 1000)
             - p;
    v->data = p;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static void *
ngx_http_inverting_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_upstream_srv_conf_t          *uscf;
    ngx_http_inverting_proxy_main_conf_t  *mcf;

    mcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_inverting_proxy_main_conf_t));
    uscf = ngx_pcalloc(cf->pool, sizeof(ngx_http_upstream_srv_conf_t));

    if (mcf == NULL || uscf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&mcf->zones, cf->pool, 1,
                       sizeof(ngx_http_inverting_zone_t *))
        != NGX_OK)
    {
        return NULL;
    }

    /* no upstream {} block: its only server is the exchange */

    ngx_str_set(&uscf->host, "inverting_proxy");
    uscf->peer.init = ngx_http_inverting_peer_init;

    mcf->upstream = uscf;

    return mcf;
}


static void *
ngx_http_inverting_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_inverting_proxy_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_inverting_proxy_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->zone = NULL;
     *     conf->backend = NULL;
     *     conf->agent_zone = NULL;
     *     conf->api_zone = NULL;
     *     conf->buffers.num = 0;
     *     conf->upstream.* but what follows
     */

    conf->upstream.read_timeout = NGX_CONF_UNSET_MSEC;
    conf->upstream.send_timeout = NGX_CONF_UNSET_MSEC;
    conf->upstream.buffer_size = NGX_CONF_UNSET_SIZE;
    conf->upstream.intercept_errors = NGX_CONF_UNSET;
    conf->upstream.hide_headers = NGX_CONF_UNSET_PTR;
    conf->upstream.pass_headers = NGX_CONF_UNSET_PTR;

    conf->api_write = NGX_CONF_UNSET;
    conf->user = NGX_CONF_UNSET_PTR;
    conf->agent_user = NGX_CONF_UNSET_PTR;
    conf->queue = NGX_CONF_UNSET_UINT;
    conf->queue_timeout = NGX_CONF_UNSET_MSEC;
    conf->poll_timeout = NGX_CONF_UNSET_MSEC;
    conf->backend_timeout = NGX_CONF_UNSET_MSEC;
    conf->set_headers = NGX_CONF_UNSET_PTR;

    return conf;
}


static char *
ngx_http_inverting_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_inverting_proxy_loc_conf_t *prev = parent;
    ngx_http_inverting_proxy_loc_conf_t *conf = child;

    char                                  *rv;
    ngx_hash_init_t                        hash;
    ngx_http_upstream_conf_t              *u;
    ngx_http_inverting_proxy_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf,
                                             ngx_http_inverting_proxy_module);
    u = &conf->upstream;

    ngx_conf_merge_msec_value(u->read_timeout, prev->upstream.read_timeout,
                              60000);
    ngx_conf_merge_msec_value(u->send_timeout, prev->upstream.send_timeout,
                              60000);
    ngx_conf_merge_size_value(u->buffer_size, prev->upstream.buffer_size,
                              16 * 1024);
    ngx_conf_merge_value(u->intercept_errors,
                         prev->upstream.intercept_errors, 0);

    ngx_conf_merge_ptr_value(conf->user, prev->user, NULL);
    ngx_conf_merge_ptr_value(conf->agent_user, prev->agent_user, NULL);
    ngx_conf_merge_uint_value(conf->queue, prev->queue, 1024);
    ngx_conf_merge_msec_value(conf->queue_timeout, prev->queue_timeout,
                              30000);
    ngx_conf_merge_msec_value(conf->poll_timeout, prev->poll_timeout, 30000);
    ngx_conf_merge_msec_value(conf->backend_timeout, prev->backend_timeout,
                              10000);
    ngx_conf_merge_bufs_value(conf->buffers, prev->buffers, 512, 4096);

    /* waiting for an agent is upstream's "connecting" */
    u->connect_timeout = conf->queue_timeout;

    u->upstream = mcf->upstream;
    u->module.len = sizeof("inverting_proxy") - 1;
    u->module.data = (u_char *) "inverting_proxy";

    u->next_upstream = NGX_HTTP_UPSTREAM_FT_OFF;
    u->pass_request_headers = 1;
    u->pass_request_body = 1;
    u->preserve_output = 1;

    u->ignore_headers = NGX_CONF_BITMASK_SET
                        |NGX_HTTP_UPSTREAM_IGN_XA_REDIRECT
                        |NGX_HTTP_UPSTREAM_IGN_XA_EXPIRES
                        |NGX_HTTP_UPSTREAM_IGN_XA_LIMIT_RATE
                        |NGX_HTTP_UPSTREAM_IGN_XA_BUFFERING
                        |NGX_HTTP_UPSTREAM_IGN_XA_CHARSET;

    hash.max_size = 512;
    hash.bucket_size = ngx_align(64, ngx_cacheline_size);
    hash.name = "inverting_proxy_headers_hash";

    if (ngx_http_upstream_hide_headers_hash(cf, u, &prev->upstream,
                                            ngx_http_inverting_hide_headers,
                                            &hash)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_inverting_merge_headers(cf, prev, conf);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_inverting_merge_handler(cf, prev, conf);
}


static char *
ngx_http_inverting_merge_handler(ngx_conf_t *cf,
    ngx_http_inverting_proxy_loc_conf_t *prev,
    ngx_http_inverting_proxy_loc_conf_t *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* "if" and "limit_except" inside of a location that passes */

    if (clcf->noname && conf->zone == NULL) {
        conf->zone = prev->zone;
        conf->backend = prev->backend;
    }

    if (clcf->lmt_excpt && clcf->handler == NULL && conf->zone) {
        clcf->handler = ngx_http_inverting_client_handler;
    }

    if (conf->agent_zone) {

        /*
         * These would cut responses, which are the bodies of the agent's
         * requests; the limits of the client's location hold for them.
         */

        clcf->client_max_body_size = 0;
        clcf->client_body_timeout = NGX_HTTP_INVERTING_BODY_TIMEOUT;
    }

    ngx_conf_merge_value(conf->api_write, prev->api_write, 0);

    return NGX_CONF_OK;
}


/* those of the configuration, and the defaults that it does not name */

static char *
ngx_http_inverting_merge_headers(ngx_conf_t *cf,
    ngx_http_inverting_proxy_loc_conf_t *prev,
    ngx_http_inverting_proxy_loc_conf_t *conf)
{
    ngx_uint_t                         i;
    ngx_keyval_t                      *kv;
    ngx_http_inverting_field_t        *field, *set;
    ngx_http_compile_complex_value_t   ccv;

    if (conf->set_headers == NGX_CONF_UNSET_PTR
        || conf->set_headers == prev->set_headers)
    {
        conf->set_headers = prev->set_headers;
        conf->fields = prev->fields;

        if (conf->fields) {
            return NGX_CONF_OK;
        }
    }

    conf->fields = ngx_array_create(cf->pool, 4,
                                    sizeof(ngx_http_inverting_field_t));
    if (conf->fields == NULL) {
        return NGX_CONF_ERROR;
    }

    set = NULL;

    if (conf->set_headers != NGX_CONF_UNSET_PTR) {
        set = conf->set_headers->elts;

        for (i = 0; i < conf->set_headers->nelts; i++) {
            field = ngx_array_push(conf->fields);
            if (field == NULL) {
                return NGX_CONF_ERROR;
            }

            *field = set[i];
        }
    }

    for (kv = ngx_http_inverting_default_headers; kv->key.len; kv++) {

        for (i = 0; set && i < conf->set_headers->nelts; i++) {
            if (set[i].name.len == kv->key.len
                && ngx_strncasecmp(set[i].name.data, kv->key.data,
                                   kv->key.len)
                   == 0)
            {
                break;
            }
        }

        if (set && i < conf->set_headers->nelts) {
            continue;
        }

        field = ngx_array_push(conf->fields);
        if (field == NULL) {
            return NGX_CONF_ERROR;
        }

        field->name = kv->key;
        field->lowcase.len = kv->key.len;
        field->lowcase.data = ngx_pnalloc(cf->pool, kv->key.len);
        if (field->lowcase.data == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_strlow(field->lowcase.data, kv->key.data, kv->key.len);

        ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

        ccv.cf = cf;
        ccv.value = &kv->value;
        ccv.complex_value = &field->value;

        if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_inverting_zone_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_inverting_proxy_main_conf_t *mcf = conf;

    u_char                      *p;
    ssize_t                      size, registry;
    ngx_str_t                   *value, name, s;
    ngx_uint_t                   i;
    ngx_http_inverting_zone_t  **zone;

    value = cf->args->elts;

    size = 0;
    registry = 0;
    ngx_str_null(&name);

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "zone=", 5) == 0) {

            if (name.len) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "duplicate parameter \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            name.data = value[i].data + 5;

            p = (u_char *) ngx_strchr(name.data, ':');

            if (p == NULL || p == name.data) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid zone \"%V\", "
                                   "it must be zone=name:size", &value[i]);
                return NGX_CONF_ERROR;
            }

            name.len = p - name.data;

            s.data = p + 1;
            s.len = value[i].data + value[i].len - s.data;

            size = ngx_parse_size(&s);

            if (size == NGX_ERROR) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid zone size \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_strncmp(value[i].data, "registry=", 9) == 0) {

            if (registry) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "duplicate parameter \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            s.data = value[i].data + 9;
            s.len = value[i].len - 9;

            registry = ngx_parse_size(&s);

            if (registry == NGX_ERROR
                || registry < (ssize_t) (8 * ngx_pagesize))
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid registry size \"%V\", "
                                   "it must be %uz at least",
                                   &value[i], 8 * ngx_pagesize);
                return NGX_CONF_ERROR;
            }

            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    if (name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must have \"zone\" parameter", &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (size < (ssize_t) (64 * ngx_pagesize)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%V \"%V\" is too small, it must be %uz at least",
                           &cmd->name, &name, 64 * ngx_pagesize);
        return NGX_CONF_ERROR;
    }

    if (registry == 0) {
        registry = ngx_align(size / NGX_HTTP_INVERTING_REGISTRY_PART,
                             ngx_pagesize);

    } else if (registry > size / 2 + size / 4) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%V \"%V\": registry=%z leaves too little of %z",
                           &cmd->name, &name, registry, size);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_inverting_zone_get(cf, &name)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate %V \"%V\"", &cmd->name, &name);
        return NGX_CONF_ERROR;
    }

    zone = ngx_array_push(&mcf->zones);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    *zone = ngx_http_inverting_zone_add(cf, &name, size, registry,
                                        &ngx_http_inverting_proxy_module);
    if (*zone == NULL) {
        mcf->zones.nelts--;
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_http_inverting_zone_t *
ngx_http_inverting_zone_get(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t                              i;
    ngx_http_inverting_zone_t             **zone;
    ngx_http_inverting_proxy_main_conf_t   *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf,
                                             ngx_http_inverting_proxy_module);

    zone = mcf->zones.elts;

    for (i = 0; i < mcf->zones.nelts; i++) {
        if (zone[i]->name.len == name->len
            && ngx_strncmp(zone[i]->name.data, name->data, name->len) == 0)
        {
            return zone[i];
        }
    }

    return NULL;
}


static ngx_http_inverting_zone_t *
ngx_http_inverting_use_zone(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_http_inverting_zone_t  *zone;

    zone = ngx_http_inverting_zone_get(cf, name);

    if (zone == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone \"%V\" is unknown: inverting_proxy_zone has "
                           "to come before", name);
    }

    return zone;
}


static char *
ngx_http_inverting_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_inverting_proxy_loc_conf_t *ilcf = conf;

    ngx_str_t                         *value;
    ngx_http_core_loc_conf_t          *clcf;
    ngx_http_compile_complex_value_t   ccv;

    if (ilcf->zone) {
        return "is duplicate";
    }

    value = cf->args->elts;

    ilcf->zone = ngx_http_inverting_use_zone(cf, &value[1]);
    if (ilcf->zone == NULL) {
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 3) {

        ilcf->backend = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
        if (ilcf->backend == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

        ccv.cf = cf;
        ccv.value = &value[2];
        ccv.complex_value = ilcf->backend;

        if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_inverting_client_handler;

    return NGX_CONF_OK;
}


static char *
ngx_http_inverting_agent(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_inverting_proxy_loc_conf_t *ilcf = conf;

    ngx_str_t                 *value;
    ngx_http_core_loc_conf_t  *clcf;

    if (ilcf->agent_zone) {
        return "is duplicate";
    }

    value = cf->args->elts;

    ilcf->agent_zone = ngx_http_inverting_use_zone(cf, &value[1]);
    if (ilcf->agent_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_inverting_agent_handler;

    return NGX_CONF_OK;
}


static char *
ngx_http_inverting_api(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_inverting_proxy_loc_conf_t *ilcf = conf;

    ngx_str_t                 *value;
    ngx_http_core_loc_conf_t  *clcf;

    if (ilcf->api_zone) {
        return "is duplicate";
    }

    value = cf->args->elts;

    ilcf->api_zone = ngx_http_inverting_use_zone(cf, &value[1]);
    if (ilcf->api_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 3) {

        if (ngx_strcmp(value[2].data, "write=on") == 0) {
            ilcf->api_write = 1;

        } else if (ngx_strcmp(value[2].data, "write=off") == 0) {
            ilcf->api_write = 0;

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\", "
                               "it must be write=on or write=off", &value[2]);
            return NGX_CONF_ERROR;
        }
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->regex || clcf->named) {
        return "must be in a location that is a prefix";
    }

    clcf->handler = ngx_http_inverting_api_handler;

    return NGX_CONF_OK;
}


/* "" puts an identity of an outer level out of force */

static char *
ngx_http_inverting_identity(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t                          *value;
    ngx_http_complex_value_t          **cv;
    ngx_http_compile_complex_value_t    ccv;

    cv = (ngx_http_complex_value_t **) (p + cmd->offset);

    if (*cv != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        *cv = NULL;
        return NGX_CONF_OK;
    }

    *cv = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (*cv == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = *cv;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_inverting_queue(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_inverting_proxy_loc_conf_t *ilcf = conf;

    ngx_int_t   n, timeout;
    ngx_str_t  *value, s;

    if (ilcf->queue != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    n = ngx_atoi(value[1].data, value[1].len);

    if (n == NGX_ERROR || n == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid number \"%V\" in \"%V\" directive",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    ilcf->queue = n;

    /* as "queue" does: what is not said is the default, not the outer one */
    ilcf->queue_timeout = 30000;

    if (cf->args->nelts == 3) {

        if (ngx_strncmp(value[2].data, "timeout=", 8) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" in \"%V\" directive",
                               &value[2], &cmd->name);
            return NGX_CONF_ERROR;
        }

        s.data = value[2].data + 8;
        s.len = value[2].len - 8;

        timeout = ngx_parse_time(&s, 0);

        if (timeout == NGX_ERROR || timeout == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid timeout \"%V\" in \"%V\" directive",
                               &value[2], &cmd->name);
            return NGX_CONF_ERROR;
        }

        ilcf->queue_timeout = timeout;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_inverting_set_header(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_inverting_proxy_loc_conf_t *ilcf = conf;

    ngx_str_t                         *value, *s;
    ngx_uint_t                         i, own;
    ngx_http_inverting_field_t        *field;
    ngx_http_compile_complex_value_t   ccv;

    value = cf->args->elts;

    if (!ngx_http_inverting_is_token(&value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid field name \"%V\" in \"%V\" directive",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (ilcf->set_headers == NGX_CONF_UNSET_PTR) {
        ilcf->set_headers = ngx_array_create(cf->pool, 4,
                                         sizeof(ngx_http_inverting_field_t));
        if (ilcf->set_headers == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    field = ngx_array_push(ilcf->set_headers);
    if (field == NULL) {
        return NGX_CONF_ERROR;
    }

    field->name = value[1];
    field->lowcase.len = value[1].len;
    field->lowcase.data = ngx_pnalloc(cf->pool, value[1].len);
    if (field->lowcase.data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_strlow(field->lowcase.data, value[1].data, value[1].len);

    own = ngx_http_inverting_is_hop_by_hop(&field->lowcase)
          || ngx_http_inverting_is_ours(&field->lowcase);

    for (s = ngx_http_inverting_own_headers; s->len; s++) {
        if (s->len == field->lowcase.len
            && ngx_memcmp(s->data, field->lowcase.data, s->len) == 0)
        {
            own = 1;
        }
    }

    if (own) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "field \"%V\" can't be set by \"%V\": "
                           "it is the proxy's own", &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    /* the same one twice is an error, not a repeated field */

    for (i = 0; i < ilcf->set_headers->nelts - 1; i++) {
        if (((ngx_http_inverting_field_t *) ilcf->set_headers->elts)[i]
                .lowcase.len == field->lowcase.len
            && ngx_memcmp(((ngx_http_inverting_field_t *)
                           ilcf->set_headers->elts)[i].lowcase.data,
                          field->lowcase.data, field->lowcase.len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate field \"%V\" in \"%V\" directive",
                               &value[1], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[2];
    ccv.complex_value = &field->value;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_inverting_check_positive(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_int_t value)
{
    ngx_str_t  *arg;

    if (value > 0) {
        return NGX_OK;
    }

    arg = cf->args->elts;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid value \"%V\" in \"%V\" directive, "
                       "it must be greater than 0", &arg[1], &cmd->name);

    return NGX_ERROR;
}


static char *
ngx_http_inverting_positive_msec(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char  *p = conf;

    char  *rv;

    rv = ngx_conf_set_msec_slot(cf, cmd, conf);

    if (rv == NGX_CONF_OK
        && ngx_http_inverting_check_positive(cf, cmd,
                                          *(ngx_msec_t *) (p + cmd->offset))
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return rv;
}


static char *
ngx_http_inverting_positive_size(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char  *p = conf;

    char  *rv;

    rv = ngx_conf_set_size_slot(cf, cmd, conf);

    if (rv == NGX_CONF_OK
        && ngx_http_inverting_check_positive(cf, cmd,
                                             *(size_t *) (p + cmd->offset))
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return rv;
}


static char *
ngx_http_inverting_bufs(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char        *rv;
    ngx_bufs_t  *bufs;

    rv = ngx_conf_set_bufs_slot(cf, cmd, conf);

    bufs = (ngx_bufs_t *) (p + cmd->offset);

    /* 1G: so that chunks can be counted in 32 bits */

    if (rv == NGX_CONF_OK && (uint64_t) bufs->num * bufs->size > 1024 * 1024 * 1024) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must not be more than 1g in all",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    return rv;
}


static ngx_int_t
ngx_http_inverting_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_inverting_proxy_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf,
                                             ngx_http_inverting_proxy_module);

    if (mcf->zones.nelts == 0) {
        return NGX_OK;
    }

    mcf->workers = ngx_http_inverting_worker_add_zone(cf,
                                           &ngx_http_inverting_proxy_module);

    return mcf->workers ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_inverting_init_module(ngx_cycle_t *cycle)
{
    ngx_http_inverting_proxy_main_conf_t  *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_inverting_proxy_module);

    if (mcf == NULL || mcf->workers == NULL) {
        return NGX_OK;
    }

    if (RAND_bytes((u_char *) &mcf->generation, sizeof(uint64_t)) != 1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "RAND_bytes() failed");
        return NGX_ERROR;
    }

    return ngx_http_inverting_worker_init_module(cycle, mcf->workers);
}


static ngx_int_t
ngx_http_inverting_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                              i;
    ngx_http_inverting_zone_t             **zone;
    ngx_http_inverting_proxy_main_conf_t   *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_inverting_proxy_module);

    if (mcf == NULL || mcf->workers == NULL
        || (ngx_process != NGX_PROCESS_WORKER
            && ngx_process != NGX_PROCESS_SINGLE))
    {
        return NGX_OK;
    }

    ngx_http_inverting_worker_on_exiting(ngx_http_inverting_agent_exiting);

    if (ngx_http_inverting_peer_init_process(cycle) != NGX_OK
        || ngx_http_inverting_worker_init_process(cycle, mcf->workers,
                                                  &mcf->zones)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    zone = mcf->zones.elts;

    for (i = 0; i < mcf->zones.nelts; i++) {

        if (zone[i]->slot == NGX_HTTP_INVERTING_NONE) {
            continue;
        }

        /* the first worker of this configuration puts it in force */

        ngx_http_inverting_lock(zone[i]);

        if (zone[i]->sh->conf_generation != mcf->generation) {
            ngx_http_inverting_registry_configure_locked(zone[i], cycle->log);
            zone[i]->sh->conf_generation = mcf->generation;
        }

        ngx_http_inverting_unlock(zone[i]);
    }

    return NGX_OK;
}


static void
ngx_http_inverting_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_inverting_worker_exit_process();
    ngx_http_inverting_peer_exit_process();
}
