// SPDX-License-Identifier: Apache-2.0
//
// The boot loaders of Multiboot and Multiboot2 kernels: see test_loader.
//
// sources: dom0/toolstack/loader.c dom0/toolstack/loader_linux.c dom0/toolstack/loader_elf.c dom0/toolstack/loader_pvh.c
// sources: dom0/toolstack/loader_multiboot.c dom0/toolstack/loader_multiboot2.c dom0/toolstack/text.c
// sources: dom0/toolstack/config.c dom0/toolstack/config_value.c
// sources: tests/unit/loader_host.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loader_host.h"

// ---- Multiboot ----

static void put_header(u8 *at, u32 flags) {
    image_put(at, 0x1badb002, 4);
    image_put(at + 4, flags, 4);
    image_put(at + 8, 0u - 0x1badb002 - flags, 4);
}

// The ELF without its PVH note.
static void make_multiboot_elf(u8 *k, bool wide, u32 flags) {
    make_elf(k, wide);
    k[0x2900 + 36] = 'Y';
    put_header(k + 0x1004, flags);
}

static void test_multiboot(void **state) {
    (void)state;
    for (unsigned wide = 0; wide < 2; wide++) {
        begin(MEMORY);
        with_modules();
        make_multiboot_elf(kernel, wide, 3);
        assert_true(load(kernel, ELF_BYTES));
        assert_int_equal(plan.protocol, CONFIG_MULTIBOOT);
        check_flat_32(0x100010); // the virtual entry, translated
        assert_int_equal(plan.state.gprs[BASALT_RAX], 0x2badb002);
        u64 info = plan.state.gprs[BASALT_RBX];
        assert_int_equal(at32(info), 0x24d);
        assert_int_equal(at32(info + 4), MACHINE_EBDA / 1024);
        assert_int_equal(at32(info + 8), MEMORY / 1024 - 1024);
        assert_string_equal((char *)ram + at32(info + 16), input.cmdline);
        assert_int_equal(at32(info + 20), 3);
        u64 list = at32(info + 24);
        assert_string_equal((char *)ram + at32(list), "first");
        assert_int_equal(at32(list + 4) - at32(list), 100);
        assert_string_equal((char *)ram + at32(list + 8), "initrd");
        assert_string_equal((char *)ram + at32(list + 24), "m1 with words");
        assert_int_equal(at32(list) % 4096, 0);
        assert_int_equal(at32(info + 44), input.map_count * 24);
        assert_int_equal(at32(at32(info + 48)), 20);
        assert_int_equal(at64(at32(info + 48) + 12), MACHINE_EBDA);
    }
}

static void test_multiboot_addresses(void **state) {
    (void)state;
    begin(MEMORY);
    memset(kernel, 0x5a, ELF_BYTES);
    put_header(kernel + 0x40, 0x10003);
    static const u32 addresses[5] = {0x100040, 0x100000, 0x101000, 0x104000,
                                     0x100008}; // header, load, ends, entry
    for (unsigned i = 0; i < 5; i++)
        image_put(kernel + 0x40 + 12 + 4 * i, addresses[i], 4);
    assert_true(load(kernel, ELF_BYTES));
    check_flat_32(0x100008);
    assert_memory_equal(ram + 0x100000, kernel, 0x1000);
    assert_int_equal(ram[0x101000], 0);
    assert_int_equal(ram[0x103fff], 0);
    image_put(kernel + 0x40 + 20, 0, 4); // load to the file's end
    image_put(kernel + 0x40 + 24, 0, 4);
    assert_true(load(kernel, ELF_BYTES));
    assert_memory_equal(ram + 0x100000, kernel, ELF_BYTES);
    image_put(kernel + 0x40 + 16, 0x100041, 4);
    refused(kernel, ELF_BYTES, "load address makes no sense");
    image_put(kernel + 0x40 + 16, 0x0fff00, 4); // would begin before the file
    refused(kernel, ELF_BYTES, "load address makes no sense");
    image_put(kernel + 0x40 + 16, 0x100000, 4);
    image_put(kernel + 0x40 + 20, 0x200000, 4);
    refused(kernel, ELF_BYTES, "wants more bytes than there are");
    image_put(kernel + 0x40 + 20, 0x0f0000, 4);
    refused(kernel, ELF_BYTES, "wants more bytes than there are");
    image_put(kernel + 0x40 + 20, 0x101000, 4);
    image_put(kernel + 0x40 + 24, 0xffffffff, 4);
    refused(kernel, ELF_BYTES, "raise `memory`");
}

static void test_multiboot_refused(void **state) {
    (void)state;
    begin(MEMORY);
    make_multiboot_elf(kernel, false, 0x23);
    refused(kernel, ELF_BYTES, "Multiboot features that are not offered (flags 0x20)");
    make_multiboot_elf(kernel, false, 3);
    for (u32 n = 0; n < 0x2800; n++)
        assert_false(load(kernel, n));
    kernel[0x1006]++; // no magic any more
    refused(kernel, ELF_BYTES, "is no kernel that can be booted: expected a Linux bzImage");
}

// ---- Multiboot2 ----

static u8 *header2;

static void begin_header2(u8 *at) {
    header2 = at;
    image_put(at, 0xe85250d6, 4);
    image_put(at + 4, 0, 4);
    image_put(at + 8, 16, 4);
}

static u8 *tag2(unsigned type, unsigned flags, u32 size) {
    u8 *at = header2 + loader_u32(header2 + 8);
    image_put(at, type, 2);
    image_put(at + 2, flags, 2);
    image_put(at + 4, size, 4);
    image_put(header2 + 8, loader_u32(header2 + 8) + ALIGN_UP(size, 8), 4);
    return at;
}

static void end_header2(void) {
    tag2(0, 0, 8);
    image_put(header2 + 12, 0u - 0xe85250d6 - loader_u32(header2 + 8), 4);
}

static void make_multiboot2(u8 *k) {
    make_elf(k, true);
    k[0x2900 + 36] = 'Y';
    begin_header2(k + 0x1010);
}

// The information's tag `type`; 0 if it is not there.
static u64 info2(u32 type) {
    u64 info = plan.state.gprs[BASALT_RBX];
    for (u64 at = info + 8; at < info + at32(info); at += ALIGN_UP(at32(at + 4), 8))
        if (at32(at) == type)
            return at;
    return 0;
}

static void test_multiboot2(void **state) {
    (void)state;
    begin(MEMORY);
    with_modules();
    rsdp_copy[15] = 2;
    make_multiboot2(kernel);
    u8 *request = tag2(1, 0, 16);
    image_put(request + 8, 6, 4);
    image_put(request + 12, 15, 4);
    tag2(6, 0, 8);
    tag2(77, 1, 12); // optional: passed over
    end_header2();
    assert_true(load(kernel, ELF_BYTES));
    assert_int_equal(plan.protocol, CONFIG_MULTIBOOT2);
    check_flat_32(0x100010);
    assert_int_equal(plan.state.gprs[BASALT_RAX], 0x36d76289);
    assert_int_equal(plan.state.gprs[BASALT_RBX] % 8, 0);
    assert_string_equal((char *)ram + info2(1) + 8, input.cmdline);
    assert_int_equal(at32(info2(4) + 12), MEMORY / 1024 - 1024);
    assert_int_equal(at32(info2(6) + 4), 16 + input.map_count * 24);
    assert_memory_equal(ram + info2(6) + 16, map, input.map_count * sizeof(map[0]));
    assert_memory_equal(ram + info2(15) + 8, rsdp_copy, LOADER_RSDP_SIZE);
    u64 module = info2(3);
    assert_string_equal((char *)ram + at32(module + 8), "first");
    assert_string_equal((char *)ram + module + 16, "initrd");
    assert_int_equal(info2(21), 0);
    u64 end = info2(0);
    assert_int_equal(end + 8, plan.state.gprs[BASALT_RBX] + at32(plan.state.gprs[BASALT_RBX]));
}

static void test_multiboot2_addresses(void **state) {
    (void)state;
    begin(MEMORY);
    memset(kernel, 0x5a, ELF_BYTES);
    begin_header2(kernel + 0x40);
    u8 *address = tag2(2, 0, 24), *entry = tag2(3, 0, 12);
    static const u32 addresses[4] = {0x100040, 0x100000, 0, 0x180000};
    for (unsigned i = 0; i < 4; i++)
        image_put(address + 8 + 4 * i, addresses[i], 4);
    image_put(entry + 8, 0x100100, 4);
    end_header2();
    assert_true(load(kernel, ELF_BYTES));
    check_flat_32(0x100100);
    assert_memory_equal(ram + 0x100000, kernel, ELF_BYTES);
    assert_int_equal(ram[0x17ffff], 0);
    image_put(address + 12, 0xffffffff, 4); // from the file's start on
    assert_true(load(kernel, ELF_BYTES));
    assert_memory_equal(ram + 0x100000, kernel, ELF_BYTES);
    image_put(address + 8, 0x10, 4);
    refused(kernel, ELF_BYTES, "load address makes no sense");
    begin_header2(kernel + 0x40);
    tag2(2, 0, 24);
    end_header2();
    refused(kernel, ELF_BYTES, "has no Multiboot2 entry address");
}

static void test_multiboot2_relocated(void **state) {
    (void)state;
    make_multiboot2(kernel);
    image_put(kernel + 64 + 24, 0x8100000, 8); // linked at 129 MiB
    image_put(kernel + 64 + 56 + 24, 0x8200000, 8);
    end_header2();
    begin(MEMORY);
    refused(kernel, ELF_BYTES, "raise `memory`");
    begin_header2(kernel + 0x1010);
    u8 *tag = tag2(10, 0, 24);
    image_put(tag + 8, 0x100000, 4), image_put(tag + 12, 0xffffffff, 4),
        image_put(tag + 16, 0x200000, 4);
    end_header2();
    refused(kernel, ELF_BYTES, "raise `memory`"); // it may only go up from where it is linked
    begin(256 * MIB);
    assert_true(load(kernel, ELF_BYTES));
    check_flat_32(0x8100010);
}

static void test_multiboot2_refused(void **state) {
    (void)state;
    begin(MEMORY);
    make_multiboot2(kernel);
    tag2(77, 0, 8);
    end_header2();
    refused(kernel, ELF_BYTES, "asks for a Multiboot2 feature that is not offered (tag 77)");
    make_multiboot2(kernel);
    image_put(tag2(1, 0, 12) + 8, 7, 4); // VBE
    end_header2();
    refused(kernel, ELF_BYTES, "not offered (tag 1)");
    make_multiboot2(kernel);
    image_put(header2 + 4, 4, 4); // MIPS
    end_header2();
    image_put(header2 + 12, 0u - 0xe85250d6 - 4 - loader_u32(header2 + 8), 4);
    refused(kernel, ELF_BYTES, "is for another architecture");
    make_multiboot2(kernel);
    tag2(6, 0, 4); // shorter than a tag can be
    end_header2();
    refused(kernel, ELF_BYTES, "has no end");
    make_multiboot2(kernel);
    end_header2();
    for (u32 n = 0; n < 0x2800; n++)
        assert_false(load(kernel, n));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_multiboot),
        cmocka_unit_test(test_multiboot_addresses),
        cmocka_unit_test(test_multiboot_refused),
        cmocka_unit_test(test_multiboot2),
        cmocka_unit_test(test_multiboot2_addresses),
        cmocka_unit_test(test_multiboot2_relocated),
        cmocka_unit_test(test_multiboot2_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(ram);
    return failed;
}
