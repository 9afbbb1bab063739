// SPDX-License-Identifier: Apache-2.0
//
// Listings. JSON numbers are doubles: exact up to 2^53, which bytes and ticks of a machine stay
// below.

#include "toolstack/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE (TABLE_COLUMNS_MAX * (TABLE_CELL_SIZE + 2))

void table_begin(struct table *t, const struct table_column *columns, unsigned column_count,
                 bool json) {
    *t = (struct table){.columns = columns, .column_count = MIN(column_count, TABLE_COLUMNS_MAX)};
    if (json)
        t->failed = !(t->json = cJSON_CreateArray());
}

// Room for the next cell, NULL without memory.
static char *next_cell(struct table *t) {
    if (t->cell_count == t->cell_room) {
        u32 room = t->cell_room ? 2 * t->cell_room : 64;
        void *larger = realloc(t->cells, room * sizeof(*t->cells));
        if (!larger) {
            t->failed = true;
            return NULL;
        }
        t->cells = larger;
        t->cell_room = room;
    }
    return t->cells[t->cell_count++];
}

// `item` is taken over.
static void add(struct table *t, const char *text, cJSON *item) {
    unsigned column = t->cell_count % t->column_count;
    char *cell = next_cell(t);
    if (cell)
        snprintf(cell, TABLE_CELL_SIZE, "%s", text);
    if (!t->json || !cell)
        return;
    if (column == 0) {
        t->object = cJSON_CreateObject();
        cJSON_AddItemToArray(t->json, t->object);
    }
    if (t->columns[column].key)
        cJSON_AddItemToObject(t->object, t->columns[column].key, item);
    else
        cJSON_Delete(item);
}

void table_text(struct table *t, const char *text) {
    add(t, text, t->json ? cJSON_CreateString(text) : NULL);
}

void table_value(struct table *t, double value, const char *text) {
    add(t, text, t->json ? cJSON_CreateNumber(value) : NULL);
}

void table_number(struct table *t, u64 value) {
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    table_value(t, (double)value, text);
}

void table_empty(struct table *t) { add(t, "-", t->json ? cJSON_CreateNull() : NULL); }

static void measure(const struct table *t, int *widths) {
    for (unsigned c = 0; c < t->column_count; c++) {
        widths[c] = (int)strlen(t->columns[c].title);
        for (u32 i = c; i < t->cell_count; i += t->column_count)
            widths[c] = MAX(widths[c], (int)strlen(t->cells[i]));
    }
    if (!t->columns[t->column_count - 1].right)
        widths[t->column_count - 1] = 0; // no blanks at the end of a line
}

static size_t put_cell(char *line, size_t used, const struct table *t, unsigned column, int width,
                       const char *text) {
    int n = snprintf(line + used, LINE_SIZE - used, "%*s%s",
                     t->columns[column].right ? width : -width, text,
                     column + 1 == t->column_count ? "" : "  ");
    return MIN(used + (size_t)MAX(n, 0), LINE_SIZE - 1);
}

static void print_text(const struct table *t, void (*print)(const char *line)) {
    char line[LINE_SIZE];
    int widths[TABLE_COLUMNS_MAX] = {0};
    size_t used = 0;
    measure(t, widths);
    for (unsigned c = 0; c < t->column_count; c++)
        used = put_cell(line, used, t, c, widths[c], t->columns[c].title);
    print(line);
    unsigned column = 0;
    for (u32 i = 0; i < t->cell_count; i++) {
        used = put_cell(line, column ? used : 0, t, column, widths[column], t->cells[i]);
        if (++column < t->column_count)
            continue;
        print(line);
        column = 0;
    }
}

void table_end(struct table *t, void (*print)(const char *line)) {
    char *json = t->json ? cJSON_PrintUnformatted(t->json) : NULL;
    if (t->failed || (t->json && !json))
        print("error: dom0 has no memory left for this listing");
    else if (json)
        print(json);
    else
        print_text(t, print);
    cJSON_free(json);
    cJSON_Delete(t->json);
    free(t->cells);
}
