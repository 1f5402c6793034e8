#include "value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>


bool value_bool(const char *text, bool *value)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(text, yes[i]) == 0) {
            *value = true;
            return true;
        }

        if (strcmp(text, no[i]) == 0) {
            *value = false;
            return true;
        }
    }

    return false;
}


static const struct {
    const char *name;
    long double ns;
} units[] = {
    /* the longer names first: "ms" is not "m" */
    {"ns", 1},
    {"us", 1e3L},
    {"\xc2\xb5s", 1e3L}, /* U+00B5 */
    {"\xce\xbcs", 1e3L}, /* U+03BC */
    {"ms", 1e6L},
    {"s", 1e9L},
    {"m", 60e9L},
    {"h", 3600e9L},
};


static bool take_unit(const char **p, long double *ns)
{
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t n = strlen(units[i].name);

        if (strncmp(*p, units[i].name, n) == 0) {
            *p += n;
            *ns = units[i].ns;
            return true;
        }
    }

    return false;
}


bool value_duration(const char *text, uint64_t *ms)
{
    const char *p = text;
    long double total = 0, unit;

    if (*p == '+') {
        p++;
    }

    if (strcmp(p, "0") == 0) {
        *ms = 0;
        return true;
    }

    if (*p == '\0') {
        return false;
    }

    while (*p != '\0') {
        long double number = 0, scale = 1;
        int digits = 0;

        for (; *p >= '0' && *p <= '9'; p++, digits++) {
            number = number * 10 + (*p - '0');
        }

        if (*p == '.') {
            for (p++; *p >= '0' && *p <= '9'; p++, digits++) {
                scale /= 10;
                number += scale * (*p - '0');
            }
        }

        if (digits == 0 || !take_unit(&p, &unit)) {
            return false;
        }

        total += number * unit;
    }

    if (total > 9223372036854775807.0L) {
        return false;
    }

    *ms = (uint64_t) (total / 1e6L);
    if (*ms == 0 && total > 0) {
        *ms = 1;
    }

    return true;
}


bool value_int(const char *text, long min, long max, long *value)
{
    char *end;
    long n;

    if (*text == '\0' || *text == ' ') {
        return false;
    }

    errno = 0;
    n = strtol(text, &end, strncasecmp(text, "0x", 2) == 0 ? 16 : 10);

    if (errno != 0 || *end != '\0' || n < min || n > max) {
        return false;
    }

    *value = n;

    return true;
}
