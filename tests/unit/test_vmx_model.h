// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the VMX backend share: capability MSRs as Bochs' models report them, a VMCS that is an array, and a
// virtual processor on it.

#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86.h"
#include "kernel/panic.h"
#include "tests/unit/init_state.h"
#include "toolstack/check.h"
#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include <basalt/hypercall.h>

u64 vmcs_model[VMCS_MODEL_FIELDS];
bool vmcs_model_written[VMCS_MODEL_FIELDS];
struct vmx_caps vmx_caps;
u64 tsc_khz = 2000000;
hpa_t vmx_msr_bitmaps = {0x5000};

// MSRs 0x480 to 0x490 of Bochs' corei7_haswell_4770, then IA32_FEATURE_CONTROL.
#define MODEL_MSRS 17
static const u64 haswell_msrs[MODEL_MSRS] = {
    0x00d810000000002b, 0x0000007f00000016, 0xf7f9fffe0401e172, 0x007fffff00036dff,
    0x0000ffff000011ff, 0x00000000200401e0, 0x0000000080000021, 0x00000000ffffffff,
    0x0000000000002000, 0x00000000001727ff, 0x0000000000000034, 0x00047fff00000000,
    0x00000f0106334141, 0x0000007f00000016, 0xf7f9fffe04006172, 0x007fffff00036dfb,
    0x0000ffff000011fb,
};

static u64 model_msrs[MODEL_MSRS];
static u64 model_feature_control;
static bool model_absent[MODEL_MSRS]; // reading one of these is #GP

static u64 model_rdmsr(u32 msr) {
    if (msr == MSR_FEATURE_CONTROL)
        return model_feature_control;
    assert_in_range(msr, MSR_VMX_BASIC, MSR_VMX_BASIC + MODEL_MSRS - 1);
    assert_false(model_absent[msr - MSR_VMX_BASIC]);
    return model_msrs[msr - MSR_VMX_BASIC];
}

static void model_reset_msrs(void) {
    memcpy(model_msrs, haswell_msrs, sizeof(model_msrs));
    memset(model_absent, 0, sizeof(model_absent));
    model_feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX;
}

unused static uint64_t read_model(void *context unused, uint32_t field) {
    return field >= BASALT_FIELD_MSR(0) ? model_rdmsr(field - BASALT_FIELD_MSR(0))
                                        : vmcs_read_raw(field);
}

unused static struct check check = {.read = read_model, .physical_bits = 40, .linear_bits = 48};

// Names the rule that the VMCS violates.
#define vmx_check() check_vmx(&check)

unused static struct cpu_state model_cpu;

// A test of what is refused returns to where it set this up.
unused static jmp_buf model_refused;
unused static const char *model_missing, *model_remedy;
noreturn void refuse(const char *remedy, const char *missing, ...) {
    static char text[200];
    va_list args;

    va_start(args, missing);
    vsnprintf(text, sizeof(text), missing, args);
    va_end(args);
    model_missing = text;
    model_remedy = remedy;
    longjmp(model_refused, 1);
}

// A virtual processor after INIT on the Haswell model, ready to be entered.
unused static struct cpu_state *model_new(void) {
    struct backend_features features = {0};

    model_reset_msrs();
    vmx_caps_read(model_rdmsr, true, &vmx_caps, &features);
    memset(vmcs_model, 0, sizeof(vmcs_model));
    memset(vmcs_model_written, 0, sizeof(vmcs_model_written));
    model_cpu = (struct cpu_state){.second_level = HPA(0x123000), .tag = 7, .io_bitmap = 0x8000};
    vmx_state_init(&model_cpu);
    write_init_state(&(struct backend){.write = vmx_write, .write_segment = vmx_write_segment},
                     &model_cpu);
    vmcs_write64(GUEST_PAT, 0x0007040600070406);
    vmcs_writenat(GUEST_RIP, 0xfff0);
    vmcs_writenat(GUEST_RFLAGS, RFLAGS_FIXED);
    return &model_cpu;
}

unused static void model_segment(unsigned index, u16 selector, u64 base, u32 limit,
                                 u32 attributes) {
    vmx_write_segment(
        &model_cpu, index,
        &(struct basalt_segment){
            .selector = selector, .base = base, .limit = limit, .attributes = attributes});
}

// The same with APIC virtualization.
unused static struct cpu_state *model_new_apicv(void) {
    struct cpu_state *cpu = model_new();

    cpu->virtual_apic = HPA(0x9000);
    vmx_state_init(cpu);
    write_init_state(&(struct backend){.write = vmx_write, .write_segment = vmx_write_segment},
                     cpu);
    return cpu;
}

// The same processor in flat protected mode, without paging.
unused static struct cpu_state *model_new_32(void) {
    struct cpu_state *cpu = model_new();

    vmx_write(cpu, REG_CR0, CR0_PE | CR0_ET);
    for (unsigned i = BASALT_ES; i <= BASALT_GS; i++)
        model_segment(i, i == BASALT_CS ? 8 : 16, 0, 0xffffffff, i == BASALT_CS ? 0xc09b : 0xc093);
    return cpu;
}

// The same in 64-bit mode, CPL 0.
unused static struct cpu_state *model_new_64(void) {
    struct cpu_state *cpu = model_new_32();

    vmx_write(cpu, REG_CR4, CR4_PAE);
    vmx_write(cpu, REG_EFER, EFER_LME | EFER_LMA | EFER_NXE);
    vmx_write(cpu, REG_CR0, CR0_PG | CR0_PE | CR0_ET);
    model_segment(BASALT_CS, 8, 0, 0xffffffff, 0xa09b);
    return cpu;
}
