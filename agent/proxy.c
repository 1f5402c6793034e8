#include "proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "carriers.h"
#include "log.h"
#include "memory.h"
#include "token.h"
#include "version.h"

#define FIELDS_MAX 6
#define CALLS 4
#define PROCESS_ID 16 /* bytes */

struct proxy {
    const struct options *options;
    struct carrier *carrier;
    struct carrier *upgrades;
    struct token *token;
    char *targets[CALLS];
    char process[2 * PROCESS_ID + 1];
};

static const char *const paths[] = {
    [CALL_PENDING] = "agent/pending",
    [CALL_REQUEST] = "agent/request",
    [CALL_RESPONSE] = "agent/response",
    [CALL_PTTH] = "agent/ptth",
};


static bool credentials_travel_safely(const struct options *o)
{
    if (o->proxy.tls || o->insecure_http || origin_is_loopback(&o->proxy)) {
        return true;
    }

    log_error("-token-file: the token would be sent to \"%s\" without TLS; "
              "use an https:// URL for -proxy, or -insecure-http to allow it",
              o->proxy.authority);

    return false;
}


/* What the connections of this agent have in common. */
static void make_process_id(struct proxy *proxy)
{
    unsigned char random[PROCESS_ID];

    /* so few bytes come at once and whole */
    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        abort();
    }

    for (size_t i = 0; i < PROCESS_ID; i++) {
        snprintf(proxy->process + 2 * i, 3, "%02x", random[i]);
    }
}


struct proxy *proxy_new(struct loop *loop, const struct options *options)
{
    struct proxy *proxy = mem_zalloc(sizeof(*proxy));
    const char *why;

    proxy->options = options;
    make_process_id(proxy);

    if (options->token_file != NULL) {
        proxy->token = token_open(options->token_file, &why);

        if (proxy->token == NULL) {
            log_error("-token-file: cannot use \"%s\": %s",
                      options->token_file, why);
            goto failed;
        }

        if (!credentials_travel_safely(options)) {
            goto failed;
        }
    }

    for (size_t i = 0; i < CALLS; i++) {
        const char *base = options->proxy.base;
        size_t size = strlen(base) + strlen(paths[i]) + 1;

        proxy->targets[i] = mem_alloc(size);
        snprintf(proxy->targets[i], size, "%s%s", base, paths[i]);
    }

    proxy->carrier = carrier_to_proxy(loop, options);
    if (proxy->carrier == NULL) {
        goto failed;
    }

    proxy->upgrades = carrier_to_proxy_upgrade(loop, options);

    return proxy;

failed:

    proxy_free(proxy);

    return NULL;
}


void proxy_free(struct proxy *proxy)
{
    if (proxy->carrier != NULL) {
        carrier_free(proxy->carrier);
        carrier_free(proxy->upgrades);
    }

    token_close(proxy->token);

    for (size_t i = 0; i < CALLS; i++) {
        free(proxy->targets[i]);
    }

    free(proxy);
}


static struct span span_of(const char *s)
{
    return (struct span) {s, strlen(s)};
}


struct exchange *proxy_call(struct proxy *proxy, enum proxy_call call,
                            const char *id, uint64_t *moved,
                            const struct exchange_handler *handler, void *arg)
{
    const struct options *o = proxy->options;
    struct field fields[FIELDS_MAX];
    size_t n = 0;

    fields[n++] = (struct field) {SPAN("Host"), span_of(o->proxy.authority)};
    fields[n++] = (struct field) {
        SPAN("User-Agent"),
        SPAN("inverting-proxy-agent/" INVERTING_PROXY_VERSION)
    };
    fields[n++] = (struct field) {SPAN("X-Inverting-Proxy-Backend-ID"),
                                  span_of(o->backend)};

    if (proxy->token != NULL) {
        fields[n++] = (struct field) {SPAN("Authorization"),
                                      span_of(token_value(proxy->token))};
    }

    if (id != NULL) {
        fields[n++] = (struct field) {SPAN("X-Inverting-Proxy-Request-ID"),
                                      span_of(id)};
    }

    if (call == CALL_RESPONSE) {
        fields[n++] = (struct field) {SPAN("Content-Type"),
                                      SPAN("text/plain")};
    }

    if (call == CALL_PTTH) {
        fields[n++] = (struct field) {SPAN("ALPN"), SPAN("h2")};
        fields[n++] = (struct field) {SPAN("X-Inverting-Proxy-Process-ID"),
                                      span_of(proxy->process)};
    }

    struct exchange_request request = {
        .method = call == CALL_RESPONSE ? SPAN("POST") : SPAN("GET"),
        .target = span_of(proxy->targets[call]),
        .fields = fields,
        .nfields = n,
        .length = call == CALL_RESPONSE ? EXCHANGE_CHUNKED : EXCHANGE_NO_BODY,
        .upgrade = call == CALL_PTTH ? "ptth" : NULL,
        .idempotent = call != CALL_RESPONSE,
        .moved = moved,
    };

    return exchange_start(call == CALL_PTTH ? proxy->upgrades
                                            : proxy->carrier,
                          &request, handler, arg);
}


const char *proxy_describe(const struct head *head, char *buf, size_t size)
{
    const struct field *location = head_field(head, "Location");

    if (head->status >= 300 && head->status < 400 && location != NULL) {
        snprintf(buf, size, "it answers %d, a redirect to \"%.*s\"; redirects "
                 "are not followed, give the final URL to -proxy",
                 head->status, (int) location->value.n, location->value.p);
    } else {
        snprintf(buf, size, "it answers %d %.*s%s", head->status,
                 (int) head->reason.n, head->reason.p,
                 head->status == 401 ? "; there is no such -backend, or it is "
                 "not for this -token-file or -client-cert"
                 : head->status == 400 ? "; nginx says so if it does not like "
                 "the -client-cert, or if -proxy should be https://" : "");
    }

    return buf;
}
