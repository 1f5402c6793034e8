/*
 * Why a call failed, said on stderr with what can be done about it. Each
 * returns the exit status.
 */

#ifndef ADMIN_FAILURE_H
#define ADMIN_FAILURE_H

#include <curl/curl.h>
#include <stddef.h>

#include "config.h"

/* There was no answer, or not all of it; detail is libcurl's, or "". */
int failure_transfer(const struct config *c, CURLcode code,
                     const char *detail);

/* An answer with a status that is no success. */
int failure_answer(const struct config *c, long status, const char *body,
                   size_t len);

/* One with a success, but not the API's. */
int failure_foreign(const struct config *c, long status);

#endif
