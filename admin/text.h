/*
 * Text for people: what a terminal may be given, times and sizes.
 */

#ifndef ADMIN_TEXT_H
#define ADMIN_TEXT_H

#include <stddef.h>
#include <time.h>

/*
 * Replace, in place, control characters and what is not UTF-8 by '?': names
 * are other people's, and a terminal obeys escape sequences.
 */
void text_clean(char *s);

/* Columns of clean text; each character counts as one. */
size_t text_width(const char *s);

/* Bytes of the first columns of clean text (all of it, if it has fewer). */
size_t text_bytes(const char *s, size_t columns);

#define TEXT_AGO 32

/*
 * "12s ago", "5m ago", "3h ago", "2d ago" for a time of the API's such as
 * 2001-02-03T04:05:06Z; what is not such a time is copied. NULL stays NULL:
 * the result is out or NULL.
 */
const char *text_ago(const char *when, time_t now, char out[TEXT_AGO]);

#define TEXT_SIZE 32

/* "512 B", "1.5 KiB", "16.0 MiB" */
const char *text_size(double bytes, char out[TEXT_SIZE]);

#endif
