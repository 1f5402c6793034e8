
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_CHANGE_H_INCLUDED_
#define _NGX_HTTP_INVERTING_CHANGE_H_INCLUDED_


#include "ngx_http_inverting_registry.h"
#include "ngx_http_inverting_keys.h"


/* what the API changes in a registry */


typedef enum {
    NGX_HTTP_INVERTING_SET = 0,        /* create or replace a backend */
    NGX_HTTP_INVERTING_DELETE,         /* and its keys */
    NGX_HTTP_INVERTING_ADD_KEY,
    NGX_HTTP_INVERTING_DELETE_KEY,

    /* these with a state only */
    NGX_HTTP_INVERTING_EXPIRE,         /* delete, if not changed meanwhile */
    NGX_HTTP_INVERTING_REFRESH         /* to be as the state has it */
} ngx_http_inverting_change_e;


typedef enum {
    NGX_HTTP_INVERTING_CHANGED = 0,
    NGX_HTTP_INVERTING_UNCHANGED,      /* there was nothing to delete */
    NGX_HTTP_INVERTING_NO_BACKEND,     /* that the key would be of */
    NGX_HTTP_INVERTING_STATIC,         /* it is inverting_proxy_backend's */
    NGX_HTTP_INVERTING_KEYS_FULL,
    NGX_HTTP_INVERTING_REGISTRY_FULL,
    NGX_HTTP_INVERTING_FAILED          /* it could not be committed */
} ngx_http_inverting_result_e;


typedef struct {
    ngx_uint_t                    type;
    ngx_http_inverting_record_t   record;    /* its id; the rest for SET */
    ngx_http_inverting_key_t      key;       /* its id; the rest for ADD_KEY */
    uint64_t                      since;     /* of EXPIRE: the last change
                                                that is known of */
    ngx_uint_t                    result;
} ngx_http_inverting_change_t;


/*
 * For a change that is to be committed first: whether it may be made, and its
 * room, which may be NULL for none; or its result.  The lock must be held.
 * NGX_OK or NGX_DECLINED.
 */
ngx_int_t ngx_http_inverting_change_prepare_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_change_t *change,
    ngx_http_inverting_room_t **room);

/* with all that it refers to, in the pool */
ngx_int_t ngx_http_inverting_change_copy(ngx_pool_t *pool,
    ngx_http_inverting_change_t *to, ngx_http_inverting_change_t *from);

/* makes the change in the zone and sets its result; the lock must be held */
void ngx_http_inverting_change_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_change_t *change);


#endif /* _NGX_HTTP_INVERTING_CHANGE_H_INCLUDED_ */
