// SPDX-License-Identifier: Apache-2.0
//
// The kernel's log on dom0's console. dom0 drives the UART, so the kernel only writes its ring and rings a port; its
// lines are printed in their order between dom0's own.

#pragma once

#include "lib/types.h"

/// Takes the console over from the kernel; what that has not printed is printed here.
void kernel_log_init(void);

/// Prints what is new; log_text() calls it before any text of dom0's own.
void kernel_log_show(void);

/// Everything that was printed is on the line: tells the kernel, which would go on from there if dom0 ended.
void kernel_log_sent(void);
