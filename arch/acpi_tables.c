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

#define SPACE_MEMORY   0u // of a generic address
#define SPACE_IO       1u

#define ENABLED        BIT(0) // of processors and memory ranges
#define ONLINE_CAPABLE BIT(1)

typedef u16 unaligned16 __attribute__((aligned(1), may_alias));
typedef u32 unaligned32 __attribute__((aligned(1), may_alias));
typedef u64 unaligned64 __attribute__((aligned(1), may_alias));

static u16 read16(const u8 *p) { return *(const unaligned16 *)p; }
static u32 read32(const u8 *p) { return *(const unaligned32 *)p; }
static u64 read64(const u8 *p) { return *(const unaligned64 *)p; }

// The I/O port that a generic address names, 0 if it is none.
static u16 read_port(const u8 *p) {
    return p[0] == SPACE_IO && read64(p + 4) <= 0xfff8 ? read16(p + 4) : 0;
}

bool acpi_checksum(const u8 *bytes, u64 size) {
    u8 sum = 0;
    for (u64 i = 0; i < size; i++)
        sum = (u8)(sum + bytes[i]);
    return sum == 0;
}

u64 acpi_parse_rsdp(const u8 *bytes, u64 size, unsigned *entry_size) {
    if (size < 20 || memcmp(bytes, "RSD PTR ", 8) != 0 || !acpi_checksum(bytes, 20))
        return 0;
    u32 length = bytes[15] >= 2 && size >= 36 ? read32(bytes + 20) : 0;
    bool extended = length >= 36 && length <= size && acpi_checksum(bytes, length);
    *entry_size = extended && read64(bytes + 24) ? 8 : 4;
    return *entry_size == 8 ? read64(bytes + 24) : read32(bytes + 16);
}

// Entries begin with type and length; `least` is the length that each type has at least, 0: any.
static bool entries_valid(const u8 *t, u32 at, u32 end, const u8 *least, unsigned types) {
    for (; at < end; at += t[at + 1]) {
        if (end - at < 2 || t[at + 1] < 2 || t[at + 1] > end - at)
            return false;
        if (t[at] < types && t[at + 1] < least[t[at]])
            return false;
    }
    return true;
}

#define MADT_ENTRIES    44u
#define MADT_CPU        0u
#define MADT_IOAPIC     1u
#define MADT_OVERRIDE   2u
#define MADT_X2APIC_CPU 9u
#define POLARITY_LOW    3u // flags 1:0
#define TRIGGER_LEVEL   3u // flags 3:2

static void add_cpu(struct acpi_info *info, u32 apic_id, u32 flags) {
    if (flags & (ENABLED | ONLINE_CAPABLE) && info->cpu_count < ACPI_CPUS_MAX)
        info->cpus[info->cpu_count++] = apic_id;
}

static const char *parse_madt(const u8 *t, u32 length, struct acpi_info *info) {
    static const u8 least[] = {
        [MADT_CPU] = 8, [MADT_IOAPIC] = 12, [MADT_OVERRIDE] = 10, [MADT_X2APIC_CPU] = 16};
    if (length < MADT_ENTRIES || !entries_valid(t, MADT_ENTRIES, length, least, ARRAY_SIZE(least)))
        return "bad entry length";
    for (const u8 *e = t + MADT_ENTRIES; e < t + length; e += e[1]) {
        if (e[0] == MADT_CPU)
            add_cpu(info, e[3], read32(e + 4));
        else if (e[0] == MADT_X2APIC_CPU)
            add_cpu(info, read32(e + 4), read32(e + 8));
        else if (e[0] == MADT_IOAPIC && info->ioapic_count < ACPI_IOAPICS_MAX)
            info->ioapics[info->ioapic_count++] =
                (struct acpi_ioapic){.gsi_base = read32(e + 8), .address = read32(e + 4)};
        else if (e[0] == MADT_OVERRIDE && info->override_count < ACPI_OVERRIDES_MAX)
            info->overrides[info->override_count++] =
                (struct acpi_override){.irq = e[3],
                                       .gsi = read32(e + 4),
                                       .active_low = (e[8] & 3) == POLARITY_LOW,
                                       .level = (e[8] >> 2 & 3) == TRIGGER_LEVEL};
    }
    return NULL;
}

#define SRAT_ENTRIES 48u
#define SRAT_MEMORY  1u

static const char *parse_srat(const u8 *t, u32 length, struct acpi_info *info) {
    static const u8 least[] = {[SRAT_MEMORY] = 40};
    if (length < SRAT_ENTRIES || !entries_valid(t, SRAT_ENTRIES, length, least, ARRAY_SIZE(least)))
        return "bad entry length";
    for (const u8 *e = t + SRAT_ENTRIES; e < t + length; e += e[1]) {
        if (e[0] != SRAT_MEMORY || !(read32(e + 28) & ENABLED))
            continue;
        struct acpi_node_range range = {.base = read64(e + 8), .node = read32(e + 2)};
        if (!__builtin_add_overflow(range.base, read64(e + 16), &range.end) &&
            range.end > range.base && info->node_range_count < ACPI_NODES_MAX)
            info->node_ranges[info->node_range_count++] = range;
    }
    return NULL;
}

#define MCFG_ENTRIES 44u
#define MCFG_ENTRY   16u

static const char *parse_mcfg(const u8 *t, u32 length, struct acpi_info *info) {
    if (length < MCFG_ENTRIES || (length - MCFG_ENTRIES) % MCFG_ENTRY)
        return "bad length";
    for (const u8 *e = t + MCFG_ENTRIES; e < t + length; e += MCFG_ENTRY) {
        struct acpi_ecam ecam = {read64(e), read16(e + 8), e[10], e[11]};
        if (ecam.base && ecam.base % MIB == 0 && ecam.first_bus <= ecam.last_bus &&
            info->ecam_count < ACPI_ECAMS_MAX)
            info->ecams[info->ecam_count++] = ecam;
    }
    return NULL;
}

#define FADT_SIZE_1 116u    // ACPI 1.0
#define FADT_SIZE_2 129u    // up to the reset value
#define FADT_RESET  BIT(10) // flags

static const char *parse_fadt(const u8 *t, u32 length, struct acpi_info *info) {
    if (length < FADT_SIZE_1)
        return "too short";
    info->dsdt = read32(t + 40);
    info->pm1a_control = read16(t + 64);
    info->pm1b_control = read16(t + 68);
    info->pm_timer_port = t[91] == 4 && read32(t + 76) <= 0xfffc ? read16(t + 76) : 0;
    info->century = t[108];
    if (length >= FADT_SIZE_2 && read32(t + 112) & FADT_RESET) {
        info->reset_port = read_port(t + 116);
        info->reset_value = t[128];
    }
    return NULL;
}

static const char *parse_hpet(const u8 *t, u32 length, struct acpi_info *info) {
    if (length < 56)
        return "too short";
    info->hpet = t[40] == SPACE_MEMORY ? read64(t + 44) : 0;
    return NULL;
}

#define SPCR_16550_MAX 1u // interface types 0 and 1

static const char *parse_spcr(const u8 *t, u32 length, struct acpi_info *info) {
    static const u32 rates[] = {0, 0, 0, 9600, 19200, 0, 57600, 115200};
    if (length < 80)
        return "too short";
    info->spcr_port = t[36] <= SPCR_16550_MAX ? read_port(t + 40) : 0;
    info->spcr_baud = t[58] < ARRAY_SIZE(rates) ? rates[t[58]] : 0;
    return NULL;
}

static const struct {
    char signature[5];
    const char *(*parse)(const u8 *t, u32 length, struct acpi_info *info);
} parsers[] = {
    {"FACP", parse_fadt}, {"APIC", parse_madt}, {"MCFG", parse_mcfg},
    {"HPET", parse_hpet}, {"SRAT", parse_srat}, {"SPCR", parse_spcr},
};

const char *acpi_parse_table(const u8 *bytes, u64 size, struct acpi_info *info) {
    u32 length = size >= HEADER_SIZE ? read32(bytes + HEADER_LENGTH) : 0;
    if (length < HEADER_SIZE || length > size)
        return "bad length";
    if (!acpi_checksum(bytes, length))
        return "wrong checksum";
    for (unsigned i = 0; i < ARRAY_SIZE(parsers); i++)
        if (memcmp(bytes, parsers[i].signature, 4) == 0)
            return parsers[i].parse(bytes, length, info);
    return NULL;
}
