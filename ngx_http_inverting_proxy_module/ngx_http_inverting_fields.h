
/*
 * Copyright (C) the inverting proxy authors
 *
 * What names and values of fields are made of, and which ones are special, in
 * requests and responses of every protocol.
 */


#ifndef _NGX_HTTP_INVERTING_FIELDS_H_INCLUDED_
#define _NGX_HTTP_INVERTING_FIELDS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* whether a field is the connection's own, by its name in any case */
ngx_uint_t ngx_http_inverting_is_hop_by_hop(ngx_str_t *name);

/*
 * Adds what a value of Connection names to "options" (of ngx_str_t), each by
 * itself: every field of the message is looked for among them.  NGX_DECLINED:
 * too many in all; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_inverting_add_options(ngx_array_t *options,
    ngx_str_t *value);

/* whether the field is one of them */
ngx_uint_t ngx_http_inverting_is_option(ngx_array_t *options,
    ngx_str_t *name);

/* whether the list has the token, in any case */
ngx_uint_t ngx_http_inverting_has_token(ngx_str_t *list, ngx_str_t *token);

/* takes the white space off both ends: spaces and tabulators */
void ngx_http_inverting_trim(ngx_str_t *s);

/* field-name; field-value: no control character but the tabulator */
ngx_uint_t ngx_http_inverting_is_token(ngx_str_t *s);
ngx_uint_t ngx_http_inverting_is_value(ngx_str_t *s);

/*
 * What a stranger has chosen, for the log, where it must not look like another
 * line: itself, or a copy with escapes as in a URI.
 */
ngx_str_t *ngx_http_inverting_escaped(ngx_pool_t *pool, ngx_str_t *s);

/* adds a field to those of an answer, or to its trailers; NULL: no memory */
ngx_table_elt_t *ngx_http_inverting_add_field(ngx_list_t *fields,
    ngx_str_t *name, ngx_str_t *value);

/* any "X-Inverting-Proxy-...", also with "_" for "-" */
ngx_uint_t ngx_http_inverting_is_ours(ngx_str_t *lowcase);


#endif /* _NGX_HTTP_INVERTING_FIELDS_H_INCLUDED_ */
