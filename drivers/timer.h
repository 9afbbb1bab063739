// SPDX-License-Identifier: Apache-2.0
//
// A clock to measure other clocks against: the ACPI PM timer.

#pragma once

#include "arch/types.h"

/// How fast `counter` counts, in kHz, measured over at least `us` microseconds. Returns 0 if there
/// is no usable clock.
u64 timer_measure(u64 (*counter)(void), u64 us);
