
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_STATE_H_INCLUDED_
#define _NGX_HTTP_INVERTING_STATE_H_INCLUDED_


#include "ngx_http_inverting_db.h"


/*
 * The state of a zone, state=: what the API has made of its registry, in a
 * file.  A change is committed there first, by a thread of this worker, with
 * all others that have come meanwhile; changes are numbered in the order of
 * their commits, by all workers.  With the commit the thread reads, for every
 * backend that has changed since the zone was last brought up to date, how it
 * is now, and the event loop applies that to the zone, and its number with it.
 * So it doesn't matter in which order workers get there, nor that one of them
 * is killed in between: the next one, or anybody's rescan, does it.
 */


/* the whole of a new zone, in the master; errors are logged */
ngx_int_t ngx_http_inverting_state_load(ngx_http_inverting_zone_t *zone,
    ngx_log_t *log);

/* that the file is still the one that the zone was loaded from */
ngx_int_t ngx_http_inverting_state_check(ngx_http_inverting_zone_t *zone,
    ngx_log_t *log);

/*
 * In the master, before the workers: makes the file's folder for them; as with
 * nginx's own folders, "nginx -t" does so too.
 */
ngx_int_t ngx_http_inverting_state_folder(ngx_http_inverting_zone_t *zone);

/*
 * In a worker; "stale" are ids, ngx_str_t, of backends that are to be read
 * from the file again.
 */
ngx_int_t ngx_http_inverting_state_init_process(
    ngx_http_inverting_zone_t *zone, ngx_cycle_t *cycle, ngx_array_t *stale);
void ngx_http_inverting_state_exit_process(ngx_http_inverting_zone_t *zone);

/*
 * Copies the change and has it made; "handler" is called from the event loop
 * with op->change.result set.  Whoever can't wait any more sets op->data to
 * NULL: nobody is called then.  The room, or NULL for none, is given back
 * afterwards.  NULL: this can't be had now, and the room is the caller's.
 */
ngx_http_inverting_op_t *ngx_http_inverting_state_submit(
    ngx_http_inverting_zone_t *zone, ngx_http_inverting_change_t *change,
    void (*handler)(ngx_http_inverting_op_t *op), void *data,
    ngx_http_inverting_room_t *room);

/*
 * Looks for changes that the zone has missed.  One that a worker died of, or
 * that failed where the disk did, may be in SQLite's log, unseen because the
 * log's index does not tell of it, and would be there after a restart: a
 * commit of ours settles that ("unsettled" in the zone).
 */
void ngx_http_inverting_state_rescan(ngx_http_inverting_zone_t *zone);


#endif /* _NGX_HTTP_INVERTING_STATE_H_INCLUDED_ */
