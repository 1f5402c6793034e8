/*
 * Log lines on stderr: time (UTC, milliseconds), level, text. One line per
 * event; control characters that a peer put into the text are shown as '?'.
 * Lines for which there is no room, as nobody reads them, are dropped.
 */

#ifndef AGENT_LOG_H
#define AGENT_LOG_H

#include <stdbool.h>
#include <stdint.h>

/* Debug lines are dropped unless this was called with true. */
void log_set_debug(bool on);

/* True when debug lines are wanted: spares the work of making one. */
bool log_is_debug(void);

void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * A brake for lines that a peer can cause at will: true at most once in
 * interval_ms. *suppressed is the number of lines swallowed since the last
 * one that was let through.
 */
struct log_brake {
    uint64_t until;
    unsigned swallowed;
};

bool log_allowed(struct log_brake *brake, uint64_t interval_ms,
                 unsigned *suppressed);

/*
 * Whether a line that said one status, of a proxy that is away, is to be
 * followed by one that says another: once a minute at most.
 */
bool log_changed(struct log_brake *brake, int before, int now);

#endif
