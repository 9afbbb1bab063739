// SPDX-License-Identifier: Apache-2.0
//
// The host's side of VMX: switching VMX operation on and off on a CPU, the bitmaps that all guests share, and the host
// state of a VMCS. Invariant: a VMCS holds the host state of the CPU on which it was loaded last. Follows the SDM,
// "Introduction to Virtual Machine Extensions" and "Host-State Area".

#include "vmx/insn.h"
#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/cpu.h"
#include "arch/paging.h"
#include "arch/spec.h"
#include "kernel/panic.h"

struct vmx_caps vmx_caps;
hpa_t vmx_msr_bitmaps;

static u8 bitmaps[2][PAGE_SIZE] __attribute__((aligned(4096)));

static u64 read_any_msr(u32 msr) { return rdmsr(msr); }

void vmx_probe(struct backend_features *features) {
    vmx_caps_read(read_any_msr, cpu_features.vmx, &vmx_caps, features);
}

// What ran here before may have left translations behind.
static void flush_all(void) {
    if (vmx_caps.ept_vpid & EPT_CAP_INVEPT_ALL)
        invept(INV_ALL, 0);
    if (vmx_caps.ept_vpid & VPID_CAP_ALL)
        invvpid(INV_ALL, 0);
}

void vmx_cpu_on(void *page) {
    u64 feature = rdmsr(MSR_FEATURE_CONTROL);

    if (!(feature & FEATURE_CONTROL_LOCKED))
        wrmsr(MSR_FEATURE_CONTROL, feature | FEATURE_CONTROL_VMX | FEATURE_CONTROL_LOCKED);
    else if (!(feature & FEATURE_CONTROL_VMX))
        refuse("update the firmware", "VMX, locked off by the firmware on one CPU");
    write_cr0((read_cr0() | vmx_caps.cr0_must) & vmx_caps.cr0_may);
    write_cr4((read_cr4() | vmx_caps.cr4_must) & vmx_caps.cr4_may);
    *(u32 *)page = vmx_caps.revision;
    if (!vmxon(pool_hpa(page)))
        refuse("nothing else may use VMX before Basalt starts", "VMX operation (VMXON failed)");
    flush_all();
    vmx_msrs_init();
    memset(bitmaps, 0xff, sizeof(bitmaps));
    vmx_msr_bitmaps_fill(bitmaps[0], bitmaps[1]);
    vmx_msr_bitmaps = kernel_virt_to_hpa(bitmaps[0]);
}

// NMIs stay blocked after an NMI exit until the next IRET, and both kinds of event belong to the host: its own trap
// handlers see them, as if they had come now.
void vmx_host_event(unsigned vector) {
    if (vector == EXC_NMI)
        asm volatile("int $2" : : : "memory");
    else
        asm volatile("int $18" : : : "memory");
}

void vmx_init_host(const struct cpu *host) {
    static const u32 zero[] = {HOST_SYSENTER_CS, HOST_SYSENTER_ESP, HOST_SYSENTER_EIP,
                               HOST_FS_BASE};
    static const u16 selectors[] = {0, KERNEL_CS, KERNEL_DS, 0, 0, 0, KERNEL_TSS};

    for (unsigned i = 0; i < ARRAY_SIZE(zero); i++)
        vmcs_write_raw(zero[i], 0);
    for (unsigned i = 0; i < ARRAY_SIZE(selectors); i++)
        vmcs_write16(HOST_SELECTOR(i), selectors[i]);
    vmcs_write64(HOST_EFER, rdmsr(MSR_EFER));
    vmcs_write64(HOST_PAT, rdmsr(MSR_PAT));
    vmcs_writenat(HOST_CR0, read_cr0());
    vmcs_writenat(HOST_CR3, read_cr3());
    vmcs_writenat(HOST_CR4, read_cr4());
    vmcs_writenat(HOST_GS_BASE, (u64)host);
    vmcs_writenat(HOST_TR_BASE, (u64)&host->tss);
    vmcs_writenat(HOST_GDTR_BASE, (u64)host->gdt);
    vmcs_writenat(HOST_IDTR_BASE, (u64)cpu_idt);
    vmcs_writenat(HOST_RIP,
                  (u64)(spec.flags & SPEC_AROUND ? vmx_exit_entry_guarded : vmx_exit_entry));
}
