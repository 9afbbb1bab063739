// SPDX-License-Identifier: Apache-2.0
//
// The functions behind the rows of shell_commands[], by file.

#pragma once

#include "toolstack/shell.h"

// command_life.c: domains begin and end
enum shell_result command_create(const struct shell_call *call);
enum shell_result command_shutdown(const struct shell_call *call);
enum shell_result command_destroy(const struct shell_call *call);
enum shell_result command_pause(const struct shell_call *call);
enum shell_result command_resume(const struct shell_call *call);
enum shell_result command_console(const struct shell_call *call);
enum shell_result command_wait(const struct shell_call *call);
enum shell_result command_sleep(const struct shell_call *call);

// command_view.c: what domains do
enum shell_result command_list(const struct shell_call *call);
enum shell_result command_info(const struct shell_call *call);
enum shell_result command_top(const struct shell_call *call);

// command_machine.c: the machine
enum shell_result command_mem(const struct shell_call *call);
enum shell_result command_log(const struct shell_call *call);
enum shell_result command_trace(const struct shell_call *call);
enum shell_result command_version(const struct shell_call *call);
enum shell_result command_reboot(const struct shell_call *call);
enum shell_result command_poweroff(const struct shell_call *call);

// command_table.c
enum shell_result command_help(const struct shell_call *call);

/// The domain of the first argument; NULL after an error message.
struct domain;
struct domain *command_domain(const struct shell_call *call);
