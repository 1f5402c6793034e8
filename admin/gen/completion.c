#include "gen.h"

#include <string.h>

#include "admin/options.h"

/* As admin/completion.bash, which comes behind this, knows them. */
static const char *const kinds[] = {
    [KIND_NONE] = "none", [KIND_TEXT] = "text", [KIND_FILE] = "file",
    [KIND_BACKEND] = "backend", [KIND_KEY] = "key",
    [KIND_COMMAND] = "command",
};


static void begin(FILE *out, const char *comment, const char *name,
                  const char *word)
{
    fprintf(out, "# %s\n_inverting_proxy_admin_%s()\n{\n    REPLY=\n\n"
            "    case %s in\n", comment, name, word);
}


static void end(FILE *out)
{
    fputs("    esac\n}\n\n", out);
}


static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}


/* The first of its group in the table. */
static bool begins_group(size_t i)
{
    return options_commands[i].group != NULL
           && (i == 0 || !same(options_commands[i].group,
                               options_commands[i - 1].group));
}


static void put_next(FILE *out)
{
    fputs("        '') REPLY='", out);

    for (size_t i = 0; i < options_ncommands; i++) {
        const struct command *c = &options_commands[i];

        if (c->group == NULL || begins_group(i)) {
            fprintf(out, "%s%s", i > 0 ? " " : "",
                    c->group != NULL ? c->group : c->name);
        }
    }

    fputs("' ;;\n", out);

    for (size_t i = 0; i < options_ncommands; i++) {
        const char *group = options_commands[i].group;

        if (!begins_group(i)) {
            continue;
        }

        fprintf(out, "        %s) REPLY='%s", group,
                options_commands[i].name);

        for (size_t n = i + 1; n < options_ncommands; n++) {
            if (same(options_commands[n].group, group)) {
                fprintf(out, " %s", options_commands[n].name);
            }
        }

        fputs("' ;;\n", out);
    }
}


static void put_options(FILE *out, const struct command *c)
{
    const char *between = "";

    fprintf(out, "        '%s%s%s') REPLY='",
            c->group != NULL ? c->group : "",
            c->group != NULL ? " " : "", c->name);

    for (size_t i = 0; i < options_count; i++) {
        if (options_belongs(&options_table[i], c)) {
            fprintf(out, "%s--%s", between, options_table[i].name);
            between = " ";
        }
    }

    fputs("' ;;\n", out);
}


static void put_arguments(FILE *out, const struct command *c)
{
    for (size_t i = 0; i < OPTIONS_ARGUMENTS; i++) {
        if (c->arguments[i].kind != KIND_NONE) {
            fprintf(out, "        '%s%s%s %zu') REPLY=%s ;;\n",
                    c->group != NULL ? c->group : "",
                    c->group != NULL ? " " : "", c->name, i,
                    kinds[c->arguments[i].kind]);
        }
    }
}


void gen_completion(FILE *out)
{
    fputs("# Completion of inverting-proxy-admin for bash\n\n", out);

    begin(out, "What can follow the words of a command", "next", "$1");
    put_next(out);
    end(out);

    begin(out, "The options of a command", "options", "$1");
    for (size_t i = 0; i < options_ncommands; i++) {
        put_options(out, &options_commands[i]);
    }
    fputs("        *) REPLY='--help --version' ;;\n", out);
    end(out);

    begin(out, "What an argument of a command is, counted from 0",
          "argument", "\"$1 $2\"");
    for (size_t i = 0; i < options_ncommands; i++) {
        put_arguments(out, &options_commands[i]);
    }
    end(out);

    begin(out, "What the value of an option is", "value", "$1");
    for (size_t i = 0; i < options_count; i++) {
        /* the value of --watch need not be there */
        if (options_table[i].argument != NULL
            && options_table[i].type != TYPE_WATCH) {
            fprintf(out, "        --%s) REPLY=%s ;;\n",
                    options_table[i].name, kinds[options_table[i].kind]);
        }
    }
    end(out);
}
