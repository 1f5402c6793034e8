/*
 * Where an HTTP server is: parsed from the values of -proxy and -host.
 */

#ifndef AGENT_ORIGIN_H
#define AGENT_ORIGIN_H

#include <stdbool.h>

struct origin {
    bool tls;        /* https */
    char *unix_path; /* a unix socket; host and port are empty then */
    char *host;      /* without the brackets of an IPv6 address */
    char *port;      /* decimal */
    char *authority; /* for a Host field */
    char *base;      /* path, begins and ends with '/' */
};

/*
 * Parse http://host[:port][/path] or https://…; with bare also host[:port]
 * and unix:/path, and then no path is allowed. Returns NULL, or what is
 * wrong. The strings are the caller's, see origin_free().
 */
const char *origin_parse(struct origin *o, const char *text, bool bare);

void origin_free(struct origin *o);

/* Whether the host is this machine: localhost, 127.0.0.0/8, ::1, a socket. */
bool origin_is_loopback(const struct origin *o);

#endif
