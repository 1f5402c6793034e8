
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_random.h"


#define NGX_HTTP_INVERTING_ID_BYTES    (NGX_HTTP_INVERTING_ID_LEN / 2)
#define NGX_HTTP_INVERTING_RANDOM_MIN  (NGX_HTTP_INVERTING_POLL_MAX           \
                                        * NGX_HTTP_INVERTING_ID_BYTES)


/* asking OpenSSL for sixteen bytes costs as much as for thousands */

static u_char  ngx_http_inverting_random[4 * NGX_HTTP_INVERTING_RANDOM_MIN];
static size_t  ngx_http_inverting_random_left;


void
ngx_http_inverting_random_init(void)
{
    OPENSSL_cleanse(ngx_http_inverting_random,
                    sizeof(ngx_http_inverting_random));
    ngx_http_inverting_random_left = 0;
}


void
ngx_http_inverting_random_fill(void)
{
    if (ngx_http_inverting_random_left >= NGX_HTTP_INVERTING_RANDOM_MIN) {
        return;
    }

    if (RAND_bytes(ngx_http_inverting_random,
                   sizeof(ngx_http_inverting_random))
        != 1)
    {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "RAND_bytes() failed: no request IDs can be made");
        return;
    }

    ngx_http_inverting_random_left = sizeof(ngx_http_inverting_random);
}


ngx_int_t
ngx_http_inverting_random_id(u_char *id)
{
    u_char  *p;

    if (ngx_http_inverting_random_left < NGX_HTTP_INVERTING_ID_BYTES) {
        return NGX_ERROR;
    }

    ngx_http_inverting_random_left -= NGX_HTTP_INVERTING_ID_BYTES;

    p = ngx_http_inverting_random + ngx_http_inverting_random_left;

    ngx_hex_dump(id, p, NGX_HTTP_INVERTING_ID_BYTES);

    return NGX_OK;
}
