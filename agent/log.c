#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/poll.h> /* "poll.h" is another one here */
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static bool debug_on;


void log_set_debug(bool on)
{
    debug_on = on;
}


bool log_is_debug(void)
{
    return debug_on;
}


static void line(const char *level, const char *format, va_list args)
{
    char buf[LINE_MAX_BYTES];
    struct timespec now;
    struct tm tm;
    size_t len;
    struct pollfd to = {.fd = STDERR_FILENO, .events = POLLOUT};
    ssize_t written;
    int n;

    /* who does not read the log must not hold up the requests */
    if (poll(&to, 1, 0) == 0) {
        return;
    }

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);

    len = strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%S", &tm);
    n = snprintf(buf + len, sizeof(buf) - len, ".%03ldZ [%s] ",
                 now.tv_nsec / 1000000, level);
    len += (size_t) n;

    n = vsnprintf(buf + len, sizeof(buf) - len, format, args);
    if (n < 0) {
        n = 0;
    }

    if ((size_t) n >= sizeof(buf) - len) {
        n = (int) (sizeof(buf) - len - 1);
    }

    for (size_t i = len; i < len + (size_t) n; i++) {
        if ((unsigned char) buf[i] < 0x20 || buf[i] == 0x7f) {
            buf[i] = '?';
        }
    }

    len += (size_t) n;
    buf[len++] = '\n';

    /* one write, so that lines of several processes do not mix */
    written = write(STDERR_FILENO, buf, len);
    (void) written;
}


#define LOG_FUNCTION(name, level)                                             \
    void name(const char *format, ...)                                        \
    {                                                                         \
        va_list args;                                                         \
                                                                              \
        va_start(args, format);                                               \
        line(level, format, args);                                            \
        va_end(args);                                                         \
    }

LOG_FUNCTION(log_info, "info")
LOG_FUNCTION(log_warn, "warn")
LOG_FUNCTION(log_error, "error")


void log_debug(const char *format, ...)
{
    va_list args;

    if (!debug_on) {
        return;
    }

    va_start(args, format);
    line("debug", format, args);
    va_end(args);
}


bool log_allowed(struct log_brake *brake, uint64_t interval_ms,
                 unsigned *suppressed)
{
    struct timespec now;
    uint64_t ms;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    ms = (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;

    if (ms < brake->until) {
        brake->swallowed++;
        return false;
    }

    *suppressed = brake->swallowed;
    brake->swallowed = 0;
    brake->until = ms + interval_ms;

    return true;
}


bool log_changed(struct log_brake *brake, int before, int now)
{
    unsigned others;

    return before != now && log_allowed(brake, 60000, &others);
}
