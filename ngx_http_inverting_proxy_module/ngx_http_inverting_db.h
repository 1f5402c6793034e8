
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_DB_H_INCLUDED_
#define _NGX_HTTP_INVERTING_DB_H_INCLUDED_


#include "ngx_http_inverting_change.h"

#include <sqlite3.h>


/*
 * The file that state= names: SQLite, version 1 of
 *
 *     backends (id, end_user, backend_user, prefixes: one a line)
 *     keys     (backend, id, hash, created, note)
 *     changes  (number, backend): the last ones, for those who have missed any
 *
 * Functions here block: they are for a thread, and for the master process
 * before it forks; a handle must not cross a fork.  They touch no zone.
 * Errors are texts of at most NGX_HTTP_INVERTING_DB_ERROR bytes with the zero
 * byte, which name the file.
 */


#define NGX_HTTP_INVERTING_DB_ERROR   1024

/* as many changes are read at a time by whoever has missed some */
#define NGX_HTTP_INVERTING_DB_BEHIND  1000


typedef enum {
    NGX_HTTP_INVERTING_DB_BEGIN = 0,
    NGX_HTTP_INVERTING_DB_BEGIN_WRITE,
    NGX_HTTP_INVERTING_DB_COMMIT,
    NGX_HTTP_INVERTING_DB_ROLLBACK,
    NGX_HTTP_INVERTING_DB_RANGE,
    NGX_HTTP_INVERTING_DB_CHANGE,
    NGX_HTTP_INVERTING_DB_CHANGES,
    NGX_HTTP_INVERTING_DB_PRUNE,
    NGX_HTTP_INVERTING_DB_IDS,
    NGX_HTTP_INVERTING_DB_GET,
    NGX_HTTP_INVERTING_DB_SET,
    NGX_HTTP_INVERTING_DB_DELETE,
    NGX_HTTP_INVERTING_DB_KEYS,
    NGX_HTTP_INVERTING_DB_COUNT_KEYS,
    NGX_HTTP_INVERTING_DB_ADD_KEY,
    NGX_HTTP_INVERTING_DB_DELETE_KEY,
    NGX_HTTP_INVERTING_DB_DELETE_KEYS,
    NGX_HTTP_INVERTING_DB_STATEMENTS
} ngx_http_inverting_db_statement_e;


typedef struct {
    ngx_str_t                       file;      /* a zero byte follows */
    u_char                         *error;
    sqlite3                        *handle;    /* NULL: not open */
    sqlite3_stmt    *statements[NGX_HTTP_INVERTING_DB_STATEMENTS];
} ngx_http_inverting_db_t;


/* a backend as the file has it now */

typedef struct ngx_http_inverting_entry_s  ngx_http_inverting_entry_t;

struct ngx_http_inverting_entry_s {
    ngx_http_inverting_entry_t     *next;
    ngx_http_inverting_record_t     record;    /* of an absent one the id */
    ngx_uint_t                      nkeys;
    ngx_http_inverting_key_t       *keys;
    unsigned                        present:1;
};


/* a change, and whoever waits for it; see ngx_http_inverting_state.h */

typedef struct ngx_http_inverting_op_s  ngx_http_inverting_op_t;

struct ngx_http_inverting_op_s {
    ngx_http_inverting_op_t        *next;
    ngx_http_inverting_change_t     change;
    void                          (*handler)(ngx_http_inverting_op_t *op);
    void                           *data;      /* NULL: nobody any more */
    size_t                          reserved;  /* of the registry */
};


/* what is done in one transaction */

typedef struct {
    ngx_pool_t                     *pool;      /* for all that is in it */
    ngx_http_inverting_op_t        *ops;
    ngx_http_inverting_op_t       **last;
    ngx_uint_t                      nops;

    uint64_t                        from;      /* the zone has these changes */
    uint64_t                        to;        /* and these with the entries */
    ngx_http_inverting_entry_t     *entries;

    ngx_int_t                       rc;
    u_char                          error[NGX_HTTP_INVERTING_DB_ERROR];
} ngx_http_inverting_batch_t;


/*
 * Makes the changes of the batch, one transaction, and reads what has changed
 * since batch->from; opens the file first, and makes it if there is none.  In
 * batch->rc: NGX_OK: everything is committed; NGX_AGAIN: the zone is far
 * behind, nothing was changed, some entries were read; NGX_ERROR: nothing was
 * changed.
 */
void ngx_http_inverting_db_run(ngx_http_inverting_db_t *db,
    ngx_http_inverting_batch_t *batch);

void ngx_http_inverting_db_close(ngx_http_inverting_db_t *db);

/*
 * Opens the file for reading, if it is there, and checks that it is one of
 * ours and, with "all", whole.  NGX_OK; NGX_DECLINED: there is none;
 * NGX_ERROR.
 */
ngx_int_t ngx_http_inverting_db_open_read(ngx_http_inverting_db_t *db,
    ngx_uint_t all);

/* the number of the last change, 0: none */
ngx_int_t ngx_http_inverting_db_number(ngx_http_inverting_db_t *db,
    uint64_t *number);

/* the next backend, in the pool: NGX_OK, NGX_DONE: no more, NGX_ERROR */
ngx_int_t ngx_http_inverting_db_next(ngx_http_inverting_db_t *db,
    ngx_pool_t *pool, ngx_http_inverting_entry_t *entry);


#endif /* _NGX_HTTP_INVERTING_DB_H_INCLUDED_ */
