/*
 * Answers of the API, read whole or in pieces; with --json they are printed
 * as they are, and nobody looks into them.
 */

#ifndef ADMIN_ANSWER_H
#define ADMIN_ANSWER_H

#include <stdbool.h>

#include "client.h"
#include "json.h"
#include "options.h"

/*
 * One document. The exit status; with EXIT_DONE, *doc is to be given to
 * cJSON_Delete(). It is NULL with --json.
 */
int answer_document(const struct options *o, struct client *client,
                    struct call *call, cJSON **doc);

/*
 * GET of a list, which is the document (member NULL) or one of its members.
 * row is called for each object in it as it comes; *rest, if wanted, is the
 * document without them. With --json neither is used.
 */
int answer_list(const struct options *o, struct client *client,
                const char *path, const char *member,
                void (*row)(void *arg, const cJSON *object), void *arg,
                cJSON **rest);

/* All of stdout has gone out; false after a line on stderr. */
bool answer_flush(void);

#endif
