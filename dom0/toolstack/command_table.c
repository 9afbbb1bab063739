// SPDX-License-Identifier: Apache-2.0
//
// The table of commands: name, arguments, help, handler, how many arguments, -j, completion.

#include "toolstack/commands.h"

#include <string.h>

#define NONE    SHELL_NO_COMPLETION
#define DOMAINS SHELL_DOMAIN_NAMES

const struct shell_command shell_commands[] = {
    {"help", "[command]", "what commands there are, or what one does", command_help, 0, 1, false,
     SHELL_COMMAND_NAMES},
    {"list", "", "all domains and their states", command_list, 0, 0, true, NONE},
    {"create", "<name|file>", "start a domain that a domain file describes", command_create, 1, 1,
     false, DOMAINS},
    {"shutdown", "<name|all>", "press a guest's power button", command_shutdown, 1, 1, false,
     DOMAINS},
    {"destroy", "<name|all>", "end a guest at once, without asking it", command_destroy, 1, 1,
     false, DOMAINS},
    {"pause", "<name>", "stop a guest's processors for a while", command_pause, 1, 1, false,
     DOMAINS},
    {"resume", "<name>", "let a paused guest go on", command_resume, 1, 1, false, DOMAINS},
    {"console", "<name>", "show a guest's console; Ctrl-] goes on to the next, Ctrl-] 0 back here",
     command_console, 1, 1, false, DOMAINS},
    {"info", "<name>", "all about one domain", command_info, 1, 1, true, DOMAINS},
    {"top", "[seconds]", "processor share and exits of each domain, over an interval", command_top,
     0, 1, true, NONE},
    {"log", "[lines|dom0]", "the last lines of the kernel's log, or dom0's", command_log, 0, 1,
     false, NONE},
    {"trace", "[records|events]",
     "the last records of the kernel's trace; or what it records: on, off, or some of exit switch "
     "wake inject request doorbell irq timer domain",
     command_trace, 0, 9, true, NONE},
    {"mem", "", "who has the machine's memory, to the byte", command_mem, 0, 0, true, NONE},
    {"wait", "<name> [seconds]", "wait until a domain has ended", command_wait, 1, 2, false,
     DOMAINS},
    {"sleep", "<seconds>", "wait", command_sleep, 1, 1, false, NONE},
    {"reboot", "", "shut the guests down, then start the machine anew", command_reboot, 0, 0, false,
     NONE},
    {"poweroff", "", "shut the guests down, then switch the machine off", command_poweroff, 0, 0,
     false, NONE},
    {"version", "", "versions of dom0 and of the interface", command_version, 0, 0, true, NONE},
    {NULL, NULL, NULL, NULL, 0, 0, false, NONE},
};

static void print_help(const struct shell_command *c) {
    char usage[48];
    size_t used = strlen(c->name);
    memcpy(usage, c->name, used);
    usage[used++] = ' ';
    strncpy(usage + used, c->arguments, sizeof(usage) - used - 1);
    usage[sizeof(usage) - 1] = 0;
    shell_print("  %-24s %s%s\n", usage, c->help, c->json ? " (-j: JSON)" : "");
}

enum shell_result command_help(const struct shell_call *call) {
    for (const struct shell_command *c = shell_commands; c->name; c++) {
        if (call->count == 0)
            print_help(c);
        else if (strcmp(c->name, call->words[0]) == 0) {
            print_help(c);
            return SHELL_DONE;
        }
    }
    if (call->count)
        return shell_error("there is no command \"%s\"; \"help\" lists them", call->words[0]);
    shell_print(
        "Ctrl-] goes to the next console, Ctrl-] and a digit to that domain's (0: here). TAB completes.\n");
    return SHELL_DONE;
}
