
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_record.h"
#include "ngx_http_inverting_proxy_module.h"


/* by ngx_http_inverting_field_e */

static ngx_str_t  ngx_http_inverting_parameter_names[] = {
    ngx_null_string,
    ngx_string("id"),
    ngx_string("end_user"),
    ngx_string("backend_user"),
    ngx_string("prefix"),
    ngx_null_string
};


char *
ngx_http_inverting_backend_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_str_t                          *value, *prefixes, s, *p;
    ngx_uint_t                          i;
    ngx_array_t                         array;
    ngx_http_inverting_zone_t          *zone;
    ngx_http_inverting_record_t        *record, *records;
    ngx_http_inverting_record_error_t   error;

    value = cf->args->elts;

    zone = ngx_http_inverting_use_zone(cf, &value[1]);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    records = zone->backends->elts;

    for (i = 0; i < zone->backends->nelts; i++) {
        if (records[i].id.len == value[2].len
            && ngx_strncmp(records[i].id.data, value[2].data, value[2].len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate backend \"%V\" in \"%V\"",
                               &value[2], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    record = ngx_array_push(zone->backends);
    if (record == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(record, sizeof(ngx_http_inverting_record_t));

    record->id = value[2];
    record->configured = 1;

    if (ngx_array_init(&array, cf->pool, 1, sizeof(ngx_str_t)) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    for (i = 3; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "end_user=", 9) == 0) {
            p = &record->end_user;
            s.data = value[i].data + 9;

        } else if (ngx_strncmp(value[i].data, "backend_user=", 13) == 0) {
            p = &record->backend_user;
            s.data = value[i].data + 13;

        } else if (ngx_strncmp(value[i].data, "prefix=", 7) == 0) {
            p = ngx_array_push(&array);
            if (p == NULL) {
                return NGX_CONF_ERROR;
            }

            p->data = NULL;
            s.data = value[i].data + 7;

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        if (p->data) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate parameter \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        s.len = value[i].data + value[i].len - s.data;
        *p = s;
    }

    if (array.nelts == 0) {
        prefixes = ngx_array_push(&array);
        if (prefixes == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_str_set(prefixes, "/");
    }

    record->prefixes = array.elts;
    record->nprefixes = array.nelts;

    if (ngx_http_inverting_record_validate(record, &error) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" of \"%V\" \"%V\" %V",
                           &ngx_http_inverting_parameter_names[error.field],
                           &cmd->name, &record->id, &error.text);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
