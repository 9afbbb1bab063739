// SPDX-License-Identifier: Apache-2.0
//
// From a typed line to a command of the table. Pure.

#include "toolstack/shell.h"

#include "toolstack/config.h"
#include "toolstack/text.h"

#include <stdio.h>
#include <string.h>

#define COMMANDS_MAX 64u

static const struct shell_command *find(const char *name, char *error, size_t size) {
    const char *names[COMMANDS_MAX];
    size_t count = 0;
    for (const struct shell_command *c = shell_commands; c->name && count < COMMANDS_MAX; c++) {
        if (strcmp(c->name, name) == 0)
            return c;
        names[count++] = c->name;
    }
    const char *near = config_nearest(name, names, count);
    if (near)
        snprintf(error, size, "there is no command \"%.40s\"; did you mean \"%s\"?", name, near);
    else
        snprintf(error, size, "there is no command \"%.40s\"; \"help\" lists them", name);
    return NULL;
}

// Takes -j out of the words.
static bool take_json(char **words, int *count) {
    bool json = false;
    int kept = 0;
    for (int i = 0; i < *count; i++) {
        if (i > 0 && strcmp(words[i], "-j") == 0)
            json = true;
        else
            words[kept++] = words[i];
    }
    *count = kept;
    return json;
}

const struct shell_command *shell_parse(char *line, char **words, struct shell_call *call,
                                        char *error, size_t size) {
    int count = text_split(line, words, SHELL_WORDS_MAX);
    *call = (struct shell_call){0};
    error[0] = 0;
    if (count < 0)
        snprintf(error, size, count == -1 ? "expected a closing quote (\")" : "too many words");
    if (count <= 0)
        return NULL;
    const struct shell_command *command = find(words[0], error, size);
    if (!command)
        return NULL;
    call->json = take_json(words, &count);
    call->words = words + 1;
    call->count = (unsigned)count - 1;
    if (call->json && !command->json)
        snprintf(error, size, "%s does not take -j", command->name);
    else if (call->count < command->least || call->count > command->most)
        snprintf(error, size, "expected \"%s%s%s\"", command->name, *command->arguments ? " " : "",
                 command->arguments);
    return error[0] ? NULL : command;
}
