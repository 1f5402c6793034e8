
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_ZONE_H_INCLUDED_
#define _NGX_HTTP_INVERTING_ZONE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


/*
 * The zone is the shared memory in which the client side and the agent side
 * meet.  It is carved once, when it is made:
 *
 *   header | worker slots | notification bitmaps | transactions | receivers
 *          | ID hash | chunk links and owners | chunks | registry's slab pool
 *
 * Things in the arrays refer to each other by index, never by pointer.
 *
 * One lock, the zone's shpool->mutex, guards all of it but the bytes in the
 * pipes and the notification bitmaps.  nginx, or whoever waits for it,
 * releases that mutex when a worker dies holding it; "changing" tells the next
 * holder, who then rebuilds every free list and queue from the states of
 * transactions and receivers and from the owners of chunks.  So wherever
 * something is changed under the lock, the state or the owner is what counts,
 * and is written so that it is true at every moment; lists may be wrong for as
 * long as the lock is held.
 */


#define NGX_HTTP_INVERTING_SLOTS        256
#define NGX_HTTP_INVERTING_NONE         ((uint32_t) -1)

#define NGX_HTTP_INVERTING_CHUNK_SHIFT  12
#define NGX_HTTP_INVERTING_CHUNK_SIZE   (1 << NGX_HTTP_INVERTING_CHUNK_SHIFT)

/* chunks that a worker may keep for its pipes without taking the lock */
#define NGX_HTTP_INVERTING_CACHE        64

/* owners of a chunk: nobody, the cache of slot N, transaction N */
#define NGX_HTTP_INVERTING_FREE         0
#define NGX_HTTP_INVERTING_IN_CACHE     0x40000000
#define NGX_HTTP_INVERTING_IN_TX        0x80000000
#define NGX_HTTP_INVERTING_OWNER_MASK   0xc0000000

#define NGX_HTTP_INVERTING_ID_LEN       32
#define NGX_HTTP_INVERTING_USER_LEN     256


typedef struct ngx_http_inverting_zone_s      ngx_http_inverting_zone_t;
typedef struct ngx_http_inverting_backend_s   ngx_http_inverting_backend_t;
typedef struct ngx_http_inverting_registry_sh_s
    ngx_http_inverting_registry_sh_t;
typedef struct ngx_http_inverting_room_s      ngx_http_inverting_room_t;
typedef struct ngx_http_inverting_state_s     ngx_http_inverting_state_t;
typedef struct ngx_http_inverting_stored_key_s
    ngx_http_inverting_stored_key_t;


/* one direction of a transaction's body: see ngx_http_inverting_pipe.h */

typedef struct {
    /* the writer's */
    uint64_t                written;       /* bytes, all that may be read */
    uint64_t                wake_at;       /* wake the writer at "consumed" */
    uint64_t                restart;       /* here the last chunk was reused */
    uint32_t                tail;          /* chunk */
    uint32_t                last;          /* chunk: those after tail are */
    uint32_t                ahead;         /* held for what will come */
    uint32_t                closed;        /* NGX_HTTP_INVERTING_PIPE_... */
    uint32_t                writer_waits;

    /* the reader's */
    uint32_t                reader_waits;
    uint64_t                consumed;      /* bytes */
    uint64_t                grown;         /* "consumed" when limit was set */
    uint32_t                head;          /* chunk */
    uint32_t                abandoned;     /* the reader wants no more */
    uint32_t                limit;         /* chunks, the share as of now */
    uint32_t                max;           /* chunks, its largest share */
    uint32_t                begun;         /* the reader has begun to read */
} ngx_http_inverting_pipe_t;


typedef enum {
    NGX_HTTP_INVERTING_TX_FREE = 0,
    NGX_HTTP_INVERTING_TX_OPENING,      /* reserved, its head is copied in */
    NGX_HTTP_INVERTING_TX_WAITING,      /* in its backend's queue */
    NGX_HTTP_INVERTING_TX_ASSIGNED,     /* a receiver has it */
    NGX_HTTP_INVERTING_TX_ANSWERING,    /* the response has begun */
    NGX_HTTP_INVERTING_TX_DONE,         /* see "outcome" */
    NGX_HTTP_INVERTING_TX_STATES
} ngx_http_inverting_tx_state_e;


/* how a transaction ended */

typedef enum {
    NGX_HTTP_INVERTING_PENDING = 0,
    NGX_HTTP_INVERTING_COMPLETE,        /* the client has the whole response */
    NGX_HTTP_INVERTING_CLIENT_GONE,
    NGX_HTTP_INVERTING_AGENT_LOST,
    NGX_HTTP_INVERTING_AGENT_REFUSED,   /* never of a transaction as a whole */
    NGX_HTTP_INVERTING_TIMED_OUT,
    NGX_HTTP_INVERTING_BAD_RESPONSE,    /* the response was refused */
    NGX_HTTP_INVERTING_BACKEND_GONE     /* deleted, or its agent replaced */
} ngx_http_inverting_outcome_e;


/* how an agent takes transactions */

typedef enum {
    NGX_HTTP_INVERTING_NO_TRANSPORT = 0,
    NGX_HTTP_INVERTING_POLL,
    NGX_HTTP_INVERTING_PTTH
} ngx_http_inverting_transport_e;


/* who may hold an end of a transaction */

typedef enum {
    NGX_HTTP_INVERTING_CLIENT = 0,  /* writes request, reads response */
    NGX_HTTP_INVERTING_TAKER,       /* reads request */
    NGX_HTTP_INVERTING_ANSWERER,    /* writes response */
    NGX_HTTP_INVERTING_ROLES
} ngx_http_inverting_role_e;


typedef struct {
    uint32_t                       state;       /* ..._tx_state_e */
    uint32_t                       outcome;     /* ..._outcome_e */

    /* its neighbours: free list, backend's queue, receiver's list */
    uint32_t                       next;
    uint32_t                       prev;
    uint32_t                       id_next;     /* in its bucket */
    uint32_t                       process;     /* the agent's; or 0 */
    uint64_t                       seq;         /* the order of arrival */

    ngx_http_inverting_backend_t  *backend;     /* record in the registry */

    /* while assigned and not yet told to the agent, else NONE */
    uint32_t                       receiver;

    /* the receiver on whose connection it is, while that one has this seq */
    uint32_t                       via;
    uint64_t                       via_seq;

    uint32_t                       transport;   /* ..._transport_e, the last */

    /* the worker slot of each attached end, else NONE */
    uint32_t                       slot[NGX_HTTP_INVERTING_ROLES];

    /*
     * The key of the agent whose end it is or was; the client's: of the one
     * that was told of it, or has fetched it, last.
     */
    uint64_t                       keys[NGX_HTTP_INVERTING_ROLES];

    u_char                         id[NGX_HTTP_INVERTING_ID_LEN];

    /* user, then request head, in a chain of chunks of their own */
    uint32_t                       head;        /* first chunk or NONE */
    uint32_t                       head_len;
    uint32_t                       user_len;

    uint32_t                       lost_seq;    /* first; receivers made later
                                                   have a greater one */
    ngx_msec_t                     opened;      /* ngx_current_msec */
    ngx_msec_t                     assigned;
    ngx_msec_t                     queued;      /* in the queue since */
    ngx_msec_t                     queue_timeout;
    ngx_msec_t                     lease;       /* to be fetched, then to be
                                                   answered, by then; or, when
                                                   lost, let go of; or 0 */
    uint64_t                       start_sec;   /* wall clock */
    uint32_t                       start_nsec;

    uint32_t                       accepted;    /* the head of the response */
    uint32_t                       taken;       /* was fetched */

    unsigned                       body:1;
    unsigned                       upgrade:1;   /* to websocket */
    unsigned                       idempotent:1;
    unsigned                       has_id:1;
    unsigned                       fetchable:1;
    unsigned                       answered:1;  /* has or had an answerer */
    unsigned                       requeued:1;
    unsigned                       lost:1;      /* by its answerer, while it
                                                   was still being taken */

    /* an owner of an end died: its chunks are found by looking at all */
    uint32_t                       tainted;

    uint32_t                       lost_process; /* who lost it first */

    ngx_http_inverting_pipe_t      request;
    ngx_http_inverting_pipe_t      response;
} ngx_http_inverting_tx_t;


typedef enum {
    NGX_HTTP_INVERTING_RECEIVER_FREE = 0,
    NGX_HTTP_INVERTING_RECEIVER_WAITING,   /* may be given transactions */
    NGX_HTTP_INVERTING_RECEIVER_ASSIGNED,  /* was given the first ones */
    NGX_HTTP_INVERTING_RECEIVER_ENDING     /* to go away: see receive() */
} ngx_http_inverting_receiver_state_e;


/*
 * Something that can take transactions now: a waiting poll, which goes when it
 * has got some, or a PTTH connection, which stays.
 */

typedef struct {
    uint32_t                       state;
    uint32_t                       slot;
    ngx_http_inverting_backend_t  *backend;
    uint32_t                       prev;      /* among its backend's */
    uint32_t                       next;      /* or in the free list */
    uint32_t                       first;     /* transactions assigned */
    uint32_t                       last;
    uint32_t                       n;         /* these, and open streams */
    uint32_t                       capacity:31;
    uint32_t                       full:1;    /* the list that it is in */
    uint64_t                       seq;
    uint64_t                       key;       /* by which the agent came */
} ngx_http_inverting_receiver_t;


/* what the zone keeps for each worker slot: see ngx_http_inverting_worker.h */

typedef struct {
    uint32_t                generation;    /* whose it was last, 0: nobody's */
    uint32_t                signaled;      /* its eventfd was written to */
    uint32_t                ncache;
    uint32_t                cache[NGX_HTTP_INVERTING_CACHE];
} ngx_http_inverting_zone_slot_t;


typedef struct {
    uint64_t                magic;
    uint32_t                changing;      /* a change is under way */
    uint32_t                rebuilds;

    uint32_t                ntxs;
    uint32_t                nreceivers;
    uint32_t                nchunks;
    uint32_t                nbuckets;
    uint32_t                nwords;        /* of one slot's bitmap */
    uint32_t                nsummary;      /* words that tell which to read */
    uint32_t                cache;         /* chunks a worker may keep */
    size_t                  registry_size;

    uint32_t                free_txs;
    uint32_t                spent_txs;     /* free, but for their chunks */
    uint32_t                free_receivers;
    uint32_t                nfree_receivers;
    uint32_t                free_chunks;
    uint32_t                nfree_chunks;

    uint64_t                seq;

    /* which configuration's static backends are in the registry */
    uint64_t                conf_generation;

    /* the last change of the state that is in the registry; the file's name */
    uint64_t                applied;
    uint64_t                device;        /* the file's */
    uint64_t                inode;         /* the same, 0: there was none */
    uint32_t                file;          /* CRC32, 0: no state */
    uint32_t                unsettled;     /* see ngx_http_inverting_state.h */

    /* refusals, as the status shows them */
    uint64_t                zone_full;
    uint64_t                queue_full;
    uint64_t                absent;

    /* the last time that it was logged, seconds of the wall clock */
    uint32_t                logged_zone_full;

    ngx_http_inverting_registry_sh_t  *registry;
} ngx_http_inverting_zone_sh_t;


typedef struct ngx_http_inverting_end_s  ngx_http_inverting_end_t;

struct ngx_http_inverting_zone_s {
    ngx_str_t                        name;
    ngx_str_t                        directive;     /* the first to name it */
    size_t                           registry_size;
    ngx_str_t                        file;          /* state= or empty */
    time_t                           expiry;        /* 0: never */
    ngx_cycle_t                     *cycle;         /* that has it */
    ngx_shm_zone_t                  *shm_zone;      /* NULL: undefined yet */
    ngx_slab_pool_t                 *shpool;

    /* in shared memory, at the same address in all processes */
    ngx_http_inverting_zone_sh_t    *sh;
    ngx_http_inverting_zone_slot_t  *slots;
    uint64_t                        *bits;
    ngx_http_inverting_tx_t         *txs;
    ngx_http_inverting_receiver_t   *receivers;
    uint32_t                        *buckets;
    uint32_t                        *chunk_next;
    uint32_t                        *chunk_owner;
    u_char                          *chunks;
    ngx_slab_pool_t                 *registry_pool;

    /* this process's: see ngx_http_inverting_worker_init_process() */
    ngx_uint_t                       slot;       /* NGX_HTTP_INVERTING_NONE */
    ngx_http_inverting_end_t       **ends;       /* [tx * ROLES + role] */
    ngx_http_inverting_end_t       **pollers;    /* [receiver] */
    ngx_uint_t                       live;       /* ends and pollers in use */
    ngx_event_t                      rescan;
    ngx_uint_t                       rescans;
    ngx_http_inverting_state_t      *state;      /* NULL: none */
    ngx_str_t                        expire;     /* looked at up to this id */
    ngx_uint_t                       expiring;   /* not committed yet */

    /* inverting_proxy_backend: ..._record_t, ..._static_key_t */
    ngx_array_t                     *backends;
    ngx_array_t                     *keys;
    ngx_rbtree_t                     backend_names;
    ngx_rbtree_node_t                backend_names_sentinel;
    ngx_rbtree_t                     key_hashes;
    ngx_rbtree_node_t                key_hashes_sentinel;
};


/*
 * One party's hold on a transaction, or a receiver's on what is given to it;
 * lives in the party's own memory.  "handler" is called from the event loop,
 * never from inside a call of the party's, when something may have moved: data
 * or room in a pipe, a change of state.  It may be called for nothing.  That
 * of a receiver with a "batch" may also be called when a client of its worker
 * has offered a transaction.
 */

struct ngx_http_inverting_end_s {
    ngx_http_inverting_zone_t       *zone;
    ngx_http_inverting_tx_t         *tx;         /* NULL: not attached */
    ngx_http_inverting_receiver_t   *receiver;   /* NULL: not attached */
    ngx_uint_t                       role;
    void                           (*handler)(ngx_http_inverting_end_t *end);
    void                            *data;
    uint32_t                         process;    /* a connection's: whose it
                                                    is, or 0 */
    size_t                           moved;      /* bytes, in this turn */
    ngx_uint_t                       given;      /* to its receiver, since its
                                                    event was posted */
    ngx_uint_t                       batch;      /* so many are enough; 0: no
                                                    number is */
    ngx_event_t                      event;
};


/* adds the zone to the cycle; sizes are checked; errors are logged */
ngx_int_t ngx_http_inverting_zone_add(ngx_conf_t *cf,
    ngx_http_inverting_zone_t *zone, size_t size, size_t registry_size,
    void *tag);

/*
 * Takes the zone's lock; if a change was cut short, everything derived is
 * rebuilt first.  Nothing slow may happen until the unlock: no copying of a
 * body, no system call.
 */
void ngx_http_inverting_lock(ngx_http_inverting_zone_t *zone);
void ngx_http_inverting_unlock(ngx_http_inverting_zone_t *zone);

/*
 * As ngx_shmtx_lock(), which waits for ever when the holder was killed and the
 * lock is of a zone that no configuration has any more: nginx's master unlocks
 * those of its current one.
 */
void ngx_http_inverting_mutex_lock(ngx_shmtx_t *mutex);

/*
 * Takes n chunks off the free list for transaction "tx" and links them into a
 * chain; NGX_HTTP_INVERTING_NONE when there are fewer.  The lock must be held.
 */
uint32_t ngx_http_inverting_chunks_alloc_locked(
    ngx_http_inverting_zone_t *zone, ngx_uint_t n, ngx_uint_t tx);

/* gives one chunk back to the free list; the lock must be held */
void ngx_http_inverting_chunk_free_locked(ngx_http_inverting_zone_t *zone,
    uint32_t chunk);

/* the same by way of the worker's cache, without the lock */
uint32_t ngx_http_inverting_chunk_get(ngx_http_inverting_zone_t *zone,
    ngx_uint_t tx);
void ngx_http_inverting_chunk_put(ngx_http_inverting_zone_t *zone,
    uint32_t chunk);

/* whether a pipe that has chunks already should leave the rest to others */
#define ngx_http_inverting_zone_is_low(zone)                                  \
    (ngx_http_inverting_zone_free(zone) < (zone)->sh->nchunks / 8)

/* chunks that nobody has */
#define ngx_http_inverting_zone_free(zone)                                    \
    __atomic_load_n(&(zone)->sh->nfree_chunks, __ATOMIC_RELAXED)

/* what this worker keeps of a zone that is low; takes the lock */
void ngx_http_inverting_cache_return(ngx_http_inverting_zone_t *zone);

/* chunks in use by transactions, and in workers' caches: for the status */
void ngx_http_inverting_chunks_count(ngx_http_inverting_zone_t *zone,
    ngx_uint_t *in_tx, ngx_uint_t *in_cache);

/* makes the free list from the owners of chunks; the lock must be held */
void ngx_http_inverting_chunks_rebuild_locked(
    ngx_http_inverting_zone_t *zone);

/* frees all chunks of transactions that are free; the lock must be held */
void ngx_http_inverting_chunks_sweep_locked(ngx_http_inverting_zone_t *zone);

/* gives back what the cache of a dead worker's slot holds; lock held */
void ngx_http_inverting_cache_recover_locked(ngx_http_inverting_zone_t *zone,
    ngx_uint_t slot);

#define ngx_http_inverting_chunk_data(zone, chunk)                            \
    ((zone)->chunks + ((size_t) (chunk) << NGX_HTTP_INVERTING_CHUNK_SHIFT))

#define ngx_http_inverting_tx_index(zone, t)  ((uint32_t) ((t) - (zone)->txs))


#endif /* _NGX_HTTP_INVERTING_ZONE_H_INCLUDED_ */
