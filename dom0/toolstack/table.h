// SPDX-License-Identifier: Apache-2.0
//
// Listings: aligned columns for people, an array of objects for programs (-j), from the same calls.
// A column has a title for people and a key for JSON. Rows are filled from left to right.

#pragma once

#include "lib/types.h"

#include <cJSON.h>

#define TABLE_COLUMNS_MAX 12u
#define TABLE_CELL_SIZE   112u

struct table_column {
    const char *key, *title; // no key: not in JSON
    bool right;              // aligned to the right: numbers
};

struct table {
    const struct table_column *columns;
    unsigned column_count;
    cJSON *json; // an array; NULL: text
    char (*cells)[TABLE_CELL_SIZE];
    u32 cell_count, cell_room;
    cJSON *object; // of the row under way
    bool failed;   // no memory
};

/// Begins a listing.
void table_begin(struct table *t, const struct table_column *columns, unsigned column_count,
                 bool json);

/// The next cell: a text, a number, a number with another look for people, nothing (null).
void table_text(struct table *t, const char *text);
void table_number(struct table *t, u64 value);
void table_value(struct table *t, double value, const char *text);
void table_empty(struct table *t);

/// Prints it line by line and frees it.
void table_end(struct table *t, void (*print)(const char *line));
