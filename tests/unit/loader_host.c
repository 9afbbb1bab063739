// SPDX-License-Identifier: Apache-2.0
//
// The model of the loaders' tests: see loader_host.h.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loader_host.h"

u8 kernel[IMAGE_LINUX_BYTES > ELF_BYTES ? IMAGE_LINUX_BYTES : ELF_BYTES];
struct machine_memory_range map[MACHINE_MEMORY_RANGES];
u8 rsdp_copy[LOADER_RSDP_SIZE] = "RSD PTR ";
struct loader_plan plan;
struct loader_input input;

// ---- a guest's memory, for plans that are carried out ----

u8 *ram;
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

void begin(u64 memory) {
    input = (struct loader_input){.kernel = {.name = "kernel", .cmdline = ""},
                                  .cmdline = "console=ttyS0 quiet",
                                  .memory = memory,
                                  .map = map,
                                  .rsdp = 0xe0000,
                                  .rsdp_copy = rsdp_copy};
    input.map_count = image_memory_map(map, memory);
}

bool load(const u8 *image, u64 bytes) {
    u8 *copy = malloc(bytes ? bytes : 1); // exactly its size: the sanitizer sees reads beyond it
    memcpy(copy, image, bytes);
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

void refused(const u8 *image, u64 bytes, const char *part) {
    assert_false(load(image, bytes));
    if (!strstr(plan.error, part))
        fail_msg("expected \"%s\" in: %s", part, plan.error);
}

// An ELF with two segments at 1 MiB and 2 MiB (the latter with .bss), and a PVH note.
void make_elf(u8 *k, bool wide) {
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

u64 at32(u64 gpa) { return loader_u32(ram + gpa); }

u64 at64(u64 gpa) { return loader_u64(ram + gpa); }

void check_flat_32(u64 rip) {
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

// ---- modules ----

const u8 module_data[3][100] = {"first", "second", "third"};
const struct loader_file modules[2] = {{"m1", module_data[1], 100, "m1 with words"},
                                       {"m2", module_data[2], 99, "m2"}};

void with_modules(void) {
    input.modules = modules;
    input.module_count = 2;
    input.initrd =
        (struct loader_file){.name = "initrd", .data = module_data[0], .bytes = 100, .cmdline = ""};
}
