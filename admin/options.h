/*
 * The command line: the tables of commands and options, from which parsing,
 * the help, the manual page and the completion are made.
 */

#ifndef ADMIN_OPTIONS_H
#define ADMIN_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define OPTIONS_PREFIXES 64
#define OPTIONS_ARGUMENTS 2

struct client;
struct command;

struct options {
    const struct command *command; /* NULL with help or version only */
    const char *arguments[OPTIONS_ARGUMENTS];
    size_t narguments;

    const char *server; /* NULL when not given, as all strings */
    const char *config;
    long timeout; /* seconds */
    bool json;
    bool quiet;
    const char *end_user;
    const char *backend_user;
    const char *prefixes[OPTIONS_PREFIXES];
    size_t nprefixes;
    const char *note;
    bool watch;
    long interval; /* of --watch, seconds */
    bool help;
    bool version;
};

/* What an argument, or the value of an option, is: also how to complete it. */
enum kind { KIND_NONE, KIND_TEXT, KIND_FILE, KIND_BACKEND, KIND_KEY,
            KIND_COMMAND };

struct argument {
    const char *name;
    enum kind kind;
};

struct command {
    const char *group; /* "backends", or NULL */
    const char *name;
    struct argument arguments[OPTIONS_ARGUMENTS];
    size_t min; /* how many of them have to be there */
    const char *summary;
    const char *text; /* more of it, or NULL */
    /* returns the exit status; NULL: it needs no server */
    int (*run)(const struct options *o, struct client *client);
};

enum type { TYPE_FLAG, TYPE_STRING, TYPE_PREFIX, TYPE_SECONDS, TYPE_WATCH };

struct option {
    const char *name;
    enum type type;
    size_t offset;        /* of the member of struct options */
    const char *argument; /* NULL: it has none */
    enum kind kind;
    unsigned commands;    /* a bit for each that knows it */
    const char *field;    /* the API's, or NULL */
    const char *text;
};

struct remark {
    const char *name;
    const char *text;
};

extern const struct command options_commands[];
extern const size_t options_ncommands;

extern const struct option options_table[];
extern const size_t options_count;

/* Exit statuses and variables, for help and manual. */
extern const struct remark options_exits[];
extern const size_t options_nexits;

extern const struct remark options_environment[];
extern const size_t options_nenvironment;

/* Whether the command knows the option. */
bool options_belongs(const struct option *option,
                     const struct command *command);

/* The option with which a field of the API is set, or NULL. */
const struct option *options_of_field(const char *field);

/* Whether it can be an id of a backend or key: nothing else in a URL. */
bool options_is_id(const char *text);

/*
 * Read the command line into o. Returns 0, or the exit status after lines on
 * err. The strings are those of argv.
 */
int options_parse(struct options *o, int argc, char **argv, FILE *err);

#endif
