
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <linux/sockios.h>

#include "ngx_http_inverting_ptth.h"
#include "ngx_http_inverting_worker.h"


/* buffers in a row: other connections of this worker want their turn */
#define NGX_HTTP_INVERTING_PTTH_TURNS  8

/* requests sent together: the agent starts while others are still read */
#define NGX_HTTP_INVERTING_PTTH_BATCH  24

/* free output buffers that a worker keeps */
#define NGX_HTTP_INVERTING_PTTH_KEEP   16


static void ngx_http_inverting_ptth_end_handler(ngx_http_inverting_end_t *end);
static void ngx_http_inverting_ptth_read_handler(ngx_event_t *rev);
static void ngx_http_inverting_ptth_write_handler(ngx_event_t *wev);
static void ngx_http_inverting_ptth_flush_handler(ngx_event_t *ev);
static void ngx_http_inverting_ptth_timer_handler(ngx_event_t *ev);
static void ngx_http_inverting_ptth_write(ngx_http_inverting_ptth_t *ptth);
static ngx_int_t ngx_http_inverting_ptth_get_buffer(
    ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_ptth_put_buffer(
    ngx_http_inverting_ptth_t *ptth);
static ngx_uint_t ngx_http_inverting_ptth_takes(
    ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_ptth_seen(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_ptth_stop(ngx_http_inverting_ptth_t *ptth);
static void ngx_http_inverting_ptth_cleanup(void *data);


/* the connections of this worker, of all zones */
static ngx_queue_t  ngx_http_inverting_ptths;

/* what is read is used at once */
static u_char  ngx_http_inverting_ptth_in[NGX_HTTP_INVERTING_PTTH_BUFFER];

static void       *ngx_http_inverting_ptth_free;
static ngx_uint_t  ngx_http_inverting_ptth_nfree;


ngx_http_inverting_ptth_t *
ngx_http_inverting_ptth_create(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_http_cleanup_t                   *cln;
    ngx_http_inverting_ptth_t            *ptth;
    ngx_http_inverting_proxy_loc_conf_t  *conf;

    cln = ngx_http_cleanup_add(r, 0);
    ptth = ngx_pcalloc(r->pool, sizeof(ngx_http_inverting_ptth_t));

    if (cln == NULL || ptth == NULL) {
        return NULL;
    }

    conf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    ptth->request = r;
    ptth->agent = ctx;
    ptth->tick = ngx_max(conf->poll_timeout / 3, 1);

    cln->handler = ngx_http_inverting_ptth_cleanup;
    cln->data = ptth;

    ctx->end.handler = ngx_http_inverting_ptth_end_handler;
    ctx->end.data = ptth;
    ctx->end.batch = NGX_HTTP_INVERTING_PTTH_BATCH;
    ctx->end.process = ngx_murmur_hash2(ctx->process.data, ctx->process.len);

    return ptth;
}


void
ngx_http_inverting_ptth_start(ngx_http_inverting_ptth_t *ptth)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ptth->request;
    c = r->connection;

    r->main->count++;

    if (ngx_http_inverting_ptths.next == NULL) {
        ngx_queue_init(&ngx_http_inverting_ptths);
    }

    ngx_queue_insert_tail(&ngx_http_inverting_ptths, &ptth->queue);

    /* the worker does not exit before it has said goodbye */

    ngx_http_inverting_worker_live(ptth->agent->zone, 1);

    ptth->flush.handler = ngx_http_inverting_ptth_flush_handler;
    ptth->flush.data = ptth;
    ptth->flush.log = c->log;

    ptth->timer.handler = ngx_http_inverting_ptth_timer_handler;
    ptth->timer.data = ptth;
    ptth->timer.log = c->log;
    ptth->timer.cancelable = 1;

    ngx_add_timer(&ptth->timer, ptth->tick);

    c->log->action = "serving an agent by ptth";
    c->read->handler = ngx_http_inverting_ptth_read_handler;
    c->write->handler = ngx_http_inverting_ptth_write_handler;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    ngx_log_error(NGX_LOG_INFO, c->log, 0,
                  "agent of backend \"%V\" has connected by ptth, %V",
                  &ptth->agent->backend, &ptth->proto->alpn);

    /* what came along with the request */

    if (r->header_in->pos < r->header_in->last) {
        ptth->proto->input(ptth, r->header_in->pos,
                           r->header_in->last - r->header_in->pos);
        r->header_in->pos = r->header_in->last;
    }

    ngx_http_inverting_ptth_flush(ptth);
    ngx_post_event(c->read, &ngx_posted_events);
}


static void
ngx_http_inverting_ptth_end_handler(ngx_http_inverting_end_t *end)
{
    ngx_http_inverting_ptth_t *ptth = end->data;

    ngx_uint_t  full;

    full = (end->given == end->batch);
    end->given = 0;

    ngx_http_set_log_request(ptth->request->connection->log, ptth->request);

    ptth->proto->receive(ptth);

    if (full && ptth->flush.posted) {
        ngx_delete_posted_event(&ptth->flush);
        ngx_http_inverting_ptth_write(ptth);
    }

    (void) ngx_http_inverting_ptth_check(ptth);
}


static void
ngx_http_inverting_ptth_read_handler(ngx_event_t *rev)
{
    ssize_t                          n;
    ngx_uint_t                       turns;
    ngx_connection_t                *c;
    ngx_http_request_t              *r;
    ngx_http_inverting_ptth_t       *ptth;
    ngx_http_inverting_agent_ctx_t  *ctx;

    c = rev->data;
    r = c->data;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);
    ptth = ctx->end.data;

    if (c->close) {

        /* "worker_shutdown_timeout": also if the agent does not read */

        ptth->failed = "the worker exits";

        (void) ngx_http_inverting_ptth_check(ptth);
        return;
    }

    if (ptth->over) {
        return;
    }

    for (turns = 0; turns < NGX_HTTP_INVERTING_PTTH_TURNS; turns++) {

        if (ptth->blocked) {

            /* who ends that posts this event */

            return;
        }

        n = c->recv(c, ngx_http_inverting_ptth_in,
                    NGX_HTTP_INVERTING_PTTH_BUFFER);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == 0 || n == NGX_ERROR) {

            if (n == 0) {
                ptth->proto->input(ptth, NULL, 0);
            }

            ptth->failed = "it has closed the connection";
            break;
        }

        ptth->heard = 1;

        ptth->proto->input(ptth, ngx_http_inverting_ptth_in, n);

        if (ptth->failed || !rev->ready) {
            break;
        }
    }

    if (rev->ready && !ptth->failed) {
        ngx_post_event(rev, &ngx_posted_next_events);
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ptth->failed = "an event could not be added";
    }

    (void) ngx_http_inverting_ptth_check(ptth);
}


static void
ngx_http_inverting_ptth_write_handler(ngx_event_t *wev)
{
    ngx_connection_t                *c;
    ngx_http_request_t              *r;
    ngx_http_inverting_ptth_t       *ptth;
    ngx_http_inverting_agent_ctx_t  *ctx;

    c = wev->data;
    r = c->data;

    ctx = ngx_http_get_module_ctx(r, ngx_http_inverting_proxy_module);
    ptth = ctx->end.data;

    if (ptth->over) {
        return;
    }

    if (wev->timedout) {
        ptth->failed = "it does not read";

    } else if (ptth->out.start) {
        ngx_http_inverting_ptth_write(ptth);
    }

    (void) ngx_http_inverting_ptth_check(ptth);
}


void
ngx_http_inverting_ptth_flush(ngx_http_inverting_ptth_t *ptth)
{
    if (!ptth->flush.posted && ptth->out.start == NULL && !ptth->over) {
        ngx_post_event(&ptth->flush, &ngx_posted_events);
    }
}


static void
ngx_http_inverting_ptth_flush_handler(ngx_event_t *ev)
{
    ngx_http_inverting_ptth_t *ptth = ev->data;

    ngx_http_inverting_ptth_write(ptth);

    (void) ngx_http_inverting_ptth_check(ptth);
}


static void
ngx_http_inverting_ptth_write(ngx_http_inverting_ptth_t *ptth)
{
    ssize_t                    n;
    ngx_buf_t                 *b;
    ngx_uint_t                 turns;
    ngx_event_t               *wev;
    ngx_connection_t          *c;
    ngx_http_core_loc_conf_t  *clcf;

    c = ptth->request->connection;
    wev = c->write;
    b = &ptth->out;

    for (turns = 0; turns < NGX_HTTP_INVERTING_PTTH_TURNS; turns++) {

        if (b->start == NULL
            && ngx_http_inverting_ptth_get_buffer(ptth) != NGX_OK)
        {
            ptth->failed = "there is no memory";
            return;
        }

        if (b->pos == b->last) {
            b->pos = b->start;
            b->last = b->start;

            ptth->proto->output(ptth);

            if (ptth->failed || b->pos == b->last) {
                break;
            }
        }

        n = c->send(c, b->pos, b->last - b->pos);

        if (n == NGX_ERROR) {
            ptth->failed = "it has closed the connection";
            break;
        }

        if (n > 0) {
            b->pos += n;

            if (wev->timer_set) {
                ngx_del_timer(wev);
            }
        }

        if (b->pos != b->last) {
            break;
        }
    }

    if (b->pos == b->last) {
        ngx_http_inverting_ptth_put_buffer(ptth);

        if (turns == NGX_HTTP_INVERTING_PTTH_TURNS) {
            ngx_post_event(&ptth->flush, &ngx_posted_next_events);
        }

        return;
    }

    if (ptth->failed) {
        return;
    }

    clcf = ngx_http_get_module_loc_conf(ptth->request, ngx_http_core_module);

    if (!wev->timer_set) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    if (ngx_handle_write_event(wev, 0) != NGX_OK) {
        ptth->failed = "an event could not be added";
    }
}


/*
 * A connection has a buffer only while it has something to write.  It is the
 * same one until all is written: OpenSSL insists.
 */

static ngx_int_t
ngx_http_inverting_ptth_get_buffer(ngx_http_inverting_ptth_t *ptth)
{
    void       *p;
    ngx_buf_t  *b;

    p = ngx_http_inverting_ptth_free;

    if (p) {
        ngx_http_inverting_ptth_free = *(void **) p;
        ngx_http_inverting_ptth_nfree--;

    } else {
        p = ngx_alloc(NGX_HTTP_INVERTING_PTTH_BUFFER, ngx_cycle->log);
        if (p == NULL) {
            return NGX_ERROR;
        }
    }

    b = &ptth->out;

    b->start = p;
    b->pos = p;
    b->last = p;
    b->end = b->start + NGX_HTTP_INVERTING_PTTH_BUFFER;

    return NGX_OK;
}


static void
ngx_http_inverting_ptth_put_buffer(ngx_http_inverting_ptth_t *ptth)
{
    void  *p;

    p = ptth->out.start;

    ngx_memzero(&ptth->out, sizeof(ngx_buf_t));

    if (p == NULL) {
        return;
    }

    if (ngx_http_inverting_ptth_nfree == NGX_HTTP_INVERTING_PTTH_KEEP) {
        ngx_free(p);
        return;
    }

    *(void **) p = ngx_http_inverting_ptth_free;
    ngx_http_inverting_ptth_free = p;
    ngx_http_inverting_ptth_nfree++;
}


static void
ngx_http_inverting_ptth_timer_handler(ngx_event_t *ev)
{
    ngx_http_inverting_ptth_t *ptth = ev->data;

    if (ngx_http_inverting_ptth_takes(ptth)) {
        ptth->heard = 1;
    }

    ngx_http_inverting_ptth_seen(ptth);

    ptth->proto->tick(ptth, !ptth->heard);
    ptth->heard = 0;

    ngx_add_timer(&ptth->timer, ptth->tick);

    (void) ngx_http_inverting_ptth_check(ptth);
}


/*
 * Whether there is more for the peer than it has taken since the last tick.
 * Its answer to a PING may be as far behind as that, on a slow link; but once
 * everything is there, it is due.
 *
 * With TLS c->sent counts less than the kernel does, so while nothing is taken
 * the difference does not grow.
 */

static ngx_uint_t
ngx_http_inverting_ptth_takes(ngx_http_inverting_ptth_t *ptth)
{
    int                queued;
    off_t              taken, before;
    ngx_connection_t  *c;

    c = ptth->request->connection;

    if (ioctl(c->fd, SIOCOUTQ, &queued) == -1) {
        return 0;
    }

    before = ptth->taken;
    taken = c->sent - queued;
    ptth->taken = taken;

    return queued && taken > before;
}


/* for "lastSeen" and for "expiry" */

static void
ngx_http_inverting_ptth_seen(ngx_http_inverting_ptth_t *ptth)
{
    ngx_http_inverting_zone_t      *zone;
    ngx_http_inverting_receiver_t  *rcv;

    zone = ptth->agent->zone;
    rcv = ptth->agent->end.receiver;

    if (!ptth->heard || rcv == NULL) {
        return;
    }

    ngx_http_inverting_lock(zone);

    if (rcv->backend) {
        rcv->backend->last_seen = ngx_time();
        rcv->backend->expected = ngx_current_msec;
    }

    ngx_http_inverting_unlock(zone);
}


void
ngx_http_inverting_ptth_exiting(ngx_http_inverting_zone_t *zone)
{
    ngx_queue_t                *q, *next;
    ngx_http_inverting_ptth_t  *ptth;

    if (ngx_http_inverting_ptths.next == NULL) {
        return;
    }

    for (q = ngx_queue_head(&ngx_http_inverting_ptths);
         q != ngx_queue_sentinel(&ngx_http_inverting_ptths);
         q = next)
    {
        next = ngx_queue_next(q);
        ptth = ngx_queue_data(q, ngx_http_inverting_ptth_t, queue);

        if (ptth->agent->zone == zone) {
            ngx_http_inverting_ptth_drain(ptth);
        }
    }
}


void
ngx_http_inverting_ptth_drain(ngx_http_inverting_ptth_t *ptth)
{
    if (ptth->draining || ptth->over) {
        return;
    }

    ptth->draining = 1;

    ngx_http_inverting_poll_close(&ptth->agent->end);

    ptth->proto->drain(ptth);

    /*
     * Also if there is nothing to write: it is checked then.  When nginx tells
     * of its shutdown it is about to wait, whatever has been posted for now.
     */

    if (!ptth->flush.posted && ptth->out.start == NULL) {
        ngx_post_event(&ptth->flush, &ngx_posted_next_events);
    }
}


void
ngx_http_inverting_ptth_gone(ngx_http_inverting_ptth_t *ptth)
{
    ngx_log_error(NGX_LOG_NOTICE, ptth->request->connection->log, 0,
                  "agent of backend \"%V\" is disconnected: %s",
                  &ptth->agent->backend, NGX_HTTP_INVERTING_GONE);

    ptth->failed = "it may not serve the backend any more";
}


ngx_int_t
ngx_http_inverting_ptth_check(ngx_http_inverting_ptth_t *ptth)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ptth->request;
    c = r->connection;

    if (ptth->failed == NULL
        && (!ptth->draining || ptth->streams || ptth->out.start
            || ptth->flush.posted))
    {
        return NGX_OK;
    }

    if (!ptth->over) {

        /* what it has lost is not to be given to it again */

        ngx_http_inverting_poll_close(&ptth->agent->end);

        if (ptth->proto->over(ptth)) {
            ngx_http_inverting_ptth_stop(ptth);
        }
    }

    if (ptth->over && ptth->streams && !c->close) {
        return NGX_OK;
    }

    ngx_http_set_log_request(c->log, r);

    ngx_log_error(NGX_LOG_INFO, c->log, 0,
                  "connection of the agent of backend \"%V\" ends: %s",
                  &ptth->agent->backend,
                  ptth->failed ? ptth->failed : "it has drained");

    ngx_http_finalize_request(r, NGX_ERROR);
    ngx_http_run_posted_requests(c);

    return NGX_DONE;
}


/* it stays for what clients have not read, and is no connection any more */

static void
ngx_http_inverting_ptth_stop(ngx_http_inverting_ptth_t *ptth)
{
    ngx_connection_t  *c;

    c = ptth->request->connection;

    ptth->over = 1;

    if (ptth->flush.posted) {
        ngx_delete_posted_event(&ptth->flush);
    }

    if (ptth->timer.timer_set) {
        ngx_del_timer(&ptth->timer);
    }

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    ngx_http_inverting_ptth_put_buffer(ptth);
}


static void
ngx_http_inverting_ptth_cleanup(void *data)
{
    ngx_http_inverting_ptth_t *ptth = data;

    if (ptth->closed) {
        return;
    }

    ptth->closed = 1;

    ngx_http_inverting_poll_close(&ptth->agent->end);

    if (ptth->proto) {
        ptth->proto->free(ptth);
    }

    if (ptth->queue.next) {
        ngx_queue_remove(&ptth->queue);
        ngx_http_inverting_worker_live(ptth->agent->zone, -1);
    }

    if (ptth->flush.posted) {
        ngx_delete_posted_event(&ptth->flush);
    }

    if (ptth->timer.timer_set) {
        ngx_del_timer(&ptth->timer);
    }

    ngx_http_inverting_ptth_put_buffer(ptth);
}
