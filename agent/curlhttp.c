#include "curlhttp.h"

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "curlmulti.h"
#include "memory.h"
#include "body.h"

#define CONNECT_TIMEOUT_MS 10000L
#define BUFFER_BYTES (32 * 1024L) /* each way and transfer */
#define EASY_KEPT 128 /* idle handles */
/* Before, a head of a response that begins with a folded line continues the
 * last one that the handle has seen, whose memory is another's by then:
 * https://github.com/curl/curl/issues/11101 */
#define HANDLES_LAST 0x080100u

struct curlhttp {
    struct carrier base;
    struct loop *loop;
    struct curlhttp_config config;
    char *url; /* without a path */
    struct curlmulti *multi;
    struct head head;     /* the one being looked at */
    struct buf scratch;
    CURL *idle[EASY_KEPT];
    size_t nidle, nkept; /* as many as there may be */
};

struct curl_exchange {
    struct exchange base;
    struct transfer transfer;
    struct curlhttp *http;
    struct task task; /* what is to be done outside of libcurl's callbacks */
    struct curl_slist *fields;
    char error[CURL_ERROR_SIZE];
    const char *invalid; /* what was wrong with the response */
    uint64_t *moved;

    struct buf out;
    bool finished;
    bool body_taken;   /* libcurl has some of it */
    bool send_waiting; /* libcurl was told to wait for more */
    bool push;         /* only the end is left to be sent */
    int fd;            /* the socket that is watched, or was */
    bool unwatched;
    bool want_drain;

    struct buf lines; /* of a head, later of the trailer section */
    bool in_body;
    bool upload;  /* the request has a body */
    bool no_body; /* it has none, which libcurl does not know */
    int64_t left; /* of the body; -1 is unknown */
    bool whole;   /* it is, whatever libcurl waits for */
    bool paused;       /* as asked for */
    bool recv_waiting; /* libcurl was told to hold back */

    bool once; /* not to be sent a second time */
    bool sent;
    bool added;
    bool clean; /* the handle can be used again */
    bool over;  /* aborted, or done */
};


static void defer(struct curl_exchange *x)
{
    loop_defer(x->http->loop, &x->task);
}


static void dispose(struct curl_exchange *x)
{
    struct curlhttp *http = x->http;

    x->over = true;
    loop_cancel(http->loop, &x->task);

    if (x->clean && http->nidle < http->nkept) {
        http->idle[http->nidle++] = x->transfer.easy;
    } else {
        curl_easy_cleanup(x->transfer.easy);
    }

    curl_slist_free_all(x->fields);
    buf_free(&x->out);
    buf_free(&x->lines);
    loop_defer_free(http->loop, x);
}


static void on_done(struct transfer *t, CURLcode code);


/* While libcurl waits for more of a request it does not tell that the
 * connection was closed: it only reads no more. (An end that may be that of
 * the response is left to it.) */
static bool is_lost(const struct curl_exchange *x)
{
    return x->unwatched && x->send_waiting && !x->recv_waiting
           && (!x->in_body || x->left > 0);
}


static void run_task(struct task *task)
{
    struct curl_exchange *x = (struct curl_exchange *)
                              ((char *) task - offsetof(struct curl_exchange,
                                                        task));
    bool change = false;

    if (x->over) {
        if (x->added) {
            curlmulti_remove(x->http->multi, &x->transfer);
        }

        dispose(x);
        return;
    }

    if (x->whole) {
        curlmulti_remove(x->http->multi, &x->transfer);
        on_done(&x->transfer, CURLE_OK);
        return;
    }

    if (!x->added) {
        x->added = true;
        curlmulti_add(x->http->multi, &x->transfer);
        return;
    }

    if (is_lost(x)) {
        curlmulti_remove(x->http->multi, &x->transfer);
        on_done(&x->transfer, x->in_body ? CURLE_PARTIAL_FILE
                                         : CURLE_GOT_NOTHING);
        return;
    }

    if (x->push) {
        x->push = false;
        curlmulti_push(x->http->multi, &x->transfer);

        if (x->over) {
            return;
        }
    }

    if (x->send_waiting && (buf_len(&x->out) > 0 || x->finished)) {
        x->send_waiting = false;
        change = true;
    }

    if (x->recv_waiting && !x->paused) {
        x->recv_waiting = false;
        change = true;
    }

    if (change) {
        curl_easy_pause(x->transfer.easy,
                        (x->send_waiting ? CURLPAUSE_SEND : 0)
                        | (x->recv_waiting ? CURLPAUSE_RECV : 0));
    }
}


/* Callbacks of libcurl ---------------------------------------------------- */

static size_t read_cb(char *p, size_t size, size_t n, void *arg)
{
    struct curl_exchange *x = arg;
    size_t len = buf_len(&x->out);

    if (x->over) {
        return CURL_READFUNC_ABORT;
    }

    n *= size;
    if (len < n) {
        n = len;
    }

    if (n == 0) {
        if (x->finished) {
            return 0;
        }

        x->send_waiting = true;
        return CURL_READFUNC_PAUSE;
    }

    memcpy(p, buf_ptr(&x->out), n);
    buf_consume(&x->out, n);
    x->body_taken = true;
    *x->moved = loop_now(x->http->loop);

    if (x->want_drain && buf_len(&x->out) == 0) {
        x->want_drain = false;
        x->base.handler->drain(x->base.arg);
    }

    if (x->finished && buf_len(&x->out) == 0) {
        /* the end goes with the next call: have that in this turn too */
        x->push = true;
        defer(x);
    }

    return n;
}


static void watched_cb(struct transfer *t, int fd, bool on)
{
    struct curl_exchange *x = (struct curl_exchange *)
                              ((char *) t - offsetof(struct curl_exchange,
                                                     transfer));

    if (on) {
        x->fd = fd;
        x->unwatched = false;

    } else if (fd == x->fd) {
        x->unwatched = true;
        if (is_lost(x)) {
            defer(x);
        }
    }
}


/* Before each sending: there is one more if a kept connection was closed
 * without an answer, and that may mean that the request was done. It may also
 * mean that nothing of it was sent, which libcurl does not tell. */
static int prereq_cb(void *arg, char *to, char *from, int to_port,
                     int from_port)
{
    struct curl_exchange *x = arg;

    (void) to;
    (void) from;
    (void) to_port;
    (void) from_port;

    if (x->sent && x->once) {
        return CURL_PREREQFUNC_ABORT;
    }

    x->sent = true;

    return CURL_PREREQFUNC_OK;
}


/* While libcurl has not sent all of a request it goes on when the response has
 * ended, for ever even. It has if no more of the body is left; if libcurl
 * finds that too, in this turn, all the better. */
static void check_left(struct curl_exchange *x)
{
    if (x->left == 0 && x->upload) {
        x->whole = true;
        defer(x);
    }
}


static bool take_head(struct curl_exchange *x)
{
    struct head *h = &x->http->head;
    size_t seen = 0, len;

    len = head_find_end(buf_ptr(&x->lines), buf_len(&x->lines), &seen);

    if (len == HEAD_BROKEN) {
        x->invalid = "an empty line in place of a head";
        return false;
    }

    if (len == 0) {
        x->invalid = "too large a head";
        return buf_len(&x->lines) <= HEAD_MAX_BYTES;
    }

    x->invalid = head_parse(h, HEAD_RESPONSE, buf_ptr(&x->lines), len);
    if (x->invalid != NULL) {
        return false;
    }

    if (h->status == 101) {
        x->invalid = "a 101 that nobody asked for";
        return false;
    }

    if (h->status >= 200) {
        x->in_body = true;
        x->left = x->no_body || h->status == 204 || h->status == 304
                  ? 0 : h->length;
        x->base.handler->head(x->base.arg, h);
        check_left(x);
    }

    if (!x->over) {
        buf_reset(&x->lines);
    }

    return !x->over;
}


static size_t header_cb(char *p, size_t size, size_t n, void *arg)
{
    struct curl_exchange *x = arg;

    n *= size;

    if (x->over) {
        return 0;
    }

    *x->moved = loop_now(x->http->loop);

    if (x->in_body) {
        /* trailers; the empty line may come along */
        if (n > 2 && buf_len(&x->lines) + n <= BODY_MAX_TRAILER) {
            buf_append(&x->lines, p, n);
        }

        return n;
    }

    buf_append(&x->lines, p, n);

    return take_head(x) ? n : 0;
}


/* libcurl asks for the rest of a body and no more: what a TLS record has
 * behind it waits for the next response, which it would come before. */
static void check_excess(struct curl_exchange *x)
{
    struct curl_tlssessioninfo *tls = NULL;
    CURL *easy = x->transfer.easy;

    curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &tls);

    if (tls != NULL && tls->internals != NULL
        && SSL_has_pending(tls->internals)) {
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }
}


static size_t write_cb(char *p, size_t size, size_t n, void *arg)
{
    struct curl_exchange *x = arg;

    n *= size;

    if (x->over) {
        return 0;
    }

    if (x->whole) {
        return n;
    }

    if (x->paused) {
        x->recv_waiting = true;
        return CURL_WRITEFUNC_PAUSE;
    }

    *x->moved = loop_now(x->http->loop);
    x->base.handler->data(x->base.arg, p, n);

    if (x->left > 0) {
        x->left -= (int64_t) n;
        check_left(x);

        if (x->left == 0) {
            check_excess(x);
        }
    }

    return x->over ? 0 : n;
}


/* The end ---------------------------------------------------------------- */

static enum exchange_result result_of(const struct curl_exchange *x,
                                      CURLcode result)
{
    switch (result) {

    case CURLE_OK:
        return x->in_body ? EXCHANGE_OK : EXCHANGE_BAD;

    case CURLE_WRITE_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return EXCHANGE_BAD;

    case CURLE_OPERATION_TIMEDOUT:
        return EXCHANGE_CONNECT_TIME;

    case CURLE_ABORTED_BY_CALLBACK: /* see prereq_cb() */
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_SEND_FAIL_REWIND:
        return EXCHANGE_RESET;

    default:
        return EXCHANGE_UNREACHABLE;
    }
}


static const char *hint_of(enum exchange_result result)
{
    switch (result) {

    case EXCHANGE_UNREACHABLE:
        return "no connection";

    case EXCHANGE_CONNECT_TIME:
        return "timed out connecting";

    case EXCHANGE_BAD:
        return "no valid response";

    default:
        return "the connection was lost";
    }
}


static void on_done(struct transfer *t, CURLcode code)
{
    struct curl_exchange *x = (struct curl_exchange *)
                              ((char *) t - offsetof(struct curl_exchange,
                                                     transfer));
    struct exchange_end e = {.result = result_of(x, code), .why = "",
                             .hint = ""};
    struct head trailers = {0};

    /* else something may be left in the handle: in libcurl 8.14 a request that
     * could not be rewound fails all that come after it */
    x->clean = code == CURLE_OK && !x->whole;

    if (x->over) {
        dispose(x);
        return;
    }

    curlmulti_idle(x->http->multi, &x->transfer, x->fd);

    if (x->whole) {
        e.result = EXCHANGE_OK;
    }

    if (e.result == EXCHANGE_OK && buf_len(&x->lines) > 0) {
        x->invalid = head_parse_fields(&trailers, buf_ptr(&x->lines),
                                       buf_len(&x->lines));
        if (x->invalid != NULL) {
            e.result = EXCHANGE_BAD;
        }

        e.trailers = trailers.fields;
        e.ntrailers = trailers.nfields;
    }

    if (e.result != EXCHANGE_OK) {
        e.hint = hint_of(e.result);
        e.why = e.result == EXCHANGE_BAD && x->invalid != NULL ? x->invalid
                : code == CURLE_ABORTED_BY_CALLBACK ? e.hint
                : x->error[0] != '\0' ? x->error : curl_easy_strerror(code);
    }

    x->over = true;
    x->base.handler->done(x->base.arg, &e);
    head_free(&trailers);
    dispose(x);
}


/* The carrier ------------------------------------------------------------- */

static void curl_write(struct exchange *base, const struct span *parts,
                       int nparts)
{
    struct curl_exchange *x = (struct curl_exchange *) base;

    for (int i = 0; i < nparts; i++) {
        buf_append(&x->out, parts[i].p, parts[i].n);
    }

    if (buf_len(&x->out) > EXCHANGE_HIGH_WATER) {
        x->want_drain = true;
    }

    if (x->send_waiting) {
        defer(x);
    }
}


static void curl_finish(struct exchange *base)
{
    struct curl_exchange *x = (struct curl_exchange *) base;

    x->finished = true;

    if (x->send_waiting) {
        defer(x);
    }
}


static size_t curl_pending(const struct exchange *base)
{
    return buf_len(&((const struct curl_exchange *) base)->out);
}


static bool curl_retract(struct exchange *base)
{
    struct curl_exchange *x = (struct curl_exchange *) base;

    if (x->body_taken) {
        return false;
    }

    buf_reset(&x->out);

    return true;
}


static bool curl_connected(const struct exchange *base)
{
    const struct curl_exchange *x = (const struct curl_exchange *) base;
    long bytes = 0;

    if (x->added) {
        curl_easy_getinfo(x->transfer.easy, CURLINFO_REQUEST_SIZE, &bytes);
    }

    return bytes > 0;
}


static void curl_pause(struct exchange *base, bool on)
{
    struct curl_exchange *x = (struct curl_exchange *) base;

    x->paused = on;

    if (!on && x->recv_waiting) {
        defer(x);
    }
}


static void curl_abort(struct exchange *base)
{
    struct curl_exchange *x = (struct curl_exchange *) base;

    x->over = true;
    defer(x);
}


void curlhttp_configure(CURL *easy, const struct curlhttp_config *c)
{
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);

    if (!c->via_proxy) {
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    }

    if (c->origin->unix_path != NULL) {
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH,
                         c->origin->unix_path);
    }

    if (c->ca_file != NULL) {
        /* instead of the system's: libcurl has a folder of those as well */
        curl_easy_setopt(easy, CURLOPT_CAINFO, c->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }

    if (c->client_cert != NULL) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, c->client_cert);
        curl_easy_setopt(easy, CURLOPT_SSLKEY,
                         c->client_key != NULL ? c->client_key
                                               : c->client_cert);
    }
}


static CURL *new_easy(struct curlhttp *http)
{
    CURL *easy = curlmulti_easy(http->multi);

    curlhttp_configure(easy, &http->config);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_cb);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, write_cb);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, read_cb);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, prereq_cb);

    return easy;
}


/* A NUL-terminated string in the scratch buffer, valid until the next. */
static const char *scratch(struct curlhttp *http, struct span a,
                           const char *between, struct span b)
{
    buf_reset(&http->scratch);
    buf_append(&http->scratch, a.p, a.n);
    buf_append_str(&http->scratch, between);
    buf_append(&http->scratch, b.p, b.n);
    buf_append(&http->scratch, "", 1);

    return buf_ptr(&http->scratch);
}


static void add_field(struct curl_exchange *x, const char *line)
{
    struct curl_slist *list = curl_slist_append(x->fields, line);

    if (list == NULL) {
        abort();
    }

    x->fields = list;
}


static void set_fields(struct curl_exchange *x,
                       const struct exchange_request *r)
{
    static const struct span none = {"", 0};
    bool accept = false;

    for (size_t i = 0; i < r->nfields; i++) {
        const struct field *f = &r->fields[i];

        accept |= span_is(f->name, "Accept");

        /* libcurl takes "Name:" for a field to be left out */
        add_field(x, f->value.n > 0 ? scratch(x->http, f->name, ": ", f->value)
                                    : scratch(x->http, f->name, ";", none));
    }

    /* what libcurl would add on its own */
    if (!accept) {
        add_field(x, "Accept:");
    }

    add_field(x, "Expect:");

    if (r->length == EXCHANGE_CHUNKED) {
        add_field(x, "Transfer-Encoding: chunked");

    } else if (r->length == 0) {
        add_field(x, "Content-Length: 0");
    }

    curl_easy_setopt(x->transfer.easy, CURLOPT_HTTPHEADER, x->fields);
}


static void set_request(struct curl_exchange *x,
                        const struct exchange_request *r)
{
    struct curlhttp *http = x->http;
    struct span base = {http->url, strlen(http->url)};
    static const struct span slash = {"/", 1}, none = {"", 0};
    CURL *easy = x->transfer.easy;

    if (http->config.raw_target) {
        curl_easy_setopt(easy, CURLOPT_URL, scratch(http, base, "", slash));
        curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET,
                         scratch(http, r->target, "", none));
    } else {
        curl_easy_setopt(easy, CURLOPT_URL, scratch(http, base, "",
                                                    r->target));
    }

    /* the kind first: each of these sets a method of its own */
    if (r->length != EXCHANGE_NO_BODY && r->length != 0) {
        /* libcurl knows of no HEAD with a body */
        x->no_body = span_is(r->method, "HEAD");
        x->upload = true;
        curl_easy_setopt(easy, CURLOPT_NOBODY, 0L);
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE,
                         (curl_off_t) (r->length >= 0 ? r->length : -1));
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
        if (span_is(r->method, "HEAD")) {
            curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        }
    }

    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST,
                     scratch(http, r->method, "", none));
}


static struct exchange *curl_start(struct carrier *c,
                                   const struct exchange_request *request,
                                   const struct exchange_handler *handler,
                                   void *arg)
{
    struct curlhttp *http = (struct curlhttp *) c;
    struct curl_exchange *x = mem_zalloc(sizeof(*x));
    CURL *easy = http->nidle > 0 ? http->idle[--http->nidle] : new_easy(http);

    x->base.ops = c->ops;
    x->base.handler = handler;
    x->base.arg = arg;
    x->http = http;
    x->task.run = run_task;
    x->moved = request->moved;
    x->once = !request->idempotent;
    x->finished = request->length == EXCHANGE_NO_BODY || request->length == 0;
    x->transfer.easy = easy;
    x->transfer.done = on_done;
    x->transfer.watched = watched_cb;
    x->fd = -1;

    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->error);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(easy, CURLOPT_READDATA, x);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, x);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 0L);
    set_request(x, request);
    set_fields(x, request);

    /* not now: this may be a callback of libcurl's */
    defer(x);

    return &x->base;
}


static void curl_free_carrier(struct carrier *c)
{
    struct curlhttp *http = (struct curlhttp *) c;

    /* aborted exchanges leave in a task */
    loop_run_tasks(http->loop);

    while (http->nidle > 0) {
        curl_easy_cleanup(http->idle[--http->nidle]);
    }

    curlmulti_free(http->multi);
    head_free(&http->head);
    buf_free(&http->scratch);
    free(http->url);
    free(http);
}


static const struct carrier_ops curl_ops = {
    .start = curl_start,
    .write = curl_write,
    .finish = curl_finish,
    .pending = curl_pending,
    .retract = curl_retract,
    .connected = curl_connected,
    .pause = curl_pause,
    .abort = curl_abort,
    .free = curl_free_carrier,
};


struct carrier *curlhttp_new(struct loop *loop,
                             const struct curlhttp_config *config)
{
    struct curlhttp *http = mem_zalloc(sizeof(*http));
    const struct origin *o = config->origin;
    size_t size = strlen(o->authority) + sizeof("https://");

    http->url = mem_alloc(size);
    snprintf(http->url, size, "%s://%s", o->tls ? "https" : "http",
             o->authority);
    http->base.ops = &curl_ops;
    http->loop = loop;
    http->config = *config;
    http->multi = curlmulti_new(loop);
    http->nkept = curl_version_info(CURLVERSION_NOW)->version_num
                  >= HANDLES_LAST ? EASY_KEPT : 0;

    return &http->base;
}
