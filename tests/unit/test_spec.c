// SPDX-License-Identifier: Apache-2.0
//
// The choice of speculation controls, for processors as their CPUID and IA32_ARCH_CAPABILITIES describe them, and as
// emulators do: what is in force, what differs between kernel and guests, and how much of what is needed is missing.
//
// sources: arch/spec.c kernel/format.c

#include "arch/spec.h"
#include "kernel/cmdline.h"
#include "kernel/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct cpu_features cpu_features;
struct options options;
static char lines[2][512];
static unsigned line_count;

void log_line(enum log_level level, const char *text, ...) {
    va_list args;
    (void)level;
    va_start(args, text);
    vsnprintf(lines[line_count++ % 2], sizeof(lines[0]), text, args);
    va_end(args);
}

#define IBRS  0x001u
#define STIBP 0x002u
#define BHI   0x400u

#define INTEL(edx7, caps, ...)                                          \
    {                                                                   \
        VENDOR_INTEL, { [EDX7] = (edx7), [CAPS] = (caps), __VA_ARGS__ } \
    }
#define AMD(ebx88, eax821, ...)                                             \
    {                                                                       \
        VENDOR_AMD, { [EBX88] = (ebx88), [EAX821] = (eax821), __VA_ARGS__ } \
    }
#define TSX [EBX7] = BIT(11)

static const struct model {
    const char *name;
    struct spec_cpu cpu;
    u32 flags, host_ctrl, guest_ctrl;
    unsigned missing; // rows
} models[] = {
    // no microcode since 2017: L1D flush, VERW (MDS, TAA), IBRS, IBPB, STIBP are missing
    {"Haswell as in Bochs", INTEL(0, 0, TSX), SPEC_EXIT_RSB | SPEC_SMALL_CODE, 0, 0, 6},
    {"Haswell", INTEL(0x9c000400, 0),
     SPEC_SWITCH | SPEC_L1D_FLUSH | SPEC_VERW | SPEC_EXIT_RSB | SPEC_LOAD_IBPB | SPEC_SMALL_CODE,
     IBRS | STIBP, STIBP, 0},
    {"Skylake", INTEL(0x9c000400, 0, TSX),
     SPEC_SWITCH | SPEC_L1D_FLUSH | SPEC_VERW | SPEC_EXIT_RSB | SPEC_LOAD_IBPB | SPEC_SMALL_CODE,
     IBRS | STIBP, STIBP, 0},
    // TAA remains; nothing to do about BHI
    {"Cascade Lake", INTEL(0xbc000400, 0x2b, TSX),
     SPEC_VERW | SPEC_EXIT_RSB | SPEC_LOAD_IBPB | SPEC_SMALL_CODE, IBRS, IBRS, 1},
    // stale data in fill buffers
    {"Ice Lake", INTEL(0xbc000400, 0x2016b), SPEC_VERW | SPEC_EXIT_RSB | SPEC_LOAD_IBPB, IBRS, IBRS,
     1},
    {"Sapphire Rapids", INTEL(0xbc000400, 0x100e16b, [EDX72] = 0x1f), SPEC_LOAD_IBPB, IBRS | BHI,
     IBRS | BHI, 0},
    {"Gracemont", INTEL(0xbc000400, 0x1100e16b), SPEC_VERW | SPEC_LOAD_IBPB, IBRS, IBRS, 1}, // RFDS
    {"Zen 1", AMD(0x1007, 0), SPEC_EXIT_IBPB | SPEC_EXIT_RSB, 0, 0, 1}, // no STIBP
    {"Zen 2", AMD(0x118b657, 0), SPEC_EXIT_IBPB | SPEC_EXIT_RSB, STIBP, STIBP, 0},
    {"Zen 3", AMD(0x111ef657, 0x10000000), SPEC_EXIT_IBPB | SPEC_EXIT_RSB, STIBP, STIBP, 0},
    {"Zen 3, microcode of 2025", AMD(0x111ef657, 0x10000020),
     SPEC_VERW | SPEC_EXIT_IBPB | SPEC_EXIT_RSB, STIBP, STIBP, 0},
    {"Zen 4", AMD(0x791ef257, 0x10000100), SPEC_AUTO_IBRS | SPEC_EXIT_IBPB, STIBP, STIBP, 0},
    {"one that is spared SRSO", AMD(0x791ef257, 0x20000120, [ECX821] = 6),
     SPEC_AUTO_IBRS | SPEC_LOAD_IBPB, STIBP, STIBP, 0},
    {"QEMU TCG, Bochs ryzen", AMD(0, 0), SPEC_EXIT_RSB, 0, 0, 2},
    {"another vendor's", {VENDOR_OTHER, {~0u, ~0u}}, 0, 0, 0, 0},
};

static void test_models(void **state unused) {
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        const struct model *m = &models[i];
        struct spec s = spec_choose(&m->cpu, false);
        if (s.flags != (m->flags | SPEC_AROUND) || s.host_ctrl != m->host_ctrl ||
            s.guest_ctrl != m->guest_ctrl || (unsigned)__builtin_popcount(s.missing) != m->missing)
            fail_msg("%s: flags 0x%x, IA32_SPEC_CTRL 0x%x and 0x%x, %u missing", m->name, s.flags,
                     s.host_ctrl, s.guest_ctrl, (unsigned)__builtin_popcount(s.missing));
        assert_false(s.on & s.missing);
    }
}

// Off is off, and says what it leaves out.
static void test_off(void **state unused) {
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        struct spec automatic = spec_choose(&models[i].cpu, false);
        struct spec off = spec_choose(&models[i].cpu, true);
        assert_true(!off.flags && !off.host_ctrl && !off.guest_ctrl && !off.on);
        assert_int_equal(off.missing, automatic.on | automatic.missing);
    }
}

static void test_report(void **state unused) {
    cpu_features = (struct cpu_features){.vendor = VENDOR_AMD}; // without leaves: nothing is there
    spec_init();
    assert_int_equal(line_count, 2);
    assert_string_equal(lines[0], "basalt: speculation: in force: rsb (returns)");
    assert_string_equal(lines[1],
                        "basalt: speculation: missing: exit-ibpb (Spectre v2, Retbleed, SRSO) "
                        "stibp (sibling threads)");
    options.spec_off = true;
    spec_init();
    assert_string_equal(lines[0], "basalt: speculation: in force: none");
    assert_non_null(strstr(lines[1], "switched off: exit-ibpb"));
    cpu_features.vendor = VENDOR_OTHER;
    spec_init();
    assert_string_equal(lines[1], "basalt: speculation: switched off: none");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
