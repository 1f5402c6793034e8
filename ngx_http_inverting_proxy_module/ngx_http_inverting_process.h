
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_PROCESS_H_INCLUDED_
#define _NGX_HTTP_INVERTING_PROCESS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* a process, told from a later one that has its number */

typedef struct {
    ngx_pid_t                        pid;          /* 0: none */
    ngx_pid_t                        group;
    uint64_t                         start_time;   /* clock ticks since boot */
} ngx_http_inverting_process_t;


/* this one */
void ngx_http_inverting_process_self(ngx_http_inverting_process_t *process);

/*
 * Whether it is gone, for certain.  What can't be found out counts as alive:
 * with another "user", with /proc hidden from us or not there.  A later one
 * of the same number is noticed if "thorough" is set: that opens a file.
 */
ngx_uint_t ngx_http_inverting_process_is_dead(
    ngx_http_inverting_process_t *process, ngx_uint_t thorough);


#endif /* _NGX_HTTP_INVERTING_PROCESS_H_INCLUDED_ */
