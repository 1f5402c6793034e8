#include "gen.h"

#include <string.h>

#include "admin/config.h"
#include "admin/help.h"
#include "admin/options.h"
#include "agent/version.h"


/* As it is: no dash becomes a hyphen, no line a request. */
static void put(FILE *out, const char *text)
{
    bool start = true;

    for (; *text != '\0'; text++) {
        if (start && (*text == '.' || *text == '\'')) {
            fputs("\\&", out);
        }

        if (*text == '-') {
            fputs("\\-", out);
        } else if (*text == '\\') {
            fputs("\\e", out);
        } else if (*text == '~') {
            fputs("\\(ti", out);
        } else {
            fputc(*text, out);
        }

        start = *text == '\n';
    }
}


/* A term in bold, its argument in italics, and what it means. */
static void item(FILE *out, const char *before, const char *name,
                 const char *argument, const char *text)
{
    fputs(".TP\n\\fB", out);
    put(out, before);
    put(out, name);
    fputs("\\fR", out);

    if (argument != NULL) {
        fputs(" \\fI", out);
        put(out, argument);
        fputs("\\fR", out);
    }

    fputc('\n', out);
    put(out, text);
    fputc('\n', out);
}


static void command(FILE *out, const struct command *c)
{
    bool some = false;

    fputs(".TP\n\\fB", out);

    if (c->group != NULL) {
        put(out, c->group);
        fputc(' ', out);
    }

    put(out, c->name);
    fputs("\\fR", out);

    for (size_t i = 0; i < OPTIONS_ARGUMENTS; i++) {
        if (c->arguments[i].name != NULL) {
            fputs(" \\fI", out);
            put(out, c->arguments[i].name);
            fputs("\\fR", out);
        }
    }

    fputc('\n', out);
    put(out, c->summary);
    fputs(".\n", out);

    if (c->text != NULL) {
        put(out, c->text);
        fputc('\n', out);
    }

    /* those that only some commands have */
    for (size_t i = 0; i < options_count; i++) {
        const struct option *option = &options_table[i];

        if (options_belongs(option, c)
            && (option->commands & (option->commands - 1)) == 0) {
            fputs(some ? ",\n" : "Options of its own:\n", out);
            fputs("\\fB", out);
            put(out, "--");
            put(out, option->name);
            fputs("\\fR", out);
            some = true;
        }
    }

    fputs(some ? ".\n" : "", out);
}


static void remarks(FILE *out, const char *title,
                    const struct remark *remark, size_t n)
{
    fprintf(out, ".SH %s\n", title);

    for (size_t i = 0; i < n; i++) {
        item(out, "", remark[i].name, NULL, remark[i].text);
    }
}


static void file_section(FILE *out)
{
    fputs(".SH CONFIGURATION FILE\n", out);
    put(out, "The file is ~/.config/inverting-proxy/admin.conf, unless "
        "--config or\nXDG_CONFIG_HOME say otherwise. Each line of it is "
        "\"name = value\"; lines that\nbegin with # are comments. Names of "
        "files are seen from the folder of the\nfile, or begin with ~/.\n");

    for (size_t i = 0; i < config_nsettings; i++) {
        const struct setting *s = &config_settings[i];

        item(out, "", s->name, s->argument, s->text);
    }

    fputs(".PP\n", out);
    put(out, "Credentials are sent over TLS, to this machine, or over a "
        "socket only, and only to\nthe server that the file names. "
        "The server's certificate is always verified.\n");
}


static void examples(FILE *out)
{
    fputs(".SH EXAMPLES\n"
          "A backend that serves everybody, and a key for its agent:\n"
          ".PP\n.nf\n.RS\n", out);
    put(out, "inverting-proxy-admin backends create home --end-user allUsers\n"
        "umask 077\n"
        "inverting-proxy-admin keys create home --note laptop --quiet "
        ">token\n");
    fputs(".RE\n.fi\n.PP\n"
          "A configuration file:\n"
          ".PP\n.nf\n.RS\n", out);
    put(out, "server = https://example.com/api/\n"
        "user = admin\n"
        "password-file = password\n");
    fputs(".RE\n.fi\n", out);
}


void gen_manual(FILE *out)
{
    fputs(".TH INVERTING-PROXY-ADMIN 1 \"\" \"inverting proxy "
          INVERTING_PROXY_VERSION "\"\n"
          ".nh\n.ad l\n"
          ".SH NAME\n"
          "inverting\\-proxy\\-admin \\- manage the backends of an inverting "
          "proxy\n"
          ".SH SYNOPSIS\n"
          "\\fBinverting\\-proxy\\-admin\\fR \\fICOMMAND\\fR "
          "[\\fIARGUMENT\\fR]... [\\fIOPTION\\fR]...\n"
          ".SH DESCRIPTION\n", out);
    put(out, "Backends, the keys of their agents, and the state of the proxy, "
        "over the API of\nan nginx with the inverting proxy module "
        "(inverting_proxy_api). Tables are for\npeople; scripts take --json "
        "or --quiet. Errors go to stderr, with nothing on\nstdout.\n");

    fputs(".SH COMMANDS\n", out);

    for (size_t i = 0; i < options_ncommands; i++) {
        command(out, &options_commands[i]);
    }

    fputs(".SH OPTIONS\n", out);
    put(out, "Options can stand anywhere, as --name value or --name=value; "
        "-- ends them.\n");

    for (size_t i = 0; i < options_count; i++) {
        const struct option *option = &options_table[i];

        item(out, "--", option->name, option->argument, option->text);
    }

    file_section(out);
    remarks(out, "ENVIRONMENT", options_environment, options_nenvironment);
    remarks(out, "EXIT STATUS", options_exits, options_nexits);
    examples(out);
}
