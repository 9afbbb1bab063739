// SPDX-License-Identifier: Apache-2.0
//
// Machine checks: the hardware's own error reports. Follows the SDM, "Machine-Check Architecture".

#pragma once

#include "arch/types.h"

struct trap_frame;

/// Lets every bank of this CPU report; reports what was left from before the boot.
void mcheck_init(void);
/// Handles #MC: names the banks that report. Panics when the processor cannot go on.
void mcheck_handle(const struct trap_frame *frame);
