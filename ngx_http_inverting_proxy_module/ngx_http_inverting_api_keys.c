
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <openssl/crypto.h>

#include "ngx_http_inverting_api.h"


static ngx_int_t ngx_http_inverting_api_key_added(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_keys_parse(ngx_http_request_t *r,
    ngx_str_t *json, ngx_str_t *note,
    ngx_http_inverting_record_error_t *error);
static ngx_int_t ngx_http_inverting_keys_note(ngx_pool_t *pool, cJSON *object,
    ngx_str_t *note, ngx_http_inverting_record_error_t *error);
static void ngx_http_inverting_keys_cleanse(void *data);
static u_char *ngx_http_inverting_keys_write(u_char *p,
    ngx_http_inverting_key_t *key);


/* of a key in a list, and of one that was made; without the note */

#define NGX_HTTP_INVERTING_KEY_LEN                                            \
    (sizeof(",\n{\"id\":\"\",\"backend\":\"\",\"secret\":\"\",\"created\":"   \
            ",\"lastUsed\":,\"note\":}\n")                                    \
     + NGX_HTTP_INVERTING_KEY_ID_LEN + NGX_HTTP_INVERTING_BACKEND_ID_LEN      \
     + NGX_HTTP_INVERTING_SECRET_LEN + 2 * NGX_HTTP_INVERTING_TIME_LEN)


ngx_int_t
ngx_http_inverting_api_keys(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    size_t                            len;
    ngx_buf_t                        *b;
    ngx_http_inverting_backend_t     *backend;
    ngx_http_inverting_stored_key_t  *stored;

    b = NULL;

    ngx_http_inverting_lock(ctx->zone);

    backend = ngx_http_inverting_registry_find_locked(ctx->zone,
                                                      &ctx->backend);
    if (backend) {
        len = sizeof("[\n]\n") - 1;

        for (stored = backend->keys; stored; stored = stored->next) {
            len += NGX_HTTP_INVERTING_KEY_LEN
                   + ngx_http_inverting_json_len(&stored->key.note);
        }

        b = ngx_create_temp_buf(r->pool, len);
    }

    if (b) {
        *b->last++ = '[';

        for (stored = backend->keys; stored; stored = stored->next) {

            if (stored != backend->keys) {
                *b->last++ = ',';
            }

            b->last = ngx_cpymem(b->last, "\n{", 2);
            b->last = ngx_http_inverting_keys_write(b->last, &stored->key);

            b->last = ngx_cpymem(b->last, ",\"lastUsed\":", 12);
            b->last = ngx_http_inverting_api_time(b->last, stored->last_used);

            *b->last++ = '}';
        }

        b->last = ngx_cpymem(b->last, "]\n", 2);
    }

    ngx_http_inverting_unlock(ctx->zone);

    if (backend == NULL) {
        return ngx_http_inverting_api_no_backend(r);
    }

    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_api_send(r, NGX_HTTP_OK, b);
}


ngx_int_t
ngx_http_inverting_api_add_key(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_int_t                           rc;
    ngx_str_t                           json;
    ngx_pool_cleanup_t                 *cln;
    ngx_http_inverting_record_error_t   error;

    json.data = ctx->body;
    json.len = ctx->len;

    rc = ngx_http_inverting_keys_parse(r, &json, &ctx->change.key.note,
                                       &error);
    if (rc == NGX_DECLINED) {
        return ngx_http_inverting_api_invalid(r, &error);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln = ngx_pool_cleanup_add(r->pool, NGX_HTTP_INVERTING_SECRET_LEN);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_inverting_keys_cleanse;
    ctx->secret = cln->data;

    if (ngx_http_inverting_secret_make(&ctx->change.key, ctx->secret)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0,
                      "OpenSSL failed: no keys can be made");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->change.type = NGX_HTTP_INVERTING_ADD_KEY;
    ctx->change.key.created = ngx_time();
    ctx->done = ngx_http_inverting_api_key_added;

    return ngx_http_inverting_api_change(r, ctx);
}


/* an empty body is as good as an empty object */

static ngx_int_t
ngx_http_inverting_keys_parse(ngx_http_request_t *r, ngx_str_t *json,
    ngx_str_t *note, ngx_http_inverting_record_error_t *error)
{
    cJSON      *object;
    ngx_int_t   rc;

    if (json->len == 0) {
        return NGX_OK;
    }

    rc = ngx_http_inverting_json_parse(r->pool, json, &object, error);

    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_inverting_keys_note(r->pool, object, note, error);

    cJSON_Delete(object);

    return rc;
}


static ngx_int_t
ngx_http_inverting_keys_note(ngx_pool_t *pool, cJSON *object, ngx_str_t *note,
    ngx_http_inverting_record_error_t *error)
{
    char       *text;
    cJSON      *item;
    ngx_str_t   name;

    cJSON_ArrayForEach(item, object) {

        name.data = (u_char *) item->string;
        name.len = ngx_strlen(item->string);

        if (ngx_strcmp(name.data, "note") != 0) {
            text = "is not a known field";

        } else if (note->data) {
            text = "is given twice";

        } else if (!cJSON_IsString(item)) {
            text = "must be a string";

        } else {

            if (ngx_http_inverting_json_string(pool, item, note) != NGX_OK) {
                return NGX_ERROR;
            }

            if (note->len == 0) {
                continue;
            }

            text = ngx_http_inverting_string_error(note,
                                                NGX_HTTP_INVERTING_NOTE_LEN);
            if (text == NULL) {
                continue;
            }
        }

        return ngx_http_inverting_json_error(pool, &name, text, error);
    }

    return NGX_OK;
}


static void
ngx_http_inverting_keys_cleanse(void *data)
{
    OPENSSL_cleanse(data, NGX_HTTP_INVERTING_SECRET_LEN);
}


static ngx_int_t
ngx_http_inverting_api_key_added(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    ngx_buf_t                 *b;
    ngx_http_inverting_key_t  *key;

    key = &ctx->change.key;

    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                  "key \"%016xL\" of backend \"%V\" of zone \"%V\" was made",
                  key->id, &ctx->backend, &ctx->zone->name);

    b = ngx_create_temp_buf(r->pool, NGX_HTTP_INVERTING_KEY_LEN
                                   + ngx_http_inverting_json_len(&key->note));
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *b->last++ = '{';
    b->last = ngx_http_inverting_keys_write(b->last, key);
    b->last = ngx_sprintf(b->last, ",\"backend\":\"%V\",\"secret\":\"%*s\"}\n",
                          &ctx->backend, NGX_HTTP_INVERTING_SECRET_LEN,
                          ctx->secret);

    return ngx_http_inverting_api_send(r, NGX_HTTP_OK, b);
}


ngx_int_t
ngx_http_inverting_api_delete_key(ngx_http_request_t *r,
    ngx_http_inverting_api_ctx_t *ctx)
{
    /* what is no id is not one of a key; the backend must be there, though */

    (void) ngx_http_inverting_key_id_parse(&ctx->key, &ctx->change.key.id);

    ctx->change.type = NGX_HTTP_INVERTING_DELETE_KEY;
    ctx->done = ngx_http_inverting_api_deleted;

    return ngx_http_inverting_api_change(r, ctx);
}


static u_char *
ngx_http_inverting_keys_write(u_char *p, ngx_http_inverting_key_t *key)
{
    p = ngx_cpymem(p, "\"id\":\"", 6);
    p = ngx_http_inverting_key_id_write(p, key->id);
    p = ngx_cpymem(p, "\",\"created\":", 12);
    p = ngx_http_inverting_api_time(p, key->created);
    p = ngx_cpymem(p, ",\"note\":", 8);

    return ngx_http_inverting_json_write(p, &key->note);
}
