#include "loop.h"

#include <stdlib.h>

#include "log.h"
#include "memory.h"

/* Tasks queue tasks; so many a turn, then the sockets have their turn. */
#define TASKS_PER_TURN 10000

#define CLOSING_TURNS 3


static void on_again(uv_idle_t *again)
{
    (void) again;
}


void loop_run_tasks(struct loop *loop)
{
    for (int i = 0; i < TASKS_PER_TURN && loop->head != NULL; i++) {
        struct task *task = loop->head;

        loop->head = task->next;
        if (loop->head == NULL) {
            loop->tail = &loop->head;
        }

        task->queued = false;
        task->run(task);
    }

    if (loop->head != NULL) {
        uv_idle_start(&loop->again, on_again);
    } else if (uv_is_active((uv_handle_t *) &loop->again)) {
        uv_idle_stop(&loop->again);
    }
}


static void bury(struct loop *loop)
{
    while (loop->ngraves > 0) {
        free(loop->graveyard[--loop->ngraves]);
    }
}


static void on_watch(uv_poll_t *poll, int status, int events);


static void arm(struct watch *w)
{
    int rc;

    if (w->armed == w->want) {
        return;
    }

    w->armed = w->want;
    rc = w->want != 0 ? uv_poll_start(&w->poll, w->want, on_watch)
                      : uv_poll_stop(&w->poll);
    if (rc != 0) {
        log_error("cannot watch a socket: %s", uv_strerror(rc));
    }
}


static void on_watch(uv_poll_t *poll, int status, int events)
{
    struct watch *w = poll->data;

    if (status < 0) {
        /* libuv has stopped it */
        w->armed = 0;
        events = w->want;

        if (!w->changed && w->want != 0) {
            w->changed = true;
            w->next = w->loop->changed;
            w->loop->changed = w;
        }

    } else if ((events & ~w->want) != 0) {
        arm(w);
    }

    events &= w->want;

    if (events != 0) {
        w->cb(w->arg, events);
    }
}


static void on_prepare(uv_prepare_t *prepare)
{
    struct loop *loop = prepare->data;

    loop->turn++;
    loop_run_tasks(loop);

    while (loop->changed != NULL) {
        struct watch *w = loop->changed;

        loop->changed = w->next;
        w->changed = false;

        if ((w->want & ~w->armed) != 0) {
            arm(w);
        }
    }

    if (loop->head == NULL) {
        bury(loop);
    }
}


int loop_init(struct loop *loop)
{
    int rc = uv_loop_init(&loop->uv);

    if (rc != 0) {
        return rc;
    }

    loop->tail = &loop->head;
    loop->prepare.data = loop;
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_prepare_start(&loop->prepare, on_prepare);
    uv_idle_init(&loop->uv, &loop->again);

    return 0;
}


void loop_run(struct loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}


void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}


static void close_handle(uv_handle_t *handle, void *arg)
{
    (void) arg;

    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}


bool loop_free(struct loop *loop)
{
    loop_run_tasks(loop);
    uv_walk(&loop->uv, close_handle, NULL);

    for (int i = 0; i < CLOSING_TURNS && uv_run(&loop->uv, UV_RUN_NOWAIT) != 0;
         i++)
    {
        /* handles are closed at the end of a turn */
    }

    bury(loop);
    free(loop->graveyard);

    return uv_loop_close(&loop->uv) == 0;
}


void loop_defer(struct loop *loop, struct task *task)
{
    if (task->queued) {
        return;
    }

    task->queued = true;
    task->next = NULL;
    *loop->tail = task;
    loop->tail = &task->next;
}


void loop_cancel(struct loop *loop, struct task *task)
{
    struct task **link = &loop->head;

    if (!task->queued) {
        return;
    }

    while (*link != task) {
        link = &(*link)->next;
    }

    *link = task->next;
    if (loop->tail == &task->next) {
        loop->tail = link;
    }

    task->queued = false;
}


void loop_defer_free(struct loop *loop, void *p)
{
    if (loop->ngraves == loop->graves_room) {
        loop->graves_room = loop->graves_room ? loop->graves_room * 2 : 64;
        loop->graveyard = mem_realloc(loop->graveyard, loop->graves_room
                                                       * sizeof(void *));
    }

    loop->graveyard[loop->ngraves++] = p;
}


struct watch *watch_new(struct loop *loop, int fd,
                        void (*cb)(void *arg, int events), void *arg)
{
    struct watch *w = mem_zalloc(sizeof(*w));
    int rc;

    w->loop = loop;
    w->cb = cb;
    w->arg = arg;

    rc = uv_poll_init(&loop->uv, &w->poll, fd);
    if (rc != 0) {
        log_error("cannot watch a socket: %s", uv_strerror(rc));
        free(w);
        return NULL;
    }

    w->poll.data = w;

    return w;
}


void watch_want(struct watch *w, int events)
{
    w->want = events;

    if ((events & ~w->armed) != 0 && !w->changed) {
        w->changed = true;
        w->next = w->loop->changed;
        w->loop->changed = w;
    }
}


static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}


void watch_free(struct watch *w)
{
    if (w->changed) {
        struct watch **link = &w->loop->changed;

        while (*link != w) {
            link = &(*link)->next;
        }

        *link = w->next;
    }

    w->want = 0;
    uv_close((uv_handle_t *) &w->poll, on_closed);
}
