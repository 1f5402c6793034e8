#include "options.h"

#include <string.h>

#include "head.h"
#include "value.h"
#include "version.h"

enum type { TYPE_BOOL, TYPE_STRING, TYPE_NAME, TYPE_DURATION, TYPE_INT,
            TYPE_TRANSPORT, TYPE_PROXY, TYPE_HOST };

struct option {
    const char *name;
    enum type type;
    size_t offset; /* of the member of struct options */
    const char *argument;
    const char *preset;
    bool required;
    long min, max; /* TYPE_INT; min of TYPE_DURATION, in milliseconds */
    const char *help;
};

#define MEMBER(name) offsetof(struct options, name)

static const struct option table[] = {
    {"proxy", TYPE_PROXY, MEMBER(proxy), "URL", NULL, true, 0, 0,
     "Base URL of the proxy, http:// or https://. The calls of the\n"
     "protocol (agent/pending, agent/request, agent/response) are put\n"
     "behind it; a missing final slash is added."},

    {"backend", TYPE_NAME, MEMBER(backend), "ID", NULL, true, 0, 0,
     "ID of the backend, as the proxy knows it."},

    {"host", TYPE_HOST, MEMBER(host), "ADDRESS", "localhost:8080", false,
     0, 0,
     "The backend: host:port, http://host:port, https://host:port, or\n"
     "unix:/path for a socket. It gets each request as the proxy sent\n"
     "it; HTTP proxies of the environment are not used for it."},

    {"proxy-timeout", TYPE_DURATION, MEMBER(proxy_timeout), "DURATION", "60s",
     false, 1, 0,
     "How long one poll may take before it is given up and made again."},

    {"request-forwarding-timeout", TYPE_DURATION, MEMBER(forwarding_timeout),
     "DURATION", "0", false, 0, 0,
     "How long a forwarded request may stand still: no byte moving in\n"
     "either direction. The larger of this and -proxy-timeout applies. A\n"
     "long download or stream that is moving is never cut."},

    {"graceful-shutdown-timeout", TYPE_DURATION, MEMBER(shutdown_timeout),
     "DURATION", "0", false, 0, 0,
     "On SIGINT or SIGTERM the agent stops polling, finishes the\n"
     "requests in progress and exits as soon as the last one is done, at\n"
     "the latest after this time; 0 means 30s. A second signal ends it\n"
     "at once."},

    {"transport", TYPE_TRANSPORT, MEMBER(transport), "auto|ptth|poll", "auto",
     false, 0, 0,
     "How requests travel. ptth: on one connection, turned around, for all\n"
     "of them; it is the faster one, and the one for WebSockets. poll: each\n"
     "is fetched and answered with calls of its own, which works through\n"
     "anything that carries HTTP. auto: ptth, but poll as long as the proxy,\n"
     "or what is in between, does not know ptth."},

    {"connections", TYPE_INT, MEMBER(connections), "NUMBER", "0", false,
     0, 64,
     "With ptth, how many connections are held at most; 0 means 16. There\n"
     "are never more than one in each worker process of the proxy."},

    {"max-concurrency", TYPE_INT, MEMBER(max_concurrency), "NUMBER", "1000",
     false, 1, 100000,
     "Requests in progress at one time. When so many are, the agent does\n"
     "not ask for more. Each needs up to three open files."},

    {"force-http2", TYPE_BOOL, MEMBER(force_http2), NULL, "false", false, 0, 0,
     "Speak HTTP/2 to the backend, from the first byte on (gRPC needs it).\n"
     "WebSockets still get there by HTTP/1.1."},

    {"forward-user-id", TYPE_BOOL, MEMBER(forward_user_id), NULL, "false",
     false, 0, 0,
     "Tell the backend who the end user is, in the field\n"
     "X-Inverting-Proxy-User-ID. It is never passed on from the client,\n"
     "with or without this."},

    {"strip-credentials", TYPE_BOOL, MEMBER(strip_credentials), NULL, "false",
     false, 0, 0,
     "Remove Authorization from the requests before the backend gets\n"
     "them."},

    {"token-file", TYPE_STRING, MEMBER(token_file), "FILE", NULL, false, 0, 0,
     "File with the bearer token that the agent shows to the proxy. Read\n"
     "again when it has changed. The token is sent over TLS or to this\n"
     "machine only, unless -insecure-http is given."},

    {"ca-file", TYPE_STRING, MEMBER(ca_file), "FILE", NULL, false, 0, 0,
     "Certificates (PEM) to verify the proxy, and a backend with\n"
     "https://, against; instead of the system's."},

    {"client-cert", TYPE_STRING, MEMBER(client_cert), "FILE", NULL, false,
     0, 0,
     "Certificate (PEM) that the agent shows to the proxy."},

    {"client-key", TYPE_STRING, MEMBER(client_key), "FILE", NULL, false,
     0, 0,
     "Private key (PEM) of -client-cert, if it is not in the same file."},

    {"insecure-http", TYPE_BOOL, MEMBER(insecure_http), NULL, "false", false,
     0, 0,
     "Allow credentials to be sent to a proxy on another machine without\n"
     "TLS, where anyone on the way can read them."},

    {"debug", TYPE_BOOL, MEMBER(debug), NULL, "false", false, 0, 0,
     "Log each request, and more."},

    {"help", TYPE_BOOL, MEMBER(help), NULL, "false", false, 0, 0,
     "Print this text."},

    {"version", TYPE_BOOL, MEMBER(version), NULL, "false", false, 0, 0,
     "Print the version."},
};

#define OPTIONS (sizeof(table) / sizeof(table[0]))


static bool set_transport(const char *text, enum transport_kind *value)
{
    static const char *const names[] = {
        [TRANSPORT_AUTO] = "auto",
        [TRANSPORT_PTTH] = "ptth",
        [TRANSPORT_POLL] = "poll",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *value = (enum transport_kind) i;
            return true;
        }
    }

    return false;
}


static const struct option *find(const char *name, size_t n)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        if (strlen(table[i].name) == n
            && memcmp(table[i].name, name, n) == 0) {
            return &table[i];
        }
    }

    /* Go's flag package knows -h as well */
    return n == 1 && *name == 'h' ? find("help", 4) : NULL;
}


/* What can stand in a field's value and has no space in it. */
static bool is_name(const char *text)
{
    size_t n = strlen(text);

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char) text[i];

        if (c <= 0x20 || c >= 0x7f) {
            return false;
        }
    }

    return n > 0 && n <= 256;
}


/* Returns NULL, or what is wrong with the value. */
static const char *set(struct options *o, const struct option *option,
                       const char *text)
{
    static char why[64];
    void *member = (char *) o + option->offset;

    switch (option->type) {

    case TYPE_BOOL:
        return value_bool(text, member) ? NULL
                                        : "it is neither true nor false";

    case TYPE_STRING:
        *(const char **) member = text;
        return text[0] != '\0' ? NULL : "it is empty";

    case TYPE_NAME:
        *(const char **) member = text;
        return is_name(text) ? NULL
                             : "it is empty, too long, or has a character "
                               "that cannot be in an ID";

    case TYPE_DURATION:
        if (!value_duration(text, member)) {
            return "it is not a duration such as 300ms, 60s or 1h30m";
        }

        snprintf(why, sizeof(why), "it must be %ldms at least", option->min);
        return *(uint64_t *) member >= (uint64_t) option->min ? NULL : why;

    case TYPE_INT:
        snprintf(why, sizeof(why), "it is not a number from %ld to %ld",
                 option->min, option->max);
        return value_int(text, option->min, option->max, member) ? NULL : why;

    case TYPE_TRANSPORT:
        return set_transport(text, member)
               ? NULL : "it is neither auto, ptth, nor poll";

    default: /* TYPE_PROXY, TYPE_HOST */
        origin_free(member);
        return origin_parse(member, text, option->type == TYPE_HOST);
    }
}


static int bad_usage(FILE *err, const char *flag, size_t n, const char *why)
{
    fprintf(err, "inverting-proxy-agent: %.*s: %s\n", (int) n, flag, why);

    return EXIT_BAD_USAGE;
}


static int parse_one(struct options *o, int *i, int argc, char **argv,
                     FILE *err)
{
    const char *flag = argv[*i], *name, *value, *why;
    const struct option *option;
    size_t n;

    if (flag[0] != '-' || flag[1] == '\0') {
        return bad_usage(err, flag, strlen(flag), "unexpected argument");
    }

    name = flag + (flag[1] == '-' ? 2 : 1);
    n = strcspn(name, "=");

    option = find(name, n);
    if (option == NULL) {
        return bad_usage(err, flag, (size_t) (name - flag) + n,
                         "unknown flag");
    }

    if (name[n] == '=') {
        value = name + n + 1;

    } else if (option->type == TYPE_BOOL) {
        value = "true";

    } else if (*i + 1 < argc) {
        value = argv[++*i];

    } else {
        return bad_usage(err, flag, strlen(flag), "the value is missing");
    }

    why = set(o, option, value);
    if (why != NULL) {
        /* the flag only: what was given for it may be a secret by mistake */
        fprintf(err, "inverting-proxy-agent: bad value for -%s: %s\n",
                option->name, why);
        return EXIT_BAD_USAGE;
    }

    return 0;
}


static bool is_given(const struct options *o, const struct option *option)
{
    const void *member = (const char *) o + option->offset;

    return option->type == TYPE_PROXY
           ? ((const struct origin *) member)->base != NULL
           : *(const char *const *) member != NULL;
}


int options_parse(struct options *o, int argc, char **argv, FILE *err)
{
    int rc;

    *o = (struct options) {0};

    for (size_t i = 0; i < OPTIONS; i++) {
        if (table[i].preset != NULL) {
            set(o, &table[i], table[i].preset);
        }
    }

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            if (i + 1 < argc) {
                return bad_usage(err, argv[i + 1], strlen(argv[i + 1]),
                                 "unexpected argument");
            }
            break;
        }

        rc = parse_one(o, &i, argc, argv, err);
        if (rc != 0) {
            return rc;
        }
    }

    if (o->help || o->version) {
        return 0;
    }

    for (size_t i = 0; i < OPTIONS; i++) {
        if (table[i].required && !is_given(o, &table[i])) {
            fprintf(err, "inverting-proxy-agent: the flag -%s is required\n",
                    table[i].name);
            return EXIT_NOT_STARTED;
        }
    }

    return 0;
}


void options_help(FILE *out)
{
    fputs("inverting-proxy-agent " INVERTING_PROXY_VERSION "\n"
          "\n"
          "Takes the requests for a backend from an inverting proxy, and the\n"
          "responses back to it. The agent only dials out: nothing needs to\n"
          "reach this machine.\n"
          "\n"
          "Usage: inverting-proxy-agent -proxy URL -backend ID\n"
          "                             [-host ADDRESS] [flag]...\n"
          "\n"
          "Flags take one dash or two, -flag value or -flag=value. A flag\n"
          "without a value below is a switch; it can be given as -flag=true\n"
          "or -flag=false. Durations are numbers with units: 300ms, 60s,\n"
          "1h30m.\n",
          out);

    for (size_t i = 0; i < OPTIONS; i++) {
        const struct option *option = &table[i];
        const char *p = option->help;

        fprintf(out, "\n  -%s", option->name);

        if (option->argument != NULL) {
            fprintf(out, " %s", option->argument);
        }

        if (option->required) {
            fputs(" (required)", out);
        } else if (option->argument != NULL && option->preset != NULL) {
            fprintf(out, " (default %s)", option->preset);
        }

        fputc('\n', out);

        while (*p != '\0') {
            size_t n = strcspn(p, "\n");

            fprintf(out, "        %.*s\n", (int) n, p);
            p += n + (p[n] == '\n');
        }
    }

    fputs("\n"
          "Environment: http_proxy, https_proxy, HTTPS_PROXY, all_proxy,\n"
          "ALL_PROXY, no_proxy and NO_PROXY name the HTTP or SOCKS proxy on\n"
          "the way to the inverting proxy, as curl takes them. Nothing else\n"
          "is read from it.\n"
          "\n"
          "Signals: SIGINT and SIGTERM, see -graceful-shutdown-timeout.\n"
          "\n"
          "Exit status: 0 after these signals, and after -help and -version;\n"
          "1 when the agent cannot start; 2 when the command line is wrong.\n"
          "While the proxy cannot be reached the agent goes on trying.\n",
          out);
}


void options_free(struct options *o)
{
    origin_free(&o->proxy);
    origin_free(&o->host);
}
