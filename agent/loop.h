/*
 * The event loop: libuv's, plus work put off to the end of a turn. Whatever
 * the sockets of one turn brought is handled first; then the deferred tasks
 * run (writes are batched that way, and libcurl is never called from its own
 * callbacks); then the polled descriptors are adjusted, once.
 */

#ifndef AGENT_LOOP_H
#define AGENT_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

struct task {
    struct task *next;
    void (*run)(struct task *task);
    bool queued;
};

struct watch {
    uv_poll_t poll;
    struct loop *loop;
    struct watch *next; /* in the loop's list of changed ones */
    void (*cb)(void *arg, int events);
    void *arg;
    int want;
    int armed;
    bool changed;
};

#define LOOP_SCRATCH (128 * 1024)

struct loop {
    uv_loop_t uv;
    uv_prepare_t prepare;
    uv_idle_t again; /* active: tasks are left, do not sleep */
    struct task *head;
    struct task **tail;
    struct watch *changed;
    uint64_t turn; /* counts them */
    void **graveyard;
    size_t ngraves;
    size_t graves_room;
    char scratch[LOOP_SCRATCH]; /* what one read brought; see loop_scratch */
};

/* Returns 0 or libuv's error. */
int loop_init(struct loop *loop);

/* Runs until loop_stop(). */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Closes what is left, frees what was deferred; false if a name is still being
 * resolved, which may take minutes: exit() would wait for that, too. */
bool loop_free(struct loop *loop);

/* Milliseconds, cached per turn. */
static inline uint64_t loop_now(struct loop *loop)
{
    return uv_now(&loop->uv);
}

/* Run task->run(task) at the end of this turn; nothing if already queued. */
void loop_defer(struct loop *loop, struct task *task);

/* Run the deferred tasks now; for the end of the program. */
void loop_run_tasks(struct loop *loop);

/* Take a task back. */
void loop_cancel(struct loop *loop, struct task *task);

/* free(p) at the end of this turn, after all tasks: for what may be in use
 * further up the stack. No task within it may be queued then. */
void loop_defer_free(struct loop *loop, void *p);

/*
 * Watch a descriptor; cb gets UV_READABLE and UV_WRITABLE as wanted (both
 * wanted ones upon an error: the next system call tells which). Starts with
 * nothing wanted. Interest is taken away lazily, when an event nobody wants
 * arrives: most of the time it is wanted again before that, and a change
 * costs two system calls.
 */
struct watch *watch_new(struct loop *loop, int fd,
                        void (*cb)(void *arg, int events), void *arg);
void watch_want(struct watch *w, int events);

/* To be called before the descriptor is closed. */
void watch_free(struct watch *w);

#endif
