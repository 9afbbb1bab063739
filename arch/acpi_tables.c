// SPDX-License-Identifier: Apache-2.0
//
// Reading ACPI tables: pure functions of untrusted bytes. Invariant: no byte at or beyond `size` is
// read, and a table is checked to its end before anything of it is stored. Follows the ACPI
// specification, "ACPI Software Programming Model", the PCI Firmware specification, "MCFG Table",
// and Microsoft's "Serial Port Console Redirection Table".

#include "arch/acpi.h"
#include "arch/string.h"

#define HEADER_SIZE    36u
#define HEADER_LENGTH  4u // offset of the table's length

#define ENABLED        BIT(0) // of processors and memory ranges
#define ONLINE_CAPABLE BIT(1)

static u16 read16(const u8 *p)
{
    u16 value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static u32 read32(const u8 *p)
{
    u32 value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static u64 read64(const u8 *p)
{
    u64 value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static struct acpi_address read_address(const u8 *p)
{
    return (struct acpi_address){p[0], p[1], p[2], p[3], read64(p + 4)};
}

bool acpi_checksum(const u8 *bytes, u64 size)
{
    u8 sum = 0;
    for (u64 i = 0; i < size; i++)
        sum = (u8)(sum + bytes[i]);
    return sum == 0;
}

u64 acpi_parse_rsdp(const u8 *bytes, u64 size, unsigned *entry_size)
{
    if (size < 20 || memcmp(bytes, "RSD PTR ", 8) != 0 || !acpi_checksum(bytes, 20))
        return 0;
    if (bytes[15] >= 2 && size >= 36) {
        u32 length = read32(bytes + 20);
        if (length >= 36 && length <= size && acpi_checksum(bytes, length) && read64(bytes + 24)) {
            *entry_size = 8;
            return read64(bytes + 24);
        }
    }
    *entry_size = 4;
    return read32(bytes + 16);
}

// Tables of entries that begin with type and length: the least length of each type that is read.
struct entry_rule {
    u8 type, size;
};

static bool entries_valid(const u8 *t, u32 at, u32 end, const struct entry_rule *rules,
                          unsigned count)
{
    for (; at < end; at += t[at + 1]) {
        if (end - at < 2 || t[at + 1] < 2 || t[at + 1] > end - at)
            return false;
        for (unsigned i = 0; i < count; i++)
            if (rules[i].type == t[at] && t[at + 1] < rules[i].size)
                return false;
    }
    return true;
}

#define MADT_ENTRIES       44u
#define MADT_CPU           0u
#define MADT_IOAPIC        1u
#define MADT_OVERRIDE      2u
#define MADT_LAPIC_ADDRESS 5u
#define MADT_X2APIC_CPU    9u
#define POLARITY_LOW       3u // flags 1:0
#define TRIGGER_LEVEL      3u // flags 3:2

static void add_cpu(struct acpi_info *info, u32 apic_id, u32 uid, u32 flags)
{
    if (flags & (ENABLED | ONLINE_CAPABLE) && info->cpu_count < ACPI_CPUS_MAX)
        info->cpus[info->cpu_count++] = (struct acpi_cpu){apic_id, uid};
}

static void madt_entry(const u8 *e, struct acpi_info *info)
{
    switch (e[0]) {
    case MADT_CPU: add_cpu(info, e[3], e[2], read32(e + 4)); break;
    case MADT_X2APIC_CPU: add_cpu(info, read32(e + 4), read32(e + 12), read32(e + 8)); break;
    case MADT_LAPIC_ADDRESS: info->lapic_address = read64(e + 4); break;
    case MADT_IOAPIC:
        if (info->ioapic_count < ACPI_IOAPICS_MAX)
            info->ioapics[info->ioapic_count++] =
                (struct acpi_ioapic){e[2], read32(e + 8), read32(e + 4)};
        break;
    case MADT_OVERRIDE:
        if (info->override_count < ACPI_OVERRIDES_MAX)
            info->overrides[info->override_count++] = (struct acpi_override){
                .irq = e[3],
                .gsi = read32(e + 4),
                .active_low = (read16(e + 8) & 3) == POLARITY_LOW,
                .level = (read16(e + 8) >> 2 & 3) == TRIGGER_LEVEL,
            };
        break;
    default: break;
    }
}

static const char *parse_madt(const u8 *t, u32 length, struct acpi_info *info)
{
    static const struct entry_rule rules[] = {{MADT_CPU, 8},
                                              {MADT_IOAPIC, 12},
                                              {MADT_OVERRIDE, 10},
                                              {MADT_LAPIC_ADDRESS, 12},
                                              {MADT_X2APIC_CPU, 16}};
    if (length < MADT_ENTRIES || !entries_valid(t, MADT_ENTRIES, length, rules, ARRAY_SIZE(rules)))
        return "bad entry length";
    info->lapic_address = read32(t + 36);
    info->pic_present = t[40] & 1;
    for (u32 at = MADT_ENTRIES; at < length; at += t[at + 1])
        madt_entry(t + at, info);
    return NULL;
}

#define SRAT_ENTRIES 48u
#define SRAT_MEMORY  1u

static const char *parse_srat(const u8 *t, u32 length, struct acpi_info *info)
{
    static const struct entry_rule rules[] = {{SRAT_MEMORY, 40}};
    if (length < SRAT_ENTRIES || !entries_valid(t, SRAT_ENTRIES, length, rules, ARRAY_SIZE(rules)))
        return "bad entry length";
    for (u32 at = SRAT_ENTRIES; at < length; at += t[at + 1]) {
        const u8 *e = t + at;
        u64 base, end;
        if (e[0] != SRAT_MEMORY || !(read32(e + 28) & ENABLED) ||
            info->node_range_count == ACPI_NODES_MAX)
            continue;
        base = read64(e + 8);
        if (!__builtin_add_overflow(base, read64(e + 16), &end) && end > base)
            info->node_ranges[info->node_range_count++] =
                (struct acpi_node_range){base, end, read32(e + 2)};
    }
    return NULL;
}

#define MCFG_ENTRIES 44u
#define MCFG_ENTRY   16u

static const char *parse_mcfg(const u8 *t, u32 length, struct acpi_info *info)
{
    if (length < MCFG_ENTRIES || (length - MCFG_ENTRIES) % MCFG_ENTRY)
        return "bad length";
    for (u32 at = MCFG_ENTRIES; at < length && info->ecam_count < ACPI_ECAMS_MAX;
         at += MCFG_ENTRY) {
        struct acpi_ecam ecam = {read64(t + at), read16(t + at + 8), t[at + 10], t[at + 11]};
        if (ecam.base && ecam.base % MIB == 0 && ecam.first_bus <= ecam.last_bus)
            info->ecams[info->ecam_count++] = ecam;
    }
    return NULL;
}

#define FADT_SIZE_1 116u    // ACPI 1.0
#define FADT_SIZE_2 129u    // up to the reset value
#define FADT_RESET  BIT(10) // flags

static const char *parse_fadt(const u8 *t, u32 length, struct acpi_info *info)
{
    if (length < FADT_SIZE_1)
        return "too short";
    u32 flags = read32(t + 112), timer = read32(t + 76);
    info->dsdt = read32(t + 40);
    info->pm1a_control = read16(t + 64);
    info->pm1b_control = read16(t + 68);
    info->pm_timer_port = t[91] == 4 && timer <= 0xfffc ? timer : 0;
    info->century = t[108];
    if (length >= FADT_SIZE_2 && flags & FADT_RESET) {
        info->reset_supported = true;
        info->reset = read_address(t + 116);
        info->reset_value = t[128];
    }
    return NULL;
}

static const char *parse_hpet(const u8 *t, u32 length, struct acpi_info *info)
{
    if (length < 56)
        return "too short";
    info->hpet = t[40] == ACPI_SPACE_MEMORY ? read64(t + 44) : 0;
    return NULL;
}

#define SPCR_16550_MAX  1u // interface types 0 and 1
#define SPCR_BAUD_RATES 8u

static const char *parse_spcr(const u8 *t, u32 length, struct acpi_info *info)
{
    static const u32 rates[SPCR_BAUD_RATES] = {0, 0, 0, 9600, 19200, 0, 57600, 115200};
    if (length < 80)
        return "too short";
    if (t[36] > SPCR_16550_MAX)
        return NULL; // no 16550
    info->has_spcr = true;
    info->spcr_address = read_address(t + 40);
    info->spcr_baud = t[58] < SPCR_BAUD_RATES ? rates[t[58]] : 0;
    return NULL;
}

static const struct {
    char signature[5];
    const char *(*parse)(const u8 *t, u32 length, struct acpi_info *info);
} parsers[] = {
    {"FACP", parse_fadt}, {"APIC", parse_madt}, {"MCFG", parse_mcfg},
    {"HPET", parse_hpet}, {"SRAT", parse_srat}, {"SPCR", parse_spcr},
};

int acpi_parse_table(const u8 *bytes, u64 size, struct acpi_info *info, const char **why)
{
    u32 length = size >= HEADER_SIZE ? read32(bytes + HEADER_LENGTH) : 0;
    *why = NULL;
    if (length < HEADER_SIZE || length > size)
        *why = "bad length";
    else if (!acpi_checksum(bytes, length))
        *why = "wrong checksum";
    for (unsigned i = 0; !*why && i < ARRAY_SIZE(parsers); i++)
        if (memcmp(bytes, parsers[i].signature, 4) == 0)
            *why = parsers[i].parse(bytes, length, info);
    return *why ? -1 : 0;
}
