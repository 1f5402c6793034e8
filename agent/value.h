/*
 * Values of flags, read as the Go flag package reads them.
 */

#ifndef AGENT_VALUE_H
#define AGENT_VALUE_H

#include <stdbool.h>
#include <stdint.h>

/* 1, t, T, true, True, TRUE and their opposites; false if it is neither. */
bool value_bool(const char *text, bool *value);

/*
 * A duration of one or more numbers with a unit: "300ms", "1h30m", "1.5s",
 * "0". Units are ns, us, µs, ms, s, m, h. The result is in milliseconds, what
 * is shorter counts as one. False if it is malformed, negative or too long.
 */
bool value_duration(const char *text, uint64_t *ms);

/* A whole number between min and max, decimal or with 0x. */
bool value_int(const char *text, long min, long max, long *value);

#endif
