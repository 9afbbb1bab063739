// SPDX-License-Identifier: Apache-2.0
//
// The static ACPI tables that the kernel needs, as facts. Tables are untrusted bytes: every parse
// function takes an address and the bytes that may be read there, checks length and checksum first,
// and stores nothing of a table that is broken. Follows the ACPI specification, "ACPI Software
// Programming Model".

#pragma once

#include "arch/types.h"

#define ACPI_CPUS_MAX      256u
#define ACPI_IOAPICS_MAX   8u
#define ACPI_OVERRIDES_MAX 24u
#define ACPI_ECAMS_MAX     8u
#define ACPI_NODES_MAX     32u

struct acpi_ioapic {
    u32 gsi_base, address;
};
struct acpi_override { // an ISA interrupt that is not wired one to one
    u8 irq;
    bool active_low, level;
    u32 gsi;
};
struct acpi_ecam {
    u64 base;
    u16 segment;
    u8 first_bus, last_bus;
};
struct acpi_node_range { // memory affinity
    u64 base, end;
    u32 node;
};

struct acpi_info {
    u64 rsdp, hpet, dmar, dsdt; // physical addresses, 0: none
    u16 cpu_count, ioapic_count, override_count, ecam_count, node_range_count;
    u16 tables_found, tables_broken;
    u16 pm_timer_port, pm1a_control, pm1b_control, reset_port, spcr_port; // 0: none
    u32 spcr_baud;                                                        // 0: as is
    u8 reset_value, century;                                              // CMOS index, 0: none
    u32 cpus[ACPI_CPUS_MAX];                                              // APIC IDs
    struct acpi_ioapic ioapics[ACPI_IOAPICS_MAX];
    struct acpi_override overrides[ACPI_OVERRIDES_MAX];
    struct acpi_ecam ecams[ACPI_ECAMS_MAX];
    struct acpi_node_range node_ranges[ACPI_NODES_MAX];
};
extern struct acpi_info acpi;

struct boot_params;
/// Finds the RSDP and reads all tables. Without ACPI everything stays zero. Needs device_map().
void acpi_init(const struct boot_params *params);
/// NUMA node of an address, 0 if not told.
u32 acpi_node_of(u64 address);

/// True if `bytes` sum up to zero modulo 256.
bool acpi_checksum(const u8 *bytes, u64 size);
/// Checks an RSDP. Returns the physical address of the root table (*entry_size 8: XSDT, 4: RSDT), 0
/// if broken.
u64 acpi_parse_rsdp(const u8 *bytes, u64 size, unsigned *entry_size);
/// Reads one table into *info. Returns NULL, or the reason why it is broken. Unknown tables are
/// ignored.
must_check const char *acpi_parse_table(const u8 *bytes, u64 size, struct acpi_info *info);
