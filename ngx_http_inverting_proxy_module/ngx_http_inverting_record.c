
/*
 * Copyright (C) the inverting proxy authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_inverting_record.h"


typedef struct {
    ngx_str_t      name;
    ngx_uint_t     field;
} ngx_http_inverting_member_t;


static ngx_int_t ngx_http_inverting_record_error(
    ngx_http_inverting_record_error_t *error, ngx_uint_t field, char *text);

static ngx_int_t ngx_http_inverting_json_record(ngx_pool_t *pool,
    cJSON *object, ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error);
static ngx_int_t ngx_http_inverting_json_prefixes(ngx_pool_t *pool,
    cJSON *array, ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error);


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

    /* inverting_proxy_user is never that: nobody would be served */

    if (text == NULL
        && (record->end_user.data[0] == ' '
            || record->end_user.data[record->end_user.len - 1] == ' '))
    {
        text = "must not begin or end with a space";
    }

    if (text) {
        return ngx_http_inverting_record_error(error,
                                  NGX_HTTP_INVERTING_FIELD_END_USER, text);
    }

    text = record->backend_user.len
           ? ngx_http_inverting_string_error(&record->backend_user,
                                             NGX_HTTP_INVERTING_USER_LEN)
           : NULL;

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


ngx_int_t
ngx_http_inverting_record_parse(ngx_pool_t *pool, ngx_str_t *json,
    ngx_http_inverting_record_t *record,
    ngx_http_inverting_record_error_t *error)
{
    cJSON      *root;
    ngx_int_t   rc;

    ngx_memzero(record, sizeof(ngx_http_inverting_record_t));

    rc = ngx_http_inverting_json_parse(pool, json, &root, error);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_inverting_json_record(pool, root, record, error);

    cJSON_Delete(root);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_inverting_record_validate(record, error);
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
