// SPDX-License-Identifier: Apache-2.0
//
// The layouts of the ACPI tables that a guest gets, as the ACPI specification ("ACPI System
// Description Tables") and the PCI firmware specification (MCFG) define them, and the few constants
// in them.

#pragma once

#include <stdint.h>

#include <basalt/domain.h>

#define packed __attribute__((packed))

struct acpi_header {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem[6], oem_table[8];
    uint32_t oem_revision;
    char creator[4];
    uint32_t creator_revision;
} packed;
_Static_assert(sizeof(struct acpi_header) == 36, "ACPI");

struct acpi_rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt, length;
    uint64_t xsdt;
    uint8_t extended_checksum, reserved[3];
} packed;
_Static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI");

struct acpi_xsdt {
    struct acpi_header header;
    uint64_t tables[3]; // FADT, MADT, MCFG
} packed;

struct acpi_address { // generic address structure
    uint8_t space, bits, offset, access;
    uint64_t address;
} packed;
_Static_assert(sizeof(struct acpi_address) == 12, "ACPI");

struct acpi_fadt {
    struct acpi_header header;
    uint32_t facs, dsdt;
    uint8_t model, profile;
    uint16_t sci;
    uint32_t smi_command;
    uint8_t acpi_enable, acpi_disable, s4bios, pstate;
    uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
    uint8_t pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length;
    uint8_t gpe0_length, gpe1_length, gpe1_base, cst;
    uint16_t c2_latency, c3_latency, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
    uint16_t boot_architecture;
    uint8_t reserved;
    uint32_t flags;
    struct acpi_address reset;
    uint8_t reset_value;
    uint16_t arm;
    uint8_t minor;
    uint64_t x_facs, x_dsdt;
    struct acpi_address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control,
        x_pm_timer, x_gpe0, x_gpe1, sleep_control, sleep_status;
} packed;
_Static_assert(sizeof(struct acpi_fadt) == 268, "ACPI: revision 5");

#define FADT_WBINVD          (1u << 0)
#define FADT_C1              (1u << 2)
#define FADT_NO_SLEEP_BUTTON (1u << 5) // as fixed hardware; the power button is there
#define FADT_NO_RTC_WAKE     (1u << 6)
#define FADT_TIMER_32        (1u << 8)
#define FADT_RESET           (1u << 10)
#define BOOT_NO_VGA          (1u << 2)
#define BOOT_NO_ASPM         (1u << 4)
#define C2_NONE              101u // latencies above these: there is no such state
#define C3_NONE              1001u
#define SPACE_IO             1u

struct acpi_facs {
    char signature[4];
    uint32_t length, hardware_signature, waking_vector, global_lock, flags;
    uint64_t x_waking_vector;
    uint8_t version, reserved[31];
} packed;
_Static_assert(sizeof(struct acpi_facs) == 64, "ACPI");

struct acpi_madt_lapic {
    uint8_t type, length, processor, id;
    uint32_t flags;
} packed;
struct acpi_madt_ioapic {
    uint8_t type, length, id, reserved;
    uint32_t address, gsi_base;
} packed;
struct acpi_madt_override {
    uint8_t type, length, bus, source;
    uint32_t gsi;
    uint16_t flags;
} packed;
struct acpi_madt_nmi {
    uint8_t type, length, processor;
    uint16_t flags;
    uint8_t lint;
} packed;
struct acpi_madt {
    struct acpi_header header;
    uint32_t lapic, flags;
    struct acpi_madt_ioapic ioapic;
    struct acpi_madt_override sci;
    struct acpi_madt_nmi nmi;
    struct acpi_madt_lapic lapics[BASALT_VCPUS_MAX]; // cut to what there are
} packed;

#define LAPIC_ADDRESS 0xfee00000u
#define LEVEL_HIGH    0x000du

struct acpi_mcfg {
    struct acpi_header header;
    uint64_t reserved, base;
    uint16_t segment;
    uint8_t first_bus, last_bus;
    uint32_t reserved2;
} packed;
_Static_assert(sizeof(struct acpi_mcfg) == 60, "PCI firmware specification");

#undef packed
