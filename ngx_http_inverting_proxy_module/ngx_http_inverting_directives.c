
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <ngx_thread_pool.h>

#include "ngx_http_inverting_directives.h"
#include "ngx_http_inverting_fields.h"
#include "ngx_http_inverting_head.h"
#include "ngx_http_inverting_keys.h"


/* for the default of the registry's share */
#define NGX_HTTP_INVERTING_REGISTRY_PART  4


static ngx_int_t ngx_http_inverting_zone_parameter(ngx_conf_t *cf,
    ngx_str_t *arg, ngx_str_t *name, ssize_t *size);
static ngx_int_t ngx_http_inverting_registry_parameter(ngx_conf_t *cf,
    ngx_str_t *arg, ssize_t *registry);
static ngx_int_t ngx_http_inverting_state_parameter(ngx_conf_t *cf,
    ngx_http_inverting_zone_t *zone, ngx_str_t *file);
static ngx_int_t ngx_http_inverting_complex_value(ngx_conf_t *cf,
    ngx_str_t *value, ngx_http_complex_value_t **cv);
static ngx_int_t ngx_http_inverting_check_positive(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_int_t value);


/* the module's own, which nobody sets */

static ngx_str_t  ngx_http_inverting_own_headers[] = {
    ngx_string("content-length"),
    ngx_string("expect"),
    ngx_null_string
};


char *
ngx_http_inverting_zone_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    time_t                      expiry;
    ssize_t                     size, registry;
    ngx_str_t                  *value, name, file, s;
    ngx_uint_t                  i;
    ngx_http_inverting_zone_t  *zone;

    value = cf->args->elts;

    size = 0;
    registry = 0;
    expiry = 0;
    ngx_str_null(&name);
    ngx_str_null(&file);

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "zone=", 5) == 0 && name.len == 0) {

            if (ngx_http_inverting_zone_parameter(cf, &value[i], &name, &size)
                != NGX_OK)
            {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_strncmp(value[i].data, "registry=", 9) == 0 && !registry) {

            if (ngx_http_inverting_registry_parameter(cf, &value[i],
                                                      &registry)
                != NGX_OK)
            {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_strncmp(value[i].data, "state=", 6) == 0 && file.len == 0) {
            file.data = value[i].data + 6;
            file.len = value[i].len - 6;

            if (file.len) {
                continue;
            }
        }

        if (ngx_strncmp(value[i].data, "expiry=", 7) == 0 && !expiry) {
            s.data = value[i].data + 7;
            s.len = value[i].len - 7;

            expiry = ngx_parse_time(&s, 1);

            if (expiry != (time_t) NGX_ERROR && expiry) {
                continue;
            }
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid or duplicate parameter \"%V\" in \"%V\" "
                           "directive", &value[i], &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must have \"zone\" parameter", &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (registry == 0) {
        registry = ngx_align(size / NGX_HTTP_INVERTING_REGISTRY_PART,
                             ngx_pagesize);

    } else if (registry > size / 4 * 3) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "registry=%z of \"%V\" \"%V\" leaves too little of "
                           "%z: it must be %z at most",
                           registry, &cmd->name, &name, size, size / 4 * 3);
        return NGX_CONF_ERROR;
    }

    if ((uint64_t) registry > NGX_HTTP_INVERTING_INDEX_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "registry of \"%V\" \"%V\" is %z, it must be "
                           "%uLm at most: set \"registry\"",
                           &cmd->name, &name, registry,
                           NGX_HTTP_INVERTING_INDEX_MAX >> 20);
        return NGX_CONF_ERROR;
    }

    zone = ngx_http_inverting_use_zone(cf, &name);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    if (zone->shm_zone) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate \"%V\" \"%V\"", &cmd->name, &name);
        return NGX_CONF_ERROR;
    }

    zone->expiry = expiry;

    if (file.len
        && ngx_http_inverting_state_parameter(cf, zone, &file) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_inverting_zone_add(cf, zone, size, registry,
                                    &ngx_http_inverting_proxy_module)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_inverting_zone_parameter(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_str_t *name, ssize_t *size)
{
    u_char     *p, *last;
    ngx_str_t   s;

    name->data = arg->data + 5;
    last = arg->data + arg->len;

    p = ngx_strlchr(name->data, last, ':');

    if (p == NULL || p == name->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\" in \"inverting_proxy_zone\" "
                           "directive, it must be zone=name:size", arg);
        return NGX_ERROR;
    }

    name->len = p - name->data;

    s.data = p + 1;
    s.len = last - s.data;

    *size = ngx_parse_size(&s);

    if (*size == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\" in \"inverting_proxy_zone\" "
                           "directive", &s);
        return NGX_ERROR;
    }

    if (*size < (ssize_t) (64 * ngx_pagesize)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"inverting_proxy_zone\" \"%V\" is too small, "
                           "it must be %uz at least",
                           name, 64 * ngx_pagesize);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_registry_parameter(ngx_conf_t *cf, ngx_str_t *arg,
    ssize_t *registry)
{
    ngx_str_t  s;

    s.data = arg->data + 9;
    s.len = arg->len - 9;

    *registry = ngx_parse_size(&s);

    if (*registry == NGX_ERROR || *registry < (ssize_t) (8 * ngx_pagesize)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\" in \"inverting_proxy_zone\" "
                           "directive, it must be %uz at least",
                           arg, 8 * ngx_pagesize);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* a path of the prefix, as those of other files that nginx writes */

static ngx_int_t
ngx_http_inverting_state_parameter(ngx_conf_t *cf,
    ngx_http_inverting_zone_t *zone, ngx_str_t *file)
{
    ngx_uint_t                              i;
    ngx_http_inverting_zone_t             **zonep;
    ngx_http_inverting_proxy_main_conf_t   *mcf;

    if (ngx_conf_full_name(cf->cycle, file, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    mcf = ngx_http_conf_get_module_main_conf(cf,
                                             ngx_http_inverting_proxy_module);
    zonep = mcf->zones.elts;

    for (i = 0; i < mcf->zones.nelts; i++) {

        if (zonep[i]->file.len == file->len
            && ngx_strncmp(zonep[i]->file.data, file->data, file->len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "state file \"%V\" of \"inverting_proxy_zone\" "
                               "\"%V\" is that of \"%V\" as well",
                               file, &zone->name, &zonep[i]->name);
            return NGX_ERROR;
        }
    }

    zone->file = *file;

    return ngx_thread_pool_add(cf, NULL) ? NGX_OK : NGX_ERROR;
}


ngx_http_inverting_zone_t *
ngx_http_inverting_use_zone(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_str_t                              *value;
    ngx_uint_t                              i;
    ngx_http_inverting_zone_t              *zone, **zonep;
    ngx_http_inverting_proxy_main_conf_t   *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf,
                                             ngx_http_inverting_proxy_module);

    zonep = mcf->zones.elts;

    for (i = 0; i < mcf->zones.nelts; i++) {
        if (zonep[i]->name.len == name->len
            && ngx_strncmp(zonep[i]->name.data, name->data, name->len) == 0)
        {
            return zonep[i];
        }
    }

    zone = ngx_pcalloc(cf->pool, sizeof(ngx_http_inverting_zone_t));
    if (zone == NULL) {
        return NULL;
    }

    value = cf->args->elts;

    zone->name = *name;
    zone->directive = value[0];
    zone->slot = NGX_HTTP_INVERTING_NONE;

    zone->backends = ngx_array_create(cf->pool, 4,
                                      sizeof(ngx_http_inverting_record_t));
    if (zone->backends == NULL) {
        return NULL;
    }

    zone->keys = ngx_array_create(cf->pool, 4,
                                  sizeof(ngx_http_inverting_static_key_t));
    if (zone->keys == NULL) {
        return NULL;
    }

    ngx_rbtree_init(&zone->backend_names, &zone->backend_names_sentinel,
                    ngx_str_rbtree_insert_value);
    ngx_rbtree_init(&zone->key_hashes, &zone->key_hashes_sentinel,
                    ngx_str_rbtree_insert_value);

    zonep = ngx_array_push(&mcf->zones);
    if (zonep == NULL) {
        return NULL;
    }

    *zonep = zone;

    return zone;
}


char *
ngx_http_inverting_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_inverting_proxy_loc_conf_t *ilcf = conf;

    ngx_str_t                 *value;
    ngx_http_core_loc_conf_t  *clcf;

    if (ilcf->zone) {
        return "is duplicate";
    }

    value = cf->args->elts;

    ilcf->zone = ngx_http_inverting_use_zone(cf, &value[1]);
    if (ilcf->zone == NULL) {
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 3) {

        if (ngx_http_inverting_complex_value(cf, &value[2], &ilcf->backend)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_inverting_client_handler;

    return NGX_CONF_OK;
}


char *
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


char *
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

    /* of this location: that of an outer one does not count */
    ilcf->api_write = 0;

    if (cf->args->nelts == 3) {

        if (ngx_strcmp(value[2].data, "write=on") == 0) {
            ilcf->api_write = 1;

        } else if (ngx_strcmp(value[2].data, "write=off") != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" in \"%V\" "
                               "directive, it must be write=on or write=off",
                               &value[2], &cmd->name);
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

char *
ngx_http_inverting_identity(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t                  *value;
    ngx_http_complex_value_t  **cv;

    cv = (ngx_http_complex_value_t **) (p + cmd->offset);

    if (*cv != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        *cv = NULL;
        return NGX_CONF_OK;
    }

    if (ngx_http_inverting_complex_value(cf, &value[1], cv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_inverting_complex_value(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_complex_value_t **cv)
{
    ngx_http_compile_complex_value_t  ccv;

    *cv = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (*cv == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = *cv;

    return ngx_http_compile_complex_value(&ccv);
}


char *
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


char *
ngx_http_inverting_set_header(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_inverting_proxy_loc_conf_t *ilcf = conf;

    ngx_str_t                         *value, *s;
    ngx_uint_t                         i, own;
    ngx_http_inverting_field_t        *field, *set;
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

    set = ilcf->set_headers->elts;

    for (i = 0; i < ilcf->set_headers->nelts - 1; i++) {
        if (set[i].lowcase.len == field->lowcase.len
            && ngx_memcmp(set[i].lowcase.data, field->lowcase.data,
                          field->lowcase.len)
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


char *
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


char *
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


char *
ngx_http_inverting_bufs(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char        *rv;
    ngx_bufs_t  *bufs;

    rv = ngx_conf_set_bufs_slot(cf, cmd, conf);

    bufs = (ngx_bufs_t *) (p + cmd->offset);

    /* 1G: so that chunks can be counted in 32 bits */

    if (rv == NGX_CONF_OK
        && (uint64_t) bufs->num * bufs->size > 1024 * 1024 * 1024)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must not be more than 1g in all",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    return rv;
}
