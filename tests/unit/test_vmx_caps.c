// SPDX-License-Identifier: Apache-2.0
//
// Tests of vmx/caps.c: from tables of capability MSRs, as emulators report them and with single bits taken away or forced,
// to controls in use, features and refusals.
//
// sources: vmx/caps.c vmx/init.c vmx/regs.c

#include "test_vmx_model.h"

static struct backend_features features;

// -1: the machine was refused.
static int read_caps(bool cpuid_vmx) {
    memset(&features, 0, sizeof(features));
    if (setjmp(model_refused))
        return -1;
    vmx_caps_read(model_rdmsr, cpuid_vmx, &vmx_caps, &features);
    return 0;
}

static void refused(const char *missing) {
    assert_int_equal(read_caps(true), -1);
    assert_non_null(strstr(model_missing, missing));
    assert_non_null(model_remedy);
}

// Control MSRs have what may be one in bits 63:32.
static void take_away(u32 msr, u32 bits) { model_msrs[msr - MSR_VMX_BASIC] &= ~((u64)bits << 32); }

static void test_haswell(void **state) {
    (void)state;
    model_reset_msrs();
    assert_int_equal(read_caps(true), 0);
    assert_int_equal(vmx_caps.revision, 0x2b);
    assert_int_equal(vmx_caps.use[CONTROL_PIN], 0x7f);
    assert_int_equal(vmx_caps.use[CONTROL_PRIMARY], 0xb6986dfa);
    assert_true(features.vpid && features.ept_ad && features.preemption_timer && features.apicv &&
                features.pause_filter);
    assert_true(features.second_level_1g && features.second_level_2m);
}

static void test_skylake(void **state) {
    (void)state;
    model_reset_msrs();
    model_msrs[MSR_VMX_MISC - MSR_VMX_BASIC] = 0x600401e5;
    model_msrs[MSR_VMX_PROCBASED_CTLS2 - MSR_VMX_BASIC] = 0x02177fff00000000;
    assert_int_equal(read_caps(true), 0);
    assert_true(features.pause_filter);
    // PML, XSAVES, TSC scaling
    assert_false(vmx_caps.use[CONTROL_SECONDARY] & (BIT(17) | BIT(20) | BIT(25)));
    assert_int_equal(vmx_caps.timer_shift, 5);
}

// Every word obeys (wanted | must be one) & may be one, whatever the processor says.
static void test_control_words(void **state) {
    (void)state;
    srand(1);
    for (unsigned round = 0; round < 20000; round++) {
        model_reset_msrs();
        for (unsigned i = 0; i < MODEL_MSRS; i++)
            if (rand() % 4 == 0)
                model_msrs[i] ^= BIT(rand() % 64);
        if (read_caps(true))
            continue;
        for (unsigned i = 0; i < CONTROLS; i++) {
            assert_int_equal(vmx_caps.use[i] & ~vmx_caps.may[i], 0);
            if (!(vmx_caps.must[i] & ~vmx_caps.may[i]) && i != CONTROL_SECONDARY)
                assert_int_equal(vmx_caps.must[i] & ~vmx_caps.use[i], 0);
        }
        assert_true(vmx_caps.use[CONTROL_SECONDARY] & SECONDARY_EPT);
        assert_true(vmx_caps.use[CONTROL_SECONDARY] & SECONDARY_UNRESTRICTED);
        assert_true(vmx_caps.use[CONTROL_PRIMARY] & PRIMARY_MSR_BITMAPS);
        assert_false(vmx_caps.use[CONTROL_PRIMARY] & (PRIMARY_CR3_LOAD | PRIMARY_IRQ_WINDOW));
    }
}

static void test_no_vmx(void **state) {
    (void)state;
    model_reset_msrs();
    memset(model_absent, 1, sizeof(model_absent)); // without VMX not one of the MSRs exists
    assert_int_equal(read_caps(false), -1);
    assert_string_equal(model_missing, "VMX");
    assert_non_null(strstr(model_remedy, "VT-x"));
}

static void test_feature_control(void **state) {
    (void)state;
    model_reset_msrs();
    model_feature_control = FEATURE_CONTROL_LOCKED;
    memset(model_absent, 1, sizeof(model_absent));
    refused("locked off by the firmware");
    model_feature_control = FEATURE_CONTROL_LOCKED | BIT(1);
    refused("IA32_FEATURE_CONTROL");
    model_reset_msrs();
    model_feature_control = 0; // not locked: cpu_on sets it
    assert_int_equal(read_caps(true), 0);
}

static void test_refusals(void **state) {
    static const struct {
        u32 msr, bits;
        const char *missing;
    } cases[] = {
        {MSR_VMX_TRUE_PROCBASED_CTLS, PRIMARY_SECONDARY, "secondary"},
        {MSR_VMX_PROCBASED_CTLS2, SECONDARY_EPT, "EPT"},
        {MSR_VMX_PROCBASED_CTLS2, SECONDARY_EPT | SECONDARY_VPID, "EPT"},
        {MSR_VMX_PROCBASED_CTLS2, SECONDARY_UNRESTRICTED, "unrestricted guest"},
        {MSR_VMX_PROCBASED_CTLS2, SECONDARY_WBINVD, "WBINVD"},
        {MSR_VMX_TRUE_PINBASED_CTLS, PIN_EXTERNAL_INTERRUPT, "interrupts"},
        {MSR_VMX_TRUE_PINBASED_CTLS, PIN_NMI, "NMIs"},
        {MSR_VMX_TRUE_PINBASED_CTLS, PIN_VIRTUAL_NMI, "virtual NMIs"},
        {MSR_VMX_TRUE_PROCBASED_CTLS, PRIMARY_NMI_WINDOW, "NMI windows"},
        {MSR_VMX_TRUE_PROCBASED_CTLS, PRIMARY_MSR_BITMAPS, "MSR"},
        {MSR_VMX_TRUE_PROCBASED_CTLS, PRIMARY_IO_BITMAPS, "I/O bitmaps"},
        {MSR_VMX_TRUE_PROCBASED_CTLS, PRIMARY_HLT, "HLT"},
        {MSR_VMX_TRUE_PROCBASED_CTLS, PRIMARY_CR8_LOAD, "CR8"},
        {MSR_VMX_TRUE_PROCBASED_CTLS, PRIMARY_TSC_OFFSET, "TSC"},
        {MSR_VMX_TRUE_EXIT_CTLS, EXIT_LOAD_EFER, "EFER"},
        {MSR_VMX_TRUE_EXIT_CTLS, EXIT_HOST_64, "PAT"},
        {MSR_VMX_TRUE_ENTRY_CTLS, ENTRY_LOAD_PAT, "PAT"},
        {MSR_VMX_TRUE_ENTRY_CTLS, ENTRY_GUEST_64, "64-bit guests"},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        model_reset_msrs();
        take_away(cases[i].msr, cases[i].bits);
        // MSRs that are announced by what was taken away don't exist then.
        if (cases[i].bits == PRIMARY_SECONDARY)
            model_absent[MSR_VMX_PROCBASED_CTLS2 - MSR_VMX_BASIC] = true;
        if (cases[i].bits == PRIMARY_SECONDARY || cases[i].bits == (SECONDARY_EPT | SECONDARY_VPID))
            model_absent[MSR_VMX_EPT_VPID_CAP - MSR_VMX_BASIC] = true;
        refused(cases[i].missing);
    }
}

static void test_ept_refusals(void **state) {
    static const struct {
        u64 bits;
        const char *missing;
    } cases[] = {
        {EPT_CAP_WALK_4, "four levels"},
        {EPT_CAP_WRITE_BACK, "write-back"},
        {EPT_CAP_INVEPT, "INVEPT"},
        {EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL, "INVEPT"},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        model_reset_msrs();
        model_msrs[MSR_VMX_EPT_VPID_CAP - MSR_VMX_BASIC] &= ~cases[i].bits;
        refused(cases[i].missing);
    }
}

// Without the TRUE MSRs exits on CR3 can't be switched off: a processor too old for unrestricted guests anyway. Nor may a
// hypervisor below want them.
static void test_no_true_controls(void **state) {
    (void)state;
    model_reset_msrs();
    model_msrs[0] &= ~BIT(55);
    for (u32 msr = MSR_VMX_TRUE_PINBASED_CTLS; msr <= MSR_VMX_TRUE_ENTRY_CTLS; msr++)
        model_absent[msr - MSR_VMX_BASIC] = true;
    refused("IA32_VMX_TRUE");
    model_reset_msrs();
    model_msrs[MSR_VMX_TRUE_PROCBASED_CTLS - MSR_VMX_BASIC] |= PRIMARY_CR3_LOAD;
    refused("CR3");
}

static void test_fallbacks(void **state) {
    (void)state;
    model_reset_msrs();
    take_away(MSR_VMX_TRUE_PINBASED_CTLS, PIN_PREEMPTION_TIMER);
    take_away(MSR_VMX_PROCBASED_CTLS2, SECONDARY_VPID | SECONDARY_PLE | SECONDARY_INVPCID);
    assert_int_equal(read_caps(true), 0);
    assert_false(features.preemption_timer || features.vpid || features.pause_filter);
    assert_true(vmx_caps.use[CONTROL_PRIMARY] & PRIMARY_PAUSE); // instead of PLE

    model_reset_msrs();
    assert_int_equal(read_caps(true), 0);
    assert_false(vmx_caps.use[CONTROL_PRIMARY] & PRIMARY_PAUSE);

    // VPIDs are of no use when they can't be flushed.
    model_msrs[MSR_VMX_EPT_VPID_CAP - MSR_VMX_BASIC] &= ~VPID_CAP_INVVPID;
    assert_int_equal(read_caps(true), 0);
    assert_false(features.vpid);
    model_reset_msrs();
    model_msrs[MSR_VMX_EPT_VPID_CAP - MSR_VMX_BASIC] &= ~(VPID_CAP_SINGLE | VPID_CAP_ALL);
    assert_int_equal(read_caps(true), 0);
    assert_false(features.vpid);
    model_reset_msrs();
    model_msrs[MSR_VMX_EPT_VPID_CAP - MSR_VMX_BASIC] &=
        ~(EPT_CAP_ACCESSED_DIRTY | EPT_CAP_1G | EPT_CAP_2M);
    assert_int_equal(read_caps(true), 0);
    assert_false(features.ept_ad || features.second_level_1g || features.second_level_2m);
}

// All of it or none: each control that APICv needs, taken away, leaves the software path.
static void test_apicv(void **state) {
    static const u32 secondary[] = {SECONDARY_X2APIC, SECONDARY_APIC_REGISTERS,
                                    SECONDARY_VIRTUAL_IRQ};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(secondary); i++) {
        model_reset_msrs();
        take_away(MSR_VMX_PROCBASED_CTLS2, secondary[i]);
        assert_int_equal(read_caps(true), 0);
        assert_false(features.apicv);
    }
    model_reset_msrs();
    take_away(MSR_VMX_TRUE_PROCBASED_CTLS, PRIMARY_TPR_SHADOW);
    assert_int_equal(read_caps(true), 0);
    assert_false(features.apicv);
    model_reset_msrs(); // an exit on MOV from CR8 that can't be switched off
    model_msrs[MSR_VMX_TRUE_PROCBASED_CTLS - MSR_VMX_BASIC] |= PRIMARY_CR8_STORE;
    assert_int_equal(read_caps(true), 0);
    assert_false(features.apicv);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_haswell),         cmocka_unit_test(test_skylake),
        cmocka_unit_test(test_control_words),   cmocka_unit_test(test_no_vmx),
        cmocka_unit_test(test_feature_control), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_ept_refusals),    cmocka_unit_test(test_no_true_controls),
        cmocka_unit_test(test_fallbacks),       cmocka_unit_test(test_apicv),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
