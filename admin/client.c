#include "client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/buf.h"
#include "agent/memory.h"
#include "agent/version.h"
#include "failure.h"
#include "report.h"

#define FAILURE_BYTES (64 * 1024) /* what is read of the body of an error */
/* Before, a handle must not be used twice:
 * https://github.com/curl/curl/issues/11101 */
#define HANDLES_LAST 0x080100u

struct client {
    CURL *easy;
    struct curl_slist *fields;
    const struct config *config;
    volatile sig_atomic_t *stop;
    char error[CURL_ERROR_SIZE];

    /* of the call in progress */
    const struct call *call;
    struct buf failure; /* body of an error */
    bool begun;         /* the body */
    long status;
    bool used;    /* the handle */
    bool foreign; /* a good answer that is not JSON */
    bool refused; /* by the sink */
};


static bool is_stopped(const struct client *client)
{
    return client->stop != NULL && *client->stop;
}


static bool is_json(CURL *easy)
{
    static const char json[] = "application/json";
    const char *type = NULL;

    curl_easy_getinfo(easy, CURLINFO_CONTENT_TYPE, &type);

    return type != NULL && strncasecmp(type, json, sizeof(json) - 1) == 0;
}


static size_t write_cb(char *p, size_t size, size_t n, void *arg)
{
    struct client *client = arg;
    size_t room;

    n *= size;

    if (!client->begun) {
        client->begun = true;
        curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE,
                          &client->status);
        client->foreign = client->status / 100 == 2
                          && !is_json(client->easy);
    }

    if (client->status / 100 != 2) {
        room = FAILURE_BYTES - buf_len(&client->failure);
        buf_append(&client->failure, p, n < room ? n : room);
        return n;
    }

    if (client->foreign) {
        return 0;
    }

    client->refused = !client->call->sink(client->call->arg, p, n);

    return client->refused ? 0 : n;
}


static int progress_cb(void *arg, curl_off_t a, curl_off_t b, curl_off_t c,
                       curl_off_t d)
{
    (void) a;
    (void) b;
    (void) c;
    (void) d;

    return is_stopped(arg);
}


static void set_tls(CURL *easy, const struct config *c)
{
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);

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


static void set_credentials(CURL *easy, const struct config *c)
{
    if (c->token != NULL) {
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BEARER);
        curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, c->token);

    } else if (c->password != NULL) {
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);
        curl_easy_setopt(easy, CURLOPT_USERNAME, c->user);
        curl_easy_setopt(easy, CURLOPT_PASSWORD, c->password);
    }
}


static void add_field(struct client *client, const char *line)
{
    struct curl_slist *list = curl_slist_append(client->fields, line);

    if (list == NULL) {
        abort();
    }

    client->fields = list;
}


struct client *client_open(const struct config *config)
{
    struct client *client = mem_zalloc(sizeof(*client));
    CURL *easy = curl_easy_init();

    if (easy == NULL) {
        report(stderr, "libcurl cannot be used");
        free(client);
        return NULL;
    }

    client->easy = easy;
    client->config = config;
    add_field(client, "Accept: application/json");
    add_field(client, "Content-Type: application/json");
    add_field(client, "Expect:");

    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, client->error);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_USERAGENT,
                     "inverting-proxy-admin/" INVERTING_PROXY_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, client->fields);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, config->timeout);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, config->timeout);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    /* do not wait for the thread that resolves a name when the time is over */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, write_cb);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, client);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, progress_cb);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, client);

    if (config->server.unix_path != NULL) {
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH,
                         config->server.unix_path);
    }

    if (origin_is_loopback(&config->server)) {
        /* a proxy would be another machine */
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    }

    set_tls(easy, config);
    set_credentials(easy, config);

    return client;
}


void client_stop_on(struct client *client, volatile sig_atomic_t *stop)
{
    client->stop = stop;
}


static void set_url(struct client *client, const char *path)
{
    const struct origin *o = &client->config->server;
    size_t size = sizeof("https://") + strlen(o->authority)
                  + strlen(o->base) + strlen(path);
    char *url = mem_alloc(size);

    snprintf(url, size, "%s://%s%s%s", o->tls ? "https" : "http",
             o->authority, o->base, path);
    curl_easy_setopt(client->easy, CURLOPT_URL, url);
    free(url);
}


static int finish(struct client *client, CURLcode code)
{
    if (client->refused || is_stopped(client)) {
        return EXIT_REFUSED;
    }

    if (client->foreign) {
        return failure_foreign(client->config, client->status);
    }

    if (code != CURLE_OK) {
        return failure_transfer(client->config, code, client->error);
    }

    curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &client->status);

    if (client->status / 100 != 2) {
        return failure_answer(client->config, client->status,
                              buf_ptr(&client->failure),
                              buf_len(&client->failure));
    }

    return EXIT_DONE;
}


/* The same settings, and nothing of the call before. */
static void renew(struct client *client)
{
    CURL *easy = curl_easy_duphandle(client->easy);

    if (easy == NULL) {
        abort();
    }

    curl_easy_cleanup(client->easy);
    client->easy = easy;
}


int client_call(struct client *client, const struct call *call)
{
    CURL *easy;
    int rc;

    if (client->used
        && curl_version_info(CURLVERSION_NOW)->version_num < HANDLES_LAST) {
        renew(client);
    }

    client->used = true;
    easy = client->easy;
    client->call = call;
    client->begun = false;
    client->foreign = false;
    client->refused = false;
    client->error[0] = '\0';
    set_url(client, call->path);

    if (call->body != NULL) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body);
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }

    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);

    rc = finish(client, curl_easy_perform(easy));
    buf_free(&client->failure);

    return rc;
}


void client_close(struct client *client)
{
    curl_easy_cleanup(client->easy);
    curl_slist_free_all(client->fields);
    free(client);
}
