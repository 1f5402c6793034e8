
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <cjson/cJSON.h>

#include "ngx_http_inverting_record.h"
#include "ngx_http_inverting_proxy_module.h"


/* more than a record needs, less than would cost anything */
#define NGX_HTTP_INVERTING_JSON_DEPTH  4

/* of a name in the text of an error */
#define NGX_HTTP_INVERTING_NAME_MAX    64


typedef struct {
    ngx_str_t      name;
    ngx_uint_t     field;
} ngx_http_inverting_member_t;


static ngx_int_t ngx_http_inverting_record_error(
    ngx_http_inverting_record_error_t *error, ngx_uint_t field, char *text);
static char *ngx_http_inverting_string_error(ngx_str_t *s, size_t max);
static ngx_int_t ngx_http_inverting_utf8_next(u_char **p, u_char *last,
    uint32_t *u);

static ngx_int_t ngx_http_inverting_json_scan(ngx_pool_t *pool,
    ngx_str_t *json, ngx_http_inverting_record_error_t *error);
static ngx_int_t ngx_http_inverting_json_error(ngx_pool_t *pool,
    ngx_str_t *name, char *text, ngx_http_inverting_record_error_t *error);
static ngx_int_t ngx_http_inverting_json_syntax(ngx_pool_t *pool,
    ngx_str_t *json, size_t offset, ngx_http_inverting_record_error_t *error);
static ngx_int_t ngx_http_inverting_json_record(ngx_pool_t *pool,
    cJSON *object, ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error);
static ngx_int_t ngx_http_inverting_json_prefixes(ngx_pool_t *pool,
    cJSON *array, ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error);
static ngx_int_t ngx_http_inverting_json_string(ngx_pool_t *pool,
    cJSON *item, ngx_str_t *s);

static size_t ngx_http_inverting_json_len(ngx_str_t *s);


static ngx_http_inverting_member_t  ngx_http_inverting_members[] = {
    { ngx_string("id"), NGX_HTTP_INVERTING_FIELD_ID },
    { ngx_string("endUser"), NGX_HTTP_INVERTING_FIELD_END_USER },
    { ngx_string("backendUser"), NGX_HTTP_INVERTING_FIELD_BACKEND_USER },
    { ngx_string("pathPrefixes"), NGX_HTTP_INVERTING_FIELD_PREFIXES },

    /* output only */
    { ngx_string("lastUsed"), NGX_HTTP_INVERTING_FIELD_OTHER },
    { ngx_string("lastSeen"), NGX_HTTP_INVERTING_FIELD_OTHER },
    { ngx_string("agents"), NGX_HTTP_INVERTING_FIELD_OTHER },
    { ngx_string("waiting"), NGX_HTTP_INVERTING_FIELD_OTHER },
    { ngx_string("active"), NGX_HTTP_INVERTING_FIELD_OTHER },

    { ngx_null_string, 0 }
};


/* by ngx_http_inverting_field_e */

static ngx_str_t  ngx_http_inverting_field_names[] = {
    ngx_null_string,
    ngx_string("id"),
    ngx_string("endUser"),
    ngx_string("backendUser"),
    ngx_string("pathPrefixes"),
    ngx_null_string
};


static ngx_str_t  ngx_http_inverting_parameter_names[] = {
    ngx_null_string,
    ngx_string("id"),
    ngx_string("end_user"),
    ngx_string("backend_user"),
    ngx_string("prefix"),
    ngx_null_string
};


char *
ngx_http_inverting_backend_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_str_t                          *value, *prefixes, s, *p;
    ngx_uint_t                          i;
    ngx_array_t                         array;
    ngx_http_inverting_zone_t          *zone;
    ngx_http_inverting_record_t        *record, *records;
    ngx_http_inverting_record_error_t   error;

    value = cf->args->elts;

    zone = ngx_http_inverting_use_zone(cf, &value[1]);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    records = zone->backends->elts;

    for (i = 0; i < zone->backends->nelts; i++) {
        if (records[i].id.len == value[2].len
            && ngx_strncmp(records[i].id.data, value[2].data, value[2].len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate backend \"%V\" in \"%V\"",
                               &value[2], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    record = ngx_array_push(zone->backends);
    if (record == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(record, sizeof(ngx_http_inverting_record_t));

    record->id = value[2];
    record->configured = 1;

    if (ngx_array_init(&array, cf->pool, 1, sizeof(ngx_str_t)) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    for (i = 3; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "end_user=", 9) == 0) {
            p = &record->end_user;
            s.data = value[i].data + 9;

        } else if (ngx_strncmp(value[i].data, "backend_user=", 13) == 0) {
            p = &record->backend_user;
            s.data = value[i].data + 13;

        } else if (ngx_strncmp(value[i].data, "prefix=", 7) == 0) {
            p = ngx_array_push(&array);
            if (p == NULL) {
                return NGX_CONF_ERROR;
            }

            p->data = NULL;
            s.data = value[i].data + 7;

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        if (p->data) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate parameter \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        s.len = value[i].data + value[i].len - s.data;
        *p = s;
    }

    if (array.nelts == 0) {
        prefixes = ngx_array_push(&array);
        if (prefixes == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_str_set(prefixes, "/");
    }

    record->prefixes = array.elts;
    record->nprefixes = array.nelts;

    if (ngx_http_inverting_record_validate(record, &error) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" of \"%V\" \"%V\" %V",
                           &ngx_http_inverting_parameter_names[error.field],
                           &cmd->name, &record->id, &error.text);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_uint_t
ngx_http_inverting_record_id_valid(ngx_str_t *id)
{
    u_char  ch;
    size_t  i;

    if (id->len == 0 || id->len > NGX_HTTP_INVERTING_BACKEND_ID_LEN) {
        return 0;
    }

    /* as parts of a path these two can't be named */

    if (id->data[0] == '.'
        && (id->len == 1 || (id->len == 2 && id->data[1] == '.')))
    {
        return 0;
    }

    for (i = 0; i < id->len; i++) {
        ch = id->data[i];

        if ((ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z')
            || (ch >= '0' && ch <= '9')
            || ch == '.' || ch == '_' || ch == '-')
        {
            continue;
        }

        return 0;
    }

    return 1;
}


ngx_int_t
ngx_http_inverting_record_validate(ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error)
{
    char        *text;
    ngx_str_t   *p;
    ngx_uint_t   i, n;

    if (record->id.data == NULL) {
        return ngx_http_inverting_record_error(error,
                                               NGX_HTTP_INVERTING_FIELD_ID,
                                               "is required");
    }

    if (!ngx_http_inverting_record_id_valid(&record->id)) {
        return ngx_http_inverting_record_error(error,
                        NGX_HTTP_INVERTING_FIELD_ID,
                        "must have 1 to 128 characters of A-Z, a-z, 0-9, "
                        "\".\", \"_\" and \"-\", and not be \".\" or \"..\"");
    }

    text = ngx_http_inverting_string_error(&record->end_user,
                                           NGX_HTTP_INVERTING_USER_LEN);
    if (text) {
        return ngx_http_inverting_record_error(error,
                                  NGX_HTTP_INVERTING_FIELD_END_USER, text);
    }

    text = ngx_http_inverting_string_error(&record->backend_user,
                                           NGX_HTTP_INVERTING_USER_LEN);
    if (text) {
        return ngx_http_inverting_record_error(error,
                                  NGX_HTTP_INVERTING_FIELD_BACKEND_USER, text);
    }

    if (record->prefixes == NULL) {
        return ngx_http_inverting_record_error(error,
                           NGX_HTTP_INVERTING_FIELD_PREFIXES, "is required");
    }

    if (record->nprefixes == 0
        || record->nprefixes > NGX_HTTP_INVERTING_PREFIXES)
    {
        return ngx_http_inverting_record_error(error,
                                       NGX_HTTP_INVERTING_FIELD_PREFIXES,
                                       "must be given 1 to 64 times");
    }

    for (i = 0; i < record->nprefixes; i++) {
        p = &record->prefixes[i];

        text = ngx_http_inverting_string_error(p,
                                               NGX_HTTP_INVERTING_PREFIX_LEN);

        if (text == NULL && p->data[0] != '/') {
            text = "must begin with \"/\"";
        }

        for (n = 0; text == NULL && n < i; n++) {

            if (p->len == record->prefixes[n].len
                && ngx_memcmp(p->data, record->prefixes[n].data, p->len) == 0)
            {
                text = "must not have the same prefix twice";
            }
        }

        if (text) {
            return ngx_http_inverting_record_error(error,
                                   NGX_HTTP_INVERTING_FIELD_PREFIXES, text);
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_record_error(ngx_http_inverting_record_error_t *error,
    ngx_uint_t field, char *text)
{
    error->field = field;
    error->name = ngx_http_inverting_field_names[field];
    error->text.len = ngx_strlen(text);
    error->text.data = (u_char *) text;

    return NGX_DECLINED;
}


/* what is wrong with an identity or a prefix of at most 256 bytes, or NULL */

static char *
ngx_http_inverting_string_error(ngx_str_t *s, size_t max)
{
    u_char    *p, *last;
    uint32_t   u;

    if (s->data == NULL) {
        return "is required";
    }

    if (s->len == 0) {
        return "must not be empty";
    }

    if (s->len > max) {
        return "must not have more than 256 bytes";
    }

    p = s->data;
    last = p + s->len;

    while (p < last) {

        if (ngx_http_inverting_utf8_next(&p, last, &u) != NGX_OK) {
            return "must be valid UTF-8";
        }

        if (u < 0x20 || (u >= 0x7f && u < 0xa0)) {
            return "must not have control characters";
        }
    }

    return NULL;
}


/* stricter than ngx_utf8_decode(), which takes surrogates, and 0xf8 to 0xff */

static ngx_int_t
ngx_http_inverting_utf8_next(u_char **p, u_char *last, uint32_t *u)
{
    u_char  ch;

    ch = **p;

    if (ch < 0x80) {
        (*p)++;
        *u = ch;
        return NGX_OK;
    }

    if (ch > 0xf4) {
        return NGX_ERROR;
    }

    *u = ngx_utf8_decode(p, last - *p);

    if (*u > 0x10ffff || (*u >= 0xd800 && *u <= 0xdfff)) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_inverting_record_parse(ngx_pool_t *pool, ngx_str_t *json,
    ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error)
{
    cJSON       *root;
    ngx_int_t    rc;
    const char  *end, *last;

    ngx_memzero(record, sizeof(ngx_http_inverting_record_t));
    ngx_memzero(error, sizeof(ngx_http_inverting_record_error_t));

    rc = ngx_http_inverting_json_scan(pool, json, error);
    if (rc != NGX_OK) {
        return rc;
    }

    end = (char *) json->data;
    last = end + json->len;

    root = cJSON_ParseWithLengthOpts(end, json->len, &end, 0);

    if (root == NULL) {
        return ngx_http_inverting_json_syntax(pool, json,
                                              end - (char *) json->data,
                                              error);
    }

    /* the scan has left no other characters below the space */

    while (end < last && *end <= ' ') {
        end++;
    }

    if (end != last) {
        rc = ngx_http_inverting_json_syntax(pool, json,
                                            end - (char *) json->data, error);

    } else if (!cJSON_IsObject(root)) {
        rc = ngx_http_inverting_record_error(error,
                                             NGX_HTTP_INVERTING_FIELD_NONE,
                                             "must be a JSON object");

    } else {
        rc = ngx_http_inverting_json_record(pool, root, record, error);
    }

    cJSON_Delete(root);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_inverting_record_validate(record, error);
}


/*
 * What cJSON lets pass: control characters, bad UTF-8, an escaped zero, which
 * would end its strings, and nesting that takes a lot of stack.
 */

static ngx_int_t
ngx_http_inverting_json_scan(ngx_pool_t *pool, ngx_str_t *json,
    ngx_http_inverting_record_error_t *error)
{
    u_char      *p, *last, *start, ch;
    uint32_t     u;
    ngx_str_t    name, string;
    ngx_uint_t   depth;

    p = json->data;
    last = p + json->len;

    start = NULL;
    depth = 0;

    ngx_str_null(&name);
    ngx_str_null(&string);

    while (p < last) {
        ch = *p;

        if (start) {

            if (ch < 0x20) {
                return ngx_http_inverting_json_error(pool, &name,
                                   "must not have control characters", error);
            }

            if (ch == '"') {
                if (depth == 1) {
                    string.data = start;
                    string.len = p - start;
                }

                start = NULL;

            } else if (ch == '\\' && last - p > 1) {

                if (last - p > 5 && ngx_strncmp(p, "\\u0000", 6) == 0) {
                    return ngx_http_inverting_json_error(pool, &name,
                                   "must not have control characters", error);
                }

                p += (p[1] < 0x80) ? 2 : 1;
                continue;

            } else if (ch >= 0x80) {

                if (ngx_http_inverting_utf8_next(&p, last, &u) != NGX_OK) {
                    return ngx_http_inverting_json_error(pool, &name,
                                                "must be valid UTF-8", error);
                }

                continue;
            }

            p++;
            continue;
        }

        switch (ch) {

        case '"':
            start = p + 1;
            break;

        case '{':
        case '[':
            if (++depth > NGX_HTTP_INVERTING_JSON_DEPTH) {
                return ngx_http_inverting_json_error(pool, &name,
                                               "is nested too deeply", error);
            }

            break;

        case '}':
        case ']':
            if (depth == 0) {
                return ngx_http_inverting_json_syntax(pool, json,
                                                      p - json->data, error);
            }

            depth--;
            break;

        case ':':
            if (depth == 1) {
                name = string;
            }

            break;

        case ',':
            if (depth == 1) {
                ngx_str_null(&name);
            }

            break;

        case ' ':
        case '\t':
        case '\r':
        case '\n':
            break;

        default:
            if (ch < 0x20 || ch >= 0x7f) {
                return ngx_http_inverting_json_syntax(pool, json,
                                                      p - json->data, error);
            }
        }

        p++;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_json_error(ngx_pool_t *pool, ngx_str_t *name, char *text,
    ngx_http_inverting_record_error_t *error)
{
    size_t                        len;
    ngx_http_inverting_member_t  *member;

    for (member = ngx_http_inverting_members; member->name.len; member++) {
        if (member->name.len == name->len
            && ngx_strncmp(member->name.data, name->data, name->len) == 0)
        {
            break;
        }
    }

    (void) ngx_http_inverting_record_error(error,
                                           NGX_HTTP_INVERTING_FIELD_OTHER,
                                           text);

    if (name->len == 0) {
        error->field = NGX_HTTP_INVERTING_FIELD_NONE;
        return NGX_DECLINED;
    }

    if (member->name.len) {
        error->field = member->field;
        error->name = member->name;
        return NGX_DECLINED;
    }

    len = name->len;

    if (len > NGX_HTTP_INVERTING_NAME_MAX) {
        len = NGX_HTTP_INVERTING_NAME_MAX;

        /* not in the middle of a character */

        while (len && (name->data[len] & 0xc0) == 0x80) {
            len--;
        }
    }

    error->name.len = len;
    error->name.data = ngx_pnalloc(pool, len);
    if (error->name.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(error->name.data, name->data, len);

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_inverting_json_syntax(ngx_pool_t *pool, ngx_str_t *json,
    size_t offset, ngx_http_inverting_record_error_t *error)
{
    u_char  *p;

    if (json->len == 0) {
        return ngx_http_inverting_record_error(error,
                                               NGX_HTTP_INVERTING_FIELD_NONE,
                                               "is empty");
    }

    p = ngx_pnalloc(pool, sizeof("is not valid JSON at byte ")
                          + NGX_SIZE_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(p, "is not valid JSON at byte %uz%Z",
                ngx_min(offset, json->len));

    return ngx_http_inverting_record_error(error,
                                           NGX_HTTP_INVERTING_FIELD_NONE,
                                           (char *) p);
}


static ngx_int_t
ngx_http_inverting_json_record(ngx_pool_t *pool, cJSON *object,
    ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error)
{
    cJSON                        *item;
    ngx_int_t                     rc;
    ngx_str_t                     name, *s;
    ngx_uint_t                    seen, bit;
    ngx_http_inverting_member_t  *member;

    seen = 0;

    cJSON_ArrayForEach(item, object) {

        name.data = (u_char *) item->string;
        name.len = ngx_strlen(item->string);

        if (name.len == 0) {
            return ngx_http_inverting_record_error(error,
                                            NGX_HTTP_INVERTING_FIELD_NONE,
                                            "has a field without a name");
        }

        bit = 1;

        for (member = ngx_http_inverting_members; member->name.len; member++) {

            if (ngx_strcmp(member->name.data, name.data) == 0) {
                break;
            }

            bit <<= 1;
        }

        if (member->name.len == 0) {
            return ngx_http_inverting_json_error(pool, &name,
                                                 "is not a known field",
                                                 error);
        }

        if (seen & bit) {
            return ngx_http_inverting_json_error(pool, &name,
                                                 "is given twice", error);
        }

        seen |= bit;

        switch (member->field) {

        case NGX_HTTP_INVERTING_FIELD_ID:
            s = &record->id;
            break;

        case NGX_HTTP_INVERTING_FIELD_END_USER:
            s = &record->end_user;
            break;

        case NGX_HTTP_INVERTING_FIELD_BACKEND_USER:
            s = &record->backend_user;
            break;

        case NGX_HTTP_INVERTING_FIELD_PREFIXES:
            rc = ngx_http_inverting_json_prefixes(pool, item, record, error);
            if (rc != NGX_OK) {
                return rc;
            }

            continue;

        default:
            continue;
        }

        if (!cJSON_IsString(item)) {
            return ngx_http_inverting_record_error(error, member->field,
                                                   "must be a string");
        }

        if (ngx_http_inverting_json_string(pool, item, s) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_json_prefixes(ngx_pool_t *pool, cJSON *array,
    ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error)
{
    cJSON       *item;
    ngx_uint_t   n;

    if (!cJSON_IsArray(array)) {
        return ngx_http_inverting_record_error(error,
                                           NGX_HTTP_INVERTING_FIELD_PREFIXES,
                                           "must be an array of strings");
    }

    n = 0;

    cJSON_ArrayForEach(item, array) {
        n++;
    }

    if (n == 0 || n > NGX_HTTP_INVERTING_PREFIXES) {
        return ngx_http_inverting_record_error(error,
                                           NGX_HTTP_INVERTING_FIELD_PREFIXES,
                                           "must have 1 to 64 elements");
    }

    record->prefixes = ngx_palloc(pool, n * sizeof(ngx_str_t));
    if (record->prefixes == NULL) {
        return NGX_ERROR;
    }

    cJSON_ArrayForEach(item, array) {

        if (!cJSON_IsString(item)) {
            return ngx_http_inverting_record_error(error,
                                           NGX_HTTP_INVERTING_FIELD_PREFIXES,
                                           "must be an array of strings");
        }

        if (ngx_http_inverting_json_string(pool, item,
                                        &record->prefixes[record->nprefixes])
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        record->nprefixes++;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_inverting_json_string(ngx_pool_t *pool, cJSON *item, ngx_str_t *s)
{
    s->len = ngx_strlen(item->valuestring);

    /* not NULL where it is empty: the field is there */

    s->data = ngx_pnalloc(pool, s->len + 1);
    if (s->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(s->data, item->valuestring, s->len + 1);

    return NGX_OK;
}


u_char *
ngx_http_inverting_record_write(u_char *p, ngx_http_inverting_record_t *record)
{
    ngx_uint_t  i;

    p = ngx_cpymem(p, "\"id\":", 5);
    p = ngx_http_inverting_json_write(p, &record->id);

    p = ngx_cpymem(p, ",\"endUser\":", 11);
    p = ngx_http_inverting_json_write(p, &record->end_user);

    p = ngx_cpymem(p, ",\"backendUser\":", 15);
    p = ngx_http_inverting_json_write(p, &record->backend_user);

    p = ngx_cpymem(p, ",\"pathPrefixes\":", 16);

    for (i = 0; i < record->nprefixes; i++) {
        *p++ = i ? ',' : '[';
        p = ngx_http_inverting_json_write(p, &record->prefixes[i]);
    }

    *p++ = ']';

    return p;
}


size_t
ngx_http_inverting_record_len(ngx_http_inverting_record_t *record)
{
    size_t      len;
    ngx_uint_t  i;

    len = sizeof("\"id\":,\"endUser\":,\"backendUser\":,\"pathPrefixes\":]")
          - 1
          + ngx_http_inverting_json_len(&record->id)
          + ngx_http_inverting_json_len(&record->end_user)
          + ngx_http_inverting_json_len(&record->backend_user);

    for (i = 0; i < record->nprefixes; i++) {
        len += 1 + ngx_http_inverting_json_len(&record->prefixes[i]);
    }

    return len;
}


u_char *
ngx_http_inverting_json_write(u_char *p, ngx_str_t *s)
{
    *p++ = '"';
    p = (u_char *) ngx_escape_json(p, s->data, s->len);
    *p++ = '"';

    return p;
}


static size_t
ngx_http_inverting_json_len(ngx_str_t *s)
{
    return 2 + s->len + (size_t) ngx_escape_json(NULL, s->data, s->len);
}
