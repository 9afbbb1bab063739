// SPDX-License-Identifier: Apache-2.0
//
// Finding the ACPI tables: RSDP from the boot loader or the BIOS area, then every table that the
// root names. Follows the ACPI specification, "Finding the RSDP on IA-PC Systems".

#include "arch/acpi.h"

#include "arch/paging.h"
#include "arch/string.h"
#include "boot/multiboot2.h"
#include "kernel/log.h"

#define EBDA_POINTER   0x40eull // segment of the extended BIOS data area
#define EBDA_SIZE      1024u
#define BIOS_AREA      0xe0000ull
#define BIOS_AREA_SIZE 0x20000u
#define RSDP_SIZE      36u
#define TABLE_MAX      (1 * MIB)
#define TABLES_MAX     64u
#define HEADER_SIZE    36u

struct acpi_info acpi;
static char found[TABLES_MAX * 5 + 1]; // signatures, for the report

// Looks for the RSDP on 16-byte boundaries. Returns its physical address or 0.
static u64 scan(u64 base, u64 size) {
    unsigned entry_size;
    const u8 *bytes = device_map(HPA(base), size, MAP_READ);
    for (u64 at = 0; bytes && at + RSDP_SIZE <= size; at += 16)
        if (acpi_parse_rsdp(bytes + at, size - at, &entry_size))
            return base + at;
    return 0;
}

static u64 find_rsdp(void) {
    const u16 *segment = device_map(HPA(EBDA_POINTER), sizeof(u16), MAP_READ);
    u64 ebda = segment ? (u64)*segment << 4 : 0;
    u64 rsdp = ebda >= 0x80000 && ebda < 0xa0000 ? scan(ebda, EBDA_SIZE) : 0;
    return rsdp ? rsdp : scan(BIOS_AREA, BIOS_AREA_SIZE);
}

// Maps a table with all of its bytes; NULL if it claims an absurd length.
static const u8 *map_table(u64 address, u32 *length) {
    const u8 *header = address ? device_map(HPA(address), HEADER_SIZE, MAP_READ) : NULL;
    if (!header)
        return NULL;
    memcpy(length, header + 4, sizeof(*length));
    bool possible = *length >= HEADER_SIZE && *length <= TABLE_MAX;
    return possible ? device_map(HPA(address), *length, MAP_READ) : NULL;
}

static void broken(const u8 *signature, u64 address, const char *why) {
    char name[5] = "????";
    for (unsigned i = 0; signature && i < 4; i++)
        name[i] = signature[i] >= ' ' && signature[i] <= '~' ? (char)signature[i] : '?';
    acpi.tables_broken++;
    log_warn("basalt: acpi: table %s at 0x%lx ignored: %s", name, address, why);
}

static void read_table(u64 address) {
    u32 length = 0;
    const u8 *table = map_table(address, &length);
    const char *why = table ? acpi_parse_table(table, length, &acpi) : "bad address or length";
    if (why) {
        broken(table, address, why);
        return;
    }
    if (memcmp(table, "DMAR", 4) == 0)
        acpi.dmar = address;
    size_t end = 5u * acpi.tables_found++;
    found[end] = ' ';
    memcpy(found + end + 1, table, 4);
}

static void read_root(u64 root, unsigned entry_size) {
    u32 length = 0;
    const u8 *table = map_table(root, &length);
    if (!table || !acpi_checksum(table, length)) {
        broken(table, root, "root table's length or checksum is wrong");
        return;
    }
    u32 count = MIN((length - HEADER_SIZE) / entry_size, TABLES_MAX);
    for (u32 i = 0; i < count; i++) {
        u64 address = 0;
        memcpy(&address, table + HEADER_SIZE + i * entry_size, entry_size);
        read_table(address);
    }
}

void acpi_init(const struct boot_params *params) {
    unsigned entry_size = 0;
    acpi.rsdp = find_rsdp();
    u64 root = acpi_parse_rsdp(params->rsdp, params->rsdp_size, &entry_size);
    if (!root && acpi.rsdp)
        root = acpi_parse_rsdp(device_map(HPA(acpi.rsdp), RSDP_SIZE, MAP_READ), RSDP_SIZE,
                               &entry_size);
    if (root)
        read_root(root, entry_size);
    log_info("basalt: acpi: RSDP at 0x%lx, %u tables:%s; %u broken; %u processors", acpi.rsdp,
             acpi.tables_found, found, acpi.tables_broken, acpi.cpu_count);
}

u32 acpi_node_of(u64 address) {
    for (unsigned i = 0; i < acpi.node_range_count; i++)
        if (address >= acpi.node_ranges[i].base && address < acpi.node_ranges[i].end)
            return acpi.node_ranges[i].node;
    return 0;
}
