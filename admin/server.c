#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/memory.h"


/* The socket's path and the prefix, each parsed as part of what has it. */
static const char *parse_unix(struct origin *server, const char *text)
{
    const char *prefix = strchr(text + strlen("unix:"), ':'), *why;
    struct origin web;
    char *socket, *url;
    size_t size;

    if (prefix == NULL || prefix[1] != '/') {
        *server = (struct origin) {0};
        return "the API's prefix is missing: unix:/path/of/socket:/prefix/";
    }

    socket = mem_dup(text, (size_t) (prefix - text));
    why = origin_parse(server, socket, true);
    free(socket);

    if (why != NULL) {
        return why;
    }

    size = sizeof("http://localhost") + strlen(prefix);
    url = mem_alloc(size);
    snprintf(url, size, "http://localhost%s", prefix + 1);
    why = origin_parse(&web, url, false);
    free(url);

    if (why == NULL) {
        free(server->base);
        server->base = web.base;
        web.base = NULL;
    }

    origin_free(&web);

    return why;
}


const char *server_parse(struct origin *server, const char *text)
{
    const char *why;

    if (strncasecmp(text, "unix:", 5) == 0) {
        return parse_unix(server, text);
    }

    why = origin_parse(server, text, false);

    return why != NULL && strstr(text, "://") == NULL
           ? "it must begin with http://, https:// or unix:" : why;
}


bool server_same(const struct origin *a, const struct origin *b)
{
    if (a->unix_path != NULL || b->unix_path != NULL) {
        return a->unix_path != NULL && b->unix_path != NULL
               && strcmp(a->unix_path, b->unix_path) == 0;
    }

    return a->tls == b->tls && strcasecmp(a->host, b->host) == 0
           && strcmp(a->port, b->port) == 0;
}
