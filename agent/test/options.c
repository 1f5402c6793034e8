/* The command line. */

#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "tap.h"

static struct options o;
static char said[512];


/* Parse the words of a line; the exit status. */
static int parse(const char *line)
{
    char words[512], *argv[32], *p = words;
    FILE *err = fmemopen(said, sizeof(said), "w");
    int argc = 1, rc;

    snprintf(words, sizeof(words), "%s", line);
    argv[0] = words + strlen(words); /* "" */

    while (*p != '\0') {
        argv[argc++] = p;
        p += strcspn(p, " ");
        if (*p != '\0') {
            *p++ = '\0';
        }
    }

    argv[argc] = NULL;
    options_free(&o);
    memset(said, 0, sizeof(said));
    rc = options_parse(&o, argc, argv, err);
    fclose(err);

    return rc;
}


/* Refused with this status and one line that has the text. */
static bool refused(const char *line, int status, const char *text)
{
    return parse(line) == status && strstr(said, text) != NULL
           && strchr(said, '\n') == said + strlen(said) - 1;
}


int main(void)
{
    char *help = NULL;
    size_t size;
    FILE *out;

    /* the strings are argv's, gone by now: only the rest is looked at */
    OK(parse("-proxy http://p -backend b") == 0, "the required ones");
    OK(strcmp(o.proxy.base, "/") == 0, "a final slash is added");
    OK(strcmp(o.proxy.port, "80") == 0, "port 80");
    OK(o.proxy_timeout == 60000 && o.forwarding_timeout == 0
       && o.shutdown_timeout == 0, "time-outs as preset");
    OK(strcmp(o.host.authority, "localhost:8080") == 0, "the host as preset");
    OK(o.max_concurrency == 1000 && !o.debug && o.token_file == NULL,
       "the rest as preset");

    OK(parse("--proxy=https://p:8443/x --backend=b -debug --strip-credentials"
             "=false -forward-user-id=T -proxy-timeout 5s -max-concurrency=7")
       == 0, "one dash, two dashes, = and space");
    OK(o.debug && !o.strip_credentials && o.forward_user_id, "switches");
    OK(o.proxy_timeout == 5000 && o.max_concurrency == 7, "values");
    OK(o.proxy.tls && strcmp(o.proxy.base, "/x/") == 0
       && strcmp(o.proxy.port, "8443") == 0, "the URL");

    OK(parse("-proxy http://p -backend b -host unix:/run/x") == 0
       && strcmp(o.host.unix_path, "/run/x") == 0, "a unix socket");
    OK(parse("-proxy http://p -backend b -host https://h") == 0
       && o.host.tls && strcmp(o.host.port, "443") == 0, "an https backend");
    OK(parse("-proxy http://[::1]:81/ -backend b -host [::1]:82") == 0
       && strcmp(o.host.host, "::1") == 0 && strcmp(o.host.port, "82") == 0
       && strcmp(o.proxy.authority, "[::1]:81") == 0, "IPv6");
    OK(parse("-backend a -backend b -proxy http://p -proxy http://q") == 0
       && strcmp(o.proxy.host, "q") == 0, "the last one counts");
    OK(parse("-help") == 0 && o.help, "help needs nothing else");
    OK(parse("-h") == 0 && o.help, "-h too");
    OK(parse("-version") == 0 && o.version, "version as well");

    OK(refused("-backend b", 1, "-proxy"), "no proxy");
    OK(refused("-proxy http://p", 1, "-backend"), "no backend");
    OK(refused("-nonsense", 2, "-nonsense"), "an unknown flag");
    OK(refused("--nonsense=1", 2, "--nonsense:"), "with a value");
    OK(refused("-shim-path x", 2, "-shim-path"), "one that is not there yet");
    OK(refused("---proxy", 2, "---proxy"), "three dashes");
    OK(refused("-=x", 2, "unknown"), "no name");
    OK(refused("-proxy", 2, "-proxy"), "no value");
    OK(refused("-debug=maybe", 2, "-debug"), "not a boolean");
    OK(refused("-debug true", 2, "true"), "a boolean's value apart");
    OK(refused("-proxy-timeout 5", 2, "-proxy-timeout"), "not a duration");
    OK(refused("-max-concurrency 0", 2, "-max-concurrency"), "out of range");
    OK(refused("-proxy ftp://p", 2, "-proxy"), "another scheme");
    OK(refused("-proxy p:80", 2, "-proxy"), "no scheme");
    OK(refused("-proxy http://u:secret@p/", 2, "-proxy")
       && strstr(said, "secret") == NULL, "a password, not repeated");
    OK(refused("-proxy http://p/?x", 2, "-proxy"), "a query");
    OK(refused("-proxy http://p:0/", 2, "-proxy"), "port 0");
    OK(refused("-proxy http://p:99999/", 2, "-proxy"), "port 99999");
    OK(refused("-proxy http://", 2, "-proxy"), "no host");
    OK(refused("-host http://h/path", 2, "-host"), "a path to the backend");
    OK(refused("-host gopher://h", 2, "-host"), "a scheme for the backend");
    OK(refused("-host unix:x", 2, "-host"), "a relative socket");
    OK(refused("-backend=", 2, "-backend"), "an empty ID");
    OK(refused("-token-file=", 2, "-token-file"), "an empty file name");
    OK(refused("-transport=tcp", 2, "-transport"), "a transport");
    OK(refused("-connections=65", 2, "-connections"), "too many connections");
    OK(parse("-proxy http://p -backend b") == 0
       && o.transport == TRANSPORT_AUTO && o.connections == 0,
       "the transport as preset");
    OK(parse("-proxy http://p -backend b -transport ptth -connections 2") == 0
       && o.transport == TRANSPORT_PTTH && o.connections == 2,
       "PTTH on two connections");
    OK(parse("-proxy http://p -backend b -transport=poll") == 0
       && o.transport == TRANSPORT_POLL, "polling");
    OK(refused("stray", 2, "stray"), "an argument that is no flag");
    OK(refused("-- stray", 2, "stray"), "one behind --");

    out = open_memstream(&help, &size);
    options_help(out);
    fclose(out);
    OK(strstr(help, "-token-file FILE") != NULL
       && strstr(help, "(default 60s)") != NULL, "help");
    free(help);
    options_free(&o);

    return tap_done();
}
