
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_db_open.h"


/* "ipxy": what file(1) and SQLite know such a file by */
#define NGX_HTTP_INVERTING_DB_APPLICATION  0x69707879
#define NGX_HTTP_INVERTING_DB_VERSION      1

/* milliseconds: how long others may take for their transactions */
#define NGX_HTTP_INVERTING_DB_TIMEOUT      10000


static ngx_int_t ngx_http_inverting_db_make(ngx_http_inverting_db_t *db);
static ngx_int_t ngx_http_inverting_db_fill(ngx_http_inverting_db_t *db,
    char *path);
static ngx_int_t ngx_http_inverting_db_publish(ngx_http_inverting_db_t *db,
    u_char *path);
static ngx_int_t ngx_http_inverting_db_exists(ngx_http_inverting_db_t *db);
static uint64_t ngx_http_inverting_db_wal(ngx_http_inverting_db_t *db,
    off_t *size);
static ngx_int_t ngx_http_inverting_db_open(ngx_http_inverting_db_t *db,
    char *path, int flags);
static ngx_int_t ngx_http_inverting_db_check(ngx_http_inverting_db_t *db,
    ngx_uint_t all);
static ngx_int_t ngx_http_inverting_db_check_pages(
    ngx_http_inverting_db_t *db);
static ngx_int_t ngx_http_inverting_db_pragma(ngx_http_inverting_db_t *db,
    char *sql, sqlite3_int64 *value);
static int ngx_http_inverting_db_busy(void *data, int n);
static void ngx_http_inverting_db_system(ngx_http_inverting_db_t *db,
    char *call);


#define NGX_HTTP_INVERTING_DB_NUMBER(n)  #n
#define NGX_HTTP_INVERTING_DB_STRING(n)  NGX_HTTP_INVERTING_DB_NUMBER(n)


/* one statement after the other; all of it is there, or the file is not */

static const char  ngx_http_inverting_db_schema[] =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "BEGIN;"
    "PRAGMA application_id = "
        NGX_HTTP_INVERTING_DB_STRING(NGX_HTTP_INVERTING_DB_APPLICATION) ";"
    "PRAGMA user_version = "
        NGX_HTTP_INVERTING_DB_STRING(NGX_HTTP_INVERTING_DB_VERSION) ";"
    "CREATE TABLE backends (id TEXT NOT NULL PRIMARY KEY,"
        " end_user TEXT NOT NULL, backend_user TEXT NOT NULL,"
        " prefixes TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE keys (backend TEXT NOT NULL, id TEXT NOT NULL,"
        " hash BLOB NOT NULL, created INTEGER NOT NULL, note TEXT NOT NULL,"
        " PRIMARY KEY (backend, id)) WITHOUT ROWID;"
    "CREATE TABLE changes (number INTEGER PRIMARY KEY,"
        " backend TEXT NOT NULL);"
    "COMMIT;";


ngx_int_t
ngx_http_inverting_db_open_write(ngx_http_inverting_db_t *db)
{
    ngx_int_t  rc;

    rc = ngx_http_inverting_db_exists(db);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_inverting_db_make(db);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    /* else SQLite makes a log that can't be written either */

    if (access((char *) db->file.data, W_OK) == -1) {
        ngx_http_inverting_db_system(db, "it can't be written: access()");
        return NGX_ERROR;
    }

    if (ngx_http_inverting_db_stat(db, &db->device, &db->inode) != NGX_OK
        || ngx_http_inverting_db_open(db, (char *) db->file.data,
                                      SQLITE_OPEN_READWRITE)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_inverting_db_check(db, 0) != NGX_OK
        || ngx_http_inverting_db_pragma(db, "PRAGMA synchronous = FULL", NULL)
           != NGX_OK)
    {
        ngx_http_inverting_db_close(db);
        return NGX_ERROR;
    }

    db->wal = ngx_http_inverting_db_wal(db, NULL);

    return NGX_OK;
}


/* complete or not at all, whoever else is making it, whenever we are killed */

static ngx_int_t
ngx_http_inverting_db_make(ngx_http_inverting_db_t *db)
{
    u_char    *path;
    size_t     size;
    ngx_fd_t   fd;
    ngx_int_t  rc;

    size = db->file.len + sizeof(".new.") + NGX_INT64_LEN;

    path = ngx_alloc(size, ngx_cycle->log);
    if (path == NULL) {
        ngx_http_inverting_db_error(db, "there is no memory");
        return NGX_ERROR;
    }

    ngx_sprintf(path, "%V.new.%P%Z", &db->file, ngx_pid);

    (void) ngx_delete_file(path);

    /* identities are nobody else's business */

    fd = open((char *) path, O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600);

    if (fd == NGX_INVALID_FILE) {
        ngx_http_inverting_db_system(db, "it can't be created: open()");
        ngx_free(path);
        return NGX_ERROR;
    }

    (void) ngx_close_file(fd);

    rc = ngx_http_inverting_db_fill(db, (char *) path);

    if (rc == NGX_OK) {
        rc = ngx_http_inverting_db_publish(db, path);
    }

    (void) ngx_delete_file(path);

    ngx_free(path);

    return rc;
}


static ngx_int_t
ngx_http_inverting_db_fill(ngx_http_inverting_db_t *db, char *path)
{
    ngx_int_t  rc;

    if (ngx_http_inverting_db_open(db, path, SQLITE_OPEN_READWRITE) != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_http_inverting_db_pragma(db,
                                      (char *) ngx_http_inverting_db_schema,
                                      NULL);

    /* the last one to close it moves all of the log into the file */

    ngx_http_inverting_db_close(db);

    return rc;
}


static ngx_int_t
ngx_http_inverting_db_publish(ngx_http_inverting_db_t *db, u_char *path)
{
    u_char    *p;
    ngx_fd_t   fd;

    if (link((char *) path, (char *) db->file.data) == -1
        && ngx_errno != NGX_EEXIST)
    {
        ngx_http_inverting_db_system(db, "it can't be created: link()");
        return NGX_ERROR;
    }

    /* the name must last as well: of "path" there is left its folder */

    p = (u_char *) strrchr((char *) path, '/');

    if (p == NULL) {
        return NGX_OK;
    }

    p[1] = '\0';

    fd = open((char *) path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    p[1] = db->file.data[p + 1 - path];

    if (fd == NGX_INVALID_FILE) {
        return NGX_OK;
    }

    (void) fsync(fd);
    (void) ngx_close_file(fd);

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_db_open_read(ngx_http_inverting_db_t *db, ngx_uint_t all)
{
    char        *uri;
    size_t       i, n;
    ngx_int_t    rc;
    ngx_uint_t   wal;

    static char  digits[] = "0123456789abcdef";

    rc = ngx_http_inverting_db_exists(db);

    if (rc != NGX_OK) {
        return rc;
    }

    /*
     * Without a log there is nobody who writes, and nothing but the file is
     * needed: SQLite then makes no files of its own.
     */

    wal = (ngx_http_inverting_db_wal(db, NULL) != 0);

    uri = ngx_alloc(sizeof("file:?immutable=1") + 3 * db->file.len,
                    ngx_cycle->log);
    if (uri == NULL) {
        ngx_http_inverting_db_error(db, "there is no memory");
        return NGX_ERROR;
    }

    n = sizeof("file:") - 1;
    ngx_memcpy(uri, "file:", n);

    for (i = 0; i < db->file.len; i++) {
        uri[n++] = '%';
        uri[n++] = digits[db->file.data[i] >> 4];
        uri[n++] = digits[db->file.data[i] & 0x0f];
    }

    ngx_memcpy(uri + n, wal ? "" : "?immutable=1",
               wal ? 1 : sizeof("?immutable=1"));

    rc = ngx_http_inverting_db_open(db, uri,
                                    SQLITE_OPEN_READONLY|SQLITE_OPEN_URI);
    ngx_free(uri);

    if (rc == NGX_OK) {
        rc = ngx_http_inverting_db_check(db, all);
    }

    if (rc != NGX_OK) {
        ngx_http_inverting_db_close(db);
    }

    return rc;
}


/* NGX_DECLINED: it does not */

static ngx_int_t
ngx_http_inverting_db_exists(ngx_http_inverting_db_t *db)
{
    off_t            size;
    ngx_file_info_t  fi;

    if (ngx_file_info(db->file.data, &fi) != NGX_FILE_ERROR) {

        if (!ngx_is_file(&fi)) {
            ngx_http_inverting_db_error(db, "it is not a file");
            return NGX_ERROR;
        }

        if (access((char *) db->file.data, R_OK) == -1) {
            ngx_http_inverting_db_system(db, "it can't be read: access()");
            return NGX_ERROR;
        }

        if (ngx_file_size(&fi) == 0) {

            /* of such a one SQLite would delete the log */

            ngx_http_inverting_db_error(db, "it is empty, which is no state "
                                    "of an inverting proxy: restore it, or "
                                    "remove it and those beside it");
            return NGX_ERROR;
        }

        return NGX_OK;
    }

    if (ngx_errno != NGX_ENOENT) {
        ngx_http_inverting_db_system(db, "it can't be read: stat()");
        return NGX_ERROR;
    }

    /* an empty one is left by whoever was killed before any change */

    if (ngx_http_inverting_db_wal(db, &size) && size) {
        ngx_http_inverting_db_error(db, "it is gone, but its \"-wal\" is "
                                    "there: put it back, or remove both");
        return NGX_ERROR;
    }

    return NGX_DECLINED;
}


/* the inode of the log beside it, and its size if wanted; 0: there is none */

static uint64_t
ngx_http_inverting_db_wal(ngx_http_inverting_db_t *db, off_t *size)
{
    ngx_int_t         rc;
    u_char           *path;
    ngx_file_info_t   fi;

    path = ngx_alloc(db->file.len + sizeof("-wal"), ngx_cycle->log);
    if (path == NULL) {
        return 0;
    }

    ngx_sprintf(path, "%V-wal%Z", &db->file);

    rc = ngx_file_info(path, &fi);

    ngx_free(path);

    if (rc == NGX_FILE_ERROR) {
        return 0;
    }

    if (size) {
        *size = ngx_file_size(&fi);
    }

    return fi.st_ino;
}


ngx_int_t
ngx_http_inverting_db_stat(ngx_http_inverting_db_t *db, uint64_t *device,
    uint64_t *inode)
{
    ngx_file_info_t  fi;

    *device = 0;
    *inode = 0;

    if (ngx_file_info(db->file.data, &fi) == NGX_FILE_ERROR) {

        if (ngx_errno == NGX_ENOENT) {
            return NGX_DECLINED;
        }

        ngx_http_inverting_db_system(db, "it can't be read: stat()");
        return NGX_ERROR;
    }

    *device = fi.st_dev;
    *inode = fi.st_ino;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_db_open(ngx_http_inverting_db_t *db, char *path, int flags)
{
    if (sqlite3_open_v2(path, &db->handle,
                        flags|SQLITE_OPEN_NOMUTEX|SQLITE_OPEN_EXRESCODE, NULL)
        != SQLITE_OK)
    {
        ngx_http_inverting_db_error(db, NULL);
        ngx_http_inverting_db_close(db);
        return NGX_ERROR;
    }

    (void) sqlite3_busy_handler(db->handle, ngx_http_inverting_db_busy, db);

    return NGX_OK;
}


/* that it is one of ours; and, with "all", that it is whole */

static ngx_int_t
ngx_http_inverting_db_check(ngx_http_inverting_db_t *db, ngx_uint_t all)
{
    sqlite3_int64  application, version;

    if (ngx_http_inverting_db_pragma(db, "PRAGMA application_id",
                                     &application)
        != NGX_OK
        || ngx_http_inverting_db_pragma(db, "PRAGMA user_version", &version)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (application != NGX_HTTP_INVERTING_DB_APPLICATION) {
        ngx_http_inverting_db_error(db, "it is no state of an inverting "
                                    "proxy: name another file");
        return NGX_ERROR;
    }

    if (version != NGX_HTTP_INVERTING_DB_VERSION) {
        ngx_http_inverting_db_error(db, "it was written by a newer version "
                                    "of the module: use that, or restore "
                                    "an older file");
        return NGX_ERROR;
    }

    return all ? ngx_http_inverting_db_check_pages(db) : NGX_OK;
}


static ngx_int_t
ngx_http_inverting_db_check_pages(ngx_http_inverting_db_t *db)
{
    int            rc;
    sqlite3_stmt  *statement;

    if (sqlite3_prepare_v2(db->handle, "PRAGMA quick_check(1)", -1, &statement,
                           NULL)
        != SQLITE_OK)
    {
        ngx_http_inverting_db_error(db, NULL);
        return NGX_ERROR;
    }

    rc = sqlite3_step(statement);

    if (rc != SQLITE_ROW) {
        ngx_http_inverting_db_error(db, NULL);

    } else if (ngx_strcmp(sqlite3_column_text(statement, 0), "ok") != 0) {
        ngx_http_inverting_db_error(db, "it is damaged: restore it from a "
                                    "backup, or remove it with its \"-wal\" "
                                    "and \"-shm\" to begin with none");
        rc = SQLITE_CORRUPT;
    }

    (void) sqlite3_finalize(statement);

    return (rc == SQLITE_ROW) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_inverting_db_pragma(ngx_http_inverting_db_t *db, char *sql,
    sqlite3_int64 *value)
{
    int            rc;
    sqlite3_stmt  *statement;

    if (value == NULL) {

        if (sqlite3_exec(db->handle, sql, NULL, NULL, NULL) != SQLITE_OK) {
            ngx_http_inverting_db_error(db, NULL);
            return NGX_ERROR;
        }

        return NGX_OK;
    }

    if (sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL) != SQLITE_OK)
    {
        ngx_http_inverting_db_error(db, NULL);
        return NGX_ERROR;
    }

    rc = sqlite3_step(statement);

    if (rc == SQLITE_ROW) {
        *value = sqlite3_column_int64(statement, 0);

    } else {
        ngx_http_inverting_db_error(db, NULL);
    }

    (void) sqlite3_finalize(statement);

    return (rc == SQLITE_ROW) ? NGX_OK : NGX_ERROR;
}


void
ngx_http_inverting_db_close(ngx_http_inverting_db_t *db)
{
    uint64_t    wal;
    ngx_uint_t  i;

    /* whoever is the last one deletes the log, by its name */

    if (db->handle && db->wal) {
        wal = ngx_http_inverting_db_wal(db, NULL);

        if (wal && wal != db->wal) {
            (void) sqlite3_db_config(db->handle,
                                     SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1,
                                     NULL);
        }
    }

    db->wal = 0;

    for (i = 0; i < NGX_HTTP_INVERTING_DB_STATEMENTS; i++) {
        (void) sqlite3_finalize(db->statements[i]);
        db->statements[i] = NULL;
    }

    (void) sqlite3_close(db->handle);
    db->handle = NULL;
}


/*
 * Not SQLite's own pauses of up to 100ms: transactions here are short.  Nor
 * are the pauses counted: on a busy machine each may be much longer than it
 * was asked to be.
 */

static int
ngx_http_inverting_db_busy(void *data, int n)
{
    ngx_http_inverting_db_t *db = data;

    uint64_t         now;
    struct timespec  ts;

    /* nginx's time is not this thread's */

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);
    now = (uint64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;

    if (n == 0) {
        db->busy_since = now;
    }

    if (now - db->busy_since >= NGX_HTTP_INVERTING_DB_TIMEOUT) {
        return 0;
    }

    ngx_msleep(1);

    return 1;
}


void
ngx_http_inverting_db_error(ngx_http_inverting_db_t *db, char *text)
{
    char  *advice;

    if (db->error == NULL) {
        return;
    }

    advice = "";

    if (text == NULL) {
        text = (char *) sqlite3_errmsg(db->handle);

        switch (sqlite3_errcode(db->handle) & 0xff) {

        case SQLITE_NOTADB:
        case SQLITE_CORRUPT:
            advice = ": restore it from a backup, or remove it with its "
                     "\"-wal\" and \"-shm\" to begin with none";
            break;

        case SQLITE_READONLY:
        case SQLITE_CANTOPEN:
            advice = ": it and its folder must be writable for nginx's "
                     "\"user\"";
            break;
        }
    }

    ngx_snprintf(db->error, NGX_HTTP_INVERTING_DB_ERROR - 1,
                 "state file \"%V\": %s%s%Z", &db->file, text, advice);

    db->error[NGX_HTTP_INVERTING_DB_ERROR - 1] = '\0';
}


/* "call" has failed, and errno says why */

static void
ngx_http_inverting_db_system(ngx_http_inverting_db_t *db, char *call)
{
    u_char     *p, text[256];
    ngx_err_t   err;

    err = ngx_errno;

    p = ngx_snprintf(text, 128, "%s failed (%d: ", call, err);
    p = ngx_strerror(err, p, text + sizeof(text) - 2 - p);
    *p++ = ')';
    *p = '\0';

    ngx_http_inverting_db_error(db, (char *) text);
}
