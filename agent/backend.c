#include "backend.h"

#include <stdlib.h>
#include <string.h>

#include "carriers.h"
#include "fields.h"
#include "log.h"
#include "memory.h"


bool backend_init(struct backend *b, struct loop *loop,
                  const struct options *options)
{
    uint64_t idle = options->forwarding_timeout;

    b->options = options;
    b->idle_timeout = idle > options->proxy_timeout ? idle
                                                    : options->proxy_timeout;
    b->carrier = carrier_to_backend(loop, options);
    b->upgrades = carrier_to_backend_upgrade(loop, options);

    return b->carrier != NULL;
}


void backend_free(struct backend *b)
{
    if (b->carrier != NULL) {
        carrier_free(b->carrier);
        carrier_free(b->upgrades);
    }

    free(b->fields);
    b->fields = NULL;
}


static size_t count_fields(const struct head *h, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < h->nfields; i++) {
        n += span_is(h->fields[i].name, name);
    }

    return n;
}


int backend_refuses(const struct head *h, const char **why)
{
    if (span_is(h->method, "CONNECT")) {
        *why = "the method CONNECT is not supported";
        return 501;
    }

    if (count_fields(h, "Host") > 1) {
        *why = "the request has more than one Host field";
        return 502;
    }

    return 0;
}


static bool is_idempotent(struct span method)
{
    static const char *const names[] = {"GET", "HEAD", "OPTIONS", "TRACE",
                                        "PUT", "DELETE"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (method.n == strlen(names[i])
            && memcmp(method.p, names[i], method.n) == 0) {
            return true;
        }
    }

    return false;
}


static size_t request_fields(struct backend *b,
                             const struct backend_request *r)
{
    const struct options *o = b->options;
    const struct head *h = r->head;
    size_t n = 0;

    if (b->room < h->nfields + r->nown + 2) {
        b->room = h->nfields + r->nown + 32;
        b->fields = mem_realloc(b->fields, b->room * sizeof(*b->fields));
    }

    if (head_field(h, "Host") == NULL) {
        b->fields[n++] = (struct field) {
            SPAN("Host"), {o->host.authority, strlen(o->host.authority)}
        };
    }

    for (size_t i = 0; i < h->nfields; i++) {
        const struct field *field = &h->fields[i];

        if (!field_passes(h, field, HEAD_REQUEST) || field_is_ours(field->name)
            || (o->strip_credentials && span_is(field->name, "Authorization")))
        {
            continue;
        }

        b->fields[n++] = *field;
    }

    if (o->forward_user_id && r->user.n > 0) {
        b->fields[n++] = (struct field) {
            SPAN("X-Inverting-Proxy-User-ID"), r->user
        };
    }

    for (size_t i = 0; i < r->nown; i++) {
        b->fields[n++] = r->own[i];
    }

    return n;
}


struct exchange *backend_start(struct backend *b,
                               const struct backend_request *r,
                               const struct exchange_handler *handler,
                               void *arg)
{
    struct exchange_request request = {
        .method = r->head->method,
        .target = r->head->target,
        .length = r->length,
        .upgrade = r->upgrade,
        .idempotent = (r->length == EXCHANGE_NO_BODY || r->length == 0)
                      && is_idempotent(r->head->method),
        .moved = r->moved,
    };

    request.nfields = request_fields(b, r);
    request.fields = b->fields;

    return exchange_start(r->upgrade != NULL ? b->upgrades : b->carrier,
                          &request, handler, arg);
}


/* Failures of the backend belong into the log, but not one line each. */
static void log_failure(struct backend *b, const struct exchange_end *e)
{
    static struct log_brake brake;
    unsigned others;

    if (e->result == EXCHANGE_UNREACHABLE
        || e->result == EXCHANGE_CONNECT_TIME) {
        if (!b->failing) {
            b->failing = true;
            log_warn("backend unreachable: %s", e->why);
        }

        return;
    }

    if (log_allowed(&brake, 60000, &others)) {
        log_warn("backend failed a request: %s%s", e->why,
                 others > 0 ? " (and others before)" : "");
    }
}


int backend_failed(struct backend *b, const struct exchange_end *e)
{
    log_failure(b, e);

    return e->result == EXCHANGE_CONNECT_TIME ? 504 : 502;
}


void backend_worked(struct backend *b)
{
    if (b->failing) {
        b->failing = false;
        log_info("the backend can be reached again");
    }
}
