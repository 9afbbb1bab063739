// SPDX-License-Identifier: Apache-2.0
//
// MSRs that a guest reads and writes without exits. Those of the VMCS change hands at each entry and exit; the live
// ones (SYSCALL, KERNEL_GS_BASE, TSC_AUX), which the kernel itself never uses, when a virtual processor is loaded and
// unloaded. Invariant: no value written here can make WRMSR or an entry fail. Follows the SDM, "MSR-Bitmap Address".

#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/x86.h"

#define BITMAP_HIGH  0x400u // bytes to the part for MSRs from 0xc0000000 on
#define BITMAP_WRITE 0x800u

#define DEBUGCTL_BTF BIT(1) // single-step on branches

static const u32 live[VMX_LIVE_MSRS] = {
    MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_FMASK, MSR_KERNEL_GS_BASE, MSR_TSC_AUX,
};

static const struct {
    u32 msr, field;
} switched[] = {
    {MSR_FS_BASE, GUEST_BASE(BASALT_FS)},   {MSR_GS_BASE, GUEST_BASE(BASALT_GS)},
    {MSR_SYSENTER_CS, GUEST_SYSENTER_CS},   {MSR_SYSENTER_ESP, GUEST_SYSENTER_ESP},
    {MSR_SYSENTER_EIP, GUEST_SYSENTER_EIP}, {MSR_PAT, GUEST_PAT},
    {MSR_DEBUGCTL, GUEST_DEBUGCTL}, // last: writes to this one exit
};

static unsigned live_count(void) {
    return vmx_caps.use[CONTROL_SECONDARY] & SECONDARY_RDTSCP ? VMX_LIVE_MSRS : VMX_LIVE_MSRS - 1;
}

static void open_msr(u8 *bitmap, u32 msr) {
    unsigned bit = (msr & 0x1fff) + (msr >> 31) * BITMAP_HIGH * 8;

    bitmap[bit / 8] &= (u8)~BIT(bit % 8);
    bitmap[BITMAP_WRITE + bit / 8] &= (u8)~BIT(bit % 8);
}

void vmx_msrs_open(u8 *bitmap) {
    for (unsigned i = 0; i < live_count(); i++)
        open_msr(bitmap, live[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(switched) - 1; i++)
        open_msr(bitmap, switched[i].msr);
}

void vmx_msrs_load(const struct vmx_area *area) {
    for (unsigned i = 0; i < live_count(); i++)
        wrmsr(live[i], area->live[i]);
}

void vmx_msrs_save(struct vmx_area *area) {
    for (unsigned i = 0; i < live_count(); i++)
        area->live[i] = rdmsr(live[i]);
}

static bool is_live(u32 msr) {
    for (unsigned i = 0; i < live_count(); i++)
        if (live[i] == msr)
            return true;
    return false;
}

bool vmx_read_msr(struct cpu_state *cpu unused, u32 msr, u64 *value) {
    if (is_live(msr)) {
        *value = rdmsr(msr);
        return true;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(switched); i++) {
        if (switched[i].msr == msr) {
            *value = vmcs_read_raw(switched[i].field);
            return true;
        }
    }
    return false;
}

// What the processor would not refuse with #GP.
static bool value_ok(u32 msr, u64 value) {
    switch (msr) {
    case MSR_STAR: return true;
    case MSR_FMASK:
    case MSR_TSC_AUX:
    case MSR_SYSENTER_CS: return !(value >> 32);
    case MSR_PAT: return vmx_pat_ok(value);
    case MSR_DEBUGCTL: return !(value >> 16);
    default: return vmx_canonical(&vmx_caps, value);
    }
}

bool vmx_write_msr(struct cpu_state *cpu unused, u32 msr, u64 value) {
    if (!value_ok(msr, value))
        return false;
    if (msr == MSR_DEBUGCTL)
        value &= DEBUGCTL_BTF; // branch records and traces would be the host's
    if (is_live(msr)) {
        wrmsr(msr, value);
        return true;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(switched); i++) {
        if (switched[i].msr == msr) {
            vmcs_write_raw(switched[i].field, value);
            return true;
        }
    }
    return false;
}
