// SPDX-License-Identifier: Apache-2.0
//
// What is taken out of the memory map before the first frame: modules must lie in memory that is free, and not where
// firmware or another module is. (The image of this test lies beyond the map.)
// sources: boot/early.c boot/memory_map.c

#include "boot/boot.h"

#include "arch/paging.h"
#include "kernel/log.h"
#include "kernel/panic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

char __boot_start[1], __boot_end[1], __kernel_start[1], __kernel_end[1];
u8 host_ram[HOST_RAM];
static unsigned complaints;

void log_line(enum log_level level unused, const char *text unused, ...) { complaints++; }
void panic_trap(const struct trap_frame *trap unused, const char *text, ...) {
    fail_msg("panic: %s", text);
    abort();
}

static struct boot_params params;

static int begin(void **state unused) {
    params = (struct boot_params){
        .memory_count = 2,
        .memory = {{0, 32 * MIB, MEMORY_RAM}, {32 * MIB, 33 * MIB, MEMORY_ACPI_RECLAIM}}};
    complaints = 0;
    return 0;
}

static void add(u64 base, u64 size) {
    params.modules[params.module_count++] = (struct boot_module){.base = base, .size = size};
}

static void modules_that_are_refused(void **state unused) {
    add(2 * MIB, 3 * MIB + 1); // good
    add(0x9f000, 1);           // the first MiB is not free
    add(32 * MIB - PAGE_SIZE, PAGE_SIZE + 1);
    add(40 * MIB, 5);
    add(5 * MIB, PAGE_SIZE); // the first one ends there
    add(0xfffff000, 0xfff);
    add(8 * MIB, 5);    // good
    add(0xfee00000, 0); // empty
    early_init(&params);
    static const u64 sizes[] = {3 * MIB + 1, 0, 0, 0, 0, 0, 5, 0};
    for (unsigned i = 0; i < params.module_count; i++)
        assert_int_equal(params.modules[i].size, sizes[i]);
    assert_int_equal(complaints, 5);
    assert_false(memory_map_is_free(&params, 5 * MIB, 5 * MIB + 1));
    assert_true(memory_map_is_free(&params, 5 * MIB + PAGE_SIZE, 8 * MIB));
    assert_true(boot_is_ram(8 * MIB, 8 * MIB + 1));
    assert_false(boot_is_ram(32 * MIB, ~0ull));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(modules_that_are_refused, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
