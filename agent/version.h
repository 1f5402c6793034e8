/*
 * The agent's version. The build passes INVERTING_PROXY_VERSION; the
 * value here serves a build by hand.
 */

#ifndef AGENT_VERSION_H
#define AGENT_VERSION_H

#ifndef INVERTING_PROXY_VERSION
#define INVERTING_PROXY_VERSION "0.1.0"
#endif

#endif
