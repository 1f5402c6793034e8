#include "post.h"

#define TRIES 3
#define REPLAY_MAX 4096
#define RETRY_MS 100

/*
 * How long a post that has nothing to say yet is not opened. It is opened so
 * that the proxy sees it close when the agent is lost; but most backends
 * answer sooner, and then head, status line and body go out in one piece.
 */
#define OPEN_MS 5


static void finish(struct post *post, bool delivered, const char *why)
{
    post->over = true;
    buf_free(&post->replay);
    post->handler->done(post->arg, delivered, why);
}


static void start(struct post *post);


static void on_retry(uv_timer_t *timer)
{
    struct post *post = timer->data;
    bool held_back = post_pending(post) > EXCHANGE_HIGH_WATER;

    start(post);

    /* what waited may have been sent at once: no drain comes of that */
    if (held_back && post_pending(post) <= EXCHANGE_HIGH_WATER) {
        post->handler->drain(post->arg);
    }
}


static bool try_again(struct post *post)
{
    if (!post->replayable || post->tries == TRIES) {
        return false;
    }

    uv_timer_start(&post->retry, on_retry,
                   (uint64_t) post->tries * RETRY_MS, 0);

    return true;
}


static void on_head(void *arg, const struct head *head)
{
    struct post *post = arg;
    char text[512];

    post->status = head->status;

    if (head->status >= 500 && try_again(post)) {
        exchange_abort(post->exchange);
        post->exchange = NULL;
        return;
    }

    if (head->status == 200 && post->finished) {
        return;
    }

    /* not wanted, or not any more: what waits is of no use */
    proxy_describe(head, text, sizeof(text));
    exchange_abort(post->exchange);
    post->exchange = NULL;
    finish(post, false, text);
}


static void on_data(void *arg, const char *p, size_t n)
{
    (void) arg;
    (void) p;
    (void) n;
}


static void on_drain(void *arg)
{
    struct post *post = arg;

    post->handler->drain(post->arg);
}


static void on_done(void *arg, const struct exchange_end *end)
{
    struct post *post = arg;

    post->exchange = NULL;

    /* with an answer of 200 it was read, whatever became of the connection */
    if (end->result == EXCHANGE_OK || post->status == 200) {
        finish(post, true, "");
        return;
    }

    if (!try_again(post)) {
        finish(post, false, end->why);
    }
}


static const struct exchange_handler handler = {
    .head = on_head,
    .data = on_data,
    .drain = on_drain,
    .done = on_done,
};


/* Once more than a little was handed over there is no second time. */
static void limit_replay(struct post *post)
{
    if (post->replayable && buf_len(&post->replay) > REPLAY_MAX) {
        post->replayable = false;
        buf_free(&post->replay);
    }
}


static void start(struct post *post)
{
    post->tries++;
    post->status = 0;
    post->exchange = proxy_call(post->proxy, CALL_RESPONSE, post->id,
                                post->moved, &handler, post);

    if (buf_len(&post->replay) > 0) {
        struct span part = {buf_ptr(&post->replay), buf_len(&post->replay)};

        exchange_write(post->exchange, &part, 1);
        limit_replay(post);
    }

    if (post->finished) {
        exchange_finish(post->exchange);
    }
}


void post_init(struct post *post, struct loop *loop, struct proxy *proxy,
               const char *id, uint64_t *moved,
               const struct post_handler *post_handler, void *arg)
{
    post->proxy = proxy;
    post->id = id;
    post->moved = moved;
    post->handler = post_handler;
    post->arg = arg;
    post->replayable = true;
    post->over = true; /* not open yet */
    post->retry.data = post;
    uv_timer_init(&loop->uv, &post->retry);
}


void post_open(struct post *post)
{
    post->over = false;
    uv_timer_start(&post->retry, on_retry, OPEN_MS, 0);
}


/* There is something to say: if it was not opened yet, now. */
static void start_first(struct post *post)
{
    if (post->tries == 0) {
        uv_timer_stop(&post->retry);
        start(post);
    }
}


void post_write(struct post *post, const struct span *parts, int nparts)
{
    if (post->over) {
        return;
    }

    /* between two tries all of it is kept: it was not sent at all yet */
    if (post->replayable) {
        for (int i = 0; i < nparts; i++) {
            buf_append(&post->replay, parts[i].p, parts[i].n);
        }
    }

    if (post->exchange == NULL) {
        start_first(post);
        return;
    }

    exchange_write(post->exchange, parts, nparts);
    limit_replay(post);
}


void post_finish(struct post *post)
{
    post->finished = true;

    if (post->over) {
        return;
    }

    if (post->exchange == NULL) {
        start_first(post);

    } else {
        exchange_finish(post->exchange);
    }
}


bool post_retract(struct post *post)
{
    if (post->over || post->finished || !post->replayable
        || (post->exchange != NULL && !exchange_retract(post->exchange))) {
        return false;
    }

    buf_reset(&post->replay);

    return true;
}


size_t post_pending(const struct post *post)
{
    return post->exchange != NULL ? exchange_pending(post->exchange)
                                  : buf_len(&post->replay);
}


void post_abort(struct post *post)
{
    post->over = true;
    uv_timer_stop(&post->retry);
    buf_free(&post->replay);

    if (post->exchange != NULL) {
        exchange_abort(post->exchange);
        post->exchange = NULL;
    }
}


void post_close(struct post *post, uv_close_cb on_closed)
{
    post_abort(post);
    uv_close((uv_handle_t *) &post->retry, on_closed);
}
