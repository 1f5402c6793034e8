/* Server and credentials: command line, environment, file. */

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/config.h"
#include "admin/report.h"
#include "admin/server.h"
#include "agent/test/tap.h"

static char folder[] = "/tmp/inverting-proxy-test-XXXXXX";
static char file[128], secret[128];
static struct config c;
static char said[1024];


static void put(const char *path, const char *text, mode_t mode)
{
    FILE *out = fopen(path, "w");

    if (out == NULL || fputs(text, out) < 0 || fclose(out) != 0
        || chmod(path, mode) != 0) {
        abort();
    }
}


static int load(const char *server)
{
    struct options o = {.server = server, .config = file, .timeout = 30};
    FILE *err = fmemopen(said, sizeof(said), "w");
    int rc;

    memset(said, 0, sizeof(said));
    config_free(&c);
    rc = config_load(&c, &o, err);
    fclose(err);

    return rc;
}


static int load_text(const char *text, mode_t mode)
{
    put(file, text, mode);

    return load(NULL);
}


static bool refused(const char *text, const char *why)
{
    return load_text(text, 0600) == EXIT_USAGE && strstr(said, why) != NULL;
}


static void addresses(void)
{
    struct origin a, b;

    OK(server_parse(&a, "unix:/run/x:/api/") == NULL
       && strcmp(a.unix_path, "/run/x") == 0 && strcmp(a.base, "/api/") == 0
       && strcmp(a.authority, "localhost") == 0, "a socket");
    OK(server_parse(&b, "unix:/run/x:/other") == NULL
       && strcmp(b.base, "/other/") == 0 && server_same(&a, &b),
       "a slash is added");
    origin_free(&b);
    OK(server_parse(&b, "http://localhost/api/") == NULL
       && !server_same(&a, &b), "not the same server");
    origin_free(&a);
    OK(server_parse(&a, "http://LOCALHOST:80/") == NULL
       && server_same(&a, &b), "the same server");
    origin_free(&a);
    OK(server_parse(&a, "https://localhost:80/") == NULL
       && !server_same(&a, &b), "with and without TLS");
    origin_free(&a);
    origin_free(&b);

    OK(server_parse(&a, "unix:/run/x") != NULL, "no prefix");
    origin_free(&a);
    OK(server_parse(&a, "unix:x:/") != NULL, "a relative socket");
    origin_free(&a);
    OK(server_parse(&a, "unix:/run/x:/a?b") != NULL, "a query");
    origin_free(&a);
    OK(strstr(server_parse(&a, "localhost"), "unix:") != NULL, "no scheme");
    origin_free(&a);
    OK(server_parse(&a, "http://u:p@h/") != NULL, "a password");
    origin_free(&a);
}


static void order(void)
{
    OK(load_text("# a comment\n\n  server = http://file/ \r\n", 0644) == 0
       && strcmp(c.server.host, "file") == 0 && strcmp(c.source, file) == 0,
       "the file");
    setenv("INVERTING_PROXY_SERVER", "http://env/", 1);
    OK(load(NULL) == 0 && strcmp(c.server.host, "env") == 0,
       "the environment before it");
    OK(load("http://flag/") == 0 && strcmp(c.server.host, "flag") == 0,
       "the flag before that");
    setenv("INVERTING_PROXY_SERVER", "", 1);
    OK(load(NULL) == 0 && strcmp(c.server.host, "file") == 0,
       "an empty variable is none");
    unsetenv("INVERTING_PROXY_SERVER");

    OK(refused("", "which server"), "no server");
    OK(refused("server = ftp://u:hidden@h/\n", "http://")
       && strstr(said, "hidden") == NULL, "a bad one, not repeated");
    unlink(file);
    OK(load("http://h/") == EXIT_USAGE && strstr(said, file) != NULL,
       "a file that is not there");
}


static void credentials(void)
{
    char line[512];

    put(secret, "a: b\n", 0600);
    OK(load_text("server=https://h/\nuser=me\npassword-file=secret", 0644)
       == 0 && strcmp(c.password, "a: b") == 0, "a password in a file");
    snprintf(line, sizeof(line), "server=https://h/\ntoken-file = %s\n",
             secret);
    OK(load_text(line, 0644) == 0 && strcmp(c.token, "a: b") == 0,
       "a token in a file");
    OK(load_text("server=https://h/\nuser=me\npassword=p=q \n", 0600) == 0
       && strcmp(c.password, "p=q") == 0, "in the file itself");
    OK(load_text("server=https://h/\nuser=me\npassword=hidden", 0640)
       == EXIT_USAGE && strstr(said, "chmod 600") != NULL
       && strstr(said, ":3:") != NULL && strstr(said, "hidden") == NULL,
       "which others may read");
    put(secret, "s\n", 0604);
    OK(refused("server=https://h/\ntoken-file=secret", "chmod 600"),
       "so with the other file");
    put(secret, "\n", 0600);
    OK(refused("server=https://h/\ntoken-file=secret", "empty"), "empty");
    put(secret, "a\nb\n", 0600);
    OK(refused("server=https://h/\ntoken-file=secret", "line"), "two lines");

    OK(load_text("server=http://127.0.0.1:1/\ntoken=t", 0600) == 0,
       "to this machine");
    OK(load_text("server=unix:/x:/\ntoken=t", 0600) == 0, "to a socket");
    OK(refused("server=http://h/\ntoken=t", "TLS"), "not in the clear");

    OK(load_text("server=https://h/\ntoken=t\nca-file=ca", 0600) == 0
       && load("https://other/") == 0 && c.token == NULL && c.withheld
       && c.ca_file != NULL, "not to another server");
    OK(load("https://H:443/other") == 0 && c.token != NULL && !c.withheld,
       "to the same one");
    OK(load_text("token=t\n", 0600) == EXIT_USAGE
       && load("https://h/") == 0 && c.token != NULL,
       "to any if the file names none");
}


static void mistakes(void)
{
    OK(refused("server\n", ":1:"), "no value");
    OK(refused("\nserver =\n", ":2:"), "an empty value");
    OK(refused("nonsense = 1\n", "nonsense"), "no such setting");
    OK(refused("server=http://a/\nserver=http://b/\n", "twice"), "twice");
    OK(refused("user=u\n", "password"), "a user alone");
    OK(refused("password=p\n", "user"), "a password alone");
    OK(refused("user=a:b\npassword=p\n", "colon"), "a colon");
    OK(refused("token=t\nuser=u\npassword=p\n", "exclude"), "both");
    OK(refused("token=t\ntoken-file=x\n", "exclude"), "both tokens");
    OK(refused("client-key=k\n", "client-cert"), "a key alone");
}


int main(void)
{
    if (mkdtemp(folder) == NULL) {
        return 1;
    }

    snprintf(file, sizeof(file), "%s/admin.conf", folder);
    snprintf(secret, sizeof(secret), "%s/secret", folder);
    unsetenv("INVERTING_PROXY_SERVER");

    addresses();
    order();
    credentials();
    mistakes();

    config_free(&c);
    unlink(file);
    unlink(secret);
    rmdir(folder);

    return tap_done();
}
