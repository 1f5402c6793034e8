#include "answer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cutter.h"
#include "report.h"

#define DOCUMENT_MAX (1024 * 1024)

struct list {
    struct cutter cutter;
    bool json;
    void (*row)(void *arg, const cJSON *object);
    void *arg;
};


static int not_json(void)
{
    report(stderr, "the server's answer is not the JSON that was expected, "
           "or was cut short");

    return EXIT_REFUSED;
}


bool answer_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return true;
    }

    /* whoever closed the pipe ("| head") has seen enough */
    if (errno != EPIPE) {
        report(stderr, "cannot write the output: %s", strerror(errno));
    }

    return false;
}


static bool print(const char *p, size_t n)
{
    return fwrite(p, 1, n, stdout) == n || answer_flush();
}


static bool document_sink(void *arg, const char *p, size_t n)
{
    struct buf *document = arg;

    if (n > DOCUMENT_MAX - buf_len(document)) {
        report(stderr, "the server's answer is too large");
        return false;
    }

    buf_append(document, p, n);

    return true;
}


int answer_document(const struct options *o, struct client *client,
                    struct call *call, cJSON **doc)
{
    struct buf document = {0};
    int rc;

    *doc = NULL;
    call->sink = document_sink;
    call->arg = &document;
    rc = client_call(client, call);

    if (rc == EXIT_DONE) {
        buf_append(&document, "", 1);
        *doc = cJSON_ParseWithOpts(buf_ptr(&document), NULL, 1);

        if (*doc == NULL) {
            rc = not_json();

        } else if (o->json) {
            cJSON_Delete(*doc);
            *doc = NULL;
            rc = print(buf_ptr(&document), buf_len(&document) - 1)
                 ? EXIT_DONE : EXIT_REFUSED;
        }
    }

    buf_free(&document);

    return rc;
}


static bool take_element(void *arg, const char *text, size_t len)
{
    struct list *list = arg;
    const char *end = NULL;
    cJSON *object = cJSON_ParseWithLengthOpts(text, len, &end, 0);
    bool whole = object != NULL && end == text + len;

    if (whole && !list->json) {
        list->row(list->arg, object);
    }

    cJSON_Delete(object);

    return whole;
}


static bool list_sink(void *arg, const char *p, size_t n)
{
    struct list *list = arg;

    if (!cutter_feed(&list->cutter, p, n)) {
        not_json();
        return false;
    }

    return !list->json || print(p, n);
}


int answer_list(const struct options *o, struct client *client,
                const char *path, const char *member,
                void (*row)(void *arg, const cJSON *object), void *arg,
                cJSON **rest)
{
    struct list list = {
        .cutter = {.member = member, .element = take_element, .arg = &list},
        .json = o->json, .row = row, .arg = arg};
    struct call call = {.method = "GET", .path = path, .sink = list_sink,
                        .arg = &list};
    int rc = client_call(client, &call);
    cJSON *outside;

    if (rc == EXIT_DONE) {
        buf_append(&list.cutter.rest, "", 1);
        outside = cJSON_ParseWithOpts(buf_ptr(&list.cutter.rest), NULL, 1);

        if (outside == NULL || !cutter_end(&list.cutter)) {
            rc = not_json();
        }

        if (rest != NULL) {
            *rest = outside;
        } else {
            cJSON_Delete(outside);
        }
    }

    cutter_free(&list.cutter);

    return rc;
}
