// SPDX-License-Identifier: Apache-2.0
//
// The run loop and the guest's memory: populated when it is touched, code in superpages, memory without rights, and the
// flush that a release asks for.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/trace.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/run_scene.h"

#include "arch/paging.h"
#include "arch/spec.h"

static void test_lazy_memory(void **state unused) {
    assert_int_equal(memory_populate(d, GPA(0x40000000), 512, BASALT_POPULATE_LAZY), 512);
    script[0] = (struct exit){.kind = BASALT_EXIT_MEMORY, .gpa = GPA(0x40003000), .write = true};
    run(1);
    assert_true(ept_walk(&d->ept, GPA(0x40003000)).present);
    assert_true(v->cpu.rip == 0x1000);
    assert_int_equal(d->info.status, BASALT_STATUS_RUNNING);
    // A fault that another one has cured meanwhile.
    run(1);
    assert_true(v->cpu.rip == 0x1000);
    // Out of quota: the domain ends, and says why.
    assert_int_equal(memory_populate(d, GPA(0x80000000), 512, BASALT_POPULATE_LAZY), 512);
    d->info.memory_quota = d->info.memory_bytes;
    script[0].gpa = GPA(0x80000000);
    run(2);
    assert_int_equal(runs, 1);
    assert_int_equal(d->info.end_reason, BASALT_END_MEMORY);
    assert_true(d->info.end_detail == 0x80000000);
    assert_true(v->blocked & BLOCK_ENDED);
    d->info.memory_quota = 8 * MIB;
}

// Where superpages may hold no code, a page that the guest fetches from becomes one that may, and no other.
static void test_code_in_superpages(void **state unused) {
    const u64 base = 0x40000000, code = base + 5 * PAGE_SIZE;
    spec.flags = SPEC_SMALL_CODE;
    assert_int_equal(memory_populate(d, GPA(base), 512, 0), 512);
    assert_int_equal(ept_walk(&d->ept, GPA(code)).shift, SUPERPAGE_SHIFT);
    assert_int_equal(ept_walk(&d->ept, GPA(code)).flags, EPT_READ | EPT_WRITE);
    u64 generation = d->ept.generation;
    script[0] = (struct exit){.kind = BASALT_EXIT_MEMORY, .gpa = GPA(code + 9), .fetch = true};
    run(1);
    assert_int_equal(d->info.status, BASALT_STATUS_RUNNING);
    assert_int_equal(ept_walk(&d->ept, GPA(code)).shift, PAGE_SHIFT);
    assert_int_equal(ept_walk(&d->ept, GPA(code)).flags, EPT_RWX);
    assert_int_equal(ept_walk(&d->ept, GPA(code + PAGE_SIZE)).flags, EPT_READ | EPT_WRITE);
    assert_true(d->ept.generation > generation);
    script[0].gpa = GPA(code + PAGE_SIZE); // there are small pages now
    run(1);
    assert_int_equal(ept_walk(&d->ept, GPA(code + PAGE_SIZE)).flags, EPT_RWX);
    assert_int_equal(memory_release(d, GPA(base), 512), 64);
    // No page for the table.
    assert_int_equal(memory_populate(d, GPA(2 * base), 512, BASALT_POPULATE_LAZY), 512);
    script[0] = (struct exit){.kind = BASALT_EXIT_MEMORY, .gpa = GPA(2 * base)};
    run(1);
    assert_int_equal(ept_walk(&d->ept, GPA(2 * base)).shift, SUPERPAGE_SHIFT);
    d->info.memory_quota = d->info.memory_bytes;
    script[0].fetch = true;
    run(1);
    assert_int_equal(d->info.end_reason, BASALT_END_MEMORY);
    d->info.memory_quota = 8 * MIB;
    spec.flags = 0;
}

// Memory that the domain can't touch is as none: a device that nobody answers for.
static void test_hidden_memory(void **state unused) {
    assert_int_equal(memory_populate(d, GPA(0x40000000), 1, BASALT_POPULATE_HIDDEN), 1);
    script[0] = (struct exit){.kind = BASALT_EXIT_MEMORY, .gpa = GPA(0x40000010)};
    run(1);
    assert_int_equal(d->info.end_reason, BASALT_END_EMULATION);
    assert_true(d->info.end_detail == 0x40000010);
}

static void test_flush_after_release(void **state unused) {
    script[0] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(1);
    u64 flushes = cpu->flushes;
    run(1);
    assert_true(cpu->flushes == flushes);
    assert_int_equal(memory_release(d, GPA(0xf000), 1), 1);
    run(1);
    assert_true(cpu->flushes == flushes + 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_lazy_memory),
        TEST(test_code_in_superpages),
        TEST(test_hidden_memory),
        TEST(test_flush_after_release),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
