/* Booleans, durations and numbers as Go's flag package reads them. */

#include <string.h>

#include "tap.h"
#include "value.h"


static void durations(void)
{
    static const struct {
        const char *text;
        long long ms; /* -1: refused */
    } cases[] = {
        {"0", 0}, {"+0", 0}, {"60s", 60000}, {"300ms", 300},
        {"1h30m", 5400000}, {"1.5s", 1500}, {".5s", 500}, {"2.s", 2000},
        {"1us", 1}, {"1ns", 1}, {"2500us", 2}, {"1500\xc2\xb5s", 1},
        {"1m30s500ms", 90500}, {"0s", 0}, {"+5s", 5000},
        {"", -1}, {"60", -1}, {"s", -1}, {".s", -1}, {"-5s", -1}, {"5 s", -1},
        {"5x", -1}, {"5s ", -1}, {"1e3s", -1}, {"+", -1}, {"--5s", -1},
        {"9999999999h", -1}, {"5S", -1},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t ms = 12345;
        bool good = value_duration(cases[i].text, &ms);

        OK(good ? (long long) ms == cases[i].ms : cases[i].ms == -1,
           "duration \"%s\"", cases[i].text);
    }
}


static void booleans(void)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    static const char *const bad[] = {"", "yes", "no", "tRue", "2", "true "};
    bool value;

    for (size_t i = 0; i < 6; i++) {
        value = false;
        OK(value_bool(yes[i], &value) && value, "\"%s\" is true", yes[i]);
        value = true;
        OK(value_bool(no[i], &value) && !value, "\"%s\" is false", no[i]);
        OK(!value_bool(bad[i], &value), "\"%s\" is neither", bad[i]);
    }
}


static void numbers(void)
{
    long n;

    OK(value_int("1", 1, 10, &n) && n == 1, "the least");
    OK(value_int("10", 1, 10, &n) && n == 10, "the most");
    OK(value_int("0x0a", 1, 10, &n) && n == 10, "hexadecimal");
    OK(!value_int("0", 1, 10, &n), "too little");
    OK(!value_int("11", 1, 10, &n), "too much");
    OK(!value_int("", 0, 10, &n), "nothing");
    OK(!value_int(" 1", 0, 10, &n), "a space before");
    OK(!value_int("1x", 0, 10, &n), "something behind");
    OK(!value_int("99999999999999999999", 0, 10, &n), "overflow");
}


int main(void)
{
    durations();
    booleans();
    numbers();

    return tap_done();
}
