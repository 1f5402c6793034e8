
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <openssl/crypto.h>

#include "ngx_http_inverting_keys.h"
#include "ngx_http_inverting_record.h"
#include "ngx_http_inverting_routes.h"
#include "ngx_http_inverting_proxy_module.h"


/* largest key_file */
#define NGX_HTTP_INVERTING_KEY_FILE  65536


static ngx_int_t ngx_http_inverting_static_name(ngx_conf_t *cf,
    ngx_rbtree_t *names, u_char *data, size_t len);
static ngx_int_t ngx_http_inverting_key_file(ngx_conf_t *cf,
    ngx_http_inverting_zone_t *zone, ngx_str_t *id, ngx_str_t *file);
static ngx_int_t ngx_http_inverting_key_file_read(ngx_conf_t *cf,
    ngx_str_t *file, u_char *text, size_t *size);
static ngx_int_t ngx_http_inverting_key_file_line(ngx_conf_t *cf,
    ngx_http_inverting_zone_t *zone, ngx_str_t *id, ngx_str_t *line,
    char **error);


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
    ngx_int_t                           rc;
    ngx_str_t                          *value, *prefixes, s, *p, file;
    ngx_uint_t                          i;
    ngx_array_t                         array;
    ngx_http_inverting_zone_t          *zone;
    ngx_http_inverting_record_t        *record;
    ngx_http_inverting_record_error_t   error;

    value = cf->args->elts;

    zone = ngx_http_inverting_use_zone(cf, &value[1]);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    rc = ngx_http_inverting_static_name(cf, &zone->backend_names,
                                        value[2].data, value[2].len);

    if (rc == NGX_DECLINED) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate backend \"%V\" in \"%V\"",
                           &value[2], &cmd->name);
    }

    if (rc != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    record = ngx_array_push(zone->backends);
    if (record == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(record, sizeof(ngx_http_inverting_record_t));

    ngx_str_null(&file);

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

        } else if (ngx_strncmp(value[i].data, "key_file=", 9) == 0) {
            p = &file;
            s.data = value[i].data + 9;

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

    if (file.len) {

        if (ngx_http_inverting_key_file(cf, zone, &record->id, &file)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

    } else if (record->backend_user.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" \"%V\" has neither \"backend_user\" nor "
                           "\"key_file\": no agent could serve it",
                           &cmd->name, &record->id);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* NGX_DECLINED: it is among them already */

static ngx_int_t
ngx_http_inverting_static_name(ngx_conf_t *cf, ngx_rbtree_t *names,
    u_char *data, size_t len)
{
    uint32_t         hash;
    ngx_str_t        name;
    ngx_str_node_t  *node;

    name.data = data;
    name.len = len;

    hash = ngx_murmur_hash2(data, len);

    if (ngx_str_rbtree_lookup(names, &name, hash)) {
        return NGX_DECLINED;
    }

    node = ngx_palloc(cf->pool, sizeof(ngx_str_node_t));
    if (node == NULL) {
        return NGX_ERROR;
    }

    node->node.key = hash;
    node->str.len = len;
    node->str.data = ngx_pstrdup(cf->pool, &name);

    if (node->str.data == NULL) {
        return NGX_ERROR;
    }

    ngx_rbtree_insert(names, &node->node);

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_key_file(ngx_conf_t *cf, ngx_http_inverting_zone_t *zone,
    ngx_str_t *id, ngx_str_t *file)
{
    char        *error;
    size_t       size;
    u_char      *text, *p, *last;
    ngx_int_t    rc;
    ngx_str_t    line;
    ngx_uint_t   n, nkeys;

    if (ngx_conf_full_name(cf->cycle, file, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    text = ngx_pnalloc(cf->temp_pool, NGX_HTTP_INVERTING_KEY_FILE + 1);
    if (text == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_inverting_key_file_read(cf, file, text, &size);

    nkeys = zone->keys->nelts;
    last = text + size;
    n = 0;

    for (p = text; rc == NGX_OK && p < last; p = line.data + line.len + 1) {

        line.data = p;

        p = ngx_strlchr(p, last, LF);
        line.len = (p ? p : last) - line.data;

        n++;

        rc = ngx_http_inverting_key_file_line(cf, zone, id, &line, &error);

        if (rc == NGX_DECLINED) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s in \"%V\":%ui",
                               error, file, n);
        }
    }

    OPENSSL_cleanse(text, NGX_HTTP_INVERTING_KEY_FILE + 1);

    /* there may be thousands of such files */
    (void) ngx_pfree(cf->temp_pool, text);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    nkeys = zone->keys->nelts - nkeys;

    if (nkeys == 0 || nkeys > NGX_HTTP_INVERTING_KEYS) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "key_file \"%V\" of \"inverting_proxy_backend\" "
                           "\"%V\" must have 1 to %d keys",
                           file, id, NGX_HTTP_INVERTING_KEYS);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_key_file_read(ngx_conf_t *cf, ngx_str_t *file, u_char *text,
    size_t *size)
{
    ssize_t    n;
    ngx_fd_t   fd;
    ngx_err_t  err;

    /* a FIFO must not block */

    fd = ngx_open_file(file->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " key_file \"%V\" failed", file);
        return NGX_ERROR;
    }

    *size = 0;

    do {
        n = ngx_read_fd(fd, text + *size,
                        NGX_HTTP_INVERTING_KEY_FILE + 1 - *size);
        err = ngx_errno;

        if (n > 0) {
            *size += n;
        }

    } while (n > 0 && *size <= NGX_HTTP_INVERTING_KEY_FILE);

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " key_file \"%V\" failed", file);
    }

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, err,
                           ngx_read_fd_n " key_file \"%V\" failed", file);
        return NGX_ERROR;
    }

    if (*size > NGX_HTTP_INVERTING_KEY_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "key_file \"%V\" is larger than %d bytes",
                           file, NGX_HTTP_INVERTING_KEY_FILE);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* NGX_DECLINED: "error" says what is wrong, and nothing of what is there */

static ngx_int_t
ngx_http_inverting_key_file_line(ngx_conf_t *cf,
    ngx_http_inverting_zone_t *zone, ngx_str_t *id, ngx_str_t *line,
    char **error)
{
    u_char                            hash[NGX_HTTP_INVERTING_HASH_LEN];
    uint64_t                          key;
    ngx_int_t                         rc;
    ngx_str_t                         s, hex;
    ngx_uint_t                        i;
    ngx_http_inverting_static_key_t  *keys;

    s = *line;

    while (s.len && s.data[s.len - 1] <= ' ') {
        s.len--;
    }

    while (s.len && s.data[0] <= ' ') {
        s.data++;
        s.len--;
    }

    if (s.len == 0 || s.data[0] == '#') {
        return NGX_OK;
    }

    if (s.len == 7 + 2 * NGX_HTTP_INVERTING_HASH_LEN
        && ngx_strncmp(s.data, "sha256:", 7) == 0)
    {
        hex.data = s.data + 7;
        hex.len = 2 * NGX_HTTP_INVERTING_HASH_LEN;

        if (ngx_http_inverting_hex_decode(hash, &hex) != NGX_OK) {
            *error = "not 64 hexadecimal digits after \"sha256:\"";
            return NGX_DECLINED;
        }

        /* the secret's own is not known: the start of the hash is as good */

        hex.len = NGX_HTTP_INVERTING_KEY_ID_LEN;

        if (ngx_http_inverting_key_id_parse(&hex, &key) != NGX_OK) {
            *error = "not the hash of a secret";
            return NGX_DECLINED;
        }

    } else {

        if (ngx_http_inverting_secret_parse(&s, &key) != NGX_OK) {
            *error = "neither a secret (\"ipk_\", 16 hexadecimal digits, "
                     "\"_\", 64 of them) nor \"sha256:\" and its hash";
            return NGX_DECLINED;
        }

        if (ngx_http_inverting_secret_hash(&s, hash) != NGX_OK) {
            *error = "OpenSSL failed to hash the secret";
            return NGX_DECLINED;
        }
    }

    rc = ngx_http_inverting_static_name(cf, &zone->key_hashes, hash,
                                        sizeof(hash));
    keys = zone->keys->elts;

    /* the backend's own are the last ones */

    for (i = zone->keys->nelts; rc == NGX_OK && i-- > 0; /* void */ ) {

        if (ngx_http_inverting_str_cmp(&keys[i].backend, id) != 0) {
            break;
        }

        if (keys[i].key.id == key) {
            rc = NGX_DECLINED;
        }
    }

    if (rc != NGX_OK) {
        *error = "duplicate key";
        return rc;
    }

    keys = ngx_array_push(zone->keys);
    if (keys == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(keys, sizeof(ngx_http_inverting_static_key_t));

    keys->backend = *id;
    keys->key.id = key;
    ngx_memcpy(keys->key.hash, hash, sizeof(hash));

    return NGX_OK;
}
