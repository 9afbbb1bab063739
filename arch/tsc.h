// SPDX-License-Identifier: Apache-2.0
//
// The time-stamp counter as the kernel's clock: its frequency, and nanoseconds. Invariant: once
// tsc_init() has returned, tsc_khz never changes.

#pragma once

#include "arch/x86.h"

extern u64 tsc_khz;       // ticks per millisecond
extern u64 wall_clock_ns; // nanoseconds since 1970 at TSC 0, as dom0 says; 0 until it does

/// Begins the measurement. After acpi_init(), less than four seconds before tsc_init().
void tsc_begin(void);
/// Finds the frequency: KVM or VMware leaf, CPUID 0x15, else measured against the ACPI PM timer.
void tsc_init(void);
/// Ticks to nanoseconds, rounded down; exact to 2^-32 for any 64-bit count that does not overflow the
/// result.
u64 tsc_to_ns(u64 ticks);
