#include "curlmulti.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "memory.h"

/* libcurl asks to be called again at once; after so many times in one turn
 * the sockets come first. */
#define RUNS_PER_TURN 8

/* Connections kept; by default it is so few that bursts open new ones. */
#define CONNECTIONS_KEPT 1024L

/* A descriptor of libcurl's. */
struct sock {
    struct curlmulti *multi;
    struct watch *watch;
    int fd;
    bool ours; /* we are told when it is closed */
    bool idle;
    struct transfer *user; /* or the last one */
};

struct curlmulti {
    struct loop *loop;
    CURLM *curl;
    uv_timer_t timer;
    struct task run;
    uint64_t turn;
    int runs;
    struct sock **socks; /* by descriptor */
    int nsocks;
    bool freed;
};


static struct sock *sock_of(struct curlmulti *m, int fd)
{
    if (fd >= m->nsocks) {
        int n = fd + 64;

        m->socks = mem_realloc(m->socks, (size_t) n * sizeof(*m->socks));
        memset(m->socks + m->nsocks, 0,
               (size_t) (n - m->nsocks) * sizeof(*m->socks));
        m->nsocks = n;
    }

    if (m->socks[fd] == NULL) {
        m->socks[fd] = mem_zalloc(sizeof(struct sock));
        m->socks[fd]->multi = m;
        m->socks[fd]->fd = fd;
    }

    return m->socks[fd];
}


static void forget_sock(struct curlmulti *m, int fd)
{
    struct sock *s = fd < m->nsocks ? m->socks[fd] : NULL;

    if (s == NULL) {
        return;
    }

    if (s->watch != NULL) {
        watch_free(s->watch);
    }

    m->socks[fd] = NULL;
    loop_defer_free(m->loop, s);
}


static void take_messages(struct curlmulti *m)
{
    CURLMsg *msg;
    int left;

    for (;;) {
        struct transfer *t;
        CURLcode result;
        CURL *easy;

        msg = curl_multi_info_read(m->curl, &left);
        if (msg == NULL) {
            return;
        }

        /* the message does not outlive the handle's removal */
        easy = msg->easy_handle;
        result = msg->data.result;

        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &t);
        if (!t->stays) {
            curlmulti_remove(m, t);
        }

        t->done(t, result);
    }
}


static void action(struct curlmulti *m, curl_socket_t fd, int events)
{
    int running;

    curl_multi_socket_action(m->curl, fd, events, &running);
    take_messages(m);
}


/* libcurl (7.88) takes a connection by TLS on which something has come for a
 * good one: only its end is a sign to it. */
static void end_idle(struct sock *s)
{
    char buf[4096];

    shutdown(s->fd, SHUT_RDWR);

    while (recv(s->fd, buf, sizeof(buf), 0) > 0) {
    }

    watch_want(s->watch, 0);
}


static void on_socket(void *arg, int events)
{
    struct sock *s = arg;
    int mask = 0;

    if (s->idle) {
        end_idle(s);
        return;
    }

    if ((events & UV_READABLE) != 0) {
        mask |= CURL_CSELECT_IN;
    }

    if ((events & UV_WRITABLE) != 0) {
        mask |= CURL_CSELECT_OUT;
    }

    action(s->multi, s->fd, mask);
}


static void run(struct task *task)
{
    struct curlmulti *m = (struct curlmulti *) ((char *) task
                                                - offsetof(struct curlmulti,
                                                           run));

    m->runs++;
    action(m, CURL_SOCKET_TIMEOUT, 0);
}


static void on_timer(uv_timer_t *timer)
{
    struct curlmulti *m = timer->data;

    action(m, CURL_SOCKET_TIMEOUT, 0);
}


/* Callbacks of libcurl: they call nothing of libcurl that does anything. -- */

static int socket_cb(CURL *easy, curl_socket_t fd, int what, void *arg,
                     void *unused)
{
    struct curlmulti *m = arg;
    struct sock *s = sock_of(m, fd);
    struct transfer *t = NULL;
    int want = 0;

    (void) unused;

    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &t);
    if (t != NULL && t->watched != NULL) {
        t->watched(t, fd, what != CURL_POLL_REMOVE);
    }

    if (what == CURL_POLL_REMOVE) {
        /*
         * A connection that becomes idle is watched on lazily: it is wanted
         * again soon. But only where we get to know when it is closed.
         */
        if (s->ours && s->watch != NULL) {
            watch_want(s->watch, 0);
        } else if (!s->ours) {
            forget_sock(m, fd);
        }

        return 0;
    }

    if (s->watch == NULL) {
        s->watch = watch_new(m->loop, fd, on_socket, s);
        if (s->watch == NULL) {
            return -1;
        }
    }

    if ((what & CURL_POLL_IN) != 0) {
        want |= UV_READABLE;
    }

    if ((what & CURL_POLL_OUT) != 0) {
        want |= UV_WRITABLE;
    }

    watch_want(s->watch, want);
    s->user = t;
    s->idle = false;

    return 0;
}


static int timer_cb(CURLM *curl, long timeout_ms, void *arg)
{
    struct curlmulti *m = arg;

    (void) curl;

    if (m->freed) {
        return 0;
    }

    if (timeout_ms < 0) {
        uv_timer_stop(&m->timer);
        return 0;
    }

    if (m->turn != m->loop->turn) {
        m->turn = m->loop->turn;
        m->runs = 0;
    }

    if (timeout_ms == 0 && m->runs < RUNS_PER_TURN) {
        uv_timer_stop(&m->timer);
        loop_defer(m->loop, &m->run);
    } else {
        uv_timer_start(&m->timer, on_timer, (uint64_t) timeout_ms, 0);
    }

    return 0;
}


static curl_socket_t open_cb(void *arg, curlsocktype purpose,
                             struct curl_sockaddr *address)
{
    struct curlmulti *m = arg;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
                    address->protocol);

    (void) purpose;

    if (fd < 0) {
        return CURL_SOCKET_BAD;
    }

    sock_of(m, fd)->ours = true;

    return fd;
}


static int close_cb(void *arg, curl_socket_t fd)
{
    forget_sock(arg, fd);

    return close(fd);
}


/* ------------------------------------------------------------------------ */

struct curlmulti *curlmulti_new(struct loop *loop)
{
    struct curlmulti *m = mem_zalloc(sizeof(*m));

    m->loop = loop;
    m->run.run = run;
    m->timer.data = m;
    uv_timer_init(&loop->uv, &m->timer);

    m->curl = curl_multi_init();
    if (m->curl == NULL) {
        log_error("libcurl cannot be initialised");
        abort();
    }

    curl_multi_setopt(m->curl, CURLMOPT_SOCKETFUNCTION, socket_cb);
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
    /* one that is paused while others go on is held in memory, up to 32 MB of
     * it, and a GOAWAY loses those that have a body */
    curl_multi_setopt(m->curl, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERFUNCTION, timer_cb);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERDATA, m);

    return m;
}


static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}


void curlmulti_free(struct curlmulti *m)
{
    m->freed = true;
    curl_multi_cleanup(m->curl);
    loop_cancel(m->loop, &m->run);

    for (int fd = 0; fd < m->nsocks; fd++) {
        forget_sock(m, fd);
    }

    free(m->socks);
    uv_close((uv_handle_t *) &m->timer, on_timer_closed);
}


CURL *curlmulti_easy(struct curlmulti *m)
{
    CURL *easy = curl_easy_init();

    if (easy == NULL) {
        log_error("out of memory");
        abort();
    }

    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* a name that is given up: do not wait for the thread that resolves it */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    /* of a -client-key: else it is asked for on the terminal, meanwhile
     * nothing else is done */
    curl_easy_setopt(easy, CURLOPT_KEYPASSWD, "");
    /* else those of a -ca-file are what they were for a day; bursts of
     * connections need not read it each time */
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 1L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_cb);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, m);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_cb);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, m);

    return easy;
}


void curlmulti_add(struct curlmulti *m, struct transfer *t)
{
    CURLMcode rc;

    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);

    rc = curl_multi_add_handle(m->curl, t->easy);
    if (rc != CURLM_OK) {
        log_error("libcurl: %s", curl_multi_strerror(rc));
        t->done(t, CURLE_FAILED_INIT);
    }
}


void curlmulti_remove(struct curlmulti *m, struct transfer *t)
{
    curl_multi_remove_handle(m->curl, t->easy);
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, NULL);
}


void curlmulti_push(struct curlmulti *m, struct transfer *t)
{
    curl_socket_t fd = CURL_SOCKET_BAD;

    curl_easy_getinfo(t->easy, CURLINFO_ACTIVESOCKET, &fd);

    if (fd != CURL_SOCKET_BAD) {
        action(m, fd, CURL_CSELECT_OUT);
    }
}


void curlmulti_idle(struct curlmulti *m, struct transfer *t, int fd)
{
    struct sock *s = fd >= 0 && fd < m->nsocks ? m->socks[fd] : NULL;

    /* else it was closed, and may be another one already */
    if (s != NULL && s->ours && s->user == t) {
        s->idle = true;
        watch_want(s->watch, UV_READABLE);
    }
}


void curlmulti_let_go(struct curlmulti *m, int fd)
{
    forget_sock(m, fd);
}
