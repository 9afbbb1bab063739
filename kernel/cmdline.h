// SPDX-License-Identifier: Apache-2.0
//
// The kernel's command line: a table of options. What is unknown or malformed is reported and
// ignored. The options are documented in docs/cmdline.md.

#pragma once

#include "arch/types.h"

struct options {
    unsigned loglvl; // enum log_level
    u64 dom0_mem;    // bytes; 0: the kernel's choice
    u32 console_baud;
    u16 console_port; // 0: the firmware's choice
    bool no_console;
    bool log_deferred; // the log is printed by dom0, from its first line on
    bool spec_off;     // no speculation controls
    bool panic_halt;   // panic=halt instead of reboot
    bool testexit;     // end the emulator with a status instead of a reset or halt
    bool nox2apic;     // leave the local APIC in xAPIC mode
    bool noapicv;      // emulate guests' APICs in software only
};
extern struct options options;

/// Reads all options. Called before the console is there: complaints go to the log.
void cmdline_parse(const char *line);
/// A number, decimal or 0x; K, M, G suffixes. Returns false if that is not all of the text or it
/// overflows.
must_check bool parse_size(const char *text, u64 *value);
