
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_RECORD_H_INCLUDED_
#define _NGX_HTTP_INVERTING_RECORD_H_INCLUDED_


#include "ngx_http_inverting_json.h"
#include "ngx_http_inverting_registry.h"


/*
 * A backend's record as the API and inverting_proxy_backend have it:
 *
 *     {"id": "...", "endUser": "...", "backendUser": "...",
 *      "pathPrefixes": ["/..."]}
 *
 * All but "backendUser" are required; an empty one is the same as none: its
 * agents need a key.  Those that the API itself adds to a record
 * (lastUsed, lastSeen, agents, waiting, active) are accepted with any value
 * and ignored, so that what was read can be written back; any other is an
 * error.
 */


typedef enum {
    NGX_HTTP_INVERTING_FIELD_NONE = 0,     /* the record as a whole */
    NGX_HTTP_INVERTING_FIELD_ID,
    NGX_HTTP_INVERTING_FIELD_END_USER,
    NGX_HTTP_INVERTING_FIELD_BACKEND_USER,
    NGX_HTTP_INVERTING_FIELD_PREFIXES,
    NGX_HTTP_INVERTING_FIELD_OTHER         /* see "name" */
} ngx_http_inverting_field_e;


/* whether it can be the id of a backend */
ngx_uint_t ngx_http_inverting_record_id_valid(ngx_str_t *id);

/* NGX_OK, or NGX_DECLINED: "error" says what is wrong */
ngx_int_t ngx_http_inverting_record_validate(
    ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error);

/*
 * Makes a valid record of JSON text, in the pool: NGX_OK, NGX_DECLINED:
 * "error" says what is wrong, or NGX_ERROR: no memory.  A zero byte must
 * follow the text: cJSON is known to have read past the end.
 */
ngx_int_t ngx_http_inverting_record_parse(ngx_pool_t *pool, ngx_str_t *json,
    ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error);

/* writes the four fields as members of an object; the length that it takes */
u_char *ngx_http_inverting_record_write(u_char *p,
    ngx_http_inverting_record_t *record);
size_t ngx_http_inverting_record_len(ngx_http_inverting_record_t *record);

#endif /* _NGX_HTTP_INVERTING_RECORD_H_INCLUDED_ */
