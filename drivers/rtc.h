// SPDX-License-Identifier: Apache-2.0
//
// The wall clock of the machine, read once at boot.

#pragma once

#include "arch/types.h"

/// Nanoseconds since 1970 now; 0 if the clock is dead or shows nonsense. Takes up to a second's
/// update cycle.
u64 rtc_read_ns(void);
/// Seconds since 1970 of a date in the proleptic Gregorian calendar, month 1..12.
u64 rtc_seconds(unsigned year, unsigned month, unsigned day, unsigned hour, unsigned minute,
                unsigned second);
