// SPDX-License-Identifier: Apache-2.0
//
// The CPUID policy (see cpuid.h): one table of leaves with masks of the processor's bits that a guest sees; what is made
// instead of passed on is in adapt(). What differs between vCPUs, or follows their registers, is the kernel's to add. Follows
// the SDM, "CPUID--CPU Identification", the APM, "Obtaining Processor Information Via the CPUID Instruction", and Linux'
// "KVM CPUID bits".

#include "cpuid.h"

#include <basalt/hypercall.h>

#include "host.h"

#define ALL        0xffffffffu
#define HYPERVISOR 0x40000000u
#define EXTENDED   0x80000000u
#define ANY        BASALT_CPUID_ANY
#define BIT(n)     (1u << (n))

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
#define EBX_88            0x00001005u

#define ECX_1_FMA         BIT(12)
#define ECX_1_X2APIC      BIT(21)
#define ECX_1_DEADLINE    BIT(24) // of the TSC
#define ECX_1_XSAVE       BIT(26)
#define ECX_1_OSXSAVE     BIT(27)
#define ECX_1_AVX         BIT(28)
#define ECX_1_F16C        BIT(29)
#define ECX_1_HYPERVISOR  BIT(31)
#define EDX_1_APIC        BIT(9)
#define EDX_1_HTT         BIT(28)
#define EAX_6_ARAT        BIT(2) // the APIC timer never stops
#define EBX_7_TSC_ADJUST  BIT(1)
#define EBX_7_AVX2        BIT(5)
#define ECX_7_VAES        (BIT(9) | BIT(10)) // and VPCLMULQDQ
#define EAX_D1_XSAVEC     BIT(1)
#define ECX_81_CMP_LEGACY BIT(1)              // the logical processors are cores, not threads
#define ECX_81_XOP        (BIT(11) | BIT(16)) // and FMA4
#define EDX_87_INVARIANT  BIT(8)

#define XCR0_KNOWN        7u // x87, SSE, AVX
#define XCR0_AVX          4u
#define XSAVE_LEGACY      576u // x87 and SSE state and the header; AVX state follows, compacted or not
#define XSAVE_AVX         256u

// Leaves that no row names are all zeros: MONITOR (5), DCA (9), PMU (0xA), RDT (0xF, 0x10), SGX (0x12), PT (0x14), SVM, IBS,
// topology extensions, SEV.
static const struct row {
    uint32_t leaf, subleaf;
    bool made; // the mask is the leaf itself
    struct host_cpuid mask;
} rows[] = {
    {0x0, ANY, false, {0, ALL, ALL, ALL}}, // vendor
    {0x1, ANY, false, {ALL, 0xffff, ECX_1, EDX_1}},
    {0x2, ANY, false, {ALL, ALL, ALL, ALL}}, // cache descriptors
    {0x4, 0, false, {0x3ff, ALL, ALL, 7}},   // caches, without who shares them
    {0x4, 1, false, {0x3ff, ALL, ALL, 7}},
    {0x4, 2, false, {0x3ff, ALL, ALL, 7}},
    {0x4, 3, false, {0x3ff, ALL, ALL, 7}},
    {0x6, ANY, true, {EAX_6_ARAT, 0, 0, 0}}, // thermal, power
    {0x7, 0, false, {0, EBX_7, ECX_7, EDX_7}},
    {0xb, 0, true, {0, 1, 1 << 8, 0}}, // topology: threads of a core,
    {0xb, 1, true, {0, 0, 2 << 8, 0}}, // cores of the package
    {0xb, ANY, true, {0, 0, 0, 0}},
    {0xd, 0, false, {XCR0_KNOWN, 0, 0, 0}}, // extended state
    {0xd, 1, false, {7, 0, 0, 0}}, // XSAVEOPT, XSAVEC, XGETBV with ECX=1; no XSAVES, no XFD
    {0xd, 2, true, {XSAVE_AVX, XSAVE_LEGACY, 0, 0}},
    {0x15, ANY, true, {0, 0, 0, 0}}, // frequencies
    {EXTENDED | 0x0, ANY, false, {0, ALL, ALL, ALL}},
    {EXTENDED | 0x1, ANY, false, {ALL, ALL, ECX_81, EDX_81}},
    {EXTENDED | 0x2, ANY, false, {ALL, ALL, ALL, ALL}}, // brand string, in three
    {EXTENDED | 0x3, ANY, false, {ALL, ALL, ALL, ALL}},
    {EXTENDED | 0x4, ANY, false, {ALL, ALL, ALL, ALL}},
    {EXTENDED | 0x5, ANY, false, {ALL, ALL, ALL, ALL}}, // AMD: first-level caches and TLBs
    {EXTENDED | 0x6, ANY, false, {ALL, ALL, ALL, ALL}}, // second- and third-level caches
    {EXTENDED | 0x7, ANY, false, {0, 0, 0, EDX_87_INVARIANT}},
    {EXTENDED | 0x8, ANY, false, {0xffff, EBX_88, 0, 0}},
    {EXTENDED | 0x19, ANY, false, {ALL, ALL, 0, 0}}, // TLBs of 1 GiB pages
    {EXTENDED | 0x1a, ANY, false, {ALL, 0, 0, 0}},   // how fast SSE is
    // LFENCE serializes; null selectors clear bases
    {EXTENDED | 0x21, ANY, false, {BIT(2) | BIT(6), 0, 0, 0}},
    // "KVMKVMKVM": the paravirtual interface of stock guests. Signatures hold four characters each, the first in the low
    // byte.
    {HYPERVISOR | 0x0, ANY, true, {HYPERVISOR | 0x10, 0x4b4d564b, 0x564b4d56, 0x0000004d}},
    // no I/O delay needed, clock source with new MSRs, stable clock
    {HYPERVISOR | 0x1, ANY, true, {BIT(1) | BIT(3) | BIT(24), 0, 0, 0}},
    {HYPERVISOR | 0x10, ANY, true, {0, 1000000, 0, 0}}, // frequencies in kHz
    // "BasaltBasalt"
    {HYPERVISOR | 0x100, ANY, true, {HYPERVISOR | 0x101, 0x61736142, 0x6142746c, 0x746c6173}},
    {HYPERVISOR | 0x101, ANY, true, {BASALT_ABI_VERSION, 0, 0, 0}},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))
_Static_assert(ROWS <= CPUID_ROWS, "the table has room");

bool cpuid_is_amd(void) {
    uint32_t ecx = host_cpuid(0, 0).ecx;
    return ecx == 0x444d4163 || ecx == 0x656e6975; // "cAMD", "uine" of HygonGenuine
}

// The row of a leaf that the table has.
static struct basalt_cpuid *row_of(struct basalt_cpuid *table, uint32_t leaf, uint32_t subleaf) {
    while (table->leaf != leaf || table->subleaf != subleaf)
        table++;
    return table;
}

// What is there on any processor, and what is made of the machine's own facts.
static void adapt(struct basalt_cpuid *t, bool amd) {
    uint32_t extended = host_cpuid(EXTENDED, 0).eax, khz = host_tsc_khz();
    struct basalt_cpuid *zero = row_of(t, 0x0, ANY), *one = row_of(t, 0x1, ANY);
    struct basalt_cpuid *extended_zero = row_of(t, EXTENDED | 0x0, ANY);
    struct basalt_cpuid *frequencies = row_of(t, 0x15, ANY);

    // Leaf 0xB is made here, and for Intel's guests 0x15.
    zero->eax = host_cpuid(0, 0).eax;
    zero->eax = !amd ? 0x15 : zero->eax > 0xd ? 0xd : zero->eax < 0xb ? 0xb : zero->eax;
    one->ecx |= ECX_1_X2APIC | ECX_1_DEADLINE | ECX_1_HYPERVISOR;
    one->edx |= EDX_1_APIC;
    row_of(t, 0x7, 0)->ebx |= EBX_7_TSC_ADJUST;
    // TSC / core crystal ratio. The APIC timer counts the crystal, so guests need calibrate neither.
    if (!amd) {
        frequencies->eax = 1000000;
        frequencies->ebx = khz;
        frequencies->ecx = 1000000000;
    }
    row_of(t, HYPERVISOR | 0x10, ANY)->eax = khz;
    extended_zero->eax = extended < (EXTENDED | 8)      ? EXTENDED | 8
                         : extended > (EXTENDED | 0x21) ? EXTENDED | 0x21
                                                        : extended;
    uint32_t bits = extended >= (EXTENDED | 8) ? host_cpuid(EXTENDED | 8, 0).eax & 0xff : 36;
    row_of(t, EXTENDED | 0x8, ANY)->eax =
        (bits < BASALT_PHYSICAL_BITS_MAX ? bits : BASALT_PHYSICAL_BITS_MAX) | 48 << 8;
}

// Extended state as far as the kernel switches it; features without theirs go.
static void adapt_state(struct basalt_cpuid *t) {
    struct basalt_cpuid *one = row_of(t, 0x1, ANY), *seven = row_of(t, 0x7, 0);
    struct basalt_cpuid *state = row_of(t, 0xd, 0);
    bool xsave = host_cpuid(1, 0).ecx & ECX_1_OSXSAVE, avx = xsave && state->eax & XCR0_AVX;

    if (!xsave) {
        one->ecx &= ~ECX_1_XSAVE;
        state[0].eax = state[1].eax = 0;
    } else {
        state[0].ebx = XSAVE_LEGACY;
        state[0].ecx = XSAVE_LEGACY + (avx ? XSAVE_AVX : 0);
        state[1].ebx = state[1].eax & EAX_D1_XSAVEC ? XSAVE_LEGACY : 0;
    }
    if (!avx) {
        one->ecx &= ~(ECX_1_AVX | ECX_1_FMA | ECX_1_F16C);
        seven->ebx &= ~EBX_7_AVX2;
        seven->ecx &= ~ECX_7_VAES;
        row_of(t, EXTENDED | 0x1, ANY)->ecx &= ~ECX_81_XOP;
        state[2].eax = state[2].ebx = 0;
    }
}

// Every vCPU is a core of one package.
static void adapt_topology(struct basalt_cpuid *t, bool amd, uint32_t vcpus) {
    // The bits of APIC ID that tell the cores apart.
    uint32_t bits = vcpus <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(vcpus - 1),
             others = BIT(bits) - 1;
    struct basalt_cpuid *one = row_of(t, 0x1, ANY), *cores = row_of(t, 0xb, 1);
    struct basalt_cpuid *caches = row_of(t, 0x4, 0);

    one->ebx |= (others + 1) << 16;
    one->edx |= others ? EDX_1_HTT : 0;
    for (unsigned i = 0; i < 4; i++) // the third-level cache is shared by all
        if (caches[i].eax & 31)
            caches[i].eax |= others << 26 | ((caches[i].eax >> 5 & 7) >= 3 ? others << 14 : 0);
    cores->eax = bits;
    cores->ebx = vcpus;
    if (amd) {
        row_of(t, EXTENDED | 0x1, ANY)->ecx |= others ? ECX_81_CMP_LEGACY : 0;
        row_of(t, EXTENDED | 0x8, ANY)->ecx = (vcpus - 1) | bits << 12;
    }
}

unsigned cpuid_table(struct basalt_cpuid table[CPUID_ROWS], uint32_t vcpus) {
    bool amd = cpuid_is_amd();
    for (unsigned i = 0; i < ROWS; i++) {
        uint32_t leaf = rows[i].leaf;
        const struct host_cpuid *mask = &rows[i].mask;
        struct host_cpuid r = {0, 0, 0, 0};
        if (rows[i].made)
            r = *mask;
        else if (leaf <= host_cpuid(leaf & EXTENDED, 0).eax)
            r = host_cpuid(leaf, rows[i].subleaf == ANY ? 0 : rows[i].subleaf);
        table[i] = (struct basalt_cpuid){leaf,
                                         rows[i].subleaf,
                                         r.eax & mask->eax,
                                         r.ebx & mask->ebx,
                                         r.ecx & mask->ecx,
                                         r.edx & mask->edx};
    }
    adapt(table, amd);
    adapt_state(table);
    adapt_topology(table, amd, vcpus);
    return ROWS;
}
