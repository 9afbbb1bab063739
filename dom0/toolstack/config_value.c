// SPDX-License-Identifier: Apache-2.0
//
// The kinds of value. What was expected is worded so that it continues "key: expected ...".

#include "toolstack/config_value.h"

#include <stdio.h>
#include <string.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_name_char(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
}

// A decimal number at *text, which is moved behind it. False when there is none or it doesn't fit.
static bool read_number(const char **text, u64 *value) {
    const char *p = *text;
    u64 n = 0;
    for (; is_digit(*p); p++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (u64)(*p - '0'), &n))
            return false;
    bool any = p != *text;
    *text = p;
    *value = n;
    return any;
}

// The unit's shift; -1 for an unknown one.
static int unit_shift(const char *unit) {
    static const char letters[] = "KMGT";
    const char *at = *unit ? strchr(letters, *unit & ~0x20) : NULL;
    if (!at)
        return -1;
    const char *rest = unit + 1;
    bool whole = !*rest || !strcmp(rest, "B") || !strcmp(rest, "iB");
    return whole ? 10 * (int)(at - letters + 1) : -1;
}

const char *config_value_size(const struct config_key *key, const char *text, void *field) {
    static const char wanted[] = "a size such as 256M";
    u64 value;
    if (!read_number(&text, &value))
        return wanted;
    int shift = unit_shift(text);
    if (shift < 0)
        return *text ? wanted : "a size with its unit, such as 256M";
    if (value > key->most >> shift || value << shift < key->least)
        return "a size from 1M to 1T";
    if ((value << shift) % PAGE_SIZE)
        return "a multiple of 4K";
    *(u64 *)field = value << shift;
    return NULL;
}

const char *config_value_number(const struct config_key *key, const char *text, void *field) {
    static char wanted[64];
    u64 value;
    bool ok = read_number(&text, &value) && !*text && value >= key->least && value <= key->most;
    snprintf(wanted, sizeof(wanted), "a number from %llu to %llu", (unsigned long long)key->least,
             (unsigned long long)key->most);
    if (!ok)
        return wanted;
    *(u32 *)field = (u32)value;
    return NULL;
}

const char *config_value_name(const struct config_key *key, const char *text, void *field) {
    size_t length = strlen(text);
    if (length == 0 || length > key->most)
        return "a name of 1 to 31 characters";
    if (!strcmp(text, "dom0") || !strcmp(text, "all"))
        return "a name that is not dom0 or all";
    for (size_t i = 0; i < length; i++)
        if (!is_name_char(text[i]))
            return "a name of letters, digits, '-', '_' and '.'";
    if (is_digit(text[0]) || text[0] == '-')
        return "a name that begins with a letter";
    memcpy(field, text, length + 1);
    return NULL;
}

const char *config_value_text(const struct config_key *key, const char *text, void *field) {
    static char wanted[64];
    size_t length = strlen(text);
    snprintf(wanted, sizeof(wanted), "a text of %llu to %llu bytes", (unsigned long long)key->least,
             (unsigned long long)key->most);
    if (length < key->least || length > key->most)
        return wanted;
    memcpy(field, text, length + 1);
    return NULL;
}

const char *config_value_switch(const struct config_key *key, const char *text, void *field) {
    static const char *const words[] = {"off", "on", "no", "yes", "false", "true", "0", "1"};
    (void)key;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *(bool *)field = i & 1;
            return NULL;
        }
    }
    return "yes or no (or on, off)";
}

const char *config_value_choice(const struct config_key *key, const char *text, void *field) {
    static char wanted[96];
    size_t used = 0;
    wanted[0] = 0;
    for (u32 i = 0; key->words[i]; i++) {
        if (strcmp(text, key->words[i]) == 0) {
            *(u32 *)field = i;
            return NULL;
        }
        const char *between = i == 0 ? "" : key->words[i + 1] ? ", " : " or ";
        used +=
            (size_t)snprintf(wanted + used, sizeof(wanted) - used, "%s%s", between, key->words[i]);
    }
    return wanted;
}

const char *config_value_disk(const struct config_key *key, const char *text, void *field) {
    static const struct {
        const char *prefix;
        enum config_disk_source source;
    } sources[] = {{"gpt:", CONFIG_DISK_LABEL},
                   {"guid:", CONFIG_DISK_GUID},
                   {"device:", CONFIG_DISK_DEVICE},
                   {"module:", CONFIG_DISK_MODULE}};
    static const char wanted[] =
        "gpt:PARTITION, guid:GUID, device:NAME or module:NAME, then perhaps \",ro\" or \",rw\"";
    struct config_disk disk = {0};
    size_t length = strlen(text), i = 0;
    (void)key;
    while (i < ARRAY_SIZE(sources) &&
           strncmp(text, sources[i].prefix, strlen(sources[i].prefix)) != 0)
        i++;
    if (i == ARRAY_SIZE(sources))
        return wanted;
    const char *name = text + strlen(sources[i].prefix);
    const char *option = length >= 3 ? text + length - 3 : text;
    disk.read_only = strcmp(option, ",ro") == 0;
    bool has_option = disk.read_only || strcmp(option, ",rw") == 0;
    size_t bytes = strlen(name) - (has_option && option >= name ? 3 : 0);
    if (bytes == 0 || bytes >= sizeof(disk.name) || memchr(name, ',', bytes))
        return wanted;
    memcpy(disk.name, name, bytes);
    disk.source = sources[i].source;
    *(struct config_disk *)field = disk;
    return NULL;
}

const char *config_value_module(const struct config_key *key, const char *text, void *field) {
    size_t length = strlen(text), word = strcspn(text, " ");
    (void)key;
    if (word == 0 || word >= CONFIG_TEXT_SIZE || length >= sizeof(struct config_module))
        return "a module's name, then perhaps its command line, 255 bytes in all";
    memcpy(((struct config_module *)field)->text, text, length + 1);
    return NULL;
}
