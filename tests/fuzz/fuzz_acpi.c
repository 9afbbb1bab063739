// SPDX-License-Identifier: Apache-2.0
//
// The static ACPI tables, an RSDP, and the search for _S5 in AML. The first byte says what the others are; a table gets
// its signature and, unless that byte says no, the right length and checksum.
//
// sources: arch/acpi.c kernel/format.c dom0/toolstack/power_s5.c

#include "tests/fuzz/fuzz.h"

#include "arch/acpi.h"
#include "arch/paging.h"
#include "kernel/log.h"

void log_line(enum log_level level, const char *text, ...) {
    (void)level;
    (void)text;
}

void *device_map(hpa_t pa unused, u64 bytes unused, unsigned flags unused) { return NULL; }

bool power_find_s5(const u8 *aml, size_t bytes, u8 *type_a, u8 *type_b);

static void seal(u8 *bytes, size_t size, size_t at) {
    u8 sum = 0;
    bytes[at] = 0;
    for (size_t i = 0; i < size; i++)
        sum = (u8)(sum + bytes[i]);
    bytes[at] = (u8)-sum;
}

static void table(u8 *bytes, size_t size, const char *signature, bool honest) {
    static struct acpi_info info;
    u32 length = (u32)size;

    if (size >= 36 && honest) {
        memcpy(bytes, signature, 4);
        memcpy(bytes + 4, &length, 4);
        seal(bytes, size, 9);
    }
    memset(&info, 0, sizeof(info));
    const char *wrong = acpi_parse_table(bytes, size, &info);
    require(info.ioapic_count <= ACPI_IOAPICS_MAX && info.override_count <= ACPI_OVERRIDES_MAX);
    require(info.ecam_buses <= 256);
    require(!wrong || !(info.cpu_count | info.ioapic_count | info.override_count | info.ecam));
}

static void rsdp(u8 *bytes, size_t size, bool honest) {
    if (size >= 20 && honest) {
        memcpy(bytes, "RSD PTR ", 8);
        seal(bytes, 20, 8);
    }
    u64 root = acpi_parse_rsdp(bytes, size);
    require(!root || size >= 36 || root <= 0xffffffff);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const signatures[] = {"APIC", "FACP", "MCFG", "SRAT", "SPCR", "HPET"};
    u8 a = 0, b = 0;

    if (!size)
        return 0;
    u8 *bytes = exact_copy(data + 1, size - 1);
    unsigned kind = data[0] & 7;
    bool honest = !(data[0] & 8);
    if (kind < ARRAY_SIZE(signatures))
        table(bytes, size - 1, signatures[kind], honest);
    else if (kind == ARRAY_SIZE(signatures))
        rsdp(bytes, size - 1, honest);
    else
        require(!power_find_s5(bytes, size - 1, &a, &b) || (a <= 7 && b <= 7));
    free(bytes);
    return 0;
}
