/*
 * The help, made of the tables.
 */

#ifndef ADMIN_HELP_H
#define ADMIN_HELP_H

#include <stdio.h>

#include "options.h"

/* One command, all of it, and what belongs to all commands. */
void help_command(FILE *out, const struct command *command);
void help_all(FILE *out);

/*
 * "help" with its arguments: the name of a command or a group, or nothing.
 * The exit status.
 */
int help_run(const struct options *o, FILE *out, FILE *err);

/* "backends create BACKEND" */
void help_usage(FILE *out, const struct command *command);

#endif
