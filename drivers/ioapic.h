// SPDX-License-Identifier: Apache-2.0
//
// I/O APICs: every global system interrupt is masked until it is routed and unmasked. The 8259s are
// off.

#pragma once

#include "arch/acpi.h"

/// Maps and masks all I/O APICs that the MADT names, turns the 8259s off.
void ioapic_init(void);
/// Trigger and polarity of an ISA interrupt and the GSI it is wired to.
struct acpi_override ioapic_isa(u8 irq);
/// Sends `gsi` as `vector` to the CPU with that APIC ID, still masked. Returns -1 if no I/O APIC
/// has that line.
must_check int ioapic_route(u32 gsi, unsigned vector, u32 destination, bool level, bool active_low);
void ioapic_mask(u32 gsi, bool masked);
