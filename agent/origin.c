#include "origin.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "memory.h"


static const char *parse_port(struct origin *o, const char *p, size_t n)
{
    long port = 0;

    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9' || i > 4) {
            return "the port is not a number";
        }

        port = port * 10 + (p[i] - '0');
    }

    if (port < 1 || port > 65535) {
        return "the port is not between 1 and 65535";
    }

    o->port = mem_dup(p, n);

    return NULL;
}


static bool is_host_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
           || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}


static const char *parse_authority(struct origin *o, const char *p, size_t n)
{
    const char *end = p + n, *host = p, *stop, *port = NULL;

    if (memchr(p, '@', n) != NULL) {
        return "a user name or password does not belong there";
    }

    if (n > 0 && *p == '[') {
        struct in6_addr address;

        host++;
        stop = memchr(p, ']', n);
        if (stop == NULL) {
            return "the bracket is not closed";
        }

        o->host = mem_dup(host, (size_t) (stop - host));
        if (inet_pton(AF_INET6, o->host, &address) != 1) {
            return "no IPv6 address in the brackets";
        }

        stop++;

    } else {
        stop = host;
        while (stop < end && is_host_byte(*stop)) {
            stop++;
        }

        o->host = mem_dup(host, (size_t) (stop - host));
    }

    if (o->host[0] == '\0') {
        return "the host is missing";
    }

    if (stop < end) {
        if (*stop != ':') {
            return "the host is not valid";
        }

        port = stop + 1;
    }

    o->authority = mem_dup(p, n);

    if (port == NULL) {
        o->port = o->tls ? mem_dup("443", 3) : mem_dup("80", 2);
        return NULL;
    }

    return parse_port(o, port, (size_t) (end - port));
}


static const char *parse_base(struct origin *o, const char *p)
{
    size_t n = strlen(p);
    char *base;

    for (size_t i = 0; i < n; i++) {
        if ((unsigned char) p[i] <= 0x20 || (unsigned char) p[i] >= 0x7f) {
            return "an invalid character in the path";
        }

        if (p[i] == '?' || p[i] == '#') {
            return "a query or fragment does not belong there";
        }
    }

    base = mem_alloc(n + 2);
    memcpy(base, p, n);

    if (n == 0 || base[n - 1] != '/') {
        base[n++] = '/';
    }

    base[n] = '\0';
    o->base = base;

    return NULL;
}


const char *origin_parse(struct origin *o, const char *text, bool bare)
{
    const char *error, *path;

    *o = (struct origin) {0};

    if (bare && strncasecmp(text, "unix:", 5) == 0) {
        text += 5;
        if (text[0] != '/') {
            return "the path of the socket must begin with /";
        }

        if (strlen(text) > 107) {
            return "the path of the socket is too long";
        }

        o->unix_path = mem_dup(text, strlen(text));
        o->host = mem_dup("", 0);
        o->port = mem_dup("", 0);
        o->authority = mem_dup("localhost", 9);
        o->base = mem_dup("/", 1);

        return NULL;
    }

    if (strncasecmp(text, "https://", 8) == 0) {
        o->tls = true;
        text += 8;

    } else if (strncasecmp(text, "http://", 7) == 0) {
        text += 7;

    } else if (!bare || strstr(text, "://") != NULL) {
        return bare ? "the scheme is neither http, https nor unix"
                    : "it must begin with http:// or https://";
    }

    path = text + strcspn(text, "/?#");

    error = parse_authority(o, text, (size_t) (path - text));
    if (error != NULL) {
        return error;
    }

    if (bare && path[0] != '\0' && strcmp(path, "/") != 0) {
        return "a path does not belong there";
    }

    return parse_base(o, path);
}


void origin_free(struct origin *o)
{
    free(o->unix_path);
    free(o->host);
    free(o->port);
    free(o->authority);
    free(o->base);
    *o = (struct origin) {0};
}


bool origin_is_loopback(const struct origin *o)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (o->unix_path != NULL || strcasecmp(o->host, "localhost") == 0) {
        return true;
    }

    if (inet_pton(AF_INET, o->host, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }

    return inet_pton(AF_INET6, o->host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}
