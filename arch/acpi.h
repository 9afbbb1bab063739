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

struct acpi_address { // Generic Address Structure
    u8 space;         // ACPI_SPACE_*
    u8 bits, offset, access;
    u64 address;
};
#define ACPI_SPACE_MEMORY 0u
#define ACPI_SPACE_IO     1u

struct acpi_cpu {
    u32 apic_id, uid;
};
struct acpi_ioapic {
    u32 id, gsi_base;
    u64 address;
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
    u64 rsdp, lapic_address;
    u64 dmar, dmar_size; // where the table is; 0: there is none
    u64 hpet;
    bool pic_present, reset_supported, has_spcr;
    u16 cpu_count, ioapic_count, override_count, ecam_count, node_range_count;
    u16 tables_found, tables_broken;
    u32 pm_timer_port; // 0: none
    u8 reset_value;
    u8 century; // CMOS index, 0: none
    u16 pm1a_control, pm1b_control;
    u32 dsdt; // physical
    struct acpi_address reset;
    struct acpi_address spcr_address;
    u32 spcr_baud; // 0: as is
    struct acpi_cpu cpus[ACPI_CPUS_MAX];
    struct acpi_ioapic ioapics[ACPI_IOAPICS_MAX];
    struct acpi_override overrides[ACPI_OVERRIDES_MAX];
    struct acpi_ecam ecams[ACPI_ECAMS_MAX];
    struct acpi_node_range node_ranges[ACPI_NODES_MAX];
};
extern struct acpi_info acpi;

struct boot_params;
/// Finds the RSDP and reads all tables. Without ACPI everything stays zero. Needs device_map().
void acpi_init(const struct boot_params *params);
void acpi_report(void);
/// NUMA node of an address, 0 if not told.
u32 acpi_node_of(u64 address);

/// True if `bytes` sum up to zero modulo 256.
bool acpi_checksum(const u8 *bytes, u64 size);
/// Checks an RSDP. Returns the physical address of the root table (*entry_size 8: XSDT, 4: RSDT), 0
/// if broken.
u64 acpi_parse_rsdp(const u8 *bytes, u64 size, unsigned *entry_size);
/// Reads one table into *info. Returns 0, or -1 if it is broken, with the reason in *why. Unknown
/// tables are ignored.
must_check int acpi_parse_table(const u8 *bytes, u64 size, struct acpi_info *info,
                                const char **why);
