#include "options.h"

#include <string.h>

#include "agent/value.h"
#include "commands.h"
#include "report.h"

#define WORDS_MAX (2 + OPTIONS_ARGUMENTS)
#define ID_MAX 128

#define MEMBER(name) offsetof(struct options, name)

/* In the order of the table below. */
enum { BACKENDS_LIST, BACKENDS_GET, BACKENDS_CREATE, BACKENDS_DELETE,
       KEYS_LIST, KEYS_CREATE, KEYS_REVOKE, STATUS, HELP, VERSION };

#define BIT(command) (1u << (command))
#define SERVER_COMMANDS (BIT(HELP) - 1)
#define ALL_COMMANDS (BIT(VERSION + 1) - 1)

#define BACKEND {"BACKEND", KIND_BACKEND}

const struct command options_commands[] = {
    [BACKENDS_LIST] = {
        "backends", "list", {{0}}, 0, "List all backends",
        "Agents, waiting and active requests are those of this moment.\n"
        "Large registries are shown as they come, in little memory.",
        backends_list},

    [BACKENDS_GET] = {
        "backends", "get", {BACKEND}, 1, "Show one backend", NULL,
        backends_get},

    [BACKENDS_CREATE] = {
        "backends", "create", {BACKEND}, 1, "Create or replace a backend",
        "A backend of that id is replaced as a whole: what is not given is\n"
        "not kept. An id has 1 to 128 of A-Z a-z 0-9 . _ -",
        backends_create},

    [BACKENDS_DELETE] = {
        "backends", "delete", {BACKEND}, 1, "Delete a backend",
        "It has effect at once. That there is no such backend is no error.",
        backends_delete},

    [KEYS_LIST] = {
        "keys", "list", {BACKEND}, 1, "List the keys of a backend",
        "Secrets are not among what is shown: the server does not have them.",
        keys_list},

    [KEYS_CREATE] = {
        "keys", "create", {BACKEND}, 1, "Make a key for a backend's agent",
        "The secret is shown this once. With --quiet it is all that is\n"
        "printed, to be redirected into the file for the agent's -token-file.",
        keys_create},

    [KEYS_REVOKE] = {
        "keys", "revoke", {BACKEND, {"KEY", KIND_KEY}}, 2, "Revoke a key",
        "It has effect at once: agents that use the key are cut off.",
        keys_revoke},

    [STATUS] = {
        NULL, "status", {{0}}, 0, "Show what the proxy is doing",
        "Of many backends, those with most to do are listed.",
        status_show},

    [HELP] = {
        NULL, "help",
        {{"[COMMAND]", KIND_COMMAND}, {NULL, KIND_COMMAND}}, 0,
        "Explain a command, or all of them", NULL, NULL},

    [VERSION] = {
        NULL, "version", {{0}}, 0, "Print the version", NULL, NULL},
};

const size_t options_ncommands =
    sizeof(options_commands) / sizeof(options_commands[0]);

const struct option options_table[] = {
    {"server", TYPE_STRING, MEMBER(server), "URL", KIND_TEXT,
     SERVER_COMMANDS, NULL,
     "The API: the address of a location with inverting_proxy_api, such as\n"
     "http://127.0.0.1/api/, https://example.com/api/, or\n"
     "unix:/run/nginx/api.sock:/api/ for a socket."},

    {"config", TYPE_STRING, MEMBER(config), "FILE", KIND_FILE,
     SERVER_COMMANDS, NULL,
     "The configuration file, in place of\n"
     "~/.config/inverting-proxy/admin.conf."},

    {"timeout", TYPE_SECONDS, MEMBER(timeout), "SECONDS", KIND_TEXT,
     SERVER_COMMANDS, NULL,
     "Give up when nothing has come from the server for so long (30)."},

    {"json", TYPE_FLAG, MEMBER(json), NULL, KIND_NONE, SERVER_COMMANDS, NULL,
     "Print the answer of the API as it is: one JSON document."},

    {"quiet", TYPE_FLAG, MEMBER(quiet), NULL, KIND_NONE,
     SERVER_COMMANDS & ~(BIT(BACKENDS_GET) | BIT(STATUS)), NULL,
     "Print ids only for a list, the secret only for a new key, and nothing\n"
     "where something was changed."},

    {"end-user", TYPE_STRING, MEMBER(end_user), "USER", KIND_TEXT,
     BIT(BACKENDS_CREATE), "endUser",
     "Who it serves: the identity of a user, or allUsers."},

    {"backend-user", TYPE_STRING, MEMBER(backend_user), "IDENTITY", KIND_TEXT,
     BIT(BACKENDS_CREATE), "backendUser",
     "The identity of its agents."},

    {"prefix", TYPE_PREFIX, 0, "PATH", KIND_TEXT,
     BIT(BACKENDS_CREATE), "pathPrefixes",
     "What the paths of its requests begin with (/). It can be given up to\n"
     "64 times."},

    {"note", TYPE_STRING, MEMBER(note), "TEXT", KIND_TEXT,
     BIT(KEYS_CREATE), "note",
     "A note for people, such as where the key is used."},

    {"watch", TYPE_WATCH, MEMBER(watch), "[SECONDS]", KIND_TEXT,
     BIT(STATUS), NULL,
     "Show it again every so many seconds (2), until Ctrl-C."},

    {"help", TYPE_FLAG, MEMBER(help), NULL, KIND_NONE, ALL_COMMANDS, NULL,
     "Explain the command."},

    {"version", TYPE_FLAG, MEMBER(version), NULL, KIND_NONE, 0, NULL,
     "Print the version."},
};

const size_t options_count =
    sizeof(options_table) / sizeof(options_table[0]);

const struct remark options_exits[] = {
    {"0", "It was done."},
    {"1", "The server refused it, or could not be reached."},
    {"2", "The command line or the configuration is wrong."},
    {"3", "There is no such backend or key."},
};

const size_t options_nexits =
    sizeof(options_exits) / sizeof(options_exits[0]);

const struct remark options_environment[] = {
    {"INVERTING_PROXY_SERVER",
     "The address of the API; --server comes before it, and it comes before\n"
     "the configuration file."},
    {"XDG_CONFIG_HOME",
     "The folder for inverting-proxy/admin.conf, in place of ~/.config."},
    {"https_proxy, http_proxy, all_proxy, no_proxy",
     "The HTTP or SOCKS proxy on the way to a server on another machine, as\n"
     "curl takes them."},
};

const size_t options_nenvironment =
    sizeof(options_environment) / sizeof(options_environment[0]);


bool options_belongs(const struct option *option,
                     const struct command *command)
{
    return (option->commands & BIT(command - options_commands)) != 0;
}


const struct option *options_of_field(const char *field)
{
    for (size_t i = 0; i < options_count; i++) {
        if (options_table[i].field != NULL
            && strcmp(options_table[i].field, field) == 0) {
            return &options_table[i];
        }
    }

    return NULL;
}


bool options_is_id(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                            "abcdefghijklmnopqrstuvwxyz0123456789._-");

    /* "." and ".." would be another path */
    return text[n] == '\0' && n > 0 && n <= ID_MAX
           && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}


static const struct option *find(const char *name, size_t n)
{
    for (size_t i = 0; i < options_count; i++) {
        if (strlen(options_table[i].name) == n
            && memcmp(options_table[i].name, name, n) == 0) {
            return &options_table[i];
        }
    }

    return NULL;
}


/* Returns NULL, or what is wrong with the value. */
static const char *set(struct options *o, const struct option *option,
                       const char *value)
{
    void *member = (char *) o + option->offset;

    switch (option->type) {

    case TYPE_FLAG:
        *(bool *) member = true;
        return NULL;

    case TYPE_STRING:
        *(const char **) member = value;
        return NULL;

    case TYPE_PREFIX:
        if (o->nprefixes == OPTIONS_PREFIXES) {
            return "it is given more than 64 times";
        }

        o->prefixes[o->nprefixes++] = value;
        return NULL;

    case TYPE_SECONDS:
        return value_int(value, 1, 86400, member)
               ? NULL : "it is not a number of seconds from 1 to 86400";

    default: /* TYPE_WATCH */
        o->watch = true;
        return value == NULL || value_int(value, 1, 86400, &o->interval)
               ? NULL : "it is not a number of seconds from 1 to 86400";
    }
}


static int parse_option(struct options *o, const struct option **given,
                        int *i, int argc, char **argv, FILE *err)
{
    const char *word = argv[*i], *name = word + 2, *value = NULL, *why;
    const struct option *option;
    size_t n = strcspn(name, "=");

    option = strcmp(word, "-h") == 0 ? find("help", 4)
             : word[1] == '-' ? find(name, n) : NULL;

    if (option == NULL) {
        report(err, "%.*s: unknown option", (int) strcspn(word, "="), word);
        return EXIT_USAGE;
    }

    if (word[1] == '-' && name[n] == '=') {
        value = name + n + 1;

        if (option->argument == NULL) {
            report(err, "--%s takes no value", option->name);
            return EXIT_USAGE;
        }

    } else if (option->type == TYPE_WATCH) {
        /* the number is no argument of the command: it has none */
        if (*i + 1 < argc && argv[*i + 1][0] >= '0'
            && argv[*i + 1][0] <= '9') {
            value = argv[++*i];
        }

    } else if (option->argument != NULL) {
        if (*i + 1 == argc) {
            report(err, "--%s: the value is missing", option->name);
            return EXIT_USAGE;
        }

        value = argv[++*i];
    }

    why = set(o, option, value);
    if (why != NULL) {
        report(err, "--%s: %s", option->name, why);
        return EXIT_USAGE;
    }

    given[option - options_table] = option;

    return 0;
}


static bool is_group(const char *word)
{
    for (size_t i = 0; i < options_ncommands; i++) {
        if (options_commands[i].group != NULL
            && strcmp(options_commands[i].group, word) == 0) {
            return true;
        }
    }

    return false;
}


/* The commands there are, or those of a group, on one line. */
static void hint_commands(FILE *err, const char *group)
{
    char text[256];
    size_t n = 0;

    for (size_t i = 0; i < options_ncommands; i++) {
        const struct command *c = &options_commands[i];

        if (group == NULL || (c->group != NULL
                              && strcmp(c->group, group) == 0)) {
            n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%s%s%s",
                                   n > 0 ? ", " : "",
                                   c->group != NULL ? c->group : "",
                                   c->group != NULL ? " " : "", c->name);
        }
    }

    report_hint(err, "There are: %s.", text);
}


static int find_command(struct options *o, const char *const *words,
                        size_t nwords, size_t *used, FILE *err)
{
    bool group = is_group(words[0]);

    *used = group ? 2 : 1;

    if (group && nwords == 1) {
        report(err, "\"%s\" what?", words[0]);
        hint_commands(err, words[0]);
        return EXIT_USAGE;
    }

    for (size_t i = 0; i < options_ncommands; i++) {
        const struct command *c = &options_commands[i];

        if (group ? c->group != NULL && strcmp(c->group, words[0]) == 0
                    && strcmp(c->name, words[1]) == 0
                  : c->group == NULL && strcmp(c->name, words[0]) == 0) {
            o->command = c;
            return 0;
        }
    }

    if (group) {
        report(err, "\"%s %s\" is no command", words[0], words[1]);
    } else {
        report(err, "\"%s\" is no command", words[0]);
    }

    hint_commands(err, group ? words[0] : NULL);

    return EXIT_USAGE;
}


static int take_arguments(struct options *o, const char *const *words,
                          size_t nwords, FILE *err)
{
    const struct command *c = o->command;
    size_t max = 0;

    while (max < OPTIONS_ARGUMENTS
           && c->arguments[max].kind != KIND_NONE) {
        max++;
    }

    if (nwords > max) {
        report(err, "%s: unexpected argument", words[max]);
        return EXIT_USAGE;
    }

    if (nwords < c->min && !o->help) {
        report(err, "the %s is missing",
               c->arguments[nwords].kind == KIND_KEY ? "id of the key"
                                                     : "id of the backend");
        return EXIT_USAGE;
    }

    for (size_t i = 0; i < nwords; i++) {
        if (c->arguments[i].kind != KIND_COMMAND
            && !options_is_id(words[i])) {
            report(err, "\"%s\" is no id: it has 1 to 128 of "
                   "A-Z a-z 0-9 . _ -", words[i]);
            return EXIT_USAGE;
        }

        o->arguments[i] = words[i];
    }

    o->narguments = nwords;

    return 0;
}


static int check_options(const struct options *o,
                         const struct option *const *given, FILE *err)
{
    for (size_t i = 0; i < options_count; i++) {
        if (given[i] != NULL && !options_belongs(given[i], o->command)) {
            report(err, "--%s does not belong to \"%s%s%s\"", given[i]->name,
                   o->command->group != NULL ? o->command->group : "",
                   o->command->group != NULL ? " " : "", o->command->name);
            return EXIT_USAGE;
        }
    }

    if (o->json && (o->quiet || o->watch)) {
        report(err, "--json and --%s exclude each other",
               o->quiet ? "quiet" : "watch");
        return EXIT_USAGE;
    }

    return 0;
}


int options_parse(struct options *o, int argc, char **argv, FILE *err)
{
    const struct option *given[sizeof(options_table)
                               / sizeof(options_table[0])] = {NULL};
    const char *words[WORDS_MAX];
    size_t nwords = 0, used;
    bool ended = false; /* by "--" */
    int rc;

    *o = (struct options) {.timeout = 30, .interval = 2};

    for (int i = 1; i < argc; i++) {
        if (!ended && strcmp(argv[i], "--") == 0) {
            ended = true;
            continue;
        }

        if (!ended && argv[i][0] == '-' && argv[i][1] != '\0') {
            rc = parse_option(o, given, &i, argc, argv, err);
            if (rc != 0) {
                return rc;
            }
            continue;
        }

        if (nwords == WORDS_MAX) {
            report(err, "%s: unexpected argument", argv[i]);
            return EXIT_USAGE;
        }

        words[nwords++] = argv[i];
    }

    if (nwords == 0) {
        if (o->help || o->version) {
            return 0;
        }

        report(err, "which command?");
        hint_commands(err, NULL);
        return EXIT_USAGE;
    }

    rc = find_command(o, words, nwords, &used, err);
    if (rc != 0) {
        return rc;
    }

    rc = take_arguments(o, words + used, nwords - used, err);

    return rc != 0 ? rc : check_options(o, given, err);
}
