/*
 * How many things of a sort may come: so many at once, so many a second after
 * that.
 */

#ifndef AGENT_BUDGET_H
#define AGENT_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct budget {
    int64_t left; /* less than none: debts */
    int64_t most;
    uint64_t rate;
    uint64_t refilled;
};

/* now is in milliseconds, here and below. */
void budget_init(struct budget *b, int64_t most, uint64_t rate, uint64_t now);

/* One has come; false if that was one too many. */
bool budget_spend(struct budget *b, uint64_t now);

/* False if there are debts still. */
bool budget_refill(struct budget *b, uint64_t now);

#endif
