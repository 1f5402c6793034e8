/*
 * A table for people: aligned columns, "-" where there is nothing. However
 * many rows there are, it keeps a few hundred of them at most: their widths
 * are those of the columns, and what is longer further down juts out.
 */

#ifndef ADMIN_TABLE_H
#define ADMIN_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct column {
    const char *title;
    bool right; /* a number */
    size_t max; /* what is wider ends in "..."; 0: it is never cut */
};

struct table;

/* Rows go to out, with a line of titles before the first. */
struct table *table_new(FILE *out, const struct column *columns, size_t n);

/* One cell for each column; NULL or an empty one is shown as "-". */
void table_row(struct table *t, const char *const *cells);

/* Writes what is left (the titles in any case), unless it is not good for
 * anything, and frees the table. */
void table_end(struct table *t, bool good);

/* A line "name   value" of a record that is shown by itself. */
void table_fact(FILE *out, const char *name, const char *value);

#endif
