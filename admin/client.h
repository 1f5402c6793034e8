/*
 * Calls of the API, one at a time, over libcurl.
 */

#ifndef ADMIN_CLIENT_H
#define ADMIN_CLIENT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "config.h"

struct client;

struct call {
    const char *method;
    const char *path; /* behind the prefix: "backends/home" */
    const char *body; /* JSON, or NULL */
    /* the answer's body, as it comes; false ends the call, of which the sink
     * has said why, if need be. Not called for what is not JSON. */
    bool (*sink)(void *arg, const char *p, size_t n);
    void *arg;
};

/* NULL after a line on stderr. config must live as long. */
struct client *client_open(const struct config *config);

/* Calls are given up, without a word, when *stop has become true. */
void client_stop_on(struct client *client, volatile sig_atomic_t *stop);

/* The exit status; other than EXIT_DONE, it was said why on stderr. */
int client_call(struct client *client, const struct call *call);

void client_close(struct client *client);

#endif
