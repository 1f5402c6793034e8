
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_RANDOM_H_INCLUDED_
#define _NGX_HTTP_INVERTING_RANDOM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* forgets what was inherited from the parent process */
void ngx_http_inverting_random_init(void);

/* sees to it that enough IDs for one poll are at hand; not under a lock */
void ngx_http_inverting_random_fill(void);

/*
 * Writes NGX_HTTP_INVERTING_ID_LEN hex digits, 128 bits from OpenSSL.
 * NGX_ERROR: OpenSSL has none to give, which was logged.
 */
ngx_int_t ngx_http_inverting_random_id(u_char *id);


#endif /* _NGX_HTTP_INVERTING_RANDOM_H_INCLUDED_ */
