#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/poll.h> /* "poll.h" is another one here */
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

/* What comes before is how a proxy goes, not what keeps it away. */
#define SETTLED_MS 5000

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


static uint64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);

    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}


bool log_allowed(struct log_brake *brake, uint64_t interval_ms,
                 unsigned *suppressed)
{
    uint64_t ms = clock_ms();

    if (ms < brake->until) {
        brake->swallowed++;
        return false;
    }

    *suppressed = brake->swallowed;
    brake->swallowed = 0;
    brake->until = ms + interval_ms;

    return true;
}


/* Without its digits: how long something took is nothing new. */
static uint32_t hash(const char *text)
{
    uint32_t h = 0;

    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            h = h * 31 + (unsigned char) *text;
        }
    }

    return h;
}


bool log_reason(struct log_reason *last, bool first, int status,
                const char *why)
{
    uint64_t ms = clock_ms();
    uint32_t text = hash(why);
    unsigned others;

    if (first) {
        last->first = ms;

    } else if (status == last->status
               && (text == last->text || ms - last->first < SETTLED_MS)) {
        return false;

    } else if (!log_allowed(&last->brake, 60000, &others)) {
        return false;
    }

    last->status = status;
    last->text = text;

    return true;
}
