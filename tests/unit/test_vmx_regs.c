// SPDX-License-Identifier: Apache-2.0
//
// Tests of vmx/regs.c and vmx/msr.c: what the guest believes and what hardware gets, mode changes, segments as callers give
// them, MSRs and the bitmap. After every write the control block must pass dom0/toolstack/check_vmx.c.
//
// sources: vmx/regs.c vmx/msr.c dom0/toolstack/check_vmx.c vmx/caps.c vmx/init.c

#include "test_vmx_model.h"

#include "arch/cpu.h"

static void valid(void) {
    const char *rule = vmx_check();

    if (rule)
        fail_msg("%s", rule);
}

static void test_init_state(void **state) {
    struct cpu_state *cpu = model_new();
    struct basalt_segment cs = vmx_read_segment(cpu, BASALT_CS);

    (void)state;
    vmx_state_init(cpu); // INIT of one that ran
    assert_int_equal(cpu->dr6, DR6_FIXED);
    assert_int_equal(cs.selector, 0xf000);
    assert_int_equal(cs.base, 0xffff0000);
    assert_int_equal(vmx_read(cpu, REG_CR0), 0x60000010);
    assert_int_equal(vmx_read(cpu, REG_CR4), 0);
    assert_int_equal(vmx_read(cpu, REG_DR7), 0x400);
    assert_int_equal(vmx_read(cpu, REG_CPL), 0);
    valid();
}

// Every field that the entry reads was written: the format of a VMCS in memory is the processor's secret, zero or not.
static void test_every_field_is_written(void **state) {
    static const u32 fields[] = {
        0x0000, 0x0800, 0x080e, 0x2000, 0x2002, 0x2004, 0x2010, 0x201a, 0x2800, 0x2802, 0x2804,
        0x2806, 0x280a, 0x2810, 0x4000, 0x4002, 0x4004, 0x4006, 0x4008, 0x400a, 0x400c, 0x400e,
        0x4010, 0x4012, 0x4014, 0x4016, 0x401e, 0x4020, 0x4022, 0x4800, 0x480e, 0x4810, 0x4812,
        0x4814, 0x4822, 0x4824, 0x4826, 0x482a, 0x6000, 0x6002, 0x6004, 0x6006, 0x6800, 0x6802,
        0x6804, 0x6806, 0x6814, 0x6816, 0x6818, 0x681a, 0x6822, 0x6824, 0x6826,
    };

    (void)state;
    model_new();
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        if (!vmcs_model_written[fields[i]])
            fail_msg("field %x", fields[i]);
}

static void test_cr0(void **state) {
    struct cpu_state *cpu = model_new_32();

    (void)state;
    vmx_write(cpu, REG_CR0, CR0_PE | CR0_ET | CR0_CD | CR0_WP);
    assert_int_equal(vmx_read(cpu, REG_CR0), CR0_PE | CR0_ET | CR0_CD | CR0_WP);
    assert_int_equal(vmcs_readnat(GUEST_CR0),
                     CR0_PE | CR0_ET | CR0_NE | CR0_WP); // caches on, NE forced
    assert_int_equal(vmcs_readnat(CR0_SHADOW), CR0_PE | CR0_ET | CR0_CD | CR0_WP);
    // The guest changes bits that it owns without an exit.
    assert_int_equal(vmcs_readnat(CR0_MASK) & (CR0_TS | CR0_WP), 0);
    vmcs_writenat(GUEST_CR0, (vmcs_readnat(GUEST_CR0) | CR0_TS) & ~CR0_WP);
    assert_int_equal(vmx_read(cpu, REG_CR0), CR0_PE | CR0_ET | CR0_CD | CR0_TS);
    assert_int_equal(cpu->cr0_guest, CR0_PE | CR0_ET | CR0_CD | CR0_TS);
    // What decides about modes and caches exits.
    u64 exits = CR0_PE | CR0_PG | CR0_CD | CR0_NW | CR0_NE;
    assert_int_equal(vmcs_readnat(CR0_MASK) & exits, exits);
    valid();
}

static void test_cr4(void **state) {
    struct cpu_state *cpu = model_new_32();

    (void)state;
    vmx_write(cpu, REG_CR4, CR4_PSE);
    assert_int_equal(vmx_read(cpu, REG_CR4), CR4_PSE); // neither VMXE nor MCE shows
    assert_int_equal(vmcs_readnat(GUEST_CR4), CR4_PSE | CR4_VMXE | CR4_MCE);
    assert_true(vmcs_readnat(CR4_MASK) & CR4_VMXE);
    vmcs_writenat(GUEST_CR4, vmcs_readnat(GUEST_CR4) | CR4_PGE);
    assert_int_equal(vmx_read(cpu, REG_CR4), CR4_PSE | CR4_PGE);
    vmx_write(cpu, REG_CR4, ~0ull); // bits that the processor lacks don't reach it
    assert_int_equal(vmcs_readnat(GUEST_CR4) & ~vmx_caps.cr4_may, 0);
}

static void test_long_mode(void **state) {
    struct cpu_state *cpu = model_new_64();

    (void)state;
    valid();
    assert_true(vmcs_read32(ENTRY_CONTROLS) & ENTRY_GUEST_64);
    assert_int_equal(vmx_read(cpu, REG_EFER), EFER_LME | EFER_LMA | EFER_NXE);
    vmx_write(cpu, REG_CR0, CR0_PE);
    vmx_write(cpu, REG_EFER, EFER_LME);
    assert_false(vmcs_read32(ENTRY_CONTROLS) & ENTRY_GUEST_64);
    valid();
}

static void test_plain_registers(void **state) {
    struct cpu_state *cpu = model_new();

    (void)state;
    for (enum backend_register reg = REG_PDPTE0; reg <= REG_PDPTE3; reg++)
        vmx_write(cpu, reg, 0x1000 * (u64)reg);
    for (enum backend_register reg = REG_PDPTE0; reg <= REG_PDPTE3; reg++)
        assert_int_equal(vmx_read(cpu, reg), 0x1000 * (u64)reg);
    vmx_write(cpu, REG_CR3, 0x7000);
    assert_int_equal(vmx_read(cpu, REG_CR3), 0x7000);
    vmx_write(cpu, REG_DR7, ~0ull);
    assert_int_equal(vmx_read(cpu, REG_DR7) >> 32, 0);
    valid();
    for (unsigned index = BASALT_GDTR; index <= BASALT_IDTR; index++) {
        struct basalt_segment table = {.base = 0x1000 * index, .limit = 0xff * index};
        vmx_write_segment(cpu, index, &table);
        table = vmx_read_segment(cpu, index);
        assert_true(table.base == 0x1000 * index && table.limit == 0xff * index);
    }
    assert_true(vmcs_readnat(GUEST_BASE(BASALT_GDTR)) == 0x8000 &&
                vmcs_readnat(GUEST_BASE(BASALT_IDTR)) == 0x9000);
    valid();
}

// Descriptors as boot protocols and other processors give them: not accessed, TSS available, null, odd limits.
static void test_segments(void **state) {
    (void)state;
    model_new_32();
    model_segment(BASALT_DS, 16, 0, 0xffffffff, 0xc092);
    valid();
    model_segment(BASALT_CS, 8, 0, 0xffffffff, 0xc09a);
    valid();
    model_segment(BASALT_ES, 0, 0, 0, 0);
    valid();
    assert_true(vmx_read_segment(&model_cpu, BASALT_ES).attributes & SEGMENT_UNUSABLE);
    model_segment(BASALT_TR, 0, 0, 0x67, 0x89);
    valid();
    model_segment(BASALT_TR, 0, 0, 0x67, 0x10089);
    valid();
    model_segment(BASALT_LDTR, 0, 0, 0, 0);
    valid();
    model_segment(BASALT_FS, 16, 0, 0x12345678,
                  0x4093); // byte granular, as SVM allows: whole pages here
    valid();
    assert_int_equal(vmx_read_segment(&model_cpu, BASALT_FS).limit, 0x12345fff);
    model_segment(BASALT_GS, 16, 0, 0x1234, 0xc093);
    valid();
    assert_int_equal(vmx_read_segment(&model_cpu, BASALT_GS).limit, 0x1234);
    model_segment(BASALT_SS, 3, 0, 0xffffffff, 0xc0f3);
    assert_int_equal(vmx_read(&model_cpu, REG_CPL), 3);
}

static void test_msrs(void **state) {
    static const struct {
        u32 msr;
        u64 value;
    } cases[] = {
        {MSR_FS_BASE, 0xffff800000000000}, {MSR_GS_BASE, 0x00007fffffffffff},
        {MSR_SYSENTER_CS, 0x10},           {MSR_SYSENTER_ESP, 0xffffffff80000000},
        {MSR_SYSENTER_EIP, 0x1000},        {MSR_PAT, 0x0007010600070106},
    };
    struct cpu_state *cpu = model_new_64();
    u64 value;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_true(vmx_access_msr(cpu, cases[i].msr, true, &(u64){cases[i].value}));
        assert_true(vmx_access_msr(cpu, cases[i].msr, false, &value));
        assert_int_equal(value, cases[i].value);
        valid();
    }
    assert_int_equal(vmx_read_segment(cpu, BASALT_FS).base, 0xffff800000000000);
    // Only single-stepping on branches is the guest's.
    assert_true(vmx_access_msr(cpu, MSR_DEBUGCTL, true, &(u64){0x43}));
    assert_true(vmx_access_msr(cpu, MSR_DEBUGCTL, false, &value));
    assert_int_equal(value, 2);
    assert_false(vmx_access_msr(cpu, MSR_APIC_BASE, false, &value));
    assert_false(vmx_access_msr(cpu, MSR_EFER, true, &value)); // the platform's, through REG_EFER
}

// ---- The live MSRs ----

struct cpu host_cpu;
static u64 msrs[5]; // KERNEL_GS_BASE, STAR, LSTAR, CSTAR, FMASK
static unsigned accesses;

u64 *host_msr(u32 msr) {
    accesses++;
    return &msrs[msr == MSR_KERNEL_GS_BASE ? 0 : msr - MSR_STAR + 1];
}

// Random switches between virtual processors, whose MSRs change as guests may change them: each finds its own.
static void test_live_msrs(void **state) {
    static struct cpu_state states[3];
    static u64 expected[3][5];
    unsigned loaded = 0;

    (void)state;
    msrs[2] = 0x1234; // from before
    vmx_msrs_init();
    vmx_msrs_load(&states[0]);
    for (unsigned step = 0; step < 20000; step++) {
        unsigned i = (unsigned)rand() % 5;

        assert_memory_equal(msrs, expected[loaded], sizeof(msrs));
        if (i == 0) {
            msrs[0] = expected[loaded][0] = (u64)rand(); // SWAPGS
        } else {
            expected[loaded][i] = (u64)rand() % 3;
            assert_true(
                vmx_access_msr(&states[loaded], MSR_STAR + i - 1, true, &expected[loaded][i]));
        }
        vmx_msrs_save(&states[loaded]);
        loaded = (unsigned)rand() % 3;
        vmx_msrs_load(&states[loaded]);
    }
    accesses = 0; // and what has not changed costs nothing but KERNEL_GS_BASE
    vmx_msrs_save(&states[loaded]);
    vmx_msrs_load(&states[loaded]);
    assert_int_equal(accesses, 1);
}

static bool opened(const u8 *bitmap, u32 msr, bool write) {
    unsigned at = (msr & 0x1fff) / 8 + (msr >= 0xc0000000 ? 0x400 : 0) + (write ? 0x800 : 0);

    return !(bitmap[at] >> (msr & 7) & 1);
}

static void test_bitmap(void **state) {
    static u8 bitmap[4096], x2apic[4096];
    static const u32 both[] = {MSR_KERNEL_GS_BASE, MSR_FS_BASE,      MSR_GS_BASE, MSR_SYSENTER_CS,
                               MSR_SYSENTER_ESP,   MSR_SYSENTER_EIP, MSR_PAT};
    static const u32 to_read[] = {MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_FMASK, MSR_DEBUGCTL};
    unsigned count[2] = {0}, reads = 0, writes = 0;

    (void)state;
    model_new();
    memset(bitmap, 0xff, sizeof(bitmap));
    memset(x2apic, 0xff, sizeof(x2apic));
    vmx_msr_bitmaps_fill(bitmap, x2apic);
    for (u32 msr = 0; msr < 0x2000; msr++)
        for (unsigned write = 0; write < 2; write++)
            count[write] += opened(bitmap, msr, write) + opened(bitmap, 0xc0000000 + msr, write);
    assert_int_equal(count[true], ARRAY_SIZE(both));
    assert_int_equal(count[false], ARRAY_SIZE(both) + ARRAY_SIZE(to_read));
    for (unsigned i = 0; i < ARRAY_SIZE(both); i++)
        assert_true(opened(bitmap, both[i], false) && opened(bitmap, both[i], true));
    for (unsigned i = 0; i < ARRAY_SIZE(to_read); i++)
        assert_true(opened(bitmap, to_read[i], false));
    // Of the x2APIC's MSRs every one may be read that exists, but the current count; three may be written.
    for (u32 msr = 0x800; msr < 0x900; msr++) {
        u8 bit = (u8)(1 << msr % 8);
        reads += !(x2apic[msr / 8] & bit);
        writes += !(x2apic[0x800 + msr / 8] & bit);
        x2apic[msr / 8] |= bit;
        x2apic[0x800 + msr / 8] |= bit;
        if (msr == 0x839 || msr == 0x80b || msr == 0x83f)
            assert_int_equal(reads, msr == 0x80b ? 4 : msr == 0x839 ? 39 : 40);
    }
    assert_int_equal(reads, 40);
    assert_int_equal(writes, 3);
    assert_memory_equal(bitmap, x2apic, sizeof(bitmap)); // and nothing else differs
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init_state), cmocka_unit_test(test_every_field_is_written),
        cmocka_unit_test(test_cr0),        cmocka_unit_test(test_cr4),
        cmocka_unit_test(test_long_mode),  cmocka_unit_test(test_plain_registers),
        cmocka_unit_test(test_segments),   cmocka_unit_test(test_msrs),
        cmocka_unit_test(test_live_msrs),  cmocka_unit_test(test_bitmap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
