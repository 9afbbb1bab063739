// SPDX-License-Identifier: Apache-2.0
//
// Access to the boot information: options of the command line, modules by name.

#include "lib/boot.h"

#include <string.h>

const struct basalt_boot_info *boot_info;

// Length of the word at `text` (up to a space or the end).
static size_t word_length(const char *text) {
    size_t n = 0;
    while (text[n] && text[n] != ' ' && text[n] != '\t')
        n++;
    return n;
}

static const char *skip_spaces(const char *text) {
    while (*text == ' ' || *text == '\t')
        text++;
    return text;
}

static void copy_text(char *to, size_t size, const char *from, size_t length) {
    if (size == 0)
        return;
    length = MIN(length, size - 1);
    memcpy(to, from, length);
    to[length] = 0;
}

bool boot_option(const char *name, char *value, size_t size) {
    size_t name_length = strlen(name);
    const char *word = skip_spaces(boot_info->cmdline);
    for (; *word; word = skip_spaces(word + word_length(word))) {
        size_t length = word_length(word);
        if (length < name_length || memcmp(word, name, name_length) != 0)
            continue;
        if (length == name_length) {
            copy_text(value, size, "", 0);
            return true;
        }
        if (word[name_length] == '=') {
            copy_text(value, size, word + name_length + 1, length - name_length - 1);
            return true;
        }
    }
    return false;
}

const struct basalt_boot_module *boot_module(u32 index) {
    return index < MIN(boot_info->module_count, BASALT_BOOT_MODULES) ? &boot_info->modules[index]
                                                                     : NULL;
}

void boot_module_name(const struct basalt_boot_module *module, char *name, size_t size) {
    const char *text = skip_spaces(module->name);
    size_t length = word_length(text);
    for (size_t i = length; i > 0; i--) {
        if (text[i - 1] == '/') {
            text += i;
            length -= i;
            break;
        }
    }
    copy_text(name, size, text, length);
}

const char *boot_module_arguments(const struct basalt_boot_module *module) {
    const char *text = skip_spaces(module->name);
    return skip_spaces(text + word_length(text));
}

const struct basalt_boot_module *boot_module_find(const char *name) {
    for (u32 i = 0; boot_module(i); i++) {
        char text[sizeof(boot_info->modules[0].name)];
        boot_module_name(boot_module(i), text, sizeof(text));
        if (strcmp(text, name) == 0)
            return boot_module(i);
    }
    return NULL;
}
