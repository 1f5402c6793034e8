#include <curl/curl.h>
#include <stdio.h>

#include "agent/version.h"
#include "answer.h"
#include "client.h"
#include "config.h"
#include "help.h"
#include "options.h"
#include "report.h"


/* What needs no server. */
static int run_local(const struct options *o)
{
    if (o->help) {
        if (o->command != NULL) {
            help_command(stdout, o->command);
        } else {
            help_all(stdout);
        }
        return EXIT_DONE;
    }

    if (o->command != NULL && o->command->arguments[0].kind == KIND_COMMAND) {
        return help_run(o, stdout, stderr);
    }

    puts("inverting-proxy-admin " INVERTING_PROXY_VERSION);

    return EXIT_DONE;
}


static int run(const struct options *o)
{
    struct config config;
    struct client *client;
    int rc = config_load(&config, o, stderr);

    if (rc == 0) {
        client = client_open(&config);

        if (client == NULL) {
            rc = EXIT_REFUSED;
        } else {
            rc = o->command->run(o, client);
            client_close(client);
        }
    }

    config_free(&config);

    return rc;
}


int main(int argc, char **argv)
{
    struct options options;
    int rc = options_parse(&options, argc, argv, stderr);

    if (rc != 0) {
        return rc;
    }

    if (options.help || options.command == NULL
        || options.command->run == NULL) {
        rc = run_local(&options);
    } else {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = run(&options);
        curl_global_cleanup();
    }

    if (rc == EXIT_DONE && !answer_flush()) {
        rc = EXIT_REFUSED;
    }

    return rc;
}
