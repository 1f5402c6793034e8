/*
 * Just enough to print TAP.
 */

#ifndef AGENT_TEST_TAP_H
#define AGENT_TEST_TAP_H

#include <stdbool.h>
#include <stdio.h>

static int tap_count;
static int tap_failed;

#define OK(condition, ...)                                                    \
    do {                                                                      \
        bool tap_ok_ = (condition);                                           \
                                                                              \
        tap_failed += !tap_ok_;                                               \
        printf("%sok %d - ", tap_ok_ ? "" : "not ", ++tap_count);             \
        printf(__VA_ARGS__);                                                  \
        printf("\n");                                                         \
        if (!tap_ok_) {                                                       \
            printf("# at %s:%d: %s\n", __FILE__, __LINE__, #condition);       \
        }                                                                     \
    } while (0)

/* The plan, and the exit status. */
static inline int tap_done(void)
{
    printf("1..%d\n", tap_count);

    return tap_failed > 0;
}

#endif
