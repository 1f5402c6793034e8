#define _GNU_SOURCE /* strptime() */

#include "text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>


/* Length of the character at p, or 0 if it is none that may be shown. */
static size_t character(const unsigned char *p)
{
    uint32_t code;
    size_t n;

    if (*p < 0x80) {
        return *p >= 0x20 && *p != 0x7f;
    }

    if (*p < 0xc2 || *p > 0xf4) {
        return 0;
    }

    n = *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
    code = *p & (0x7fu >> n);

    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }

        code = code << 6 | (p[i] & 0x3f);
    }

    /* C1 controls, too long a form, surrogates, beyond the last one */
    if (code < 0xa0 || (n == 3 && code < 0x800) || (n == 4 && code < 0x10000)
        || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) {
        return 0;
    }

    /* marks that turn the direction of what follows around */
    if ((code >= 0x202a && code <= 0x202e)
        || (code >= 0x2066 && code <= 0x2069)) {
        return 0;
    }

    return n;
}


void text_clean(char *s)
{
    while (*s != '\0') {
        size_t n = character((const unsigned char *) s);

        if (n == 0) {
            *s = '?';
            n = 1;
        }

        s += n;
    }
}


size_t text_width(const char *s)
{
    size_t columns = 0;

    for (; *s != '\0'; s++) {
        columns += ((unsigned char) *s & 0xc0) != 0x80;
    }

    return columns;
}


size_t text_bytes(const char *s, size_t columns)
{
    size_t n = 0;

    for (; s[n] != '\0'; n++) {
        if (((unsigned char) s[n] & 0xc0) != 0x80) {
            if (columns == 0) {
                break;
            }
            columns--;
        }
    }

    return n;
}


const char *text_ago(const char *when, time_t now, char out[TEXT_AGO])
{
    static const struct {
        const char *unit;
        long long seconds;
    } units[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}};
    struct tm tm = {0};
    long long age;
    size_t i = 0;

    if (when == NULL) {
        return NULL;
    }

    if (strptime(when, "%Y-%m-%dT%H:%M:%S", &tm) == NULL) {
        snprintf(out, TEXT_AGO, "%s", when);
        return out;
    }

    age = (long long) now - (long long) timegm(&tm);
    if (age < 0) {
        age = 0; /* clocks differ */
    }

    /* two of a unit before it is used: 90m says more than 1h */
    while (i < 3 && age < 2 * units[i].seconds) {
        i++;
    }

    snprintf(out, TEXT_AGO, "%lld%s ago", age / units[i].seconds,
             units[i].unit);

    return out;
}


const char *text_size(double bytes, char out[TEXT_SIZE])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;

    while (bytes >= 1024 && i < 4) {
        bytes /= 1024;
        i++;
    }

    snprintf(out, TEXT_SIZE, i == 0 ? "%.0f %s" : "%.1f %s", bytes, units[i]);

    return out;
}
