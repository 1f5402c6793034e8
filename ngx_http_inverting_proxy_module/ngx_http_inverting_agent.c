
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_agent.h"
#include "ngx_http_inverting_fields.h"


typedef struct {
    ngx_str_t     name;
    ngx_uint_t    method;
    ngx_str_t     allow;
    ngx_uint_t    id;            /* wants a request ID */
    ngx_int_t   (*handler)(ngx_http_request_t *r,
                           ngx_http_inverting_agent_ctx_t *ctx);
} ngx_http_inverting_agent_call_t;


static ngx_http_inverting_agent_call_t *ngx_http_inverting_agent_find_call(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_inverting_agent_not_allowed(ngx_http_request_t *r,
    ngx_http_inverting_agent_call_t *call);
static ngx_int_t ngx_http_inverting_agent_identity(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
static ngx_int_t ngx_http_inverting_agent_secret(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx);
static ngx_uint_t ngx_http_inverting_agent_is_id(ngx_str_t *id);


static ngx_http_inverting_agent_call_t  ngx_http_inverting_agent_calls[] = {

    { ngx_string("pending"),
      NGX_HTTP_GET,
      ngx_string("GET"),
      0,
      ngx_http_inverting_poll_handler },

    { ngx_string("request"),
      NGX_HTTP_GET,
      ngx_string("GET"),
      1,
      ngx_http_inverting_fetch_handler },

    { ngx_string("response"),
      NGX_HTTP_POST,
      ngx_string("POST"),
      1,
      ngx_http_inverting_post_handler },

    { ngx_string("ptth"),
      NGX_HTTP_GET,
      ngx_string("GET"),
      0,
      ngx_http_inverting_ptth_handler },

    { ngx_null_string, 0, ngx_null_string, 0, NULL }
};


static ngx_str_t  ngx_http_inverting_agent_dir = ngx_string("/agent/");
static ngx_str_t  ngx_http_inverting_agent_text = ngx_string("text/plain");

static ngx_str_t  ngx_http_inverting_agent_allow = ngx_string("Allow");
static ngx_str_t  ngx_http_inverting_agent_retry = ngx_string("Retry-After");
static ngx_str_t  ngx_http_inverting_agent_second = ngx_string("1");

static ngx_str_t  ngx_http_inverting_agent_backend_id =
    ngx_string("x-inverting-proxy-backend-id");
static ngx_str_t  ngx_http_inverting_agent_request_id =
    ngx_string("x-inverting-proxy-request-id");
static ngx_str_t  ngx_http_inverting_agent_process_id =
    ngx_string("x-inverting-proxy-process-id");


ngx_int_t
ngx_http_inverting_agent_handler(ngx_http_request_t *r)
{
    ngx_int_t                             rc;
    ngx_http_inverting_agent_ctx_t       *ctx;
    ngx_http_inverting_agent_call_t      *call;
    ngx_http_inverting_proxy_loc_conf_t  *conf;

    if (r != r->main) {
        return NGX_HTTP_NOT_FOUND;
    }

    if (ngx_exiting) {
        r->keepalive = 0;
    }

    call = ngx_http_inverting_agent_find_call(r);

    if (call == NULL) {
        return ngx_http_inverting_agent_answer(r, NGX_HTTP_NOT_FOUND,
                                               "no such call\n");
    }

    if (r->method != call->method) {
        return ngx_http_inverting_agent_not_allowed(r, call);
    }

    conf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    if (conf->agent_zone->slot == NGX_HTTP_INVERTING_NONE) {
        return ngx_http_inverting_agent_unavailable(r, "try again\n");
    }

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_inverting_agent_ctx_t));
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&ctx->vars.transport, "poll");
    ctx->vars.queue_time = -1;
    ctx->request = r;
    ctx->zone = conf->agent_zone;
    ctx->end.data = ctx;

    ngx_http_inverting_set_vars(r, ctx);

    rc = ngx_http_inverting_agent_identity(r, ctx);

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* an ID that can't be one is not looked for, but who asks comes first */

    if (call->id && !ngx_http_inverting_agent_is_id(&ctx->id)) {

        ngx_http_inverting_lock(ctx->zone);

        rc = ngx_http_inverting_agent_backend_locked(ctx) ? NGX_OK
                                                          : NGX_DECLINED;

        ngx_http_inverting_unlock(ctx->zone);

        if (rc == NGX_DECLINED) {
            return ngx_http_inverting_agent_unauthorized(r, ctx);
        }

        if (ctx->id.len == 0) {
            return ngx_http_inverting_agent_answer(r, NGX_HTTP_BAD_REQUEST,
                                  "X-Inverting-Proxy-Request-ID is missing\n");
        }

        return ngx_http_inverting_agent_answer(r, NGX_HTTP_NOT_FOUND,
                                               "no such request\n");
    }

    ctx->vars.id = ctx->id;

    return call->handler(r, ctx);
}


/* by the end of the URI, which is below the location, or below its "agent/" */

static ngx_http_inverting_agent_call_t *
ngx_http_inverting_agent_find_call(ngx_http_request_t *r)
{
    u_char                           *p, *last;
    ngx_str_t                        *dir, *name;
    ngx_http_core_loc_conf_t         *clcf;
    ngx_http_inverting_agent_call_t  *call;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    dir = &ngx_http_inverting_agent_dir;
    name = &clcf->name;

    last = r->uri.data + r->uri.len;

    for (p = last; p > r->uri.data && p[-1] != '/'; p--) { /* void */ }

    if ((size_t) (p - r->uri.data) < dir->len
        || ngx_memcmp(p - dir->len, dir->data, dir->len) != 0)
    {
        return NULL;
    }

    /* a location by a regular expression or by name is no prefix of the URI */

    if (name->len <= (size_t) (p - r->uri.data)
        && ngx_memcmp(r->uri.data, name->data, name->len) == 0
        && r->uri.data + name->len != p
        && r->uri.data + name->len != p - 1
        && r->uri.data + name->len != p - dir->len
        && r->uri.data + name->len != p - dir->len + 1)
    {
        return NULL;
    }

    for (call = ngx_http_inverting_agent_calls; call->name.len; call++) {

        if ((size_t) (last - p) == call->name.len
            && ngx_memcmp(p, call->name.data, call->name.len) == 0)
        {
            return call;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_inverting_agent_not_allowed(ngx_http_request_t *r,
    ngx_http_inverting_agent_call_t *call)
{
    if (ngx_http_inverting_add_field(&r->headers_out.headers,
                                     &ngx_http_inverting_agent_allow,
                                     &call->allow)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_agent_answer(r, NGX_HTTP_NOT_ALLOWED,
                                           "method not allowed\n");
}


/* who calls, and what for: all that is known without the registry */

static ngx_int_t
ngx_http_inverting_agent_identity(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_uint_t                            i;
    ngx_list_part_t                      *part;
    ngx_table_elt_t                      *header;
    ngx_http_inverting_proxy_loc_conf_t  *conf;

    part = &r->headers_in.headers.part;
    header = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            header = part->elts;
            i = 0;
        }

        /* all names are as long */

        if (header[i].key.len != ngx_http_inverting_agent_backend_id.len) {
            continue;
        }

        if (ngx_memcmp(header[i].lowcase_key,
                       ngx_http_inverting_agent_backend_id.data,
                       header[i].key.len)
            == 0)
        {
            ctx->backend = header[i].value;

        } else if (ngx_memcmp(header[i].lowcase_key,
                              ngx_http_inverting_agent_request_id.data,
                              header[i].key.len)
                   == 0)
        {
            ctx->id = header[i].value;

        } else if (ngx_memcmp(header[i].lowcase_key,
                              ngx_http_inverting_agent_process_id.data,
                              header[i].key.len)
                   == 0)
        {
            ctx->process = header[i].value;
        }
    }

    if (ngx_http_inverting_agent_secret(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx->secret) {
        return NGX_OK;
    }

    conf = ngx_http_get_module_loc_conf(r, ngx_http_inverting_proxy_module);

    if (conf->agent_user
        && ngx_http_complex_value(r, conf->agent_user, &ctx->vars.agent)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->vars.agent.len == 0) {
        ctx->reason = conf->agent_user
                      ? "it showed no key, and the value of "
                        "\"inverting_proxy_agent_user\" is empty"
                      : "it showed no key, and "
                        "\"inverting_proxy_agent_user\" is not in force";

    } else if (ctx->backend.len == 0) {
        ctx->reason = "it sent no \"X-Inverting-Proxy-Backend-ID\"";
    }

    return NGX_OK;
}


/* what looks like a key is one, right or wrong: nothing else counts then */

static ngx_int_t
ngx_http_inverting_agent_secret(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_str_t  *value, token;

    static ngx_str_t  bearer = ngx_string("bearer ");
    static ngx_str_t  prefix = ngx_string(NGX_HTTP_INVERTING_KEY_PREFIX);

    ngx_str_null(&token);

    if (r->headers_in.authorization) {
        value = &r->headers_in.authorization->value;

        if (value->len > bearer.len
            && ngx_strncasecmp(value->data, bearer.data, bearer.len) == 0)
        {
            token.data = value->data + bearer.len;
            token.len = value->len - bearer.len;

            while (token.len && token.data[0] == ' ') {
                token.data++;
                token.len--;
            }
        }
    }

    if (token.len >= prefix.len
        && ngx_memcmp(token.data, prefix.data, prefix.len) == 0)
    {
        ctx->secret = 1;
    }

    /* as much work if there is none: how long a refusal takes tells nothing */

    return ngx_http_inverting_secret_hash(&token, ctx->hash);
}


static ngx_uint_t
ngx_http_inverting_agent_is_id(ngx_str_t *id)
{
    size_t  i;

    if (id->len != NGX_HTTP_INVERTING_ID_LEN) {
        return 0;
    }

    for (i = 0; i < id->len; i++) {

        if ((id->data[i] < '0' || id->data[i] > '9')
            && (id->data[i] < 'a' || id->data[i] > 'f'))
        {
            return 0;
        }
    }

    return 1;
}


ngx_http_inverting_backend_t *
ngx_http_inverting_agent_backend_locked(ngx_http_inverting_agent_ctx_t *ctx)
{
    ngx_str_t                        *user;
    ngx_pool_t                       *pool;
    ngx_http_inverting_backend_t     *backend;
    ngx_http_inverting_stored_key_t  *stored;

    stored = ngx_http_inverting_key_find_locked(ctx->zone, ctx->hash);

    if (ctx->secret) {

        if (stored == NULL) {
            ctx->reason = "there is no such key";
            return NULL;
        }

        backend = stored->backend;

        if (ctx->backend.len
            && (ctx->backend.len != backend->id.len
                || ngx_memcmp(ctx->backend.data, backend->id.data,
                              backend->id.len)
                   != 0))
        {
            ctx->reason = "the key is another backend's";
            return NULL;
        }

        pool = ctx->request->pool;

        if (ctx->backend.len == 0) {
            ctx->backend.data = ngx_pstrdup(pool, &backend->id);

            if (ctx->backend.data == NULL) {
                ctx->reason = "there is no memory";
                return NULL;
            }

            ctx->backend.len = backend->id.len;
        }

        stored->last_used = ngx_time();

        ctx->key = stored->key.id;
        ctx->vars.backend = ctx->backend;

        ngx_http_inverting_show_key(pool, &ctx->vars, ctx->key);

        return backend;
    }

    if (ctx->reason) {
        return NULL;
    }

    backend = ngx_http_inverting_registry_find_locked(ctx->zone,
                                                      &ctx->backend);
    if (backend == NULL) {
        ctx->reason = "there is no such backend";
        return NULL;
    }

    user = &backend->record->backend_user;

    if (user->len == 0
        || user->len != ctx->vars.agent.len
        || ngx_memcmp(user->data, ctx->vars.agent.data, user->len) != 0)
    {
        ctx->reason = "the identity is not the backend's \"backendUser\"";
        return NULL;
    }

    ctx->vars.backend = ctx->backend;

    return backend;
}


/*
 * The same answer whatever is wrong: only the log says which.  The identity
 * may be a token that was put in the wrong place, and is not logged.
 */

ngx_int_t
ngx_http_inverting_agent_unauthorized(ngx_http_request_t *r,
    ngx_http_inverting_agent_ctx_t *ctx)
{
    static ngx_str_t  name = ngx_string("WWW-Authenticate");
    static ngx_str_t  value = ngx_string("Bearer");

    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "agent of backend \"%V\" was refused: %s",
                  ngx_http_inverting_escaped(r->pool, &ctx->backend),
                  ctx->reason);

    r->headers_out.www_authenticate =
        ngx_http_inverting_add_field(&r->headers_out.headers, &name, &value);

    if (r->headers_out.www_authenticate == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_agent_answer(r, NGX_HTTP_UNAUTHORIZED,
                                           "unauthorized\n");
}


ngx_int_t
ngx_http_inverting_agent_unavailable(ngx_http_request_t *r, const char *text)
{
    if (ngx_http_inverting_add_field(&r->headers_out.headers,
                                     &ngx_http_inverting_agent_retry,
                                     &ngx_http_inverting_agent_second)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_inverting_agent_answer(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           text);
}


ngx_int_t
ngx_http_inverting_agent_answer(ngx_http_request_t *r, ngx_uint_t status,
    const char *text)
{
    ngx_str_t  body;

    body.data = (u_char *) text;
    body.len = ngx_strlen(text);

    return ngx_http_inverting_agent_send(r, status,
                                         &ngx_http_inverting_agent_text,
                                         &body);
}


/* not by nginx's own error pages: "error_page" would change what agents see */

ngx_int_t
ngx_http_inverting_agent_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, ngx_str_t *body)
{
    ngx_http_complex_value_t  cv;

    /* a body that is not wanted is not asked for */
    r->expect_tested = 1;

    if (r->reading_body || ngx_exiting) {
        r->keepalive = 0;
    }

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));
    cv.value = *body;

    return ngx_http_send_response(r, status, type, &cv);
}


void
ngx_http_inverting_agent_cleanup(void *data)
{
    ngx_http_inverting_agent_ctx_t *ctx = data;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (ctx->end.tx) {
        ngx_http_inverting_close(&ctx->end,
                                 ctx->finished ? NGX_HTTP_INVERTING_PENDING
                                            : NGX_HTTP_INVERTING_AGENT_LOST);
    }
}


void
ngx_http_inverting_agent_exiting(ngx_http_inverting_zone_t *zone)
{
    ngx_http_inverting_poll_exiting(zone);
    ngx_http_inverting_ptth_exiting(zone);
}


/* the part before the dot stays the same for a second */

void
ngx_http_inverting_agent_start(ngx_http_inverting_tx_t *t, ngx_str_t *value)
{
    ngx_tm_t  tm;

    static uint64_t  sec = (uint64_t) -1;
    static u_char    text[sizeof("2000-01-01T00:00:00") - 1];

    if (t->start_sec != sec) {
        sec = t->start_sec;

        ngx_gmtime(sec, &tm);

        (void) ngx_sprintf(text, "%4d-%02d-%02dT%02d:%02d:%02d",
                           tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                           tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);
    }

    ngx_memcpy(value->data, text, sizeof(text));

    value->len = ngx_sprintf(value->data + sizeof(text), ".%09uDZ",
                             t->start_nsec)
                 - value->data;
}
