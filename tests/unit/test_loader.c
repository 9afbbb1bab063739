// SPDX-License-Identifier: Apache-2.0
//
// The boot loaders for guests over made-up kernels: right ones, each way of being wrong, every
// truncation, hostile sizes; and over Debian's real kernel where the build has fetched it.
//
// sources: dom0/toolstack/loader.c dom0/toolstack/loader_linux.c dom0/toolstack/loader_elf.c dom0/toolstack/loader_pvh.c
// sources: dom0/toolstack/loader_multiboot.c dom0/toolstack/loader_multiboot2.c dom0/toolstack/text.c
// sources: dom0/toolstack/config.c dom0/toolstack/config_value.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loader_image.h"

#include <stdio.h>

#define MEMORY (64 * MIB)

static struct machine_memory_range map[MACHINE_MEMORY_RANGES];
static u8 rsdp_copy[LOADER_RSDP_SIZE] = "RSD PTR ";
static struct loader_plan plan;
static struct loader_input input;

// ---- a guest's memory, for plans that are carried out ----

static u8 *ram;
static u64 ram_bytes;

bool guest_write(struct guest_memory *m, u64 gpa, const void *from, u64 bytes) {
    (void)m;
    if (gpa > ram_bytes || bytes > ram_bytes - gpa)
        return false;
    if (bytes)
        memcpy(ram + gpa, from, bytes);
    return true;
}

bool guest_fill(struct guest_memory *m, u64 gpa, u8 value, u64 bytes) {
    (void)m;
    if (gpa > ram_bytes || bytes > ram_bytes - gpa)
        return false;
    memset(ram + gpa, value, bytes);
    return true;
}

static void carry_out(void) {
    free(ram);
    ram_bytes = input.memory;
    ram = malloc(ram_bytes);
    memset(ram, 0xee, ram_bytes);
    assert_true(loader_carry_out(&plan, NULL));
}

// ---- making kernels ----

static void begin(u64 memory) {
    input = (struct loader_input){.kernel = {.name = "kernel", .cmdline = ""},
                                  .cmdline = "console=ttyS0 quiet",
                                  .memory = memory,
                                  .map = map,
                                  .rsdp = 0xe0000,
                                  .rsdp_copy = rsdp_copy};
    input.map_count = image_memory_map(map, memory);
}

static bool load(const u8 *kernel, u64 bytes) {
    u8 *copy = malloc(bytes ? bytes : 1); // exactly its size: the sanitizer sees reads beyond it
    memcpy(copy, kernel, bytes);
    input.kernel.data = copy;
    input.kernel.bytes = bytes;
    bool ok = loader_make_plan(&input, &plan);
    if (ok) {
        assert_true(image_plan_sound(&input, &plan));
        if (input.memory <= 256 * MIB)
            carry_out();
    } else
        assert_true(plan.error[0] != 0);
    free(copy);
    return ok;
}

static void refused(const u8 *kernel, u64 bytes, const char *part) {
    assert_false(load(kernel, bytes));
    if (!strstr(plan.error, part))
        fail_msg("expected \"%s\" in: %s", part, plan.error);
}

#define ELF_BYTES 0x3000u

// An ELF with two segments at 1 MiB and 2 MiB (the latter with .bss), and a PVH note.
static void make_elf(u8 *k, bool wide) {
    u32 header = wide ? 64 : 52, size = wide ? 56 : 32;
    memset(k, 0, ELF_BYTES);
    memcpy(k, "\177ELF", 4);
    k[4] = wide ? 2 : 1;
    k[5] = k[6] = 1;
    image_put(k + 16, 2, 2);
    image_put(k + 18, wide ? 62 : 3, 2);
    image_put(k + 24, 0x80100010u, wide ? 8 : 4);
    image_put(k + (wide ? 32 : 28), header, wide ? 8 : 4);
    image_put(k + (wide ? 54 : 42), size, 2);
    image_put(k + (wide ? 56 : 44), 3, 2);
    static const u64 segments[3][6] = {// type, offset, vaddr, paddr, in the file, in memory
                                       {1, 0x1000, 0x80100000u, 0x100000, 0x1000, 0x1000},
                                       {1, 0x2000, 0x80200000u, 0x200000, 0x800, 0x4000},
                                       {4, 0x2900, 0, 0, 0x40, 0x40}};
    for (unsigned i = 0; i < 3; i++) {
        u8 *p = k + header + i * size;
        const u64 *s = segments[i];
        image_put(p, s[0], 4);
        for (unsigned f = 1; f < 6; f++)
            image_put(p + (wide ? 8 * f : 4 * f), s[f], wide ? 8 : 4);
    }
    for (u32 i = 0x1000; i < 0x2800; i++)
        k[i] = (u8)(i * 3 + 1);
    u8 *n = k + 0x2900; // a note of someone else's, then ours
    image_put(n, 4, 4), image_put(n + 4, 5, 4), image_put(n + 8, 18, 4), memcpy(n + 12, "Foo", 4);
    image_put(n + 24, 4, 4), image_put(n + 28, wide ? 8 : 4, 4), image_put(n + 32, 18, 4),
        memcpy(n + 36, "Xen", 4);
    image_put(n + 40, 0x100020, wide ? 8 : 4);
}

static u64 at32(u64 gpa) { return loader_u32(ram + gpa); }

static u64 at64(u64 gpa) { return loader_u64(ram + gpa); }

static void check_flat_32(u64 rip) {
    const struct basalt_vcpu_state *s = &plan.state;
    assert_int_equal(s->rip, rip);
    assert_int_equal(s->rflags, 2);
    assert_int_equal(s->cr0, 0x11);
    assert_int_equal(s->cr4, 0);
    assert_int_equal(s->efer, 0);
    assert_int_equal(s->segments[BASALT_CS].attributes, 0xc09b);
    for (unsigned i = BASALT_ES; i <= BASALT_GS; i++)
        if (i != BASALT_CS)
            assert_int_equal(s->segments[i].attributes, 0xc093);
    for (unsigned i = BASALT_ES; i <= BASALT_GS; i++) {
        assert_int_equal(s->segments[i].limit, 0xffffffff);
        assert_int_equal(s->segments[i].base, 0);
    }
    assert_int_equal(s->segments[BASALT_TR].attributes, 0x8b);
    assert_int_equal(s->segments[BASALT_LDTR].attributes, 0x10000);
}

// ---- Linux ----

static u8 kernel[IMAGE_LINUX_BYTES > ELF_BYTES ? IMAGE_LINUX_BYTES : ELF_BYTES];

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

static const u8 module_data[3][100] = {"first", "second", "third"};
static const struct loader_file modules[2] = {{"m1", module_data[1], 100, "m1 with words"},
                                              {"m2", module_data[2], 99, "m2"}};

static void with_modules(void) {
    input.modules = modules;
    input.module_count = 2;
    input.initrd =
        (struct loader_file){.name = "initrd", .data = module_data[0], .bytes = 100, .cmdline = ""};
}

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
        cmocka_unit_test(test_linux),
        cmocka_unit_test(test_identity_tables),
        cmocka_unit_test(test_linux_refused),
        cmocka_unit_test(test_linux_memory),
        cmocka_unit_test(test_initrd),
        cmocka_unit_test(test_linux_truncated),
        cmocka_unit_test(test_real_kernel),
        cmocka_unit_test(test_pvh),
        cmocka_unit_test(test_elf_refused),
        cmocka_unit_test(test_elf_truncated),
        cmocka_unit_test(test_multiboot),
        cmocka_unit_test(test_multiboot_addresses),
        cmocka_unit_test(test_multiboot_refused),
        cmocka_unit_test(test_multiboot2),
        cmocka_unit_test(test_multiboot2_addresses),
        cmocka_unit_test(test_multiboot2_relocated),
        cmocka_unit_test(test_multiboot2_refused),
        cmocka_unit_test(test_area_is_full),
        cmocka_unit_test(test_tiny_guests),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(ram);
    return failed;
}
