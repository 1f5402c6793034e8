#include "jitter.h"

#include <sys/random.h>


uint64_t jitter(uint64_t ms, unsigned percent)
{
    uint16_t random = 0;
    uint64_t spread = ms * percent / 50; /* both ways */

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0) {
        random = 0x8000;
    }

    return ms - spread / 2 + spread * random / 0xffff;
}
