
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_CHUNKED_H_INCLUDED_
#define _NGX_HTTP_INVERTING_CHUNKED_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * The chunked transfer coding, read strictly: CRLF only, no bare CR or LF, no
 * white space before the CRLF, extensions skipped, sizes of at most fifteen
 * digits.  nginx's own parser drops trailers, this one hands them out.
 */

typedef struct {
    ngx_uint_t      state;
    uint64_t        size;         /* of the chunk, what is left of it */
    ngx_uint_t      digits;
    size_t          skipped;      /* of its extensions */

    /* the trailer section, each line with its CRLF, the last one too */
    u_char         *trailers;
    size_t          trailers_len;
    size_t          trailers_max;
} ngx_http_inverting_chunked_t;


/*
 * Starts to parse a body.  Trailers of more than "max" bytes are an error;
 * memory for them is taken from the pool when there are any.
 */
void ngx_http_inverting_chunked_init(ngx_http_inverting_chunked_t *ck,
    size_t max);

/*
 * Reads on at *pos.  NGX_OK: data->len bytes of the body are at data->data,
 * *pos stands behind them.  NGX_AGAIN: *pos is last, more is needed.
 * NGX_DONE: the end of the body, *pos stands behind it.  NGX_ERROR: it is no
 * chunked body.
 */
ngx_int_t ngx_http_inverting_chunked_parse(ngx_http_inverting_chunked_t *ck,
    ngx_pool_t *pool, u_char **pos, u_char *last, ngx_str_t *data);

/*
 * After NGX_DONE: the next trailer field.  NGX_OK; NGX_DONE: there are no
 * more; NGX_ERROR: it is no field.  "offset" starts at 0.
 */
ngx_int_t ngx_http_inverting_chunked_trailer(ngx_http_inverting_chunked_t *ck,
    size_t *offset, ngx_str_t *name, ngx_str_t *value);


#endif /* _NGX_HTTP_INVERTING_CHUNKED_H_INCLUDED_ */
