/* Text for people, and tables of it. */

#include <stdlib.h>
#include <string.h>

#include "admin/table.h"
#include "admin/text.h"
#include "agent/test/tap.h"


static bool cleaned(const char *text, const char *expected)
{
    char copy[64];

    snprintf(copy, sizeof(copy), "%s", text);
    text_clean(copy);

    return strcmp(copy, expected) == 0;
}


static bool ago(const char *when, const char *expected)
{
    char out[TEXT_AGO];

    /* 2001-02-03T04:05:06Z */
    return strcmp(text_ago(when, 981173106, out), expected) == 0;
}


static void text(void)
{
    char out[TEXT_SIZE];

    OK(cleaned("plain ~ \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
               "plain ~ \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
       "text stays");
    OK(cleaned("a\033[2Jb\n\x7f", "a?[2Jb??"), "controls go");
    OK(cleaned("\xc2\x9b" "2J", "??2J"), "C1 controls too");
    OK(cleaned("\xff\xc0\xaf\xed\xa0\x80\xe2\x82", "????????"),
       "and what is no UTF-8");
    OK(cleaned("a\xe2\x80\xae" "b", "a???b"), "and turned direction");

    OK(text_width("a\xc3\xa9\xe2\x82\xac") == 3, "width");
    OK(text_bytes("a\xc3\xa9\xe2\x82\xac", 2) == 3
       && text_bytes("ab", 9) == 2, "bytes of columns");

    OK(ago("2001-02-03T04:05:06Z", "0s ago"), "now");
    OK(ago("2001-02-03T04:03:08Z", "118s ago"), "seconds");
    OK(ago("2001-02-03T04:03:06Z", "2m ago"), "minutes");
    OK(ago("2001-02-03T02:05:06Z", "2h ago"), "hours");
    OK(ago("2001-02-01T04:05:06Z", "2d ago"), "days");
    OK(ago("2001-02-03T04:05:06.789Z", "0s ago"), "parts of a second");
    OK(ago("2001-02-03T05:05:06Z", "0s ago"), "another clock");
    OK(ago("yesterday", "yesterday"), "no time");
    OK(text_ago(NULL, 0, out) == NULL, "nothing");

    OK(strcmp(text_size(1023, out), "1023 B") == 0, "bytes");
    OK(strcmp(text_size(1536, out), "1.5 KiB") == 0, "KiB");
    OK(strcmp(text_size(16777216, out), "16.0 MiB") == 0, "MiB");
}


static const struct column columns[] = {
    {"ID", false, 0}, {"USER", false, 8}, {"N", true, 0},
    {"LAST", false, 0},
};


/* The table of rows of ids of the lengths from 1 to n, as text. */
static char *table_of(int n)
{
    char *shown = NULL, id[1024];
    size_t size;
    FILE *out = open_memstream(&shown, &size);
    struct table *t = table_new(out, columns, 4);

    for (int i = 1; i <= n; i++) {
        memset(id, 'x', (size_t) i);
        id[i] = '\0';
        table_row(t, (const char *const[4]) {
            id, i == 2 ? "\xc3\xa9 and so on" : "me", "10", NULL});
    }

    table_end(t, true);
    fclose(out);

    return shown;
}


static void tables(void)
{
    char *shown = table_of(0);

    OK(strcmp(shown, "ID  USER  N  LAST\n") == 0, "no rows");
    free(shown);

    shown = table_of(3);
    OK(strcmp(shown, "ID   USER       N  LAST\n"
                     "x    me        10  -\n"
                     "xx   \xc3\xa9 and...  10  -\n"
                     "xxx  me        10  -\n") == 0, "aligned, cut, empty");
    free(shown);

    shown = table_of(600);
    OK(strstr(shown, "x  me") != NULL && strncmp(shown, "ID  ", 4) == 0
       && strchr(shown, '\n') - shown == 500 + 2 + 8 + 4 + 6,
       "widths of the first 500");
    free(shown);
}


int main(void)
{
    text();
    tables();

    return tap_done();
}
