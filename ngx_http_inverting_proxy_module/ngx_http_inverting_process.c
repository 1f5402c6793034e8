
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_process.h"


/* a start time that could not be found out */
#define NGX_HTTP_INVERTING_UNKNOWN  ((uint64_t) -1)


static uint64_t ngx_http_inverting_process_start_time(ngx_pid_t pid);


void
ngx_http_inverting_process_self(ngx_http_inverting_process_t *process)
{
    process->pid = ngx_pid;
    process->group = getpgid(0);
    process->start_time = ngx_http_inverting_process_start_time(ngx_pid);
}


ngx_uint_t
ngx_http_inverting_process_is_dead(ngx_http_inverting_process_t *process,
    ngx_uint_t thorough)
{
    uint64_t   now;
    ngx_pid_t  group;

    if (process->pid != ngx_pid && kill(process->pid, 0) == -1) {

        if (ngx_errno == NGX_ESRCH) {
            return 1;
        }

        /*
         * A stranger has the number by now, or "user" was changed: then /proc
         * may be hidden from us, but the group is the master's as ours is.
         */

        group = getpgid(process->pid);

        if (group == -1) {
            return ngx_errno == NGX_ESRCH;
        }

        if (group != process->group) {
            return 1;
        }

        thorough = 1;
    }

    if (!thorough) {
        return 0;
    }

    now = ngx_http_inverting_process_start_time(process->pid);

    return now != process->start_time
           && now != NGX_HTTP_INVERTING_UNKNOWN
           && process->start_time != NGX_HTTP_INVERTING_UNKNOWN;
}


/* 0: it is a zombie */

static uint64_t
ngx_http_inverting_process_start_time(ngx_pid_t pid)
{
    u_char     *p, *last, path[sizeof("/proc//stat") + NGX_INT64_LEN];
    u_char      buf[1024];
    ssize_t     n;
    uint64_t    value;
    ngx_fd_t    fd;
    ngx_uint_t  field;

    ngx_sprintf(path, "/proc/%P/stat%Z", pid);

    fd = ngx_open_file(path, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);
    if (fd == NGX_INVALID_FILE) {
        return NGX_HTTP_INVERTING_UNKNOWN;
    }

    n = ngx_read_fd(fd, buf, sizeof(buf) - 1);

    (void) ngx_close_file(fd);

    if (n <= 0) {
        return NGX_HTTP_INVERTING_UNKNOWN;
    }

    buf[n] = '\0';
    last = buf + n;

    /* the second field is the name, in parentheses that it may have as well */

    for (p = last; p > buf && *p != ')'; p--) { /* void */ }

    if (p + 2 >= last) {
        return NGX_HTTP_INVERTING_UNKNOWN;
    }

    if (p[2] == 'Z' || p[2] == 'X') {
        return 0;
    }

    for (field = 2; field < 22 && p < last; p++) {
        if (*p == ' ') {
            field++;
        }
    }

    value = 0;

    while (p < last && *p >= '0' && *p <= '9') {
        value = value * 10 + (*p++ - '0');
    }

    return value;
}
