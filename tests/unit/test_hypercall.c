// SPDX-License-Identifier: Apache-2.0
//
// What hypercalls promise, call by call: who may make them, which numbers and handles there are, what a guest may do, and
// that nothing is done for arguments that are wrong.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/trace.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/hypercall_scene.h"

// A call with the wait behind it: waits if it succeeds and nothing is pending, and only where BLOCK may.
static void test_then_block(void **state unused) {
    struct vcpu *v = dom0->vcpus[0];
    const u64 version = BASALT_HC_VERSION + BASALT_HC_THEN_BLOCK;
    u64 none[6] = {0}, args[6] = {(u64)HOST_CALL(v, PORT_ALLOC, 0)}, port = args[0];

    assert_int_equal(host_call(v, version, none, NULL), BASALT_VERSION_MAGIC | BASALT_ABI_VERSION);
    assert_int_equal(v->blocked, BLOCK_EVENT);
    event_ring(dom0, (u32)port);
    assert_int_equal(v->blocked, 0);
    this_queue()->current = v;
    assert_true(host_call(v, version, none, NULL) > 0); // the ring was not taken yet
    assert_int_equal(v->blocked, 0);
    assert_false(this_queue()->resched); // nor is the CPU given away
    this_queue()->current = NULL;
    dom0->events->summary = dom0->events->pending[port / 64] = 0;
    u64 wrong[6] = {0xfff};
    assert_true(host_call(v, BASALT_HC_PORT_FREE + BASALT_HC_THEN_BLOCK, wrong, NULL) < 0);
    assert_int_equal(v->blocked, 0);
    assert_int_equal(host_call(v, BASALT_HC_END + BASALT_HC_THEN_BLOCK, none, NULL),
                     -BASALT_ENOSYS);
    // Without an event page, or on another vCPU, the call is not made.
    i64 handle = HOST_CALL(v, DOMAIN_CREATE, BASALT_HANDLE_MACHINE, MIB);
    assert_true(handle > 0);
    assert_int_equal(HOST_CALL(v, VCPU_CREATE, (u64)handle, 0), 0);
    struct vcpu *guest = handle_find(dom0, (u32)handle)->target->vcpus[0];
    host_load(guest);
    host_set_mode(guest, MODE_64);
    assert_int_equal(host_call(guest, version, none, NULL), -BASALT_EINVAL);
    assert_false(guest->blocked & BLOCK_EVENT);
    v->index = 1;
    host_load(v);
    assert_int_equal(host_call(v, BASALT_HC_PORT_FREE + BASALT_HC_THEN_BLOCK, args, NULL),
                     -BASALT_EINVAL);
    v->index = 0;
    assert_int_equal(HOST_CALL(v, PORT_FREE, port), 0);
}

static void test_dispatch(void **state unused) {
    struct vcpu *v = dom0->vcpus[0];

    assert_int_equal(HOST_CALL(v, VERSION, 0), BASALT_VERSION_MAGIC | BASALT_ABI_VERSION);
    assert_int_equal(host_call(v, BASALT_HC_END, (u64[6]){0}, NULL), -BASALT_ENOSYS);
    for (u64 number = 0; number < 16; number++) // KVM's numbers get KVM's answer
        assert_int_equal(host_call(v, number, (u64[6]){0}, NULL), -1000);
    assert_int_equal(host_call(v, BIT(32) | BASALT_HC_VERSION, (u64[6]){0}, NULL),
                     BASALT_VERSION_MAGIC | BASALT_ABI_VERSION); // EAX is the number
    host_vcpu(v)->cpl = 3;
    assert_int_equal(HOST_CALL(v, VERSION, 0), -BASALT_EPERM);
    host_vcpu(v)->cpl = 0;
    assert_int_equal(HOST_CALL(v, DOMAIN_INFO, 77, ram), -BASALT_EBADF);
    assert_int_equal(HOST_CALL(v, DOMAIN_INFO, BIT(32), ram), -BASALT_EBADF); // not handle 0
    assert_int_equal(HOST_CALL(v, DOMAIN_INFO, BASALT_HANDLE_SELF, ram), 0);
    assert_int_equal(HOST_CALL(v, DOMAIN_DESTROY, BASALT_HANDLE_SELF), -BASALT_EPERM);
    assert_int_equal(HOST_CALL(v, DOMAIN_CONTROL, BASALT_HANDLE_SELF, BASALT_OP_END),
                     -BASALT_EPERM);
    assert_int_equal(HOST_CALL(v, DOMAIN_CREATE, BASALT_HANDLE_SELF, ram), -BASALT_EPERM);
    assert_int_equal(HOST_CALL(v, DOMAIN_INFO, BASALT_HANDLE_MACHINE, ram), -BASALT_EPERM);
    // 32-bit code: other registers, low halves.
    host_set_mode(v, MODE_32);
    v->cpu.gprs[BASALT_RAX] = BASALT_HC_VERSION | BIT(40);
    host_exit_for_call(v);
    assert_true((u32)v->cpu.gprs[BASALT_RAX] == (u32)(BASALT_VERSION_MAGIC | BASALT_ABI_VERSION));
    v->cpu.gprs[BASALT_RAX] = BASALT_HC_DOMAIN_INFO;
    v->cpu.gprs[BASALT_RBX] = 77;
    host_exit_for_call(v);
    assert_true((u32)v->cpu.gprs[BASALT_RAX] == (u32)-BASALT_EBADF);
    host_set_mode(v, MODE_64);
}

// The trace has what was chosen, and of nothing else.
static void test_trace(void **state unused) {
    struct vcpu *v = dom0->vcpus[0];
    const struct basalt_trace *t;

    t = this_cpu()->trace;
    assert_int_equal(trace_events, 0);
    trace(BASALT_TRACE_IRQ, 0, 0, 1, 0);
    assert_int_equal(t->head, 0);
    assert_int_equal(HOST_CALL(v, TRACE, BASALT_HANDLE_SELF, 0), -BASALT_EPERM);
    assert_int_equal(HOST_CALL(v, TRACE, BASALT_HANDLE_MACHINE, BASALT_TRACE_ALL + 1),
                     -BASALT_EINVAL);
    assert_int_equal(HOST_CALL(v, TRACE, BASALT_HANDLE_MACHINE, BIT(BASALT_TRACE_IRQ)), 0);
    trace(BASALT_TRACE_EXIT + BASALT_EXIT_CPUID, 1, 0, 1, 0);
    trace(BASALT_TRACE_IRQ, 1, 2, 3, 4);
    assert_int_equal(HOST_CALL(v, TRACE, BASALT_HANDLE_MACHINE, BIT(BASALT_TRACE_EXITS)),
                     BIT(BASALT_TRACE_IRQ));
    trace(BASALT_TRACE_EXIT + BASALT_EXIT_CPUID, 1, 0, 1, 0);
    trace(BASALT_TRACE_IRQ, 0, 0, 1, 0);
    assert_int_equal(HOST_CALL(v, TRACE, BASALT_HANDLE_MACHINE, 0), BIT(BASALT_TRACE_EXITS));
    assert_int_equal(t->head, 2);
    assert_int_equal(t->records[0].event, BASALT_TRACE_IRQ);
    assert_int_equal(t->records[0].domain, 1);
    assert_int_equal(t->records[0].vcpu, 2);
    assert_int_equal(t->records[0].args[0], 3);
    assert_int_equal(t->records[0].args[1], 4);
    assert_int_equal(t->records[1].event, BASALT_TRACE_EXIT + BASALT_EXIT_CPUID);
    assert_int_equal(t->records[1].sequence, 1);
}

static u64 make(u64 quota) {
    i64 handle = HOST_CALL(dom0->vcpus[0], DOMAIN_CREATE, BASALT_HANDLE_MACHINE, quota);

    assert_true(handle > 1);
    return (u64)handle;
}

static void test_bad_quotas_and_shares_of_time(void **state unused) {
    struct vcpu *v = dom0->vcpus[0];

    for (u64 quota = 0; quota < 2 * PAGE_SIZE; quota += 1000)
        assert_true(HOST_CALL(v, DOMAIN_CREATE, BASALT_HANDLE_MACHINE, quota) < 0);
    assert_int_equal(population(), 0);
    u64 handle = make(MIB);
    assert_int_equal(HOST_CALL(v, DOMAIN_SCHEDULE, handle, 0, 0), -BASALT_EINVAL);
    assert_int_equal(HOST_CALL(v, DOMAIN_SCHEDULE, handle, 10001, 0), -BASALT_EINVAL);
    assert_int_equal(HOST_CALL(v, DOMAIN_SCHEDULE, handle, BIT(32) | 1, 0), -BASALT_EINVAL);
    assert_int_equal(HOST_CALL(v, DOMAIN_SCHEDULE, handle, 1, 6401), -BASALT_EINVAL);
    assert_int_equal(HOST_CALL(v, DOMAIN_SCHEDULE, handle, 1, BIT(32)), -BASALT_EINVAL);
    assert_int_equal(HOST_CALL(v, DOMAIN_SCHEDULE, handle, 10000, 6400), 0);
    const struct domain *d = handle_find(dom0, handle)->target;
    assert_int_equal(d->info.weight, 10000);
    assert_int_equal(d->info.cap, 6400);
}

// A guest has no right over anybody, itself included, but what the table allows it.
static void test_a_guest_can_do_little(void **state unused) {
    static const u64 allowed[] = {
        BASALT_HC_VERSION,        BASALT_HC_YIELD,      BASALT_HC_DOMAIN_INFO,
        BASALT_HC_MEMORY_RELEASE, BASALT_HC_VCPU_STATS, BASALT_HC_HANDLE_INFO,
    };
    u64 handle = make(4 * MIB);
    struct domain *d = handle_find(dom0, (u32)handle)->target;

    assert_int_equal(HOST_CALL(dom0->vcpus[0], MEMORY_POPULATE, handle, 0, 16), 16);
    assert_int_equal(HOST_CALL(dom0->vcpus[0], VCPU_CREATE, handle, 0), 0);
    struct vcpu *v = d->vcpus[0];
    host_load(v);
    host_set_mode(v, MODE_64);
    for (u64 number = BASALT_HC_BASE; number < BASALT_HC_END; number++)
        for (u64 handle_argument = 0; handle_argument < 3; handle_argument++) {
            u64 args[6] = {handle_argument,
                           handle_argument || number != BASALT_HC_VCPU_STATS ? 0x1000 : 0,
                           0x1000,
                           1,
                           1,
                           1};
            bool ok = false;
            if (number == BASALT_HC_MEMORY_RELEASE)
                args[1] = 0xf000, args[2] = 1;
            i64 result = host_call(v, number, args, NULL);
            for (unsigned i = 0; i < ARRAY_SIZE(allowed); i++)
                ok |= allowed[i] == number;
            if (!ok || (handle_argument && number >= BASALT_HC_DOMAIN_INFO &&
                        number != BASALT_HC_HANDLE_INFO))
                assert_true(result < 0);
            else if (number != BASALT_HC_HANDLE_INFO)
                assert_true(result >= 0);
        }
    host_load(dom0->vcpus[0]);
}

// An ended domain is looked at and destroyed, and nothing else.
static void test_an_ended_domain(void **state unused) {
    struct vcpu *v = dom0->vcpus[0];
    u64 handle = make(4 * MIB), other = make(4 * MIB);

    assert_int_equal(HOST_CALL(v, VCPU_CREATE, handle, 0), 0);
    assert_int_equal(HOST_CALL(v, DOMAIN_CONTROL, handle, BASALT_OP_END), 0);
    assert_true(HOST_CALL(v, MEMORY_POPULATE, handle, 0, 1) < 0);
    assert_true(HOST_CALL(v, VCPU_CREATE, handle, 1) < 0);
    assert_true(HOST_CALL(v, DOMAIN_CONTROL, handle, BASALT_OP_RESUME) < 0);
    assert_true(HOST_CALL(v, SHARE_GRANT, handle, 0, 1, 1, other) < 0);
    assert_true(HOST_CALL(v, HANDLE_DELEGATE, handle, BASALT_RIGHT_IO, other) < 0);
    assert_int_equal(HOST_CALL(v, DOMAIN_INFO, handle, ram), 0);
    assert_int_equal(HOST_CALL(v, VCPU_GET, handle, 0, ram), 0);
    i64 left;
    while ((left = HOST_CALL(v, DOMAIN_DESTROY, handle)) == -BASALT_EINTR)
        ;
    assert_int_equal(left, 0);
    assert_int_equal(HOST_CALL(v, DOMAIN_INFO, handle, ram), -BASALT_EBADF);
}

static void test_memory_info(void **state unused) {
    struct vcpu *v = dom0->vcpus[0];

    u64 handle = make(4 * MIB);
    assert_int_equal(HOST_CALL(v, MEMORY_POPULATE, handle, 0, 512), 512);
    u64 free = (u64)HOST_CALL(v, MEMORY_INFO, BASALT_HANDLE_MACHINE);
    u64 charged = v->cpu.gprs[BASALT_RDX];
    assert_true(free == frames_free() && charged == domains_charged());
    // What a domain takes is missing from what is free; its tables come from the kernel's pool.
    assert_int_equal(HOST_CALL(v, MEMORY_POPULATE, handle, 0x40000000, 3), 3);
    assert_int_equal(HOST_CALL(v, MEMORY_INFO, BASALT_HANDLE_MACHINE), free - 3 * PAGE_SIZE);
    assert_true(v->cpu.gprs[BASALT_RDX] >= charged + 3 * PAGE_SIZE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_dispatch),
        TEST(test_trace),
        TEST(test_then_block),
        TEST(test_bad_quotas_and_shares_of_time),
        TEST(test_a_guest_can_do_little),
        TEST(test_an_ended_domain),
        TEST(test_memory_info),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
