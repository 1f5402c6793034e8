#include <stdio.h>
#include <stdlib.h>

#include "agent/buf.h"
#include "answer.h"
#include "commands.h"
#include "report.h"
#include "table.h"
#include "text.h"

#define NAME_WIDTH 32
#define PATH_MAX_LEN 512 /* of ids that options_is_id() has let pass */

struct listing {
    struct table *table; /* NULL: ids only */
    time_t now;
};

static const struct column columns[] = {
    {"ID", false, 0},
    {"END USER", false, NAME_WIDTH},
    {"BACKEND USER", false, NAME_WIDTH},
    {"PREFIXES", false, NAME_WIDTH},
    {"AGENTS", true, 0},
    {"WAITING", true, 0},
    {"ACTIVE", true, 0},
    {"LAST SEEN", false, 0},
    {"LAST USED", false, 0},
};

#define COLUMNS (sizeof(columns) / sizeof(columns[0]))


/* "/a, /b" in new memory, NULL for none */
static char *join_prefixes(const cJSON *backend)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(backend,
                                                          "pathPrefixes");
    struct buf text = {0};
    const cJSON *prefix;

    cJSON_ArrayForEach(prefix, array) {
        if (cJSON_IsString(prefix)) {
            buf_append_str(&text, buf_len(&text) > 0 ? ", " : "");
            buf_append_str(&text, prefix->valuestring);
        }
    }

    if (buf_len(&text) > 0) {
        buf_append(&text, "", 1);
    }

    return text.data;
}


static void list_row(void *arg, const cJSON *backend)
{
    const struct listing *listing = arg;
    const char *id = json_string(backend, "id");
    char numbers[3][JSON_NUMBER], times[2][TEXT_AGO], *prefixes;

    if (listing->table == NULL) {
        printf("%s\n", id != NULL ? id : "");
        return;
    }

    prefixes = join_prefixes(backend);

    table_row(listing->table, (const char *const[COLUMNS]) {
        id,
        json_string(backend, "endUser"),
        json_string(backend, "backendUser"),
        prefixes,
        json_number(backend, "agents", numbers[0]),
        json_number(backend, "waiting", numbers[1]),
        json_number(backend, "active", numbers[2]),
        text_ago(json_string(backend, "lastSeen"), listing->now, times[0]),
        text_ago(json_string(backend, "lastUsed"), listing->now, times[1])});

    free(prefixes);
}


int backends_list(const struct options *o, struct client *client)
{
    struct listing listing = {.now = time(NULL)};
    int rc;

    if (o->quiet || o->json) {
        return answer_list(o, client, "backends", NULL, list_row, &listing,
                           NULL);
    }

    listing.table = table_new(stdout, columns, COLUMNS);
    rc = answer_list(o, client, "backends", NULL, list_row, &listing, NULL);
    table_end(listing.table, rc == EXIT_DONE);

    return rc;
}


/* "2001-02-03T04:05:06Z (5m ago)" */
static void print_time(const char *name, const char *when)
{
    char ago[TEXT_AGO], text[2 * TEXT_AGO + 4];

    if (text_ago(when, time(NULL), ago) == NULL) {
        table_fact(stdout, name, NULL);
        return;
    }

    snprintf(text, sizeof(text), "%.31s (%s)", when, ago);
    table_fact(stdout, name, text);
}


static void print_backend(const cJSON *backend)
{
    static const struct {
        const char *title, *field;
    } counts[] = {{"agents", "agents"}, {"waiting", "waiting"},
                  {"active", "active"}};
    const cJSON *array, *prefix;
    const char *title = "prefixes";
    char number[JSON_NUMBER];

    table_fact(stdout, "id", json_string(backend, "id"));
    table_fact(stdout, "end user", json_string(backend, "endUser"));
    table_fact(stdout, "backend user", json_string(backend, "backendUser"));

    array = cJSON_GetObjectItemCaseSensitive(backend, "pathPrefixes");

    cJSON_ArrayForEach(prefix, array) {
        table_fact(stdout, title, cJSON_GetStringValue(prefix));
        title = "";
    }

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        table_fact(stdout, counts[i].title,
                   json_number(backend, counts[i].field, number));
    }

    print_time("last seen", json_string(backend, "lastSeen"));
    print_time("last used", json_string(backend, "lastUsed"));
}


/* Makes the call, and shows the backend that is the answer. */
static int show(const struct options *o, struct client *client,
                struct call *call)
{
    cJSON *backend;
    int rc = answer_document(o, client, call, &backend);

    if (rc == EXIT_DONE && backend != NULL && !o->quiet) {
        print_backend(backend);
    }

    cJSON_Delete(backend);

    return rc;
}


int backends_get(const struct options *o, struct client *client)
{
    char path[PATH_MAX_LEN];
    struct call call = {.method = "GET", .path = path};

    snprintf(path, sizeof(path), "backends/%s", o->arguments[0]);

    return show(o, client, &call);
}


int backends_create(const struct options *o, struct client *client)
{
    struct call call = {.method = "POST", .path = "backends"};
    cJSON *record = json_made(cJSON_CreateObject()), *prefixes;
    char *body;
    int rc;

    json_add(record, "id", o->arguments[0]);
    json_add(record, "endUser", o->end_user);
    json_add(record, "backendUser", o->backend_user);
    prefixes = json_made(cJSON_AddArrayToObject(record, "pathPrefixes"));

    for (size_t i = 0; i < o->nprefixes || i == 0; i++) {
        cJSON_AddItemToArray(prefixes, json_made(cJSON_CreateString(
                                 o->nprefixes > 0 ? o->prefixes[i] : "/")));
    }

    body = json_made(cJSON_PrintUnformatted(record));
    cJSON_Delete(record);

    call.body = body;
    rc = show(o, client, &call);
    cJSON_free(body);

    return rc;
}


int backends_delete(const struct options *o, struct client *client)
{
    char path[PATH_MAX_LEN];
    struct call call = {.method = "DELETE", .path = path};
    cJSON *doc;
    int rc;

    snprintf(path, sizeof(path), "backends/%s", o->arguments[0]);
    rc = answer_document(o, client, &call, &doc);

    if (rc == EXIT_DONE && doc != NULL && !o->quiet) {
        printf("backend \"%s\" is deleted\n", o->arguments[0]);
    }

    cJSON_Delete(doc);

    return rc;
}
