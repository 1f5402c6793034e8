#include "cutter.h"

#include <string.h>


static bool is_space(char ch)
{
    return ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n';
}


static bool keep(struct buf *b, const char *p, size_t n)
{
    if (n > CUTTER_MAX - buf_len(b)) {
        return false;
    }

    buf_append(b, p, n);

    return true;
}


/* One byte of a string; the names in the outermost object are of interest. */
static void in_string(struct cutter *c, char ch)
{
    if (c->escape) {
        c->escape = false;
    } else if (ch == '\\') {
        c->escape = true;
    } else if (ch == '"') {
        c->string = false;
        return;
    }

    if (c->depth == 1) {
        if (c->name_len < sizeof(c->name)) {
            c->name[c->name_len] = ch;
        }
        c->name_len++;
    }
}


/* Whether this bracket opens the array that is looked for. */
static bool opens(const struct cutter *c)
{
    return !c->found && (c->member == NULL ? c->depth == 0
                                           : c->depth == 1 && c->named);
}


/* One byte outside of the array and of strings. */
static bool outside(struct cutter *c, char ch)
{
    if (c->found && c->depth == 0) {
        return is_space(ch); /* the document is over */
    }

    switch (ch) {

    case '"':
        c->string = true;
        c->name_len = 0;
        return true;

    case ':':
        c->named = c->depth == 1 && c->member != NULL
                   && c->name_len == strlen(c->member)
                   && c->name_len <= sizeof(c->name)
                   && memcmp(c->name, c->member, c->name_len) == 0;
        return true;

    case '[':
        c->inside = opens(c);
        c->found |= c->inside;
        c->comma = true;
        c->depth++;
        return true;

    case '{':
        c->depth++;
        return true;

    case ']':
    case '}':
        c->depth--;
        return c->depth >= 0;

    case ',':
        c->named = false;
        return true;

    default:
        return true;
    }
}


/* One byte between elements; *open when one begins with it. */
static bool between(struct cutter *c, char ch, bool *open)
{
    switch (ch) {

    case ',':
        c->comma = !c->comma;
        return c->comma;

    case ']':
        c->inside = false;
        c->depth--;
        return !c->comma || !c->some;

    case '{':
        *open = c->comma;
        c->comma = false;
        c->some = true;
        c->depth++;
        return *open;

    default:
        return is_space(ch);
    }
}


/* One byte of an element, not in a string; *close when it is its last. */
static void within(struct cutter *c, char ch, int base, bool *close)
{
    if (ch == '"') {
        c->string = true;
    } else if (ch == '{' || ch == '[') {
        c->depth++;
    } else if (ch == '}' || ch == ']') {
        c->depth--;
        *close = c->depth == base;
    }
}


static bool end_element(struct cutter *c, const char *p, size_t n)
{
    bool good;

    if (buf_len(&c->part) == 0) {
        /* all of it is in this piece: no copy */
        return n <= CUTTER_MAX && c->element(c->arg, p, n);
    }

    good = keep(&c->part, p, n)
           && c->element(c->arg, buf_ptr(&c->part), buf_len(&c->part));
    buf_reset(&c->part);

    return good;
}


static bool feed(struct cutter *c, const char *p, size_t n)
{
    const int base = c->member == NULL ? 1 : 2;
    size_t from = 0; /* first byte that was not put anywhere yet */

    for (size_t i = 0; i < n; i++) {
        bool open = false, close = false;

        if (c->string) {
            in_string(c, p[i]);

        } else if (!c->inside) {
            if (!outside(c, p[i])) {
                return false;
            }

            /* up to and with the bracket */
            if (c->inside) {
                if (!keep(&c->rest, p + from, i + 1 - from)) {
                    return false;
                }
                from = i + 1;
            }

        } else if (c->depth == base) {
            if (!between(c, p[i], &open)) {
                return false;
            }

            /* what is between elements is dropped; the end belongs outside */
            from = open || !c->inside ? i : i + 1;

        } else {
            within(c, p[i], base, &close);

            if (close) {
                if (!end_element(c, p + from, i + 1 - from)) {
                    return false;
                }
                from = i + 1;
            }
        }
    }

    return keep(c->inside ? &c->part : &c->rest, p + from, n - from);
}


bool cutter_feed(struct cutter *c, const char *p, size_t n)
{
    c->bad = c->bad || !feed(c, p, n);

    return !c->bad;
}


bool cutter_end(const struct cutter *c)
{
    return !c->bad && c->found && c->depth == 0;
}


void cutter_free(struct cutter *c)
{
    buf_free(&c->part);
    buf_free(&c->rest);
}
