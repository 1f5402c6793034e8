/*
 * Members of the API's objects.
 */

#ifndef ADMIN_JSON_H
#define ADMIN_JSON_H

#include <cjson/cJSON.h>

/* NULL if there is no such string (or no such object). */
const char *json_string(const cJSON *object, const char *name);

#define JSON_NUMBER 32

/* A number, rounded, as text in out; NULL if there is none. */
const char *json_number(const cJSON *object, const char *name,
                        char out[JSON_NUMBER]);

/* Its value, or 0. */
double json_value(const cJSON *object, const char *name);

/* Adds a member unless value is NULL. */
void json_add(cJSON *object, const char *name, const char *value);

/* Ends the process if there was no memory for it; returns it otherwise. */
void *json_made(void *p);

#endif
