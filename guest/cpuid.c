// SPDX-License-Identifier: Apache-2.0
//
// CPUID: what a domain's creator says in a table (BASALT_HC_CPUID_SET), with what differs between its vCPUs or follows their
// control registers; and what guests may do whatever that table shows. A domain without a table sees the processor's own.
// Follows the SDM, "CPUID--CPU Identification".

#include "arch/cpu.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"

// IA32_ARCH_CAPABILITIES: RDCL_NO RSBA SKIP_L1DFL SSB_NO MDS_NO PSCHANGE_NO TAA_NO SBDR_NO FBSDP_NO PSDP_NO FB_CLEAR
// BHI_NO PBRSB_NO GDS_NO RFDS_NO. Hidden: what comes with an MSR.
#define ARCH_CAPABILITIES 0x0d12e17dull

#define CR4_EVERYWHERE                                                                        \
    (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | \
     CR4_OSFXSR | CR4_OSXMMEXCPT)
// What the kernel has on itself wherever the processor has it.
#define CR4_BY_FEATURE (CR4_OSXSAVE | CR4_FSGSBASE | CR4_SMEP | CR4_SMAP | CR4_UMIP)

#define XSAVE_LEGACY   576u // x87 and SSE state and the header; AVX state follows, compacted or not
#define XSAVE_AVX      256u

struct cpuid_policy guest_cpuid;

void cpuid_setup(void) {
    u64 capabilities;

    (void)!rdmsr_safe(MSR_ARCH_CAPABILITIES, &capabilities); // 0 where it fails
    guest_cpuid = (struct cpuid_policy){
        .phys_bits = (u8)MIN(cpu_features.physical_bits, BASALT_PHYSICAL_BITS_MAX),
        .cr4 = CR4_EVERYWHERE | (read_cr4() & CR4_BY_FEATURE) | (cpu_features.pcid ? CR4_PCIDE : 0),
        .arch_capabilities = capabilities & ARCH_CAPABILITIES};
}

int cpuid_set(struct domain *d, struct domain *from, gpa_t rows, u64 count) {
    if (count > PAGE_SIZE / sizeof(*d->cpuid))
        return -BASALT_EINVAL;
    if (!d->cpuid && !(d->cpuid = domain_page_alloc(d)))
        return -BASALT_ENOSPC;
    int error = memory_read(from, rows, d->cpuid, count * sizeof(*d->cpuid));
    d->cpuid_end = d->cpuid + (error ? 0 : count);
    return error;
}

// The row that counts; NULL: there is none.
static const struct basalt_cpuid *find(const struct domain *d, u32 leaf, u32 subleaf) {
    for (const struct basalt_cpuid *row = d->cpuid; row < d->cpuid_end; row++)
        if (row->leaf == leaf && (row->subleaf == BASALT_CPUID_ANY || row->subleaf == subleaf))
            return row;
    return NULL;
}

// Where no row counts.
static __attribute__((noinline)) void without_row(struct vcpu *v, u32 leaf, u32 subleaf) {
    struct cpuid r = v->domain->cpuid ? (struct cpuid){0} : cpuid_count(leaf, subleaf);
    u64 *gprs = v->cpu.gprs;

    gprs[BASALT_RAX] = r.eax;
    gprs[BASALT_RBX] = r.ebx;
    gprs[BASALT_RCX] = r.ecx;
    gprs[BASALT_RDX] = r.edx;
}

// EBX of leaf 0xd, as the row has it: the size of what the guest's XCR0, which is in the processor, has on.
static __attribute__((noinline)) u64 state_size(u32 subleaf, u64 ebx) {
    if (subleaf > 1 || !ebx)
        return ebx;
    return XSAVE_LEGACY + (xgetbv(0) & XCR0_AVX ? XSAVE_AVX : 0);
}

// What the row does not say. OSXSAVE is never the guest's alone.
static void add_live(struct vcpu *v, u32 leaf, u32 subleaf) {
    u64 *gprs = v->cpu.gprs;

    if (leaf == 0x1) {
        gprs[BASALT_RBX] |= (u64)v->index << 24;
        gprs[BASALT_RCX] |= v->cpu.cr4_guest & CR4_OSXSAVE ? CPUID_1_ECX_OSXSAVE : 0;
        gprs[BASALT_RDX] &= ~(vlapic_on(&v->lapic) ? 0 : CPUID_1_EDX_APIC);
    } else if (leaf == 0xb) { // topology
        gprs[BASALT_RCX] |= subleaf & 0xff;
        gprs[BASALT_RDX] = v->index;
    } else if (leaf == 0xd) {
        gprs[BASALT_RBX] = state_size(subleaf, gprs[BASALT_RBX]);
    }
}

void handle_cpuid(struct vcpu *v, struct exit e) {
    u64 *gprs = v->cpu.gprs;
    u32 leaf = (u32)gprs[BASALT_RAX], subleaf = (u32)gprs[BASALT_RCX];
    const struct basalt_cpuid *row = find(v->domain, leaf, subleaf);

    if (likely(row)) {
        gprs[BASALT_RAX] = row->eax;
        gprs[BASALT_RBX] = row->ebx;
        gprs[BASALT_RCX] = row->ecx;
        gprs[BASALT_RDX] = row->edx;
        add_live(v, leaf, subleaf);
    } else {
        without_row(v, leaf, subleaf);
    }
    vcpu_skip(v, e.insn_length);
}
