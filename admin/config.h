/*
 * Which server, and what to show it: from the command line, the environment
 * and the configuration file, in this order.
 */

#ifndef ADMIN_CONFIG_H
#define ADMIN_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "agent/origin.h"
#include "options.h"

struct config {
    struct origin server;
    const char *source; /* of the address: what to look at if it is wrong */
    char *url;          /* as it was given */
    long timeout;       /* seconds */

    char *file; /* name of the configuration file, whether it is there or not;
                   NULL if nobody knows where */
    /* its settings, NULL where there is none; names of files are absolute or
     * as seen from the current folder */
    char *address;
    char *user;
    char *password;
    char *password_file;
    char *token;
    char *token_file;
    char *ca_file;
    char *client_cert;
    char *client_key;

    bool withheld; /* credentials that are for another server than this */
};

enum setting_type { SETTING_TEXT, SETTING_PATH, SETTING_SECRET };

struct setting {
    const char *name;
    enum setting_type type;
    size_t offset;
    const char *argument;
    const char *text; /* for the manual */
};

extern const struct setting config_settings[];
extern const size_t config_nsettings;

/*
 * Read what there is into c. Returns 0, or EXIT_USAGE after lines on err that
 * name the file and line. Secrets of files are in password and token then.
 */
int config_load(struct config *c, const struct options *o, FILE *err);

void config_free(struct config *c);

#endif
