// SPDX-License-Identifier: Apache-2.0
//
// MSRs that a guest reads without exits. Those of the VMCS change hands at each entry and exit, and the guest writes them,
// too; the live ones (KERNEL_GS_BASE and SYSCALL's), which the kernel itself never uses, when a virtual processor is loaded.
// Of these it writes only KERNEL_GS_BASE without an exit, as SWAPGS does: the others need no reading, and are written only
// where they differ. Invariant: values were found legal in guest/msr.c, so no WRMSR and
// no entry fails for them. Follows the SDM, "MSR-Bitmap Address".

#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/cpu.h"

#define BITMAP_HIGH  0x400u // bytes to the part for MSRs from 0xc0000000 on
#define BITMAP_WRITE 0x800u

#define DEBUGCTL_BTF BIT(1) // single-step on branches

// MSRs 0x800 to 0x83f as the bits of the 64 in a bitmap: those that the page has (all but the current count), and those
// that the processor virtualizes when they are written: TPR, EOI, SELF_IPI.
#define X2APIC_BYTE  (MSR_X2APIC_BASE / 8)
#define X2APIC_READ  0x41fd01ffffffa50cull
#define X2APIC_WRITE (BIT(0x08) | BIT(0x0b) | BIT(0x3f))

// The live ones, in the order of cpu_state.vmx.live, have no field.
static const struct guest_msr {
    u32 msr, field;
    bool write_exits;
} msrs[] = {
    {MSR_KERNEL_GS_BASE, 0, false},
    {MSR_STAR, 0, true},
    {MSR_LSTAR, 0, true},
    {MSR_CSTAR, 0, true},
    {MSR_FMASK, 0, true},
    {MSR_FS_BASE, GUEST_BASE(BASALT_FS), false},
    {MSR_GS_BASE, GUEST_BASE(BASALT_GS), false},
    {MSR_SYSENTER_CS, GUEST_SYSENTER_CS, false},
    {MSR_SYSENTER_ESP, GUEST_SYSENTER_ESP, false},
    {MSR_SYSENTER_EIP, GUEST_SYSENTER_EIP, false},
    {MSR_PAT, GUEST_PAT, false},
    {MSR_DEBUGCTL, GUEST_DEBUGCTL, true},
};

static u64 in_processor[CPUS_MAX][VMX_LIVE_MSRS]; // the live ones, while no guest is loaded

static void open_msr(u8 *bitmap, const struct guest_msr *m) {
    unsigned bit = (m->msr & 0x1fff) + (m->msr >> 31) * BITMAP_HIGH * 8;

    bitmap[bit / 8] &= (u8)~BIT(bit % 8);
    if (!m->write_exits)
        bitmap[BITMAP_WRITE + bit / 8] &= (u8)~BIT(bit % 8);
}

void vmx_msr_bitmaps_fill(u8 *bitmap, u8 *x2apic_bitmap) {
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        open_msr(bitmap, &msrs[i]);
        open_msr(x2apic_bitmap, &msrs[i]);
    }
    *(u64 *)(x2apic_bitmap + X2APIC_BYTE) = ~X2APIC_READ;
    *(u64 *)(x2apic_bitmap + X2APIC_BYTE + BITMAP_WRITE) = ~X2APIC_WRITE;
}

void vmx_msrs_init(void) {
    for (unsigned i = 0; i < VMX_LIVE_MSRS; i++)
        in_processor[this_cpu()->id][i] = rdmsr(msrs[i].msr);
}

void vmx_msrs_load(const struct cpu_state *cpu) {
    u64 *now = in_processor[this_cpu()->id];

#pragma GCC unroll 5
    for (unsigned i = 0; i < VMX_LIVE_MSRS; i++)
        if (now[i] != cpu->vmx.live[i])
            wrmsr(msrs[i].msr, now[i] = cpu->vmx.live[i]);
}

void vmx_msrs_save(struct cpu_state *cpu) {
    in_processor[this_cpu()->id][0] = cpu->vmx.live[0] = rdmsr(MSR_KERNEL_GS_BASE);
}

static void write_live(struct cpu_state *cpu, unsigned i, u64 value) {
    in_processor[this_cpu()->id][i] = cpu->vmx.live[i] = value;
    wrmsr(msrs[i].msr, value);
}

bool vmx_access_msr(struct cpu_state *cpu, u32 msr, bool write, u64 *value) {
    if (write && msr == MSR_DEBUGCTL)
        *value &= DEBUGCTL_BTF; // branch records and traces would be the host's
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        u32 field = msrs[i].field;

        if (msrs[i].msr != msr)
            continue;
        if (!write)
            *value = field ? vmcs_read_raw(field) : rdmsr(msr);
        else if (field)
            vmcs_write_raw(field, *value);
        else
            write_live(cpu, i, *value);
        return true;
    }
    return false;
}
