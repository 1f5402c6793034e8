
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_REGISTRY_H_INCLUDED_
#define _NGX_HTTP_INVERTING_REGISTRY_H_INCLUDED_


#include "ngx_http_inverting_zone.h"
#include "ngx_http_inverting_index.h"


#define NGX_HTTP_INVERTING_BACKEND_ID_LEN  128
#define NGX_HTTP_INVERTING_PREFIXES        64
#define NGX_HTTP_INVERTING_PREFIX_LEN      256

#define NGX_HTTP_INVERTING_ALL_USERS       "allUsers"


/* what the administrator says of a backend; valid, in anybody's memory */

typedef struct {
    ngx_str_t      id;
    ngx_str_t      end_user;
    ngx_str_t      backend_user;     /* empty: by a key only */
    ngx_uint_t     nprefixes;
    ngx_str_t     *prefixes;
    unsigned       configured:1;     /* by inverting_proxy_backend */
} ngx_http_inverting_record_t;


/*
 * A backend in the registry.  It goes when it is deleted and no transaction
 * and no receiver refers to it any more.  It never moves.
 *
 * With many backends each request finds its own one in no cache: what it needs
 * comes first, in the order of need, a line of a cache (64 bytes) at a time.
 */

struct ngx_http_inverting_backend_s {
    ngx_http_inverting_indexed_t     indexed;      /* by id */
    ngx_str_t                        id;
    ngx_http_inverting_record_t     *record;       /* replaced as a whole */

    /* the exchange's: guarded by the zone's lock, derivable by a scan */
    ngx_msec_t                       last_present; /* ngx_current_msec */
    ngx_msec_t                       expected;     /* and so is this: since
                                                      then "expiry" counts */
    uint32_t                         waiting;      /* OPENING and WAITING */
    uint32_t                         active;       /* ASSIGNED, ANSWERING */
    uint32_t                         nreceivers;
    uint32_t                         refs;         /* transactions not FREE,
                                                      receivers not FREE */
    uint32_t                         receivers[2]; /* lists, first in first:
                                                      with room, and full */
    uint32_t                         receivers_last[2];
    uint32_t                         queue_first;  /* waiting transactions */
    uint32_t                         queue_last;

    /* wall clock */
    time_t                           last_seen;    /* 0: never */
    time_t                           last_used;    /* of a request, 0: never */
    uint32_t                         logged_absent;
    uint32_t                         logged_queue_full;

    unsigned                         deleted:1;
    unsigned                         present:1;    /* look-ups prefer it */
    unsigned                         keep:1;       /* in configure_locked() */

    ngx_http_inverting_stored_key_t *keys;         /* list, latest first */
    ngx_http_inverting_backend_t    *next;         /* of all, in no order */
    ngx_http_inverting_backend_t    *prev;
    ngx_rbtree_node_t                node;         /* in the order of ids */
};


/*
 * Functions called ..._locked want the zone's lock held.
 */


/* makes the registry in its share of a new zone */
ngx_int_t ngx_http_inverting_registry_init(ngx_http_inverting_zone_t *zone);

/* by id; NULL: none, or it is deleted */
ngx_http_inverting_backend_t *ngx_http_inverting_registry_find_locked(
    ngx_http_inverting_zone_t *zone, ngx_str_t *id);

/*
 * By end user and path: among the user's own backends the longest prefix, then
 * a present one, then the smallest id; if none matches, the same among those
 * of allUsers.  NULL: none.  An empty user has only those of allUsers.
 * "backend_timeout" as for ngx_http_inverting_present_locked().
 */
ngx_http_inverting_backend_t *ngx_http_inverting_registry_lookup_locked(
    ngx_http_inverting_zone_t *zone, ngx_str_t *user, ngx_str_t *path,
    ngx_msec_t backend_timeout);

/* whether this end user may use the backend: it is his, or allUsers' */
ngx_uint_t ngx_http_inverting_registry_allowed(
    ngx_http_inverting_backend_t *backend, ngx_str_t *user);

/*
 * Creates or replaces: NGX_OK; NGX_DECLINED: it is configured and may not be
 * changed by a record that is not; NGX_ERROR: the registry is full, and
 * unchanged, which it can't be where there is a room for this record; "room"
 * may be NULL or any.  A replaced backend keeps its agents and its
 * transactions, unless backend_user has changed: then they are ended.
 */
ngx_int_t ngx_http_inverting_registry_set_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_record_t *record,
    ngx_http_inverting_room_t *room);

/* NGX_OK; NGX_DONE: there was none; NGX_DECLINED: it is configured */
ngx_int_t ngx_http_inverting_registry_delete_locked(
    ngx_http_inverting_zone_t *zone, ngx_str_t *id, ngx_uint_t configured);

/*
 * An agent of the backend has come: it counts as present in look-ups until
 * one of them finds otherwise.  Cheap when it counts already.
 */
void ngx_http_inverting_registry_present_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_backend_t *backend);

/* takes or gives back a reference; the last one frees a deleted backend */
#define ngx_http_inverting_registry_ref_locked(backend)  (backend)->refs++
void ngx_http_inverting_registry_unref_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend);

/*
 * The backend after this id in the order of ids, deleted ones left out; an
 * empty id: the first one.  For lists that are made in several steps.
 */
ngx_http_inverting_backend_t *ngx_http_inverting_registry_next_locked(
    ngx_http_inverting_zone_t *zone, ngx_str_t *id);

/* the number of backends */
ngx_uint_t ngx_http_inverting_registry_count_locked(
    ngx_http_inverting_zone_t *zone);

/*
 * Makes the static backends those of this configuration; the ids of those that
 * are no more are added to "gone", ngx_str_t, for one of the same id may be in
 * the state.
 */
void ngx_http_inverting_registry_configure_locked(
    ngx_http_inverting_zone_t *zone, ngx_array_t *gone, ngx_log_t *log);

/* a room in which this record can be set; NULL: the registry is full */
ngx_http_inverting_room_t *ngx_http_inverting_registry_room_locked(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_record_t *record);

/* the bytes that the registry may take for its backends, and has taken */
void ngx_http_inverting_registry_space_locked(ngx_http_inverting_zone_t *zone,
    size_t *size, size_t *used);

/*
 * After a change that was cut short: everything but the records themselves is
 * made anew, where they stand, so it may be cut short itself.  The exchange's
 * fields of every backend are reset, and transactions and receivers that refer
 * to a deleted one are given NULL.
 */
void ngx_http_inverting_registry_rebuild_locked(
    ngx_http_inverting_zone_t *zone);


#endif /* _NGX_HTTP_INVERTING_REGISTRY_H_INCLUDED_ */
