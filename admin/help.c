#include "help.h"

#include <string.h>

#include "agent/version.h"
#include "report.h"


static void print_text(FILE *out, int indent, const char *p)
{
    while (*p != '\0') {
        size_t n = strcspn(p, "\n");

        fprintf(out, "%*s%.*s\n", indent, "", (int) n, p);
        p += n + (p[n] == '\n');
    }
}


static void print_option(FILE *out, const struct option *option)
{
    fprintf(out, "\n  --%s", option->name);

    if (option->argument != NULL) {
        fprintf(out, " %s", option->argument);
    }

    fputc('\n', out);
    print_text(out, 8, option->text);
}


static void print_environment(FILE *out)
{
    fputs("\nEnvironment:\n", out);

    for (size_t i = 0; i < options_nenvironment; i++) {
        fprintf(out, "\n  %s\n", options_environment[i].name);
        print_text(out, 8, options_environment[i].text);
    }
}


void help_usage(FILE *out, const struct command *command)
{
    if (command->group != NULL) {
        fprintf(out, "%s ", command->group);
    }

    fputs(command->name, out);

    for (size_t i = 0; i < OPTIONS_ARGUMENTS; i++) {
        if (command->arguments[i].name != NULL) {
            fprintf(out, " %s", command->arguments[i].name);
        }
    }
}


void help_command(FILE *out, const struct command *command)
{
    fputs("Usage: inverting-proxy-admin ", out);
    help_usage(out, command);
    fprintf(out, " [OPTION]...\n\n%s.\n", command->summary);

    if (command->text != NULL) {
        print_text(out, 0, command->text);
    }

    for (size_t i = 0; i < options_count; i++) {
        if (options_belongs(&options_table[i], command)) {
            print_option(out, &options_table[i]);
        }
    }
}


static void print_commands(FILE *out, const char *group)
{
    for (size_t i = 0; i < options_ncommands; i++) {
        const struct command *c = &options_commands[i];

        if (group != NULL && (c->group == NULL
                              || strcmp(c->group, group) != 0)) {
            continue;
        }

        fputs("  ", out);
        help_usage(out, c);
        fprintf(out, "\n        %s.\n", c->summary);
    }
}


void help_all(FILE *out)
{
    fputs("inverting-proxy-admin " INVERTING_PROXY_VERSION "\n"
          "\n"
          "Manages the backends of an inverting proxy over its API.\n"
          "\n"
          "Usage: inverting-proxy-admin COMMAND [ARGUMENT]... [OPTION]...\n"
          "\n",
          out);

    print_commands(out, NULL);

    fputs("\nThe options, each of which \"help COMMAND\" explains:\n\n ",
          out);

    for (size_t i = 0; i < options_count; i++) {
        /* five to a line */
        fprintf(out, "%s --%s", i > 0 && i % 5 == 0 ? "\n " : "",
                options_table[i].name);
    }

    fputc('\n', out);
    print_environment(out);
    fputs("\nExit status:\n\n", out);

    for (size_t i = 0; i < options_nexits; i++) {
        fprintf(out, "  %s     %s\n", options_exits[i].name,
                options_exits[i].text);
    }

    fputs("\nCredentials and more are in the configuration file: see\n"
          "inverting-proxy-admin(1).\n", out);
}


int help_run(const struct options *o, FILE *out, FILE *err)
{
    const char *first = o->arguments[0], *second = o->arguments[1];
    bool group = false;

    if (first == NULL) {
        help_all(out);
        return EXIT_DONE;
    }

    for (size_t i = 0; i < options_ncommands; i++) {
        const struct command *c = &options_commands[i];

        if (c->group == NULL ? second == NULL && strcmp(c->name, first) == 0
                             : second != NULL && strcmp(c->group, first) == 0
                               && strcmp(c->name, second) == 0) {
            help_command(out, c);
            return EXIT_DONE;
        }

        group = group || (second == NULL && c->group != NULL
                          && strcmp(c->group, first) == 0);
    }

    if (group) {
        print_commands(out, first);
        return EXIT_DONE;
    }

    report(err, "\"%s%s%s\" is no command", first, second != NULL ? " " : "",
           second != NULL ? second : "");

    return EXIT_USAGE;
}
