#include <curl/curl.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backend.h"
#include "log.h"
#include "loop.h"
#include "options.h"
#include "proxy.h"
#include "transport.h"
#include "version.h"

#define SHUTDOWN_TIMEOUT_MS 30000 /* when the flag says 0 */
#define FILES_PER_REQUEST 3
#define FILES_BESIDES 64

/* Buffers come and go by the request: do not give the top of the heap back to
 * the system each time, but do give back what is large. */
#define HEAP_SPARE (1024 * 1024)
#define HEAP_LARGE (256 * 1024)

struct agent {
    struct options options;
    struct loop loop;
    struct proxy *proxy;
    struct backend backend;
    struct transport *transport;
    uv_signal_t sigint;
    uv_signal_t sigterm;
    uv_timer_t shutdown;
    bool stopping;
};

static struct agent agent;


static void on_quiet(void *arg)
{
    struct agent *a = arg;

    loop_stop(&a->loop);
}


static void on_shutdown_timeout(uv_timer_t *timer)
{
    (void) timer;

    log_warn("exiting with %zu requests unfinished",
             transport_outstanding(agent.transport));
    loop_stop(&agent.loop);
}


static void on_signal(uv_signal_t *handle, int signum)
{
    uint64_t timeout = agent.options.shutdown_timeout;

    (void) handle;

    if (agent.stopping) {
        loop_stop(&agent.loop);
        return;
    }

    agent.stopping = true;
    log_info("%s: finishing %zu requests",
             signum == SIGINT ? "SIGINT" : "SIGTERM",
             transport_outstanding(agent.transport));

    uv_timer_start(&agent.shutdown, on_shutdown_timeout,
                   timeout != 0 ? timeout : SHUTDOWN_TIMEOUT_MS, 0);
    transport_stop(agent.transport);
}


static void init_signals(void)
{
    uv_loop_t *uv = &agent.loop.uv;

    signal(SIGPIPE, SIG_IGN);

    uv_signal_init(uv, &agent.sigint);
    uv_signal_init(uv, &agent.sigterm);
    uv_signal_start(&agent.sigint, on_signal, SIGINT);
    uv_signal_start(&agent.sigterm, on_signal, SIGTERM);
    uv_timer_init(uv, &agent.shutdown);
}


/* Of those of stdin, stdout and stderr that are closed: else the next thing
 * that is opened gets the lines of the log. */
static void init_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);

    if (fd >= 0) {
        close(fd);
    }
}


/* As many open files as the requests in progress may need. */
static void init_limits(void)
{
    rlim_t need = (rlim_t) agent.options.max_concurrency * FILES_PER_REQUEST
                  + FILES_BESIDES;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) {
        return;
    }

    limit.rlim_cur = limit.rlim_max < need ? limit.rlim_max : need;
    setrlimit(RLIMIT_NOFILE, &limit);

    if (limit.rlim_cur < need) {
        log_warn("-max-concurrency %ld needs up to %lu open files, only %lu "
                 "are allowed", agent.options.max_concurrency,
                 (unsigned long) need, (unsigned long) limit.rlim_cur);
    }
}


static bool init(void)
{
    int rc;

    log_set_debug(agent.options.debug);
    init_limits();
    mallopt(M_TRIM_THRESHOLD, HEAP_SPARE);
    mallopt(M_MMAP_THRESHOLD, HEAP_LARGE);
    curl_global_init(CURL_GLOBAL_DEFAULT);

    rc = loop_init(&agent.loop);
    if (rc != 0) {
        log_error("cannot make an event loop: %s", uv_strerror(rc));
        return false;
    }

    init_signals();

    agent.proxy = proxy_new(&agent.loop, &agent.options);
    if (agent.proxy == NULL) {
        return false;
    }

    if (!backend_init(&agent.backend, &agent.loop, &agent.options)) {
        return false;
    }

    agent.transport = transport_new(&agent.loop, &agent.options, agent.proxy,
                                    &agent.backend, on_quiet, &agent);

    return true;
}


/* In reverse. */
static void fini(int status)
{
    if (agent.transport != NULL) {
        transport_free(agent.transport);
    }

    backend_free(&agent.backend);

    if (agent.proxy != NULL) {
        proxy_free(agent.proxy);
    }

    if (!loop_free(&agent.loop)) {
        _exit(status);
    }

    curl_global_cleanup();
}


int main(int argc, char **argv)
{
    int rc;

    init_descriptors();
    rc = options_parse(&agent.options, argc, argv, stderr);

    if (rc == 0 && agent.options.help) {
        options_help(stdout);

    } else if (rc == 0 && agent.options.version) {
        puts("inverting-proxy-agent " INVERTING_PROXY_VERSION);

    } else if (rc == 0) {
        if (init()) {
            log_info("inverting-proxy-agent " INVERTING_PROXY_VERSION
                     ": backend \"%s\"", agent.options.backend);
            transport_start(agent.transport);
            loop_run(&agent.loop);
        } else {
            rc = EXIT_NOT_STARTED;
        }

        fini(rc);
    }

    options_free(&agent.options);

    return rc;
}
