// SPDX-License-Identifier: Apache-2.0
//
// The real-time clock and its CMOS memory (ports 0x70, 0x71, IRQ 8). The guest's clock is the wall
// clock plus an offset, which is what setting the clock changes. Alarm and update interrupts work
// to the second; the periodic interrupt is never raised. Follows the data sheet of Motorola's
// MC146818.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host.h"
#include "state.h"

#define RTC_PORT    0x70u
#define RTC_GSI     8u
#define RTC_CENTURY 0x32u

struct rtc {
    struct rtc_state *state;
    void (*line)(void *context, bool level);
    void *context;
    struct host_timer tick; // at the next second, while an interrupt is enabled
};

/// Fills in a clock, state and line set before. fresh: not after a restart of dom0.
void rtc_init(struct rtc *rtc, bool fresh);
void rtc_end(struct rtc *rtc);

/// Port 0x70 (0) or 0x71 (1).
uint8_t rtc_read(struct rtc *rtc, unsigned port);
void rtc_write(struct rtc *rtc, unsigned port, uint8_t value);
