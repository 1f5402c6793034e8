
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_DB_OPEN_H_INCLUDED_
#define _NGX_HTTP_INVERTING_DB_OPEN_H_INCLUDED_


#include "ngx_http_inverting_db.h"


/* opens the file for writing, and makes it if there is none */
ngx_int_t ngx_http_inverting_db_open_write(ngx_http_inverting_db_t *db);

/*
 * Writes db->error, which names the file: "text", or what SQLite says of its
 * last error (NULL).  Nothing is written where db->error is NULL.
 */
void ngx_http_inverting_db_error(ngx_http_inverting_db_t *db, char *text);


#endif /* _NGX_HTTP_INVERTING_DB_OPEN_H_INCLUDED_ */
