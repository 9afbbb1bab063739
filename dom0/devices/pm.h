// SPDX-License-Identifier: Apache-2.0
//
// ACPI's fixed hardware: PM1 event and control block (power button, S5), the PM timer, and no more;
// there is no legacy mode to leave, SCI_EN is always 1. Follows "ACPI Hardware Specification" of
// the ACPI specification.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host.h"
#include "state.h"

#define PM_PORT     0x600u
#define PM_PORTS    12u
#define PM_EVENT    0u // offset: status, 2 bytes, and enable, 2 bytes
#define PM_CONTROL  4u // 2 bytes
#define PM_TIMER    8u // 4 bytes
#define PM_SCI      9u // GSI
#define PM_SLEEP_S5 5u // SLP_TYP of S5

struct pm {
    struct pm_state *state;
    void (*line)(void *context, bool level);
    void (*power_off)(void *context);
    void *context;
    struct host_timer overflow; // of the PM timer, while its interrupt is enabled
};

/// Fills in a block, state and callbacks set before. fresh: not after a restart of dom0.
void pm_init(struct pm *pm, bool fresh);
void pm_end(struct pm *pm);

/// Offset 0..11, 1, 2 or 4 bytes.
uint64_t pm_read(struct pm *pm, unsigned offset, unsigned bytes);
void pm_write(struct pm *pm, unsigned offset, unsigned bytes, uint64_t data);

/// Presses the power button; false if the guest does not listen to it.
bool pm_power_button(struct pm *pm);
