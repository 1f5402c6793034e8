/* JSON lists, cut in pieces in every way. */

#include <string.h>

#include "admin/cutter.h"
#include "agent/test/tap.h"

static char seen[512];


static bool element(void *arg, const char *text, size_t len)
{
    (void) arg;
    snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "<%.*s>",
             (int) len, text);

    return true;
}


/* Whether it is whole when it comes in two pieces, the first of n bytes. */
static bool cut_at(const char *text, const char *member, size_t n,
                   const char *rest)
{
    struct cutter c = {.member = member, .element = element};
    bool good;

    seen[0] = '\0';
    cutter_feed(&c, text, n);
    cutter_feed(&c, text + n, strlen(text) - n);
    good = cutter_end(&c);

    if (good && rest != NULL) {
        good = buf_len(&c.rest) == strlen(rest)
               && memcmp(buf_ptr(&c.rest), rest, strlen(rest)) == 0;
    }

    cutter_free(&c);

    return good;
}


static bool cuts(const char *text, const char *member, const char *elements,
                 const char *rest)
{
    for (size_t n = 0; n <= strlen(text); n++) {
        if (!cut_at(text, member, n, rest) || strcmp(seen, elements) != 0) {
            printf("# cut at %zu: %s\n", n, seen);
            return false;
        }
    }

    return true;
}


static bool bad(const char *text, const char *member)
{
    for (size_t n = 0; n <= strlen(text); n++) {
        if (cut_at(text, member, n, NULL)) {
            printf("# cut at %zu\n", n);
            return false;
        }
    }

    return true;
}


static bool refuse(void *arg, const char *text, size_t len)
{
    (void) arg;
    (void) text;
    (void) len;

    return false;
}


static void limits(void)
{
    struct cutter c = {.element = element};
    static char space[CUTTER_MAX];

    memset(space, ' ', sizeof(space));
    OK(cutter_feed(&c, "[", 1) && cutter_feed(&c, space, sizeof(space))
       && cutter_feed(&c, space, sizeof(space)) && buf_len(&c.part) == 0,
       "what is between elements is not kept");
    OK(cutter_feed(&c, "{", 1) && !cutter_feed(&c, space, sizeof(space))
       && !cutter_feed(&c, "}]", 2) && !cutter_end(&c),
       "an endless element ends it");
    cutter_free(&c);

    c = (struct cutter) {.element = refuse};
    OK(cutter_feed(&c, "[", 1) && !cutter_feed(&c, "{}", 2)
       && !cutter_feed(&c, "]", 1), "an element that is refused");
    cutter_free(&c);
}


int main(void)
{
    OK(cuts("[]", NULL, "", "[]"), "an empty list");
    OK(cuts(" [ ] \n", NULL, "", " [] \n"), "with spaces");
    OK(cuts("[{\"a\":1},\n{\"b\":[{}]}]\n", NULL,
            "<{\"a\":1}><{\"b\":[{}]}>", "[]\n"), "two elements");
    OK(cuts("[{\"a\":\"]}\\\"{[\\\\\"},{}]", NULL,
            "<{\"a\":\"]}\\\"{[\\\\\"}><{}>", "[]"), "brackets in strings");
    OK(cuts("{\"x\":[1,{\"list\":[2]}],\"list\":[{\"list\":[{}]}],"
            "\"y\":\"list\"}", "list", "<{\"list\":[{}]}>",
            "{\"x\":[1,{\"list\":[2]}],\"list\":[],\"y\":\"list\"}"),
       "a member of an object");
    OK(cuts("{\"y\":\"list\",\"z\":[3],\"list\" : [ ]}", "list", "",
            "{\"y\":\"list\",\"z\":[3],\"list\" : []}"),
       "a value of that name");

    OK(bad("", NULL), "nothing");
    OK(bad("[", NULL) && bad("[{}", NULL) && bad("[{\"a", NULL),
       "cut short");
    OK(bad("[{},]", NULL) && bad("[,{}]", NULL) && bad("[{},,{}]", NULL)
       && bad("[{} {}]", NULL), "commas");
    OK(bad("[1]", NULL) && bad("[\"a\"]", NULL) && bad("[[]]", NULL),
       "elements that are no objects");
    OK(bad("[]]", NULL) && bad("[][]", NULL) && bad("[]x", NULL),
       "something behind it");
    OK(bad("{}", NULL) && bad("{\"a\":[]}", "list")
       && bad("{\"a\":{\"list\":[]}}", "list"), "no such list");
    limits();

    return tap_done();
}
