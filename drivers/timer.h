// SPDX-License-Identifier: Apache-2.0
//
// A clock to measure other clocks against: the ACPI PM timer.

#pragma once

#include "arch/types.h"

/// Nanoseconds between two readings of `counter`, which is read at the start and the end of at
/// least `us` microseconds; the difference goes to *ticks. Returns 0 if there is no usable clock.
u64 timer_measure(u64 (*counter)(void), u64 us, u64 *ticks);
