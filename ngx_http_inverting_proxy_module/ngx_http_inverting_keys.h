
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_KEYS_H_INCLUDED_
#define _NGX_HTTP_INVERTING_KEYS_H_INCLUDED_


#include "ngx_http_inverting_registry.h"


/*
 * Keys of backends.  A secret is
 *
 *     ipk_<16 hex digits, the key's id>_<64 hex digits, 256 random bits>
 *
 * and only its SHA-256 is kept.  A key is found by the hash, and so names its
 * backend.  In the registry the keys of a backend are a list: what is in it
 * exists, and the tree follows from it.
 */


/* of one backend */
#define NGX_HTTP_INVERTING_KEYS           16

#define NGX_HTTP_INVERTING_NOTE_LEN       256

#define NGX_HTTP_INVERTING_HASH_LEN       32
#define NGX_HTTP_INVERTING_KEY_ID_LEN     16
#define NGX_HTTP_INVERTING_KEY_PREFIX     "ipk_"
#define NGX_HTTP_INVERTING_SECRET_LEN                                         \
    (sizeof(NGX_HTTP_INVERTING_KEY_PREFIX) - 1                                \
     + NGX_HTTP_INVERTING_KEY_ID_LEN + 1 + 64)

/* of whoever has shown no key: it's the identity that counts */
#define NGX_HTTP_INVERTING_NO_KEY         0


typedef struct {
    uint64_t                         id;        /* never NO_KEY */
    time_t                           created;   /* 0: by key_file */
    u_char                           hash[NGX_HTTP_INVERTING_HASH_LEN];
    ngx_str_t                        note;      /* may be empty */
} ngx_http_inverting_key_t;


/* as it is stored; its note follows */

struct ngx_http_inverting_stored_key_s {
    ngx_rbtree_node_t                node;      /* by the hash's first bytes */
    ngx_http_inverting_stored_key_t *next;      /* of its backend's */
    ngx_http_inverting_backend_t    *backend;
    ngx_http_inverting_key_t         key;
    time_t                           last_used; /* 0: never */
    unsigned                         keep:1;    /* in configure_locked() */
};


/* of key_file=, in zone->keys: all of them after zone->backends' records */

typedef struct {
    ngx_str_t                        backend;
    ngx_http_inverting_key_t         key;
} ngx_http_inverting_static_key_t;


/*
 * The id in a secret, or NGX_DECLINED: it is none.
 */
ngx_int_t ngx_http_inverting_secret_parse(ngx_str_t *secret, uint64_t *id);

/*
 * Hashes a secret; for text that is none, something as long, so that it takes
 * as long.  NGX_ERROR: OpenSSL failed.
 */
ngx_int_t ngx_http_inverting_secret_hash(ngx_str_t *secret, u_char *hash);

/*
 * Makes a key's id and hash, and writes NGX_HTTP_INVERTING_SECRET_LEN bytes of
 * its secret, which nothing else remembers.  NGX_ERROR: OpenSSL failed.
 */
ngx_int_t ngx_http_inverting_secret_make(ngx_http_inverting_key_t *key,
    u_char *secret);

/* 16 hex digits to and from an id; NGX_DECLINED: that is none */
u_char *ngx_http_inverting_key_id_write(u_char *p, uint64_t id);
ngx_int_t ngx_http_inverting_key_id_parse(ngx_str_t *text, uint64_t *id);

/* "hex" has twice as many digits as there are bytes; NGX_DECLINED: no */
ngx_int_t ngx_http_inverting_hex_decode(u_char *p, ngx_str_t *hex);


/*
 * Functions called ..._locked want the zone's lock held.
 */


/* by the hash of its secret, in the same time whether it is there or not */
ngx_http_inverting_stored_key_t *ngx_http_inverting_key_find_locked(
    ngx_http_inverting_zone_t *zone, u_char *hash);

/*
 * NGX_OK, also when the backend has it already; NGX_BUSY: the backend has too
 * many; NGX_DECLINED: there is another one with this hash or, of this backend,
 * with this id; NGX_ERROR: the registry is full, which it can't be where there
 * is a room for this key; "room" may be NULL or any.
 */
ngx_int_t ngx_http_inverting_key_add_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_http_inverting_key_t *key,
    ngx_http_inverting_room_t *room);

/*
 * Revokes it, and ends what agents have got by it: NGX_OK, or NGX_DONE: there
 * was none.
 */
ngx_int_t ngx_http_inverting_key_delete_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, uint64_t id);

/* a room in which this key can be added; NULL: the registry is full */
ngx_http_inverting_room_t *ngx_http_inverting_key_room_locked(
    ngx_http_inverting_zone_t *zone, ngx_str_t *backend,
    ngx_http_inverting_key_t *key);

/* makes these the keys of the backend: NGX_OK, NGX_ERROR: not all have room */
ngx_int_t ngx_http_inverting_keys_set_locked(ngx_http_inverting_zone_t *zone,
    ngx_http_inverting_backend_t *backend, ngx_http_inverting_key_t *keys,
    ngx_uint_t n, ngx_http_inverting_room_t *room);

/* makes the keys of static backends those of this configuration */
void ngx_http_inverting_keys_configure_locked(ngx_http_inverting_zone_t *zone,
    ngx_log_t *log);


/*
 * For the registry: a new backend has none; the keys of one that is deleted
 * are not found any more, and freed with it; after a change that was cut short
 * those of an existing one are put where they belong.
 */
void ngx_http_inverting_keys_hide(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_backend_t *backend);
void ngx_http_inverting_keys_free(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_backend_t *backend);
void ngx_http_inverting_keys_rebuild(ngx_http_inverting_registry_sh_t *sh,
    ngx_http_inverting_backend_t *backend);


#endif /* _NGX_HTTP_INVERTING_KEYS_H_INCLUDED_ */
