// SPDX-License-Identifier: Apache-2.0
//
// The operator's shell on dom0's console: reads lines (and the script of dom0's command line),
// finds the command in one table, runs it. A command that takes time returns SHELL_PENDING and
// calls shell_done() later; until then no other begins, and ^C gives it up. docs/shell.md is the
// manual.

#pragma once

#include "lib/types.h"
#include "toolstack/lineedit.h"

#define SHELL_WORDS_MAX 8u

enum shell_result {
    SHELL_DONE,
    SHELL_FAILED,  // after an error message
    SHELL_PENDING, // shell_done() will be called
};

enum shell_completion { SHELL_NO_COMPLETION, SHELL_COMMAND_NAMES, SHELL_DOMAIN_NAMES };

struct shell_call {
    char **words; // of the arguments
    unsigned count;
    bool json;
};

struct shell_command {
    const char *name, *arguments, *help;
    enum shell_result (*run)(const struct shell_call *call);
    unsigned least, most; // arguments
    bool json;            // takes -j
    enum shell_completion completion;
};

/// The commands; the table ends with a row without name.
extern const struct shell_command shell_commands[];

/// Looks a line apart and finds its command. NULL when there is nothing to run: an empty line, or a
/// mistake, for which `error` (`size` bytes) has a sentence. `words` (SHELL_WORDS_MAX of them)
/// point into `line`, which is changed.
const struct shell_command *shell_parse(char *line, char **words, struct shell_call *call,
                                        char *error, size_t size);

/// Starts the shell: its screen and its prompt.
void shell_init(void);

/// Runs commands, with ";" between them, before what is typed from now on; then calls `ended` (may be
/// NULL).
void shell_run_script(const char *commands, void (*ended)(void));

/// Prints to dom0's screen; "\n" becomes a new line.
__attribute__((format(printf, 1, 2))) void shell_print(const char *format, ...);
void shell_print_line(const char *line);

/// An error message; returns SHELL_FAILED.
__attribute__((format(printf, 1, 2))) enum shell_result shell_error(const char *format, ...);

/// The pending command has come to its end.
void shell_done(void);

/// What ^C does to the pending command; to be set by it before it returns SHELL_PENDING.
void shell_set_cancel(void (*cancel)(void));

/// Whether a script is still being run.
bool shell_in_script(void);

/// News of a domain's state, for commands that wait.
struct domain;
void shell_domain_changed(struct domain *d);

/// Text for the operator (log_set_sink()).
void shell_sink(const char *text, size_t bytes);
