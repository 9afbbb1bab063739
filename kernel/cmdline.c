// SPDX-License-Identifier: Apache-2.0
//
// The kernel's options. Invariant: an option that its parser refuses changes nothing.

#include "kernel/cmdline.h"

#include "drivers/uart16550.h"
#include "kernel/log.h"

#define WORD_MAX 64

struct options options = {.loglvl = LOG_INFO};

bool parse_size(const char *text, u64 *value) {
    const char *digits = "0123456789abcdef", *suffixes = "kmg", *digit, *suffix;
    bool hex = text[0] == '0' && (text[1] | 0x20) == 'x';
    const char *first = text + (hex ? 2 : 0), *at = first;
    u64 base = hex ? 16 : 10, result = 0;
    for (; (digit = strchr(digits, *at | 0x20)) && digit < digits + base; at++)
        if (__builtin_mul_overflow(result, base, &result) ||
            __builtin_add_overflow(result, (u64)(digit - digits), &result))
            return false;
    suffix = strchr(suffixes, *at | 0x20);
    unsigned shift = suffix ? 10 * (unsigned)(suffix - suffixes + 1) : 0;
    if (at == first || at[suffix ? 1 : 0] || result << shift >> shift != result)
        return false;
    *value = result << shift;
    return true;
}

// none, or com1..com4 or a port, either with a speed: com2,57600.
static bool parse_console(const char *value) {
    static const u16 com_ports[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
    char name[WORD_MAX] = "";
    u64 port, baud = UART_BAUD_MAX;
    const char *comma = strchr(value, ',');
    format(name, comma ? (size_t)(comma - value) + 1 : sizeof(name), "%s", value);
    if (strcmp(value, "none") == 0)
        return options.no_console = true;
    if (comma && (!parse_size(comma + 1, &baud) || !baud || UART_BAUD_MAX % baud))
        return false;
    if (memcmp(name, "com", 3) == 0 && name[3] >= '1' && name[3] <= '4' && !name[4])
        port = com_ports[name[3] - '1'];
    else if (!parse_size(name, &port) || port < 0x100 || port > 0xfff8)
        return false;
    options.no_console = false;
    options.console_port = (u16)port;
    options.console_baud = (u32)baud;
    return true;
}

static bool parse_dom0_mem(const char *value) { return parse_size(value, &options.dom0_mem); }

static const struct row {
    const char *name, *expected;
    unsigned *choice;                 // becomes the index of the value in `words`,
    const char *words[4];             // "" where there is no '='
    bool (*parse)(const char *value); // or this reads it; false: malformed
} table[] = {
    {"log", "now or deferred", &options.log_deferred, .words = {"now", "deferred"}},
    {"loglvl", "error, warning, info or debug", &options.loglvl,
     .words = {"error", "warning", "info", "debug"}},
    {"panic", "reboot or halt", &options.panic_halt, .words = {"reboot", "halt"}},
    {"trace", "off or on", &options.trace, .words = {"off", "on"}},
    {"spec", "auto or off", &options.spec_off, .words = {"auto", "off"}},
    {"nox2apic", "no value", &options.nox2apic, .words = {[true] = ""}},
    {"noapicv", "no value", &options.noapicv, .words = {[true] = ""}},
    {"testexit", "no value", &options.testexit, .words = {[true] = ""}},
    {"console", "com1..com4 or a port, and a speed, or none", .parse = parse_console},
    {"dom0_mem", "bytes, with K, M or G", .parse = parse_dom0_mem},
};

static bool parse_value(const struct row *row, const char *value) {
    if (row->parse)
        return row->parse(value);
    for (unsigned i = 0; i < ARRAY_SIZE(row->words); i++)
        if (row->words[i] && strcmp(value, row->words[i]) == 0) {
            *row->choice = i;
            return true;
        }
    return false;
}

static void parse_word(char *word) {
    char *equals = strchr(word, '=');
    const char *value = equals ? equals + 1 : "";
    if (equals)
        *equals = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        if (strcmp(word, table[i].name) != 0)
            continue;
        if (!parse_value(&table[i], value))
            log_warn("basalt: command line: %s=%s ignored: expected %s", word, value,
                     table[i].expected);
        return;
    }
    log_warn("basalt: command line: unknown option %s ignored", word);
}

void cmdline_parse(const char *line) {
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
