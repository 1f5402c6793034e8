#include "failure.h"

#include <stdlib.h>
#include <string.h>

#include "agent/memory.h"
#include "json.h"
#include "report.h"

#define TITLE_MAX 200


/* Where the address came from is where to correct it. */
static void hint_address(const struct config *c)
{
    report_hint(stderr, "Is this the address of an inverting_proxy_api "
                "location? It is from %s.", c->source);
}


static void hint_credentials(const struct config *c)
{
    if (c->withheld) {
        report_hint(stderr, "The credentials in %s are for %s only; use "
                    "--config with a file", c->file, c->address);
        report_hint(stderr, "for this server.");

    } else if (c->user == NULL && c->token == NULL
               && c->client_cert == NULL) {
        report_hint(stderr, "It wants to know who you are: put user and "
                    "password-file, token-file, or");
        report_hint(stderr, "client-cert into %s.",
                    c->file != NULL ? c->file : "a file for --config");

    } else {
        report_hint(stderr, "Are the credentials in %s good for it?",
                    c->file);
    }
}


int failure_transfer(const struct config *c, CURLcode code,
                     const char *detail)
{
    report(stderr, "%s: %s", c->url,
           *detail != '\0' ? detail : curl_easy_strerror(code));

    switch (code) {

    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        report_hint(stderr, "Is nginx running, and does it listen there? The "
                    "address is from %s.", c->source);
        break;

    case CURLE_OPERATION_TIMEDOUT:
        report_hint(stderr, "It did not answer within %ld s; --timeout makes "
                    "that longer.", c->timeout);
        break;

    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        report_hint(stderr, "The server is verified against %s; ca-file in "
                    "%s changes that.",
                    c->ca_file != NULL ? c->ca_file
                                       : "the system's certificates",
                    c->file != NULL ? c->file : "a file for --config");
        break;

    case CURLE_SSL_CERTPROBLEM:
        report_hint(stderr, "Look at client-cert and client-key in %s.",
                    c->file);
        break;

    case CURLE_SSL_CONNECT_ERROR:
        report_hint(stderr, "Does it speak TLS there? The address is from "
                    "%s.", c->source);
        break;

    default:
        break;
    }

    return EXIT_REFUSED;
}


/* The API's own error. */
static int refused(const struct config *c, long status, const cJSON *error)
{
    const char *message = json_string(error, "message");
    const char *field = json_string(error, "field");
    const struct option *option = NULL;

    if (field != NULL) {
        option = options_of_field(field);
        report(stderr, "%s (status %ld, field \"%s\")", message, status,
               field);
    } else {
        report(stderr, "%s (status %ld)", message, status);
    }

    if (option != NULL) {
        report_hint(stderr, "This is what --%s sets.", option->name);
    }

    if (status == 401) {
        hint_credentials(c);
    }

    return status == 404 ? EXIT_NOT_FOUND : EXIT_REFUSED;
}


/* The title of nginx's own pages says more than the status. */
static char *find_title(const char *body, size_t len)
{
    char *text = mem_dup(len > 0 ? body : "", len), *title = NULL;
    const char *start = strstr(text, "<title>"), *end;

    if (start != NULL) {
        start += sizeof("<title>") - 1;
        end = strstr(start, "</title>");

        if (end != NULL && end > start && end - start < TITLE_MAX) {
            title = mem_dup(start, (size_t) (end - start));
        }
    }

    free(text);

    return title;
}


int failure_answer(const struct config *c, long status, const char *body,
                   size_t len)
{
    cJSON *root = len > 0 ? cJSON_ParseWithLength(body, len) : NULL;
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(root, "error");
    char *title;
    int rc;

    if (json_string(error, "message") != NULL) {
        rc = refused(c, status, error);
        cJSON_Delete(root);
        return rc;
    }

    cJSON_Delete(root);
    title = find_title(body, len);

    if (title != NULL) {
        report(stderr, "%s: the server answered \"%s\"", c->url, title);
    } else {
        report(stderr, "%s: the server answered with status %ld", c->url,
               status);
    }

    free(title);

    /* 400: nginx wants a client certificate, or TLS */
    if (status == 400 || status == 401 || status == 403) {
        hint_credentials(c);
    }

    if (status / 100 == 3 || status == 400 || status == 404
        || status == 405) {
        hint_address(c);
    }

    return EXIT_REFUSED;
}


int failure_foreign(const struct config *c, long status)
{
    report(stderr, "%s: the answer (status %ld) is not the API's", c->url,
           status);
    hint_address(c);

    return EXIT_REFUSED;
}
