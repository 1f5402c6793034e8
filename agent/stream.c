#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"
#include "response.h"
#include "websocket.h"

/* A stream's window is doubled for a backend that keeps up. */
#define WINDOW_MAX (2 * 1024 * 1024)
#define GROWN_MAX (32 * 1024 * 1024) /* of all streams of a session */

/* Held for a proxy that has closed its window: less than this. */
#define BLOCKED_MAX (16 * 1024)
#define BUFFER_MAX EXCHANGE_HIGH_WATER
#define RESUME_AT (BUFFER_MAX / 4)

struct stream {
    struct session_core *core;
    struct stream *next;
    struct stream *prev;
    struct stream *next_dirty;
    int32_t id;
    bool dirty;

    struct exchange *backend; /* NULL before and after */
    uint64_t began;
    uint64_t moved;
    char *text; /* for the debug log */
    char *key;  /* of a WebSocket's handshake */

    /* request */
    size_t unconsumed; /* bytes that the backend has not taken */
    size_t window;
    size_t passed; /* bytes since it last grew */
    bool request_whole;
    bool tunnel; /* asks for a WebSocket */
    bool to_head;

    /* response */
    struct h2fields *head;
    struct h2fields *trailers;
    struct buf out;
    int status;
    bool submitted; /* the head is nghttp2's */
    bool whole;     /* all of it is here */
    bool cut;       /* the rest of it never comes */
    bool reset;     /* said so */
    bool deferred;
    bool paused;
    bool timed_out;
};


static struct mem_spares spares = {.size = sizeof(struct stream)};


struct stream *stream_new(struct session_core *core, int32_t id)
{
    struct stream *st = mem_take(&spares);
    uint64_t now = loop_now(core->all->loop);

    *st = (struct stream) {
        .core = core,
        .next = core->first,
        .id = id,
        .began = now,
        .moved = now,
        .window = STREAM_WINDOW,
    };

    if (st->next != NULL) {
        st->next->prev = st;
    }

    core->first = st;
    core->nstreams++;
    core->all->nstreams++;

    return st;
}


struct stream *stream_next(const struct stream *st)
{
    return st->next;
}


static void mark(struct stream *st)
{
    struct session_core *core = st->core;

    if (st->dirty) {
        return;
    }

    st->dirty = true;
    st->next_dirty = NULL;
    *core->dirty_end = st;
    core->dirty_end = &st->next_dirty;
    session_wake(core);
}


static void unmark(struct stream *st)
{
    struct session_core *core = st->core;
    struct stream **link = &core->dirty;

    while (*link != st) {
        link = &(*link)->next_dirty;
    }

    *link = st->next_dirty;
    if (core->dirty_end == &st->next_dirty) {
        core->dirty_end = link;
    }

    st->dirty = false;
}


void stream_free(struct stream *st)
{
    struct session_core *core = st->core;

    if (st->dirty) {
        unmark(st);
    }

    if (st->backend != NULL) {
        exchange_abort(st->backend);
    }

    if (st->text != NULL) {
        log_debug("request %s: %d, %llu ms%s", st->text, st->status,
                  (unsigned long long) (loop_now(core->all->loop)
                                        - st->began),
                  st->whole && !st->cut ? "" : ", cut off");
    }

    if (st->prev != NULL) {
        st->prev->next = st->next;
    } else {
        core->first = st->next;
    }

    if (st->next != NULL) {
        st->next->prev = st->prev;
    }

    core->nstreams--;
    core->all->nstreams--;
    core->grown -= st->window - STREAM_WINDOW;

    buf_free(&st->out);
    free(st->head);
    free(st->trailers);
    free(st->text);
    free(st->key);
    mem_give(&spares, st);
}


/* Response --------------------------------------------------------------- */

static void pause_backend(struct stream *st, bool on)
{
    if (st->backend != NULL && st->paused != on) {
        st->paused = on;
        exchange_pause(st->backend, on);
    }
}


/* The window of bytes that nobody will take any more. */
static void drop_unconsumed(struct stream *st)
{
    if (st->unconsumed > 0) {
        nghttp2_session_consume_stream(st->core->h2, st->id, st->unconsumed);
        st->unconsumed = 0;
        session_wake(st->core);
    }
}


/* A response of our own, if none is on its way. */
static void refuse(struct stream *st, int status, const char *why)
{
    static struct field fields[] = {
        {{"content-type", 12}, {"text/plain; charset=utf-8", 25}},
        {{"cache-control", 13}, {"no-store", 8}},
    };
    static const struct head head = {.fields = fields, .nfields = 2};
    char body[RESPONSE_ERROR_MAX];
    size_t n;

    if (st->backend != NULL) {
        exchange_abort(st->backend);
        st->backend = NULL;
    }

    drop_unconsumed(st);

    if (st->submitted) {
        /* what has been offered to nghttp2 may still be taken */
        log_debug("stream %d: cut off: %s", st->id, why);
        st->cut = true;
        mark(st);
        return;
    }

    log_debug("stream %d: %d: %s", st->id, status, why);

    n = response_error_body(body, sizeof(body), status, why);
    free(st->head);
    st->head = h2fields_response(status, &head, (int64_t) n);
    st->status = status;
    buf_reset(&st->out);

    if (!st->to_head) {
        buf_append(&st->out, body, n);
    }

    st->whole = true;
    mark(st);
}


static void on_head(void *arg, const struct head *head)
{
    struct stream *st = arg;

    st->status = head->status;

    /* to the proxy that would be what 101 is to us */
    if (st->tunnel && head->status / 100 == 2) {
        refuse(st, 502, "the backend did not change to WebSocket");
        return;
    }

    if (head->status != 101) {
        st->head = h2fields_response(head->status, head,
                                     head->status != 204 ? head->length : -1);
        mark(st);
        return;
    }

    if (!websocket_accepts(st->key, head)) {
        refuse(st, 502, "the WebSocket handshake has a wrong answer");
        return;
    }

    st->head = h2fields_response(200, head, -1);
    mark(st);
}


static void on_data(void *arg, const char *p, size_t n)
{
    struct stream *st = arg;
    int32_t window;

    buf_append(&st->out, p, n);
    mark(st);

    if (buf_len(&st->out) < BLOCKED_MAX) {
        return;
    }

    window = nghttp2_session_get_stream_remote_window_size(st->core->h2,
                                                           st->id);

    if (window <= 0 || buf_len(&st->out) > BUFFER_MAX) {
        pause_backend(st, true);
    }
}


static void on_drain(void *arg)
{
    struct stream *st = arg;

    drop_unconsumed(st);
}


static void on_done(void *arg, const struct exchange_end *e)
{
    struct stream *st = arg;
    struct backend *backend = st->core->all->backend;

    st->backend = NULL;

    if (e->result != EXCHANGE_OK) {
        refuse(st, backend_failed(backend, e), e->hint);
        return;
    }

    backend_worked(backend);
    st->trailers = st->status != 101 ? h2fields_trailers(e->trailers,
                                                         e->ntrailers)
                                     : NULL;
    st->whole = true;
    drop_unconsumed(st);
    mark(st);
}


static const struct exchange_handler handler = {
    .head = on_head,
    .data = on_data,
    .drain = on_drain,
    .done = on_done,
};


static ssize_t read_body(nghttp2_session *h2, int32_t id, uint8_t *p,
                         size_t n, uint32_t *flags,
                         nghttp2_data_source *source, void *arg)
{
    (void) h2;
    (void) id;
    (void) p;
    (void) arg;

    return stream_offer(source->ptr, n, flags);
}


static void submit(struct stream *st)
{
    nghttp2_data_provider body = {.source.ptr = st,
                                  .read_callback = read_body};
    bool empty = st->whole && buf_len(&st->out) == 0 && st->trailers == NULL;
    int rc = nghttp2_submit_response(st->core->h2, st->id, st->head->nv,
                                     st->head->n, empty ? NULL : &body);

    st->submitted = true;
    if (rc != 0) {
        log_debug("stream %d: %s", st->id, nghttp2_strerror(rc));
        st->cut = true;
    }
}


struct stream *stream_flush(struct stream *st)
{
    struct stream *next = st->next_dirty;

    st->dirty = false;

    if (st->reset) {
        return next;
    }

    if (!st->submitted && st->head != NULL) {
        submit(st);
    }

    if (st->cut) {
        st->reset = true;
        nghttp2_submit_rst_stream(st->core->h2, NGHTTP2_FLAG_NONE, st->id,
                                  NGHTTP2_INTERNAL_ERROR);

    } else if (st->deferred && (st->whole || buf_len(&st->out) > 0)) {
        st->deferred = false;
        nghttp2_session_resume_data(st->core->h2, st->id);
    }

    return next;
}


ssize_t stream_offer(struct stream *st, size_t n, uint32_t *flags)
{
    size_t len = buf_len(&st->out);

    if (len == 0 && !st->whole) {
        st->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }

    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;

    if (len > n) {
        return (ssize_t) n;
    }

    if (st->whole) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;

        if (st->trailers != NULL) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_submit_trailer(st->core->h2, st->id, st->trailers->nv,
                                   st->trailers->n);
        }
    }

    return (ssize_t) len;
}


void stream_take(struct stream *st, struct buf *out, size_t n)
{
    buf_append(out, buf_ptr(&st->out), n);
    buf_consume(&st->out, n);
    st->moved = loop_now(st->core->all->loop);

    if (st->tunnel && buf_len(&st->out) == 0) {
        buf_free(&st->out);
    }

    if (buf_len(&st->out) <= RESUME_AT) {
        pause_backend(st, false);
    }
}


void stream_answered(struct stream *st)
{
    if (!st->request_whole && !st->reset) {
        st->reset = true;
        nghttp2_submit_rst_stream(st->core->h2, NGHTTP2_FLAG_NONE, st->id,
                                  NGHTTP2_NO_ERROR);
    }
}


/* Request ---------------------------------------------------------------- */

static void describe(struct stream *st, const struct h2request *r)
{
    const struct head *h = &r->head;
    size_t size = r->id.n + h->method.n + h->target.n + 4;

    st->text = mem_alloc(size);
    snprintf(st->text, size, "%.*s: %.*s %.*s", (int) r->id.n, r->id.p,
             (int) h->method.n, h->method.p, (int) h->target.n, h->target.p);
}


/* The client's handshake goes on but for the key, which has to be ours. */
static void start_tunnel(struct stream *st, struct h2request *r)
{
    struct head *h = &r->head;
    struct field own[2];
    size_t n = 0;
    struct backend_request request = {
        .head = h,
        .length = EXCHANGE_NO_BODY,
        .user = r->user,
        .upgrade = "websocket",
        .own = own,
        .nown = 2,
        .moved = &st->moved,
    };

    for (size_t i = 0; i < h->nfields; i++) {
        if (!span_is(h->fields[i].name, "Sec-WebSocket-Key")
            && !span_is(h->fields[i].name, "Sec-WebSocket-Version")) {
            h->fields[n++] = h->fields[i];
        }
    }

    h->nfields = n;
    h->method = SPAN("GET");
    st->tunnel = true;
    st->key = mem_alloc(WEBSOCKET_KEY);
    websocket_key(st->key);
    own[0] = (struct field) {SPAN("Sec-WebSocket-Key"),
                             {st->key, WEBSOCKET_KEY}};
    own[1] = (struct field) {SPAN("Sec-WebSocket-Version"), SPAN("13")};

    st->backend = backend_start(st->core->all->backend, &request, &handler,
                                st);
}


static void start_request(struct stream *st, struct h2request *r, bool end)
{
    const struct head *h = &r->head;
    struct backend_request request = {
        .head = h,
        .length = h->length >= 0 ? h->length
                  : end ? EXCHANGE_NO_BODY : EXCHANGE_CHUNKED,
        .user = r->user,
        .moved = &st->moved,
    };
    const char *why;
    int status = backend_refuses(h, &why);

    if (status != 0) {
        refuse(st, status, why);
        return;
    }

    st->backend = backend_start(st->core->all->backend, &request, &handler,
                                st);

    if (end && request.length != EXCHANGE_NO_BODY) {
        exchange_finish(st->backend);
    }
}


static void log_invalid(const char *error)
{
    static struct log_brake brake;
    unsigned others;

    if (log_allowed(&brake, 60000, &others)) {
        log_warn("the proxy sent a request that is not valid: %s", error);
    }
}


void stream_request(struct stream *st, struct h2request *r, bool end)
{
    const char *error = h2request_end(r);

    st->request_whole = end;

    if (st->timed_out) {
        /* the head took so long that it has been answered */
        return;
    }

    st->to_head = span_is(r->head.method, "HEAD");

    if (log_is_debug()) {
        describe(st, r);
    }

    if (error != NULL) {
        log_invalid(error);
        refuse(st, r->too_large ? 431 : 502, "the request is not valid");

    } else if (r->protocol.n == 0) {
        start_request(st, r, end);

    } else if (span_is(r->protocol, "websocket") && !end) {
        start_tunnel(st, r);

    } else {
        refuse(st, 501, "the protocol asked for is not supported");
    }
}


/* The backend keeps up: let it have more at a time. */
static void grow(struct stream *st, size_t n)
{
    struct session_core *core = st->core;

    st->passed += n;

    if (st->passed < 2 * st->window || st->window >= WINDOW_MAX
        || core->grown + st->window > GROWN_MAX) {
        return;
    }

    core->grown += st->window;
    st->window *= 2;
    st->passed = 0;
    nghttp2_session_set_local_window_size(core->h2, NGHTTP2_FLAG_NONE, st->id,
                                          (int32_t) st->window);
}


void stream_data(struct stream *st, const char *p, size_t n)
{
    struct span part = {p, n};

    st->moved = loop_now(st->core->all->loop);

    if (st->backend != NULL) {
        exchange_write(st->backend, &part, 1);

        if (exchange_pending(st->backend) > EXCHANGE_HIGH_WATER) {
            st->unconsumed += n;
            st->passed = 0;
            return;
        }
    }

    nghttp2_session_consume_stream(st->core->h2, st->id, n);
    grow(st, n);
}


void stream_request_end(struct stream *st)
{
    st->request_whole = true;

    if (st->backend != NULL) {
        exchange_finish(st->backend);
    }
}


void stream_tick(struct stream *st)
{
    uint64_t now = loop_now(st->core->all->loop);

    /* a WebSocket may be quiet: the proxy says how long */
    if (st->reset || now - st->moved < st->core->all->backend->idle_timeout
        || (st->tunnel && st->status == 101 && !st->request_whole
            && !st->whole)) {
        return;
    }

    st->moved = now;

    if (st->timed_out || st->submitted) {
        st->cut = true;
        st->submitted = true;
        refuse(st, 504, "nothing moved for too long");
        return;
    }

    st->timed_out = true;
    refuse(st, 504, "the backend did not answer in time");
}
