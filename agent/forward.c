#include "forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"
#include "message.h"
#include "post.h"
#include "response.h"

#define FETCH_TRIES 3
#define FETCH_RETRY_MS 100
#define USER_ID_MAX 1024

struct forward {
    struct forwarder *forwarder;
    struct forward *next;
    struct forward *prev;
    char *id;
    char *user;
    char *text; /* method and target, for the debug log */
    uint64_t began;
    uint64_t moved; /* when a byte moved last, in any of the three */
    uv_timer_t idle;
    uv_timer_t retry; /* of the fetch */
    int handles;

    struct exchange *fetch; /* NULL when it is over, as backend */
    struct message request;
    int fetch_tries;
    int fetch_status;
    bool request_started; /* its head was taken */
    bool request_whole;
    bool request_refused; /* the rest of it is not wanted */

    struct exchange *backend;
    struct post post;
    bool post_opened;
    bool post_over;
    bool to_head;  /* the method is HEAD */
    bool chunked; /* the body of the response, as it is posted */
    bool answered; /* a head was posted */
    bool timed_out;
    bool ended;
    int status;
};


static void begin_fetch(struct forward *f);
static void arm_idle(struct forward *f);


static void on_handle_closed(uv_handle_t *handle)
{
    struct forward *f = handle->data;

    if (--f->handles == 0) {
        free(f);
    }
}


static void on_post_closed(uv_handle_t *handle)
{
    struct post *post = handle->data;
    struct forward *f = post->arg;

    if (--f->handles == 0) {
        free(f);
    }
}


static void end(struct forward *f)
{
    struct forwarder *all = f->forwarder;

    f->ended = true;

    if (f->fetch != NULL) {
        exchange_abort(f->fetch);
        f->fetch = NULL;
    }

    if (f->backend != NULL) {
        exchange_abort(f->backend);
        f->backend = NULL;
    }

    if (f->text != NULL) {
        log_debug("request %s: %s: %d, %llu ms", f->id, f->text, f->status,
                  (unsigned long long) (loop_now(all->loop) - f->began));
    }

    if (f->prev != NULL) {
        f->prev->next = f->next;
    } else {
        all->first = f->next;
    }

    if (f->next != NULL) {
        f->next->prev = f->prev;
    }

    message_free(&f->request);
    free(f->id);
    free(f->user);
    free(f->text);

    /* closed later; the last one frees f */
    f->handles = 3;
    post_close(&f->post, on_post_closed);
    uv_close((uv_handle_t *) &f->idle, on_handle_closed);
    uv_close((uv_handle_t *) &f->retry, on_handle_closed);

    all->on_end(all->arg);
}


/* The response cannot be finished: let the proxy see that it is cut. */
static void cut(struct forward *f, const char *why)
{
    log_debug("request %s: cut off: %s", f->id, why);
    end(f);
}


/* Post a response of our own, if none is on its way. */
static void refuse(struct forward *f, int status, const char *why)
{
    struct buf text = {0};
    struct span part;

    if (f->backend != NULL) {
        exchange_abort(f->backend);
        f->backend = NULL;
    }

    if (f->answered && !post_retract(&f->post)) {
        cut(f, why);
        return;
    }

    log_debug("request %s: %d: %s", f->id, status, why);

    /* what still comes of it is let pass: a proxy may take a fetch that
     * breaks off for the loss of the agent */
    f->request_refused = true;
    if (f->fetch != NULL) {
        exchange_pause(f->fetch, false);
    }

    if (!f->post_opened) {
        f->post_opened = true;
        post_open(&f->post);
    }

    f->answered = true;
    f->status = status;
    response_error(&text, status, why, f->to_head);
    part = (struct span) {buf_ptr(&text), buf_len(&text)};
    post_write(&f->post, &part, 1);
    post_finish(&f->post);
    buf_free(&text);
}


/* Post ------------------------------------------------------------------- */

static void on_post_drain(void *arg)
{
    struct forward *f = arg;

    if (f->backend != NULL) {
        exchange_pause(f->backend, false);
    }
}


static void on_post_done(void *arg, bool delivered, const char *why)
{
    struct forward *f = arg;

    f->post_over = true;

    if (!delivered) {
        cut(f, why);
        return;
    }

    /* the end of the fetch may be on its way, and its connection worth
     * keeping; what is not whole yet is of no use any more */
    if (f->fetch == NULL || !f->request_whole) {
        end(f);
    }
}


static const struct post_handler post_handler = {
    .drain = on_post_drain,
    .done = on_post_done,
};


/* Backend ---------------------------------------------------------------- */

static void on_backend_head(void *arg, const struct head *head)
{
    struct forward *f = arg;
    struct buf text = {0};
    struct span part;

    f->answered = true;
    f->status = head->status;
    f->chunked = response_is_chunked(head, f->to_head);

    response_head(&text, head, f->to_head);
    part = (struct span) {buf_ptr(&text), buf_len(&text)};
    post_write(&f->post, &part, 1);
    buf_free(&text);
}


static void on_backend_data(void *arg, const char *p, size_t n)
{
    struct forward *f = arg;
    char line[CHUNK_HEADER_MAX];
    struct span parts[3] = {
        {line, chunk_header(line, n)}, {p, n}, SPAN("\r\n")
    };

    if (f->chunked) {
        post_write(&f->post, parts, 3);

    } else {
        post_write(&f->post, &parts[1], 1);
    }

    if (f->backend != NULL && post_pending(&f->post) > EXCHANGE_HIGH_WATER) {
        exchange_pause(f->backend, true);
    }
}


static void on_backend_drain(void *arg)
{
    struct forward *f = arg;

    if (f->fetch != NULL) {
        exchange_pause(f->fetch, false);
    }
}


static void on_backend_done(void *arg, const struct exchange_end *e)
{
    struct forward *f = arg;
    struct buf text = {0};
    struct span part;

    f->backend = NULL;

    if (e->result != EXCHANGE_OK) {
        refuse(f, backend_failed(f->forwarder->backend, e), e->hint);
        return;
    }

    backend_worked(f->forwarder->backend);

    if (f->chunked) {
        response_last_chunk(&text, e->trailers, e->ntrailers);
        part = (struct span) {buf_ptr(&text), buf_len(&text)};
        post_write(&f->post, &part, 1);
        buf_free(&text);
    }

    post_finish(&f->post);
    f->request_refused = true;

    if (f->fetch != NULL) {
        exchange_pause(f->fetch, false);
    }
}


static const struct exchange_handler backend_handler = {
    .head = on_backend_head,
    .data = on_backend_data,
    .drain = on_backend_drain,
    .done = on_backend_done,
};


/* Fetch ------------------------------------------------------------------ */

static void on_request_head(struct forward *f)
{
    struct forwarder *all = f->forwarder;
    const struct head *h = &all->head;
    struct backend_request request = {
        .head = h,
        .length = h->chunked ? EXCHANGE_CHUNKED
                  : h->length >= 0 ? h->length : EXCHANGE_NO_BODY,
        .moved = &f->moved,
    };
    const char *why;
    int status;

    f->request_started = true;
    f->to_head = span_is(h->method, "HEAD");

    if (log_is_debug()) {
        f->text = mem_alloc(h->method.n + h->target.n + 2);
        snprintf(f->text, h->method.n + h->target.n + 2, "%.*s %.*s",
                 (int) h->method.n, h->method.p, (int) h->target.n,
                 h->target.p);
    }

    status = backend_refuses(h, &why);
    if (status != 0) {
        refuse(f, status, why);
        return;
    }

    if (f->user != NULL) {
        request.user = (struct span) {f->user, strlen(f->user)};
    }

    f->backend = backend_start(all->backend, &request, &backend_handler, f);
    f->post_opened = true;
    post_open(&f->post);
}


static void on_request_data(struct forward *f, struct span data)
{
    if (f->backend == NULL) {
        return;
    }

    exchange_write(f->backend, &data, 1);

    if (exchange_pending(f->backend) > EXCHANGE_HIGH_WATER) {
        exchange_pause(f->fetch, true);
    }
}


static void on_request_end(struct forward *f, size_t extra)
{
    if (extra > 0) {
        log_warn("the proxy sent bytes behind the end of a request");
        refuse(f, 502, "the request is not valid");
        return;
    }

    f->request_whole = true;

    if (f->backend != NULL && f->request.body.kind != BODY_NONE) {
        exchange_finish(f->backend);
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


static void on_fetch_data(void *arg, const char *p, size_t n)
{
    struct forward *f = arg;
    struct span in = {p, n}, data;

    for (;;) {
        if (f->ended || f->request_refused || f->fetch_status != 200) {
            return;
        }

        if (f->request_whole) {
            if (in.n > 0) {
                on_request_end(f, in.n);
            }
            return;
        }

        switch (message_next(&f->request, &in, &data)) {

        case MESSAGE_HEAD:
            on_request_head(f);
            break;

        case MESSAGE_DATA:
            on_request_data(f, data);
            break;

        case MESSAGE_MORE:
            return;

        case MESSAGE_END:
            on_request_end(f, message_extra(&f->request, &in));
            return;

        case MESSAGE_INVALID:
            log_invalid(f->request.error);
            refuse(f, 502, "the request is not valid");
            return;
        }
    }
}


static void on_fetch_retry(uv_timer_t *timer)
{
    begin_fetch(timer->data);
}


/* The fetch failed before anything came of it. */
static void fetch_again(struct forward *f, const char *why)
{
    if (f->fetch_tries == FETCH_TRIES) {
        cut(f, why);
        return;
    }

    message_free(&f->request);
    uv_timer_start(&f->retry, on_fetch_retry,
                   (uint64_t) f->fetch_tries * FETCH_RETRY_MS, 0);
}


static void on_fetch_head(void *arg, const struct head *head)
{
    struct forward *f = arg;
    const struct field *user;
    char text[512];

    f->fetch_status = head->status;

    if (head->status == 200) {
        user = head_field(head, "X-Inverting-Proxy-User-ID");
        if (user != NULL && f->user == NULL && user->value.n <= USER_ID_MAX) {
            f->user = mem_dup(user->value.p, user->value.n);
        }

        return;
    }

    proxy_describe(head, text, sizeof(text));

    if (head->status != 404) {
        static struct log_brake brake;
        unsigned others;

        if (log_allowed(&brake, 60000, &others)) {
            log_warn("a request cannot be fetched from the proxy: %s", text);
        }
    }

    if (head->status < 500 && head->status != 404) {
        cut(f, text);
    }
}


static void on_fetch_drain(void *arg)
{
    (void) arg;
}


static void on_fetch_done(void *arg, const struct exchange_end *e)
{
    struct forward *f = arg;

    f->fetch = NULL;

    if (f->request_whole || f->request_refused) {
        /* nothing more is needed from it */
        if (f->post_over) {
            end(f);
        }

    } else if (f->request_started && e->result == EXCHANGE_OK) {
        log_invalid("its body is not whole");
        refuse(f, 502, "the request is not valid");

    } else if (f->request_started) {
        /* the client is gone, or the proxy */
        cut(f, "the request broke off");

    } else if (f->fetch_status == 404) {
        cut(f, "not wanted any more");

    } else if (e->result != EXCHANGE_OK || f->fetch_status >= 500) {
        fetch_again(f, e->result != EXCHANGE_OK ? e->why
                                                : "error of the proxy");

    } else {
        log_invalid("its head is not whole");
        refuse(f, 502, "the request is not valid");
    }
}


static const struct exchange_handler fetch_handler = {
    .head = on_fetch_head,
    .data = on_fetch_data,
    .drain = on_fetch_drain,
    .done = on_fetch_done,
};


static void begin_fetch(struct forward *f)
{
    f->fetch_tries++;
    f->fetch_status = 0;
    message_init(&f->request, HEAD_REQUEST, &f->forwarder->head);
    f->fetch = proxy_call(f->forwarder->proxy, CALL_REQUEST, f->id, &f->moved,
                          &fetch_handler, f);
}


/* ------------------------------------------------------------------------ */

static void on_idle(uv_timer_t *timer)
{
    struct forward *f = timer->data;
    uint64_t quiet = loop_now(f->forwarder->loop) - f->moved;

    if (quiet < f->forwarder->backend->idle_timeout) {
        arm_idle(f);
        return;
    }

    if (f->timed_out || f->answered || !f->request_started) {
        cut(f, "nothing moved for too long");
        return;
    }

    f->timed_out = true;
    f->moved = loop_now(f->forwarder->loop);
    arm_idle(f);
    refuse(f, 504, "the backend did not answer in time");
}


static void arm_idle(struct forward *f)
{
    uint64_t now = loop_now(f->forwarder->loop);

    uv_timer_start(&f->idle, on_idle,
                   f->moved + f->forwarder->backend->idle_timeout - now, 0);
}


void forward_start(struct forwarder *all, const char *id)
{
    struct forward *f = mem_zalloc(sizeof(*f));

    f->forwarder = all;
    f->id = mem_dup(id, strlen(id));
    f->began = f->moved = loop_now(all->loop);
    f->idle.data = f;
    f->retry.data = f;
    uv_timer_init(&all->loop->uv, &f->idle);
    uv_timer_init(&all->loop->uv, &f->retry);
    post_init(&f->post, all->loop, all->proxy, f->id, &f->moved, &post_handler,
              f);

    f->next = all->first;
    if (f->next != NULL) {
        f->next->prev = f;
    }

    all->first = f;

    arm_idle(f);
    begin_fetch(f);
}


void forwarder_init(struct forwarder *f, struct loop *loop,
                    struct proxy *proxy, struct backend *backend)
{
    f->loop = loop;
    f->proxy = proxy;
    f->backend = backend;
}


void forwarder_abort_all(struct forwarder *f)
{
    while (f->first != NULL) {
        end(f->first);
    }
}


void forwarder_free(struct forwarder *f)
{
    head_free(&f->head);
}
