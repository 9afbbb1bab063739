// SPDX-License-Identifier: Apache-2.0
//
// Plain moves on device memory: carried out with a request server that answers late, and executed by the real processor
// from the same bytes, with the same registers, on RAM at the same address; registers and memory must agree, and the
// device must have seen each access once, whole. Plain port I/O. (Other instructions:
// test_instruction_request.c)
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/trace.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/emulate.h"

#define native_random host_random
#include "tests/unit/native_insn.h"

static void compare(const struct form *f, struct sample *s) {
    struct native n = s->registers;

    for (unsigned i = 0; i < sizeof(device); i++)
        device[i] = (u8)host_random();
    if (f->opcode_bytes == 2 && f->opcode[1] >> 1 == 0x58 &&
        host_random() % 2) // CMPXCHG that succeeds
        memcpy(device + (s->target - DEVICE), n.gprs, s->size);
    memcpy(area, device, sizeof(device));
    load_code(s->bytes, s->length);
    memcpy(v->cpu.gprs, n.gprs, sizeof(n.gprs));
    v->cpu.rflags = n.rflags;
    reads = writes = 0;
    exit_at(s->target, f->access & W);
    finish();
    execute_natively(&n, s->bytes, s->length);
    if (d->info.status == BASALT_STATUS_ENDED)
        fail_with(f, s, "the domain ended", 0, 0);
    if (v->cpu.queued.valid)
        fail_with(f, s, "an exception is queued", v->cpu.queued.vector, 0);
    for (unsigned i = 0; i < 16; i++)
        if (i != BASALT_RSP && v->cpu.gprs[i] != n.gprs[i])
            fail_with(f, s, "register", v->cpu.gprs[i], n.gprs[i]);
    if ((v->cpu.rflags ^ n.rflags) & (s->flags | DF))
        fail_with(f, s, "flags", v->cpu.rflags, n.rflags);
    if (v->cpu.rflags != s->registers.rflags && !(v->cpu.dirty & CPU_DIRTY_RFLAGS))
        fail_with(f, s, "flags changed, but not marked", v->cpu.rflags, 0);
    if (memcmp(device, area, sizeof(device)))
        fail_with(f, s, "memory", 0, 0);
    if (v->cpu.rip != CODE + s->length)
        fail_with(f, s, "RIP", v->cpu.rip, CODE + s->length);
    if (reads != (f->access & R) || writes != (f->access & W) / 2)
        fail_with(f, s, "accesses", reads << 4 | writes, 0);
}

// What the kernel carries out itself. AH, CH, DH and BH (4 to 7 without REX) are left to dom0.
static bool is_plain(const struct form *f, const struct sample *s) {
    unsigned opcode = insn_prefixes(s->bytes, s->length, MODE_64);
    bool rex = opcode && (s->bytes[opcode - 1] & 0xf0) == 0x40;

    return !strncmp(f->name, "mov ", 4) &&
           (f->size != 1 || f->extension >= 0 || rex || !(s->bytes[opcode + 1] & 0x20));
}

static void test_against_the_processor(void **state unused) {
    for (unsigned n = 0; n < ARRAY_SIZE(forms); n++)
        for (unsigned k = 0; k < 150; k++) {
            struct sample s = make_sample(&forms[n]);
            if (!s.crosses && is_plain(&forms[n], &s))
                compare(&forms[n], &s);
        }
}

// ---- Around it ----

static void test_nobody_answers(void **state unused) {
    v->cpu.gprs[BASALT_RAX] = 0x1122334455667788;
    emulate_one("\x8a\x03", 2, 0xe0000000, false); // MOV AL, [RBX]
    assert_true(v->cpu.gprs[BASALT_RAX] == 0x11223344556677ff);
    emulate_one("\x8b\x03", 2, 0xe0000000, false);
    assert_true(v->cpu.gprs[BASALT_RAX] == 0xffffffff);
    emulate_one("\x89\x03", 2, 0xe0000000, true);
    assert_true(v->cpu.rip == CODE + 2);
    assert_int_equal(v->io.stage, IO_IDLE);
    assert_int_equal(v->blocked, 0);
}

static void test_doorbells(void **state unused) {
    assert_int_equal(request_route(d, server, port, BASALT_SPACE_MEMORY_DOORBELL, DEVICE_GPA + 0x50,
                                   DEVICE_GPA + 0x51),
                     0);
    server->events->pending[0] = 0;
    emulate_one("\x66\x89\x03", 3, DEVICE_GPA + 0x50, true); // MOV [RBX], AX
    assert_int_equal(v->io.stage, IO_IDLE);
    assert_true(v->cpu.rip == CODE + 3);
    assert_true(server->events->pending[0] & BIT(port));
    emulate_one("\x66\x8b\x03", 3, DEVICE_GPA + 0x50, false); // a read is a request
    assert_int_not_equal(v->io.stage, IO_IDLE);
    finish();
    emulate_one("\x89\x03", 2, DEVICE_GPA + 0x50, true); // so is a write of another size
    assert_int_not_equal(v->io.stage, IO_IDLE);
    finish();
}

static void test_local_apic(void **state unused) {
    v->cpu.gprs[BASALT_RAX] = 0x1ff;
    emulate_one("\x89\x03", 2, 0xfee000f0, true); // spurious vector register
    assert_int_equal(v->io.stage, IO_IDLE);
    v->cpu.gprs[BASALT_RAX] = 0;
    emulate_one("\x8b\x03", 2, 0xfee000f0, false);
    assert_true(v->cpu.gprs[BASALT_RAX] == 0x1ff);
    assert_int_equal(v->stats.requests, 0);
}

// The EOI of a level-triggered interrupt is a write to the IOAPIC's EOI register, if someone claims that.
static void test_end_of_level_interrupt(void **state unused) {
    const struct basalt_request *r = &d->servers[0].page->slots[0];

    vlapic_write(&v->lapic, 0xf0, 4, 0x1ff, 0);
    assert_int_equal(guest_msi(d, 0xfee00000, 0xc041), 0);
    take_interrupt(0x41);
    emulate_one("\x89\x03", 2, 0xfee000b0, true); // nobody there
    assert_int_equal(v->stats.requests, 0);
    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_MEMORY, 0xfec00000, 0xfec00fff), 0);
    for (unsigned by_msr = 0; by_msr < 2; by_msr++) {
        assert_int_equal(guest_msi(d, 0xfee00000, 0xc052), 0);
        take_interrupt(0x52);
        if (by_msr) {
            struct vlapic_effect effect = vlapic_eoi(&v->lapic);
            vcpu_apic_effect(v, &effect);
        } else {
            emulate_one("\x89\x03", 2, 0xfee000b0, true);
            assert_true(v->cpu.rip == CODE + 2);
        }
        assert_int_equal(v->io.stage, IO_IDLE);
        assert_int_equal(v->blocked, BLOCK_REQUEST);
        assert_true(r->address == 0xfec00040 && r->data == 0x52 && r->write && r->bytes == 4);
        assert_int_equal(request_answer(d, server, 0, r->number, 0), 0);
        assert_int_equal(v->blocked, 0);
    }
    assert_int_equal(guest_msi(d, 0xfee00000, 0x53), 0); // an edge: no request
    take_interrupt(0x53);
    emulate_one("\x89\x03", 2, 0xfee000b0, true);
    assert_int_equal(v->stats.requests, 2);
}

// The server goes while the guest waits, and is there again before the guest runs: the same request comes once more, before an
// interrupt could make another. Without it nothing waits.
static void next_server(bool comes) {
    u64 page;

    assert_int_equal(v->blocked, BLOCK_REQUEST);
    assert_int_equal(domain_control(d, BASALT_OP_PAUSE), 0);
    requests_forget(d, server);
    if (comes) {
        assert_int_equal(request_serve(d, server, port, &page), 0);
        assert_int_equal(request_route(d, server, 0, BASALT_SPACE_MEMORY, 0, BIT(46) - 1), 0);
        assert_int_equal(request_route(d, server, 0, BASALT_SPACE_INSTRUCTION, 0, BIT(46) - 1), 0);
    }
    assert_int_equal(domain_control(d, BASALT_OP_RESUME), 0);
    (void)!vcpu_prepare(v);
    assert_int_equal(v->blocked, comes ? BLOCK_REQUEST : 0);
}

static void test_another_server(void **state unused) {
    writes = 0;
    v->cpu.gprs[BASALT_RAX] = 0x1234;
    emulate_one("\x89\x03", 2, DEVICE_GPA + 8, true);
    u64 number = d->servers[0].page->slots[0].number;
    vlapic_write(&v->lapic, 0xf0, 4, 0x1ff, 0);
    assert_int_equal(guest_msi(d, 0xfee00000, 0x52), 0);
    next_server(true);
    const struct basalt_request *r = &d->servers[0].page->slots[0];
    assert_true(r->number == number && r->address == DEVICE_GPA + 8 && r->data == 0x1234);
    assert_true(r->write && r->bytes == 4 && v->cpu.rip == CODE);
    answer();
    (void)!vcpu_prepare(v);
    assert_true(v->cpu.rip == CODE + 2 && v->io.stage == IO_IDLE && writes == 1);
    v->cpu.queued.valid = false;
    emulate_one("\x8b\x03", 2, DEVICE_GPA + 8, false);
    next_server(false);
    assert_true(v->cpu.rip == CODE && v->io.stage == IO_IDLE);
    handle_device_memory(v, (struct exit){.gpa = GPA(DEVICE_GPA + 8)}); // as the guest tries again
    assert_true(v->cpu.rip == CODE + 2 && v->cpu.gprs[BASALT_RAX] == 0xffffffff);
}

static void test_another_server_for_what_ends(void **state unused) {
    vlapic_write(&v->lapic, 0xf0, 4, 0x1ff, 0);
    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_MEMORY, 0xfec00000, 0xfec00fff), 0);
    assert_int_equal(guest_msi(d, 0xfee00000, 0xc052), 0);
    take_interrupt(0x52);
    emulate_one("\x89\x03", 2, 0xfee000b0, true);
    next_server(true);
    const struct basalt_request *r = &d->servers[0].page->slots[0];
    assert_true(r->number == 1 && r->address == 0xfec00040 && r->data == 0x52);
    assert_true(r->write && r->bytes == 4 && v->cpu.rip == CODE + 2);
    assert_int_equal(request_answer(d, server, 0, 1, 0), 0);
    (void)!vcpu_prepare(v);
    assert_true(v->cpu.rip == CODE + 2 && !v->blocked && v->io.stage == IO_IDLE);
}

static void test_another_server_for_an_instruction(void **state unused) {
    struct basalt_completion c = {.length = 4};

    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_INSTRUCTION, 0, BIT(46) - 1), 0);
    emulate_one("\xf0\x0f\xc1\x03", 4, DEVICE_GPA + 0x10, true); // LOCK XADD [RBX], EAX
    next_server(true);
    const struct basalt_request *r = &d->servers[0].page->slots[0];
    assert_true(r->number == 1 && r->space == BASALT_SPACE_INSTRUCTION && r->write);
    assert_true(r->address == DEVICE_GPA + 0x10 && !r->bytes && v->io.stage == IO_INSTRUCTION);
    assert_int_equal(vcpu_complete(v, &c), 0);
    assert_true(v->cpu.rip == CODE + 4 && !v->blocked);
    emulate_one("\xf0\x0f\xc1\x03", 4, DEVICE_GPA + 0x10, true);
    requests_forget(d, server);
    vcpu_init_ipi(v); // nothing is left of it
    vcpu_startup_ipi(v, 1);
    (void)!vcpu_prepare(v);
    assert_true(!v->blocked && v->io.stage == IO_IDLE);
    assert_int_equal(d->info.status, BASALT_STATUS_RUNNING);
}

static void test_messages(void **state unused) {
    vlapic_write(&v->lapic, 0xf0, 4, 0x1ff, 0);
    assert_int_equal(guest_msi(d, 0xfee05000, 0x4041), 0); // for another
    assert_int_equal(vlapic_pending(&v->lapic), -1);
    assert_int_equal(guest_msi(d, 0xfeeff00c, 0xc1ff), 0); // broadcast, lowest priority, level
    assert_int_equal(vlapic_pending(&v->lapic), 0xff);
    assert_true(*vlapic_reg(&v->lapic, LAPIC_TMR + 7) == BIT(31));
    assert_int_equal(guest_msi(d, 0xfed00000, 0x41), -BASALT_EINVAL);
    assert_int_equal(guest_msi(d, 0xfef00000, 0x41), -BASALT_EINVAL);
    assert_int_equal(guest_msi(d, 0x1fee00000, 0x41), -BASALT_EINVAL);
    assert_int_equal(guest_msi(d, 0xfee00000, BIT(32) | 0x41), -BASALT_EINVAL);
    for (u32 mode = 0; mode < 8; mode++)
        assert_int_equal(guest_msi(d, 0xfee05000, mode << 8 | 0x40),
                         mode == APIC_RESERVED || mode == APIC_SIPI ? -BASALT_EINVAL : 0);
}

static void test_single_step(void **state unused) {
    v->cpu.rflags = 2 | BIT(8);
    emulate_one("\x8b\x03", 2, 0xe0000000, false);
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 1);
    assert_true(backend->read(&v->cpu, REG_DR6) & BIT(14));
    assert_true(v->cpu.rip == CODE + 2);
}

// The shadow of STI ends with the emulated instruction.
static void test_interrupt_shadow(void **state unused) {
    cpu->no_interrupt = true;
    emulate_one("\x8b\x03", 2, 0xe0000000, false);
    assert_false(cpu->no_interrupt);
}

static void expect_end(const char *bytes, unsigned length, u64 gpa) {
    void *state = NULL;

    assert_int_equal(begin(&state), 0);
    emulate_one(bytes, length, gpa, true);
    assert_int_equal(d->info.status, BASALT_STATUS_ENDED);
    assert_int_equal(d->info.end_reason, BASALT_END_EMULATION);
    assert_true(d->info.end_detail == gpa);
    assert_true(d->info.end_insn_length >= length &&
                !memcmp(d->info.end_insn, bytes, length)); // for the report
    assert_int_equal(v->io.stage, IO_IDLE);
    assert_true(v->cpu.rip == CODE);
    assert_int_equal(end(&state), 0);
}

static void test_what_cannot_be_emulated(void **state unused) {
    expect_end("\xff\x33", 2, DEVICE_GPA);                 // PUSH [RBX]
    expect_end("\x8f\x03", 2, DEVICE_GPA);                 // POP [RBX]
    expect_end("\x0f\x29\x03", 3, DEVICE_GPA);             // MOVAPS [RBX], XMM0
    expect_end("\x0f\xc7\x0b", 3, DEVICE_GPA);             // CMPXCHG8B [RBX]
    expect_end("\xdd\x03", 2, DEVICE_GPA);                 // FLD [RBX]
    expect_end("\xa6", 1, DEVICE_GPA);                     // CMPSB
    expect_end("\xff\x13", 2, DEVICE_GPA);                 // CALL [RBX]
    expect_end("\x89\x03", 2, DEVICE_GPA + PAGE_SIZE - 2); // across two pages
    expect_end("\x0f\x01\xc1", 3, DEVICE_GPA);             // VMCALL: no memory operand at all
    expect_end("\x90", 1, DEVICE_GPA);
}

static void test_fetch_and_delivery_from_a_device(void **state) {
    struct exit kinds[] = {{.fetch = true}, {.in_walk = true}, {.kind = 0}};

    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        begin(state);
        load_code((const u8 *)"\x90", 1);
        kinds[i].gpa = GPA(DEVICE_GPA);
        v->cpu.queued.valid = i == 2; // being delivered
        handle_device_memory(v, kinds[i]);
        assert_int_equal(d->info.status, BASALT_STATUS_ENDED);
        assert_int_equal(end(state), 0);
    }
}

// ---- Ports ----

static u64 port_values[64];
static unsigned port_count;

// A device that gives what it is asked for from a list, and remembers what it is given.
static void finish_ports(void) {
    for (unsigned n = 0; v->io.stage; n++) {
        const struct basalt_request *r = &d->servers[0].page->slots[0];
        struct cpu_state before = v->cpu;
        assert_true(n < 2);
        assert_int_equal(r->space, BASALT_SPACE_IO);
        assert_int_equal(r->address, 0x170);
        if (r->write)
            port_values[port_count] = r->data;
        assert_int_equal(
            request_answer(d, server, 0, r->number, r->write ? ~0ull : port_values[port_count]), 0);
        port_count++;
        assert_memory_equal(&before, &v->cpu, sizeof(before));
        vcpu_answered(v);
    }
}

static void test_plain_ports(void **state unused) {
    static const u64 want[] = {0x1122334455667788 & ~0xffull, 0x1122334455660000, 0};

    for (unsigned n = 0; n < 6; n++) {
        unsigned bytes = 1u << n % 3;
        bool write = n >= 3;
        struct exit e = {.kind = BASALT_EXIT_IO,
                         .access = (u16)(bytes << EXIT_IO_BYTES | (write ? 0 : EXIT_IO_IN)),
                         .port = 0x170,
                         .insn_length = 1};
        load_code((const u8 *)"\xec", 1);
        v->cpu.gprs[BASALT_RAX] = 0x1122334455667788;
        port_count = 0;
        port_values[0] = 0xa5a5a5a5a5a5a5a5;
        handle_port(v, e);
        finish_ports();
        assert_int_equal(port_count, 1);
        assert_true(v->cpu.rip == CODE + 1);
        if (write) {
            assert_true(port_values[0] == (0x1122334455667788 & insn_mask(bytes)));
            assert_true(v->cpu.gprs[BASALT_RAX] == 0x1122334455667788);
        } else {
            assert_true(v->cpu.gprs[BASALT_RAX] ==
                        (want[n] | (0xa5a5a5a5a5a5a5a5 & insn_mask(bytes))));
        }
    }
    // A port that nobody has reads as ones.
    struct exit e = {.kind = BASALT_EXIT_IO,
                     .access = 2 << EXIT_IO_BYTES | EXIT_IO_IN,
                     .port = 0x80,
                     .insn_length = 3};
    load_code((const u8 *)"\x66\xe5\x80", 3);
    handle_port(v, e);
    assert_true(v->cpu.rip == CODE + 3);
    assert_int_equal(v->cpu.gprs[BASALT_RAX] & 0xffff, 0xffff);
    assert_int_equal(v->io.stage, IO_IDLE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_against_the_processor),
        TEST(test_absolute_address),
        TEST(test_nobody_answers),
        TEST(test_doorbells),
        TEST(test_local_apic),
        TEST(test_end_of_level_interrupt),
        TEST(test_another_server),
        TEST(test_another_server_for_what_ends),
        TEST(test_another_server_for_an_instruction),
        TEST(test_messages),
        TEST(test_single_step),
        TEST(test_interrupt_shadow),
        cmocka_unit_test(test_what_cannot_be_emulated),
        cmocka_unit_test(test_fetch_and_delivery_from_a_device),
        TEST(test_plain_ports),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
