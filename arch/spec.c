// SPDX-License-Identifier: Apache-2.0
//
// Which speculation controls a processor needs. The kernel is built without retpolines: they cost
// every processor, do nothing for returns, and where IBRS, automatic IBRS or a barrier at each exit
// is in force a guest can't steer the kernel's indirect branches anyway; where none of them is
// there, the report says so.

#include "arch/spec.h"

#include "kernel/cmdline.h"
#include "kernel/log.h"

#define CTRL_IBRS       0x001u // IA32_SPEC_CTRL
#define CTRL_STIBP      0x002u
#define CTRL_BHI_DIS_S  0x400u
#define HOST_ONLY       0x1000u // row.flags: the kernel's IA32_SPEC_CTRL, not the guests'

#define CAPS_RDCL_NO    BIT(0)
#define CAPS_SKIP_L1DFL BIT(3) // not affected by L1TF, or a hypervisor below flushes

struct spec spec;
_Static_assert(offsetof(struct spec, guest_ctrl) == 8, "as spec_entry and spec_exit have it");
extern const u16 spec_data_selector;
const u16 spec_data_selector = KERNEL_DS; // VERW wants the selector of a writable segment

// A condition: bits of one of the facts; all zeros is none.
struct condition {
    enum spec_fact fact;
    u32 bits;
};
#define INTEL VENDOR_INTEL
#define AMD   VENDOR_AMD
#define NONE \
    { 0, 0 }
#define F(fact, bit) \
    { fact, BIT(bit) }

// A processor of the vendor needs a row if it is affected (any of the bits) and not spared (all of
// them), and can do it if it has the control. docs/security.md has the reasons at length.
static const struct row {
    const char *name, *against;
    enum cpu_vendor vendor;
    struct condition affected, spared, control;
    u32 flags, ctrl;
} rows[] = {
    // clang-format off
    {"l1d-flush", "L1TF", INTEL, NONE, F(CAPS, 3), F(EDX7, 28), SPEC_L1D_FLUSH, 0}, // SKIP_L1DFL_VMENTRY
    {"verw", "MDS", INTEL, NONE, F(CAPS, 5), F(EDX7, 10), SPEC_VERW, 0}, // MDS_NO; MD_CLEAR
    {"verw", "TAA", INTEL, F(EBX7, 11), F(CAPS, 8), F(EDX7, 10), SPEC_VERW, 0}, // RTM; TAA_NO
    {"verw", "stale data", INTEL, F(CAPS, 17), {CAPS, 7u << 13}, F(EDX7, 10), SPEC_VERW, 0}, // FB_CLEAR; SBDR_SSDP_NO, FBSDP_NO, PSDP_NO
    {"verw", "RFDS", INTEL, F(CAPS, 28), F(CAPS, 27), F(EDX7, 10), SPEC_VERW, 0}, // RFDS_CLEAR; RFDS_NO
    {"small-code", "iTLB multihit", INTEL, NONE, F(CAPS, 6), NONE, SPEC_SMALL_CODE, 0}, // PSCHANGE_MC_NO
    {"eibrs", "Spectre v2", INTEL, F(CAPS, 1), NONE, F(EDX7, 26), 0, CTRL_IBRS}, // IBRS_ALL; IBRS and IBPB
    {"ibrs", "Spectre v2", INTEL, NONE, F(CAPS, 1), F(EDX7, 26), HOST_ONLY, CTRL_IBRS},
    {"bhi-dis-s", "BHI", INTEL, F(CAPS, 1), F(CAPS, 20), F(EDX72, 4), 0, CTRL_BHI_DIS_S}, // BHI_NO; BHI_CTRL
    {"rsb", "returns", INTEL, NONE, F(CAPS, 1), NONE, SPEC_EXIT_RSB, 0},
    {"rsb", "PBRSB", INTEL, F(CAPS, 1), F(CAPS, 24), NONE, SPEC_EXIT_RSB, 0}, // PBRSB_NO
    {"ibpb", "other domains", INTEL, NONE, NONE, F(EDX7, 26), SPEC_LOAD_IBPB, 0},
    {"stibp", "sibling threads", INTEL, NONE, F(CAPS, 1), F(EDX7, 27), 0, CTRL_STIBP},
    {"verw", "TSA", AMD, F(EAX821, 5), {ECX821, 6}, NONE, SPEC_VERW, 0}, // VERW_CLEAR; TSA_SQ_NO, TSA_L1_NO
    {"auto-ibrs", "Spectre v2", AMD, F(EAX821, 8), NONE, NONE, SPEC_AUTO_IBRS, 0},
    {"exit-ibpb", "Spectre v2, Retbleed, SRSO", AMD, NONE, F(EAX821, 29), F(EBX88, 12), SPEC_EXIT_IBPB, 0}, // SRSO_NO; IBPB
    {"rsb", "returns", AMD, NONE, F(EAX821, 8), NONE, SPEC_EXIT_RSB, 0}, // automatic IBRS clears it
    {"ibpb", "other domains", AMD, F(EAX821, 29), NONE, F(EBX88, 12), SPEC_LOAD_IBPB, 0}, // else at each exit
    {"stibp", "sibling threads", AMD, NONE, NONE, F(EBX88, 15), 0, CTRL_STIBP},
    // clang-format on
};

static bool any(const struct spec_cpu *cpu, struct condition c) {
    return !c.bits || cpu->fact[c.fact] & c.bits;
}

static bool all(const struct spec_cpu *cpu, struct condition c) {
    return c.bits && !(~cpu->fact[c.fact] & c.bits);
}

struct spec spec_choose(const struct spec_cpu *cpu, bool off) {
    struct spec s = {.flags = off ? 0 : SPEC_AROUND};

    for (const struct row *row = rows; row < rows + ARRAY_SIZE(rows); row++) {
        if (row->vendor != cpu->vendor || !any(cpu, row->affected) || all(cpu, row->spared))
            continue;
        if (off || !any(cpu, row->control)) {
            s.missing |= 1u << (row - rows);
            continue;
        }
        s.on |= 1u << (row - rows);
        s.flags |= row->flags & ~HOST_ONLY;
        s.host_ctrl |= row->ctrl;
        s.guest_ctrl |= row->flags & HOST_ONLY ? 0 : row->ctrl;
    }
    s.flags |= s.host_ctrl != s.guest_ctrl ? SPEC_SWITCH : 0;
    return s;
}

static struct cpuid leaf(u32 number, u32 subleaf) {
    u32 most = number >> 31 ? cpu_features.max_extended_leaf : cpu_features.max_leaf;

    return number <= most ? cpuid_count(number, subleaf) : (struct cpuid){0};
}

static void read_facts(struct spec_cpu *cpu) {
    struct cpuid seven = leaf(7, 0), leaf21 = leaf(0x80000021, 0);
    u64 caps;

    if (rdmsr_safe(MSR_ARCH_CAPABILITIES, &caps) && caps & CAPS_RDCL_NO)
        caps |= CAPS_SKIP_L1DFL;
    *cpu = (struct spec_cpu){cpu_features.vendor,
                             {seven.ebx, seven.edx, leaf(7, 2).edx, leaf(0x80000008, 0).ebx,
                              leaf21.eax, leaf21.ecx, (u32)caps}};
}

static void report(const char *what, u32 chosen) {
    char text[400] = "";

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        size_t used = strlen(text);
        if (chosen & 1u << i)
            format(text + used, sizeof(text) - used, " %s (%s)", rows[i].name, rows[i].against);
    }
    log_info("basalt: speculation: %s:%s", what, chosen ? text : " none");
}

void spec_init(void) {
    struct spec_cpu cpu;

    read_facts(&cpu);
    spec = spec_choose(&cpu, options.spec_off);
    if (spec.host_ctrl)
        wrmsr(MSR_SPEC_CTRL, spec.host_ctrl);
    if (spec.flags & SPEC_AUTO_IBRS)
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_AIBRSE);
    report("in force", spec.on);
    report(options.spec_off ? "switched off" : "missing", spec.missing);
}
