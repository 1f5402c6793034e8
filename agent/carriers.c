#include "carriers.h"

#include <errno.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "curlhttp.h"
#include "direct.h"
#include "h2client.h"
#include "log.h"


static bool readable(const char *flag, const char *path)
{
    if (path == NULL || access(path, R_OK) == 0) {
        return true;
    }

    log_error("-%s: cannot read \"%s\": %s", flag, path, strerror(errno));

    return false;
}


static int on_passphrase(char *buf, int size, int writing, void *arg)
{
    bool *asked = arg;

    (void) buf;
    (void) size;
    (void) writing;
    *asked = true;

    return -1;
}


/* What else may be wrong with it is libcurl's to say. */
static bool usable_key(const char *flag, const char *path)
{
    bool asked = false;
    FILE *f = path != NULL ? fopen(path, "re") : NULL;

    if (f != NULL) {
        EVP_PKEY_free(PEM_read_PrivateKey(f, NULL, on_passphrase, &asked));
        fclose(f);
    }

    if (asked) {
        log_error("-%s: the key in \"%s\" has a passphrase, and there is "
                  "nobody to ask for it; use one that has none", flag, path);
    }

    return !asked;
}


/* Whether libcurl could find a proxy for http:// in the environment. */
static bool environment_has_proxy(void)
{
    static const char *const names[] = {"http_proxy", "all_proxy",
                                        "ALL_PROXY"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = getenv(names[i]);

        if (value != NULL && value[0] != '\0') {
            return true;
        }
    }

    return false;
}


static struct curlhttp_config proxy_config(const struct options *options)
{
    return (struct curlhttp_config) {
        .origin = &options->proxy,
        .via_proxy = true,
        .ca_file = options->ca_file,
        .client_cert = options->client_cert,
        .client_key = options->client_key,
    };
}


/* A token for this machine must not take the way over another one. */
static bool is_plain(const struct options *options)
{
    return !options->proxy.tls
           && (!environment_has_proxy()
               || (options->token_file != NULL && !options->insecure_http));
}


struct carrier *carrier_to_proxy(struct loop *loop,
                                 const struct options *options)
{
    struct curlhttp_config config = proxy_config(options);

    if (!readable("ca-file", options->ca_file)
        || !readable("client-cert", options->client_cert)
        || !readable("client-key", options->client_key)) {
        return NULL;
    }

    if (options->client_key != NULL && options->client_cert == NULL) {
        log_error("-client-key: there is no -client-cert to it");
        return NULL;
    }

    if (!usable_key("client-cert", options->client_cert)
        || !usable_key("client-key", options->client_key)) {
        return NULL;
    }

    return is_plain(options) ? direct_new(loop, &options->proxy, NULL)
                             : curlhttp_new(loop, &config);
}


struct carrier *carrier_to_proxy_upgrade(struct loop *loop,
                                         const struct options *options)
{
    struct curlhttp_config config = proxy_config(options);

    return direct_new(loop, &options->proxy,
                      is_plain(options) ? NULL : &config);
}


static struct curlhttp_config backend_config(const struct options *options)
{
    return (struct curlhttp_config) {
        .origin = &options->host,
        .raw_target = true,
        .ca_file = options->ca_file,
    };
}


struct carrier *carrier_to_backend(struct loop *loop,
                                   const struct options *options)
{
    struct curlhttp_config config = backend_config(options);

    if (options->force_http2) {
        config.http2 = true;
        return h2client_new(loop, &options->host,
                            options->host.tls ? &config : NULL);
    }

    return options->host.tls ? curlhttp_new(loop, &config)
                             : direct_new(loop, &options->host, NULL);
}


struct carrier *carrier_to_backend_upgrade(struct loop *loop,
                                           const struct options *options)
{
    struct curlhttp_config config = backend_config(options);

    return direct_new(loop, &options->host,
                      options->host.tls ? &config : NULL);
}
