// SPDX-License-Identifier: Apache-2.0
//
// Virtual processors as others see them: making and ending them, their tags, the state that is set and read from outside
// and what of it is refused, INIT and the start-up IPI.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/trace.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/kernel_scene.h"

#include <basalt/error.h>

static void test_vcpus(void **state unused) {
    struct domain *d = host_domain(4 * MIB);

    for (unsigned i = 0; i < BASALT_VCPUS_MAX; i++) {
        assert_int_equal(vcpu_create(d, i), 0);
        assert_int_equal(vcpu_create(d, i), -BASALT_EEXIST);
        for (unsigned k = 0; k < i; k++)
            assert_int_not_equal(d->vcpus[k]->cpu.tag, d->vcpus[i]->cpu.tag);
        assert_int_not_equal(d->vcpus[i]->cpu.tag, 0);
    }
    check_charges();
    host_load(d->vcpus[3]);
    host_destroy(d);
    assert_null(this_queue()->loaded);
    host_assert_same(empty);
}

static void test_tags_come_back(void **state unused) {
    struct domain *d = host_domain(4 * MIB);

    for (unsigned i = 0; i < 70000; i++) {
        assert_int_equal(vcpu_create(d, 0), 0);
        vcpu_destroy(d->vcpus[0]);
    }
    assert_int_equal(vcpu_create(d, 0), 0);
    host_destroy(d);
    host_assert_same(empty);
}

// RFLAGS: reserved bits, and virtual-8086 mode where there is none.
static void check_flags(struct vcpu *v, const struct basalt_vcpu_state *legal) {
    struct basalt_vcpu_state s = *legal;

    for (unsigned bit = 0; bit < 64; bit++) {
        bool reserved = bit == 3 || bit == 5 || bit == 15 || bit > 21;
        s.rflags = BIT(bit);
        assert_int_equal(vcpu_set_state(v, &s), reserved ? -BASALT_EINVAL : 0);
    }
    s.rflags = RFLAGS_VM;
    s.cr0 = CR0_ET;
    assert_int_equal(vcpu_set_state(v, &s), -BASALT_EINVAL);
    s.cr0 = CR0_PG | CR0_PE | CR0_ET;
    assert_int_equal(vcpu_set_state(v, &s), 0);
    s.cr4 = CR4_PAE;
    s.efer = EFER_LME;
    assert_int_equal(vcpu_set_state(v, &s), -BASALT_EINVAL);
    assert_int_equal(vcpu_set_state(v, legal), 0);
}

static void test_vcpu_state(void **state unused) {
    struct domain *d = host_domain(4 * MIB);
    struct basalt_vcpu_state in = {.rip = 0x100000,
                                   .rflags = 2,
                                   .cr0 = CR0_PE | CR0_ET,
                                   .dr7 = 0x400,
                                   .cr8 = 3},
                             out;

    for (unsigned i = 0; i < 16; i++)
        in.gprs[i] = host_random();
    for (unsigned i = 0; i < 8; i++)
        in.segments[i] = (struct basalt_segment){.base = host_random(),
                                                 .limit = (u32)host_random(),
                                                 .selector = 8,
                                                 .attributes = 0xc093};
    in.segments[BASALT_GDTR].base = 0x1000;
    in.segments[BASALT_IDTR].limit = 0xfff;
    assert_int_equal(vcpu_create(d, 0), 0);
    struct vcpu *v = d->vcpus[0];
    assert_true(v->blocked & BLOCK_NEW);
    host_vcpu(v)->no_interrupt = true; // behind an STI of the state before
    assert_int_equal(vcpu_set_state(v, &in), 0);
    assert_false(host_vcpu(v)->no_interrupt);
    assert_false(v->blocked & BLOCK_NEW);
    assert_true(v->blocked & BLOCK_PAUSED);
    vcpu_get_state(v, &out);
    out.dr6 = 0;
    assert_memory_equal(&in, &out, sizeof(in));
    struct basalt_vcpu_state bad = in;
    bad.cr0 = CR0_PG; // without protection
    assert_int_equal(vcpu_set_state(v, &bad), -BASALT_EINVAL);
    bad = in;
    bad.cr4 = ~0ull;
    assert_int_equal(vcpu_set_state(v, &bad), -BASALT_EINVAL);
    bad = in;
    bad.efer = BIT(12); // SVME
    assert_int_equal(vcpu_set_state(v, &bad), -BASALT_EINVAL);
    bad = in;
    bad.cr8 = 16;
    assert_int_equal(vcpu_set_state(v, &bad), -BASALT_EINVAL);
    bad = in;
    bad.segments[BASALT_IDTR].limit = 0x10000;
    assert_int_equal(vcpu_set_state(v, &bad), -BASALT_EINVAL);
    bad = in;
    bad.dr7 |= BIT(32);
    assert_int_equal(vcpu_set_state(v, &bad), -BASALT_EINVAL);
    bad = in;
    bad.cr3 = BIT(guest_cpuid.phys_bits);
    assert_int_equal(vcpu_set_state(v, &bad), -BASALT_EINVAL);
    guest_cpuid.cr4 |= CR4_PCIDE;
    bad = in;
    bad.cr0 |= CR0_PG;
    bad.cr4 = CR4_PAE | CR4_PCIDE;
    bad.efer = EFER_LME;
    assert_int_equal(vcpu_set_state(v, &bad), 0);
    bad.cr0 = in.cr0; // not yet in long mode
    assert_int_equal(vcpu_set_state(v, &bad), -BASALT_EINVAL);
    check_flags(v, &in);
    // PAE paging: the four entries must be in memory, and be legal.
    bad = in;
    bad.cr0 |= CR0_PG;
    bad.cr4 = CR4_PAE;
    bad.cr3 = 0x20;
    assert_int_equal(vcpu_set_state(v, &bad), -BASALT_EINVAL);
    assert_int_equal(memory_populate(d, GPA(0), 1, 0), 1);
    u64 *pdptes = host_memory(d, 0x20);
    pdptes[1] = 0x5003; // writable: reserved
    assert_int_equal(vcpu_set_state(v, &bad), -BASALT_EINVAL);
    vcpu_get_state(v, &out);
    assert_true(out.cr3 == in.cr3 && out.cr0 == in.cr0);
    pdptes[1] = 0x5001;
    assert_int_equal(vcpu_set_state(v, &bad), 0);
    assert_int_equal(host_vcpu(v)->registers[REG_PDPTE0 + 1], 0x5001);
    assert_int_equal(domain_control(d, BASALT_OP_RESUME), 0);
    assert_int_equal(v->blocked, 0);
    assert_true(v->sched.queued);
    assert_int_equal(domain_control(d, BASALT_OP_PAUSE), 0);
    assert_false(v->sched.queued);
    host_destroy(d);
    host_assert_same(empty);
}

// The SDM's table of processor states, column INIT.
static void check_after_init(struct vcpu *v) {
    const struct host_vcpu *s = host_vcpu(v);

    for (unsigned i = 0; i < ARRAY_SIZE(v->cpu.gprs); i++)
        assert_true(v->cpu.gprs[i] == 0 || i == BASALT_RDX);
    assert_int_equal(v->cpu.rip, 0xfff0);
    assert_int_equal(v->cpu.rflags, 2);
    assert_int_equal(v->cpu.cr0_guest, 0x60000010);
    assert_int_equal(v->cpu.cr4_guest, 0);
    assert_int_equal(v->cpu.efer_guest, 0);
    assert_int_equal(s->registers[REG_CR2], 0);
    assert_int_equal(s->registers[REG_CR3], 0);
    assert_int_equal(s->registers[REG_DR6], 0xffff0ff0);
    assert_int_equal(s->registers[REG_DR7], 0x400);
    assert_int_equal(v->cpu.dr[2], 0);
    assert_int_equal(s->pat, 0x0007040600070406);
    for (unsigned i = 0; i < BASALT_SEGMENTS; i++) {
        static const u32 attributes[] = {0x93, 0x9b, 0x93, 0x93, 0x93, 0x93, 0x82, 0x8b, 0, 0};
        assert_int_equal(s->segments[i].base, i == BASALT_CS ? 0xffff0000 : 0);
        assert_int_equal(s->segments[i].limit, 0xffff);
        assert_int_equal(s->segments[i].selector, i == BASALT_CS ? 0xf000 : 0);
        assert_int_equal(s->segments[i].attributes, attributes[i]);
    }
}

// INIT takes an application processor out of whatever it waits for; the start-up IPI lets it run.
static void test_init_and_startup(void **state unused) {
    static const u32 reasons[] = {0, BLOCK_HALT, BLOCK_REQUEST};
    struct domain *d = host_domain(4 * MIB);

    assert_int_equal(vcpu_create(d, 0), 0);
    assert_int_equal(vcpu_create(d, 1), 0);
    assert_int_equal(domain_control(d, BASALT_OP_RESUME), 0);
    struct vcpu *v = d->vcpus[1];
    assert_int_equal(v->blocked, BLOCK_SIPI);
    check_after_init(d->vcpus[0]);
    for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
        v->cpu.gprs[BASALT_RBX] = v->cpu.dr[2] = host_vcpu(v)->registers[REG_DR6] = 5;
        host_vcpu(v)->pat = 0;
        assert_int_equal(guest_msi(d, 0xfee00000 | 1 << 12, 0x500), 0); // INIT
        check_after_init(v);
        vcpu_startup_ipi(v, 0x9a);
        assert_int_equal(v->blocked, 0);
        assert_int_equal(v->cpu.rip, 0);
        assert_int_equal(host_vcpu(v)->segments[BASALT_CS].base, 0x9a000);
        if (reasons[i])
            vcpu_block(v, reasons[i]);
        v->halted = reasons[i] == BLOCK_HALT;
    }
    assert_int_equal(guest_msi(d, 0xfee00000 | 1 << 12, 0x500), 0);
    vcpu_startup_ipi(v, 0x9a);
    assert_int_equal(v->blocked, 0);
    // A second start-up IPI does nothing.
    v->cpu.rip = 0x77;
    vcpu_startup_ipi(v, 0x11);
    assert_int_equal(v->cpu.rip, 0x77);
    host_destroy(d);
    host_assert_same(empty);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_vcpus),
        TEST(test_tags_come_back),
        TEST(test_vcpu_state),
        TEST(test_init_and_startup),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
