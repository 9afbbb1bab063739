// SPDX-License-Identifier: Apache-2.0
//
// The static ACPI tables that the kernel needs, as facts. Tables are untrusted bytes: length and checksum of each are
// checked first, and nothing of a table that is broken is stored. Follows the ACPI specification, "ACPI Software
// Programming Model".

#pragma once

#include "arch/types.h"

#define ACPI_IOAPICS_MAX   8u
#define ACPI_OVERRIDES_MAX 24u

struct acpi_override { // an ISA interrupt that is not wired one to one
    u8 irq;
    bool active_low, level;
    u32 gsi;
};

struct acpi_info {
    u64 root, dsdt; // physical addresses, 0: none
    u32 cpu_count, ioapic_count, override_count;
    u16 pm_timer_port, pm1a_control, pm1b_control, reset_port, spcr_port; // 0: none
    u8 reset_value;
    u64 ecam;       // configuration space of segment 0, from bus 0 on; 0: none
    u32 ecam_buses; // how many
    u32 spcr_baud;  // 0: as is
    struct {
        u32 gsi_base, address;
    } ioapics[ACPI_IOAPICS_MAX];
    struct acpi_override overrides[ACPI_OVERRIDES_MAX];
};
extern struct acpi_info acpi;

struct boot_params;
/// Reads all tables. Without ACPI everything stays zero. Needs device_map().
void acpi_init(const struct boot_params *params);

/// Checks an RSDP of at most `size` bytes. Returns the physical address of the root table, 0 if broken.
u64 acpi_parse_rsdp(const u8 *bytes, u64 size);
/// Reads one table, of which `size` bytes may be looked at, into *info. Returns NULL, or the reason why it is broken.
/// Unknown tables are ignored.
must_check const char *acpi_parse_table(const u8 *bytes, u64 size, struct acpi_info *info);
