#include "report.h"

#include <stdarg.h>

#include "text.h"

#define LINE_BYTES 4096 /* the rest of a longer line is cut */


static void line(FILE *err, const char *before, const char *format,
                 va_list args)
{
    char text[LINE_BYTES];

    vsnprintf(text, sizeof(text), format, args);
    text_clean(text);
    fprintf(err, "%s%s\n", before, text);
}


void report(FILE *err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    line(err, "inverting-proxy-admin: ", format, args);
    va_end(args);
}


void report_hint(FILE *err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    line(err, "    ", format, args);
    va_end(args);
}
