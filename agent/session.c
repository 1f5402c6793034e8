#include "session.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "budget.h"
#include "log.h"
#include "memory.h"
#include "stream.h"

#define CONNECTION_WINDOW (16 * 1024 * 1024)
#define SEND_MAX (64 * 1024) /* in one go */
#define FRAME_HEADER 9

/* Frames that cost the peer next to nothing: so many at once, so many a
 * second after that. As many streams as are allowed may be reset besides. */
#define CALM_BURST 1000
#define CALM_RATE 200
#define RESETS_RATE 1000 /* clients may well go away so often */
#define ACKS_MAX 100  /* waiting to be sent */
#define SETTINGS_MAX 32 /* in one frame */

/* The largest head of a response, as nghttp2 estimates it: a few bytes more
 * for each field. It would leave out what is larger, and say nothing. */
#define HEAD_SENT_MAX (2 * HEAD_MAX_BYTES)
#define QUEUE_MAX 10000 /* frames waiting to be sent, but for DATA */

/* In parts of -proxy-timeout: silence, after which a PING is sent, and how
 * long after that without a byte the proxy is gone. */
#define PING_AFTER(timeout) ((timeout) / 4)
#define GONE_AFTER(timeout) ((timeout) / 2)

/* How long the proxy may take nothing of what waits for it. */
#define UNREAD_AFTER(timeout) (timeout)

/* How long a proxy may take to confirm that it knows we are leaving. */
#define LEAVE_MS 500

/* How long the proxy may take to close a connection that is over. */
#define FINISHED_MS 500

struct session {
    struct session_core core;
    struct exchange *exchange;
    const struct session_handler *handler;
    void *arg;
    struct task flush;
    struct h2request request; /* the one whose fields come */

    uint64_t heard;   /* when the proxy sent something last */
    struct budget calm;   /* when it is used up, we end the connection */
    struct budget resets; /* or read no more of it for a while: */
    bool held;
    bool pinged;
    bool blocked;  /* the connection takes no more for now */
    uint64_t sent;  /* bytes in all, with those that wait */
    uint64_t taken; /* of these, bytes that the connection took */
    uint64_t took;  /* when it did, or nothing waited, last */
    bool full;     /* what goes out in one go is */
    uint64_t said;  /* when we have said so */
    bool leaving;
    bool left;     /* and which stream was the last */
    bool draining; /* the proxy has said so */
    bool closing;  /* as soon as all is sent */
    bool finished; /* and now it is the proxy's turn to close */
    bool broken;   /* nothing that comes counts any more */
    char why[160]; /* it ends, if not as intended */
};


static void say_why(struct session *s, const char *text, const char *detail)
{
    if (s->why[0] == '\0') {
        snprintf(s->why, sizeof(s->why), "%s%s%s", text,
                 detail[0] != '\0' ? ": " : "", detail);
    }
}


void session_wake(struct session_core *core)
{
    struct session *s = (struct session *) ((char *) core
                                            - offsetof(struct session, core));

    loop_defer(core->all->loop, &s->flush);
}


/* The session cannot go on; what nghttp2 has to say is still sent. */
static void break_off(struct session *s, uint32_t code, const char *text,
                      const char *detail)
{
    say_why(s, text, detail);
    s->broken = true;
    nghttp2_session_terminate_session(s->core.h2, code);
    session_wake(&s->core);
}


/* Floods ----------------------------------------------------------------- */

static void spend(struct session *s, const char *what)
{
    if (!budget_spend(&s->calm, loop_now(s->core.all->loop)) && !s->broken) {
        break_off(s, NGHTTP2_ENHANCE_YOUR_CALM,
                  "the proxy is in too much haste", what);
    }
}


/*
 * A reset is most often a client that has gone away: however many do so, the
 * connection is that of all the others, too. What has been read already still
 * comes.
 */
static void spend_reset(struct session *s)
{
    static struct log_brake brake;
    unsigned others;

    if (budget_spend(&s->resets, loop_now(s->core.all->loop)) || s->held) {
        return;
    }

    s->held = true;
    exchange_pause(s->exchange, true);

    if (log_allowed(&brake, 60000, &others)) {
        log_warn("the proxy resets very many streams; reading more slowly");
    }
}


static void go_on_reading(struct session *s)
{
    /* it is us who do not listen */
    s->heard = loop_now(s->core.all->loop);

    if (budget_refill(&s->resets, s->heard)) {
        s->held = false;
        exchange_pause(s->exchange, false);
    }
}


static const char *is_cheap(const nghttp2_frame *f)
{
    switch (f->hd.type) {

    case NGHTTP2_PING:
        return (f->hd.flags & NGHTTP2_FLAG_ACK) == 0
               ? "too many PING frames" : NULL;

    case NGHTTP2_SETTINGS:
        return (f->hd.flags & NGHTTP2_FLAG_ACK) == 0
               ? "too many SETTINGS frames" : NULL;

    case NGHTTP2_PRIORITY:
        return "too many PRIORITY frames";

    case NGHTTP2_DATA:
        return f->hd.length == 0
               && (f->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0
               ? "too many empty DATA frames" : NULL;

    default:
        return NULL;
    }
}


/* What nghttp2 calls back ------------------------------------------------ */

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *f,
                            void *arg)
{
    struct session *s = arg;
    struct sessions *all = s->core.all;

    h2request_begin(&s->request);

    /* the limit of each connection is nghttp2's business, all of them
     * together ours */
    if (f->headers.cat == NGHTTP2_HCAT_REQUEST
        && all->nstreams < (size_t) all->options->max_concurrency) {
        nghttp2_session_set_stream_user_data(h2, f->hd.stream_id,
                                             stream_new(&s->core,
                                                        f->hd.stream_id));
    }

    return 0;
}


static int on_header(nghttp2_session *h2, const nghttp2_frame *f,
                     const uint8_t *name, size_t nname, const uint8_t *value,
                     size_t nvalue, uint8_t flags, void *arg)
{
    struct session *s = arg;

    (void) h2;
    (void) flags;

    if (f->headers.cat == NGHTTP2_HCAT_REQUEST) {
        h2request_field(&s->request,
                        (struct span) {(const char *) name, nname},
                        (struct span) {(const char *) value, nvalue});
    }

    return 0;
}


/* By default these are left out of the request in silence. */
static int on_invalid_header(nghttp2_session *h2, const nghttp2_frame *f,
                             const uint8_t *name, size_t nname,
                             const uint8_t *value, size_t nvalue,
                             uint8_t flags, void *arg)
{
    (void) h2;
    (void) f;
    (void) name;
    (void) nname;
    (void) value;
    (void) nvalue;
    (void) flags;
    (void) arg;

    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}


static void on_headers(struct session *s, const nghttp2_frame *f)
{
    struct stream *st = nghttp2_session_get_stream_user_data(s->core.h2,
                                                             f->hd.stream_id);
    bool end = (f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    if (st == NULL) {
        /* nothing of it was done: the proxy may send it to another agent */
        nghttp2_submit_rst_stream(s->core.h2, NGHTTP2_FLAG_NONE,
                                  f->hd.stream_id, NGHTTP2_REFUSED_STREAM);

    } else if (f->headers.cat == NGHTTP2_HCAT_REQUEST) {
        stream_request(st, &s->request, end);

    } else if (end) {
        stream_request_end(st);
    }
}


static void on_goaway(struct session *s, const nghttp2_frame *f)
{
    if (f->goaway.error_code != NGHTTP2_NO_ERROR) {
        say_why(s, "the proxy ends the connection",
                nghttp2_http2_strerror(f->goaway.error_code));
    }

    if (!s->draining) {
        s->draining = true;
        s->handler->draining(s->arg);
    }
}


/* The second step of a graceful end: what the proxy sent before it knew of
 * the first has come. */
static void leave(struct session *s)
{
    if (s->leaving && !s->left) {
        s->left = true;
        nghttp2_submit_goaway(s->core.h2, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(
                                  s->core.h2),
                              NGHTTP2_NO_ERROR, NULL, 0);
        session_wake(&s->core);
    }
}


static int on_frame(nghttp2_session *h2, const nghttp2_frame *f, void *arg)
{
    struct session *s = arg;
    const char *cheap = is_cheap(f);
    struct stream *st;

    if (cheap != NULL) {
        spend(s, cheap);
    }

    switch (f->hd.type) {

    case NGHTTP2_RST_STREAM:
        spend_reset(s);
        break;

    case NGHTTP2_HEADERS:
        on_headers(s, f);
        break;

    case NGHTTP2_DATA:
        st = nghttp2_session_get_stream_user_data(h2, f->hd.stream_id);
        if (st != NULL && (f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            stream_request_end(st);
        }
        break;

    case NGHTTP2_PING:
        if ((f->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
            leave(s);
        }
        break;

    case NGHTTP2_GOAWAY:
        on_goaway(s, f);
        break;
    }

    return 0;
}


static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id,
                   const uint8_t *p, size_t n, void *arg)
{
    struct stream *st = nghttp2_session_get_stream_user_data(h2, id);

    (void) flags;
    (void) arg;

    nghttp2_session_consume_connection(h2, n);

    if (st != NULL) {
        stream_data(st, (const char *) p, n);
    }

    return 0;
}


static int on_stream_close(nghttp2_session *h2, int32_t id, uint32_t code,
                           void *arg)
{
    struct stream *st = nghttp2_session_get_stream_user_data(h2, id);

    (void) code;
    (void) arg;

    if (st != NULL) {
        nghttp2_session_set_stream_user_data(h2, id, NULL);
        stream_free(st);
    }

    return 0;
}


static int on_frame_sent(nghttp2_session *h2, const nghttp2_frame *f,
                         void *arg)
{
    struct session *s = arg;
    struct stream *st;

    switch (f->hd.type) {

    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        if ((f->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
            break;
        }

        st = nghttp2_session_get_stream_user_data(h2, f->hd.stream_id);
        if (st != NULL) {
            stream_answered(st);
        }
        break;

    case NGHTTP2_GOAWAY:
        if (f->goaway.error_code != NGHTTP2_NO_ERROR) {
            say_why(s, "the proxy breaks the rules of HTTP/2",
                    nghttp2_http2_strerror(f->goaway.error_code));
        }
        break;
    }

    return 0;
}


static int on_invalid_frame(nghttp2_session *h2, const nghttp2_frame *f,
                            int error, void *arg)
{
    static struct log_brake brake;
    unsigned others;

    (void) h2;
    (void) arg;

    if (log_allowed(&brake, 60000, &others)) {
        log_warn("the proxy sent a frame that is not valid (type %d, stream "
                 "%d): %s", f->hd.type, f->hd.stream_id,
                 nghttp2_strerror(error));
    }

    return 0;
}


static int send_data(nghttp2_session *h2, nghttp2_frame *f,
                     const uint8_t *header, size_t n,
                     nghttp2_data_source *source, void *arg)
{
    struct session *s = arg;
    struct buf *out = &s->core.all->out;

    (void) h2;
    (void) f;

    if (buf_len(out) + FRAME_HEADER + n > SEND_MAX) {
        s->full = true;
        return NGHTTP2_ERR_WOULDBLOCK;
    }

    buf_append(out, (const char *) header, FRAME_HEADER);
    stream_take(source->ptr, out, n);

    return 0;
}


/* Out -------------------------------------------------------------------- */

static void write_out(struct session *s)
{
    struct buf *out = &s->core.all->out;
    struct span part = {buf_ptr(out), buf_len(out)};

    if (part.n > 0) {
        exchange_write(s->exchange, &part, 1);
        buf_reset(out);
        s->sent += part.n;
        s->blocked = exchange_pending(s->exchange) > EXCHANGE_HIGH_WATER;
    }
}


static void send_all(struct session *s)
{
    struct buf *out = &s->core.all->out;
    const uint8_t *p;
    ssize_t n;

    do {
        s->full = false;
        n = nghttp2_session_mem_send(s->core.h2, &p);

        if (n > 0) {
            if (buf_len(out) + (size_t) n > SEND_MAX) {
                write_out(s);
            }

            buf_append(out, (const char *) p, (size_t) n);

        } else if (s->full) {
            write_out(s);
        }
    } while ((n > 0 || s->full) && !s->blocked);

    write_out(s);

    if (n < 0) {
        say_why(s, "the session failed", nghttp2_strerror((int) n));
        s->broken = true;
    }
}


static bool is_over(const struct session *s)
{
    return (!nghttp2_session_want_read(s->core.h2) || s->broken)
           && !nghttp2_session_want_write(s->core.h2);
}


/* The last words are sent after this; if not at once, session_tick() looks.
 * If nothing is wrong the proxy closes: to close while something of it is on
 * its way could take away what it has not read of ours. */
static void close_when_sent(struct session *s)
{
    if (s->finished) {
        return;
    }

    if (exchange_pending(s->exchange) == 0) {
        if (s->why[0] != '\0') {
            s->handler->closed(s->arg, s->why);
            return;
        }

        s->finished = true;
        s->said = loop_now(s->core.all->loop);
        exchange_finish(s->exchange);

    } else if (!s->closing) {
        s->closing = true;
        session_wake(&s->core);
    }
}


static void run_flush(struct task *task)
{
    struct session *s = (struct session *) ((char *) task
                                            - offsetof(struct session,
                                                       flush));
    struct session_core *core = &s->core;

    if (s->blocked) {
        if (s->broken) {
            s->handler->closed(s->arg, s->why);
        }

        return;
    }

    while (core->dirty != NULL) {
        struct stream *st = core->dirty;

        core->dirty = stream_flush(st);
        if (core->dirty == NULL) {
            core->dirty_end = &core->dirty;
        }
    }

    send_all(s);

    if (is_over(s)) {
        close_when_sent(s);
    }
}


void session_drain(struct session *s)
{
    s->blocked = false;
    session_wake(&s->core);
}


/* ------------------------------------------------------------------------ */

void session_input(struct session *s, const char *p, size_t n)
{
    ssize_t rc;

    if (s->broken) {
        return;
    }

    s->heard = loop_now(s->core.all->loop);
    s->pinged = false;

    rc = nghttp2_session_mem_recv(s->core.h2, (const uint8_t *) p, n);
    if (rc < 0) {
        break_off(s, rc == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM
                                               : NGHTTP2_PROTOCOL_ERROR,
                  "the proxy breaks the rules of HTTP/2",
                  nghttp2_strerror((int) rc));

    } else if (s->blocked && nghttp2_session_get_outbound_queue_size(
                                 s->core.h2) > QUEUE_MAX) {
        break_off(s, NGHTTP2_ENHANCE_YOUR_CALM,
                  "the proxy sends, but does not read", "");
    }

    session_wake(&s->core);
}


/* One that sends, but does not read, is never quiet. */
static bool is_unread(struct session *s)
{
    uint64_t now = loop_now(s->core.all->loop);
    size_t pending = exchange_pending(s->exchange);

    if (pending == 0 || s->sent - pending != s->taken) {
        s->taken = s->sent - pending;
        s->took = now;
    }

    return now - s->took >= UNREAD_AFTER(s->core.all->options->proxy_timeout);
}


void session_tick(struct session *s)
{
    uint64_t timeout = s->core.all->options->proxy_timeout;
    uint64_t quiet;
    struct stream *st, *next;

    if (s->held) {
        go_on_reading(s);
    }

    for (st = s->core.first; st != NULL; st = next) {
        next = stream_next(st);
        stream_tick(st);
    }

    if (s->finished && loop_now(s->core.all->loop) - s->said >= FINISHED_MS) {
        s->handler->closed(s->arg, NULL);
        return;
    }

    if (is_unread(s)) {
        say_why(s, "the proxy does not read", "");
        s->handler->closed(s->arg, s->why);
        return;
    }

    if (s->closing) {
        session_wake(&s->core);
    }

    if (s->leaving && loop_now(s->core.all->loop) - s->said >= LEAVE_MS) {
        leave(s);
    }

    quiet = loop_now(s->core.all->loop) - s->heard;

    if (quiet >= GONE_AFTER(timeout)) {
        s->handler->closed(s->arg, "the proxy does not answer a PING");

    } else if (quiet >= PING_AFTER(timeout) && !s->pinged) {
        s->pinged = true;
        nghttp2_submit_ping(s->core.h2, NGHTTP2_FLAG_NONE, NULL);
        session_wake(&s->core);
    }
}


void session_goaway(struct session *s)
{
    if (s->leaving) {
        return;
    }

    s->leaving = true;
    s->said = loop_now(s->core.all->loop);
    nghttp2_submit_shutdown_notice(s->core.h2);
    nghttp2_submit_ping(s->core.h2, NGHTTP2_FLAG_NONE, NULL);
    session_wake(&s->core);
}


bool session_is_over(const struct session *s)
{
    return s->finished;
}


size_t session_streams(const struct session *s)
{
    return s->core.nstreams;
}


static void begin(struct session *s)
{
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
         (uint32_t) s->core.all->options->max_concurrency},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEAD_MAX_BYTES},
    };

    nghttp2_submit_settings(s->core.h2, NGHTTP2_FLAG_NONE, settings,
                            sizeof(settings) / sizeof(settings[0]));
    nghttp2_session_set_local_window_size(s->core.h2, NGHTTP2_FLAG_NONE, 0,
                                          CONNECTION_WINDOW);
    session_wake(&s->core);
}


struct session *session_new(struct sessions *all, struct exchange *x,
                            const struct session_handler *handler, void *arg)
{
    struct session *s = mem_zalloc(sizeof(*s));

    s->core.all = all;
    s->core.dirty_end = &s->core.dirty;
    s->exchange = x;
    s->handler = handler;
    s->arg = arg;
    s->flush.run = run_flush;
    s->heard = s->took = loop_now(all->loop);
    budget_init(&s->calm, CALM_BURST, CALM_RATE, s->heard);
    budget_init(&s->resets, CALM_BURST + all->options->max_concurrency,
                RESETS_RATE, s->heard);

    if (nghttp2_session_server_new2(&s->core.h2, all->callbacks, s,
                                    all->option) != 0) {
        abort();
    }

    begin(s);

    return s;
}


void session_free(struct session *s)
{
    while (s->core.first != NULL) {
        stream_free(s->core.first);
    }

    loop_cancel(s->core.all->loop, &s->flush);
    nghttp2_session_del(s->core.h2);
    h2request_free(&s->request);
    loop_defer_free(s->core.all->loop, s);
}


void sessions_init(struct sessions *all, struct loop *loop,
                   const struct options *options, struct backend *backend)
{
    nghttp2_session_callbacks *c;
    nghttp2_option *o;

    all->loop = loop;
    all->options = options;
    all->backend = backend;

    if (nghttp2_session_callbacks_new(&all->callbacks) != 0
        || nghttp2_option_new(&all->option) != 0) {
        abort();
    }

    c = all->callbacks;
    nghttp2_session_callbacks_set_on_begin_headers_callback(c,
                                                           on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(
        c, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(c,
                                                           on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_sent);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(
        c, on_invalid_frame);
    nghttp2_session_callbacks_set_send_data_callback(c, send_data);

    o = all->option;
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_max_outbound_ack(o, ACKS_MAX);
    nghttp2_option_set_max_settings(o, SETTINGS_MAX);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_max_send_header_block_length(o, HEAD_SENT_MAX);
    /* spend_reset() does that, and ends nothing */
    nghttp2_option_set_stream_reset_rate_limit(o, UINT64_MAX, UINT64_MAX);
}


void sessions_free(struct sessions *all)
{
    if (all->callbacks != NULL) {
        nghttp2_session_callbacks_del(all->callbacks);
        nghttp2_option_del(all->option);
    }

    buf_free(&all->out);
}
