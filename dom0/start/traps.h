// SPDX-License-Identifier: Apache-2.0
//
// dom0's exceptions: any of them is a bug of dom0's, is shown on the kernel's console, and ends
// dom0.

#pragma once

#include "lib/types.h"

/// Loads dom0's own descriptor tables and a stack for exceptions. Before it, an exception is a
/// triple fault.
void traps_init(void);

/// Does what "crash=" on the command line asks for, if it is there.
void crash_on_request(void);

/// Ends dom0 for good (the kernel sees it and may start it anew).
_Noreturn void dom0_end(void);
