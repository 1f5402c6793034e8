/*
 * Cuts a JSON document that comes in pieces into the elements of one of its
 * arrays, so that a list of any length needs the memory of one element. The
 * array is the document itself, or a member of it by name; its elements are
 * objects. What is outside of it is kept, with the array empty.
 */

#ifndef ADMIN_CUTTER_H
#define ADMIN_CUTTER_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/buf.h"

#define CUTTER_MAX (1024 * 1024) /* of one element, and of the rest */
#define CUTTER_NAME 32

struct cutter {
    const char *member; /* the array's name, or NULL: it is the document */
    /* an element, from brace to brace; false: it is no good */
    bool (*element)(void *arg, const char *text, size_t len);
    void *arg;

    /* private */
    struct buf part; /* of an element */
    struct buf rest;
    char name[CUTTER_NAME]; /* the last string in the outermost object */
    size_t name_len;
    int depth;
    bool string, escape; /* inside a string, behind a backslash */
    bool named;          /* the next value is the member's */
    bool inside;         /* the array */
    bool found;          /* the array, once */
    bool comma;          /* has come, or none is needed */
    bool some;           /* elements have come */
    bool bad;
};

/* The first three members are the caller's, all others zero. Takes the next
 * piece; false when it is not such a document (and from then on). */
bool cutter_feed(struct cutter *c, const char *p, size_t n);

/* Whether it was whole; what is outside of the array is in c->rest. */
bool cutter_end(const struct cutter *c);

void cutter_free(struct cutter *c);

#endif
