// SPDX-License-Identifier: Apache-2.0
//
// The ELF reader: a good file, the same cut at every byte, every field at its extremes, overlaps and overflows, and random
// damage. Whatever it accepts lies inside the file and inside the limits.
// sources: kernel/elf.c

#include "kernel/elf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define LIMIT     (64 * MIB)
#define FILE_SIZE 0x5000u
#define HEADERS   (64 + 3 * 56)

static u8 file[FILE_SIZE];

static void put(unsigned offset, unsigned bytes, u64 value) {
    memcpy(file + offset, &value, bytes);
}

// offsets of fields in the file header and in program header `n`
enum { TYPE = 16, MACHINE = 18, ENTRY = 24, PHOFF = 32, PHENTSIZE = 54, PHNUM = 56 };
#define PH(n, field) (64 + (n)*56u + (field))
enum { P_TYPE = 0, P_OFFSET = 8, P_VADDR = 16, P_PADDR = 24, P_FILESZ = 32, P_MEMSZ = 40 };

static void segment(unsigned n, u64 offset, u64 vaddr, u64 paddr, u64 filesz, u64 memsz) {
    put(PH(n, P_TYPE), 4, 1);
    put(PH(n, P_OFFSET), 8, offset);
    put(PH(n, P_VADDR), 8, vaddr);
    put(PH(n, P_PADDR), 8, paddr);
    put(PH(n, P_FILESZ), 8, filesz);
    put(PH(n, P_MEMSZ), 8, memsz);
}

static int good(void **state) {
    (void)state;
    memset(file, 0, sizeof(file));
    memcpy(file, "\177ELF\2\1\1", 7);
    put(TYPE, 2, 2);
    put(MACHINE, 2, 62);
    put(ENTRY, 8, 0x100010);
    put(PHOFF, 8, 64);
    put(PHENTSIZE, 2, 56);
    put(PHNUM, 2, 3);
    segment(0, 0x1000, 0x100000, 0, 0x1800, 0x1800);
    segment(1, 0x3000, 0x102000, 0x2000, 0x1234, 0x9000);
    put(PH(2, P_TYPE), 4, 0x6474e551); // a stack note
    put(PH(2, P_MEMSZ), 8, ~0ull);     // whose sizes don't count
    return 0;
}

static void check_plan(const struct elf_plan *plan, u64 size) {
    assert_true(plan->offset <= size && plan->bytes <= size - plan->offset);
    assert_true(plan->bytes <= plan->size && plan->size <= 2 * LIMIT);
    assert_true(plan->entry < plan->bytes);
}

static const char *reads(void) {
    struct elf_plan plan;
    const char *wrong = elf_read(file, FILE_SIZE, FILE_SIZE, &plan);

    if (!wrong)
        check_plan(&plan, FILE_SIZE);
    return wrong;
}

static void test_good(void **state) {
    (void)state;
    struct elf_plan plan;

    assert_null(elf_read(file, HEADERS, FILE_SIZE, &plan));
    assert_int_equal(plan.entry, 0x10);
    assert_int_equal(plan.offset, 0x1000);
    assert_int_equal(plan.bytes, 0x3234);
    assert_int_equal(plan.size, 0xb000);
}

// The headers must be whole, and so must the file. Each prefix stands in a buffer of its own, for the sanitizer.
static void test_cut_at_every_byte(void **state) {
    (void)state;
    struct elf_plan plan;

    for (u64 valid = 0; valid <= HEADERS; valid++) {
        u8 *part = malloc(valid ? valid : 1);
        memcpy(part, file, valid);
        const char *wrong = elf_read(part, valid, FILE_SIZE, &plan);
        assert_int_equal(wrong == NULL, valid == HEADERS);
        free(part);
    }
    for (u64 size = HEADERS; size <= FILE_SIZE; size++) {
        const char *wrong = elf_read(file, HEADERS, size, &plan);
        assert_int_equal(wrong == NULL, size >= 0x3000 + 0x1234);
    }
}

#define REFUSES(what, ...)                     \
    do {                                       \
        good(NULL);                            \
        __VA_ARGS__;                           \
        const char *wrong_ = reads();          \
        assert_non_null(wrong_);               \
        assert_non_null(strstr(wrong_, what)); \
    } while (0)

static void test_wrong_files(void **state) {
    (void)state;
    REFUSES("not a 64-bit ELF", file[0] = 0);
    REFUSES("not a 64-bit ELF", file[4] = 1); // 32 bits
    REFUSES("not a 64-bit ELF", file[5] = 2); // big endian
    REFUSES("x86-64", put(MACHINE, 2, 3));    // i386
    REFUSES("x86-64", put(MACHINE, 2, 183));  // ARM
    REFUSES("executable", put(TYPE, 2, 1));   // an object file
    REFUSES("executable", put(TYPE, 2, 3));   // position-independent
    REFUSES("executable", put(PHENTSIZE, 2, 32));
    REFUSES("program headers", put(PHNUM, 2, 0));
    REFUSES("program headers", put(PHNUM, 2, 0xffff));
    REFUSES("program headers", put(PHOFF, 8, FILE_SIZE));
    REFUSES("program headers", put(PHOFF, 8, ~0ull));
    REFUSES("program headers", put(PHOFF, 8, ~0ull - 55));
    REFUSES("entry", put(ENTRY, 8, 0));
    REFUSES("entry", put(ENTRY, 8, 0xfffff));
    REFUSES("entry", put(ENTRY, 8, 0x101800)); // behind the first segment
    REFUSES("entry", put(ENTRY, 8, 0x103234)); // in .bss
    REFUSES("entry", put(ENTRY, 8, ~0ull));
    REFUSES("entry", put(PH(0, P_TYPE), 4, 2)); // its segment is not loaded
    REFUSES("cut short", put(PH(0, P_OFFSET), 8, FILE_SIZE));
    REFUSES("cut short", put(PH(0, P_OFFSET), 8, ~0ull));
    REFUSES("cut short", put(PH(0, P_OFFSET), 8, ~0ull - 0x17ff));
    REFUSES("cut short", put(PH(0, P_FILESZ), 8, ~0ull));
    REFUSES("cut short", put(PH(1, P_FILESZ), 8, 0x2001));
    REFUSES("impossible", put(PH(1, P_MEMSZ), 8, 0x1233)); // less than in the file
    REFUSES("impossible", put(PH(1, P_MEMSZ), 8, ~0ull));
    REFUSES("impossible", put(PH(1, P_MEMSZ), 8, LIMIT + 1));
    REFUSES("impossible", put(PH(1, P_PADDR), 8, ~0ull));
    REFUSES("impossible", put(PH(1, P_PADDR), 8, ~0ull - 0x8fff)); // wraps to 0
    REFUSES("impossible",
            put(PH(1, P_PADDR), 8, 0x100000000)); // linked high without physical addresses
    // Two segments overlap, stand in another order or at another distance than in the file, or the first lies too high.
    REFUSES("in the file as in memory", put(PH(1, P_PADDR), 8, 0));
    REFUSES("in the file as in memory", put(PH(1, P_PADDR), 8, 0x17ff));
    REFUSES("in the file as in memory", put(PH(0, P_PADDR), 8, 0x1001));
    REFUSES("in the file as in memory", put(PH(0, P_PADDR), 8, 0xafff));
    REFUSES("in the file as in memory", segment(1, 0x2700, 0x102000, 0x1700, 0x1234, 0x9000));
    REFUSES("in the file as in memory", segment(0, 0x3800, 0x100000, 0x2800, 0x1800, 0x1800));
    REFUSES("in the file as in memory", put(PH(0, P_MEMSZ), 8, 0x1801)); // zeros not at the end
    good(NULL);
    segment(1, 0x2800, 0x102000, 0x1800, 0x1234, 0x9000); // touching is not overlapping
    assert_null(reads());
}

static void test_segments_without_bytes(void **state) {
    (void)state;
    segment(2, 0, 0, 0x20000, 0, 0); // nothing in memory: not counted
    assert_null(reads());
    put(PHNUM, 2, 12);
    for (unsigned n = 0; n < 12; n++)
        segment(n, 0x1000 + n * 0x100, 0x100000 + n * 0x100, n * 0x100, 0x100, 0x100);
    assert_null(reads());
}

static void test_random_damage(void **state) {
    (void)state;
    unsigned seed = (unsigned)time(NULL), accepted = 0;

    print_message("seed %u\n", seed);
    srand(seed);
    for (unsigned n = 0; n < 300000; n++) {
        good(NULL);
        for (int k = rand() % 4; k >= 0; k--) {
            unsigned field = (unsigned)rand() % (HEADERS - 8);
            switch (rand() % 4) {
            case 0: file[field] ^= (u8)(1u << rand() % 8); break;
            case 1: put(field & ~7u, 8, (u64)(rand() % 0x8000)); break;
            case 2: put(field & ~7u, 8, ~0ull >> rand() % 64); break;
            default: put(field & ~7u, 8, (u64)0 - (u64)(rand() % 0x8000)); break;
            }
        }
        accepted += !reads();
    }
    assert_true(accepted > 1000);
}

#define TEST(name) cmocka_unit_test_setup(name, good)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_good),          TEST(test_cut_at_every_byte),
        TEST(test_wrong_files),   TEST(test_segments_without_bytes),
        TEST(test_random_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
