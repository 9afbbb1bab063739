// SPDX-License-Identifier: Apache-2.0
//
// Extended state on this processor: what is saved comes back, and nothing of it is left for whoever runs next, the x87's
// pointers to its last instruction and operand neither: AMD's processors restore these only with a pending exception.
// sources: arch/fpu.c

#include "arch/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct cpu_features cpu_features;

struct fxsave {
    u16 fcw, fsw, ftw, fop;
    u64 fip, fdp;
    u8 rest[832 - 24]; // of the legacy region, and what XSAVE adds
} __attribute__((aligned(64)));

static void leave_traces(void) {
    static const u16 fcw = 0x27f; // double precision
    static double operand = 2.5;

    asm volatile("fldcw %0; fldl %1; fldl %1; fstpl %1" : : "m"(fcw), "m"(operand) : "memory");
}

static void saves_and_restores(u64 mask) {
    struct fxsave mine = {0}, left = {0}, back = {0};

    xstate_mask = mask;
    leave_traces();
    xstate_save(&mine);
    asm volatile("fxsave64 %0" : "=m"(left));
    xstate_restore(&mine, mask);
    asm volatile("fxsave64 %0" : "=m"(back));
    asm volatile("fninit");
    assert_int_equal(mine.fcw, 0x27f);
    assert_true(mine.fip);
    assert_true(!left.fip && !left.fdp && !left.fop && !left.ftw);
    assert_int_equal(back.fcw, mine.fcw);
    assert_int_equal(back.ftw, mine.ftw);
}

static void with_xsave(void **state unused) { saves_and_restores(XCR0_X87 | XCR0_SSE | XCR0_AVX); }
static void without_xsave(void **state unused) { saves_and_restores(0); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_xsave),
        cmocka_unit_test(without_xsave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
