// SPDX-License-Identifier: Apache-2.0
//
// The machine's real-time clock, read once when dom0 starts, and the wall clock that is made of it.

#pragma once

#include "lib/types.h"

/// Reads the clock, taken to be in UTC, and sets dom0's wall clock and, through the kernel, the guests'. A clock that is
/// dead or shows nonsense is reported; the wall clock then begins in 1970.
void clock_init(void);

/// Seconds since 1970 of a date in the proleptic Gregorian calendar, month 1..12.
u64 clock_seconds(unsigned year, unsigned month, unsigned day, unsigned hour, unsigned minute,
                  unsigned second);
