// SPDX-License-Identifier: Apache-2.0
//
// The boot loaders for guests over made-up kernels: right ones, each way of being wrong, every
// truncation, hostile sizes; and over Debian's real kernel where the build has fetched it. Linux and PVH;
// test_loader_multiboot has the others.
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

#include <stdio.h>

// ---- Linux ----

static void test_linux(void **state) {
    (void)state;
    static const u8 initrd[5000] = {0x1f, 0x8b};
    begin(MEMORY);
    image_make_linux(kernel);
    input.initrd = (struct loader_file){
        .name = "initrd", .data = initrd, .bytes = sizeof(initrd), .cmdline = ""};
    assert_true(load(kernel, IMAGE_LINUX_BYTES));
    assert_int_equal(plan.protocol, CONFIG_LINUX);
    const struct basalt_vcpu_state *s = &plan.state;
    assert_int_equal(s->rip, 0x1000200);
    assert_int_equal(s->efer, 0x500);
    assert_int_equal(s->cr0, 0x80000011);
    assert_int_equal(s->cr4, 0x20);
    assert_int_equal(s->segments[BASALT_CS].selector, 0x10);
    assert_int_equal(s->segments[BASALT_CS].attributes, 0xa09b);
    assert_int_equal(s->segments[BASALT_DS].selector, 0x18);
    assert_memory_equal(ram + 0x1000000, kernel + 5 * 512, IMAGE_LINUX_CODE);
    assert_int_equal(ram[0x1000000 + IMAGE_LINUX_CODE], 0); // to init_size
    assert_int_equal(ram[0x1000000 + MIB - 1], 0);
    u64 zp = s->gprs[BASALT_RSI];
    assert_int_equal(at64(zp + 0x70), 0xe0000);
    assert_int_equal(ram[zp + 0x1e8], input.map_count);
    assert_int_equal(at64(zp + 0x2d0), 0);
    assert_int_equal(at64(zp + 0x2d8), MACHINE_EBDA);
    assert_int_equal(at32(zp + 0x2e0), 1);
    assert_int_equal(ram[zp + 0x210], 0xff);
    assert_memory_equal(ram + zp + 0x202, "HdrS", 4);
    assert_string_equal((char *)ram + at32(zp + 0x228), input.cmdline);
    assert_int_equal(at32(zp + 0x21c), sizeof(initrd));
    assert_int_equal(at32(zp + 0x218), ALIGN_DOWN(MEMORY - sizeof(initrd), PAGE_SIZE));
    assert_memory_equal(ram + at32(zp + 0x218), initrd, sizeof(initrd));
}

// Walks the tables that a guest begins with: everything below 4 GiB is mapped to itself.
static void test_identity_tables(void **state) {
    (void)state;
    begin(MEMORY);
    image_make_linux(kernel);
    assert_true(load(kernel, IMAGE_LINUX_BYTES));
    for (u64 address = 0; address < 4 * GIB; address += 0x1fffff) {
        u64 pml4e = at64(plan.state.cr3 + (address >> 39) * 8);
        u64 pdpte = at64((pml4e & ~0xfffull) + (address >> 30 & 511) * 8);
        u64 pde = at64((pdpte & ~0xfffull) + (address >> 21 & 511) * 8);
        assert_int_equal(pml4e & 3, 3);
        assert_int_equal(pdpte & 3, 3);
        assert_int_equal(pde & 0x83, 0x83);
        assert_int_equal((pde & ~0x1fffffull) | (address & 0x1fffff), address);
    }
    assert_int_equal(at64(plan.state.segments[BASALT_GDTR].base + 0x10), 0x00af9b000000ffffull);
    assert_int_equal(plan.state.segments[BASALT_GDTR].limit, 31);
}

static void test_linux_refused(void **state) {
    (void)state;
    static char long_line[3000];
    begin(MEMORY);
    image_make_linux(kernel);
    image_put(kernel + 0x206, 0x020b, 2);
    refused(kernel, IMAGE_LINUX_BYTES, "kernel \"kernel\" is too old: boot protocol 2.11; 2.12");
    image_put(kernel + 0x206, 0x0200, 2);
    refused(kernel, IMAGE_LINUX_BYTES, "is too old: boot protocol 2.00");
    image_make_linux(kernel);
    image_put(kernel + 0x236, 2, 2);
    refused(kernel, IMAGE_LINUX_BYTES, "has no 64-bit entry");
    image_make_linux(kernel);
    image_put(kernel + 0x1fe, 0x55aa, 2);
    refused(kernel, IMAGE_LINUX_BYTES, "boot flag is 0x55aa");
    image_make_linux(kernel);
    image_put(kernel + 0x230, 0x123456, 4);
    refused(kernel, IMAGE_LINUX_BYTES, "is damaged");
    image_put(kernel + 0x230, 0, 4);
    refused(kernel, IMAGE_LINUX_BYTES, "is damaged");
    image_make_linux(kernel);
    image_put(kernel + 0x1f4, 0, 4);
    refused(kernel, IMAGE_LINUX_BYTES, "is cut short");
    image_put(kernel + 0x1f4, 0xffffffff, 4);
    refused(kernel, IMAGE_LINUX_BYTES, "is cut short: 6656 of 68719479280 bytes are there");
    image_make_linux(kernel);
    memset(long_line, 'x', 2048);
    input.cmdline = long_line;
    refused(kernel, IMAGE_LINUX_BYTES,
            "the command line of 2048 bytes is longer than kernel \"kernel\" takes (2047)");
    long_line[2047] = 0;
    assert_true(load(kernel, IMAGE_LINUX_BYTES));
}

static void test_linux_memory(void **state) {
    (void)state;
    image_make_linux(kernel);
    // It is moved down when its place is not there.
    begin(8 * MIB);
    assert_true(load(kernel, IMAGE_LINUX_BYTES));
    assert_int_equal(plan.state.rip, 0x200200);
    begin(2 * MIB);
    refused(
        kernel, IMAGE_LINUX_BYTES,
        "needs 1 MiB of contiguous memory to start, and the guest has 2 MiB in all: raise `memory`");
    kernel[0x234] = 0; // not relocatable
    begin(8 * MIB);
    refused(kernel, IMAGE_LINUX_BYTES, "at its fixed address");
    begin(32 * MIB);
    assert_true(load(kernel, IMAGE_LINUX_BYTES));
    // Too big.
    image_make_linux(kernel);
    image_put(kernel + 0x260, 0xffffffff, 4);
    refused(kernel, IMAGE_LINUX_BYTES, "and the guest has 32 MiB in all: raise `memory`");
    // A preferred address from another world.
    image_make_linux(kernel);
    image_put(kernel + 0x258, ~0ull - 5, 8);
    assert_true(load(kernel, IMAGE_LINUX_BYTES));
    assert_int_equal(plan.state.rip, 0x200200);
    // Memory above 4 GiB is not used for it.
    begin(6 * GIB);
    image_put(kernel + 0x258, 0x100000000ull, 8);
    assert_true(load(kernel, IMAGE_LINUX_BYTES));
    assert_int_equal(plan.state.rip, 0x200200);
}

static void test_initrd(void **state) {
    (void)state;
    u8 *big = calloc(1, 64 * MIB);
    image_make_linux(kernel);
    begin(MEMORY);
    input.initrd =
        (struct loader_file){.name = "initrd", .data = big, .bytes = 64 * MIB, .cmdline = ""};
    refused(
        kernel, IMAGE_LINUX_BYTES,
        "\"initrd\" (64 MiB) doesn't fit beside \"kernel\", which takes up 1 MiB of the guest's "
        "64 MiB: raise `memory` or use a smaller one");
    // The largest that fits lies above the kernel's 16..17 MiB.
    input.initrd.bytes = 47 * MIB;
    assert_true(load(kernel, IMAGE_LINUX_BYTES));
    assert_int_equal(at32(plan.state.gprs[BASALT_RSI] + 0x218), 17 * MIB);
    input.initrd.bytes++;
    refused(kernel, IMAGE_LINUX_BYTES, "doesn't fit beside");
    // A kernel's limit counts.
    image_put(kernel + 0x22c, 0x0fffffff, 4);
    input.initrd.bytes = 4 * MIB;
    begin(256 * MIB * 4);
    input.initrd =
        (struct loader_file){.name = "initrd", .data = big, .bytes = 4 * MIB, .cmdline = ""};
    assert_true(load(kernel, IMAGE_LINUX_BYTES));
    bool found = false;
    for (u32 i = 0; i < plan.count; i++)
        found |= plan.placements[i].source == big && plan.placements[i].gpa == 256 * MIB - 4 * MIB;
    assert_true(found);
    image_put(kernel + 0x22c, 0, 4);
    refused(kernel, IMAGE_LINUX_BYTES, "doesn't fit beside");
    free(big);
}

static void test_linux_truncated(void **state) {
    (void)state;
    begin(MEMORY);
    image_make_linux(kernel);
    for (u32 n = 0; n < IMAGE_LINUX_BYTES; n++)
        assert_false(load(kernel, n));
}

static void test_real_kernel(void **state) {
    (void)state;
    static const char *const names[] = {"build/guest/vmlinuz", "build/guest/initrd.img"};
    u8 *data[2];
    long bytes[2];
    for (unsigned i = 0; i < 2; i++) {
        FILE *f = fopen(names[i], "rb");
        if (!f)
            skip();
        fseek(f, 0, SEEK_END);
        bytes[i] = ftell(f);
        rewind(f);
        data[i] = malloc((size_t)bytes[i]);
        assert_int_equal(fread(data[i], 1, (size_t)bytes[i], f), bytes[i]);
        fclose(f);
    }
    begin(192 * MIB);
    input.initrd = (struct loader_file){
        .name = "initrd", .data = data[1], .bytes = (u64)bytes[1], .cmdline = ""};
    assert_true(load(data[0], (u64)bytes[0]));
    assert_int_equal(plan.protocol, CONFIG_LINUX);
    refused(data[0], (u64)bytes[0] / 2, "is cut short");
    begin(24 * MIB);
    refused(data[0], (u64)bytes[0], "raise `memory`");
    free(data[0]);
    free(data[1]);
}

// ---- PVH ----

static void test_pvh(void **state) {
    (void)state;
    for (unsigned wide = 0; wide < 2; wide++) {
        begin(MEMORY);
        with_modules();
        make_elf(kernel, wide);
        assert_true(load(kernel, ELF_BYTES));
        assert_int_equal(plan.protocol, CONFIG_PVH);
        check_flat_32(0x100020);
        assert_memory_equal(ram + 0x100000, kernel + 0x1000, 0x1000);
        assert_memory_equal(ram + 0x200000, kernel + 0x2000, 0x800);
        assert_int_equal(ram[0x200800], 0);
        assert_int_equal(ram[0x203fff], 0);
        u64 info = plan.state.gprs[BASALT_RBX];
        assert_int_equal(at32(info), 0x336ec578);
        assert_int_equal(at32(info + 4), 1);
        assert_int_equal(at32(info + 12), 3);
        assert_int_equal(at64(info + 32), 0xe0000);
        assert_string_equal((char *)ram + at64(info + 24), input.cmdline);
        assert_int_equal(at32(info + 48), input.map_count);
        assert_memory_equal(ram + at64(info + 40), map, input.map_count * sizeof(map[0]));
        u64 list = at64(info + 16);
        assert_string_equal((char *)ram + at64(list), "first");
        assert_int_equal(at64(list + 8), 100);
        assert_string_equal((char *)ram + at64(list + 32), "second");
        assert_string_equal((char *)ram + at64(list + 48), "m1 with words");
        assert_int_equal(at64(list + 72), 99);
    }
}

static void test_elf_refused(void **state) {
    (void)state;
    begin(MEMORY);
    make_elf(kernel, true);
    image_put(kernel + 64 + 32, 0x10000, 8); // a segment's bytes in the file
    refused(kernel, ELF_BYTES, "is no kernel that can be booted");
    input.protocol = CONFIG_PVH;
    refused(kernel, ELF_BYTES,
            "protocol = pvh needs an ELF file with a PVH entry note, and this is none");
    begin(MEMORY);
    make_elf(kernel, true);
    image_put(kernel + 64 + 24, 0x4000000, 8); // beyond the guest's memory
    refused(
        kernel, ELF_BYTES,
        "a segment of \"kernel\" (4 KiB at 0x4000000) doesn't fit into the guest's memory of 64 MiB: "
        "raise `memory`");
    make_elf(kernel, true);
    image_put(kernel + 64 + 24, ~0xfffull, 8); // wraps round
    assert_false(load(kernel, ELF_BYTES));
    make_elf(kernel, true);
    image_put(kernel + 64 + 24, 0x200800, 8); // into the other one
    refused(kernel, ELF_BYTES, "overlaps another part: the file is damaged");
    make_elf(kernel, true);
    image_put(kernel + 64 + 40, ~0ull, 8);
    assert_false(load(kernel, ELF_BYTES));
    make_elf(kernel, true);
    image_put(kernel + 0x2900 + 40, 0x100000000ull, 8);
    refused(kernel, ELF_BYTES, "above 4 GiB");
    make_elf(kernel, true);
    image_put(kernel + 0x2904, 0xffffffff, 4); // the first note's length
    assert_false(load(kernel, ELF_BYTES));
    make_elf(kernel, true);
    image_put(kernel + 32, ~0ull - 3, 8); // program headers
    assert_false(load(kernel, ELF_BYTES));
}

static void test_elf_truncated(void **state) {
    (void)state;
    begin(MEMORY);
    for (unsigned wide = 0; wide < 2; wide++) {
        make_elf(kernel, wide);
        for (u32 n = 0; n < 0x2940; n++)
            assert_false(load(kernel, n));
    }
}

// ---- all ----

static void test_area_is_full(void **state) {
    (void)state;
    static char words[8][256];
    static struct loader_file many[8];
    static char cmdline[60000];
    begin(MEMORY);
    make_elf(kernel, true);
    memset(cmdline, 'x', sizeof(cmdline) - 1);
    input.cmdline = cmdline;
    refused(kernel, ELF_BYTES, "take up more than 48 KiB");
    input.cmdline = "";
    for (unsigned i = 0; i < 8; i++) {
        memset(words[i], 'w', 255);
        many[i] = (struct loader_file){"m", module_data[0], 100, words[i]};
    }
    input.modules = many;
    input.module_count = 8;
    assert_true(load(kernel, ELF_BYTES));
}

static void test_tiny_guests(void **state) {
    (void)state;
    begin(MIB);
    image_make_linux(kernel);
    refused(kernel, IMAGE_LINUX_BYTES, "raise `memory`");
    make_elf(kernel, true);
    refused(kernel, ELF_BYTES, "raise `memory`");
    image_put(kernel + 64 + 24, 0x10000, 8); // below 640 KiB everything fits
    image_put(kernel + 64 + 56 + 24, 0x20000, 8);
    assert_true(load(kernel, ELF_BYTES));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linux),         cmocka_unit_test(test_identity_tables),
        cmocka_unit_test(test_linux_refused), cmocka_unit_test(test_linux_memory),
        cmocka_unit_test(test_initrd),        cmocka_unit_test(test_linux_truncated),
        cmocka_unit_test(test_real_kernel),   cmocka_unit_test(test_pvh),
        cmocka_unit_test(test_elf_refused),   cmocka_unit_test(test_elf_truncated),
        cmocka_unit_test(test_area_is_full),  cmocka_unit_test(test_tiny_guests),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(ram);
    return failed;
}
