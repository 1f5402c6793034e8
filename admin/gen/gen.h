/*
 * What is made of the tables when the command is built.
 */

#ifndef ADMIN_GEN_H
#define ADMIN_GEN_H

#include <stdio.h>

/* The manual page, in roff. */
void gen_manual(FILE *out);

/* Completion for bash. */
void gen_completion(FILE *out);

#endif
