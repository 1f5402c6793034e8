#include "table.h"

#include <stdlib.h>
#include <string.h>

#include "agent/memory.h"
#include "text.h"

#define ROWS_KEPT 500
#define GAP 2
#define FACT_WIDTH 14

struct table {
    FILE *out;
    const struct column *columns;
    size_t n;
    size_t *widths;
    char **cells; /* of the rows kept, one after another */
    size_t rows;
    bool fixed; /* the widths: rows are not kept any more */
};


struct table *table_new(FILE *out, const struct column *columns, size_t n)
{
    struct table *t = mem_zalloc(sizeof(*t));

    t->out = out;
    t->columns = columns;
    t->n = n;
    t->widths = mem_alloc(n * sizeof(*t->widths));
    t->cells = mem_alloc(ROWS_KEPT * n * sizeof(*t->cells));

    for (size_t i = 0; i < n; i++) {
        t->widths[i] = text_width(columns[i].title);
    }

    return t;
}


/* What is shown of a cell. */
static char *clean_cell(const char *text, size_t max)
{
    size_t n;
    char *cell;

    if (text == NULL || *text == '\0') {
        return mem_dup("-", 1);
    }

    n = strlen(text);
    cell = mem_alloc(n + sizeof("..."));
    memcpy(cell, text, n + 1);
    text_clean(cell);

    if (max != 0 && text_width(cell) > max) {
        memcpy(cell + text_bytes(cell, max - 3), "...", sizeof("..."));
    }

    return cell;
}


static void print_row(struct table *t, char *const *cells)
{
    for (size_t i = 0; i < t->n; i++) {
        size_t width = text_width(cells[i]);
        int pad = width < t->widths[i] ? (int) (t->widths[i] - width) : 0;

        if (t->columns[i].right) {
            fprintf(t->out, "%*s%s", pad, "", cells[i]);
        } else if (i + 1 < t->n) {
            fprintf(t->out, "%s%*s", cells[i], pad, "");
        } else {
            fputs(cells[i], t->out);
        }

        if (i + 1 < t->n) {
            fprintf(t->out, "%*s", GAP, "");
        }
    }

    fputc('\n', t->out);
}


static void free_cells(char **cells, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(cells[i]);
    }
}


static void print_kept(struct table *t)
{
    char **titles = mem_alloc(t->n * sizeof(*titles));

    for (size_t i = 0; i < t->n; i++) {
        titles[i] = clean_cell(t->columns[i].title, 0);
    }

    print_row(t, titles);
    free_cells(titles, t->n);
    free(titles);

    for (size_t row = 0; row < t->rows; row++) {
        print_row(t, t->cells + row * t->n);
    }

    free_cells(t->cells, t->rows * t->n);
    t->rows = 0;
    t->fixed = true;
}


void table_row(struct table *t, const char *const *cells)
{
    /* once the widths are fixed, the first row is the only one */
    char **row = t->cells + t->rows * t->n;

    for (size_t i = 0; i < t->n; i++) {
        row[i] = clean_cell(cells[i], t->columns[i].max);

        if (!t->fixed && text_width(row[i]) > t->widths[i]) {
            t->widths[i] = text_width(row[i]);
        }
    }

    if (t->fixed) {
        print_row(t, row);
        free_cells(row, t->n);
        return;
    }

    t->rows++;

    if (t->rows == ROWS_KEPT) {
        print_kept(t);
    }
}


void table_end(struct table *t, bool good)
{
    if (good && !t->fixed) {
        print_kept(t);
    }

    free_cells(t->cells, t->rows * t->n);
    free(t->cells);
    free(t->widths);
    free(t);
}


void table_fact(FILE *out, const char *name, const char *value)
{
    char *cell = clean_cell(value, 0);

    fprintf(out, "%-*s %s\n", FACT_WIDTH, name, cell);
    free(cell);
}
