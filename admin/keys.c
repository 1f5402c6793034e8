#include <stdio.h>

#include "answer.h"
#include "commands.h"
#include "report.h"
#include "table.h"
#include "text.h"

#define PATH_MAX_LEN 512 /* of ids that options_is_id() has let pass */

struct listing {
    struct table *table; /* NULL: ids only */
    time_t now;
};

static const struct column columns[] = {
    {"ID", false, 0},
    {"CREATED", false, 0},
    {"LAST USED", false, 0},
    {"NOTE", false, 0},
};

#define COLUMNS (sizeof(columns) / sizeof(columns[0]))


static void list_row(void *arg, const cJSON *key)
{
    const struct listing *listing = arg;
    const char *id = json_string(key, "id");
    char times[2][TEXT_AGO];

    if (listing->table == NULL) {
        printf("%s\n", id != NULL ? id : "");
        return;
    }

    table_row(listing->table, (const char *const[COLUMNS]) {
        id,
        text_ago(json_string(key, "created"), listing->now, times[0]),
        text_ago(json_string(key, "lastUsed"), listing->now, times[1]),
        json_string(key, "note")});
}


int keys_list(const struct options *o, struct client *client)
{
    struct listing listing = {.now = time(NULL)};
    char path[PATH_MAX_LEN];
    int rc;

    snprintf(path, sizeof(path), "backends/%s/keys", o->arguments[0]);

    if (o->quiet || o->json) {
        return answer_list(o, client, path, NULL, list_row, &listing, NULL);
    }

    listing.table = table_new(stdout, columns, COLUMNS);
    rc = answer_list(o, client, path, NULL, list_row, &listing, NULL);
    table_end(listing.table, rc == EXIT_DONE);

    return rc;
}


static int print_key(const struct options *o, const cJSON *key)
{
    const char *secret = json_string(key, "secret");
    const char *id = json_string(key, "id");

    if (secret == NULL || id == NULL) {
        report(stderr, "the server's answer has no key in it");
        return EXIT_REFUSED;
    }

    if (o->quiet) {
        printf("%s\n", secret);

    } else {
        table_fact(stdout, "id", id);
        table_fact(stdout, "backend", json_string(key, "backend"));
        table_fact(stdout, "created", json_string(key, "created"));
        table_fact(stdout, "note", json_string(key, "note"));
        table_fact(stdout, "secret", secret);
        printf("\nThe secret is not shown again. It goes into the file of "
               "the agent's\n-token-file, which only the agent may read.\n");
    }

    if (!answer_flush()) {
        report(stderr, "key %s was made, but its secret is lost: revoke it",
               id);
        return EXIT_REFUSED;
    }

    return EXIT_DONE;
}


int keys_create(const struct options *o, struct client *client)
{
    char path[PATH_MAX_LEN];
    struct call call = {.method = "POST", .path = path};
    cJSON *note = json_made(cJSON_CreateObject()), *key;
    char *body;
    int rc;

    snprintf(path, sizeof(path), "backends/%s/keys", o->arguments[0]);
    json_add(note, "note", o->note);
    body = json_made(cJSON_PrintUnformatted(note));
    cJSON_Delete(note);

    call.body = body;
    rc = answer_document(o, client, &call, &key);
    cJSON_free(body);

    if (rc == EXIT_DONE && key != NULL) {
        rc = print_key(o, key);

    } else if (rc == EXIT_DONE && !answer_flush()) {
        report(stderr, "a key was made, but its secret is lost: \"keys list "
               "%s\" shows which one to revoke", o->arguments[0]);
        rc = EXIT_REFUSED;
    }

    cJSON_Delete(key);

    return rc;
}


int keys_revoke(const struct options *o, struct client *client)
{
    char path[PATH_MAX_LEN];
    struct call call = {.method = "DELETE", .path = path};
    cJSON *doc;
    int rc;

    snprintf(path, sizeof(path), "backends/%s/keys/%s", o->arguments[0],
             o->arguments[1]);
    rc = answer_document(o, client, &call, &doc);

    if (rc == EXIT_DONE && doc != NULL && !o->quiet) {
        printf("key \"%s\" of backend \"%s\" is revoked\n", o->arguments[1],
               o->arguments[0]);
    }

    cJSON_Delete(doc);

    return rc;
}
