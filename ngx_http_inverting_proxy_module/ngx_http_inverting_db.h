
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
 * before it forks; a handle must not cross a fork.  Of the zone they only read
 * up to which change it has got, and of which file.
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
    NGX_HTTP_INVERTING_DB_CHANGED,
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
    uint64_t                        device;    /* of what is open */
    uint64_t                        inode;
    uint64_t                        wal;       /* the inode of its log */
    uint64_t                        busy_since; /* ms, while a lock is held */
    sqlite3_stmt    *statements[NGX_HTTP_INVERTING_DB_STATEMENTS];
} ngx_http_inverting_db_t;


/* a backend as the file has it now */

typedef struct ngx_http_inverting_entry_s  ngx_http_inverting_entry_t;

struct ngx_http_inverting_entry_s {
    ngx_http_inverting_entry_t     *next;
    ngx_http_inverting_record_t     record;    /* of an absent one the id */
    ngx_uint_t                      nkeys;
    ngx_http_inverting_key_t       *keys;
    ngx_http_inverting_room_t      *room;      /* of the change, or NULL */
    unsigned                        present:1;
};


/* a change, and whoever waits for it; see ngx_http_inverting_state.h */

typedef struct ngx_http_inverting_op_s  ngx_http_inverting_op_t;

struct ngx_http_inverting_op_s {
    ngx_http_inverting_op_t        *next;
    ngx_http_inverting_change_t     change;
    void                          (*handler)(ngx_http_inverting_op_t *op);
    void                           *data;      /* NULL: nobody any more */
    ngx_http_inverting_room_t      *room;      /* in the registry, or NULL */
};


/* what is done in one transaction */

typedef struct {
    ngx_pool_t                     *pool;      /* for all that is in it */
    ngx_http_inverting_op_t        *ops;
    ngx_http_inverting_op_t       **last;
    ngx_uint_t                      nops;

    ngx_http_inverting_zone_sh_t   *sh;        /* applied, device, inode */
    uint64_t                        from;      /* the zone had these changes */
    uint64_t                        to;        /* has these with the entries */
    ngx_http_inverting_entry_t     *entries;
    uint64_t                        device;    /* of the file */
    uint64_t                        inode;

    ngx_int_t                       rc;
    unsigned                        unsettled:1;
    u_char                          error[NGX_HTTP_INVERTING_DB_ERROR];
} ngx_http_inverting_batch_t;


/*
 * Makes the changes of the batch, one transaction, and reads what has changed
 * since the zone was last brought up to date.  The file is opened first, and
 * made if the zone knows of none.  In batch->rc: NGX_OK: everything is
 * committed; NGX_AGAIN: the zone is far behind, nothing was changed, some
 * entries were read; NGX_ERROR: nothing was changed, but with
 * batch->unsettled, what is left in SQLite's log could be taken for a commit
 * after a restart, until there is another commit.
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

/* what tells the file from all others: NGX_DECLINED: there is none */
ngx_int_t ngx_http_inverting_db_stat(ngx_http_inverting_db_t *db,
    uint64_t *device, uint64_t *inode);

/* the number of the last change, 0: none */
ngx_int_t ngx_http_inverting_db_number(ngx_http_inverting_db_t *db,
    uint64_t *number);

/* the next backend, in the pool: NGX_OK, NGX_DONE: no more, NGX_ERROR */
ngx_int_t ngx_http_inverting_db_next(ngx_http_inverting_db_t *db,
    ngx_pool_t *pool, ngx_http_inverting_entry_t *entry);


#endif /* _NGX_HTTP_INVERTING_DB_H_INCLUDED_ */
