/*
 * What the command says when something went wrong, and its exit statuses.
 */

#ifndef ADMIN_REPORT_H
#define ADMIN_REPORT_H

#include <stdio.h>

/* Exit statuses; the manual has them from options_exits. */
#define EXIT_DONE 0
#define EXIT_REFUSED 1   /* by the server, or it was not reached */
#define EXIT_USAGE 2     /* the command line or the configuration is wrong */
#define EXIT_NOT_FOUND 3 /* no such backend or key */

/*
 * One line on err, with the command's name before it. What came from a peer
 * may be in it: control characters are shown as '?'.
 */
void report(FILE *err, const char *format, ...)
     __attribute__((format(printf, 2, 3)));

/* One more line, indented: what can be done about it. */
void report_hint(FILE *err, const char *format, ...)
     __attribute__((format(printf, 2, 3)));

#endif
