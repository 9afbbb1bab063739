// SPDX-License-Identifier: Apache-2.0
//
// Reading the ACPI tables, from the boot loader's copy of the RSDP on. Invariant: no byte at or beyond a table's end is
// read, and a table is checked to its end before anything of it is stored. Follows the ACPI specification, "ACPI System
// Description Tables", the PCI Firmware specification, "MCFG Table", and Microsoft's "Serial Port Console
// Redirection Table".

#include "arch/acpi.h"

#include "arch/paging.h"
#include "boot/boot.h"
#include "kernel/log.h"

#define RSDP_SIZE_1    20u // ACPI 1.0
#define RSDP_SIZE_2    36u
#define HEADER_SIZE    36u
#define TABLE_MAX      (1 * MIB)
#define TABLES_MAX     64u

#define SPACE_IO       1u     // of a generic address
#define ENABLED        BIT(0) // flags of processors
#define ONLINE_CAPABLE BIT(1)

struct acpi_info acpi;

static u64 get(const u8 *table, unsigned offset, unsigned bytes) {
    u64 value = 0;
    memcpy(&value, table + offset, bytes);
    return value;
}

// The I/O port that the generic address at `offset` names, 0 if it is none.
static u16 get_port(const u8 *table, unsigned offset) {
    u64 address = get(table, offset + 4, 8);
    return table[offset] == SPACE_IO && address <= 0xfff8 ? (u16)address : 0;
}

static bool checksum_ok(const u8 *bytes, u64 size) {
    u8 sum = 0;
    for (u64 i = 0; i < size; i++)
        sum = (u8)(sum + bytes[i]);
    return sum == 0;
}

u64 acpi_parse_rsdp(const u8 *bytes, u64 size) {
    if (size < RSDP_SIZE_1 || memcmp(bytes, "RSD PTR ", 8) != 0 || !checksum_ok(bytes, RSDP_SIZE_1))
        return 0;
    u64 length = bytes[15] >= 2 && size >= RSDP_SIZE_2 ? get(bytes, 20, 4) : 0;
    bool extended = length >= RSDP_SIZE_2 && length <= size && checksum_ok(bytes, length);
    u64 xsdt = extended ? get(bytes, 24, 8) : 0;
    return xsdt ? xsdt : get(bytes, 16, 4);
}

enum { MADT_CPU = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_X2APIC_CPU = 9 };

static const char *take_madt(const u8 *t, u64 length, struct acpi_info *info) {
    // Bytes of an entry at least.
    static const u8 least[] = {
        [MADT_CPU] = 8, [MADT_IOAPIC] = 12, [MADT_OVERRIDE] = 10, [MADT_X2APIC_CPU] = 16};
    for (const u8 *e = t + 44, *end = t + length; e < end; e += e[1]) {
        if (end - e < 2 || e[1] < 2 || e[1] > end - e ||
            (e[0] < ARRAY_SIZE(least) && e[1] < least[e[0]]))
            return "bad entry length";
        if (e[0] == MADT_CPU || e[0] == MADT_X2APIC_CPU)
            info->cpu_count += (get(e, e[0] == MADT_CPU ? 4 : 8, 4) & (ENABLED | ONLINE_CAPABLE)) !=
                               0;
        if (e[0] == MADT_IOAPIC && info->ioapic_count < ACPI_IOAPICS_MAX) {
            info->ioapics[info->ioapic_count].address = (u32)get(e, 4, 4);
            info->ioapics[info->ioapic_count++].gsi_base = (u32)get(e, 8, 4);
        }
        if (e[0] == MADT_OVERRIDE && info->override_count < ACPI_OVERRIDES_MAX)
            info->overrides[info->override_count++] =
                (struct acpi_override){.irq = e[3],
                                       .gsi = (u32)get(e, 4, 4),
                                       .active_low = (e[8] & 3) == 3, // polarity
                                       .level = (e[8] >> 2 & 3) == 3};
    }
    return NULL;
}

static const char *take_mcfg(const u8 *t, u64 length, struct acpi_info *info) {
    for (u32 at = 44; at + 16 <= length; at += 16) {
        u64 base = get(t, at, 8);
        bool usable = base && base % MIB == 0 && !get(t, at + 8, 2) && !t[at + 10];
        if (!usable || info->ecam)
            continue;
        info->ecam = base;
        info->ecam_buses = t[at + 11] + 1;
    }
    return NULL;
}

static const char *take_fadt(const u8 *t, u64 length, struct acpi_info *info) {
    info->dsdt = get(t, 40, 4);
    info->pm1a_control = (u16)get(t, 64, 2);
    info->pm1b_control = (u16)get(t, 68, 2);
    info->pm_timer_port = t[91] == 4 && get(t, 76, 4) <= 0xfffc ? (u16)get(t, 76, 2) : 0;
    if (length >= 129 && get(t, 112, 4) & BIT(10)) { // since ACPI 2.0; RESET_REG_SUP
        info->reset_port = get_port(t, 116);
        info->reset_value = t[128];
    }
    return NULL;
}

static const char *take_spcr(const u8 *t, u64 length unused, struct acpi_info *info) {
    static const u32 rates[] = {0, 0, 0, 9600, 19200, 0, 57600, 115200};
    info->spcr_port = t[36] <= 1 ? get_port(t, 40) : 0; // interface types 0 and 1 are 16550s
    info->spcr_baud = t[58] < ARRAY_SIZE(rates) ? rates[t[58]] : 0;
    return NULL;
}

// Of each table that the kernel uses: its length at least, and what takes facts from it, or says what is wrong with it.
static const struct kind {
    char signature[5];
    u8 least; // bytes
    const char *(*take)(const u8 *table, u64 length, struct acpi_info *info);
} kinds[] = {
    {"APIC", 44, take_madt},
    {"FACP", 116, take_fadt},
    {"MCFG", 44, take_mcfg},
    {"SPCR", 80, take_spcr},
};

const char *acpi_parse_table(const u8 *bytes, u64 size, struct acpi_info *info) {
    u64 length = size >= HEADER_SIZE ? get(bytes, 4, 4) : 0;
    if (length < HEADER_SIZE || length > size)
        return "bad length";
    if (!checksum_ok(bytes, length))
        return "wrong checksum";
    for (const struct kind *k = kinds; k < kinds + ARRAY_SIZE(kinds); k++) {
        if (memcmp(bytes, k->signature, 4) != 0)
            continue;
        struct acpi_info found = *info;
        const char *wrong = length < k->least ? "too short" : k->take(bytes, length, &found);
        *info = wrong ? *info : found;
        return wrong;
    }
    return NULL;
}

// Maps a table with all of its bytes and reads it; NULL, and a complaint, if it is broken.
static const u8 *read_table(u64 address, u64 *length) {
    const u8 *table = address ? device_map(HPA(address), HEADER_SIZE, MAP_READ) : NULL;
    *length = table ? get(table, 4, 4) : 0;
    const u8 *whole = *length && *length <= TABLE_MAX ? device_map(HPA(address), *length, MAP_READ)
                                                      : NULL;
    const char *wrong = whole ? acpi_parse_table(whole, *length, &acpi) : "bad address or length";
    if (!wrong)
        return whole;
    char name[] = "????";
    for (unsigned i = 0; table && i < 4; i++)
        name[i] = table[i] >= ' ' && table[i] <= '~' ? (char)table[i] : '?';
    log_warn("basalt: acpi: table %s at 0x%lx ignored: %s", name, address, wrong);
    return NULL;
}

void acpi_init(const struct boot_params *params) {
    char found[TABLES_MAX * 5 + 1] = ""; // signatures
    unsigned good = 0, count = 0, entry_size = 4;
    u64 length = 0;
    acpi.root = acpi_parse_rsdp(params->rsdp, params->rsdp_size);
    const u8 *root = acpi.root ? read_table(acpi.root, &length) : NULL;
    if (root) {
        entry_size = memcmp(root, "XSDT", 4) == 0 ? 8 : 4;
        count = (unsigned)MIN((length - HEADER_SIZE) / entry_size, TABLES_MAX);
    }
    for (unsigned i = 0; i < count; i++) {
        const u8 *t = read_table(get(root, HEADER_SIZE + i * entry_size, entry_size), &length);
        if (t)
            format(found + 5 * good++, 6, " %.4s", (const char *)t);
    }
    log_info("basalt: acpi: root table at 0x%lx, %u tables:%s; %u broken; %u processors", acpi.root,
             good, found, count - good, acpi.cpu_count);
}
