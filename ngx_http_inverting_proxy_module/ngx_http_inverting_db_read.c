
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_db_open.h"
#include "ngx_http_inverting_db_read.h"
#include "ngx_http_inverting_record.h"


static ngx_int_t ngx_http_inverting_db_prefixes(ngx_pool_t *pool,
    ngx_str_t *text, ngx_http_inverting_record_t *record);
static ngx_int_t ngx_http_inverting_db_read_keys(ngx_http_inverting_db_t *db,
    ngx_pool_t *pool, ngx_http_inverting_entry_t *entry);


ngx_int_t
ngx_http_inverting_db_entry(ngx_http_inverting_db_t *db, ngx_pool_t *pool,
    ngx_http_inverting_entry_t *entry)
{
    ngx_int_t                           rc;
    ngx_str_t                           prefixes;
    sqlite3_stmt                       *statement;
    ngx_http_inverting_record_t        *record;
    ngx_http_inverting_record_error_t   error;

    record = &entry->record;

    statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_GET);
    if (statement == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_db_bind(statement, 1, &record->id);

    rc = ngx_http_inverting_db_step(db, statement);

    if (rc != NGX_OK) {
        return (rc == NGX_DONE) ? NGX_OK : NGX_ERROR;
    }

    entry->present = 1;

    if (ngx_http_inverting_db_text(pool, statement, 0, &record->end_user)
        != NGX_OK
        || ngx_http_inverting_db_text(pool, statement, 1,
                                      &record->backend_user)
           != NGX_OK
        || ngx_http_inverting_db_text(pool, statement, 2, &prefixes) != NGX_OK
        || ngx_http_inverting_db_prefixes(pool, &prefixes, record) != NGX_OK)
    {
        rc = ngx_http_inverting_db_invalid(db, &record->id,
                                           "there is no memory");

    } else if (ngx_http_inverting_record_validate(record, &error) != NGX_OK) {
        rc = ngx_http_inverting_db_invalid(db, &record->id,
                                           "it is damaged: a record of it "
                                           "is not valid");
    }

    sqlite3_reset(statement);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_inverting_db_read_keys(db, pool, entry);
}


static ngx_int_t
ngx_http_inverting_db_prefixes(ngx_pool_t *pool, ngx_str_t *text,
    ngx_http_inverting_record_t *record)
{
    u_char      *p, *last;
    ngx_str_t   *prefix;
    ngx_uint_t   n;

    last = text->data + text->len;

    for (n = 1, p = text->data; p < last; p++) {
        n += (*p == LF);
    }

    record->prefixes = ngx_palloc(pool, n * sizeof(ngx_str_t));
    if (record->prefixes == NULL) {
        return NGX_ERROR;
    }

    record->nprefixes = n;

    prefix = record->prefixes;
    prefix->data = text->data;

    for (p = text->data; p < last; p++) {

        if (*p == LF) {
            prefix->len = p - prefix->data;
            prefix++;
            prefix->data = p + 1;
        }
    }

    prefix->len = last - prefix->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_db_read_keys(ngx_http_inverting_db_t *db, ngx_pool_t *pool,
    ngx_http_inverting_entry_t *entry)
{
    ngx_int_t                  rc;
    ngx_str_t                  id;
    sqlite3_stmt              *statement;
    ngx_http_inverting_key_t  *key;

    statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_KEYS);
    if (statement == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_db_bind(statement, 1, &entry->record.id);

    for ( ;; ) {
        rc = ngx_http_inverting_db_step(db, statement);

        if (rc != NGX_OK) {
            break;
        }

        if (entry->keys == NULL) {
            entry->keys = ngx_pcalloc(pool, NGX_HTTP_INVERTING_KEYS
                                          * sizeof(ngx_http_inverting_key_t));
        }

        id.data = (u_char *) sqlite3_column_text(statement, 0);
        id.len = sqlite3_column_bytes(statement, 0);

        key = entry->keys + entry->nkeys;

        if (entry->keys == NULL
            || entry->nkeys == NGX_HTTP_INVERTING_KEYS
            || sqlite3_column_bytes(statement, 1)
               != NGX_HTTP_INVERTING_HASH_LEN
            || sqlite3_column_bytes(statement, 3)
               > NGX_HTTP_INVERTING_NOTE_LEN
            || ngx_http_inverting_key_id_parse(&id, &key->id) != NGX_OK
            || ngx_http_inverting_db_text(pool, statement, 3, &key->note)
               != NGX_OK)
        {
            rc = ngx_http_inverting_db_invalid(db, &entry->record.id,
                                               "it is damaged: a key of it "
                                               "is not valid");
            break;
        }

        ngx_memcpy(key->hash, sqlite3_column_blob(statement, 1),
                   NGX_HTTP_INVERTING_HASH_LEN);
        key->created = sqlite3_column_int64(statement, 2);

        entry->nkeys++;
    }

    sqlite3_reset(statement);

    return (rc == NGX_DONE) ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_inverting_db_number(ngx_http_inverting_db_t *db, uint64_t *number)
{
    sqlite3_stmt  *statement;

    statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_RANGE);

    if (statement == NULL
        || ngx_http_inverting_db_step(db, statement) != NGX_OK)
    {
        return NGX_ERROR;
    }

    *number = sqlite3_column_int64(statement, 1);

    sqlite3_reset(statement);

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_db_next(ngx_http_inverting_db_t *db, ngx_pool_t *pool,
    ngx_http_inverting_entry_t *entry)
{
    ngx_int_t      rc;
    sqlite3_stmt  *statement;

    statement = db->statements[NGX_HTTP_INVERTING_DB_IDS];

    if (statement == NULL) {
        statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_IDS);
        if (statement == NULL) {
            return NGX_ERROR;
        }
    }

    rc = ngx_http_inverting_db_step(db, statement);

    if (rc != NGX_OK) {
        return rc;
    }

    ngx_memzero(entry, sizeof(ngx_http_inverting_entry_t));

    if (ngx_http_inverting_db_text(pool, statement, 0, &entry->record.id)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_inverting_db_entry(db, pool, entry);
}


ngx_int_t
ngx_http_inverting_db_text(ngx_pool_t *pool, sqlite3_stmt *statement, int n,
    ngx_str_t *s)
{
    const u_char  *text;

    text = sqlite3_column_text(statement, n);

    s->len = sqlite3_column_bytes(statement, n);

    s->data = ngx_pnalloc(pool, s->len + 1);
    if (s->data == NULL) {
        return NGX_ERROR;
    }

    if (s->len) {
        ngx_memcpy(s->data, text, s->len);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_db_invalid(ngx_http_inverting_db_t *db, ngx_str_t *id,
    char *what)
{
    char  text[sizeof(" (backend \"\")") + 64
               + NGX_HTTP_INVERTING_BACKEND_ID_LEN];

    /* whatever else may be in a damaged file */

    (void) ngx_snprintf((u_char *) text, sizeof(text),
                        "%s (backend \"%*s\")%Z", what,
                        ngx_min(id->len, NGX_HTTP_INVERTING_BACKEND_ID_LEN),
                        id->data);

    text[sizeof(text) - 1] = '\0';

    ngx_http_inverting_db_error(db, text);

    return NGX_ERROR;
}
