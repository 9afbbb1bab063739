// SPDX-License-Identifier: Apache-2.0
//
// CPUID as dom0's policy and the kernel together make it, on three hosts: the machine that runs the test, a model that claims
// every feature there is (so that a bit that gets through is a bit that the policy lets through), and an old one that has
// hardly any. And what the kernel lets guests do whatever CPUID shows.
//
// sources: guest/cpuid.c dom0/devices/cpuid.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <basalt/hypercall.h>
#include "arch/cpu.h"
#include "dom0/devices/cpuid.h"
#include "dom0/devices/host.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"

#define EXT                0x80000000u

#define policy             guest_cpuid

#define ECX_1_FMA          BIT(12)
#define ECX_1_X2APIC       BIT(21)
#define ECX_1_TSC_DEADLINE BIT(24)
#define ECX_1_XSAVE        BIT(26)
#define ECX_1_AVX          BIT(28)
#define ECX_1_F16C         BIT(29)
#define ECX_1_HYPERVISOR   BIT(31)
#define EDX_1_HTT          BIT(28)
#define EAX_6_ARAT         BIT(2)
#define EBX_7_TSC_ADJUST   BIT(1)
#define EBX_7_AVX2         BIT(5)

u64 host_xcr0, host_cr4, host_safe_msr;
struct cpu_features cpu_features;
static struct basalt_cpuid rows[PAGE_SIZE / sizeof(struct basalt_cpuid)];
static struct domain domain, creator;
static bool no_page, no_memory;

static void clear_shadow(struct cpu_state *cpu) { (void)cpu; }
static const struct backend fake_backend = {.clear_shadow = clear_shadow};
const struct backend *backend = &fake_backend;
void vcpu_single_step(struct vcpu *v) {
    (void)v;
    fail();
}
static struct vcpu vcpu = {.domain = &domain};
static const u64 everything = ~0ull,
                 plain = 7; // the state that the kernel switches, as XCR0 has it

static struct cpuid vendor(bool amd, u32 max) {
    return amd ? (struct cpuid){max, 0x68747541, 0x444d4163, 0x69746e65}  // AuthenticAMD
               : (struct cpuid){max, 0x756e6547, 0x6c65746e, 0x49656e69}; // GenuineIntel
}

static bool amd;

static struct cpuid all_features(u32 leaf, u32 sub) {
    if (leaf == 0)
        return vendor(amd, 0x20);
    if (leaf == EXT)
        return vendor(amd, EXT | 0x28);
    if (leaf == (EXT | 8))
        return (struct cpuid){0x3934, ~0u, ~0u, ~0u}; // 52 and 57 bits
    if (leaf == 4)
        return (struct cpuid){sub < 4 ? 0xfc000120 + sub * 0x20 + 1 : 0, 0x01c0003f, 0x3f, ~0u};
    if (leaf == 0xd && sub == 2)
        return (struct cpuid){256, 576, 0, 0};
    if (leaf == 0xd && sub > 2)
        return (struct cpuid){512, 1088, 0, 0};
    return (struct cpuid){~0u, ~0u, ~0u, ~0u};
}

static struct cpuid old_host(u32 leaf, u32 sub) {
    (void)sub;
    if (leaf == 0)
        return vendor(false, 2);
    if (leaf == 1)
        return (struct cpuid){0x10676, 0x00040800, 0x00002001, 0x07808111};
    if (leaf == EXT)
        return (struct cpuid){EXT | 4, 0, 0, 0};
    if (leaf == (EXT | 1))
        return (struct cpuid){0, 0, 1, 0x20100000};
    // Beyond the last leaf real processors give the last one's data; garbage is worse.
    return (struct cpuid){~0u, ~0u, ~0u, ~0u};
}

static struct cpuid ask(u32 leaf, u32 sub) {
    u64 *gprs = vcpu.cpu.gprs, rip = vcpu.cpu.rip;

    memset(gprs, 0xff, sizeof(vcpu.cpu.gprs));
    gprs[BASALT_RAX] = ~0ull << 32 | leaf;
    gprs[BASALT_RCX] = ~0ull << 32 | sub;
    handle_cpuid(&vcpu, (struct exit){.insn_length = 2});
    assert_int_equal(vcpu.cpu.rip, rip + 2);
    for (unsigned i = 0; i < 4; i++) // the upper halves are cleared
        assert_int_equal(gprs[i] >> 32, 0);
    for (unsigned i = 4; i < 16; i++)
        assert_int_equal(gprs[i], ~0ull);
    return (struct cpuid){(u32)gprs[BASALT_RAX], (u32)gprs[BASALT_RBX], (u32)gprs[BASALT_RCX],
                          (u32)gprs[BASALT_RDX]};
}

static struct cpuid (*host)(u32 leaf, u32 sub);
static u64 switched;

uint32_t host_tsc_khz(void) { return 2500000; }

// As dom0 sees it: leaf 1 says whether the kernel has XSAVE on.
struct host_cpuid host_cpuid(uint32_t leaf, uint32_t subleaf) {
    struct cpuid r = host(leaf, subleaf);

    if (leaf == 1 && !switched)
        r.ecx &= ~(u32)CPUID_1_ECX_OSXSAVE;
    if (leaf == 0xd && subleaf == 0)
        r.eax &= (u32)switched;
    return (struct host_cpuid){r.eax, r.ebx, r.ecx, r.edx};
}

void *domain_page_alloc(struct domain *d) {
    assert_ptr_equal(d, &domain);
    return no_page ? NULL : rows;
}

int memory_read(struct domain *d, gpa_t gpa, void *buffer, u64 bytes) {
    assert_ptr_equal(d, &creator);
    memcpy(buffer, (const void *)gpa.v, no_memory ? bytes / 2 : bytes);
    return no_memory ? -BASALT_EFAULT : 0;
}

static void use_vcpus(u64 xcr0, struct cpuid (*model)(u32 leaf, u32 sub), u32 vcpus) {
    struct basalt_cpuid table[CPUID_ROWS];

    switched = xcr0;
    host = model;
    vcpu.index = 0;
    vcpu.cpu.cr4_guest = 0;
    vcpu.lapic.apic_base = APIC_BASE_ENABLE;
    host_xcr0 = 1;
    assert_int_equal(cpuid_set(&domain, &creator, GPA((u64)table), cpuid_table(table, vcpus)), 0);
}

static void use(u64 xcr0, struct cpuid (*model)(u32 leaf, u32 sub)) { use_vcpus(xcr0, model, 1); }

static void assert_regs(struct cpuid r, u32 eax, u32 ebx, u32 ecx, u32 edx) {
    assert_int_equal(r.eax, eax);
    assert_int_equal(r.ebx, ebx);
    assert_int_equal(r.ecx, ecx);
    assert_int_equal(r.edx, edx);
}

// Each feature that must never show, by leaf, subleaf and register; reasons are in dom0/devices/cpuid.c.
static void hidden_features(void **state) {
    enum { EAX, EBX, ECX, EDX, END = 255 };
    static const struct {
        u32 leaf;
        u8 sub, reg, bits[32];
    } hidden[] = {
        // DTES64 MONITOR DS-CPL VMX SMX EIST TM2 CNXT-ID SDBG xTPR PDCM reserved DCA OSXSAVE (follows CR4)
        {0x1, 0, ECX, {2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 16, 18, 27, END}},
        // reserved PSN reserved DS ACPI HTT (follows the vCPUs) TM IA64 PBE
        {0x1, 0, EDX, {10, 18, 20, 21, 22, 28, 29, 30, 31, END}},
        // SGX HLE RTM PQM MPX PQE AVX512F AVX512DQ IFMA PT AVX512PF AVX512ER AVX512CD AVX512BW AVX512VL
        {0x7, 0, EBX, {2, 4, 11, 12, 14, 15, 16, 17, 21, 25, 26, 27, 28, 30, 31, END}},
        // PREFETCHWT1 VBMI PKU OSPKE WAITPKG VBMI2 CET_SS VNNI BITALG TME VPOPCNTDQ LA57 MAWAU RDPID KL MOVDIRI MOVDIR64B
        // ENQCMD SGX_LC PKS
        {0x7, 0, ECX, {0,  1,  3,  4,  5,  6,  7,  11, 12, 13, 14, 16, 17,
                       18, 19, 20, 21, 22, 23, 27, 28, 29, 30, 31, END}},
        // 4VNNIW 4FMAPS UINTR VP2INTERSECT RTM_ALWAYS_ABORT TSX_FORCE_ABORT hybrid TSXLDTRK PCONFIG LBR IBT AMX AVX512FP16
        // IBRS STIBP CORE_CAPABILITIES SSBD
        {0x7, 0, EDX, {2,  3,  5,  8,  11, 13, 15, 16, 18, 19,
                       20, 22, 23, 24, 25, 26, 27, 30, 31, END}},
        {0xd, 0, EAX, {3, 4, 5, 6, 7, 8, 9, 17, 18, END}},
        {0xd, 1, EAX, {3, 4, 5, END}},    // XSAVES XFD
        {EXT | 1, 0, EDX, {25, 27, END}}, // FFXSR RDTSCP
        // SVM ExtApicSpace AltMovCr8 OSVW IBS SKINIT WDT LWP TCE NodeId TopologyExtensions PerfCtr (3) DBX PTSC MONITORX
        {EXT | 1, 0, ECX, {2, 3, 4, 9, 10, 12, 13, 15, 17, 19, 22, 23, 24, 26, 27, 28, 29, END}},
        {EXT | 8,
         0,
         EBX,
         {1, 4, 9, 14, 15, 16, 17, 18, 24, 25, END}}, // RDPRU WBNOINVD IBRS STIBP SSBD
        {EXT | 7, 0, EDX, {0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, END}},
    };
    (void)state;
    for (unsigned a = 0; a < 2; a++) {
        amd = a;
        use(everything, all_features);
        for (unsigned i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
            struct cpuid r = ask(hidden[i].leaf, hidden[i].sub);
            u32 value = ((const u32[]){r.eax, r.ebx, r.ecx, r.edx})[hidden[i].reg];
            for (const u8 *bit = hidden[i].bits; *bit != END; bit++)
                assert_false(value >> *bit & 1);
        }
        static const u32 zero[] = {3,          5,          9,         0xa,        0xf,
                                   0x10,       0x12,       0x14,      0x16,       0x17,
                                   0x1a,       0x1f,       EXT | 0xa, EXT | 0x1b, EXT | 0x1d,
                                   EXT | 0x1e, EXT | 0x1f, EXT | 0x22};
        for (unsigned i = 0; i < sizeof(zero) / sizeof(zero[0]); i++)
            for (u32 sub = 0; sub < 4; sub++)
                assert_regs(ask(zero[i], sub), 0, 0, 0, 0);
    }
}

static void vendor_and_limits(void **state) {
    (void)state;
    amd = false;
    use(everything, all_features);
    assert_regs(ask(0, 0), 0x15, 0x756e6547, 0x6c65746e, 0x49656e69);
    assert_int_equal(ask(EXT, 0).eax, EXT | 0x21);
    assert_int_equal(ask(EXT | 8, 0).eax, 46 | 48 << 8);
    assert_false(cpuid_is_amd());
    amd = true;
    use(everything, all_features);
    assert_int_equal(ask(0, 0).eax, 0xd);
    assert_true(cpuid_is_amd());
    assert_regs(ask(0x15, 0), 0, 0, 0, 0);
}

static void emulated_features_show_anywhere(void **state) {
    static struct cpuid (*const hosts[])(u32, u32) = {all_features, old_host, cpuid_count};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        use(plain, hosts[i]);
        u32 want = ECX_1_X2APIC | ECX_1_TSC_DEADLINE | ECX_1_HYPERVISOR;
        assert_int_equal(ask(1, 0).ecx & want, want);
        assert_true(ask(1, 0).edx & CPUID_1_EDX_APIC);
        assert_true(ask(7, 0).ebx & EBX_7_TSC_ADJUST);
        assert_int_equal(ask(6, 0).eax, EAX_6_ARAT);
        assert_true(ask(0, 0).eax >= 0xb);
    }
}

static void old_hosts_leaves_are_empty(void **state) {
    (void)state;
    use(everything, old_host);
    assert_regs(ask(7, 0), 0, EBX_7_TSC_ADJUST, 0, 0);
    assert_regs(ask(7, 1), 0, 0, 0, 0);
    for (u32 sub = 0; sub < 4; sub++)
        assert_regs(ask(0xd, sub), 0, 0, 0, 0);
    assert_regs(ask(4, 0), 0, 0, 0, 0);
    assert_int_equal(ask(EXT | 8, 0).eax, 36 | 48 << 8);
}

static void features_pass(void **state) {
    (void)state;
    amd = false;
    use(everything, all_features);
    assert_true(ask(1, 0).ecx & CPUID_1_ECX_PCID && ask(7, 0).ebx & BIT(10) /* INVPCID */);
    assert_true(ask(7, 0).edx & BIT(28) /* FLUSH_L1D */);
    assert_true(ask(7, 0).edx & BIT(29) /* ARCH_CAPABILITIES */);
    assert_true(ask(EXT | 8, 0).ebx & BIT(12) /* IBPB */);
}

static void no_avx_without_its_state(void **state) {
    u64 xcr0 = XCR0_X87 | XCR0_SSE;

    (void)state;
    amd = true;
    use(xcr0, all_features);
    assert_true(ask(1, 0).ecx & ECX_1_XSAVE);
    assert_false(ask(1, 0).ecx & (ECX_1_AVX | ECX_1_FMA | ECX_1_F16C));
    assert_false(ask(7, 0).ebx & EBX_7_AVX2 || ask(7, 0).ecx & 0x600);
    assert_regs(ask(7, 1), 0, 0, 0, 0);
    assert_false(ask(EXT | 1, 0).ecx & 0x00010800);
    assert_regs(ask(0xd, 0), 3, 576, 576, 0);
    assert_regs(ask(0xd, 2), 0, 0, 0, 0);
    xcr0 = 0; // the kernel has no XSAVE
    use(xcr0, all_features);
    assert_false(ask(1, 0).ecx & ECX_1_XSAVE);
    assert_regs(ask(0xd, 0), 0, 0, 0, 0);
    assert_regs(ask(0xd, 1), 0, 0, 0, 0);
}

static void extended_state_sizes(void **state) {
    (void)state;
    amd = false;
    use(everything, all_features);
    assert_regs(ask(0xd, 0), 7, 576, 832, 0);
    assert_regs(ask(0xd, 1), 7, 576, 0, 0);
    host_xcr0 = 7;
    assert_regs(ask(0xd, 0), 7, 832, 832, 0);
    assert_regs(ask(0xd, 1), 7, 832, 0, 0);
    assert_regs(ask(0xd, 2), 256, 576, 0, 0);
    for (u32 sub = 3; sub < 70; sub++)
        assert_regs(ask(0xd, sub), 0, 0, 0, 0);
}

static void live_bits(void **state) {
    (void)state;
    use(everything, all_features);
    assert_false(ask(1, 0).ecx & CPUID_1_ECX_OSXSAVE);
    vcpu.cpu.cr4_guest = CR4_OSXSAVE;
    assert_true(ask(1, 0).ecx & CPUID_1_ECX_OSXSAVE);
    vcpu.lapic.apic_base = 0;
    assert_false(ask(1, 0).edx & CPUID_1_EDX_APIC);
}

static u32 log2_up(u32 n) {
    u32 bits = 0;

    while (1u << bits < n)
        bits++;
    return bits;
}

static void topology(void **state) {
    (void)state;
    for (u32 vcpus = 1; vcpus <= 64; vcpus++) {
        u32 bits = log2_up(vcpus);
        amd = false;
        use_vcpus(everything, all_features, vcpus);
        vcpu.index = (u16)(vcpus - 1);
        assert_int_equal(ask(1, 0).ebx, (vcpus - 1) << 24 | 1u << bits << 16 | 0xffff);
        assert_int_equal(!!(ask(1, 0).edx & EDX_1_HTT), vcpus > 1);
        assert_regs(ask(0xb, 0), 0, 1, 0x100, vcpus - 1);
        assert_regs(ask(0xb, 1), bits, vcpus, 0x201, vcpus - 1);
        assert_regs(ask(0xb, 2), 0, 0, 2, vcpus - 1);
        assert_regs(ask(0xb, 0x300 | 7), 0, 0, 7, vcpus - 1);
        for (u32 sub = 0; sub < 8; sub++) {
            struct cpuid r = ask(4, sub);
            u32 level = r.eax >> 5 & 7;
            assert_int_equal(r.eax & 31, sub < 4 ? 1 : 0);
            if (sub >= 4)
                continue;
            assert_int_equal(r.eax >> 26, (1u << bits) - 1);
            assert_int_equal(r.eax >> 14 & 0xfff, level >= 3 ? (1u << bits) - 1 : 0);
        }
        amd = true;
        use_vcpus(everything, all_features, vcpus);
        assert_int_equal(ask(EXT | 8, 0).ecx, (vcpus - 1) | bits << 12);
        assert_int_equal(!!(ask(EXT | 1, 0).ecx & 2), vcpus > 1);
    }
}

static void frequencies(void **state) {
    (void)state;
    amd = false;
    use(everything, all_features);
    assert_regs(ask(0x15, 0), 1000000, 2500000, 1000000000, 0);
    struct cpuid r = ask(0x15, 0);
    assert_int_equal((u64)r.ecx * r.ebx / r.eax, 2500000000);
}

static void hypervisor_leaves(void **state) {
    char text[13] = "";

    (void)state;
    use(everything, all_features);
    struct cpuid r = ask(0x40000000, 0);
    memcpy(text, &r.ebx, 12);
    assert_string_equal(text, "KVMKVMKVM");
    assert_int_equal(r.eax, 0x40000010);
    assert_regs(ask(0x40000001, 0), 0x0100000a, 0, 0, 0);
    assert_regs(ask(0x40000010, 0), 2500000, 1000000, 0, 0);
    r = ask(0x40000100, 0);
    memcpy(text, &r.ebx, 12);
    assert_string_equal(text, "BasaltBasalt");
    assert_int_equal(r.eax, 0x40000101);
    assert_regs(ask(0x40000101, 0), BASALT_ABI_VERSION, 0, 0, 0);
    assert_regs(ask(0x40000200, 0), 0, 0, 0, 0);
}

static void control_bits_follow_features(void **state) {
    (void)state;
    cpu_features = (struct cpu_features){.physical_bits = 52, .pcid = true};
    host_cr4 = ~0ull;
    host_safe_msr = ~0ull;
    cpuid_setup();
    assert_int_equal(policy.cr4, 0x00370fff); // no LA57, VMXE, SMXE, PKE, CET, PKS
    assert_int_equal(policy.phys_bits, 46);
    assert_int_equal(policy.arch_capabilities & BIT(7) /* TSX_CTRL */, 0);
    assert_int_equal(policy.arch_capabilities, 0x0d12e17d);
    cpu_features = (struct cpu_features){.physical_bits = 36};
    host_cr4 = CR4_PAE | CR4_VMXE;
    host_safe_msr = 0;
    cpuid_setup();
    assert_int_equal(policy.cr4, 0x000007ff); // what every 64-bit processor has
    assert_int_equal(policy.phys_bits, 36);
    assert_int_equal(policy.arch_capabilities, 0);
    for (unsigned bit = 0; bit < 64; bit++) {
        host_cr4 = BIT(bit);
        cpuid_setup();
        assert_int_equal(policy.cr4, 0x7ff | (0x00350800 & BIT(bit)));
    }
    assert_int_equal(EFER_GUEST, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
}

// The kernel's part: without a table, with a broken one, and which row counts.
static void tables(void **state) {
    struct basalt_cpuid table[3] = {{5, 1, 10, 11, 12, 13},
                                    {5, BASALT_CPUID_ANY, 20, 21, 22, 23},
                                    {~0u, BASALT_CPUID_ANY, 30, 31, 32, 33}};
    struct cpuid own = cpuid_count(0, 0);

    (void)state;
    domain.cpuid = NULL;
    domain.cpuid_end = NULL;
    assert_regs(ask(0, 0), own.eax, own.ebx, own.ecx, own.edx);
    no_page = true;
    assert_int_equal(cpuid_set(&domain, &creator, GPA((u64)table), 3), -BASALT_ENOSPC);
    assert_int_equal(cpuid_set(&domain, &creator, GPA((u64)table), 171), -BASALT_EINVAL);
    assert_int_equal(cpuid_set(&domain, &creator, GPA((u64)table), ~0ull), -BASALT_EINVAL);
    assert_null(domain.cpuid);
    no_page = false;
    assert_int_equal(cpuid_set(&domain, &creator, GPA((u64)table), 3), 0);
    assert_regs(ask(5, 1), 10, 11, 12, 13);
    assert_regs(ask(5, 0), 20, 21, 22, 23);
    assert_regs(ask(5, ~0u), 20, 21, 22, 23);
    assert_regs(ask(~0u, 0), 30, 31, 32, 33);
    assert_regs(ask(0, 0), 0, 0, 0, 0);
    no_memory = true;
    assert_int_equal(cpuid_set(&domain, &creator, GPA((u64)table), 2), -BASALT_EFAULT);
    no_memory = false;
    assert_regs(ask(5, 1), 0, 0, 0, 0);
    assert_int_equal(cpuid_set(&domain, &creator, GPA((u64)rows), 170), 0); // a page's worth
    assert_ptr_equal(domain.cpuid_end, rows + 170);
    assert_int_equal(cpuid_set(&domain, &creator, GPA((u64)rows), 0), 0);
    assert_regs(ask(0, 0), 0, 0, 0, 0);
}

// On the machine that runs the test: nothing but what it has, and what is made up on purpose.
static void this_host(void **state) {
    (void)state;
    use(plain, cpuid_count);
    struct cpuid own = cpuid_count(1, 0), guest = ask(1, 0);
    assert_int_equal(guest.eax, own.eax);
    assert_int_equal(guest.ecx & ~own.ecx & ~(ECX_1_X2APIC | ECX_1_TSC_DEADLINE | ECX_1_HYPERVISOR),
                     0);
    assert_int_equal(guest.edx & ~own.edx, 0);
    assert_int_equal(ask(0, 0).ebx, cpuid_count(0, 0).ebx);
    own = cpuid_count(7, 0), guest = ask(7, 0);
    assert_int_equal(guest.ebx & ~own.ebx & ~(u32)EBX_7_TSC_ADJUST, 0);
    assert_int_equal((guest.ecx & ~own.ecx) | (guest.edx & ~own.edx), 0);
    own = cpuid_count(EXT | 1, 0), guest = ask(EXT | 1, 0);
    assert_int_equal((guest.ecx & ~own.ecx) | (guest.edx & ~own.edx), 0);
    for (u32 leaf = EXT | 2; leaf <= (EXT | 4); leaf++) {
        own = cpuid_count(leaf, 0);
        assert_regs(ask(leaf, 0), own.eax, own.ebx, own.ecx, own.edx);
    }
    if (ask(0xd, 0).eax & XCR0_AVX)
        assert_regs(ask(0xd, 2), 256, 576, 0, 0);
}

static void any_leaf_is_answered(void **state) {
    (void)state;
    srand(2);
    amd = rand() & 1;
    use(everything, all_features);
    for (unsigned i = 0; i < 1000000; i++) {
        u32 leaf = (u32)rand() << rand() % 3 ^ (u32)rand();
        if (i % 2)
            leaf &= 0xf00000ff;
        ask(leaf, (u32)rand() >> rand() % 32);
    }
    ask(~0u, ~0u);
    ask(0x7fffffff, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_features),
        cmocka_unit_test(vendor_and_limits),
        cmocka_unit_test(emulated_features_show_anywhere),
        cmocka_unit_test(old_hosts_leaves_are_empty),
        cmocka_unit_test(features_pass),
        cmocka_unit_test(no_avx_without_its_state),
        cmocka_unit_test(extended_state_sizes),
        cmocka_unit_test(live_bits),
        cmocka_unit_test(topology),
        cmocka_unit_test(frequencies),
        cmocka_unit_test(hypervisor_leaves),
        cmocka_unit_test(control_bits_follow_features),
        cmocka_unit_test(tables),
        cmocka_unit_test(this_host),
        cmocka_unit_test(any_leaf_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
