// SPDX-License-Identifier: Apache-2.0
//
// Sizes, times, words.

#include "toolstack/text.h"

#include <stdio.h>
#include <string.h>

typedef unsigned long long ull;

const char *text_of_size(char *text, u64 bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;
    while (unit + 1 < ARRAY_SIZE(units) && bytes >> (10 * (unit + 1)))
        unit++;
    u64 scale = BIT(10 * unit), whole = bytes / scale, tenths = bytes % scale * 10 / scale;
    if (tenths && whole < 1000)
        snprintf(text, TEXT_SIZE_MAX, "%llu.%llu %s", (ull)whole, (ull)tenths, units[unit]);
    else
        snprintf(text, TEXT_SIZE_MAX, "%llu %s", (ull)whole, units[unit]);
    return text;
}

const char *text_of_duration(char *text, u64 ns) {
    ull s = ns / 1000000000;
    if (s < 60)
        snprintf(text, TEXT_SIZE_MAX, "%llu s", s);
    else if (s < 3600)
        snprintf(text, TEXT_SIZE_MAX, "%llu min %llu s", s / 60, s % 60);
    else
        snprintf(text, TEXT_SIZE_MAX, "%llu h %llu min", s / 3600, s / 60 % 60);
    return text;
}

// Copies one word of a command line without its quotes to `word`, cut to `size`; returns what
// follows it.
static const char *next_word(const char *text, char *word, size_t size) {
    char quote = 0;
    size_t used = 0;
    while (*text == ' ' || *text == '\t')
        text++;
    for (; *text && (quote || (*text != ' ' && *text != '\t')); text++) {
        if (!quote && (*text == '"' || *text == '\'')) {
            quote = *text;
            continue;
        }
        if (quote && *text == quote) {
            quote = 0;
            continue;
        }
        if (*text == '\\' && text[1])
            text++;
        if (used + 1 < size)
            word[used++] = *text;
    }
    word[used] = 0;
    return text;
}

bool text_option(const char *cmdline, const char *name, char *value, size_t size) {
    static char word[1024];
    size_t length = strlen(name);
    for (;;) {
        while (*cmdline == ' ' || *cmdline == '\t')
            cmdline++;
        if (!*cmdline)
            return false;
        cmdline = next_word(cmdline, word, sizeof(word));
        if (strncmp(word, name, length) == 0 && (word[length] == '=' || !word[length])) {
            snprintf(value, size, "%s", word[length] ? word + length + 1 : "");
            return true;
        }
    }
}

int text_split(char *line, char **words, unsigned most) {
    unsigned count = 0;
    for (;;) {
        while (*line == ' ' || *line == '\t')
            line++;
        if (!*line)
            return (int)count;
        if (count == most)
            return -2;
        bool quoted = *line == '"';
        words[count++] = line += quoted;
        line += strcspn(line, quoted ? "\"" : " \t");
        if (quoted && !*line)
            return -1;
        if (*line)
            *line++ = 0;
    }
}

bool text_number(const char *word, u64 most, u64 *value) {
    u64 n = 0;
    if (!*word)
        return false;
    for (; *word; word++) {
        if (*word < '0' || *word > '9')
            return false;
        n = n * 10 + (u64)(*word - '0');
        if (n > most)
            return false;
    }
    *value = n;
    return true;
}
