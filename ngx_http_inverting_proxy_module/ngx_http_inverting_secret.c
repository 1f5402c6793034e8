
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "ngx_http_inverting_keys.h"


#define NGX_HTTP_INVERTING_SECRET_BYTES  32


static ngx_str_t  ngx_http_inverting_secret_prefix =
    ngx_string(NGX_HTTP_INVERTING_KEY_PREFIX);


ngx_int_t
ngx_http_inverting_secret_parse(ngx_str_t *secret, uint64_t *id)
{
    u_char     *p, bytes[NGX_HTTP_INVERTING_SECRET_BYTES];
    ngx_int_t   rc;
    ngx_str_t   part;

    if (secret->len != NGX_HTTP_INVERTING_SECRET_LEN
        || ngx_memcmp(secret->data, ngx_http_inverting_secret_prefix.data,
                      ngx_http_inverting_secret_prefix.len)
           != 0)
    {
        return NGX_DECLINED;
    }

    part.data = secret->data + ngx_http_inverting_secret_prefix.len;
    part.len = NGX_HTTP_INVERTING_KEY_ID_LEN;

    if (ngx_http_inverting_key_id_parse(&part, id) != NGX_OK) {
        return NGX_DECLINED;
    }

    p = part.data + part.len;

    if (*p != '_') {
        return NGX_DECLINED;
    }

    part.data = p + 1;
    part.len = 2 * NGX_HTTP_INVERTING_SECRET_BYTES;

    rc = ngx_http_inverting_hex_decode(bytes, &part);

    OPENSSL_cleanse(bytes, sizeof(bytes));

    return rc;
}


ngx_int_t
ngx_http_inverting_secret_hash(ngx_str_t *secret, u_char *hash)
{
    u_char  *p;

    static u_char  dummy[NGX_HTTP_INVERTING_SECRET_LEN];

    p = (secret->len == NGX_HTTP_INVERTING_SECRET_LEN) ? secret->data : dummy;

    if (EVP_Digest(p, NGX_HTTP_INVERTING_SECRET_LEN, hash, NULL, EVP_sha256(),
                   NULL)
        != 1)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_secret_make(ngx_http_inverting_key_t *key, u_char *secret)
{
    u_char     *p, bytes[NGX_HTTP_INVERTING_SECRET_BYTES];
    ngx_str_t   s;

    do {
        if (RAND_bytes((u_char *) &key->id, sizeof(uint64_t)) != 1) {
            return NGX_ERROR;
        }

    } while (key->id == NGX_HTTP_INVERTING_NO_KEY);

    if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(secret, ngx_http_inverting_secret_prefix.data,
                   ngx_http_inverting_secret_prefix.len);
    p = ngx_http_inverting_key_id_write(p, key->id);
    *p++ = '_';
    (void) ngx_hex_dump(p, bytes, sizeof(bytes));

    OPENSSL_cleanse(bytes, sizeof(bytes));

    s.data = secret;
    s.len = NGX_HTTP_INVERTING_SECRET_LEN;

    return ngx_http_inverting_secret_hash(&s, key->hash);
}


u_char *
ngx_http_inverting_key_id_write(u_char *p, uint64_t id)
{
    return ngx_sprintf(p, "%016xL", id);
}


ngx_int_t
ngx_http_inverting_key_id_parse(ngx_str_t *text, uint64_t *id)
{
    ngx_uint_t  i;
    u_char      bytes[NGX_HTTP_INVERTING_KEY_ID_LEN / 2];

    if (text->len != NGX_HTTP_INVERTING_KEY_ID_LEN
        || ngx_http_inverting_hex_decode(bytes, text) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    *id = 0;

    for (i = 0; i < sizeof(bytes); i++) {
        *id = *id << 8 | bytes[i];
    }

    return (*id == NGX_HTTP_INVERTING_NO_KEY) ? NGX_DECLINED : NGX_OK;
}


ngx_int_t
ngx_http_inverting_hex_decode(u_char *p, ngx_str_t *hex)
{
    u_char  ch;
    size_t  i;

    for (i = 0; i < hex->len; i++) {
        ch = hex->data[i];

        if (ch >= '0' && ch <= '9') {
            ch -= '0';

        } else if (ch >= 'a' && ch <= 'f') {
            ch = ch - 'a' + 10;

        } else {
            return NGX_DECLINED;
        }

        if (i % 2 == 0) {
            *p = ch << 4;

        } else {
            *p++ |= ch;
        }
    }

    return NGX_OK;
}
