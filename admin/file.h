/*
 * Small files: the configuration, and files with a secret.
 */

#ifndef ADMIN_FILE_H
#define ADMIN_FILE_H

#include <stdbool.h>

#define FILE_MAX (64 * 1024)

/*
 * All of a regular file of at most FILE_MAX bytes without a NUL, as a string
 * to be given to file_wipe(). NULL if that cannot be: *why is a constant then,
 * or strerror's, with *error the errno or 0. *private: nobody but its owner
 * may read or change it.
 */
char *file_read(const char *path, bool *private, const char **why,
                int *error);

/*
 * The secret that a file is, without the end of its only line; otherwise as
 * file_read(). It is refused if others may read it.
 */
char *file_secret(const char *path, const char **why);

/* What is wrong with a secret, or NULL. */
const char *file_bad_secret(const char *text);

/* Overwrites the string before it is freed; NULL is nothing. */
void file_wipe(char *text);

#endif
