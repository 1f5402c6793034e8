#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/memory.h"
#include "answer.h"
#include "commands.h"
#include "report.h"
#include "table.h"
#include "text.h"

#define SHOWN 20    /* backends; the memory does not grow with their number */
#define ID_BYTES 129

struct backend {
    char id[ID_BYTES];
    double agents, waiting, active;
};

struct summary {
    size_t n; /* of top, the busiest first */
    struct backend top[SHOWN];
    double backends, present, waiting, active;
};

static const struct column columns[] = {
    {"BACKEND", false, 0},
    {"AGENTS", true, 0},
    {"WAITING", true, 0},
    {"ACTIVE", true, 0},
};

#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static volatile sig_atomic_t interrupted;


static void on_interrupt(int signum)
{
    (void) signum;
    interrupted = 1;
}


static bool is_busier(const struct backend *a, const struct backend *b)
{
    double work = a->waiting + a->active - b->waiting - b->active;

    return work > 0 || (work == 0 && a->agents > b->agents);
}


static void add_backend(void *arg, const cJSON *object)
{
    struct summary *s = arg;
    const char *id = json_string(object, "id");
    struct backend b = {.agents = json_value(object, "agents"),
                        .waiting = json_value(object, "waiting"),
                        .active = json_value(object, "active")};
    size_t i;

    snprintf(b.id, sizeof(b.id), "%s", id != NULL ? id : "");
    s->backends++;
    s->present += b.agents > 0;
    s->waiting += b.waiting;
    s->active += b.active;

    if (s->n == SHOWN && !is_busier(&b, &s->top[SHOWN - 1])) {
        return;
    }

    if (s->n < SHOWN) {
        s->n++;
    }

    for (i = s->n - 1; i > 0 && is_busier(&b, &s->top[i - 1]); i--) {
        s->top[i] = s->top[i - 1];
    }

    s->top[i] = b;
}


/* A member as text; "-" for what this server does not tell. */
static const char *number(const cJSON *object, const char *name,
                          char out[JSON_NUMBER])
{
    const char *text = json_number(object, name, out);

    return text != NULL ? text : "-";
}


static void print_workers(FILE *out, const cJSON *workers)
{
    const cJSON *worker;
    bool some = false;

    fprintf(out, "%-14s %d (", "workers", cJSON_GetArraySize(workers));

    cJSON_ArrayForEach(worker, workers) {
        char pid[JSON_NUMBER];
        bool leaving = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(
                                        worker, "exiting"));

        fprintf(out, "%s%s%s", some ? ", " : "", number(worker, "pid", pid),
                leaving ? " exiting" : "");
        some = true;
    }

    fprintf(out, ")\n");
}


static void print_summary(FILE *out, const cJSON *doc,
                          const struct summary *s)
{
    const cJSON *zone = cJSON_GetObjectItemCaseSensitive(doc, "zone");
    const cJSON *chunks = cJSON_GetObjectItemCaseSensitive(zone, "chunks");
    const cJSON *tx = cJSON_GetObjectItemCaseSensitive(zone, "transactions");
    const cJSON *refused = cJSON_GetObjectItemCaseSensitive(zone, "refused");
    const cJSON *registry = cJSON_GetObjectItemCaseSensitive(doc, "registry");
    const char *name = json_string(zone, "name");
    const char *version = json_string(doc, "version");
    char n[5][JSON_NUMBER], size[2][TEXT_SIZE], text[256];
    double bytes = json_value(chunks, "size");

    snprintf(text, sizeof(text), "%s, %s, version %s",
             name != NULL ? name : "-",
             text_size(json_value(zone, "size"), size[0]),
             version != NULL ? version : "-");
    table_fact(out, "zone", text);

    print_workers(out, cJSON_GetObjectItemCaseSensitive(doc, "workers"));

    snprintf(text, sizeof(text),
             "%s of %s in use: %s waiting, %s assigned, %s answering",
             number(tx, "used", n[0]), number(tx, "total", n[1]),
             number(tx, "waiting", n[2]), number(tx, "assigned", n[3]),
             number(tx, "answering", n[4]));
    table_fact(out, "requests", text);

    snprintf(text, sizeof(text), "%s of %s in use",
             text_size(json_value(chunks, "used") * bytes, size[0]),
             text_size(json_value(chunks, "total") * bytes, size[1]));
    table_fact(out, "buffers", text);

    snprintf(text, sizeof(text),
             "%s zone full, %s queue full, %s without an agent",
             number(refused, "zoneFull", n[0]),
             number(refused, "queueFull", n[1]),
             number(refused, "absent", n[2]));
    table_fact(out, "refused", text);

    snprintf(text, sizeof(text), "%s of %s in use",
             text_size(json_value(registry, "used"), size[0]),
             text_size(json_value(registry, "size"), size[1]));
    table_fact(out, "registry", text);

    snprintf(text, sizeof(text),
             "%.0f: %.0f with an agent, %.0f waiting and %.0f active requests",
             s->backends, s->present, s->waiting, s->active);
    table_fact(out, "backends", text);
}


static void print_top(FILE *out, const struct summary *s)
{
    struct table *table;

    if (s->n == 0) {
        return;
    }

    fputc('\n', out);
    table = table_new(out, columns, COLUMNS);

    for (size_t i = 0; i < s->n; i++) {
        const struct backend *b = &s->top[i];
        char agents[JSON_NUMBER], waiting[JSON_NUMBER], active[JSON_NUMBER];

        snprintf(agents, sizeof(agents), "%.0f", b->agents);
        snprintf(waiting, sizeof(waiting), "%.0f", b->waiting);
        snprintf(active, sizeof(active), "%.0f", b->active);
        table_row(table, (const char *const[COLUMNS]) {
            b->id, agents, waiting, active});
    }

    table_end(table, true);

    if (s->backends > (double) s->n) {
        fprintf(out, "and %.0f more\n", s->backends - (double) s->n);
    }
}


static int fetch_and_print(const struct options *o, struct client *client,
                           FILE *out)
{
    struct summary *s = mem_zalloc(sizeof(*s));
    cJSON *doc = NULL;
    int rc = answer_list(o, client, "status", "backends", add_backend, s,
                         &doc);

    if (rc == EXIT_DONE && !o->json) {
        print_summary(out, doc, s);
        print_top(out, s);
    }

    cJSON_Delete(doc);
    free(s);

    return rc;
}


/* In the place of what was there: without a moment of an empty screen. */
static void redraw(const char *text)
{
    fputs("\033[H", stdout);

    while (*text != '\0') {
        size_t n = strcspn(text, "\n");

        printf("%.*s\033[K\n", (int) n, text);
        text += n + (text[n] == '\n');
    }

    fputs("\033[J", stdout);
}


static int watch_once(const struct options *o, struct client *client,
                      bool terminal)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    int rc;

    if (out == NULL) {
        abort();
    }

    rc = fetch_and_print(o, client, out);
    fclose(out);

    if (rc == EXIT_DONE && terminal) {
        redraw(text);
    } else if (rc == EXIT_DONE) {
        printf("%s\n", text);
    }

    free(text);

    if (!answer_flush()) {
        return EXIT_REFUSED;
    }

    return rc;
}


static void pause_for(long seconds)
{
    /* a signal ends the sleep; one that came before it is seen in a second */
    for (long i = 0; i < seconds && !interrupted; i++) {
        sleep(1);
    }
}


static int watch(const struct options *o, struct client *client)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    bool terminal = isatty(STDOUT_FILENO), shown = false;
    int rc;

    sigaction(SIGINT, &action, NULL);
    client_stop_on(client, &interrupted);

    if (terminal) {
        fputs("\033[2J", stdout);
    }

    while (!interrupted) {
        rc = watch_once(o, client, terminal);

        /* a server that was there comes back; a wrong address does not */
        if (rc != EXIT_DONE && !interrupted
            && (!shown || ferror(stdout))) {
            return rc;
        }

        shown = true;
        pause_for(o->interval);
    }

    return EXIT_DONE;
}


int status_show(const struct options *o, struct client *client)
{
    return o->watch ? watch(o, client) : fetch_and_print(o, client, stdout);
}
