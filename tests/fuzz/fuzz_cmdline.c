// SPDX-License-Identifier: Apache-2.0
//
// The kernel's command line, and dom0's words: its own options, and a line of the shell.
//
// sources: kernel/cmdline.c kernel/format.c dom0/toolstack/text.c

#include "tests/fuzz/fuzz.h"

#include "kernel/cmdline.h"
#include "kernel/log.h"

#include <stdarg.h>
#include <stdio.h>

bool text_option(const char *cmdline, const char *name, char *value, size_t size);
int text_split(char *line, char **words, unsigned most);

// What is logged is made into text, so that the sanitizers see every argument read.
void log_line(enum log_level level, const char *text, ...) {
    char line[256];
    va_list args;
    (void)level;
    va_start(args, text);
    vsnprintf(line, sizeof(line), text, args);
    va_end(args);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *line = malloc(size + 1), *words[4], value[8];

    if (size)
        memcpy(line, data, size);
    line[size] = 0;
    options = (struct options){.loglvl = LOG_INFO};
    cmdline_parse(line);
    require(options.loglvl <= LOG_DEBUG);
    (void)!parse_size(line, &options.dom0_mem);
    if (text_option(line, "autostart", value, sizeof(value)))
        require(memchr(value, 0, sizeof(value)));
    int count = text_split(line, words, 4);
    require(count >= -2 && count <= 4);
    for (int i = 0; i < count; i++)
        require(words[i] >= line && words[i] + strlen(words[i]) <= line + size);
    free(line);
    return 0;
}
