/* The command line. */

#include <stdlib.h>
#include <string.h>

#include "admin/help.h"
#include "admin/options.h"
#include "admin/report.h"
#include "agent/test/tap.h"

static struct options o;
static char said[1024];
static char words[1024];


/* Parse the words of a line; the exit status. */
static int parse(const char *line)
{
    char *argv[160], *p = words;
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
    memset(said, 0, sizeof(said));
    rc = options_parse(&o, argc, argv, err);
    fclose(err);

    return rc;
}


static bool is(const char *group, const char *name)
{
    return o.command != NULL && strcmp(o.command->name, name) == 0
           && (group == NULL ? o.command->group == NULL
                             : strcmp(o.command->group, group) == 0);
}


static bool refused(const char *line, const char *text)
{
    return parse(line) == EXIT_USAGE && strstr(said, text) != NULL;
}


static void commands(void)
{
    OK(parse("backends list") == 0 && is("backends", "list")
       && o.narguments == 0, "backends list");
    OK(o.timeout == 30 && !o.json && !o.quiet && !o.watch
       && o.server == NULL && o.config == NULL, "what is not given");
    OK(parse("backends get a") == 0 && is("backends", "get")
       && strcmp(o.arguments[0], "a") == 0, "backends get");
    OK(parse("--json backends --server x get a") == 0
       && is("backends", "get") && o.json && strcmp(o.server, "x") == 0,
       "options in between");
    OK(parse("keys revoke a b") == 0 && is("keys", "revoke")
       && strcmp(o.arguments[1], "b") == 0, "keys revoke");
    OK(parse("status") == 0 && is(NULL, "status"), "status");
    OK(parse("help backends create") == 0 && is(NULL, "help")
       && o.narguments == 2, "help");
    OK(parse("version") == 0 && is(NULL, "version"), "version");
    OK(parse("--version") == 0 && o.version && o.command == NULL,
       "--version");
    OK(parse("-h") == 0 && o.help && o.command == NULL, "-h");
    OK(parse("backends get --help") == 0 && o.help && is("backends", "get"),
       "help for a command, its argument missing");
    OK(parse("backends get -- -a") == 0
       && strcmp(o.arguments[0], "-a") == 0, "an id behind --");
}


static void values(void)
{
    char line[1024] = "backends create a";

    OK(parse("backends create a --end-user=u --backend-user b --prefix /x "
             "--prefix=/y --quiet") == 0
       && strcmp(o.end_user, "u") == 0 && strcmp(o.backend_user, "b") == 0
       && o.nprefixes == 2 && strcmp(o.prefixes[0], "/x") == 0
       && strcmp(o.prefixes[1], "/y") == 0 && o.quiet, "a record");
    OK(parse("backends create a --end-user=") == 0 && o.end_user[0] == '\0',
       "an empty value is the server's to judge");
    OK(parse("status --watch") == 0 && o.watch && o.interval == 2,
       "--watch");
    OK(parse("status --watch 5") == 0 && o.interval == 5, "--watch 5");
    OK(parse("--watch 5 status") == 0 && o.interval == 5, "before it");
    OK(parse("--watch status") == 0 && o.interval == 2, "without a number");
    OK(parse("status --watch=7") == 0 && o.interval == 7, "--watch=7");

    for (size_t n = strlen(line); o.nprefixes < 64; n = strlen(line)) {
        snprintf(line + n, sizeof(line) - n, " --prefix=/");
        if (parse(line) != 0) {
            break;
        }
    }

    OK(o.nprefixes == 64, "64 prefixes");
    snprintf(line + strlen(line), sizeof(line) - strlen(line),
             " --prefix /");
    OK(refused(line, "more than 64"), "65 prefixes");
}


static void errors(void)
{
    char id[140];

    OK(refused("", "which command"), "nothing");
    OK(refused("backends", "backends list, backends get"), "half a command");
    OK(refused("backends rename", "\"backends rename\""), "no such one");
    OK(refused("nonsense", "nonsense"), "nonsense");
    OK(refused("list", "list"), "without its group");
    OK(refused("backends get", "missing"), "the id is missing");
    OK(refused("keys revoke a", "id of the key"), "the key's id is missing");
    OK(refused("backends get a b", "b: unexpected"), "one too many");
    OK(refused("a b c d e", "e: unexpected"), "many too many");
    OK(refused("backends get a/b", "no id"), "a slash");
    OK(refused("backends get ..", "no id"), "another folder");
    OK(refused("keys revoke a ?", "no id"), "a bad id of a key");
    OK(refused("backends list --nonsense", "--nonsense: unknown"),
       "an unknown option");
    OK(refused("backends list --nonsense=secret", "--nonsense: unknown")
       && strstr(said, "secret") == NULL, "its value is not repeated");
    OK(refused("backends list -json", "-json"), "one dash");
    OK(refused("backends list --json=yes", "no value"), "a flag's value");
    OK(refused("backends list --server", "missing"), "a missing value");
    OK(refused("backends list --prefix /", "does not belong"),
       "another command's option");
    OK(refused("version --json", "does not belong"), "nor this");
    OK(refused("status --watch 0", "seconds"), "0 seconds");
    OK(refused("backends list --timeout x", "seconds"), "no number");
    OK(refused("backends list --json --quiet", "exclude"), "both");
    OK(refused("status --json --watch", "exclude"), "these too");

    memset(id, 'a', sizeof(id));
    id[129] = '\0';
    OK(!options_is_id(id), "129 characters");
    id[128] = '\0';
    OK(options_is_id(id) && options_is_id("A-Z.a_9") && !options_is_id(""),
       "128 of them");
}


/* Everything that there is, is in the help. */
static void help(void)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    help_all(out);

    for (size_t i = 0; i < options_ncommands; i++) {
        help_command(out, &options_commands[i]);
    }

    fclose(out);

    for (size_t i = 0; i < options_count; i++) {
        snprintf(words, sizeof(words), "--%s", options_table[i].name);
        OK(strstr(text, words) != NULL, "help has %s", words);
    }

    free(text);

    OK(strcmp(options_of_field("pathPrefixes")->name, "prefix") == 0
       && options_of_field("x") == NULL, "the option of a field");
}


int main(void)
{
    commands();
    values();
    errors();
    help();

    return tap_done();
}
