// SPDX-License-Identifier: Apache-2.0
//
// The CPUID policy (see cpuid.h): one table of leaves with masks of the host's bits that a guest sees; what is made
// instead of passed is in make_leaves() (once per machine) and live() (per vCPU, or following its control registers).

#include "guest/vcpu.h"
#include "kernel/domain.h"

#include <basalt/hypercall.h>

#define PHYS_BITS_MAX 46u // of guests: what the second level reaches

#define ALL           0xffffffffu
#define HYPERVISOR    0x40000000u
#define EXTENDED      0x80000000u

// SSE3 PCLMULQDQ SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND. Hidden, for want of their
// MSRs or exits: DTES64 MONITOR DS-CPL VMX SMX EIST TM2 CNXT-ID SDBG xTPR PDCM DCA.
#define ECX_1 0x76da3203u
// FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 SS. Hidden: PSN DS
// ACPI TM PBE.
#define EDX_1 0x0f8bfbffu
// FSGSBASE BMI1 AVX2 FDP_EXCPTN_ONLY SMEP BMI2 ERMS INVPCID no-FCS/FDS RDSEED ADX SMAP CLFLUSHOPT CLWB SHA. Hidden: SGX
// HLE RTM RDT MPX AVX-512 PT.
#define EBX_7 0x219c27e9u
// UMIP GFNI VAES VPCLMULQDQ CLDEMOTE. Hidden: AVX-512 RDPID PKU WAITPKG CET TME LA57 KL MOVDIRI MOVDIR64B ENQCMD SGX_LC PKS.
#define ECX_7 0x02000704u
// FSRM MD_CLEAR SERIALIZE FLUSH_L1D ARCH_CAPABILITIES. Hidden: UINTR TSX hybrid PCONFIG LBR IBT AMX, and IBRS STIBP SSBD
// because IA32_SPEC_CTRL is not switched.
#define EDX_7 0x30004410u
// LAHF ABM SSE4A misaligned-SSE PREFETCHW XOP FMA4 TBM. Hidden: SVM ExtApicSpace AltMovCr8 OSVW IBS SKINIT WDT LWP TCE
// NodeId TopologyExtensions PerfCtr MONITORX.
#define ECX_81 0x002109e1u
// AMD's copies of leaf 1; SYSCALL NX MMXEXT 1GB-pages LM 3DNow. Hidden: FFXSR, and RDTSCP because IA32_TSC_AUX is not
// switched.
#define EDX_81 0xe5d3fbffu
// CLZERO, FP error pointers restored, IBPB. Hidden: RDPRU WBNOINVD, and what needs IA32_SPEC_CTRL.
#define EBX_88 0x00001005u
// IA32_ARCH_CAPABILITIES: RDCL_NO RSBA SKIP_L1DFL SSB_NO MDS_NO PSCHANGE_NO TAA_NO SBDR_NO FBSDP_NO PSDP_NO FB_CLEAR
// BHI_NO PBRSB_NO GDS_NO RFDS_NO. Hidden: what comes with an MSR.
#define ARCH_CAPABILITIES 0x0d12e17dull

#define XSAVE_LEGACY      576u // x87 and SSE state and the header; AVX state follows, compacted or not
#define XSAVE_AVX         256u

enum kind {
    MADE,      // the row has no mask but the leaf itself
    FIXED,     // the same for all vCPUs at all times
    LIVE,      // live() has a word to say
    SUBLEAVES, // the same, of each subleaf
};

// Consecutive rows of one leaf are its subleaves. Leaves that no row names are all zeros: MONITOR (5), DCA (9), PMU
// (0xA), RDT (0xF, 0x10), SGX (0x12), PT (0x14), SVM, IBS, topology extensions, SEV.
static const struct row {
    u32 leaf;
    enum kind kind;
    struct cpuid mask;
} rows[] = {
    {0x0, FIXED, {0, ALL, ALL, ALL}}, // vendor
    {0x1, LIVE, {ALL, 0xffff, ECX_1, EDX_1}},
    {0x2, FIXED, {ALL, ALL, ALL, ALL}},     // cache descriptors
    {0x4, SUBLEAVES, {0x3ff, ALL, ALL, 7}}, // caches, without who shares them
    {0x4, SUBLEAVES, {0x3ff, ALL, ALL, 7}},
    {0x4, SUBLEAVES, {0x3ff, ALL, ALL, 7}},
    {0x4, SUBLEAVES, {0x3ff, ALL, ALL, 7}},
    {0x6, MADE, {CPUID_6_EAX_ARAT, 0, 0, 0}}, // thermal, power
    {0x7, SUBLEAVES, {0, EBX_7, ECX_7, EDX_7}},
    {0xb, SUBLEAVES, {0, 0, 0, 0}}, // topology
    {0xd, SUBLEAVES, {0, 0, 0, 0}}, // extended state
    {0xd, SUBLEAVES, {7, 0, 0, 0}}, // XSAVEOPT, XSAVEC, XGETBV with ECX=1; no XSAVES, no XFD
    {0xd, SUBLEAVES, {0, 0, 0, 0}},
    {0x15, MADE, {0, 0, 0, 0}}, // frequencies
    {EXTENDED | 0x0, FIXED, {0, ALL, ALL, ALL}},
    {EXTENDED | 0x1, LIVE, {ALL, ALL, ECX_81, EDX_81}},
    {EXTENDED | 0x2, FIXED, {ALL, ALL, ALL, ALL}}, // brand string, in three
    {EXTENDED | 0x3, FIXED, {ALL, ALL, ALL, ALL}},
    {EXTENDED | 0x4, FIXED, {ALL, ALL, ALL, ALL}},
    {EXTENDED | 0x5, FIXED, {ALL, ALL, ALL, ALL}}, // AMD: first-level caches and TLBs
    {EXTENDED | 0x6, FIXED, {ALL, ALL, ALL, ALL}}, // second- and third-level caches
    {EXTENDED | 0x7, FIXED, {0, 0, 0, CPUID_87_EDX_INVARIANT_TSC}},
    {EXTENDED | 0x8, LIVE, {0xffff, EBX_88, 0, 0}},
    {EXTENDED | 0x19, FIXED, {ALL, ALL, 0, 0}}, // TLBs of 1 GiB pages
    {EXTENDED | 0x1a, FIXED, {ALL, 0, 0, 0}},   // how fast SSE is
    // LFENCE serializes; null selectors clear bases
    {EXTENDED | 0x21, FIXED, {BIT(2) | BIT(6), 0, 0, 0}},
    // "KVMKVMKVM": the paravirtual interface of stock guests. Signatures hold four characters each, the first in the low
    // byte.
    {HYPERVISOR | 0x0, MADE, {HYPERVISOR | 0x10, 0x4b4d564b, 0x564b4d56, 0x0000004d}},
    // no I/O delay needed, clock source with new MSRs, stable clock
    {HYPERVISOR | 0x1, MADE, {BIT(1) | BIT(3) | BIT(24), 0, 0, 0}},
    {HYPERVISOR | 0x10, MADE, {0, 0, 0, 0}}, // frequencies
    // "BasaltBasalt"
    {HYPERVISOR | 0x100, MADE, {HYPERVISOR | 0x101, 0x61736142, 0x6142746c, 0x746c6173}},
    {HYPERVISOR | 0x101, MADE, {BASALT_ABI_VERSION, 0, 0, 0}},
};

struct cpuid_policy guest_cpuid;
static struct cpuid shown[ARRAY_SIZE(rows)]; // what is made of the rows

// ARRAY_SIZE(rows): there is none.
static unsigned row_of(u32 leaf) {
    unsigned row = 0;

    while (row < ARRAY_SIZE(rows) && rows[row].leaf != leaf)
        row++;
    return row;
}

static struct cpuid *stored(u32 leaf) { return &shown[row_of(leaf)]; }

// What is there on any host, and what is made of the machine's own facts.
static void make_leaves(cpuid_host_fn host) {
    struct cpuid *one = stored(0x1);

    // Leaf 0xB is made here, and for Intel's guests 0x15.
    stored(0x0)->eax = guest_cpuid.amd ? MAX(MIN(host(0, 0).eax, 0xdu), 0xbu) : 0x15;
    one->ecx |= CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR;
    one->edx |= CPUID_1_EDX_APIC;
    stored(0x7)->ebx |= CPUID_7_EBX_TSC_ADJUST;
    // TSC / core crystal ratio. The APIC timer counts the crystal, so guests need calibrate neither.
    if (!guest_cpuid.amd)
        *stored(0x15) = (struct cpuid){1000000, (u32)tsc_khz, 1000000000, 0};
    *stored(HYPERVISOR | 0x10) = (struct cpuid){.eax = (u32)tsc_khz, .ebx = 1000000}; // kHz of both
    stored(EXTENDED | 0x0)->eax = MIN(MAX(host(EXTENDED, 0).eax, EXTENDED | 8), EXTENDED | 0x21);
    stored(EXTENDED | 0x8)->eax = guest_cpuid.phys_bits | 48 << 8;
}

// Features go whose state the kernel doesn't switch, or whose MSR the host doesn't have.
static void drop_features(void) {
    struct cpuid *one = stored(0x1), *seven = stored(0x7);

    if (!guest_cpuid.xcr0)
        one->ecx &= ~(u32)CPUID_1_ECX_XSAVE;
    if (!(guest_cpuid.xcr0 & XCR0_AVX)) {
        one->ecx &= ~(u32)(CPUID_1_ECX_AVX | CPUID_1_ECX_FMA | CPUID_1_ECX_F16C);
        seven->ebx &= ~(u32)CPUID_7_EBX_AVX2;
        seven->ecx &= ~(u32)(BIT(9) | BIT(10));                   // VAES, VPCLMULQDQ
        stored(EXTENDED | 0x1)->ecx &= ~(u32)(BIT(11) | BIT(16)); // XOP, FMA4
    }
    if (!guest_cpuid.arch_capabilities)
        seven->edx &= ~(u32)CPUID_7_EDX_ARCH_CAPABILITIES;
}

static void derive_control_bits(void) {
    struct cpuid one = *stored(0x1), seven = *stored(0x7);

    guest_cpuid.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    guest_cpuid.cr4 = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |
                      CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    guest_cpuid.cr4 |= one.ecx & CPUID_1_ECX_PCID ? CR4_PCIDE : 0;
    guest_cpuid.cr4 |= one.ecx & CPUID_1_ECX_XSAVE ? CR4_OSXSAVE : 0;
    guest_cpuid.cr4 |= seven.ebx & CPUID_7_EBX_FSGSBASE ? CR4_FSGSBASE : 0;
    guest_cpuid.cr4 |= seven.ebx & CPUID_7_EBX_SMEP ? CR4_SMEP : 0;
    guest_cpuid.cr4 |= seven.ebx & CPUID_7_EBX_SMAP ? CR4_SMAP : 0;
    guest_cpuid.cr4 |= seven.ecx & CPUID_7_ECX_UMIP ? CR4_UMIP : 0;
}

static void look_at_machine(u64 xcr0, u64 arch_capabilities, cpuid_host_fn host) {
    struct cpuid zero = host(0, 0);
    u32 extended = host(EXTENDED, 0).eax;
    u32 phys_bits = extended >= (EXTENDED | 8) ? host(EXTENDED | 8, 0).eax & 0xff : 36;
    bool xsave = zero.eax >= 0xd && host(1, 0).ecx & CPUID_1_ECX_XSAVE;
    // "cAMD", "uine" of HygonGenuine
    bool amd = zero.ecx == 0x444d4163 || zero.ecx == 0x656e6975;

    guest_cpuid = (struct cpuid_policy){
        .amd = amd,
        .phys_bits = (u8)MIN(phys_bits, PHYS_BITS_MAX),
        .xcr0 = xsave ? xcr0 & host(0xd, 0).eax & (XCR0_X87 | XCR0_SSE | XCR0_AVX) : 0,
        .arch_capabilities = arch_capabilities & ARCH_CAPABILITIES};
}

void cpuid_setup(u64 xcr0, u64 arch_capabilities, cpuid_host_fn host) {
    look_at_machine(xcr0, arch_capabilities, host);
    for (u32 i = 0, sub = 0; i < ARRAY_SIZE(rows); i++) {
        u32 leaf = rows[i].leaf;
        const struct cpuid *mask = &rows[i].mask;
        sub = i && rows[i - 1].leaf == leaf ? sub + 1 : 0;
        struct cpuid r = {0};
        if (rows[i].kind == MADE)
            r = *mask;
        else if (leaf <= host(leaf & EXTENDED, 0).eax)
            r = host(leaf, sub);
        shown[i] = (struct cpuid){r.eax & mask->eax, r.ebx & mask->ebx, r.ecx & mask->ecx,
                                  r.edx & mask->edx};
    }
    make_leaves(host);
    drop_features();
    derive_control_bits();
}

// Every vCPU is a core of one package. Returns the bits of APIC ID that tell the cores apart.
static u32 core_bits(u32 vcpus) { return vcpus <= 1 ? 0 : (u32)(32 - __builtin_clz(vcpus - 1)); }

static struct cpuid topology(const struct vcpu *v, u32 sub) {
    struct cpuid r = {.ecx = sub & 0xff, .edx = v->index};

    if (sub == 0) // threads of a core
        r.ebx = 1, r.ecx |= 1 << 8;
    if (sub == 1) // cores of the package
        r.eax = core_bits(v->domain->vcpu_count), r.ebx = v->domain->vcpu_count, r.ecx |= 2 << 8;
    return r;
}

static u32 xsave_size(u64 xcr0) { return XSAVE_LEGACY + (xcr0 & XCR0_AVX ? XSAVE_AVX : 0); }

// The guest's XCR0 is in the processor.
static struct cpuid extended_state(u32 sub, u32 instructions) {
    u64 most = guest_cpuid.xcr0;
    bool avx = most & XCR0_AVX;

    if (!most || sub > 2)
        return (struct cpuid){0};
    if (sub == 2)
        return (struct cpuid){avx ? XSAVE_AVX : 0, avx ? XSAVE_LEGACY : 0, 0, 0};
    u32 size = xsave_size(xgetbv(0));
    if (sub == 0)
        return (struct cpuid){(u32)most, size, xsave_size(most), 0};
    return (struct cpuid){instructions, instructions & CPUID_D1_EAX_XSAVEC ? size : 0, 0, 0};
}

static void live(const struct vcpu *v, u32 leaf, u32 sub, struct cpuid *r) {
    u32 vcpus = v->domain->vcpu_count, others = (1u << core_bits(vcpus)) - 1;

    switch (leaf) {
    case 0x1:
        r->ebx |= (u32)v->index << 24 | (others + 1) << 16;
        // OSXSAVE is never the guest's alone.
        r->ecx |= v->cpu.cr4_guest & CR4_OSXSAVE ? (u32)CPUID_1_ECX_OSXSAVE : 0;
        r->edx |= others ? (u32)CPUID_1_EDX_HTT : 0;
        r->edx &= ~(vlapic_on(&v->lapic) ? 0 : (u32)CPUID_1_EDX_APIC);
        break;
    case 0x4: // the third-level cache is shared by all
        if (r->eax & 31)
            r->eax |= others << 26 | ((r->eax >> 5 & 7) >= 3 ? others << 14 : 0);
        break;
    case 0xb: *r = topology(v, sub); break;
    case 0xd: *r = extended_state(sub, r->eax); break;
    case EXTENDED | 0x1:
        r->ecx |= guest_cpuid.amd && others ? 2
                                            : 0; // the logical processors are cores, not threads
        break;
    case EXTENDED | 0x8: r->ecx = guest_cpuid.amd ? (vcpus - 1) | core_bits(vcpus) << 12 : 0; break;
    default: break;
    }
}

struct cpuid cpuid_guest(const struct vcpu *v, u32 leaf, u32 subleaf) {
    struct cpuid r = {0};
    unsigned row = row_of(leaf);

    if (row == ARRAY_SIZE(rows))
        return r;
    if (rows[row].kind <= FIXED)
        return shown[row];
    u32 sub = rows[row].kind == SUBLEAVES ? subleaf : 0;
    if (sub < ARRAY_SIZE(rows) - row && rows[row + sub].leaf == leaf)
        r = shown[row + sub];
    live(v, leaf, sub, &r);
    return r;
}
