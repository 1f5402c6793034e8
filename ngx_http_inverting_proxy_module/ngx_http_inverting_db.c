
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_db.h"
#include "ngx_http_inverting_db_open.h"
#include "ngx_http_inverting_db_read.h"


/* so many changes that the zone has are kept for old workers and the like */
#define NGX_HTTP_INVERTING_DB_KEEP  1000


static ngx_int_t ngx_http_inverting_db_ready(ngx_http_inverting_db_t *db,
    ngx_http_inverting_batch_t *batch);
static ngx_int_t ngx_http_inverting_db_transaction(ngx_http_inverting_db_t *db,
    ngx_http_inverting_batch_t *batch);
static ngx_int_t ngx_http_inverting_db_behind(ngx_http_inverting_db_t *db,
    ngx_http_inverting_batch_t *batch);
static ngx_int_t ngx_http_inverting_db_strange(ngx_http_inverting_db_t *db);
static ngx_int_t ngx_http_inverting_db_change(ngx_http_inverting_db_t *db,
    ngx_pool_t *pool, ngx_http_inverting_change_t *change);
static ngx_int_t ngx_http_inverting_db_delete(ngx_http_inverting_db_t *db,
    ngx_http_inverting_change_t *change);
static ngx_int_t ngx_http_inverting_db_changed(ngx_http_inverting_db_t *db,
    ngx_http_inverting_change_t *change);
static ngx_int_t ngx_http_inverting_db_key(ngx_http_inverting_db_t *db,
    ngx_http_inverting_change_t *change);
static ngx_int_t ngx_http_inverting_db_set(ngx_http_inverting_db_t *db,
    ngx_pool_t *pool, ngx_http_inverting_record_t *record);
static ngx_int_t ngx_http_inverting_db_entries(ngx_http_inverting_db_t *db,
    ngx_http_inverting_batch_t *batch, uint64_t last);

static ngx_int_t ngx_http_inverting_db_exec(ngx_http_inverting_db_t *db,
    ngx_uint_t n);


/* by ngx_http_inverting_db_statement_e */

static const char  *ngx_http_inverting_db_sql[] = {
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "ROLLBACK",
    "SELECT ifnull(min(number), 0), ifnull(max(number), 0) FROM changes",
    "INSERT INTO changes (backend) VALUES (?1)",
    "SELECT number, backend FROM changes WHERE number > ?1 ORDER BY number"
        " LIMIT ?2",
    "SELECT (SELECT min(number) FROM changes) > ?2 + 1"
        " OR EXISTS (SELECT 1 FROM changes"
        " WHERE number > ?2 AND backend = ?1)",
    "DELETE FROM changes WHERE number <= ?1",
    "SELECT id FROM backends",
    "SELECT end_user, backend_user, prefixes FROM backends WHERE id = ?1",
    "INSERT OR REPLACE INTO backends VALUES (?1, ?2, ?3, ?4)",
    "DELETE FROM backends WHERE id = ?1",
    "SELECT id, hash, created, note FROM keys WHERE backend = ?1"
        " ORDER BY created, id",
    "SELECT (SELECT count(*) FROM keys WHERE backend = ?1) FROM backends"
        " WHERE id = ?1",
    "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5)",
    "DELETE FROM keys WHERE backend = ?1 AND id = ?2",
    "DELETE FROM keys WHERE backend = ?1"
};


void
ngx_http_inverting_db_run(ngx_http_inverting_db_t *db,
    ngx_http_inverting_batch_t *batch)
{
    db->error = batch->error;
    batch->unsettled = 0;

    batch->rc = ngx_http_inverting_db_ready(db, batch);

    if (batch->rc != NGX_OK) {
        return;
    }

    batch->rc = ngx_http_inverting_db_exec(db, batch->ops
                                           ? NGX_HTTP_INVERTING_DB_BEGIN_WRITE
                                           : NGX_HTTP_INVERTING_DB_BEGIN);

    if (batch->rc == NGX_OK) {
        batch->rc = ngx_http_inverting_db_transaction(db, batch);

        if (batch->rc == NGX_OK) {
            batch->rc = ngx_http_inverting_db_exec(db,
                                                NGX_HTTP_INVERTING_DB_COMMIT);

            batch->unsettled = (batch->rc != NGX_OK);
        }
    }

    /* the first error is the one to be told */

    db->error = NULL;

    if (!sqlite3_get_autocommit(db->handle)) {
        (void) ngx_http_inverting_db_exec(db, NGX_HTTP_INVERTING_DB_ROLLBACK);
    }

    /*
     * What was wrong may be put right, but is seen only when it is opened.
     * Yet whoever opens it first reads the log, and in it a commit that has
     * failed where the disk did.
     */

    if (batch->rc == NGX_ERROR && !batch->unsettled) {
        ngx_http_inverting_db_close(db);
    }
}


/*
 * The file is the zone's, and open.  One that has come in its place is not
 * even opened: the log that is found beside it may be that of ours.
 */

static ngx_int_t
ngx_http_inverting_db_ready(ngx_http_inverting_db_t *db,
    ngx_http_inverting_batch_t *batch)
{
    uint64_t   device, inode, known;
    ngx_int_t  rc;

    known = __atomic_load_n(&batch->sh->inode, __ATOMIC_ACQUIRE);

    rc = ngx_http_inverting_db_stat(db, &device, &inode);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED && (known || db->handle)) {
        ngx_http_inverting_db_error(db, "it is gone: put it back, or restart "
                                    "nginx to begin with none");
        return NGX_ERROR;
    }

    if ((known && (inode != known || device != batch->sh->device))
        || (db->handle && (inode != db->inode || device != db->device)))
    {
        return ngx_http_inverting_db_strange(db);
    }

    if (db->handle == NULL && ngx_http_inverting_db_open_write(db) != NGX_OK) {
        return NGX_ERROR;
    }

    batch->device = db->device;
    batch->inode = db->inode;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_db_transaction(ngx_http_inverting_db_t *db,
    ngx_http_inverting_batch_t *batch)
{
    uint64_t                  last;
    ngx_int_t                 rc;
    sqlite3_stmt             *statement;
    ngx_http_inverting_op_t  *op;

    rc = ngx_http_inverting_db_behind(db, batch);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DONE) {
        return NGX_OK;
    }

    last = batch->to;

    if (rc == NGX_OK) {

        for (op = batch->ops; op; op = op->next) {

            if (ngx_http_inverting_db_change(db, batch->pool, &op->change)
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    if (ngx_http_inverting_db_entries(db, batch, last) != NGX_OK) {
        return NGX_ERROR;
    }

    if (rc == NGX_OK && batch->ops
        && batch->from > NGX_HTTP_INVERTING_DB_KEEP)
    {
        statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_PRUNE);
        if (statement == NULL) {
            return NGX_ERROR;
        }

        sqlite3_bind_int64(statement, 1,
                           batch->from - NGX_HTTP_INVERTING_DB_KEEP);

        if (ngx_http_inverting_db_step(db, statement) == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    return rc;
}


/*
 * Whether the changes that the zone has missed are there; NGX_AGAIN: many;
 * NGX_DONE: others are bringing it up to date.
 */

static ngx_int_t
ngx_http_inverting_db_behind(ngx_http_inverting_db_t *db,
    ngx_http_inverting_batch_t *batch)
{
    uint64_t       first, last;
    sqlite3_stmt  *statement;

    /* not before we had our turn: what is long applied isn't kept */

    batch->from = __atomic_load_n(&batch->sh->applied, __ATOMIC_ACQUIRE);

    statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_RANGE);

    if (statement == NULL
        || ngx_http_inverting_db_step(db, statement) != NGX_OK)
    {
        return NGX_ERROR;
    }

    first = sqlite3_column_int64(statement, 0);
    last = sqlite3_column_int64(statement, 1);

    sqlite3_reset(statement);

    batch->to = last;

    if (last > batch->from && first > batch->from + 1) {

        /* without changes of our own nobody waits for us in between */

        if (batch->ops == NULL
            && __atomic_load_n(&batch->sh->applied, __ATOMIC_ACQUIRE)
               != batch->from)
        {
            return NGX_DONE;
        }

        return ngx_http_inverting_db_strange(db);
    }

    if (last < batch->from) {
        return ngx_http_inverting_db_strange(db);
    }

    return (last - batch->from > NGX_HTTP_INVERTING_DB_BEHIND) ? NGX_AGAIN
                                                               : NGX_OK;
}


static ngx_int_t
ngx_http_inverting_db_strange(ngx_http_inverting_db_t *db)
{
    ngx_http_inverting_db_error(db, "it is not the one that the zone was "
                                "loaded from: put that back, or restart "
                                "nginx to load this one");

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_inverting_db_change(ngx_http_inverting_db_t *db, ngx_pool_t *pool,
    ngx_http_inverting_change_t *change)
{
    ngx_int_t      rc;
    sqlite3_stmt  *statement;

    switch (change->type) {

    case NGX_HTTP_INVERTING_SET:
        rc = ngx_http_inverting_db_set(db, pool, &change->record);
        break;

    case NGX_HTTP_INVERTING_EXPIRE:
        rc = ngx_http_inverting_db_changed(db, change);

        if (rc == NGX_DECLINED) {
            rc = ngx_http_inverting_db_delete(db, change);
        }

        break;

    case NGX_HTTP_INVERTING_DELETE:
        rc = ngx_http_inverting_db_delete(db, change);
        break;

    case NGX_HTTP_INVERTING_REFRESH:
        rc = NGX_OK;
        break;

    default: /* ADD_KEY, DELETE_KEY */
        rc = ngx_http_inverting_db_key(db, change);
    }

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (change->result != NGX_HTTP_INVERTING_CHANGED) {
        return NGX_OK;
    }

    statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_CHANGE);
    if (statement == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_db_bind(statement, 1, &change->record.id);

    rc = ngx_http_inverting_db_step(db, statement);

    return (rc == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_http_inverting_db_delete(ngx_http_inverting_db_t *db,
    ngx_http_inverting_change_t *change)
{
    ngx_int_t      rc;
    sqlite3_stmt  *statement;

    statement = ngx_http_inverting_db_use(db,
                                          NGX_HTTP_INVERTING_DB_DELETE_KEYS);
    if (statement == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_db_bind(statement, 1, &change->record.id);

    if (ngx_http_inverting_db_step(db, statement) == NGX_ERROR) {
        return NGX_ERROR;
    }

    statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_DELETE);
    if (statement == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_db_bind(statement, 1, &change->record.id);

    rc = ngx_http_inverting_db_step(db, statement);

    change->result = sqlite3_changes(db->handle)
                     ? NGX_HTTP_INVERTING_CHANGED
                     : NGX_HTTP_INVERTING_UNCHANGED;

    return rc;
}


/* since change->since, or that can't be told; NGX_DECLINED: it has not */

static ngx_int_t
ngx_http_inverting_db_changed(ngx_http_inverting_db_t *db,
    ngx_http_inverting_change_t *change)
{
    int            changed;
    sqlite3_stmt  *statement;

    statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_CHANGED);
    if (statement == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_db_bind(statement, 1, &change->record.id);
    sqlite3_bind_int64(statement, 2, change->since);

    if (ngx_http_inverting_db_step(db, statement) != NGX_OK) {
        return NGX_ERROR;
    }

    changed = sqlite3_column_int(statement, 0);

    sqlite3_reset(statement);

    if (!changed) {
        return NGX_DECLINED;
    }

    change->result = NGX_HTTP_INVERTING_UNCHANGED;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_db_key(ngx_http_inverting_db_t *db,
    ngx_http_inverting_change_t *change)
{
    u_char                     id[NGX_HTTP_INVERTING_KEY_ID_LEN];
    ngx_int_t                  rc;
    ngx_str_t                  s;
    ngx_uint_t                 n;
    sqlite3_stmt              *statement;
    ngx_http_inverting_key_t  *key;

    statement = ngx_http_inverting_db_use(db,
                                          NGX_HTTP_INVERTING_DB_COUNT_KEYS);
    if (statement == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_db_bind(statement, 1, &change->record.id);

    rc = ngx_http_inverting_db_step(db, statement);

    if (rc != NGX_OK) {
        change->result = NGX_HTTP_INVERTING_NO_BACKEND;
        return rc;
    }

    n = sqlite3_column_int(statement, 0);

    sqlite3_reset(statement);

    key = &change->key;

    s.data = id;
    s.len = ngx_http_inverting_key_id_write(id, key->id) - id;

    if (change->type == NGX_HTTP_INVERTING_DELETE_KEY) {
        statement = ngx_http_inverting_db_use(db,
                                            NGX_HTTP_INVERTING_DB_DELETE_KEY);

    } else if (n >= NGX_HTTP_INVERTING_KEYS) {
        change->result = NGX_HTTP_INVERTING_KEYS_FULL;
        return NGX_OK;

    } else {
        statement = ngx_http_inverting_db_use(db,
                                              NGX_HTTP_INVERTING_DB_ADD_KEY);
    }

    if (statement == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_db_bind(statement, 1, &change->record.id);
    ngx_http_inverting_db_bind(statement, 2, &s);

    if (change->type == NGX_HTTP_INVERTING_ADD_KEY) {
        sqlite3_bind_blob(statement, 3, key->hash, sizeof(key->hash),
                          SQLITE_STATIC);
        sqlite3_bind_int64(statement, 4, key->created);
        ngx_http_inverting_db_bind(statement, 5, &key->note);
    }

    rc = ngx_http_inverting_db_step(db, statement);

    change->result = sqlite3_changes(db->handle)
                     ? NGX_HTTP_INVERTING_CHANGED
                     : NGX_HTTP_INVERTING_UNCHANGED;

    return rc;
}


static ngx_int_t
ngx_http_inverting_db_set(ngx_http_inverting_db_t *db, ngx_pool_t *pool,
    ngx_http_inverting_record_t *record)
{
    size_t         len;
    u_char        *p;
    ngx_str_t      prefixes;
    ngx_uint_t     i;
    sqlite3_stmt  *statement;

    for (len = 0, i = 0; i < record->nprefixes; i++) {
        len += record->prefixes[i].len + 1;
    }

    prefixes.data = ngx_pnalloc(pool, len);
    if (prefixes.data == NULL) {
        return ngx_http_inverting_db_invalid(db, &record->id,
                                             "there is no memory");
    }

    p = prefixes.data;

    for (i = 0; i < record->nprefixes; i++) {

        if (i) {
            *p++ = LF;
        }

        p = ngx_cpymem(p, record->prefixes[i].data, record->prefixes[i].len);
    }

    prefixes.len = p - prefixes.data;

    statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_SET);
    if (statement == NULL) {
        return NGX_ERROR;
    }

    ngx_http_inverting_db_bind(statement, 1, &record->id);
    ngx_http_inverting_db_bind(statement, 2, &record->end_user);
    ngx_http_inverting_db_bind(statement, 3, &record->backend_user);
    ngx_http_inverting_db_bind(statement, 4, &prefixes);

    return ngx_http_inverting_db_step(db, statement);
}


/*
 * What has changed since batch->from, as it is now; those after "last" are the
 * batch's own changes, one after the other.
 */

static ngx_int_t
ngx_http_inverting_db_entries(ngx_http_inverting_db_t *db,
    ngx_http_inverting_batch_t *batch, uint64_t last)
{
    ngx_int_t                    rc;
    sqlite3_stmt                *statement;
    ngx_http_inverting_op_t     *op;
    ngx_http_inverting_entry_t  *entry;

    statement = ngx_http_inverting_db_use(db, NGX_HTTP_INVERTING_DB_CHANGES);
    if (statement == NULL) {
        return NGX_ERROR;
    }

    sqlite3_bind_int64(statement, 1, batch->from);
    sqlite3_bind_int64(statement, 2,
                       NGX_HTTP_INVERTING_DB_BEHIND + batch->nops);

    op = batch->ops;

    for ( ;; ) {
        rc = ngx_http_inverting_db_step(db, statement);

        if (rc != NGX_OK) {
            break;
        }

        entry = ngx_pcalloc(batch->pool, sizeof(ngx_http_inverting_entry_t));

        if (entry == NULL
            || ngx_http_inverting_db_text(batch->pool, statement, 1,
                                          &entry->record.id)
               != NGX_OK
            || ngx_http_inverting_db_entry(db, batch->pool, entry) != NGX_OK)
        {
            rc = NGX_ERROR;
            break;
        }

        batch->to = sqlite3_column_int64(statement, 0);

        if (batch->to > last) {

            while (op && op->change.result != NGX_HTTP_INVERTING_CHANGED) {
                op = op->next;
            }

            if (op) {
                entry->room = op->room;
                op = op->next;
            }
        }

        entry->next = batch->entries;
        batch->entries = entry;
    }

    sqlite3_reset(statement);

    return (rc == NGX_DONE) ? NGX_OK : NGX_ERROR;
}


sqlite3_stmt *
ngx_http_inverting_db_use(ngx_http_inverting_db_t *db, ngx_uint_t n)
{
    if (db->statements[n]) {
        sqlite3_reset(db->statements[n]);
        return db->statements[n];
    }

    if (sqlite3_prepare_v3(db->handle, ngx_http_inverting_db_sql[n], -1,
                           SQLITE_PREPARE_PERSISTENT, &db->statements[n], NULL)
        != SQLITE_OK)
    {
        ngx_http_inverting_db_error(db, NULL);
        return NULL;
    }

    return db->statements[n];
}


void
ngx_http_inverting_db_bind(sqlite3_stmt *statement, int n, ngx_str_t *s)
{
    sqlite3_bind_text(statement, n, s->len ? (char *) s->data : "", s->len,
                      SQLITE_STATIC);
}


ngx_int_t
ngx_http_inverting_db_step(ngx_http_inverting_db_t *db,
    sqlite3_stmt *statement)
{
    switch (sqlite3_step(statement)) {

    case SQLITE_ROW:
        return NGX_OK;

    case SQLITE_DONE:
        sqlite3_reset(statement);
        return NGX_DONE;

    default:
        ngx_http_inverting_db_error(db, NULL);
        sqlite3_reset(statement);
        return NGX_ERROR;
    }
}


static ngx_int_t
ngx_http_inverting_db_exec(ngx_http_inverting_db_t *db, ngx_uint_t n)
{
    sqlite3_stmt  *statement;

    statement = ngx_http_inverting_db_use(db, n);

    if (statement == NULL
        || ngx_http_inverting_db_step(db, statement) == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}
