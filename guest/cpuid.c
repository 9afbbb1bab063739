// SPDX-License-Identifier: Apache-2.0
//
// The CPUID policy (see cpuid.h): one table of leaves. A row's masks say which of the host's bits a guest sees; its
// prepare function is for what differs once per machine, its live function for what differs per vCPU or by its
// control registers.

#include "guest/cpuid.h"

#include <basalt/hypercall.h>

#define ALL 0xffffffffu
#define EXTENDED 0x80000000u

// Hidden of leaf 1: DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA (their MSRs are not
// virtualized); processor serial number, DS, ACPI, TM, PBE.
#define ECX_1                                                                                                  \
    (CPUID_1_ECX_SSE3 | BIT(1) /* PCLMULQDQ */ | CPUID_1_ECX_SSSE3 | CPUID_1_ECX_FMA | CPUID_1_ECX_CX16 |      \
     CPUID_1_ECX_PCID | CPUID_1_ECX_SSE41 | CPUID_1_ECX_SSE42 | CPUID_1_ECX_MOVBE | CPUID_1_ECX_POPCNT |       \
     CPUID_1_ECX_AES | CPUID_1_ECX_XSAVE | CPUID_1_ECX_AVX | CPUID_1_ECX_F16C | CPUID_1_ECX_RDRAND)
#define ECX_1_AVX (CPUID_1_ECX_FMA | CPUID_1_ECX_AVX | CPUID_1_ECX_F16C)
#define ECX_1_EMULATED (CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR)
#define EDX_1 0x0f8bfbffu // FPU to CLFSH without 10 and 18; MMX, FXSR, SSE, SSE2, SS

// Hidden of leaf 7: SGX, HLE, RTM, RDT, MPX, AVX-512, PT; PKU, WAITPKG, CET, LA57, KL, MOVDIRI, MOVDIR64B, ENQCMD,
// SGX_LC, PKS; UINTR, HYBRID, TSXLDTRK, PCONFIG, LBR, AMX, CORE_CAPABILITIES.
#define EBX_7                                                                                                  \
    (CPUID_7_EBX_FSGSBASE | CPUID_7_EBX_BMI1 | CPUID_7_EBX_AVX2 | BIT(6) /* FDP_EXCPTN_ONLY */ |               \
     CPUID_7_EBX_SMEP | CPUID_7_EBX_BMI2 | CPUID_7_EBX_ERMS | CPUID_7_EBX_INVPCID | BIT(13) /* no FCS, FDS */ | \
     BIT(18) /* RDSEED */ | BIT(19) /* ADX */ | CPUID_7_EBX_SMAP | BIT(23) /* CLFLUSHOPT */ |                  \
     BIT(24) /* CLWB */ | BIT(29) /* SHA */)
#define ECX_7 \
    (CPUID_7_ECX_UMIP | BIT(8) /* GFNI */ | ECX_7_AVX | CPUID_7_ECX_RDPID | BIT(25) /* CLDEMOTE */)
#define ECX_7_AVX (BIT(9) /* VAES */ | BIT(10) /* VPCLMULQDQ */)
#define EDX_7 \
    (BIT(4) /* FSRM */ | BIT(10) /* MD_CLEAR */ | BIT(14) /* SERIALIZE */ | EDX_7_SPEC_CTRL | \
     CPUID_7_EDX_ARCH_CAPABILITIES)
#define EDX_7_SPEC_CTRL (CPUID_7_EDX_IBRS | CPUID_7_EDX_STIBP | CPUID_7_EDX_FLUSH_L1D | CPUID_7_EDX_SSBD)
#define EAX_7_1_AVX (BIT(4) /* AVX-VNNI */ | BIT(23) /* AVX-IFMA */)
#define EDX_7_1_AVX (BIT(4) /* AVX-VNNI-INT8 */ | BIT(5) /* AVX-NE-CONVERT */)

// Hidden of leaf 0x80000001: SVM, extended APIC space, alternate CR8 encoding, OSVW, IBS, SKINIT, WDT, LWP, TCE, node
// id, topology extensions, performance counters, data breakpoints, MONITORX.
#define ECX_81                                                                                              \
    (BIT(0) /* LAHF */ | BIT(5) /* ABM */ | BIT(6) /* SSE4A */ | BIT(7) /* misaligned SSE */ |              \
     BIT(8) /* PREFETCHW */ | ECX_81_AVX | BIT(21) /* TBM */)
#define ECX_81_AVX (BIT(11) /* XOP */ | BIT(16) /* FMA4 */)
#define EDX_81 \
    (0x0183fbffu /* as leaf 1 */ | CPUID_81_EDX_NX | BIT(22) /* MMXEXT */ | \
     BIT(25) /* FFXSR */ | CPUID_81_EDX_PAGE1G | CPUID_81_EDX_RDTSCP | CPUID_81_EDX_LM | BIT(30) | BIT(31) /* 3DNow */)
#define EBX_88 (BIT(0) /* CLZERO */ | BIT(2) /* FP error pointers restored */ | EBX_88_SPEC_CTRL)
#define EBX_88_SPEC_CTRL \
    (BIT(12) /* IBPB */ | BIT(14) /* IBRS */ | BIT(15) /* STIBP */ | BIT(16) | BIT(17) | BIT(18) | BIT(24) /* SSBD */)

// IA32_ARCH_CAPABILITIES: what the processor is immune to, and which buffers VERW clears.
#define ARCH_IMMUNITIES \
    (BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) | BIT(14) | BIT(15) | BIT(17) | BIT(20) | \
     BIT(24) | BIT(26) | BIT(27))
#define ARCH_IBRS_ALL BIT(1) // means a way to use IA32_SPEC_CTRL

#define XSAVE_LEGACY 576u // x87 and SSE state and the header

// The power of two that holds all of a domain's APIC IDs.
static u32 id_space(const struct cpuid_vcpu *vcpu)
{
    return vcpu->vcpus <= 1 ? 1 : 1u << (32 - __builtin_clz(vcpu->vcpus - 1));
}

static void prepare_max_basic(struct cpuid_policy *policy, const struct cpuid_inputs *in unused, u32 sub unused,
                              struct cpuid *r)
{
    r->eax = policy->max_basic;
}

static void prepare_1(struct cpuid_policy *policy, const struct cpuid_inputs *in, u32 sub unused, struct cpuid *r)
{
    r->ecx |= ECX_1_EMULATED;
    if (!policy->xcr0)
        r->ecx &= ~(u32)CPUID_1_ECX_XSAVE;
    if (!(policy->xcr0 & XCR0_AVX))
        r->ecx &= ~(u32)ECX_1_AVX;
    if (!in->invpcid)
        r->ecx &= ~(u32)CPUID_1_ECX_PCID;
}

static void live_1(const struct cpuid_policy *policy unused, const struct cpuid_vcpu *vcpu, u32 sub unused,
                   struct cpuid *r)
{
    r->ebx |= vcpu->apic_id << 24 | id_space(vcpu) << 16;
    if (vcpu->vcpus > 1)
        r->edx |= CPUID_1_EDX_HTT;
    if (!vcpu->apic_on)
        r->edx &= ~(u32)CPUID_1_EDX_APIC;
    if (vcpu->cr4 & CR4_OSXSAVE)
        r->ecx |= CPUID_1_ECX_OSXSAVE;
}

// Every vCPU is a core of one package; the third-level cache is shared by all.
static void live_4(const struct cpuid_policy *policy unused, const struct cpuid_vcpu *vcpu, u32 sub unused,
                   struct cpuid *r)
{
    u32 last = id_space(vcpu) - 1, level = r->eax >> 5 & 7;

    if (r->eax & 31)
        r->eax |= last << 26 | (level >= 3 ? last << 14 : 0);
}

static void prepare_6(struct cpuid_policy *policy unused, const struct cpuid_inputs *in unused, u32 sub unused,
                      struct cpuid *r)
{
    r->eax = CPUID_6_EAX_ARAT;
}

static void prepare_7(struct cpuid_policy *policy, const struct cpuid_inputs *in, u32 sub, struct cpuid *r)
{
    bool avx = policy->xcr0 & XCR0_AVX;

    if (sub == 1) {
        r->eax &= avx ? ALL : ~(u32)EAX_7_1_AVX;
        r->edx &= avx ? ALL : ~(u32)EDX_7_1_AVX;
        return;
    }
    r->eax = MIN(r->eax, 1u);
    r->ebx |= CPUID_7_EBX_TSC_ADJUST;
    r->ebx &= avx ? ALL : ~(u32)CPUID_7_EBX_AVX2;
    r->ebx &= in->invpcid ? ALL : ~(u32)CPUID_7_EBX_INVPCID;
    r->ecx &= avx ? ALL : ~(u32)ECX_7_AVX;
    r->ecx &= in->rdtscp ? ALL : ~(u32)CPUID_7_ECX_RDPID;
    r->edx &= in->spec_ctrl ? ALL : ~(u32)EDX_7_SPEC_CTRL;
    r->edx &= policy->arch_capabilities ? ALL : ~(u32)CPUID_7_EDX_ARCH_CAPABILITIES;
}

static void live_b(const struct cpuid_policy *policy unused, const struct cpuid_vcpu *vcpu, u32 sub, struct cpuid *r)
{
    *r = (struct cpuid){.ecx = sub & 0xff, .edx = vcpu->apic_id};
    if (sub == 0) { // threads of a core
        r->ebx = 1;
        r->ecx |= 1 << 8;
    } else if (sub == 1) { // cores of the package
        r->eax = (u32)__builtin_ctz(id_space(vcpu));
        r->ebx = vcpu->vcpus;
        r->ecx |= 2 << 8;
    }
}

static const struct cpuid *component(const struct cpuid_policy *policy, u32 sub);

static u32 xsave_size(const struct cpuid_policy *policy, u64 xcr0, bool compact)
{
    const struct cpuid *avx = component(policy, 2);

    if (!(xcr0 & XCR0_AVX))
        return XSAVE_LEGACY;
    return compact ? XSAVE_LEGACY + avx->eax : avx->ebx + avx->eax;
}

static void prepare_d(struct cpuid_policy *policy, const struct cpuid_inputs *in unused, u32 sub, struct cpuid *r)
{
    bool shown = sub < 2 ? policy->xcr0 : policy->xcr0 & XCR0_AVX;

    if (!shown)
        *r = (struct cpuid){0};
    else if (sub == 0)
        r->eax = (u32)policy->xcr0;
}

static void live_d(const struct cpuid_policy *policy, const struct cpuid_vcpu *vcpu, u32 sub, struct cpuid *r)
{
    if (sub > 1 || !policy->xcr0)
        return;
    if (sub == 0)
        r->ecx = xsave_size(policy, policy->xcr0, false);
    if (sub == 0 || (r->eax & CPUID_D1_EAX_XSAVEC))
        r->ebx = xsave_size(policy, vcpu->xcr0, sub == 1);
}

// TSC / core crystal ratio. The crystal is what the APIC timer counts, so guests need not calibrate either.
static void prepare_15(struct cpuid_policy *policy, const struct cpuid_inputs *in unused, u32 sub unused,
                       struct cpuid *r)
{
    *r = (struct cpuid){.eax = 1000000, .ebx = policy->tsc_khz, .ecx = 1000000000};
}

static void prepare_16(struct cpuid_policy *policy, const struct cpuid_inputs *in unused, u32 sub unused,
                       struct cpuid *r)
{
    u32 mhz = (policy->tsc_khz + 500) / 1000;

    *r = (struct cpuid){.eax = mhz, .ebx = mhz, .ecx = 100};
}

static void prepare_max_extended(struct cpuid_policy *policy, const struct cpuid_inputs *in unused, u32 sub unused,
                                 struct cpuid *r)
{
    r->eax = policy->max_extended;
}

static void prepare_81(struct cpuid_policy *policy, const struct cpuid_inputs *in, u32 sub unused, struct cpuid *r)
{
    if (!(policy->xcr0 & XCR0_AVX))
        r->ecx &= ~(u32)ECX_81_AVX;
    if (!in->rdtscp)
        r->edx &= ~(u32)CPUID_81_EDX_RDTSCP;
    if (!policy->amd)
        r->edx &= ~(u32)0x0183f3ff; // Intel repeats nothing of leaf 1 here
}

static void live_81(const struct cpuid_policy *policy, const struct cpuid_vcpu *vcpu, u32 sub unused, struct cpuid *r)
{
    if (policy->amd && vcpu->vcpus > 1)
        r->ecx |= BIT(1); // the logical processors are cores, not threads
    if (policy->amd && !vcpu->apic_on)
        r->edx &= ~(u32)CPUID_1_EDX_APIC;
}

static void prepare_88(struct cpuid_policy *policy, const struct cpuid_inputs *in, u32 sub unused, struct cpuid *r)
{
    u32 linear = MIN(r->eax >> 8 & 0xff, 48u);

    r->eax = policy->phys_bits | linear << 8;
    if (!in->spec_ctrl)
        r->ebx &= ~(u32)EBX_88_SPEC_CTRL;
}

static void live_88(const struct cpuid_policy *policy, const struct cpuid_vcpu *vcpu, u32 sub unused, struct cpuid *r)
{
    if (policy->amd)
        r->ecx = (vcpu->vcpus - 1) | (u32)__builtin_ctz(id_space(vcpu)) << 12;
}

// Leaves that no row names are all zeros: MONITOR (5), DCA (9), PMU (0xA), RDT (0xF, 0x10), SGX (0x12), PT (0x14),
// SVM (0x8000000A), IBS (0x8000001B), topology extensions (0x8000001D, 0x8000001E), SEV (0x8000001F).
static const struct row {
    u32 leaf;
    u8 subleaves; // 0: ECX does not matter; one beyond the last reads as zeros
    struct cpuid mask;
    void (*prepare)(struct cpuid_policy *policy, const struct cpuid_inputs *in, u32 sub, struct cpuid *r);
    void (*live)(const struct cpuid_policy *policy, const struct cpuid_vcpu *vcpu, u32 sub, struct cpuid *r);
} rows[] = {
    {0x0, 0, {0, ALL, ALL, ALL}, prepare_max_basic, NULL},  // vendor
    {0x1, 0, {ALL, 0xffff, ECX_1, EDX_1}, prepare_1, live_1},
    {0x2, 0, {ALL, ALL, ALL, ALL}, NULL, NULL},             // cache descriptors
    {0x4, 6, {0x3ff, ALL, ALL, 7}, NULL, live_4},           // caches, without who shares them
    {0x6, 0, {0, 0, 0, 0}, prepare_6, NULL},                // thermal, power: only that the APIC timer never stops
    {0x7, 2, {ALL, EBX_7, ECX_7, EDX_7}, prepare_7, NULL},  // subleaf 1 has its own masks, below
    {0xb, 255, {0, 0, 0, 0}, NULL, live_b},                 // topology
    {0xd, 3, {ALL, ALL, 0, 0}, prepare_d, live_d},          // extended state: no XSAVES, no XFD
    {0x15, 0, {0, 0, 0, 0}, prepare_15, NULL},
    {0x16, 0, {0, 0, 0, 0}, prepare_16, NULL},
    {EXTENDED | 0x0, 0, {0, ALL, ALL, ALL}, prepare_max_extended, NULL},
    {EXTENDED | 0x1, 0, {ALL, ALL, ECX_81, EDX_81}, prepare_81, live_81},
    {EXTENDED | 0x2, 0, {ALL, ALL, ALL, ALL}, NULL, NULL},  // brand string, in three
    {EXTENDED | 0x3, 0, {ALL, ALL, ALL, ALL}, NULL, NULL},
    {EXTENDED | 0x4, 0, {ALL, ALL, ALL, ALL}, NULL, NULL},
    {EXTENDED | 0x5, 0, {ALL, ALL, ALL, ALL}, NULL, NULL},  // AMD: first-level caches and TLBs
    {EXTENDED | 0x6, 0, {ALL, ALL, ALL, ALL}, NULL, NULL},  // second- and third-level caches
    {EXTENDED | 0x7, 0, {0, 0, 0, CPUID_87_EDX_INVARIANT_TSC}, NULL, NULL},
    {EXTENDED | 0x8, 0, {0xffff, EBX_88, 0, 0}, prepare_88, live_88},
    {EXTENDED | 0x19, 0, {ALL, ALL, 0, 0}, NULL, NULL},     // TLBs of 1 GiB pages
    {EXTENDED | 0x1a, 0, {ALL, 0, 0, 0}, NULL, NULL},       // how fast SSE is
    {EXTENDED | 0x21, 0, {BIT(2) | BIT(6), 0, 0, 0}, NULL, NULL}, // LFENCE serializes; null selectors clear bases
};
_Static_assert(ARRAY_SIZE(rows) < CPUID_STORE, "policy->first has room");

// Leaf 7's second subleaf and leaf 0xD's second, whose bits are other ones.
static const struct cpuid mask_7_1 = {
    .eax = EAX_7_1_AVX | BIT(7) /* CMPCCXADD */ | BIT(10) | BIT(11) | BIT(12) /* fast short REPs */,
    .edx = EDX_7_1_AVX | BIT(14) /* PREFETCHI */,
};
static const struct cpuid mask_d_1 = {
    .eax = CPUID_D1_EAX_XSAVEOPT | CPUID_D1_EAX_XSAVEC | CPUID_D1_EAX_XGETBV1,
};

static const struct cpuid *mask_of(const struct row *row, u32 sub)
{
    if (sub == 1 && row->leaf == 0x7)
        return &mask_7_1;
    return sub == 1 && row->leaf == 0xd ? &mask_d_1 : &row->mask;
}

static u8 *row_slot(struct cpuid_policy *policy, u32 leaf)
{
    return leaf & EXTENDED ? &policy->extended[leaf & ~EXTENDED] : &policy->basic[leaf];
}

static unsigned kept(const struct row *row)
{
    return row->live == live_b ? 0 : MAX(row->subleaves, 1);
}

static const struct cpuid *component(const struct cpuid_policy *policy, u32 sub)
{
    return &policy->store[policy->first[policy->basic[0xd] - 1] + sub];
}

static const struct cpuid *prepared(const struct cpuid_policy *policy, u32 leaf)
{
    u8 row = leaf & EXTENDED ? policy->extended[leaf & ~EXTENDED] : policy->basic[leaf];

    return &policy->store[policy->first[row - 1]];
}

// Features that a control-register bit turns on.
static const struct {
    u32 leaf, ecx, edx, ebx;
    u32 cr4;
} cr4_features[] = {
    {0x1, 0, BIT(1), 0, CR4_VME | CR4_PVI},
    {0x1, 0, CPUID_1_EDX_TSC, 0, CR4_TSD},
    {0x1, 0, BIT(2), 0, CR4_DE},
    {0x1, 0, CPUID_1_EDX_PSE, 0, CR4_PSE},
    {0x1, 0, CPUID_1_EDX_PAE, 0, CR4_PAE},
    {0x1, 0, CPUID_1_EDX_MCE, 0, CR4_MCE},
    {0x1, 0, CPUID_1_EDX_PGE, 0, CR4_PGE},
    {0x1, 0, CPUID_1_EDX_FXSR, 0, CR4_OSFXSR},
    {0x1, 0, BIT(25) /* SSE */, 0, CR4_OSXMMEXCPT},
    {0x1, CPUID_1_ECX_PCID, 0, 0, CR4_PCIDE},
    {0x1, CPUID_1_ECX_XSAVE, 0, 0, CR4_OSXSAVE},
    {0x7, 0, 0, CPUID_7_EBX_FSGSBASE, CR4_FSGSBASE},
    {0x7, 0, 0, CPUID_7_EBX_SMEP, CR4_SMEP},
    {0x7, 0, 0, CPUID_7_EBX_SMAP, CR4_SMAP},
    {0x7, CPUID_7_ECX_UMIP, 0, 0, CR4_UMIP},
};

// Speculation controls come in Intel's leaf 7 or in AMD's leaf 0x80000008.
static void derive_msr_bits(struct cpuid_policy *policy)
{
    u32 intel = prepared(policy, 0x7)->edx, amd = prepared(policy, EXTENDED | 0x8)->ebx;

    policy->rdtscp = (prepared(policy, EXTENDED | 0x1)->edx & CPUID_81_EDX_RDTSCP) ||
                     (prepared(policy, 0x7)->ecx & CPUID_7_ECX_RDPID);
    policy->ibpb = (intel & CPUID_7_EDX_IBRS) || (amd & BIT(12));
    policy->l1d_flush = intel & CPUID_7_EDX_FLUSH_L1D;
    if ((intel & CPUID_7_EDX_IBRS) || (amd & BIT(14)))
        policy->spec_ctrl |= BIT(0);
    if ((intel & CPUID_7_EDX_STIBP) || (amd & BIT(15)))
        policy->spec_ctrl |= BIT(1);
    if ((intel & CPUID_7_EDX_SSBD) || (amd & BIT(24)))
        policy->spec_ctrl |= BIT(2);
}

static void derive_control_bits(struct cpuid_policy *policy)
{
    u32 extended = prepared(policy, EXTENDED | 0x1)->edx;

    policy->cr4 = CR4_PCE;
    for (unsigned i = 0; i < ARRAY_SIZE(cr4_features); i++) {
        const struct cpuid *leaf = prepared(policy, cr4_features[i].leaf);
        if ((leaf->ecx & cr4_features[i].ecx) | (leaf->edx & cr4_features[i].edx) | (leaf->ebx & cr4_features[i].ebx))
            policy->cr4 |= cr4_features[i].cr4;
    }
    policy->efer = EFER_SCE;
    if (extended & CPUID_81_EDX_LM)
        policy->efer |= EFER_LME | EFER_LMA;
    if (extended & CPUID_81_EDX_NX)
        policy->efer |= EFER_NXE;
    if (extended & BIT(25))
        policy->efer |= EFER_FFXSR;
}

static void prepare_machine(struct cpuid_policy *policy, const struct cpuid_inputs *in, cpuid_host_fn host)
{
    struct cpuid zero = host(0, 0);
    u32 host_extended = host(EXTENDED, 0).eax;
    u32 phys_bits = host_extended >= (EXTENDED | 8) ? host(EXTENDED | 8, 0).eax & 0xff : 36;
    bool xsave = (host(1, 0).ecx & CPUID_1_ECX_XSAVE) && zero.eax >= 0xd;

    policy->amd = zero.ecx == 0x444d4163 || zero.ecx == 0x656e6975; // "cAMD", "uine" of HygonGenuine
    // Intel's leaves 0x15 and 0x16 are made here, and leaf 0xB; the others' highest leaf is what the host has.
    policy->max_basic = policy->amd ? MAX(MIN(zero.eax, 0xdu), 0xbu) : 0x16;
    policy->max_extended = MIN(MAX(host_extended, EXTENDED | 1), EXTENDED | (CPUID_EXTENDED - 1));
    policy->phys_bits = (u8)(in->phys_bits_max ? MIN(phys_bits, in->phys_bits_max) : phys_bits);
    policy->tsc_khz = in->tsc_khz;
    policy->xcr0 = xsave ? in->xcr0 & host(0xd, 0).eax & (XCR0_X87 | XCR0_SSE | XCR0_AVX) : 0;
    policy->arch_capabilities = in->arch_capabilities & (ARCH_IMMUNITIES | (in->spec_ctrl ? ARCH_IBRS_ALL : 0));
}

void cpuid_setup(struct cpuid_policy *policy, const struct cpuid_inputs *inputs, cpuid_host_fn host)
{
    unsigned used = 0;

    *policy = (struct cpuid_policy){0};
    prepare_machine(policy, inputs, host);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct row *row = &rows[i];
        u32 host_max = host(row->leaf & EXTENDED, 0).eax;
        *row_slot(policy, row->leaf) = (u8)(i + 1);
        policy->first[i] = (u8)used;
        for (u32 sub = 0; sub < kept(row); sub++, used++) {
            const struct cpuid *mask = mask_of(row, sub);
            struct cpuid r = row->leaf <= host_max ? host(row->leaf, sub) : (struct cpuid){0};
            r = (struct cpuid){r.eax & mask->eax, r.ebx & mask->ebx, r.ecx & mask->ecx, r.edx & mask->edx};
            if (row->prepare)
                row->prepare(policy, inputs, sub, &r);
            policy->store[used] = r;
        }
    }
    derive_control_bits(policy);
    derive_msr_bits(policy);
}

// Signature registers hold four characters each, the first in the low byte.
static struct cpuid hypervisor_leaf(const struct cpuid_policy *policy, u32 leaf)
{
    switch (leaf) {
    case 0x40000000: // "KVMKVMKVM": the paravirtual interface of stock guests
        return (struct cpuid){0x40000010, 0x4b4d564b, 0x564b4d56, 0x0000004d};
    case 0x40000001: // clock source, no I/O delay needed, clock source with new MSRs, stable on all CPUs
        return (struct cpuid){.eax = BIT(0) | BIT(1) | BIT(3) | BIT(24)};
    case 0x40000010: // frequencies of TSC and APIC timer, kHz
        return (struct cpuid){.eax = policy->tsc_khz, .ebx = 1000000};
    case 0x40000100: // "BasaltBasalt"
        return (struct cpuid){0x40000101, 0x61736142, 0x6142746c, 0x746c6173};
    case 0x40000101:
        return (struct cpuid){.eax = BASALT_ABI_VERSION};
    default:
        return (struct cpuid){0};
    }
}

struct cpuid cpuid_guest(const struct cpuid_policy *policy, const struct cpuid_vcpu *vcpu, u32 leaf, u32 subleaf)
{
    struct cpuid r = {0};
    u8 index = 0;

    if (leaf <= policy->max_basic)
        index = policy->basic[leaf];
    else if (leaf >= EXTENDED && leaf <= policy->max_extended)
        index = policy->extended[leaf & ~EXTENDED];
    else
        return hypervisor_leaf(policy, leaf);
    if (!index)
        return r;
    const struct row *row = &rows[index - 1];
    u32 sub = row->subleaves ? subleaf : 0;
    if (sub < kept(row))
        r = policy->store[policy->first[index - 1] + sub];
    if (row->live)
        row->live(policy, vcpu, sub, &r);
    return r;
}
