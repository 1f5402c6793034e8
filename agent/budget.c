#include "budget.h"


void budget_init(struct budget *b, int64_t most, uint64_t rate, uint64_t now)
{
    *b = (struct budget) {
        .left = most,
        .most = most,
        .rate = rate,
        .refilled = now,
    };
}


bool budget_spend(struct budget *b, uint64_t now)
{
    b->left--;

    return b->left >= 0 || budget_refill(b, now);
}


bool budget_refill(struct budget *b, uint64_t now)
{
    int64_t more = (int64_t) ((now - b->refilled) * b->rate / 1000);

    if (more > 0) {
        b->refilled = now;
        b->left = b->left + more < b->most ? b->left + more : b->most;
    }

    return b->left >= 0;
}
