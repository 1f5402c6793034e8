/*
 * The command line: one table, from which parsing and --help are made.
 */

#ifndef AGENT_OPTIONS_H
#define AGENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "origin.h"

enum transport_kind { TRANSPORT_AUTO, TRANSPORT_PTTH, TRANSPORT_POLL };

struct options {
    struct origin proxy;
    struct origin host;
    const char *backend;
    uint64_t proxy_timeout; /* milliseconds, as all of them */
    uint64_t forwarding_timeout;
    uint64_t shutdown_timeout;
    bool force_http2;
    bool forward_user_id;
    bool strip_credentials;
    bool debug;
    const char *token_file; /* NULL when not given, as the next three */
    const char *ca_file;
    const char *client_cert;
    const char *client_key;
    bool insecure_http;
    long max_concurrency;
    enum transport_kind transport;
    long connections; /* 0: one in each worker */
    bool help;
    bool version;
};

/* Exit statuses of the process. */
#define EXIT_BAD_USAGE 2
#define EXIT_NOT_STARTED 1

/*
 * Read the command line into o. Returns 0, or the exit status after a line
 * on err that names the flag: EXIT_BAD_USAGE for an unknown flag or a bad
 * value, EXIT_NOT_STARTED for a required one that is missing (not looked for
 * when help or version are asked for). The strings are those of argv.
 */
int options_parse(struct options *o, int argc, char **argv, FILE *err);

void options_help(FILE *out);

/* Free what options_parse() allocated, after whatever outcome. */
void options_free(struct options *o);

#endif
