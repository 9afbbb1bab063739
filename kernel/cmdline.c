// SPDX-License-Identifier: Apache-2.0
//
// The kernel's options. Invariant: an option that its parser refuses changes nothing.

#include "kernel/cmdline.h"

#include "arch/string.h"
#include "kernel/log.h"

#define WORD_MAX 64

struct options options = {.loglvl = LOG_INFO};

bool parse_size(const char *text, u64 *value)
{
    u64 base = 10, result = 0;
    unsigned digits = 0, shift = 0;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    for (;; text++, digits++) {
        char c = *text;
        u64 digit = c >= '0' && c <= '9'   ? (u64)(c - '0')
                    : c >= 'a' && c <= 'f' ? (u64)(c - 'a' + 10)
                    : c >= 'A' && c <= 'F' ? (u64)(c - 'A' + 10)
                                           : base;
        if (digit >= base)
            break;
        if (__builtin_mul_overflow(result, base, &result) ||
            __builtin_add_overflow(result, digit, &result))
            return false;
    }
    if (*text) {
        const char *suffixes = "KMG", *suffix = strchr(suffixes, *text & ~0x20);
        if (!suffix || !*suffix || text[1])
            return false;
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (!digits || result << shift >> shift != result)
        return false;
    *value = result << shift;
    return true;
}

static bool parse_loglvl(const char *value)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    for (unsigned i = 0; i < ARRAY_SIZE(levels); i++) {
        if (strcmp(value, levels[i]) == 0) {
            options.loglvl = i;
            return true;
        }
    }
    return false;
}

static bool parse_console(const char *value)
{
    if (!*value || strlen(value) >= sizeof(options.console))
        return false;
    strlcpy(options.console, value, sizeof(options.console));
    return true;
}

static bool parse_dom0_mem(const char *value) { return parse_size(value, &options.dom0_mem); }

static bool parse_panic(const char *value)
{
    options.panic_halt = strcmp(value, "halt") == 0;
    return options.panic_halt || strcmp(value, "reboot") == 0;
}

static bool parse_nox2apic(const char *value)
{
    options.nox2apic = !*value;
    return !*value;
}

static bool parse_testexit(const char *value)
{
    options.testexit = !*value;
    return !*value;
}

static const struct {
    const char *name;
    bool (*parse)(
        const char *value); // "" where there is no '='; false: malformed, nothing was changed
    const char *expected;
} table[] = {
    {"loglvl", parse_loglvl, "error, warning, info or debug"},
    {"console", parse_console, "com1..com4, a port number or none"},
    {"dom0_mem", parse_dom0_mem, "bytes, with K, M or G"},
    {"panic", parse_panic, "reboot or halt"},
    {"nox2apic", parse_nox2apic, "no value"},
    {"testexit", parse_testexit, "no value"},
};

static void parse_word(char *word)
{
    char *equals = strchr(word, '=');
    const char *value = "";
    if (equals) {
        *equals = 0;
        value = equals + 1;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        if (strcmp(word, table[i].name) != 0)
            continue;
        if (!table[i].parse(value))
            log_warn("basalt: command line: %s=%s ignored: expected %s", word, value,
                     table[i].expected);
        return;
    }
    log_warn("basalt: command line: unknown option %s ignored", word);
}

void cmdline_parse(const char *line)
{
    char word[WORD_MAX];
    while (*line) {
        size_t length = 0;
        while (*line == ' ' || *line == '\t')
            line++;
        while (line[length] && line[length] != ' ' && line[length] != '\t')
            length++;
        if (length >= sizeof(word)) {
            log_warn("basalt: command line: %.16s... ignored: too long", line);
        } else if (length) {
            memcpy(word, line, length);
            word[length] = 0;
            parse_word(word);
        }
        line += length;
    }
}
