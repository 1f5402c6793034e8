
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_client.h"
#include "ngx_http_inverting_keys.h"


static ngx_int_t ngx_http_inverting_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_inverting_queue_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_http_inverting_vars_t *ngx_http_inverting_get_vars(
    ngx_http_request_t *r);


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


ngx_int_t
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

    vars = ngx_http_inverting_get_vars(r);

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

    vars = ngx_http_inverting_get_vars(r);

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


static ngx_http_inverting_vars_t *
ngx_http_inverting_get_vars(ngx_http_request_t *r)
{
    ngx_http_inverting_vars_t  *vars;

    vars = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);

    if (vars == NULL && (r->internal || r->filter_finalize)) {
        return ngx_http_inverting_client_left(r);
    }

    return vars;
}


void
ngx_http_inverting_show_key(ngx_pool_t *pool, ngx_http_inverting_vars_t *vars,
    uint64_t key)
{
    u_char  *p;

    if (key == NGX_HTTP_INVERTING_NO_KEY) {
        return;
    }

    p = ngx_pnalloc(pool, sizeof("key:") - 1 + NGX_HTTP_INVERTING_KEY_ID_LEN);
    if (p == NULL) {
        return;
    }

    vars->agent.data = p;

    p = ngx_cpymem(p, "key:", 4);
    p = ngx_http_inverting_key_id_write(p, key);

    vars->agent.len = p - vars->agent.data;
}
