// SPDX-License-Identifier: Apache-2.0
//
// The CPUID policy (see cpuid.h): one table of leaves with masks of the host's bits that a guest sees; what is made
// instead of passed is in prepare() (once per machine) and live() (per vCPU, or following its control registers).

#include "guest/cpuid.h"

#include <basalt/hypercall.h>

#define ALL      0xffffffffu
#define EXTENDED 0x80000000u

// SSE3 PCLMULQDQ SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND. Hidden, for want of their
// MSRs or exits: DTES64 MONITOR DS-CPL VMX SMX EIST TM2 CNXT-ID SDBG xTPR PDCM DCA.
#define ECX_1 0x76da3203u
// FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 SS. Hidden: PSN DS
// ACPI TM PBE.
#define EDX_1 0x0f8bfbffu
// FSGSBASE BMI1 AVX2 FDP_EXCPTN_ONLY SMEP BMI2 ERMS INVPCID no-FCS/FDS RDSEED ADX SMAP CLFLUSHOPT CLWB SHA. Hidden: SGX
// HLE RTM RDT MPX AVX-512 PT.
#define EBX_7 0x219c27e9u
// UMIP GFNI VAES VPCLMULQDQ RDPID CLDEMOTE. Hidden: AVX-512 PKU WAITPKG CET TME LA57 KL MOVDIRI MOVDIR64B ENQCMD SGX_LC PKS.
#define ECX_7 0x02400704u
// FSRM MD_CLEAR SERIALIZE FLUSH_L1D ARCH_CAPABILITIES. Hidden: UINTR TSX hybrid PCONFIG LBR IBT AMX, and IBRS STIBP SSBD
// because IA32_SPEC_CTRL is not switched.
#define EDX_7 0x30004410u
// LAHF ABM SSE4A misaligned-SSE PREFETCHW XOP FMA4 TBM. Hidden: SVM ExtApicSpace AltMovCr8 OSVW IBS SKINIT WDT LWP TCE
// NodeId TopologyExtensions PerfCtr MONITORX.
#define ECX_81 0x002109e1u
// AMD's copies of leaf 1; SYSCALL NX MMXEXT 1GB-pages RDTSCP LM 3DNow. Hidden: FFXSR.
#define EDX_81 0xedd3fbffu
// CLZERO, FP error pointers restored, IBPB. Hidden: RDPRU WBNOINVD, and what needs IA32_SPEC_CTRL.
#define EBX_88      0x00001005u
#define EBX_88_IBPB BIT(12)
// IA32_ARCH_CAPABILITIES: RDCL_NO RSBA SKIP_L1DFL SSB_NO MDS_NO PSCHANGE_NO TAA_NO SBDR_NO FBSDP_NO PSDP_NO FB_CLEAR
// BHI_NO PBRSB_NO GDS_NO RFDS_NO. Hidden: what comes with an MSR.
#define ARCH_CAPABILITIES 0x0d12e17dull

#define XSAVE_LEGACY      576u // x87 and SSE state and the header; AVX state follows, compacted or not
#define XSAVE_AVX         256u

// Consecutive rows of one leaf are its subleaves. Leaves that no row names are all zeros: MONITOR (5), DCA (9), PMU
// (0xA), RDT (0xF, 0x10), SGX (0x12), PT (0x14), SVM, IBS, topology extensions, SEV.
static const struct row {
    u32 leaf;
    struct cpuid mask;
} rows[] = {
    {0x0, {0, ALL, ALL, ALL}}, // vendor
    {0x1, {ALL, 0xffff, ECX_1, EDX_1}},
    {0x2, {ALL, ALL, ALL, ALL}}, // cache descriptors
    {0x4, {0x3ff, ALL, ALL, 7}}, // caches, without who shares them
    {0x4, {0x3ff, ALL, ALL, 7}},
    {0x4, {0x3ff, ALL, ALL, 7}},
    {0x4, {0x3ff, ALL, ALL, 7}},
    {0x6, {0, 0, 0, 0}}, // thermal, power
    {0x7, {0, EBX_7, ECX_7, EDX_7}},
    {0xb, {0, 0, 0, 0}}, // topology
    {0xd, {0, 0, 0, 0}}, // extended state
    {0xd, {7, 0, 0, 0}}, // XSAVEOPT, XSAVEC, XGETBV with ECX=1; no XSAVES, no XFD
    {0xd, {0, 0, 0, 0}},
    {0x15, {0, 0, 0, 0}}, // frequencies
    {0x16, {0, 0, 0, 0}},
    {EXTENDED | 0x0, {0, ALL, ALL, ALL}},
    {EXTENDED | 0x1, {ALL, ALL, ECX_81, EDX_81}},
    {EXTENDED | 0x2, {ALL, ALL, ALL, ALL}}, // brand string, in three
    {EXTENDED | 0x3, {ALL, ALL, ALL, ALL}},
    {EXTENDED | 0x4, {ALL, ALL, ALL, ALL}},
    {EXTENDED | 0x5, {ALL, ALL, ALL, ALL}}, // AMD: first-level caches and TLBs
    {EXTENDED | 0x6, {ALL, ALL, ALL, ALL}}, // second- and third-level caches
    {EXTENDED | 0x7, {0, 0, 0, CPUID_87_EDX_INVARIANT_TSC}},
    {EXTENDED | 0x8, {0xffff, EBX_88, 0, 0}},
    {EXTENDED | 0x19, {ALL, ALL, 0, 0}},           // TLBs of 1 GiB pages
    {EXTENDED | 0x1a, {ALL, 0, 0, 0}},             // how fast SSE is
    {EXTENDED | 0x21, {BIT(2) | BIT(6), 0, 0, 0}}, // LFENCE serializes; null selectors clear bases
};
_Static_assert(ARRAY_SIZE(rows) <= CPUID_ROWS, "policy->store has room");

// Features that go when the kernel or the backend can't do what they need.
enum need { XSAVE, AVX, INVPCID, RDTSCP, CAPABILITIES };

static const struct gate {
    enum need need;
    u32 leaf;
    struct cpuid bits;
} gates[] = {
    {XSAVE, 0x1, {.ecx = CPUID_1_ECX_XSAVE}},
    {AVX, 0x1, {.ecx = CPUID_1_ECX_AVX | CPUID_1_ECX_FMA | CPUID_1_ECX_F16C}},
    {AVX, 0x7, {.ebx = CPUID_7_EBX_AVX2, .ecx = BIT(9) | BIT(10)}}, // VAES, VPCLMULQDQ
    {AVX, EXTENDED | 0x1, {.ecx = BIT(11) | BIT(16)}},              // XOP, FMA4
    {INVPCID, 0x1, {.ecx = CPUID_1_ECX_PCID}},
    {INVPCID, 0x7, {.ebx = CPUID_7_EBX_INVPCID}},
    {RDTSCP, 0x7, {.ecx = CPUID_7_ECX_RDPID}},
    {RDTSCP, EXTENDED | 0x1, {.edx = CPUID_81_EDX_RDTSCP}},
    {CAPABILITIES, 0x7, {.edx = CPUID_7_EDX_ARCH_CAPABILITIES}},
};

static u8 *row_of(struct cpuid_policy *policy, u32 leaf) {
    return leaf & EXTENDED ? &policy->extended[leaf & ~EXTENDED] : &policy->basic[leaf];
}

static struct cpuid *stored(struct cpuid_policy *policy, u32 leaf) {
    return &policy->store[*row_of(policy, leaf) - 1];
}

static void prepare(const struct cpuid_policy *policy, u32 leaf, struct cpuid *r) {
    u32 mhz = (policy->tsc_khz + 500) / 1000;

    switch (leaf) {
    case 0x0: r->eax = policy->max_basic; break;
    case 0x1:
        r->ecx |= CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR;
        r->edx |= CPUID_1_EDX_APIC;
        break;
    case 0x6: r->eax = CPUID_6_EAX_ARAT; break;
    case 0x7: r->ebx |= CPUID_7_EBX_TSC_ADJUST; break;
    // TSC / core crystal ratio. The APIC timer counts the crystal, so guests need calibrate neither.
    case 0x15: *r = (struct cpuid){1000000, policy->tsc_khz, 1000000000, 0}; break;
    case 0x16: *r = (struct cpuid){mhz, mhz, 100, 0}; break;
    case EXTENDED | 0x0: r->eax = policy->max_extended; break;
    case EXTENDED | 0x8: r->eax = policy->phys_bits | 48 << 8; break;
    default: break;
    }
}

static void close_gates(struct cpuid_policy *policy, const struct cpuid_inputs *in) {
    const bool open[] = {
        [XSAVE] = policy->xcr0,
        [AVX] = policy->xcr0 & XCR0_AVX,
        [INVPCID] = in->invpcid,
        [RDTSCP] = in->rdtscp,
        [CAPABILITIES] = policy->arch_capabilities,
    };

    for (const struct gate *g = gates; g < gates + ARRAY_SIZE(gates); g++) {
        struct cpuid *r = stored(policy, g->leaf);
        if (open[g->need])
            continue;
        r->ebx &= ~g->bits.ebx;
        r->ecx &= ~g->bits.ecx;
        r->edx &= ~g->bits.edx;
    }
}

static void derive_control_bits(struct cpuid_policy *policy) {
    struct cpuid one = *stored(policy, 0x1), seven = *stored(policy, 0x7);

    policy->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    policy->cr4 = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |
                  CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    policy->cr4 |= one.ecx & CPUID_1_ECX_PCID ? CR4_PCIDE : 0;
    policy->cr4 |= one.ecx & CPUID_1_ECX_XSAVE ? CR4_OSXSAVE : 0;
    policy->cr4 |= seven.ebx & CPUID_7_EBX_FSGSBASE ? CR4_FSGSBASE : 0;
    policy->cr4 |= seven.ebx & CPUID_7_EBX_SMEP ? CR4_SMEP : 0;
    policy->cr4 |= seven.ebx & CPUID_7_EBX_SMAP ? CR4_SMAP : 0;
    policy->cr4 |= seven.ecx & CPUID_7_ECX_UMIP ? CR4_UMIP : 0;
    policy->rdtscp = (stored(policy, EXTENDED | 0x1)->edx & CPUID_81_EDX_RDTSCP) ||
                     (seven.ecx & CPUID_7_ECX_RDPID);
    policy->ibpb = stored(policy, EXTENDED | 0x8)->ebx & EBX_88_IBPB;
    policy->l1d_flush = seven.edx & CPUID_7_EDX_FLUSH_L1D;
}

static void prepare_machine(struct cpuid_policy *policy, const struct cpuid_inputs *in,
                            cpuid_host_fn host) {
    struct cpuid zero = host(0, 0);
    u32 extended = host(EXTENDED, 0).eax;
    u32 phys_bits = extended >= (EXTENDED | 8) ? host(EXTENDED | 8, 0).eax & 0xff : 36;
    bool xsave = zero.eax >= 0xd && host(1, 0).ecx & CPUID_1_ECX_XSAVE;

    policy->amd = zero.ecx == 0x444d4163 ||
                  zero.ecx == 0x656e6975; // "cAMD", "uine" of HygonGenuine
    // Leaf 0xB is made here, and for Intel's guests 0x15 and 0x16.
    policy->max_basic = policy->amd ? MAX(MIN(zero.eax, 0xdu), 0xbu) : 0x16;
    policy->max_extended = MIN(MAX(extended, EXTENDED | 8), EXTENDED | (CPUID_EXTENDED - 1));
    policy->phys_bits = (u8)(in->phys_bits_max ? MIN(phys_bits, in->phys_bits_max) : phys_bits);
    policy->tsc_khz = in->tsc_khz;
    policy->xcr0 = xsave ? in->xcr0 & host(0xd, 0).eax & (XCR0_X87 | XCR0_SSE | XCR0_AVX) : 0;
    policy->arch_capabilities = in->arch_capabilities & ARCH_CAPABILITIES;
}

void cpuid_setup(struct cpuid_policy *policy, const struct cpuid_inputs *inputs,
                 cpuid_host_fn host) {
    *policy = (struct cpuid_policy){0};
    prepare_machine(policy, inputs, host);
    for (u32 i = 0, sub = 0; i < ARRAY_SIZE(rows); i++) {
        u32 leaf = rows[i].leaf;
        const struct cpuid *mask = &rows[i].mask;
        sub = i && rows[i - 1].leaf == leaf ? sub + 1 : 0;
        struct cpuid r = {0};
        if (leaf <= host(leaf & EXTENDED, 0).eax)
            r = host(leaf, sub);
        r = (struct cpuid){r.eax & mask->eax, r.ebx & mask->ebx, r.ecx & mask->ecx,
                           r.edx & mask->edx};
        prepare(policy, leaf, &r);
        policy->store[i] = r;
        if (sub == 0)
            *row_of(policy, leaf) = (u8)(i + 1);
    }
    close_gates(policy, inputs);
    derive_control_bits(policy);
}

// Signature registers hold four characters each, the first in the low byte.
static struct cpuid hypervisor_leaf(const struct cpuid_policy *policy, u32 leaf) {
    switch (leaf) {
    case 0x40000000: // "KVMKVMKVM": the paravirtual interface of stock guests
        return (struct cpuid){0x40000010, 0x4b4d564b, 0x564b4d56, 0x0000004d};
    case 0x40000001: // clock source, no I/O delay needed, clock source with new MSRs, stable clock
        return (struct cpuid){.eax = BIT(0) | BIT(1) | BIT(3) | BIT(24)};
    case 0x40000010: // frequencies of TSC and APIC timer, kHz
        return (struct cpuid){.eax = policy->tsc_khz, .ebx = 1000000};
    case 0x40000100: // "BasaltBasalt"
        return (struct cpuid){0x40000101, 0x61736142, 0x6142746c, 0x746c6173};
    case 0x40000101: return (struct cpuid){.eax = BASALT_ABI_VERSION};
    default: return (struct cpuid){0};
    }
}

// Every vCPU is a core of one package. Returns the bits of APIC ID that tell the cores apart.
static u32 core_bits(const struct cpuid_vcpu *vcpu) {
    return vcpu->vcpus <= 1 ? 0 : (u32)(32 - __builtin_clz(vcpu->vcpus - 1));
}

static struct cpuid topology(const struct cpuid_vcpu *vcpu, u32 sub) {
    struct cpuid r = {.ecx = sub & 0xff, .edx = vcpu->apic_id};

    if (sub == 0) // threads of a core
        r.ebx = 1, r.ecx |= 1 << 8;
    if (sub == 1) // cores of the package
        r.eax = core_bits(vcpu), r.ebx = vcpu->vcpus, r.ecx |= 2 << 8;
    return r;
}

static u32 xsave_size(u64 xcr0) { return XSAVE_LEGACY + (xcr0 & XCR0_AVX ? XSAVE_AVX : 0); }

static struct cpuid extended_state(const struct cpuid_policy *policy, const struct cpuid_vcpu *vcpu,
                                   u32 sub, u32 instructions) {
    if (!policy->xcr0)
        return (struct cpuid){0};
    if (sub == 0)
        return (struct cpuid){(u32)policy->xcr0, xsave_size(vcpu->xcr0), xsave_size(policy->xcr0),
                              0};
    if (sub == 1)
        return (struct cpuid){
            instructions, instructions & CPUID_D1_EAX_XSAVEC ? xsave_size(vcpu->xcr0) : 0, 0, 0};
    bool avx = sub == 2 && policy->xcr0 & XCR0_AVX;
    return (struct cpuid){avx ? XSAVE_AVX : 0, avx ? XSAVE_LEGACY : 0, 0, 0};
}

static void live(const struct cpuid_policy *policy, const struct cpuid_vcpu *vcpu, u32 leaf,
                 u32 sub, struct cpuid *r) {
    u32 others = (1u << core_bits(vcpu)) - 1;

    switch (leaf) {
    case 0x1:
        r->ebx |= vcpu->apic_id << 24 | (others + 1) << 16;
        r->ecx |= vcpu->cr4 & CR4_OSXSAVE ? (u32)CPUID_1_ECX_OSXSAVE : 0;
        r->edx |= others ? (u32)CPUID_1_EDX_HTT : 0;
        r->edx &= ~(vcpu->apic_on ? 0 : (u32)CPUID_1_EDX_APIC);
        break;
    case 0x4: // the third-level cache is shared by all
        if (r->eax & 31)
            r->eax |= others << 26 | ((r->eax >> 5 & 7) >= 3 ? others << 14 : 0);
        break;
    case 0xb: *r = topology(vcpu, sub); break;
    case 0xd: *r = extended_state(policy, vcpu, sub, r->eax); break;
    case EXTENDED | 0x1:
        r->ecx |= policy->amd && others ? 2 : 0; // the logical processors are cores, not threads
        break;
    case EXTENDED | 0x8:
        r->ecx = policy->amd ? (vcpu->vcpus - 1) | core_bits(vcpu) << 12 : 0;
        break;
    default: break;
    }
}

static bool has_subleaves(u32 leaf) {
    return leaf == 0x4 || leaf == 0x7 || leaf == 0xb || leaf == 0xd;
}

struct cpuid cpuid_guest(const struct cpuid_policy *policy, const struct cpuid_vcpu *vcpu, u32 leaf,
                         u32 subleaf) {
    struct cpuid r = {0};
    u32 row = 0, sub = has_subleaves(leaf) ? subleaf : 0;

    if (leaf <= policy->max_basic)
        row = policy->basic[leaf];
    else if (leaf >= EXTENDED && leaf <= policy->max_extended)
        row = policy->extended[leaf & ~EXTENDED];
    if (!row--)
        return hypervisor_leaf(policy, leaf);
    if (sub < ARRAY_SIZE(rows) - row && rows[row + sub].leaf == leaf)
        r = policy->store[row + sub];
    live(policy, vcpu, leaf, sub, &r);
    return r;
}
