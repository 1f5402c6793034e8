/* The memory for request IDs, and the lists they come in. */

#include <stdlib.h>
#include <string.h>

#include "idlist.h"
#include "idset.h"
#include "memory.h"
#include "tap.h"

static char seen[256];


static void memory(void)
{
    struct idset *set = idset_new(3);

    OK(idset_add(set, "a") && idset_add(set, "b") && idset_add(set, "c"),
       "three new ones");
    OK(!idset_add(set, "b") && !idset_add(set, "a"), "remembered");
    OK(idset_add(set, "d"), "a fourth one");
    OK(!idset_add(set, "a") && !idset_add(set, "b") && !idset_add(set, "d"),
       "the ones seen last are remembered");
    OK(idset_add(set, "c"), "the oldest was forgotten");
    idset_free(set);
}


static void many(void)
{
    struct idset *set = idset_new(1000);
    bool fresh = true, kept = true, forgotten = true;
    char id[32];

    for (int i = 0; i < 5000; i++) {
        snprintf(id, sizeof(id), "id-%d", i);
        fresh &= idset_add(set, id);
    }

    for (int i = 4999; i >= 4000; i--) {
        snprintf(id, sizeof(id), "id-%d", i);
        kept &= !idset_add(set, id);
    }

    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "id-%d", i);
        forgotten &= idset_add(set, id);
    }

    OK(fresh && kept && forgotten, "the last 1000 of 5000");
    idset_free(set);
}


static void each(void *arg, const char *id)
{
    size_t n = strlen(seen);

    (void) arg;
    snprintf(seen + n, sizeof(seen) - n, "%s,", id);
}


/* The IDs joined, or "!" when the list is refused. */
static const char *parse(const char *text)
{
    seen[0] = '\0';

    return idlist_parse(text, strlen(text), each, NULL) != NULL ? "!" : seen;
}


static void lists(void)
{
    char *deep = mem_alloc(200001);
    char *text = mem_alloc(300);

    OK(strcmp(parse("[\"a\", \"b\"]\n"), "a,b,") == 0, "two IDs");
    OK(strcmp(parse("[]"), "") == 0, "none");
    OK(strcmp(parse("null"), "") == 0, "null");
    OK(strcmp(parse(""), "") == 0, "nothing");
    OK(strcmp(parse(" \r\n"), "") == 0, "white space");
    OK(strcmp(parse("["), "!") == 0, "not JSON");
    OK(strcmp(parse("[\"a\""), "!") == 0, "cut short");
    OK(strcmp(parse("[\"a\"] x"), "!") == 0, "something behind it");
    OK(strcmp(parse("{}"), "!") == 0, "not a list");
    OK(strcmp(parse("[\"a\", 1]"), "!") == 0 && seen[0] == '\0',
       "not only strings: none is taken");
    OK(strcmp(parse("[\"\", \"a b\", \"x\\r\\ny\", \"\\u00e4\", \"ok\"]"),
              "ok,") == 0, "IDs that cannot be a field's value");

    memset(text, 'x', 300);
    memcpy(text, "[\"", 2);
    memcpy(text + 2 + ID_MAX, "\"]", 3);
    OK(strlen(parse(text)) > 200, "the longest ID");
    memcpy(text + 3 + ID_MAX, "\"]", 3);
    text[2 + ID_MAX] = 'x';
    OK(strcmp(parse(text), "") == 0, "one that is too long");

    memset(deep, '[', 200000);
    deep[200000] = '\0';
    OK(strcmp(parse(deep), "!") == 0, "nested deeply");
    free(deep);
    free(text);
}


int main(void)
{
    memory();
    many();
    lists();

    return tap_done();
}
