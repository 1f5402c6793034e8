/*
 * What the commands do. Each returns the exit status; when that is not 0 it
 * has said why on stderr, and nothing is on stdout but what of a list had
 * come until then.
 */

#ifndef ADMIN_COMMANDS_H
#define ADMIN_COMMANDS_H

#include "client.h"
#include "options.h"

int backends_list(const struct options *o, struct client *client);
int backends_get(const struct options *o, struct client *client);
int backends_create(const struct options *o, struct client *client);
int backends_delete(const struct options *o, struct client *client);

int keys_list(const struct options *o, struct client *client);
int keys_create(const struct options *o, struct client *client);
int keys_revoke(const struct options *o, struct client *client);

int status_show(const struct options *o, struct client *client);

#endif
