
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_JSON_H_INCLUDED_
#define _NGX_HTTP_INVERTING_JSON_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <cjson/cJSON.h>


/*
 * JSON as the API takes it: cJSON behind a scan that refuses what cJSON lets
 * pass.  Errors name the field of the outermost object.
 */


/* "text" continues a sentence that starts with the field's name */

typedef struct {
    ngx_uint_t     field;                  /* of a record: see there */
    ngx_str_t      name;                   /* in JSON, may be empty */
    ngx_str_t      text;
} ngx_http_inverting_record_error_t;


/*
 * Parses the text of an object, which is the caller's to delete then: NGX_OK,
 * NGX_DECLINED: "error" says what is wrong, or NGX_ERROR: no memory.  A zero
 * byte must follow the text: cJSON is known to have read past the end.
 */
ngx_int_t ngx_http_inverting_json_parse(ngx_pool_t *pool, ngx_str_t *json,
    cJSON **object, ngx_http_inverting_record_error_t *error);

/* fills in an error of the field: NGX_DECLINED, or NGX_ERROR: no memory */
ngx_int_t ngx_http_inverting_json_error(ngx_pool_t *pool, ngx_str_t *name,
    char *text, ngx_http_inverting_record_error_t *error);

/* copies the value of a string, with a zero byte after it */
ngx_int_t ngx_http_inverting_json_string(ngx_pool_t *pool, cJSON *item,
    ngx_str_t *s);

/* what is wrong with a string of at most max bytes, which is 256, or NULL */
char *ngx_http_inverting_string_error(ngx_str_t *s, size_t max);

/* writes a string with its quotes; the length that it takes */
u_char *ngx_http_inverting_json_write(u_char *p, ngx_str_t *s);
size_t ngx_http_inverting_json_len(ngx_str_t *s);


#endif /* _NGX_HTTP_INVERTING_JSON_H_INCLUDED_ */
