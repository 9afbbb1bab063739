// SPDX-License-Identifier: Apache-2.0
//
// Instructions that the kernel does not carry out are requests of their own, whose server says what they did: what it says is
// checked, and without a server the domain ends, or the MSR faults.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/trace.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/emulate.h"

static struct basalt_completion completion(void) {
    struct basalt_completion c = {.rflags = F_ZF | F_OF | DF, .length = 4};

    for (unsigned i = 0; i < 16; i++)
        c.gprs[i] = 0x1000 + i;
    return c;
}

// LOCK XADD [RBX], EAX
static const struct basalt_request *send_instruction(void) {
    const struct basalt_request *r = &d->servers[0].page->slots[0];

    v->cpu.rflags = 2 | BIT(9) | F_CF;
    emulate_one("\xf0\x0f\xc1\x03", 4, DEVICE_GPA + 0x10, true);
    assert_int_equal(v->io.stage, IO_INSTRUCTION);
    assert_int_equal(v->blocked, BLOCK_REQUEST);
    assert_int_equal(r->space, BASALT_SPACE_INSTRUCTION);
    assert_true(r->address == DEVICE_GPA + 0x10 && r->data == BASALT_EXIT_MEMORY && r->write);
    assert_int_equal(r->bytes, 0);
    assert_true(v->cpu.rip == CODE);
    return r;
}

static void route_instructions(void) {
    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_INSTRUCTION, 0, BIT(48) - 1), 0);
    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_MEMORY_DOORBELL + 1, 0, 1),
                     -BASALT_EINVAL);
}

static void complete(const struct basalt_completion *c) {
    struct vcpu *waiting = request_find(d, server, 0, send_instruction()->number);

    assert_ptr_equal(waiting, v);
    assert_null(request_find(d, d, 0, v->io.number));
    assert_null(request_find(d, server, 0, v->io.number - 1));
    assert_int_equal(vcpu_complete(v, c), 0);
    assert_int_equal(v->blocked, 0);
    assert_int_equal(v->io.stage, IO_IDLE);
    assert_memory_equal(v->cpu.gprs, c->gprs, sizeof(c->gprs));
    assert_true(v->cpu.dirty & CPU_DIRTY_RSP);
}

static void test_instruction_done(void **state unused) {
    struct basalt_completion c = completion();

    route_instructions();
    complete(&c);
    assert_true(v->cpu.rip == CODE + 4);
    assert_true(v->cpu.rflags == (2 | BIT(9) | F_ZF | F_OF)); // nothing but status flags
    assert_false(v->cpu.queued.valid);
    c.length = 0; // a string that goes on
    cpu->no_interrupt = true;
    complete(&c);
    assert_true(v->cpu.rip == CODE && cpu->no_interrupt);
    c.action = BASALT_COMPLETE_LMSW;
    c.operand = 0xffff;
    c.length = 3;
    complete(&c);
    assert_true(v->cpu.rip == CODE + 3);
    assert_true((v->cpu.cr0_guest & 0xf) == 0xf);
}

static void test_instruction_faults(void **state unused) {
    static const u8 vectors[] = {6, 12, 13, 14};
    struct basalt_completion c = completion();

    route_instructions();
    c.action = BASALT_COMPLETE_EXCEPTION;
    c.length = 0;
    c.error = 7;
    for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++) {
        c.vector = vectors[i];
        c.operand = 0x123000 + i;
        complete(&c);
        assert_true(v->cpu.queued.valid && v->cpu.queued.vector == vectors[i]);
        assert_int_equal(v->cpu.queued.has_error, vectors[i] != 6);
        assert_true(v->cpu.rip == CODE);
        assert_int_equal(backend->read(&v->cpu, REG_CR2) == c.operand, vectors[i] == 14);
        v->cpu.queued.valid = false;
    }
}

// What the server says is checked before anything changes.
static void test_instruction_nonsense(void **state unused) {
    struct basalt_completion c = completion();

    route_instructions();
    send_instruction();
    struct cpu_state before = v->cpu;
    c.length = 16;
    assert_int_equal(vcpu_complete(v, &c), -BASALT_EINVAL);
    c.length = 4;
    c.action = BASALT_COMPLETE_LMSW + 1;
    assert_int_equal(vcpu_complete(v, &c), -BASALT_EINVAL);
    c.action = BASALT_COMPLETE_EXCEPTION;
    for (unsigned vector = 0; vector < 256; vector++) {
        c.vector = (u8)vector;
        if (vector != 6 && (vector < 12 || vector > 14))
            assert_int_equal(vcpu_complete(v, &c), -BASALT_EINVAL);
    }
    assert_memory_equal(&before, &v->cpu, sizeof(before));
    assert_int_equal(v->blocked, BLOCK_REQUEST);
    assert_int_equal(v->io.stage, IO_INSTRUCTION);
}

static void test_instruction_answers(void **state unused) {
    route_instructions();
    const struct basalt_request *r = send_instruction();
    assert_int_equal(request_answer(d, server, 0, r->number, BASALT_INSTRUCTION_AGAIN), 0);
    vcpu_answered(v);
    assert_int_equal(v->io.stage, IO_IDLE);
    assert_true(v->cpu.rip == CODE && d->info.status == BASALT_STATUS_RUNNING);
    send_instruction();
    assert_int_equal(request_answer(d, server, 0, r->number, BASALT_INSTRUCTION_CANNOT), 0);
    vcpu_answered(v);
    assert_int_equal(d->info.status, BASALT_STATUS_ENDED);
    assert_int_equal(d->info.end_reason, BASALT_END_EMULATION);
    assert_true(d->info.end_detail == DEVICE_GPA + 0x10);
}

static void test_string_port_is_for_the_server(void **state unused) {
    const struct basalt_request *r = &d->servers[0].page->slots[0];
    struct exit e = {.kind = BASALT_EXIT_IO,
                     .access = 2 << EXIT_IO_BYTES | EXIT_IO_STRING | EXIT_IO_IN,
                     .port = 0x170};

    route_instructions();
    load_code((const u8 *)"\xf3\x66\x6d", 3);
    handle_port(v, e);
    assert_true(r->space == BASALT_SPACE_INSTRUCTION && r->address == 0x170 && r->bytes == 2);
    assert_true(r->data == BASALT_EXIT_IO && !r->write);
}

static void test_msrs_are_for_the_server(void **state unused) {
    const struct basalt_request *r = &d->servers[0].page->slots[0];
    struct exit e = {.kind = BASALT_EXIT_WRMSR, .insn_length = 3};
    struct basalt_completion c = completion();

    route_instructions();
    v->cpu.gprs[BASALT_RCX] = 0xffffffff4b564d00; // whose upper half does not count
    v->cpu.rip = CODE;
    handle_wrmsr(v, e);
    assert_int_equal(v->io.stage, IO_INSTRUCTION);
    assert_int_equal(v->blocked, BLOCK_REQUEST);
    assert_true(r->space == BASALT_SPACE_INSTRUCTION && r->address == 0x4b564d00 && r->bytes == 3);
    assert_true(r->data == BASALT_EXIT_WRMSR && v->cpu.rip == CODE && !v->cpu.queued.valid);
    c.length = 3;
    assert_int_equal(vcpu_complete(v, &c), 0);
    assert_true(v->cpu.rip == CODE + 3 && !v->blocked);
    e.kind = BASALT_EXIT_RDMSR;
    handle_rdmsr(v, e);
    assert_true(r->data == BASALT_EXIT_RDMSR && v->blocked == BLOCK_REQUEST);
    v->blocked = 0;
    v->io.stage = IO_IDLE;
    v->cpu.gprs[BASALT_RCX] = MSR_EFER; // illegal values are the server's to refuse, too
    v->cpu.gprs[BASALT_RAX] = ~0ull;
    e.kind = BASALT_EXIT_WRMSR;
    handle_wrmsr(v, e);
    assert_true(r->address == MSR_EFER && v->blocked == BLOCK_REQUEST && !v->cpu.queued.valid);
}

// Where nobody carries out instructions, an MSR of nobody's is #GP and a line of a bounded number.
static void test_msrs_without_a_server(void **state unused) {
    struct exit e = {.insn_length = 2};
    unsigned lines = host_log_lines;

    v->cpu.gprs[BASALT_RCX] = 0x12345;
    v->cpu.gprs[BASALT_RAX] = 7;
    v->cpu.rip = CODE;
    for (unsigned n = 0; n < 100; n++) {
        v->cpu.queued.valid = false;
        e.kind = n % 2 ? BASALT_EXIT_WRMSR : BASALT_EXIT_RDMSR;
        (n % 2 ? handle_wrmsr : handle_rdmsr)(v, e);
        assert_true(v->cpu.queued.valid && v->cpu.queued.type == EVENT_EXCEPTION);
        assert_true(v->cpu.queued.vector == 13 && v->cpu.queued.has_error && !v->cpu.queued.error);
        assert_int_equal(host_log_lines, lines + MIN(n + 1, 64u));
    }
    assert_true(v->cpu.rip == CODE && v->cpu.gprs[BASALT_RAX] == 7);
    assert_int_equal(v->io.stage, IO_IDLE);
    assert_int_equal(v->blocked, 0);
    assert_int_equal(d->info.status, BASALT_STATUS_RUNNING);
}

static void test_apic_for_the_server(void **state unused) {
    u64 value = 0x1ff;

    route_instructions();
    send_instruction();
    assert_int_equal(vcpu_apic_access(v, DEVICE_GPA, 4, false, &value), -BASALT_EINVAL);
    assert_int_equal(vcpu_apic_access(v, 0xfee01000, 4, true, &value), -BASALT_EINVAL);
    assert_int_equal(vcpu_apic_access(v, 0xfee000f0, 9, true, &value), -BASALT_EINVAL);
    assert_int_equal(vcpu_apic_access(v, 0xfee000f0, 4, true, &value), 0);
    value = 0;
    assert_int_equal(vcpu_apic_access(v, 0xfee000f0, 4, false, &value), 0);
    assert_true(value == 0x1ff);
    v->blocked = 0;
    v->io.stage = IO_IDLE;
    assert_int_equal(guest_msi(d, 0xfee00000, 0xc052), 0);
    take_interrupt(0x52);
    u64 requests = v->stats.requests;
    assert_int_equal(vcpu_apic_access(v, 0xfee000b0, 4, true, &value), 0x52);
    assert_int_equal(vcpu_apic_access(v, 0xfee000b0, 4, true, &value), 0);
    assert_true(v->stats.requests == requests); // the server tells the IOAPIC itself
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_instruction_done),
        TEST(test_instruction_faults),
        TEST(test_instruction_nonsense),
        TEST(test_instruction_answers),
        TEST(test_string_port_is_for_the_server),
        TEST(test_msrs_are_for_the_server),
        TEST(test_msrs_without_a_server),
        TEST(test_apic_for_the_server),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
