// SPDX-License-Identifier: Apache-2.0
//
// The kernel's command line: a table of options. What is unknown or malformed is reported and
// ignored. The options are documented in docs/cmdline.md.

#pragma once

#include "arch/types.h"

struct options {
    // Rows of the table with words:
    unsigned loglvl;       // enum log_level
    unsigned log_deferred; // the log is printed by dom0, from its first line on
    unsigned trace;        // everything is recorded from the start
    unsigned spec_off;     // no speculation controls
    unsigned panic_halt;   // panic=halt instead of reboot
    unsigned testexit;     // end the emulator with a status instead of a reset or halt
    unsigned nox2apic;     // leave the local APIC in xAPIC mode
    unsigned noapicv;      // emulate guests' APICs in software only
    u64 dom0_mem;          // bytes; 0: the kernel's choice
    u32 console_baud;
    u16 console_port; // 0: the firmware's choice
    bool no_console;
};
extern struct options options;

/// Reads all options. Called before the console is there: complaints go to the log.
void cmdline_parse(const char *line);
/// A number, decimal or 0x; K, M, G suffixes. Returns false if that is not all of the text or it
/// overflows.
must_check bool parse_size(const char *text, u64 *value);
