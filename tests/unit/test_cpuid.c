// SPDX-License-Identifier: Apache-2.0
//
// The CPUID policy on three hosts: the machine that runs the test, a model that claims every feature there is (so that
// a bit that gets through is a bit that the policy lets through), and an old one that has hardly any.
//
// sources: guest/cpuid.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <basalt/hypercall.h>
#include "guest/vcpu.h"
#include "kernel/domain.h"

#define EXT    0x80000000u

#define policy guest_cpuid

u64 host_xcr0, tsc_khz = 2500000;
static struct domain domain;
static struct vcpu vcpu = {.domain = &domain};
struct inputs {
    u64 xcr0, arch_capabilities;
};
static const struct inputs everything = {~0ull, ~0ull}, plain = {7, 0};

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

static struct cpuid ask(u32 leaf, u32 sub) { return cpuid_guest(&vcpu, leaf, sub); }

static void use(const struct inputs *in, cpuid_host_fn host) {
    cpuid_setup(in->xcr0, in->arch_capabilities, host);
    vcpu.index = 0;
    vcpu.cpu.cr4_guest = 0;
    vcpu.lapic.apic_base = APIC_BASE_ENABLE;
    domain.vcpu_count = 1;
    host_xcr0 = 1;
}

static void assert_regs(struct cpuid r, u32 eax, u32 ebx, u32 ecx, u32 edx) {
    assert_int_equal(r.eax, eax);
    assert_int_equal(r.ebx, ebx);
    assert_int_equal(r.ecx, ecx);
    assert_int_equal(r.edx, edx);
}

// Each feature that must never show, by leaf, subleaf and register; reasons are in guest/cpuid.c.
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
        use(&everything, all_features);
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
    use(&everything, all_features);
    assert_regs(ask(0, 0), 0x15, 0x756e6547, 0x6c65746e, 0x49656e69);
    assert_int_equal(ask(EXT, 0).eax, EXT | 0x21);
    assert_int_equal(ask(EXT | 8, 0).eax, 46 | 48 << 8);
    assert_int_equal(policy.phys_bits, 46);
    assert_false(policy.amd);
    amd = true;
    use(&everything, all_features);
    assert_int_equal(ask(0, 0).eax, 0xd);
    assert_true(policy.amd);
    assert_regs(ask(0x15, 0), 0, 0, 0, 0);
}

static void emulated_features_show_anywhere(void **state) {
    static const cpuid_host_fn hosts[] = {all_features, old_host, cpuid_count};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        use(&plain, hosts[i]);
        u32 want = CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR;
        assert_int_equal(ask(1, 0).ecx & want, want);
        assert_true(ask(1, 0).edx & CPUID_1_EDX_APIC);
        assert_true(ask(7, 0).ebx & CPUID_7_EBX_TSC_ADJUST);
        assert_int_equal(ask(6, 0).eax, CPUID_6_EAX_ARAT);
        assert_true(ask(0, 0).eax >= 0xb);
    }
}

static void old_hosts_leaves_are_empty(void **state) {
    (void)state;
    use(&everything, old_host);
    assert_regs(ask(7, 0), 0, CPUID_7_EBX_TSC_ADJUST, 0, 0);
    assert_regs(ask(7, 1), 0, 0, 0, 0);
    for (u32 sub = 0; sub < 4; sub++)
        assert_regs(ask(0xd, sub), 0, 0, 0, 0);
    assert_regs(ask(4, 0), 0, 0, 0, 0);
    assert_int_equal(policy.xcr0, 0);
    assert_int_equal(policy.phys_bits, 36);
    assert_int_equal(policy.cr4 & CR4_OSXSAVE, 0);
}

static void inputs_gate_features(void **state) {
    (void)state;
    amd = false;
    use(&everything, all_features);
    assert_true(ask(1, 0).ecx & CPUID_1_ECX_PCID && ask(7, 0).ebx & BIT(10) /* INVPCID */ &&
                policy.cr4 & CR4_PCIDE);
    assert_true(ask(7, 0).edx & CPUID_7_EDX_ARCH_CAPABILITIES);
    assert_true(ask(7, 0).edx & BIT(28) /* FLUSH_L1D */);
    assert_int_equal(policy.arch_capabilities & BIT(7) /* TSX_CTRL */, 0);
    use(&plain, all_features);
    assert_false(ask(7, 0).edx & CPUID_7_EDX_ARCH_CAPABILITIES);
    assert_int_equal(policy.arch_capabilities, 0);
}

static void no_avx_without_its_state(void **state) {
    struct inputs in = everything;

    (void)state;
    in.xcr0 = XCR0_X87 | XCR0_SSE;
    amd = true;
    use(&in, all_features);
    assert_true(ask(1, 0).ecx & CPUID_1_ECX_XSAVE);
    assert_false(ask(1, 0).ecx & (CPUID_1_ECX_AVX | CPUID_1_ECX_FMA | CPUID_1_ECX_F16C));
    assert_false(ask(7, 0).ebx & CPUID_7_EBX_AVX2 || ask(7, 0).ecx & 0x600);
    assert_regs(ask(7, 1), 0, 0, 0, 0);
    assert_false(ask(EXT | 1, 0).ecx & 0x00010800);
    assert_regs(ask(0xd, 0), 3, 576, 576, 0);
    assert_regs(ask(0xd, 2), 0, 0, 0, 0);
    in.xcr0 = 0; // the kernel has no XSAVE
    use(&in, all_features);
    assert_false(ask(1, 0).ecx & CPUID_1_ECX_XSAVE || policy.cr4 & CR4_OSXSAVE);
    assert_regs(ask(0xd, 0), 0, 0, 0, 0);
    assert_regs(ask(0xd, 1), 0, 0, 0, 0);
}

static void extended_state_sizes(void **state) {
    (void)state;
    amd = false;
    use(&everything, all_features);
    assert_int_equal(policy.xcr0, 7);
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
    use(&everything, all_features);
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
        use(&everything, all_features);
        domain.vcpu_count = vcpus;
        vcpu.index = (u16)(vcpus - 1);
        assert_int_equal(ask(1, 0).ebx, (vcpus - 1) << 24 | 1u << bits << 16 | 0xffff);
        assert_int_equal(!!(ask(1, 0).edx & CPUID_1_EDX_HTT), vcpus > 1);
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
        use(&everything, all_features);
        domain.vcpu_count = vcpus;
        assert_int_equal(ask(EXT | 8, 0).ecx, (vcpus - 1) | bits << 12);
        assert_int_equal(!!(ask(EXT | 1, 0).ecx & 2), vcpus > 1);
    }
}

static void frequencies(void **state) {
    (void)state;
    amd = false;
    use(&everything, all_features);
    assert_regs(ask(0x15, 0), 1000000, 2500000, 1000000000, 0);
    struct cpuid r = ask(0x15, 0);
    assert_int_equal((u64)r.ecx * r.ebx / r.eax, 2500000000);
}

static void hypervisor_leaves(void **state) {
    char text[13] = "";

    (void)state;
    use(&everything, all_features);
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
    amd = false;
    use(&everything, all_features);
    assert_int_equal(policy.cr4, 0x00370fff); // no LA57, VMXE, SMXE, PKE, CET, PKS
    assert_int_equal(policy.efer, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
    use(&everything, old_host);
    assert_int_equal(policy.cr4, 0x000007ff); // what every 64-bit processor has
    assert_int_equal(policy.efer, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
}

// On the machine that runs the test: nothing but what it has, and what is made up on purpose.
static void this_host(void **state) {
    (void)state;
    use(&plain, cpuid_count);
    struct cpuid host = cpuid_count(1, 0), guest = ask(1, 0);
    assert_int_equal(guest.eax, host.eax);
    assert_int_equal(guest.ecx & ~host.ecx &
                         ~(CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR),
                     0);
    assert_int_equal(guest.edx & ~host.edx, 0);
    assert_int_equal(ask(0, 0).ebx, cpuid_count(0, 0).ebx);
    host = cpuid_count(7, 0), guest = ask(7, 0);
    assert_int_equal(guest.ebx & ~host.ebx & ~(u32)CPUID_7_EBX_TSC_ADJUST, 0);
    assert_int_equal((guest.ecx & ~host.ecx) | (guest.edx & ~host.edx), 0);
    host = cpuid_count(EXT | 1, 0), guest = ask(EXT | 1, 0);
    assert_int_equal((guest.ecx & ~host.ecx) | (guest.edx & ~host.edx), 0);
    for (u32 leaf = EXT | 2; leaf <= (EXT | 4); leaf++) {
        host = cpuid_count(leaf, 0);
        assert_regs(ask(leaf, 0), host.eax, host.ebx, host.ecx, host.edx);
    }
    if (policy.xcr0 & XCR0_AVX)
        assert_regs(ask(0xd, 2), 256, 576, 0, 0);
}

static void any_leaf_is_answered(void **state) {
    (void)state;
    srand(2);
    amd = rand() & 1;
    use(&everything, all_features);
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
        cmocka_unit_test(inputs_gate_features),
        cmocka_unit_test(no_avx_without_its_state),
        cmocka_unit_test(extended_state_sizes),
        cmocka_unit_test(live_bits),
        cmocka_unit_test(topology),
        cmocka_unit_test(frequencies),
        cmocka_unit_test(hypervisor_leaves),
        cmocka_unit_test(control_bits_follow_features),
        cmocka_unit_test(this_host),
        cmocka_unit_test(any_leaf_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
