#include "h2conn.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define STREAM_WINDOW (128 * 1024) /* what may come for one that is paused */
#define CONNECTION_WINDOW (16 * 1024 * 1024)
#define STREAMS_MAX 100 /* then another connection is dialled */
#define SEND_MAX (64 * 1024) /* in one go */
#define IDLE_TIMEOUT_MS 50000

/* The largest head of a request, as nghttp2 estimates it: it would leave out
 * what is larger. */
#define HEAD_SENT_MAX (2 * HEAD_MAX_BYTES)

/* A connection on which nothing came for so long, since a request that was
 * then given up, may be dead: others are not to wait for it, too. There are no
 * PINGs: servers of gRPC take them for an attack. */
#define SILENCE_MS 5000


/* Servers end a connection on which very many streams are reset, with all that
 * is in progress there (Netty after 200 in half a minute, those with nghttp2
 * after 1000): it gets no more before that. */
#define RESETS_MAX 100


static void wake(struct h2conn *c)
{
    loop_defer(c->loop, &c->flush);
}


/* Streams ---------------------------------------------------------------- */

static void add_stream(struct h2conn *c, struct h2stream *s)
{
    s->next = c->first;
    if (s->next != NULL) {
        s->next->prev = s;
    }

    c->first = s;
    c->nstreams++;
}


static void remove_stream(struct h2stream *s)
{
    struct h2conn *c = s->conn;

    if (s->prev != NULL) {
        s->prev->next = s->next;
    } else {
        c->first = s->next;
    }

    if (s->next != NULL) {
        s->next->prev = s->prev;
    }

    nghttp2_session_set_stream_user_data(c->h2, s->id, NULL);
    s->conn = NULL;
    c->nstreams--;
    c->since = loop_now(c->loop);
    wake(c);
}


static void lose(struct h2stream *s, enum exchange_result result, bool refused,
                 const char *why)
{
    const struct h2conn_handler *handler = s->conn->handler;

    remove_stream(s);
    handler->lost(s, result, refused, why);
}


/* How many streams the backend allows, as far as is known. */
static size_t streams_allowed(const struct h2conn *c)
{
    return c->settled ? nghttp2_session_get_remote_settings(
                            c->h2, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
                      : *c->allowed;
}


static size_t room(const struct h2conn *c)
{
    size_t max = streams_allowed(c);

    max = max < STREAMS_MAX ? max : STREAMS_MAX;

    if (c->retired || c->nstreams >= max
        || !nghttp2_session_check_request_allowed(c->h2)) {
        return 0;
    }

    return max - c->nstreams;
}


/* Uploads that the backend does not take may have all of the window: bodies of
 * other requests would wait for them. */
size_t h2conn_room(const struct h2conn *c)
{
    return nghttp2_session_get_remote_window_size(c->h2) > 0 ? room(c) : 0;
}


static ssize_t on_read(nghttp2_session *h2, int32_t id, uint8_t *p, size_t n,
                       uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2conn *c = arg;
    struct h2stream *s = nghttp2_session_get_stream_user_data(h2, id);
    bool end = false;

    (void) source;

    if (s == NULL) {
        return NGHTTP2_ERR_DEFERRED;
    }

    n = c->handler->take(s, (char *) p, n, &end);

    if (end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;

    } else if (n == 0) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }

    return (ssize_t) n;
}


bool h2conn_request(struct h2conn *c, struct h2stream *s,
                    const struct h2fields *fields, bool body)
{
    nghttp2_data_provider provider = {.read_callback = on_read};

    s->id = nghttp2_submit_request(c->h2, NULL, fields->nv, fields->n,
                                   body ? &provider : NULL, s);
    if (s->id < 0) {
        c->retired = true;
        wake(c);
        return false;
    }

    s->conn = c;
    s->since = loop_now(c->loop);
    s->kept = c->worked;
    add_stream(c, s);
    wake(c);

    return true;
}


void h2conn_resume(struct h2stream *s)
{
    if (s->deferred) {
        s->deferred = false;
        nghttp2_session_resume_data(s->conn->h2, s->id);
        wake(s->conn);
    }
}


void h2conn_consume(struct h2stream *s, size_t n)
{
    nghttp2_session_consume_stream(s->conn->h2, s->id, n);
    wake(s->conn);
}


static void reset(struct h2conn *c, int32_t id)
{
    nghttp2_submit_rst_stream(c->h2, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);

    if (++c->resets == RESETS_MAX) {
        c->retired = true;
    }
}


void h2conn_reset(struct h2stream *s)
{
    struct h2conn *c = s->conn;

    if (c->heard <= s->since
        && loop_now(c->loop) - s->since >= SILENCE_MS) {
        c->retired = true;
    }

    remove_stream(s);
    reset(c, s->id);
}


/* What nghttp2 calls back ------------------------------------------------ */

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *f,
                            void *arg)
{
    struct h2conn *c = arg;

    (void) h2;
    (void) f;

    h2response_begin(&c->response);

    return 0;
}


static int on_header(nghttp2_session *h2, const nghttp2_frame *f,
                     const uint8_t *name, size_t nname, const uint8_t *value,
                     size_t nvalue, uint8_t flags, void *arg)
{
    struct h2conn *c = arg;
    struct h2stream *s = nghttp2_session_get_stream_user_data(
        h2, f->hd.stream_id);

    (void) flags;

    h2response_field(&c->response,
                     (struct span) {(const char *) name, nname},
                     (struct span) {(const char *) value, nvalue});

    if (!c->response.too_large) {
        return 0;
    }

    if (s != NULL) {
        s->invalid = "too large a head";
    }

    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}


/* By default these are left out of the response in silence. */
static int on_invalid_header(nghttp2_session *h2, const nghttp2_frame *f,
                             const uint8_t *name, size_t nname,
                             const uint8_t *value, size_t nvalue,
                             uint8_t flags, void *arg)
{
    struct h2stream *s = nghttp2_session_get_stream_user_data(
        h2, f->hd.stream_id);

    (void) name;
    (void) nname;
    (void) value;
    (void) nvalue;
    (void) flags;
    (void) arg;

    if (s != NULL) {
        s->invalid = "an invalid field";
    }

    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}


/* Whatever is left of the request: nobody asks for it. */
static void finish(struct h2conn *c, int32_t id, const struct head *trailers)
{
    struct h2stream *s = nghttp2_session_get_stream_user_data(c->h2, id);

    if (s == NULL) {
        return;
    }

    remove_stream(s);

    if (nghttp2_session_get_stream_local_close(c->h2, id) == 0) {
        reset(c, id);
    }

    c->handler->end(s, trailers);
}


static void on_headers(struct h2conn *c, const nghttp2_frame *f)
{
    static const struct head none;
    struct h2stream *s = nghttp2_session_get_stream_user_data(
        c->h2, f->hd.stream_id);
    bool end = (f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    if (s == NULL) {
        return;
    }

    if (s->answered) {
        finish(c, f->hd.stream_id, &c->response.head);

    } else if (c->response.head.status >= 200) {
        s->answered = true;
        c->worked = true;
        c->handler->head(s, &c->response.head);

        if (end) {
            finish(c, f->hd.stream_id, &none);
        }

    } else if (c->response.head.status < 100) {
        /* to nghttp2 that is a final one */
        reset(c, s->id);
        lose(s, EXCHANGE_BAD, false, "an invalid status");
    }
}


static int on_frame(nghttp2_session *h2, const nghttp2_frame *f, void *arg)
{
    static const struct head none;
    struct h2conn *c = arg;
    size_t n;

    (void) h2;

    switch (f->hd.type) {

    case NGHTTP2_HEADERS:
        on_headers(c, f);
        break;

    case NGHTTP2_DATA:
        if ((f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            finish(c, f->hd.stream_id, &none);
        }
        break;

    case NGHTTP2_SETTINGS:
        c->settled = true;
        /* a new connection has room for one in any case */
        n = streams_allowed(c);
        *c->allowed = n > 0 ? n : 1;
        break;

    case NGHTTP2_GOAWAY:
        c->retired = true;
        break;
    }

    return 0;
}


static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id,
                   const uint8_t *p, size_t n, void *arg)
{
    struct h2conn *c = arg;
    struct h2stream *s = nghttp2_session_get_stream_user_data(h2, id);

    (void) flags;

    nghttp2_session_consume_connection(h2, n);

    if (s != NULL && n > 0) {
        c->handler->data(s, (const char *) p, n);
    }

    return 0;
}


static int on_frame_sent(nghttp2_session *h2, const nghttp2_frame *f,
                         void *arg)
{
    struct h2stream *s = nghttp2_session_get_stream_user_data(
        h2, f->hd.stream_id);

    (void) arg;

    if (s != NULL) {
        s->sent = true;
    }

    return 0;
}


static int on_stream_close(nghttp2_session *h2, int32_t id, uint32_t code,
                           void *arg)
{
    struct h2stream *s = nghttp2_session_get_stream_user_data(h2, id);
    char why[80];

    (void) arg;

    if (s == NULL) {
        return 0;
    }

    if (s->invalid != NULL) {
        lose(s, EXCHANGE_BAD, false, s->invalid);
        return 0;
    }

    /* the connection goes on: that it had been kept is not why */
    s->kept = false;

    snprintf(why, sizeof(why), "the stream was reset: %s",
             nghttp2_http2_strerror(code));
    lose(s, EXCHANGE_RESET, code == NGHTTP2_REFUSED_STREAM, why);

    return 0;
}


/* A request is not sent when the backend has said GOAWAY meanwhile. */
static int on_frame_not_sent(nghttp2_session *h2, const nghttp2_frame *f,
                             int error, void *arg)
{
    struct h2conn *c = arg;
    struct h2stream *s = c->first;

    (void) h2;

    if (f->hd.type != NGHTTP2_HEADERS) {
        return 0;
    }

    /* it may have no stream yet that could be asked */
    while (s != NULL && s->id != f->hd.stream_id) {
        s = s->next;
    }

    if (s != NULL) {
        lose(s, EXCHANGE_RESET, error == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED,
             nghttp2_strerror(error));
    }

    return 0;
}


/* The connection --------------------------------------------------------- */

static void release(struct h2conn *c)
{
    if (c->conn != NULL) {
        conn_close(c->conn);
    }

    loop_cancel(c->loop, &c->flush);
    nghttp2_session_del(c->h2);
    h2response_free(&c->response);
    buf_free(&c->out);
    loop_defer_free(c->loop, c);
}


void h2conn_free(struct h2conn *c)
{
    release(c);
}


static void close_down(struct h2conn *c, enum exchange_result result,
                       const char *why)
{
    bool opened = c->conn != NULL;

    c->retired = true;

    while (c->first != NULL) {
        lose(c->first, result, opened && !c->first->sent, why);
    }

    c->handler->closed(c->arg, c);
    release(c);
}


/* An answer may have come before the peer closed: reading tells. */
static void write_failed(struct h2conn *c)
{
    c->deaf = true;
    c->retired = true;
    c->blocked = false;
    buf_free(&c->out);
}


static void send_out(struct h2conn *c)
{
    struct iovec iov = {buf_ptr(&c->out), buf_len(&c->out)};
    ssize_t n = conn_send(c->conn, &iov, 1);

    if (n >= 0) {
        buf_consume(&c->out, (size_t) n);

    } else if (errno != EAGAIN) {
        write_failed(c);
        return;
    }

    c->blocked = buf_len(&c->out) > 0;
}


/* What nghttp2 has to send; it must be emptied even for one who is deaf. */
static void send_all(struct h2conn *c)
{
    const uint8_t *p;
    ssize_t n = 0;

    while (!c->blocked) {
        if (buf_len(&c->out) < SEND_MAX) {
            n = nghttp2_session_mem_send(c->h2, &p);

            if (n < 0) {
                c->broken = nghttp2_strerror((int) n);
                return;
            }

            if (n > 0) {
                if (!c->deaf) {
                    buf_append(&c->out, (const char *) p, (size_t) n);
                }

                continue;
            }
        }

        if (buf_len(&c->out) == 0) {
            return;
        }

        send_out(c);
    }
}


/* Whether it is of no use any more. A backend that allows no streams at all is
 * tried again with a new one. */
static bool is_spent(const struct h2conn *c)
{
    return c->nstreams == 0 && (c->retired || room(c) == 0);
}


static void run_flush(struct task *task)
{
    struct h2conn *c = (struct h2conn *) ((char *) task
                                          - offsetof(struct h2conn, flush));

    if (c->conn->opening) {
        return;
    }

    if (is_spent(c)) {
        nghttp2_session_terminate_session(c->h2, NGHTTP2_NO_ERROR);
        send_all(c);
        close_down(c, EXCHANGE_OK, "");
        return;
    }

    send_all(c);

    if (c->broken == NULL && !nghttp2_session_want_read(c->h2)
        && (c->blocked || !nghttp2_session_want_write(c->h2))) {
        c->broken = c->settled ? "the backend breaks the rules of HTTP/2"
                               : "the backend does not speak HTTP/2";
    }

    if (c->broken != NULL) {
        close_down(c, EXCHANGE_BAD, c->broken);
        return;
    }

    watch_want(c->conn->watch, UV_READABLE | (c->blocked ? UV_WRITABLE : 0));
}


static void readable(struct h2conn *c)
{
    struct loop *loop = c->loop;
    ssize_t n = conn_recv(c->conn, loop->scratch, sizeof(loop->scratch));

    if (n < 0 && errno == EAGAIN) {
        return;
    }

    if (n <= 0) {
        close_down(c, EXCHANGE_RESET,
                   n < 0 ? "the connection was lost"
                   : c->settled ? "the connection was closed"
                   : "the connection was closed without an answer");
        return;
    }

    c->heard = loop_now(loop);
    conn_more(c->conn);

    n = nghttp2_session_mem_recv(c->h2, (const uint8_t *) loop->scratch,
                                 (size_t) n);
    if (n < 0) {
        c->broken = nghttp2_strerror((int) n);
    }

    wake(c);
}


static void on_open(void *arg)
{
    struct h2conn *c = arg;

    c->heard = loop_now(c->loop);
    wake(c);
}


static void on_fail(void *arg, enum exchange_result result, const char *why)
{
    struct h2conn *c = arg;

    c->conn = NULL;
    close_down(c, result, why);
}


static void on_event(void *arg, int events)
{
    struct h2conn *c = arg;

    if ((events & UV_WRITABLE) != 0) {
        c->blocked = false;
        wake(c);
    }

    if ((events & UV_READABLE) != 0) {
        readable(c);
    }
}


void h2conn_tick(struct h2conn *c)
{
    if (c->nstreams == 0 && !c->conn->opening
        && loop_now(c->loop) - c->since > IDLE_TIMEOUT_MS) {
        c->retired = true;
        wake(c);
    }
}


static nghttp2_session_callbacks *new_callbacks(void)
{
    nghttp2_session_callbacks *c;

    if (nghttp2_session_callbacks_new(&c) != 0) {
        abort();
    }

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
    nghttp2_session_callbacks_set_on_frame_not_send_callback(
        c, on_frame_not_sent);

    return c;
}


static nghttp2_option *new_option(void)
{
    nghttp2_option *o;

    if (nghttp2_option_new(&o) != 0) {
        abort();
    }

    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_max_send_header_block_length(o, HEAD_SENT_MAX);
    /* h2response_field() takes it away */
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(o, 1);

    return o;
}


static void new_session(struct h2conn *c)
{
    nghttp2_session_callbacks *callbacks = new_callbacks();
    nghttp2_option *option = new_option();
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEAD_MAX_BYTES},
    };

    if (nghttp2_session_client_new2(&c->h2, callbacks, c, option) != 0) {
        abort();
    }

    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings,
                            sizeof(settings) / sizeof(settings[0]));
    nghttp2_session_set_local_window_size(c->h2, NGHTTP2_FLAG_NONE, 0,
                                          CONNECTION_WINDOW);
}


struct h2conn *h2conn_new(struct loop *loop, struct pool *pool,
                          const struct h2conn_handler *handler, void *arg,
                          size_t *allowed)
{
    struct h2conn *c = mem_zalloc(sizeof(*c));

    c->handler = handler;
    c->arg = arg;
    c->allowed = allowed;
    c->loop = loop;
    c->flush.run = run_flush;
    c->since = loop_now(loop);
    new_session(c);

    c->conn = pool_get(pool, POOL_FRESH);
    c->conn->on_open = on_open;
    c->conn->on_fail = on_fail;
    c->conn->on_event = on_event;
    c->conn->arg = c;

    return c;
}
