
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <openssl/rand.h>

#include "ngx_http_inverting_client.h"
#include "ngx_http_inverting_directives.h"
#include "ngx_http_inverting_state.h"


/* in an agent location: the exchange knows better when to give up */
#define NGX_HTTP_INVERTING_BODY_TIMEOUT   (24 * 60 * 60 * 1000)

/* milliseconds: how often a worker without a slot asks for one */
#define NGX_HTTP_INVERTING_JOIN           1000


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

static ngx_int_t ngx_http_inverting_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_inverting_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_inverting_init_process(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_inverting_join(ngx_cycle_t *cycle);
static void ngx_http_inverting_join_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_inverting_init_zone(ngx_http_inverting_zone_t *zone,
    ngx_cycle_t *cycle, uint64_t generation);
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


static ngx_str_t  ngx_http_inverting_hide_headers[] = {
    ngx_string("X-Accel-Expires"),
    ngx_string("X-Accel-Redirect"),
    ngx_string("X-Accel-Limit-Rate"),
    ngx_string("X-Accel-Buffering"),
    ngx_string("X-Accel-Charset"),
    ngx_null_string
};


static ngx_keyval_t  ngx_http_inverting_default_headers[] = {
    { ngx_string("X-Forwarded-For"),
      ngx_string("$proxy_add_x_forwarded_for") },
    { ngx_string("X-Forwarded-Proto"), ngx_string("$scheme") },
    { ngx_string("X-Forwarded-Host"), ngx_string("$http_host") },
    { ngx_null_string, ngx_null_string }
};


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

    /* "if" and "limit_except" inside of a location with a handler of ours */

    if (clcf->noname
        && conf->zone == NULL
        && conf->agent_zone == NULL
        && conf->api_zone == NULL)
    {
        conf->zone = prev->zone;
        conf->backend = prev->backend;
        conf->agent_zone = prev->agent_zone;
        conf->api_zone = prev->api_zone;
    }

    if (clcf->lmt_excpt && clcf->handler == NULL) {

        if (conf->zone) {
            clcf->handler = ngx_http_inverting_client_handler;

        } else if (conf->agent_zone) {
            clcf->handler = ngx_http_inverting_agent_handler;

        } else if (conf->api_zone) {
            clcf->handler = ngx_http_inverting_api_handler;
        }
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


static ngx_int_t
ngx_http_inverting_postconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                              i;
    ngx_http_inverting_zone_t             **zone;
    ngx_http_inverting_proxy_main_conf_t   *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf,
                                             ngx_http_inverting_proxy_module);

    if (mcf->zones.nelts == 0) {
        return NGX_OK;
    }

    zone = mcf->zones.elts;

    for (i = 0; i < mcf->zones.nelts; i++) {
        if (zone[i]->shm_zone == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "zone \"%V\" in \"%V\" is unknown: there is no "
                          "inverting_proxy_zone of this name",
                          &zone[i]->name, &zone[i]->directive);
            return NGX_ERROR;
        }
    }

    if (RAND_bytes((u_char *) &mcf->generation, sizeof(uint64_t)) != 1) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "RAND_bytes() failed");
        return NGX_ERROR;
    }

    mcf->workers = ngx_http_inverting_worker_add_zone(cf,
                                           &ngx_http_inverting_proxy_module);

    return mcf->workers ? NGX_OK : NGX_ERROR;
}


/* an error here would end the master: what can fail was done before */

static ngx_int_t
ngx_http_inverting_init_module(ngx_cycle_t *cycle)
{
    ngx_http_inverting_proxy_main_conf_t  *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_inverting_proxy_module);

    if (mcf && mcf->workers) {
        ngx_http_inverting_worker_accept(mcf->workers, mcf->generation);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_init_process(ngx_cycle_t *cycle)
{
    ngx_int_t                              rc;
    ngx_event_t                           *ev;
    ngx_http_inverting_proxy_main_conf_t  *mcf;

    static ngx_event_t       join;
    static ngx_connection_t  dumb;

    mcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_inverting_proxy_module);

    if (mcf == NULL || mcf->workers == NULL
        || (ngx_process != NGX_PROCESS_WORKER
            && ngx_process != NGX_PROCESS_SINGLE))
    {
        return NGX_OK;
    }

    ngx_http_inverting_worker_on_exiting(ngx_http_inverting_agent_exiting);

    if (ngx_http_inverting_peer_init_process(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_inverting_join(cycle);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    /* those of the last configuration have not ended yet */

    ngx_log_error(NGX_LOG_CRIT, cycle->log, 0,
                  "all %d worker slots are taken: this worker serves without "
                  "the inverting proxy until one is free",
                  NGX_HTTP_INVERTING_SLOTS);

    dumb.fd = -1;

    ev = &join;

    ev->handler = ngx_http_inverting_join_handler;
    ev->data = &dumb;
    ev->log = cycle->log;
    ev->cancelable = 1;

    ngx_add_timer(ev, NGX_HTTP_INVERTING_JOIN);

    return NGX_OK;
}


/* NGX_DECLINED: there is no slot for this worker */

static ngx_int_t
ngx_http_inverting_join(ngx_cycle_t *cycle)
{
    ngx_int_t                               rc;
    ngx_uint_t                              i;
    ngx_http_inverting_zone_t             **zone;
    ngx_http_inverting_proxy_main_conf_t   *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_inverting_proxy_module);

    rc = ngx_http_inverting_worker_init_process(cycle, mcf->workers,
                                                &mcf->zones);
    if (rc != NGX_OK) {
        return rc;
    }

    zone = mcf->zones.elts;

    for (i = 0; i < mcf->zones.nelts; i++) {

        if (ngx_http_inverting_init_zone(zone[i], cycle, mcf->generation)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_inverting_join_handler(ngx_event_t *ev)
{
    ngx_int_t  rc;

    if (ngx_exiting) {
        return;
    }

    rc = ngx_http_inverting_join((ngx_cycle_t *) ngx_cycle);

    if (rc == NGX_DECLINED) {
        ngx_add_timer(ev, NGX_HTTP_INVERTING_JOIN);
        return;
    }

    if (rc == NGX_ERROR) {

        /* the master process starts another one in its place */

        ngx_quit = 1;
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, ev->log, 0,
                  "a worker slot is free: this worker serves with the "
                  "inverting proxy");
}


static ngx_int_t
ngx_http_inverting_init_zone(ngx_http_inverting_zone_t *zone,
    ngx_cycle_t *cycle, uint64_t generation)
{
    ngx_array_t  *stale;

    stale = ngx_array_create(cycle->pool, 4, sizeof(ngx_str_t));
    if (stale == NULL) {
        return NGX_ERROR;
    }

    /* the first worker of this configuration puts it in force */

    ngx_http_inverting_lock(zone);

    if (zone->sh->conf_generation != generation
        && ngx_http_inverting_worker_is_current(generation))
    {
        ngx_http_inverting_registry_configure_locked(zone, stale, cycle->log);
        zone->sh->conf_generation = generation;
    }

    ngx_http_inverting_unlock(zone);

    if (zone->file.len == 0) {
        return NGX_OK;
    }

    /* what static backends have stood before is in force again */

    return ngx_http_inverting_state_init_process(zone, cycle, stale);
}


static void
ngx_http_inverting_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                              i;
    ngx_http_inverting_zone_t             **zone;
    ngx_http_inverting_proxy_main_conf_t   *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_inverting_proxy_module);

    zone = mcf ? mcf->zones.elts : NULL;

    for (i = 0; mcf && i < mcf->zones.nelts; i++) {

        if (zone[i]->state) {
            ngx_http_inverting_state_exit_process(zone[i]);
        }
    }

    ngx_http_inverting_worker_exit_process();
    ngx_http_inverting_peer_exit_process();
}
