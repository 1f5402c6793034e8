#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/memory.h"
#include "file.h"
#include "report.h"
#include "server.h"

#define ENVIRONMENT "INVERTING_PROXY_SERVER"
#define DEFAULT_FILE "inverting-proxy/admin.conf"

#define MEMBER(name) offsetof(struct config, name)

const struct setting config_settings[] = {
    {"server", SETTING_TEXT, MEMBER(address), "URL",
     "The address of the API, as for --server. All credentials of the file\n"
     "are for this server then, and are shown to no other one."},

    {"user", SETTING_TEXT, MEMBER(user), "NAME",
     "The user for auth_basic, with a password."},

    {"password-file", SETTING_PATH, MEMBER(password_file), "FILE",
     "A file with the password, which nobody else may read."},

    {"password", SETTING_SECRET, MEMBER(password), "TEXT",
     "The password itself; nobody else may read the configuration file then."},

    {"token-file", SETTING_PATH, MEMBER(token_file), "FILE",
     "A file with a bearer token, which nobody else may read."},

    {"token", SETTING_SECRET, MEMBER(token), "TEXT",
     "The token itself; nobody else may read the configuration file then."},

    {"client-cert", SETTING_PATH, MEMBER(client_cert), "FILE",
     "A certificate (PEM) to show to a server with https."},

    {"client-key", SETTING_PATH, MEMBER(client_key), "FILE",
     "Its private key (PEM), if that is not in the same file."},

    {"ca-file", SETTING_PATH, MEMBER(ca_file), "FILE",
     "Certificates (PEM) to verify the server against, in place of the\n"
     "system's."},
};

const size_t config_nsettings =
    sizeof(config_settings) / sizeof(config_settings[0]);


static char *join(const char *folder, size_t n, const char *name)
{
    size_t len = strlen(name);
    char *path = mem_alloc(n + len + 2);

    memcpy(path, folder, n);
    path[n] = '/';
    memcpy(path + n + 1, name, len + 1);

    return path;
}


static char *default_file(void)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    /* a relative one is to be ignored, the specification says */
    if (config != NULL && config[0] == '/') {
        return join(config, strlen(config), DEFAULT_FILE);
    }

    return home != NULL && home[0] == '/'
           ? join(home, strlen(home), ".config/" DEFAULT_FILE) : NULL;
}


/* A name of a file in the file: from the home folder, or from its own. */
static char *resolve(const char *file, const char *path)
{
    const char *slash = strrchr(file, '/'), *home = getenv("HOME");

    if (path[0] == '~' && path[1] == '/' && home != NULL) {
        return join(home, strlen(home), path + 2);
    }

    return path[0] != '/' && slash != NULL
           ? join(file, (size_t) (slash - file), path)
           : mem_dup(path, strlen(path));
}


static char *trim(char *text)
{
    size_t n;

    text += strspn(text, " \t");
    n = strlen(text);

    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'
                     || text[n - 1] == '\r')) {
        n--;
    }

    text[n] = '\0';

    return text;
}


static const struct setting *find(const char *name)
{
    for (size_t i = 0; i < config_nsettings; i++) {
        if (strcmp(config_settings[i].name, name) == 0) {
            return &config_settings[i];
        }
    }

    return NULL;
}


static int set_line(struct config *c, char *line, unsigned number,
                    bool private, FILE *err)
{
    const struct setting *setting;
    char *equals, *name, *value, **member;
    const char *why = NULL;

    name = trim(line);
    if (*name == '\0' || *name == '#') {
        return 0;
    }

    equals = strchr(name, '=');
    if (equals == NULL) {
        report(err, "%s:%u: this is not \"name = value\"", c->file, number);
        return EXIT_USAGE;
    }

    *equals = '\0';
    name = trim(name);
    value = trim(equals + 1);

    setting = find(name);
    if (setting == NULL) {
        report(err, "%s:%u: there is no setting \"%s\"", c->file, number,
               name);
        return EXIT_USAGE;
    }

    member = (char **) ((char *) c + setting->offset);

    if (*value == '\0') {
        why = "it is empty";
    } else if (*member != NULL) {
        why = "it is given twice";
    } else if (setting->type == SETTING_SECRET) {
        why = private ? file_bad_secret(value)
                      : "others may read this file: \"chmod 600\" it first";
    }

    if (why != NULL) {
        report(err, "%s:%u: %s: %s", c->file, number, setting->name, why);
        return EXIT_USAGE;
    }

    *member = setting->type == SETTING_PATH ? resolve(c->file, value)
                                            : mem_dup(value, strlen(value));

    return 0;
}


static int read_config(struct config *c, bool required, FILE *err)
{
    const char *why;
    bool private = false;
    int error, rc = 0;
    char *text = file_read(c->file, &private, &why, &error), *p = text;

    if (text == NULL) {
        if (!required && (error == ENOENT || error == ENOTDIR)) {
            return 0;
        }

        report(err, "cannot read the configuration file \"%s\": %s", c->file,
               why);
        return EXIT_USAGE;
    }

    for (unsigned number = 1; rc == 0 && p != NULL; number++) {
        char *line = p;

        p = strchr(p, '\n');
        if (p != NULL) {
            *p++ = '\0';
        }

        rc = set_line(c, line, number, private, err);
    }

    explicit_bzero(text, FILE_MAX);
    free(text);

    return rc;
}


static int read_secret(const char *path, char **secret, FILE *err)
{
    const char *why;

    if (path == NULL) {
        return 0;
    }

    *secret = file_secret(path, &why);
    if (*secret == NULL) {
        report(err, "cannot use \"%s\": %s", path, why);
        return EXIT_USAGE;
    }

    return 0;
}


/* What cannot be together; the secrets are not yet read from their files. */
static const char *contradiction(const struct config *c)
{
    bool password = c->password != NULL || c->password_file != NULL;
    bool token = c->token != NULL || c->token_file != NULL;

    if (c->password != NULL && c->password_file != NULL) {
        return "password and password-file exclude each other";
    }

    if (c->token != NULL && c->token_file != NULL) {
        return "token and token-file exclude each other";
    }

    if (token && (password || c->user != NULL)) {
        return "a user and a token exclude each other";
    }

    if (password != (c->user != NULL)) {
        return password ? "the user of the password is missing"
                        : "the user's password-file is missing";
    }

    if (c->user != NULL && strchr(c->user, ':') != NULL) {
        return "user: there is a colon in it";
    }

    if (c->client_key != NULL && c->client_cert == NULL) {
        return "the client-cert of the client-key is missing";
    }

    return NULL;
}


static void forget(char **text)
{
    file_wipe(*text);
    *text = NULL;
}


/* Whoever is talked to instead of the file's own server gets none of it. */
static int withhold(struct config *c, FILE *err)
{
    const char *why;
    struct origin own;

    why = server_parse(&own, c->address);
    if (why != NULL) {
        report(err, "%s: server: %s", c->file, why);
        origin_free(&own);
        return EXIT_USAGE;
    }

    if (!server_same(&own, &c->server)) {
        c->withheld = c->user != NULL || c->token != NULL
                      || c->token_file != NULL || c->client_cert != NULL;
        forget(&c->user);
        forget(&c->password);
        forget(&c->password_file);
        forget(&c->token);
        forget(&c->token_file);
        forget(&c->client_cert);
        forget(&c->client_key);
    }

    origin_free(&own);

    return 0;
}


static int choose_server(struct config *c, const struct options *o, FILE *err)
{
    const char *url = o->server, *why;

    c->source = "--server";

    if (url == NULL) {
        url = getenv(ENVIRONMENT);
        c->source = ENVIRONMENT;
    }

    if (url == NULL || (*url == '\0' && o->server == NULL)) {
        url = c->address;
        c->source = c->file;
    }

    if (url == NULL) {
        report(err, "which server?");
        report_hint(err, "Name it with --server URL or " ENVIRONMENT ", or "
                    "write \"server = URL\" into");
        report_hint(err, "%s.", c->file != NULL ? c->file
                                                : "a file for --config");
        return EXIT_USAGE;
    }

    c->url = mem_dup(url, strlen(url));

    why = server_parse(&c->server, url);
    if (why != NULL) {
        /* not the address itself: there may be a password in it */
        report(err, "bad address of the server (from %s): %s", c->source,
               why);
        return EXIT_USAGE;
    }

    return 0;
}


int config_load(struct config *c, const struct options *o, FILE *err)
{
    const char *why;

    *c = (struct config) {.timeout = o->timeout};

    c->file = o->config != NULL ? mem_dup(o->config, strlen(o->config))
                                : default_file();

    if (c->file != NULL && read_config(c, o->config != NULL, err) != 0) {
        return EXIT_USAGE;
    }

    why = contradiction(c);
    if (why != NULL) {
        report(err, "%s: %s", c->file, why);
        return EXIT_USAGE;
    }

    if (choose_server(c, o, err) != 0) {
        return EXIT_USAGE;
    }

    if (c->address != NULL && withhold(c, err) != 0) {
        return EXIT_USAGE;
    }

    if (read_secret(c->password_file, &c->password, err) != 0
        || read_secret(c->token_file, &c->token, err) != 0) {
        return EXIT_USAGE;
    }

    if (!c->server.tls && !origin_is_loopback(&c->server)
        && (c->password != NULL || c->token != NULL)) {
        report(err, "credentials are not sent to another machine without "
               "TLS: use https://");
        return EXIT_USAGE;
    }

    return 0;
}


void config_free(struct config *c)
{
    for (size_t i = 0; i < config_nsettings; i++) {
        forget((char **) ((char *) c + config_settings[i].offset));
    }

    origin_free(&c->server);
    free(c->url);
    free(c->file);
}
