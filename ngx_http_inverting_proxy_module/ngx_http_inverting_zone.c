
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_inverting_zone.h"
#include "ngx_http_inverting_exchange.h"
#include "ngx_http_inverting_random.h"
#include "ngx_http_inverting_state.h"


#define NGX_HTTP_INVERTING_MAGIC      0x3150495f58474e49ull

/* for each transaction */
#define NGX_HTTP_INVERTING_RECEIVERS  4
#define NGX_HTTP_INVERTING_CHUNKS     2

#define NGX_HTTP_INVERTING_MIN_TXS    16

/* waiting for a lock: pauses in a row, then as many yields before any nap */
#define NGX_HTTP_INVERTING_SPIN       2048
#define NGX_HTTP_INVERTING_YIELDS     64


/* how much of the zone each array takes */

typedef struct {
    size_t                  header;
    size_t                  slots;
    size_t                  bits;
    size_t                  txs;
    size_t                  receivers;
    size_t                  buckets;
    size_t                  links;
    size_t                  chunks;
    size_t                  total;
} ngx_http_inverting_layout_t;


static ngx_int_t ngx_http_inverting_zone_init(ngx_shm_zone_t *shm_zone,
    void *data);
static ngx_int_t ngx_http_inverting_zone_make(ngx_http_inverting_zone_t *zone);
static uint32_t ngx_http_inverting_zone_file(ngx_http_inverting_zone_t *zone);
static void ngx_http_inverting_layout(ngx_http_inverting_layout_t *lo,
    ngx_http_inverting_zone_sh_t *sh, ngx_uint_t ntxs);
static void ngx_http_inverting_zone_map(ngx_http_inverting_zone_t *zone,
    u_char *base);
static ngx_uint_t ngx_http_inverting_chunk_is_spent(
    ngx_http_inverting_zone_t *zone, uint32_t chunk);
static void ngx_http_inverting_cache_shrink(ngx_http_inverting_zone_t *zone,
    uint32_t keep);


ngx_int_t
ngx_http_inverting_zone_add(ngx_conf_t *cf, ngx_http_inverting_zone_t *zone,
    size_t size, size_t registry_size, void *tag)
{
    ngx_shm_zone_t  *shm_zone;

    shm_zone = ngx_shared_memory_add(cf, &zone->name, size, tag);
    if (shm_zone == NULL) {
        return NGX_ERROR;
    }

    zone->registry_size = registry_size;
    zone->cycle = cf->cycle;
    zone->shm_zone = shm_zone;

    shm_zone->init = ngx_http_inverting_zone_init;
    shm_zone->data = zone;

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_inverting_zone_t  *old = data;

    ngx_http_inverting_zone_t  *zone;

    zone = shm_zone->data;
    zone->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (zone->file.len
        && ngx_http_inverting_state_folder(zone) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (old == NULL && !shm_zone->shm.exists) {
        return ngx_http_inverting_zone_make(zone);
    }

    /* old workers are serving from it: nothing is touched */

    zone->sh = zone->shpool->data;

    if (zone->sh->magic != NGX_HTTP_INVERTING_MAGIC) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "zone \"%V\" was made by another version of the module",
                      &zone->name);
        return NGX_ERROR;
    }

    if (zone->sh->file != ngx_http_inverting_zone_file(zone)) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "inverting_proxy_zone \"%V\" had another \"state\" "
                      "before: change its size too, or restart",
                      &zone->name);
        return NGX_ERROR;
    }

    if (zone->registry_size != zone->sh->registry_size) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "inverting_proxy_zone \"%V\" has registry=%uz while "
                      "it had %uz before: change its size too, or restart",
                      &zone->name, zone->registry_size,
                      zone->sh->registry_size);
        return NGX_ERROR;
    }

    ngx_http_inverting_zone_map(zone, (u_char *) zone->sh);

    if (zone->file.len) {
        return ngx_http_inverting_state_check(zone, shm_zone->shm.log);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_zone_make(ngx_http_inverting_zone_t *zone)
{
    size_t                         size, registry;
    u_char                        *base;
    ngx_uint_t                     n, low, high;
    ngx_slab_pool_t               *shpool;
    ngx_http_inverting_layout_t    lo;
    ngx_http_inverting_zone_sh_t   sh;

    shpool = zone->shpool;

    shpool->log_ctx = ngx_slab_alloc(shpool, sizeof(" in zone \"\"")
                                             + zone->name.len);
    if (shpool->log_ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(shpool->log_ctx, " in zone \"%V\"%Z", &zone->name);
    shpool->log_nomem = 0;

    size = shpool->pfree * ngx_pagesize;
    registry = ngx_align(zone->registry_size, ngx_pagesize);

    ngx_memzero(&sh, sizeof(ngx_http_inverting_zone_sh_t));

    /* as many transactions as there is room for beside the registry */

    low = 0;
    high = size / NGX_HTTP_INVERTING_CHUNK_SIZE;

    while (low < high) {
        n = (low + high + 1) / 2;

        ngx_http_inverting_layout(&lo, &sh, n);

        if (lo.total + registry <= size) {
            low = n;

        } else {
            high = n - 1;
        }
    }

    if (low < NGX_HTTP_INVERTING_MIN_TXS) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm_zone->shm.log, 0,
                      "inverting_proxy_zone \"%V\" is too small: "
                      "with registry=%uz there is no room for %d requests",
                      &zone->name, zone->registry_size,
                      NGX_HTTP_INVERTING_MIN_TXS);
        return NGX_ERROR;
    }

    ngx_http_inverting_layout(&lo, &sh, low);

    base = ngx_slab_alloc(shpool, size);
    if (base == NULL) {
        return NGX_ERROR;
    }

    /* untouched pages of the chunks cost no memory until they are used */

    ngx_memzero(base, lo.total - lo.chunks);

    sh.magic = NGX_HTTP_INVERTING_MAGIC;
    sh.registry_size = zone->registry_size;
    sh.cache = ngx_max(ngx_min(NGX_HTTP_INVERTING_CACHE, sh.nchunks / 64), 2);

    zone->sh = (ngx_http_inverting_zone_sh_t *) base;
    *zone->sh = sh;

    shpool->data = zone->sh;

    ngx_http_inverting_zone_map(zone, base);

    zone->registry_pool->end = base + size;
    zone->registry_pool->min_shift = 3;
    zone->registry_pool->addr = (void *) zone->registry_pool;

    ngx_slab_init(zone->registry_pool);
    zone->registry_pool->log_nomem = 0;

    if (ngx_http_inverting_registry_init(zone) != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm_zone->shm.log, 0,
                      "inverting_proxy_zone \"%V\": registry=%uz is too small",
                      &zone->name, zone->registry_size);
        return NGX_ERROR;
    }

    ngx_http_inverting_rebuild_locked(zone);
    zone->sh->rebuilds = 0;

    zone->sh->file = ngx_http_inverting_zone_file(zone);

    if (zone->file.len) {
        return ngx_http_inverting_state_load(zone, zone->shm_zone->shm.log);
    }

    return NGX_OK;
}


static uint32_t
ngx_http_inverting_zone_file(ngx_http_inverting_zone_t *zone)
{
    if (zone->file.len == 0) {
        return 0;
    }

    return ngx_crc32_long(zone->file.data, zone->file.len);
}


/* fills in sizes of the arrays, and their numbers in sh, for ntxs */

static void
ngx_http_inverting_layout(ngx_http_inverting_layout_t *lo,
    ngx_http_inverting_zone_sh_t *sh, ngx_uint_t ntxs)
{
    sh->ntxs = ntxs;
    sh->nreceivers = ntxs * NGX_HTTP_INVERTING_RECEIVERS;
    sh->nchunks = ntxs * NGX_HTTP_INVERTING_CHUNKS;

    sh->nwords = (sh->ntxs + sh->nreceivers + 63) / 64;
    sh->nsummary = (sh->nwords + 63) / 64;

    for (sh->nbuckets = 64; sh->nbuckets < ntxs; sh->nbuckets <<= 1) {
        /* void */
    }

    lo->header = ngx_align(sizeof(ngx_http_inverting_zone_sh_t), 64);
    lo->slots = ngx_align(NGX_HTTP_INVERTING_SLOTS
                          * sizeof(ngx_http_inverting_zone_slot_t), 64);
    lo->bits = ngx_align(NGX_HTTP_INVERTING_SLOTS
                         * (sh->nwords + sh->nsummary) * sizeof(uint64_t),
                         64);
    lo->txs = ngx_align(sh->ntxs * sizeof(ngx_http_inverting_tx_t), 64);
    lo->receivers = ngx_align(sh->nreceivers
                              * sizeof(ngx_http_inverting_receiver_t), 64);
    lo->buckets = ngx_align(sh->nbuckets * sizeof(uint32_t), 64);
    lo->links = ngx_align(sh->nchunks * sizeof(uint32_t), 64);

    lo->total = lo->header + lo->slots + lo->bits + lo->txs + lo->receivers
                + lo->buckets + 2 * lo->links;
    lo->total = ngx_align(lo->total, NGX_HTTP_INVERTING_CHUNK_SIZE);

    lo->chunks = sh->nchunks * (size_t) NGX_HTTP_INVERTING_CHUNK_SIZE;
    lo->total += lo->chunks;
}


static void
ngx_http_inverting_zone_map(ngx_http_inverting_zone_t *zone, u_char *base)
{
    u_char                       *p;
    ngx_http_inverting_layout_t   lo;
    ngx_http_inverting_zone_sh_t  sh;

    sh = *zone->sh;
    ngx_http_inverting_layout(&lo, &sh, sh.ntxs);

    p = base + lo.header;

    zone->slots = (ngx_http_inverting_zone_slot_t *) p;
    p += lo.slots;

    zone->bits = (uint64_t *) p;
    p += lo.bits;

    zone->txs = (ngx_http_inverting_tx_t *) p;
    p += lo.txs;

    zone->receivers = (ngx_http_inverting_receiver_t *) p;
    p += lo.receivers;

    zone->buckets = (uint32_t *) p;
    p += lo.buckets;

    zone->chunk_next = (uint32_t *) p;
    p += lo.links;

    zone->chunk_owner = (uint32_t *) p;

    zone->chunks = base + lo.total - lo.chunks;
    zone->registry_pool = (ngx_slab_pool_t *) (base + lo.total);
}


void
ngx_http_inverting_lock(ngx_http_inverting_zone_t *zone)
{
    /* IDs may be wanted under the lock, and OpenSSL may take its time */
    ngx_http_inverting_random_fill();

    ngx_http_inverting_mutex_lock(&zone->shpool->mutex);

    if (zone->sh->changing) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "zone \"%V\": a process died while it was changing it, "
                      "rebuilding", &zone->name);

        ngx_http_inverting_registry_rebuild_locked(zone);
        ngx_http_inverting_rebuild_locked(zone);
    }

    __atomic_store_n(&zone->sh->changing, 1, __ATOMIC_SEQ_CST);
}


void
ngx_http_inverting_mutex_lock(ngx_shmtx_t *mutex)
{
    ngx_pid_t   holder;
    ngx_uint_t  i, n, turn;

    for (turn = 0; /* void */ ; turn++) {

        if (ngx_shmtx_trylock(mutex)) {
            return;
        }

        if (turn < NGX_HTTP_INVERTING_YIELDS) {

            for (n = 1; n < NGX_HTTP_INVERTING_SPIN && ngx_ncpu > 1; n <<= 1) {

                for (i = 0; i < n; i++) {
                    ngx_cpu_pause();
                }

                if (ngx_shmtx_trylock(mutex)) {
                    return;
                }
            }

            ngx_sched_yield();
            continue;
        }

        holder = (ngx_pid_t) *mutex->lock;

        if (holder && kill(holder, 0) == -1 && ngx_errno == NGX_ESRCH) {
            (void) ngx_shmtx_force_unlock(mutex, holder);
            continue;
        }

        /* it is stopped, or not given a processor */

        ngx_msleep(1);
    }
}


void
ngx_http_inverting_unlock(ngx_http_inverting_zone_t *zone)
{
    __atomic_store_n(&zone->sh->changing, 0, __ATOMIC_SEQ_CST);

    ngx_shmtx_unlock(&zone->shpool->mutex);
}


uint32_t
ngx_http_inverting_chunks_alloc_locked(ngx_http_inverting_zone_t *zone,
    ngx_uint_t n, ngx_uint_t tx)
{
    uint32_t                         chunk, first;
    ngx_http_inverting_zone_sh_t    *sh;
    ngx_http_inverting_zone_slot_t  *slot;

    sh = zone->sh;
    slot = &zone->slots[zone->slot];

    while (sh->nfree_chunks < n && slot->ncache) {
        slot->ncache--;
        ngx_http_inverting_chunk_free_locked(zone, slot->cache[slot->ncache]);
    }

    if (sh->nfree_chunks < n) {
        return NGX_HTTP_INVERTING_NONE;
    }

    first = NGX_HTTP_INVERTING_NONE;

    while (n--) {
        chunk = sh->free_chunks;
        sh->free_chunks = zone->chunk_next[chunk];
        sh->nfree_chunks--;

        zone->chunk_owner[chunk] = NGX_HTTP_INVERTING_IN_TX | tx;
        zone->chunk_next[chunk] = first;
        first = chunk;
    }

    return first;
}


void
ngx_http_inverting_chunk_free_locked(ngx_http_inverting_zone_t *zone,
    uint32_t chunk)
{
    ngx_http_inverting_zone_sh_t  *sh;

    sh = zone->sh;

    zone->chunk_owner[chunk] = NGX_HTTP_INVERTING_FREE;
    zone->chunk_next[chunk] = sh->free_chunks;
    sh->free_chunks = chunk;
    sh->nfree_chunks++;
}


uint32_t
ngx_http_inverting_chunk_get(ngx_http_inverting_zone_t *zone, ngx_uint_t tx)
{
    uint32_t                         chunk, n;
    ngx_http_inverting_zone_sh_t    *sh;
    ngx_http_inverting_zone_slot_t  *slot;

    sh = zone->sh;
    slot = &zone->slots[zone->slot];

    if (slot->ncache == 0) {

        ngx_http_inverting_lock(zone);

        n = ngx_http_inverting_zone_is_low(zone) ? 1 : sh->cache / 2;

        while (n-- && sh->nfree_chunks) {
            chunk = sh->free_chunks;
            sh->free_chunks = zone->chunk_next[chunk];
            sh->nfree_chunks--;

            zone->chunk_owner[chunk] = NGX_HTTP_INVERTING_IN_CACHE
                                       | zone->slot;
            slot->cache[slot->ncache++] = chunk;
        }

        ngx_http_inverting_unlock(zone);

        if (slot->ncache == 0) {
            return NGX_HTTP_INVERTING_NONE;
        }
    }

    chunk = slot->cache[slot->ncache - 1];

    zone->chunk_owner[chunk] = NGX_HTTP_INVERTING_IN_TX | tx;
    slot->ncache--;

    return chunk;
}


void
ngx_http_inverting_chunk_put(ngx_http_inverting_zone_t *zone, uint32_t chunk)
{
    uint32_t                         keep;
    ngx_http_inverting_zone_sh_t    *sh;
    ngx_http_inverting_zone_slot_t  *slot;

    sh = zone->sh;
    slot = &zone->slots[zone->slot];

    zone->chunk_owner[chunk] = NGX_HTTP_INVERTING_IN_CACHE | zone->slot;
    slot->cache[slot->ncache++] = chunk;

    if (ngx_http_inverting_zone_is_low(zone)) {
        keep = 0;

    } else if (slot->ncache == sh->cache) {
        keep = sh->cache / 2;

    } else {
        return;
    }

    ngx_http_inverting_cache_shrink(zone, keep);
}


void
ngx_http_inverting_cache_return(ngx_http_inverting_zone_t *zone)
{
    if (zone->slots[zone->slot].ncache
        && ngx_http_inverting_zone_is_low(zone))
    {
        ngx_http_inverting_cache_shrink(zone, 0);
    }
}


static void
ngx_http_inverting_cache_shrink(ngx_http_inverting_zone_t *zone, uint32_t keep)
{
    ngx_http_inverting_zone_slot_t  *slot;

    slot = &zone->slots[zone->slot];

    ngx_http_inverting_lock(zone);

    while (slot->ncache > keep) {
        slot->ncache--;
        ngx_http_inverting_chunk_free_locked(zone, slot->cache[slot->ncache]);
    }

    ngx_http_inverting_unlock(zone);
}


void
ngx_http_inverting_chunks_count(ngx_http_inverting_zone_t *zone,
    ngx_uint_t *in_tx, ngx_uint_t *in_cache)
{
    uint32_t    owner;
    ngx_uint_t  i;

    *in_tx = 0;
    *in_cache = 0;

    for (i = 0; i < zone->sh->nchunks; i++) {
        owner = zone->chunk_owner[i];

        switch (owner & NGX_HTTP_INVERTING_OWNER_MASK) {

        case NGX_HTTP_INVERTING_IN_TX:
            (*in_tx)++;
            break;

        case NGX_HTTP_INVERTING_IN_CACHE:
            (*in_cache)++;
            break;
        }
    }
}


void
ngx_http_inverting_chunks_rebuild_locked(ngx_http_inverting_zone_t *zone)
{
    ngx_uint_t                     i;
    ngx_http_inverting_zone_sh_t  *sh;

    sh = zone->sh;

    sh->free_chunks = NGX_HTTP_INVERTING_NONE;
    sh->nfree_chunks = 0;

    /* from the last one, so that the first ones are handed out first */

    for (i = sh->nchunks; i-- > 0; /* void */ ) {
        if (zone->chunk_owner[i] == NGX_HTTP_INVERTING_FREE
            || ngx_http_inverting_chunk_is_spent(zone, i))
        {
            ngx_http_inverting_chunk_free_locked(zone, i);
        }
    }
}


void
ngx_http_inverting_chunks_sweep_locked(ngx_http_inverting_zone_t *zone)
{
    ngx_uint_t  i;

    for (i = 0; i < zone->sh->nchunks; i++) {
        if (ngx_http_inverting_chunk_is_spent(zone, i)) {
            ngx_http_inverting_chunk_free_locked(zone, i);
        }
    }
}


static ngx_uint_t
ngx_http_inverting_chunk_is_spent(ngx_http_inverting_zone_t *zone,
    uint32_t chunk)
{
    uint32_t  owner;

    owner = zone->chunk_owner[chunk];

    if ((owner & NGX_HTTP_INVERTING_OWNER_MASK) != NGX_HTTP_INVERTING_IN_TX) {
        return 0;
    }

    owner &= ~NGX_HTTP_INVERTING_OWNER_MASK;

    return zone->txs[owner].state == NGX_HTTP_INVERTING_TX_FREE;
}


void
ngx_http_inverting_cache_recover_locked(ngx_http_inverting_zone_t *zone,
    ngx_uint_t slot)
{
    uint32_t    owner;
    ngx_uint_t  i;

    owner = NGX_HTTP_INVERTING_IN_CACHE | slot;

    zone->slots[slot].ncache = 0;

    for (i = 0; i < zone->sh->nchunks; i++) {
        if (zone->chunk_owner[i] == owner) {
            ngx_http_inverting_chunk_free_locked(zone, i);
        }
    }
}
