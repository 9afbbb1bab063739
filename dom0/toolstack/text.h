// SPDX-License-Identifier: Apache-2.0
//
// Small pure helpers for what people read and type: sizes, times, words.

#pragma once

#include "lib/types.h"

#define TEXT_SIZE_MAX 24

/// "256 MiB", "13.5 MiB", "512 B" into `text` (TEXT_SIZE_MAX bytes), which is returned.
const char *text_of_size(char *text, u64 bytes);

/// "3 s", "4 min 5 s", "2 h 10 min" into `text` (TEXT_SIZE_MAX bytes), which is returned.
const char *text_of_duration(char *text, u64 ns);

/// Finds option `name` among words of a command line: `name=value`, or `name` alone (empty value).
/// A value, or the whole word, may be in double or single quotes; a backslash quotes one character.
/// Returns whether it is there; the value is cut to `size` bytes with its NUL.
bool text_option(const char *cmdline, const char *name, char *value, size_t size);

/// Splits a line at spaces, in place; text in double quotes is one word. Returns the count (<=
/// most), -1 if a quote is not closed, -2 if there are more.
int text_split(char *line, char **words, unsigned most);

/// A decimal number that is the whole word and at most `most`; false otherwise.
bool text_number(const char *word, u64 most, u64 *value);
