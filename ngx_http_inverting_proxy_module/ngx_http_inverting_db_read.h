
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_DB_READ_H_INCLUDED_
#define _NGX_HTTP_INVERTING_DB_READ_H_INCLUDED_


#include "ngx_http_inverting_db.h"


/* a statement, ready for its values; NULL: an error */
sqlite3_stmt *ngx_http_inverting_db_use(ngx_http_inverting_db_t *db,
    ngx_uint_t n);

/* the value must stay until the next use of the statement has begun */
void ngx_http_inverting_db_bind(sqlite3_stmt *statement, int n, ngx_str_t *s);

/* NGX_OK: there is a row; NGX_DONE: there is none, or no more; NGX_ERROR */
ngx_int_t ngx_http_inverting_db_step(ngx_http_inverting_db_t *db,
    sqlite3_stmt *statement);

/* column n of a row, in the pool: NGX_ERROR: there is no memory */
ngx_int_t ngx_http_inverting_db_text(ngx_pool_t *pool, sqlite3_stmt *statement,
    int n, ngx_str_t *s);

/* the backend that has entry->record.id as it is now, with its keys */
ngx_int_t ngx_http_inverting_db_entry(ngx_http_inverting_db_t *db,
    ngx_pool_t *pool, ngx_http_inverting_entry_t *entry);

/* writes db->error, which names the backend: always NGX_ERROR */
ngx_int_t ngx_http_inverting_db_invalid(ngx_http_inverting_db_t *db,
    ngx_str_t *id, char *what);


#endif /* _NGX_HTTP_INVERTING_DB_READ_H_INCLUDED_ */
