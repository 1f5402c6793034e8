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
 * What keeps a proxy away, as the last line said it. log_reason() is whether
 * another line is due: the first one, one of another status (0 is no answer)
 * or, after a while, with another text; but for the first once a minute.
 */
struct log_reason {
    struct log_brake brake;
    uint64_t first; /* ms, when that was */
    int status;
    uint32_t text; /* a hash */
};

bool log_reason(struct log_reason *last, bool first, int status,
                const char *why);

#endif
