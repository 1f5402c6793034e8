/*
 * Waits that differ from agent to agent, so that a proxy that comes back is
 * not called by all of them at once.
 */

#ifndef AGENT_JITTER_H
#define AGENT_JITTER_H

#include <stdint.h>

/* ms, give or take so many percent of it. */
uint64_t jitter(uint64_t ms, unsigned percent);

#endif
