// SPDX-License-Identifier: Apache-2.0
//
// The event page of a domain: one bit per port in `pending`, one bit per word of it in `summary`. The kernel sets
// the port's bit, then the summary's bit (both with locked operations), then wakes the owner. The owner clears a
// summary bit first and the word's bits after, each with an atomic exchange, so that no ring is lost.

#pragma once

#include <stdint.h>

#define BASALT_PORTS 4096u

struct basalt_event_page {
    uint64_t summary;
    uint64_t reserved[7];
    uint64_t pending[BASALT_PORTS / 64];
    uint8_t padding[4096 - 64 - BASALT_PORTS / 8];
};
_Static_assert(sizeof(struct basalt_event_page) == 4096, "ABI");
