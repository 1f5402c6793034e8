
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_DIRECTIVES_H_INCLUDED_
#define _NGX_HTTP_INVERTING_DIRECTIVES_H_INCLUDED_


#include "ngx_http_inverting_proxy_module.h"


/* the setters of ngx_command_t; they log what is wrong, and where */

char *ngx_http_inverting_zone_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_inverting_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_inverting_agent(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_inverting_api(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* inverting_proxy_user, inverting_proxy_agent_user */
char *ngx_http_inverting_identity(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

char *ngx_http_inverting_queue(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_inverting_set_header(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* nginx's slots, and 0 is refused, more than the zone can count as well */
char *ngx_http_inverting_positive_msec(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_inverting_positive_size(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_inverting_bufs(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


#endif /* _NGX_HTTP_INVERTING_DIRECTIVES_H_INCLUDED_ */
