// SPDX-License-Identifier: Apache-2.0
//
// The ACPI tables of a guest: found as an operating system finds them, checksums, lengths, the
// figures that matter, the DSDT's structure; and, where iasl is installed, that it disassembles
// every table and compiles the result again.
//
// sources: dom0/devices/acpi.c dom0/devices/acpi_dsdt.c dom0/devices/aml.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dom0/devices/acpi.h"
#include "dom0/devices/aml.h"
#include "dom0/devices/machine.h"

static uint8_t memory[0x4000];
static size_t used;

static uint64_t get(size_t at, unsigned bytes) {
    uint64_t value = 0;
    assert_true(at + bytes <= sizeof(memory));
    memcpy(&value, memory + at, bytes);
    return value;
}

static uint8_t sum(size_t at, size_t length) {
    uint8_t total = 0;
    for (size_t i = 0; i < length; i++)
        total = (uint8_t)(total + memory[at + i]);
    return total;
}

static size_t offset_of(uint64_t address) {
    assert_true(address >= MACHINE_TABLES && address < MACHINE_TABLES + used);
    return address - MACHINE_TABLES;
}

static size_t table(const char *signature) {
    size_t xsdt = offset_of(get(24, 8));
    for (size_t i = 36; i < get(xsdt + 4, 4); i += 8) {
        size_t at = offset_of(get(xsdt + i, 8));
        if (memcmp(memory + at, signature, 4) == 0)
            return at;
    }
    fail_msg("no table %s", signature);
    return 0;
}

static int build(void **unused) {
    (void)unused;
    memset(memory, 0xcc, sizeof(memory));
    used = acpi_build(memory, sizeof(memory), MACHINE_TABLES, 4);
    assert_true(used > 0);
    return 0;
}

static void root_pointer(void **unused) {
    (void)unused;
    assert_memory_equal(memory, "RSD PTR ", 8);
    assert_int_equal(sum(0, 20), 0);
    assert_int_equal(sum(0, 36), 0);
    assert_int_equal(memory[15], 2);
    assert_int_equal(get(20, 4), 36);
}

static void every_checksum(void **unused) {
    (void)unused;
    static const char *const names[] = {"FACP", "APIC", "MCFG"};
    size_t xsdt = offset_of(get(24, 8));
    assert_int_equal(sum(xsdt, get(xsdt + 4, 4)), 0);
    for (unsigned i = 0; i < 3; i++) {
        size_t at = table(names[i]);
        assert_int_equal(sum(at, get(at + 4, 4)), 0);
        assert_true(at + get(at + 4, 4) <= used);
    }
    size_t dsdt = offset_of(get(table("FACP") + 40, 4));
    assert_memory_equal(memory + dsdt, "DSDT", 4);
    assert_int_equal(sum(dsdt, get(dsdt + 4, 4)), 0);
}

static void fixed_description(void **unused) {
    (void)unused;
    size_t fadt = table("FACP");
    assert_int_equal(get(fadt + 46, 2), 9);     // SCI
    assert_int_equal(get(fadt + 48, 4), 0);     // no SMI command port
    assert_int_equal(get(fadt + 56, 4), 0x600); // PM1a event
    assert_int_equal(get(fadt + 64, 4), 0x604); // PM1a control
    assert_int_equal(get(fadt + 76, 4), 0x608); // PM timer
    assert_int_equal(memory[fadt + 88], 4);
    assert_int_equal(memory[fadt + 89], 2);
    assert_int_equal(memory[fadt + 91], 4);
    assert_int_equal(memory[fadt + 108], 0x32); // century
    assert_int_equal(get(fadt + 109, 2), 0x14); // no 8042, no VGA, no ASPM
    uint32_t flags = (uint32_t)get(fadt + 112, 4);
    assert_true(flags & 1 << 10);  // reset register
    assert_true(flags & 1 << 8);   // 32-bit timer
    assert_false(flags & 1 << 4);  // power button is fixed hardware
    assert_false(flags & 1 << 20); // not hardware-reduced
    assert_int_equal(get(fadt + 120, 8), 0xcf9);
    assert_int_equal(memory[fadt + 128], 6);
    size_t facs = offset_of(get(fadt + 36, 4));
    assert_memory_equal(memory + facs, "FACS", 4);
    assert_int_equal(facs % 64, 0);
}

static void interrupt_controllers(void **unused) {
    (void)unused;
    size_t madt = table("APIC"), end = madt + get(madt + 4, 4), lapics = 0, ioapics = 0;
    assert_int_equal(get(madt + 36, 4), 0xfee00000);
    assert_int_equal(get(madt + 40, 4), 0); // no 8259s
    for (size_t at = madt + 44; at < end; at += memory[at + 1]) {
        assert_true(memory[at + 1] >= 2);
        if (memory[at] == 0) {
            assert_int_equal(memory[at + 3], lapics++);
            assert_int_equal(get(at + 4, 4), 1);
        } else if (memory[at] == 1) {
            assert_int_equal(get(at + 4, 4), 0xfec00000);
            ioapics++;
        } else if (memory[at] == 2) {
            assert_int_equal(memory[at + 3], 9);
            assert_int_equal(get(at + 4, 4), 9);
            assert_int_equal(get(at + 8, 2), 0x0d);
        }
    }
    assert_int_equal(lapics, 4);
    assert_int_equal(ioapics, 1);
}

static void configuration_space(void **unused) {
    (void)unused;
    size_t mcfg = table("MCFG");
    assert_int_equal(get(mcfg + 44, 8), MACHINE_ECAM);
    assert_int_equal(memory[mcfg + 54], 0);
    assert_int_equal(memory[mcfg + 55], 0);
}

static void says_when_there_is_no_room(void **unused) {
    (void)unused;
    static uint8_t small[0x4000];
    size_t needed = acpi_build(small, sizeof(small), MACHINE_TABLES, 63);
    assert_true(needed > 0 && needed < sizeof(small));
    for (size_t size = 0; size < needed; size++) {
        uint8_t *exact = malloc(size + 1); // under the address sanitizer
        assert_int_equal(acpi_build(exact, size, MACHINE_TABLES, 63), 0);
        free(exact);
    }
    assert_int_equal(acpi_build(small, sizeof(small), MACHINE_TABLES, 64), 0);
}

static void builder_encodes(void **unused) {
    (void)unused;
    uint8_t bytes[64];
    struct aml aml = {.bytes = bytes, .size = sizeof(bytes)};
    aml_name_integer(&aml, "A", 0x1234);
    assert_memory_equal(bytes,
                        "\x08"
                        "A___"
                        "\x0b\x34\x12",
                        8);
    aml.used = 0;
    aml_name_eisa(&aml, "_HID", "PNP0A08");
    assert_memory_equal(bytes, "\x08_HID\x0c\x41\xd0\x0a\x08", 10);
    aml.used = 0;
    aml_package(&aml, 2);
    aml_integer(&aml, 0);
    aml_integer(&aml, 0xff);
    aml_close(&aml);
    assert_memory_equal(bytes, "\x12\x87\x00\x00\x02\x00\x0a\xff", 8);
    assert_true(aml_ok(&aml));
    aml_close(&aml); // nothing is open
    assert_false(aml_ok(&aml));
    aml = (struct aml){.bytes = bytes, .size = sizeof(bytes)};
    for (unsigned i = 0; i <= AML_DEPTH; i++)
        aml_scope(&aml, "S");
    assert_false(aml_ok(&aml));
}

static void disassembles(const char *folder, const char *name, size_t at) {
    char path[128], command[512];
    snprintf(path, sizeof(path), "%s/%s.aml", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(memory + at, 1, get(at + 4, 4), file), get(at + 4, 4));
    fclose(file);
    snprintf(command, sizeof(command),
             "cd %s && iasl -d %s.aml >%s.log 2>&1 && iasl %s.dsl >>%s.log 2>&1 && "
             "grep -q ' 0 Errors, 0 Warnings' %s.log "
             "|| { cat %s.log; exit 1; }",
             folder, name, name, name, name, name, name);
    assert_int_equal(system(command), 0);
}

static void iasl_agrees(void **unused) {
    (void)unused;
    char folder[] = "/tmp/basalt-acpi-XXXXXX", command[64];
    if (access("/usr/bin/iasl", X_OK) != 0)
        skip();
    assert_non_null(mkdtemp(folder));
    disassembles(folder, "dsdt", offset_of(get(table("FACP") + 40, 4)));
    disassembles(folder, "facp", table("FACP"));
    disassembles(folder, "apic", table("APIC"));
    disassembles(folder, "mcfg", table("MCFG"));
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(root_pointer, build),
        cmocka_unit_test_setup(every_checksum, build),
        cmocka_unit_test_setup(fixed_description, build),
        cmocka_unit_test_setup(interrupt_controllers, build),
        cmocka_unit_test_setup(configuration_space, build),
        cmocka_unit_test_setup(says_when_there_is_no_room, build),
        cmocka_unit_test_setup(builder_encodes, build),
        cmocka_unit_test_setup(iasl_agrees, build),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
