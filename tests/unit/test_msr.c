// SPDX-License-Identifier: Apache-2.0
//
// The MSR policy: who may read and write what (a table by number, written from the manuals), the legality of values bit
// by bit, the TSC, memory types, and that an unknown MSR changes nothing.
//
// sources: guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_timer.c guest/vlapic_register.c
// sources: guest/pvclock.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/pvclock.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/log.h"

enum result { MSR_DONE, MSR_FAULT, MSR_UNKNOWN, MSR_BACKEND };

u64 host_tsc = 1000000, tsc_khz = 2500000, wall_clock_ns;
struct cpuid_policy guest_cpuid;
static struct domain domain;
static struct vcpu vcpu;
static u32 lapic_page[1024];
static struct vlapic_effect effect;
static u64 value;
static unsigned backend_accesses, unknown, commands, time_pages, wall_clocks, flushes;
static u64 written_at; // where the guest's memory was written last
static u8 written[32]; // and what

u64 tsc_to_ns(u64 ticks) { return ticks * 2 / 5; }

void log_line(enum log_level level, const char *text, ...) {
    (void)text;
    unknown += level == LOG_INFO;
    commands += level == LOG_DEBUG; // the host has no MSRs
}

int memory_write(struct domain *d, gpa_t gpa, const void *buffer, u64 bytes) {
    assert_ptr_equal(d, &domain);
    memcpy(written, buffer, bytes);
    time_pages += bytes == sizeof(struct pvclock_time);
    wall_clocks += bytes == sizeof(struct pvclock_wall);
    written_at = gpa.v;
    return 0;
}

void vcpu_exception(struct vcpu *v, unsigned vector, bool has_error, u32 error) {
    (void)v;
    assert_true(vector == 13 && has_error && !error);
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
    (void)cpu, (void)msr, (void)write, (void)v;
    backend_accesses++;
    return true;
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
    guest_cpuid =
        (struct cpuid_policy){.phys_bits = 40, .efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE};
    vcpu = (struct vcpu){
        .domain = &domain, .cpu.cr0_guest = CR0_PE | CR0_PG, .cpu.efer_guest = EFER_LME | EFER_LMA};
    vlapic_init(&vcpu.lapic, lapic_page, 1, false);
    return 0;
}

static int fresh_amd(void **state) {
    fresh(state);
    guest_cpuid.amd = true;
    return 0;
}

static enum result classify(bool done) {
    if (done)
        return backend_accesses ? MSR_BACKEND : MSR_DONE;
    return unknown ? MSR_UNKNOWN : MSR_FAULT;
}

static enum result rd(u32 index) {
    backend_accesses = unknown = 0;
    return classify(msr_read(&vcpu, index, &value));
}

static enum result wr(u32 index, u64 v) {
    backend_accesses = unknown = commands = time_pages = wall_clocks = 0;
    return classify(msr_write(&vcpu, index, v, &effect));
}

static void assert_no_effect(void) {
    assert_false(effect.send || effect.timer || effect.eoi);
    assert_false(commands || time_pages || wall_clocks);
}

static void constants(void **state) {
    static const struct {
        u32 index;
        u64 value;
    } rows[] = {
        {0x17, 0},          {0x3a, 1},       {0xce, 0},       {0x179, 0},    {0x17a, 0},
        {0x79, 0},          {0x1a0, 0x1801}, {0x8b, 0},       {0xfe, 0x400}, {0x2ff, 0x806},
        {0x1b, 0xfee00800}, {0x3b, 0},       {0x10, 1000000},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rd(rows[i].index), MSR_DONE);
        assert_int_equal(value, rows[i].value);
    }
}

static void constants_amd(void **state) {
    static const struct {
        u32 index;
        u64 value;
    } rows[] = {
        {0xc0010010, 0}, {0xc0010015, BIT(24)}, {0xc001001f, 0}, {0xc0010055, 0},
        {0xc0010058, 0}, {0xc001001a, 0},       {0xc001001d, 0}, {0xc0010114, 0x18},
        {0xc0011020, 0}, {0xc0011022, 0},       {0xc0011029, 2}, {0xc001102a, 0},
        {0xc001102c, 0},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rd(rows[i].index), MSR_DONE);
        assert_int_equal(value, rows[i].value);
        assert_int_equal(wr(rows[i].index, ~0ull),
                         rows[i].index == 0xc0010114 ? MSR_FAULT : MSR_DONE);
        assert_no_effect();
        assert_int_equal(rd(rows[i].index), MSR_DONE);
        assert_int_equal(value, rows[i].value);
    }
}

static void vendors_are_separate(void **state) {
    static const u32 intel[] = {0x17, 0x33, 0x3a, 0x79, 0xce, 0x1a0},
                     amd[] = {0xc0010010, 0xc0010015, 0xc0011029};

    (void)state;
    for (unsigned a = 0; a < 2; a++) {
        guest_cpuid.amd = a;
        for (unsigned i = 0; i < 6; i++)
            assert_int_equal(rd(intel[i]), a || intel[i] == 0x33 ? MSR_FAULT : MSR_DONE);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(rd(amd[i]), a ? MSR_DONE : MSR_FAULT);
    }
}

static void unknown_changes_nothing(void **state) {
    static const u32 indices[] = {
        0,          1,          0x48,   0x9b,       0x186,      0x400,      0x480,      0xda0,
        0x4b564d02, 0xc0010117, 0x1000, 0x4b564cff, 0xbfffffff, 0xc0000000, 0xc0002000, 0xffffffff,
        0x200,      0x20f,      0x250,  0x26f,      0x276,      0x278,      0x11,       0x12};
    struct vcpu before = vcpu;

    (void)state;
    for (unsigned i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
        assert_int_equal(rd(indices[i]), MSR_UNKNOWN);
        assert_int_equal(value, 0);
        assert_int_equal(wr(indices[i], ~0ull), MSR_UNKNOWN);
        assert_no_effect();
    }
    assert_memory_equal(&before, &vcpu, sizeof(vcpu));
}

static void quiet_faults(void **state) {
    // What stock kernels probe with a safety net: #GP, and no line in the log.
    static const u32 indices[] = {0x33, 0x140, 0x606, 0xc0000103};

    (void)state;
    for (unsigned i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
        assert_int_equal(rd(indices[i]), MSR_FAULT);
        assert_int_equal(wr(indices[i], 0), MSR_FAULT);
    }
}

static void read_only_and_ignored(void **state) {
    static const u32 read_only[] = {0x17, 0x3a, 0xce, 0xfe, 0x179};
    static const u32 ignored[] = {0x79, 0x8b, 0x17a, 0x1a0, 0x2ff};

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(wr(read_only[i], 0), MSR_FAULT);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(rd(ignored[i]), MSR_DONE);
        u64 before = value;
        assert_int_equal(wr(ignored[i], ~0ull), MSR_DONE);
        assert_no_effect();
        assert_int_equal(rd(ignored[i]), MSR_DONE);
        assert_int_equal(value, before);
    }
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
            assert_int_equal(wr(rows[i].index, BIT(bit)), legal ? MSR_BACKEND : MSR_FAULT);
        }
        assert_int_equal(wr(rows[i].index, 0xffff800000000000),
                         rows[i].canonical || rows[i].legal == ~0ull ? MSR_BACKEND : MSR_FAULT);
    }
}

static void gated_by_cpuid(void **state) {
    (void)state;
    static const u32 gated[] = {0x49, 0x10a, 0x10b};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(rd(gated[i]), MSR_FAULT);
        assert_int_equal(wr(gated[i], 0), MSR_FAULT);
    }
    guest_cpuid.ibpb = guest_cpuid.l1d_flush = true;
    guest_cpuid.arch_capabilities = 0x29;
    assert_int_equal(wr(0x49, 1), MSR_DONE);
    assert_int_equal(commands, 1);
    assert_int_equal(wr(0x49, 0), MSR_DONE);
    assert_int_equal(commands, 0);
    assert_int_equal(wr(0x49, 2), MSR_FAULT);
    assert_int_equal(rd(0x49), MSR_FAULT);
    assert_int_equal(wr(0x10b, 1), MSR_DONE);
    assert_int_equal(commands, 1);
    assert_int_equal(wr(0x10b, 3), MSR_FAULT);
    assert_int_equal(rd(0x10a), MSR_DONE);
    assert_int_equal(value, 0x29);
    assert_int_equal(wr(0x10a, 0), MSR_FAULT);
}

// A domain's vCPUs have one TSC, from which the time page makes their time: no guest moves its own.
static void time_stamp(void **state) {
    static const u32 msrs[] = {0x10, 0x3b};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(wr(msrs[i], 5), MSR_DONE);
        assert_no_effect();
        assert_int_equal(vcpu.cpu.tsc_offset, 0);
    }
    assert_int_equal(rd(0x10), MSR_DONE);
    assert_int_equal(value, 1000000);
    assert_int_equal(rd(0x3b), MSR_DONE);
    assert_int_equal(value, 0);
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
    assert_int_equal(rd(0x802), MSR_FAULT);
    assert_int_equal(wr(0x1b, 0xfee00000 | APIC_BASE_X2APIC), MSR_FAULT);
    assert_no_effect();
    assert_int_equal(wr(0x1b, 0xfee00000 | APIC_BASE_X2APIC | APIC_BASE_ENABLE), MSR_DONE);
    assert_true(effect.timer);
    assert_int_equal(wr(0x1b, BIT(40) | 0xc00), MSR_FAULT); // beyond MAXPHYADDR
    assert_int_equal(rd(0x802), MSR_DONE);
    assert_int_equal(value, 1);
    assert_int_equal(rd(0x80e), MSR_FAULT);
    assert_int_equal(wr(0x830, 0x0000000200004041), MSR_DONE);
    assert_true(effect.send && effect.message.dest == 2);
    assert_int_equal(wr(0x830, BIT(12)), MSR_FAULT);
    assert_no_effect();
    assert_int_equal(rd(0x8ff), MSR_FAULT);
    assert_int_equal(rd(0x900), MSR_UNKNOWN);
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
    assert_int_equal(wr(MSR_EFER, 0), MSR_FAULT); // LME while paging
    assert_no_effect();
    assert_int_equal(wr(MSR_EFER, EFER_LME | EFER_SVME), MSR_FAULT);
    assert_int_equal(vcpu.cpu.efer_guest, EFER_LME | EFER_LMA | EFER_NXE);
}

static void kvm_clock(void **state) {
    struct pvclock_time t;
    struct pvclock_wall w;

    (void)state;
    assert_int_equal(wr(0x4b564d01, 0x1001), MSR_DONE);
    assert_true(time_pages == 1 && !wall_clocks);
    assert_int_equal(written_at, 0x1000);
    memcpy(&t, written, sizeof(t));
    assert_true(t.version == 2 && t.flags == PVCLOCK_TSC_STABLE && !t.system_time);
    assert_int_equal(rd(0x4b564d01), MSR_DONE);
    assert_int_equal(value, 0x1001);
    assert_int_equal(wr(0x4b564d01, 0), MSR_DONE); // off
    assert_int_equal(time_pages, 0);

    wall_clock_ns = 1699999999ull * 1000000000; // the domain's TSC was 0 when the host's was 25
    domain.info.tsc_offset = -25ull;
    assert_int_equal(wr(0x4b564d00, 0x5000), MSR_DONE);
    assert_true(wall_clocks == 1 && !time_pages);
    assert_int_equal(written_at, 0x5000);
    memcpy(&w, written, sizeof(w));
    assert_true(w.version == 2 && w.sec == 1699999999 && w.nsec == 10);
    assert_int_equal(rd(0x4b564d00), MSR_DONE);
    assert_int_equal(value, 0x5000);
}

static void memory_types(void **state) {
    (void)state;
    for (u64 type = 0; type < 256; type++)
        for (unsigned byte = 0; byte < 8; byte++) {
            bool ok = type == 0 || type == 1 || (type >= 4 && type <= 7);
            assert_int_equal(wr(0x277, type << byte * 8), ok ? MSR_BACKEND : MSR_FAULT);
        }
}

static void random_indices(void **state) {
    (void)state;
    srand(4);
    for (unsigned i = 0; i < 1000000; i++) {
        u32 index = (u32)rand() & 0x1fff;
        u64 v = (u64)rand() << rand() % 34 ^ (u64)rand();
        guest_cpuid.amd = i & 1;
        if (i % 3 == 0)
            index |= 0xc0000000;
        if (i % 7 == 0)
            index = 0xc0010000 | (index & 0xfff);
        if (wr(index, v) == MSR_FAULT)
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
    handle_wrmsr(&vcpu, e);
    assert_int_equal(vcpu.cpu.rip, 0);
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
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(constants, fresh),
        cmocka_unit_test_setup(constants_amd, fresh_amd),
        cmocka_unit_test_setup(vendors_are_separate, fresh),
        cmocka_unit_test_setup(unknown_changes_nothing, fresh),
        cmocka_unit_test_setup(quiet_faults, fresh),
        cmocka_unit_test_setup(read_only_and_ignored, fresh),
        cmocka_unit_test_setup(backend_values, fresh),
        cmocka_unit_test_setup(gated_by_cpuid, fresh),
        cmocka_unit_test_setup(time_stamp, fresh),
        cmocka_unit_test_setup(deadline, fresh),
        cmocka_unit_test_setup(apic, fresh),
        cmocka_unit_test_setup(efer, fresh),
        cmocka_unit_test_setup(kvm_clock, fresh),
        cmocka_unit_test_setup(memory_types, fresh),
        cmocka_unit_test_setup(instructions, fresh),
        cmocka_unit_test_setup(random_indices, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
