// SPDX-License-Identifier: Apache-2.0
//
// The MSRs that the kernel holds: which those are, the legality of values bit by bit, the TSC, memory types, commands that
// the host takes or not; and that all else changes nothing and goes to the instruction server.
//
// sources: guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_timer.c guest/vlapic_register.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/vcpu.h"
#include "kernel/domain.h"

enum result { MSR_DONE, MSR_NOT_HERE, MSR_BACKEND };

u64 host_tsc = 1000000, tsc_khz = 2500000;
struct cpuid_policy guest_cpuid;
static struct domain domain;
static struct vcpu vcpu;
static u32 lapic_page[1024];
static struct vlapic_effect effect;
static u64 value;
static unsigned backend_accesses, commands, flushes, sent;
static u64 sent_address, sent_bytes;
static bool host_has_commands;

u64 tsc_to_ns(u64 ticks) { return ticks * 2 / 5; }

bool host_command(u32 msr, u64 command) {
    assert_true((msr == 0x49 || msr == 0x10b) && command <= 1);
    commands += command == 1;
    return host_has_commands;
}

void vcpu_send_instruction(struct vcpu *v, struct exit e) {
    assert_ptr_equal(v, &vcpu);
    sent++;
    sent_address = e.gpa.v;
    sent_bytes = e.insn_length;
}
void vcpu_exception(struct vcpu *v, u8 vector, bool has_error, u32 error) {
    (void)v, (void)vector, (void)has_error, (void)error;
    fail();
}
void vcpu_single_step(struct vcpu *v) { (void)v; }
void vcpu_apic_effect(struct vcpu *v, const struct vlapic_effect *e) {
    assert_ptr_equal(v, &vcpu);
    effect = *e;
}

// CR0, CR4 and CR3 of cr.c's other functions are not asked for here.
int memory_read(struct domain *d, gpa_t gpa, void *buffer, u64 bytes) {
    (void)d, (void)gpa, (void)buffer, (void)bytes;
    fail();
    return -1;
}

static u64 fake_read(struct cpu_state *cpu, enum backend_register reg) {
    return reg == REG_EFER ? cpu->efer_guest : cpu->cr0_guest;
}
static void fake_write(struct cpu_state *cpu, enum backend_register reg, u64 v) {
    assert_int_equal(reg, REG_EFER);
    cpu->efer_guest = v;
}
static bool fake_access_msr(struct cpu_state *cpu, u32 msr, bool write, u64 *v) {
    static const u32 held[] = {0x174,      0x175,      0x176,      0x1d9,
                               0x277,      0xc0000081, 0xc0000082, 0xc0000083,
                               0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102};

    (void)cpu, (void)write, (void)v;
    for (unsigned i = 0; i < ARRAY_SIZE(held); i++)
        if (held[i] == msr)
            return ++backend_accesses;
    return false;
}
static void fake_flush(struct cpu_state *cpu) { flushes += cpu == &vcpu.cpu; }
static void fake_clear_shadow(struct cpu_state *cpu) { (void)cpu; }
static const struct backend fake_backend = {.read = fake_read,
                                            .write = fake_write,
                                            .access_msr = fake_access_msr,
                                            .flush_linear = fake_flush,
                                            .clear_shadow = fake_clear_shadow};
const struct backend *backend = &fake_backend;

static int fresh(void **state) {
    (void)state;
    guest_cpuid = (struct cpuid_policy){.phys_bits = 40};
    vcpu = (struct vcpu){
        .domain = &domain, .cpu.cr0_guest = CR0_PE | CR0_PG, .cpu.efer_guest = EFER_LME | EFER_LMA};
    vlapic_init(&vcpu.lapic, lapic_page, 1, false);
    return 0;
}

static enum result classify(bool done) {
    return !done ? MSR_NOT_HERE : backend_accesses ? MSR_BACKEND : MSR_DONE;
}

static enum result rd(u32 index) {
    backend_accesses = 0;
    return classify(msr_read(&vcpu, index, &value));
}

static enum result wr(u32 index, u64 v) {
    backend_accesses = commands = 0;
    return classify(msr_write(&vcpu, index, v, &effect));
}

static void assert_no_effect(void) {
    assert_false(effect.send || effect.timer || effect.eoi);
    assert_false(commands);
}

static void others_change_nothing(void **state) {
    static const u32 indices[] = {
        0,          1,          0x17,       0x33,       0x34,       0x3a,       0x3b,
        0x48,       0x79,       0x8b,       0x9b,       0xce,       0xfe,       0x140,
        0x179,      0x17a,      0x186,      0x1a0,      0x2ff,      0x400,      0x480,
        0x606,      0xda0,      0x4b564d00, 0x4b564d01, 0x4b564d02, 0xc0010010, 0xc0010015,
        0xc0010114, 0xc0010117, 0xc0011029, 0x1000,     0x4b564cff, 0xbfffffff, 0xc0000000,
        0xc0000103, 0xc0002000, 0xffffffff, 0x200,      0x20f,      0x250,      0x26f,
        0x276,      0x278,      0x11,       0x12};
    struct vcpu before = vcpu;

    (void)state;
    for (unsigned i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
        assert_int_equal(rd(indices[i]), MSR_NOT_HERE);
        assert_int_equal(wr(indices[i], ~0ull), MSR_NOT_HERE);
        assert_no_effect();
        assert_int_equal(wr(indices[i], 0), MSR_NOT_HERE);
        assert_no_effect();
    }
    assert_memory_equal(&before, &vcpu, sizeof(vcpu));
}

// Bits that may be set in what the backend holds.
static void backend_values(void **state) {
    static const struct {
        u32 index;
        u64 legal;
        bool canonical;
    } rows[] = {
        {0x174, 0xffffffff, false}, {0x175, 0, true},
        {0x176, 0, true},           {0x1d9, 3, false},
        {0xc0000081, ~0ull, false}, {0xc0000082, 0, true},
        {0xc0000083, 0, true},      {0xc0000084, 0xffffffff, false},
        {0xc0000100, 0, true},      {0xc0000101, 0, true},
        {0xc0000102, 0, true},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rd(rows[i].index), MSR_BACKEND);
        assert_int_equal(wr(rows[i].index, 0), MSR_BACKEND);
        for (unsigned bit = 0; bit < 64; bit++) {
            bool legal = rows[i].canonical ? bit < 47 : rows[i].legal >> bit & 1;
            assert_int_equal(wr(rows[i].index, BIT(bit)), legal ? MSR_BACKEND : MSR_NOT_HERE);
        }
        assert_int_equal(wr(rows[i].index, 0xffff800000000000),
                         rows[i].canonical || rows[i].legal == ~0ull ? MSR_BACKEND : MSR_NOT_HERE);
    }
}

static void commands_of_the_host(void **state) {
    static const u32 indices[] = {0x49, 0x10b};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        host_has_commands = false;
        assert_int_equal(rd(indices[i]), MSR_NOT_HERE);
        assert_int_equal(wr(indices[i], 0), MSR_NOT_HERE);
        assert_int_equal(wr(indices[i], 1), MSR_NOT_HERE);
        host_has_commands = true;
        assert_int_equal(wr(indices[i], 1), MSR_DONE);
        assert_int_equal(commands, 1);
        assert_int_equal(wr(indices[i], 0), MSR_DONE);
        assert_int_equal(commands, 0);
        for (unsigned bit = 1; bit < 64; bit++)
            assert_int_equal(wr(indices[i], BIT(bit) | (bit & 1)), MSR_NOT_HERE);
        assert_int_equal(commands, 0);
        assert_int_equal(rd(indices[i]), MSR_NOT_HERE);
    }
    assert_int_equal(rd(0x10a), MSR_DONE);
    assert_int_equal(value, 0);
    guest_cpuid.arch_capabilities = 0x29;
    assert_int_equal(rd(0x10a), MSR_DONE);
    assert_int_equal(value, 0x29);
    assert_int_equal(wr(0x10a, 0), MSR_NOT_HERE);
}

// A domain's vCPUs have one TSC, from which the time page makes their time: no guest moves its own.
static void time_stamp(void **state) {
    (void)state;
    assert_int_equal(wr(0x10, 5), MSR_DONE);
    assert_no_effect();
    assert_int_equal(vcpu.cpu.tsc_offset, 0);
    assert_int_equal(rd(0x10), MSR_DONE);
    assert_int_equal(value, 1000000);
}

static void deadline(void **state) {
    (void)state;
    vlapic_write(&vcpu.lapic, 0xf0, 4, 0x1ff, 0);
    assert_int_equal(wr(0x6e0, 2000000), MSR_DONE);
    assert_int_equal(rd(0x6e0), MSR_DONE);
    assert_int_equal(value, 0);
    vlapic_write(&vcpu.lapic, 0x320, 4, 0x40040, 0);
    assert_int_equal(wr(0x6e0, 2000000), MSR_DONE);
    assert_true(effect.timer);
    assert_int_equal(rd(0x6e0), MSR_DONE);
    assert_int_equal(value, 2000000);
    host_tsc = 2000000;
    assert_int_equal(rd(0x6e0), MSR_DONE);
    assert_int_equal(value, 0);
    host_tsc = 1000000;
}

static void apic(void **state) {
    (void)state;
    assert_int_equal(rd(0x802), MSR_NOT_HERE);
    assert_int_equal(wr(0x1b, 0xfee00000 | APIC_BASE_X2APIC), MSR_NOT_HERE);
    assert_no_effect();
    assert_int_equal(wr(0x1b, 0xfee00000 | APIC_BASE_X2APIC | APIC_BASE_ENABLE), MSR_DONE);
    assert_true(effect.timer);
    assert_int_equal(wr(0x1b, BIT(40) | 0xc00), MSR_NOT_HERE); // beyond MAXPHYADDR
    assert_int_equal(rd(0x802), MSR_DONE);
    assert_int_equal(value, 1);
    assert_int_equal(rd(0x80e), MSR_NOT_HERE);
    assert_int_equal(wr(0x830, 0x0000000200004041), MSR_DONE);
    assert_true(effect.send && effect.message.dest == 2);
    assert_int_equal(wr(0x830, BIT(12)), MSR_NOT_HERE);
    assert_no_effect();
    assert_int_equal(rd(0x8ff), MSR_NOT_HERE);
    assert_int_equal(rd(0x900), MSR_NOT_HERE);
}

static void efer(void **state) {
    (void)state;
    assert_int_equal(rd(MSR_EFER), MSR_DONE);
    assert_int_equal(value, EFER_LME | EFER_LMA);
    assert_int_equal(wr(MSR_EFER, EFER_LME | EFER_NXE | EFER_SCE), MSR_DONE);
    assert_int_equal(vcpu.cpu.efer_guest, EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE);
    assert_int_equal(flushes, 1); // of NXE
    assert_int_equal(wr(MSR_EFER, EFER_LME | EFER_NXE), MSR_DONE);
    assert_int_equal(flushes, 1);
    assert_int_equal(wr(MSR_EFER, 0), MSR_NOT_HERE); // LME while paging
    assert_no_effect();
    assert_int_equal(wr(MSR_EFER, EFER_LME | EFER_SVME), MSR_NOT_HERE);
    assert_int_equal(vcpu.cpu.efer_guest, EFER_LME | EFER_LMA | EFER_NXE);
}

static void memory_types(void **state) {
    (void)state;
    for (u64 type = 0; type < 256; type++)
        for (unsigned byte = 0; byte < 8; byte++) {
            bool ok = type == 0 || type == 1 || (type >= 4 && type <= 7);
            assert_int_equal(wr(0x277, type << byte * 8), ok ? MSR_BACKEND : MSR_NOT_HERE);
        }
}

static void random_indices(void **state) {
    (void)state;
    srand(4);
    for (unsigned i = 0; i < 1000000; i++) {
        u32 index = (u32)rand() & 0x1fff;
        u64 v = (u64)rand() << rand() % 34 ^ (u64)rand();
        if (i % 3 == 0)
            index |= 0xc0000000;
        if (i % 7 == 0)
            index = 0xc0010000 | (index & 0xfff);
        if (wr(index, v) == MSR_NOT_HERE)
            assert_no_effect();
        rd(index);
    }
}

// The instructions: EDX:EAX, and what the local APIC asks for comes after the instruction.
static void instructions(void **state) {
    struct exit e = {.insn_length = 2};

    (void)state;
    vcpu.cpu.gprs[BASALT_RCX] = 0xffffffff00000830; // x2APIC's ICR, whose mode is off
    vcpu.cpu.gprs[BASALT_RAX] = 0xffffffff00004041;
    vcpu.cpu.gprs[BASALT_RDX] = 2;
    sent = 0;
    handle_wrmsr(&vcpu, e);
    assert_int_equal(vcpu.cpu.rip, 0);
    assert_true(sent == 1 && sent_address == 0x830 && sent_bytes == 2);
    vcpu.lapic.apic_base |= APIC_BASE_X2APIC;
    handle_wrmsr(&vcpu, e);
    assert_int_equal(vcpu.cpu.rip, 2);
    assert_true(effect.send && effect.message.dest == 2);
    handle_rdmsr(&vcpu, e);
    assert_int_equal(vcpu.cpu.rip, 4);
    assert_int_equal(vcpu.cpu.gprs[BASALT_RAX], 0x4041);
    assert_int_equal(vcpu.cpu.gprs[BASALT_RDX], 2);
    vcpu.cpu.gprs[BASALT_RCX] = 0x49;
    handle_rdmsr(&vcpu, e);
    assert_int_equal(vcpu.cpu.rip, 4);
    assert_true(sent == 2 && sent_address == 0x49);
    assert_int_equal(vcpu.cpu.gprs[BASALT_RAX], 0x4041);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(others_change_nothing, fresh),
        cmocka_unit_test_setup(backend_values, fresh),
        cmocka_unit_test_setup(commands_of_the_host, fresh),
        cmocka_unit_test_setup(time_stamp, fresh),
        cmocka_unit_test_setup(deadline, fresh),
        cmocka_unit_test_setup(apic, fresh),
        cmocka_unit_test_setup(efer, fresh),
        cmocka_unit_test_setup(memory_types, fresh),
        cmocka_unit_test_setup(instructions, fresh),
        cmocka_unit_test_setup(random_indices, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
