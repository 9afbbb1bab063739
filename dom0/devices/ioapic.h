// SPDX-License-Identifier: Apache-2.0
//
// The I/O APIC: 24 lines, each turned into an interrupt message by its redirection entry. The kernel
// has the local APICs; when a level-triggered vector ends there, it writes the vector to this
// model's EOI register, as the vCPU itself might. Invariant: remote IRR is set only in
// level-triggered entries, from delivery to EOI. Follows the data sheet of Intel's 82093AA, and the
// later parts' "EOI Register".

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "state.h"

#define IOAPIC_ADDRESS 0xfec00000u
#define IOAPIC_SIZE    0x1000u

/// As after power-on: every entry masked.
void ioapic_reset(struct machine_state *machine);

/// A 32-bit register at `offset` (0..0xfff) of the page.
uint32_t ioapic_read(const struct machine_state *machine, unsigned offset);
void ioapic_write(struct machine_state *machine, uint32_t domain, unsigned offset, uint32_t value);

/// Drives a line. A level that is as it was changes nothing.
void ioapic_set_line(struct machine_state *machine, uint32_t domain, unsigned pin, bool level);
