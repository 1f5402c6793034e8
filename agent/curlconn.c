#include "curlconn.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "curlmulti.h"
#include "memory.h"

struct curlconn {
    struct transfer transfer;
    struct loop *loop;
    struct curlmulti *multi; /* its own: another transfer could close it */
    struct task opened;
    CURLcode result;
    bool tls;
    bool http2; /* asked for */
    bool agreed;
    int fd;
    char *url;
    char error[CURL_ERROR_SIZE];
    void (*on_open)(void *arg, const char *why);
    void *arg;
};


static const char *reason(struct curlconn *c)
{
    curl_socket_t fd = CURL_SOCKET_BAD;

    if (c->result == CURLE_OK && c->http2 && !c->agreed) {
        return "HTTP/2 was asked for (-force-http2), which it does not speak";
    }

    if (c->result == CURLE_OK) {
        curl_easy_getinfo(c->transfer.easy, CURLINFO_ACTIVESOCKET, &fd);
        c->fd = fd;

        return fd == CURL_SOCKET_BAD ? "no connection" : NULL;
    }

    return c->error[0] != '\0' ? c->error : curl_easy_strerror(c->result);
}


static void run_opened(struct task *task)
{
    struct curlconn *c = (struct curlconn *) ((char *) task
                                              - offsetof(struct curlconn,
                                                         opened));
    const char *why = reason(c);

    if (why == NULL) {
        curlmulti_let_go(c->multi, c->fd);
    }

    c->on_open(c->arg, why);
}


/* Reported later: the one who is told may close it. */
static void on_done(struct transfer *t, CURLcode result)
{
    struct curlconn *c = (struct curlconn *) ((char *) t
                                              - offsetof(struct curlconn,
                                                         transfer));

    c->result = result;
    loop_defer(c->loop, &c->opened);
}


/* libcurl has the answer to ALPN for its own use only. */
static void on_tls(const SSL *ssl, int where, int ret)
{
    struct curlconn *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const unsigned char *protocol;
    unsigned int n;

    (void) ret;

    if ((where & SSL_CB_HANDSHAKE_DONE) != 0) {
        SSL_get0_alpn_selected(ssl, &protocol, &n);
        c->agreed = n == 2 && memcmp(protocol, "h2", 2) == 0;
    }
}


static CURLcode set_up_tls(CURL *easy, void *ctx, void *arg)
{
    static const unsigned char alpn[] = {2, 'h', '2'};
    struct curlconn *c = arg;

    (void) easy;

    /* what is sent again is the same, but not in the same place */
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE
                          | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);

    if (c->http2) {
        SSL_CTX_set_alpn_protos(ctx, alpn, sizeof(alpn));
        SSL_CTX_set_app_data(ctx, c);
        SSL_CTX_set_info_callback(ctx, on_tls);
    }

    return CURLE_OK;
}


struct curlconn *curlconn_open(struct loop *loop,
                               const struct curlhttp_config *config,
                               void (*on_open)(void *arg, const char *why),
                               void *arg)
{
    struct curlconn *c = mem_zalloc(sizeof(*c));
    const struct origin *o = config->origin;
    size_t size = strlen(o->authority) + sizeof("https:///");
    CURL *easy;

    c->loop = loop;
    c->fd = -1;
    c->tls = o->tls;
    c->http2 = o->tls && config->http2;
    c->on_open = on_open;
    c->arg = arg;
    c->opened.run = run_opened;
    c->multi = curlmulti_new(loop);
    c->url = mem_alloc(size);
    snprintf(c->url, size, "%s://%s/", o->tls ? "https" : "http",
             o->authority);

    easy = c->transfer.easy = curlmulti_easy(c->multi);
    c->transfer.stays = true;
    c->transfer.done = on_done;

    curlhttp_configure(easy, config);
    curl_easy_setopt(easy, CURLOPT_URL, c->url);
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, set_up_tls);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, c);
    if (c->http2) {
        curl_easy_setopt(easy, CURLOPT_SSL_ENABLE_ALPN, 0L);
    }
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->error);
    curlmulti_add(c->multi, &c->transfer);

    return c;
}


bool curlconn_refused(const struct curlconn *c)
{
    long code = 0;

    curl_easy_getinfo(c->transfer.easy, CURLINFO_HTTP_CONNECTCODE, &code);

    return !c->tls && (code / 100 == 4 || code == 501);
}


int curlconn_fd(const struct curlconn *c)
{
    return c->fd;
}


static ssize_t outcome(CURLcode result, size_t done)
{
    if (result == CURLE_OK) {
        return (ssize_t) done;
    }

    errno = result == CURLE_AGAIN ? EAGAIN : ECONNRESET;

    return -1;
}


ssize_t curlconn_recv(struct curlconn *c, void *p, size_t n)
{
    size_t done = 0;
    CURLcode result = curl_easy_recv(c->transfer.easy, p, n, &done);

    return outcome(result, done);
}


/* A record at a time: see set_up_tls(). */
ssize_t curlconn_send(struct curlconn *c, const void *p, size_t n)
{
    const char *from = p;
    size_t sent = 0, done = 0;
    CURLcode result = CURLE_OK;

    while (sent < n && result == CURLE_OK) {
        result = curl_easy_send(c->transfer.easy, from + sent, n - sent,
                                &done);
        if (result == CURLE_OK) {
            sent += done;
        }
    }

    return sent > 0 ? (ssize_t) sent : outcome(result, 0);
}


void curlconn_close(struct curlconn *c)
{
    loop_cancel(c->loop, &c->opened);
    curlmulti_remove(c->multi, &c->transfer);
    curl_easy_cleanup(c->transfer.easy);
    curlmulti_free(c->multi);
    free(c->url);
    loop_defer_free(c->loop, c);
}
