// SPDX-License-Identifier: Apache-2.0
//
// The MSR policy (see msr.h): one table, sorted by number. A row's functions get the row, so that those for constants
// need no code of their own.

#include "guest/msr.h"

#include "arch/x86.h"

enum vendor { ANY, INTEL, AMD };

struct row {
    u32 first, last;
    enum vendor vendor;
    enum msr_result (*read)(const struct row *row, struct msr_state *s, const struct msr_context *ctx, u32 index,
                            u64 *value); // NULL: #GP, and nobody wonders
    enum msr_result (*write)(const struct row *row, struct msr_state *s, const struct msr_context *ctx, u32 index,
                             u64 value, struct msr_effect *effect); // NULL: the same
    u64 constant; // what read_constant shows; the bits that write_checked allows
};

#define READ(name)                                                                                            \
    static enum msr_result read_##name(const struct row *row unused, struct msr_state *s unused,              \
                                       const struct msr_context *ctx unused, u32 index unused, u64 *value unused)
#define WRITE(name)                                                                                           \
    static enum msr_result write_##name(const struct row *row unused, struct msr_state *s unused,             \
                                        const struct msr_context *ctx unused, u32 index unused,               \
                                        u64 value unused, struct msr_effect *effect unused)

READ(constant)
{
    *value = row->constant;
    return MSR_DONE;
}

WRITE(ignored)
{
    return MSR_DONE;
}

WRITE(zero)
{
    return value ? MSR_FAULT : MSR_DONE;
}

READ(backend)
{
    return MSR_BACKEND;
}

WRITE(backend)
{
    return MSR_BACKEND;
}

WRITE(canonical)
{
    return canonical(value) ? MSR_BACKEND : MSR_FAULT;
}

/// For the backend, if only bits of the row's constant are set.
WRITE(checked)
{
    return value & ~row->constant ? MSR_FAULT : MSR_BACKEND;
}

READ(tsc)
{
    *value = ctx->now;
    return MSR_DONE;
}

static void move_tsc(struct msr_state *s, const struct msr_context *ctx, u64 delta, struct msr_effect *effect)
{
    s->tsc_adjust += delta;
    vlapic_tsc_moved(ctx->vlapic, delta);
    effect->tsc = true;
    effect->tsc_delta = delta;
    effect->apic.timer = true;
}

WRITE(tsc)
{
    move_tsc(s, ctx, value - ctx->now, effect);
    return MSR_DONE;
}

READ(tsc_adjust)
{
    *value = s->tsc_adjust;
    return MSR_DONE;
}

WRITE(tsc_adjust)
{
    move_tsc(s, ctx, value - s->tsc_adjust, effect);
    return MSR_DONE;
}

READ(tsc_deadline)
{
    u64 deadline = vlapic_get_tsc_deadline(ctx->vlapic);

    *value = deadline > ctx->now ? deadline : 0; // passed while the timer was masked
    return MSR_DONE;
}

WRITE(tsc_deadline)
{
    effect->apic = vlapic_set_tsc_deadline(ctx->vlapic, value);
    return MSR_DONE;
}

READ(tsc_aux)
{
    return ctx->policy->rdtscp ? MSR_BACKEND : MSR_FAULT;
}

WRITE(tsc_aux)
{
    return ctx->policy->rdtscp && !(value >> 32) ? MSR_BACKEND : MSR_FAULT;
}

READ(apic_base)
{
    *value = ctx->vlapic->apic_base;
    return MSR_DONE;
}

WRITE(apic_base)
{
    effect->apic = vlapic_base_write(ctx->vlapic, value, ctx->policy->phys_bits);
    return effect->apic.fault ? MSR_FAULT : MSR_DONE;
}

READ(x2apic)
{
    return vlapic_msr_read(ctx->vlapic, index, ctx->now, value) ? MSR_DONE : MSR_FAULT;
}

WRITE(x2apic)
{
    effect->apic = vlapic_msr_write(ctx->vlapic, index, value, ctx->now);
    return effect->apic.fault ? MSR_FAULT : MSR_DONE;
}

READ(mtrr)
{
    if (!mtrr_owns(index))
        return MSR_UNKNOWN;
    *value = mtrr_read(&s->mtrr, index);
    return MSR_DONE;
}

WRITE(mtrr)
{
    if (!mtrr_owns(index))
        return MSR_UNKNOWN;
    return mtrr_write(&s->mtrr, index, value, ctx->policy->phys_bits) ? MSR_DONE : MSR_FAULT;
}

WRITE(pat)
{
    return pat_legal(value) ? MSR_BACKEND : MSR_FAULT;
}

READ(misc_enable)
{
    *value = s->misc_enable;
    return MSR_DONE;
}

#define MISC_ENABLE_FAST_STRINGS BIT(0)
#define MISC_ENABLE_NO_BTS BIT(11)
#define MISC_ENABLE_NO_PEBS BIT(12)

WRITE(misc_enable)
{
    s->misc_enable = (s->misc_enable & ~MISC_ENABLE_FAST_STRINGS) | (value & MISC_ENABLE_FAST_STRINGS);
    return MSR_DONE;
}

READ(efer)
{
    *value = ctx->efer;
    return MSR_DONE;
}

WRITE(efer)
{
    if (!ctx->cr)
        return MSR_FAULT;
    effect->cr = efer_write(ctx->cr, value, ctx->policy);
    effect->efer = true;
    return effect->cr.fault ? MSR_FAULT : MSR_DONE;
}

READ(microcode)
{
    *value = s->microcode;
    return MSR_DONE;
}

READ(arch_capabilities)
{
    *value = ctx->policy->arch_capabilities;
    return *value ? MSR_DONE : MSR_FAULT;
}

READ(spec_ctrl)
{
    return ctx->policy->spec_ctrl ? MSR_BACKEND : MSR_FAULT;
}

WRITE(spec_ctrl)
{
    return ctx->policy->spec_ctrl && !(value & ~ctx->policy->spec_ctrl) ? MSR_BACKEND : MSR_FAULT;
}

/// Commands with one bit: IBPB and L1D flush.
WRITE(command)
{
    bool exists = index == MSR_PRED_CMD ? ctx->policy->ibpb : ctx->policy->l1d_flush;

    if (!exists || value > 1)
        return MSR_FAULT;
    effect->host = value;
    return MSR_DONE;
}

READ(wall_clock)
{
    *value = s->wall_clock;
    return MSR_DONE;
}

WRITE(wall_clock)
{
    s->wall_clock = value;
    effect->wall_clock = true;
    return MSR_DONE;
}

READ(system_time)
{
    *value = s->system_time;
    return MSR_DONE;
}

WRITE(system_time)
{
    s->system_time = value;
    effect->system_time = true;
    return MSR_DONE;
}

#define FEATURE_CONTROL_NOTHING FEATURE_CONTROL_LOCKED
#define HWCR_TSC_AT_P0 BIT(24)     // Linux complains without it
#define DE_CFG_LFENCE_SERIAL BIT(1) // the kernel sets it on AMD hosts that need it
#define DEBUGCTL_LBR_BTF 3u

static const struct row rows[] = {
    // Time
    {0x10, 0x10, ANY, read_tsc, write_tsc, 0},
    {0x11, 0x11, ANY, read_wall_clock, write_wall_clock, 0},   // KVM clock, old numbers
    {0x12, 0x12, ANY, read_system_time, write_system_time, 0},
    // Platform: nothing to see, but read without a safety net by some
    {0x17, 0x17, INTEL, read_constant, NULL, 0},            // PLATFORM_ID
    {0x1b, 0x1b, ANY, read_apic_base, write_apic_base, 0},
    {0x2a, 0x2a, INTEL, read_constant, write_ignored, 0},   // EBL_CR_POWERON
    {0x33, 0x33, INTEL, NULL, NULL, 0},                     // TEST_CTRL: no split-lock detection
    {0x34, 0x34, INTEL, read_constant, NULL, 0},            // SMI_COUNT
    {0x3a, 0x3a, INTEL, read_constant, NULL, FEATURE_CONTROL_NOTHING},
    {0x3b, 0x3b, ANY, read_tsc_adjust, write_tsc_adjust, 0},
    {0x48, 0x48, ANY, read_spec_ctrl, write_spec_ctrl, 0},
    {0x49, 0x49, ANY, NULL, write_command, 0},              // PRED_CMD
    {0x4e, 0x4f, INTEL, NULL, NULL, 0},                     // PPIN: whose machine it is
    {0x79, 0x79, INTEL, NULL, write_ignored, 0},            // microcode updates are the kernel's
    {0x8b, 0x8b, ANY, read_microcode, write_ignored, 0},    // BIOS_SIGN_ID, written before it is read
    {0xc1, 0xc8, INTEL, NULL, NULL, 0},                     // performance counters: CPUID has none
    {0xce, 0xce, INTEL, read_constant, NULL, 0},            // PLATFORM_INFO: no ratio, no CPUID faulting
    {0xcf, 0xcf, INTEL, NULL, NULL, 0},                     // CORE_CAPABILITIES
    {0xe2, 0xe2, INTEL, NULL, NULL, 0},                     // C-states
    {0xfe, 0xfe, ANY, read_mtrr, NULL, 0},
    {0x10a, 0x10a, ANY, read_arch_capabilities, NULL, 0},
    {0x10b, 0x10b, ANY, NULL, write_command, 0},            // FLUSH_CMD
    {0x122, 0x123, INTEL, NULL, NULL, 0},                   // TSX_CTRL, MCU_OPT_CTRL: no TSX, no mitigations to turn off
    {0x140, 0x140, INTEL, NULL, NULL, 0},                   // MISC_FEATURES_ENABLES
    {0x174, 0x174, ANY, read_backend, write_checked, 0xffffffff}, // SYSENTER_CS
    {0x175, 0x176, ANY, read_backend, write_canonical, 0},  // SYSENTER_ESP, _EIP
    {0x179, 0x179, ANY, read_constant, NULL, 0},            // MCG_CAP: no banks
    {0x17a, 0x17a, ANY, read_constant, write_zero, 0},      // MCG_STATUS
    {0x17b, 0x17b, ANY, NULL, NULL, 0},                     // MCG_CTL
    {0x186, 0x18d, INTEL, NULL, NULL, 0},                   // performance events
    {0x198, 0x198, INTEL, read_constant, NULL, 0},          // PERF_STATUS
    {0x199, 0x199, INTEL, read_constant, write_ignored, 0}, // PERF_CTL
    {0x1a0, 0x1a0, INTEL, read_misc_enable, write_misc_enable, 0},
    {0x1b0, 0x1b0, INTEL, NULL, NULL, 0},                   // ENERGY_PERF_BIAS
    {0x1d9, 0x1d9, ANY, read_backend, write_checked, DEBUGCTL_LBR_BTF},
    {0x200, 0x26f, ANY, read_mtrr, write_mtrr, 0},          // variable and fixed ranges
    {0x277, 0x277, ANY, read_backend, write_pat, 0},
    {0x2ff, 0x2ff, ANY, read_mtrr, write_mtrr, 0},
    {0x345, 0x345, INTEL, NULL, NULL, 0},                   // PERF_CAPABILITIES
    {0x38d, 0x390, INTEL, NULL, NULL, 0},                   // fixed counters
    {0x400, 0x47f, ANY, NULL, NULL, 0},                     // machine-check banks: MCG_CAP has none
    {0x480, 0x491, INTEL, NULL, NULL, 0},                   // VMX capabilities: CPUID has no VMX
    {0x600, 0x65f, INTEL, NULL, NULL, 0},                   // DS area, running average power
    {0x6e0, 0x6e0, ANY, read_tsc_deadline, write_tsc_deadline, 0},
    {0x800, 0x8ff, ANY, read_x2apic, write_x2apic, 0},
    {0xda0, 0xda0, ANY, NULL, NULL, 0},                     // XSS: no XSAVES
    // KVM
    {0x4b564d00, 0x4b564d00, ANY, read_wall_clock, write_wall_clock, 0},
    {0x4b564d01, 0x4b564d01, ANY, read_system_time, write_system_time, 0},
    {0x4b564d02, 0x4b564d08, ANY, NULL, NULL, 0},           // async page faults, steal time, ...: not offered
    // System calls and segments
    {0xc0000080, 0xc0000080, ANY, read_efer, write_efer, 0},
    {0xc0000081, 0xc0000081, ANY, read_backend, write_backend, 0},            // STAR
    {0xc0000082, 0xc0000083, ANY, read_backend, write_canonical, 0},          // LSTAR, CSTAR
    {0xc0000084, 0xc0000084, ANY, read_backend, write_checked, 0xffffffff},   // FMASK
    {0xc0000100, 0xc0000102, ANY, read_backend, write_canonical, 0},          // FS, GS, kernel GS base
    {0xc0000103, 0xc0000103, ANY, read_tsc_aux, write_tsc_aux, 0},
    {0xc0000104, 0xc0000104, AMD, NULL, NULL, 0},                             // TSC_RATIO: CPUID has no SVM
    // AMD
    {0xc0010000, 0xc0010007, AMD, NULL, NULL, 0},                     // performance counters
    {0xc0010010, 0xc0010010, AMD, read_constant, write_ignored, 0},   // SYSCFG
    {0xc0010015, 0xc0010015, AMD, read_constant, write_ignored, HWCR_TSC_AT_P0},
    {0xc001001a, 0xc001001a, AMD, read_constant, write_ignored, 0},   // TOP_MEM
    {0xc001001d, 0xc001001d, AMD, read_constant, write_ignored, 0},   // TOP_MEM2
    {0xc001001f, 0xc001001f, AMD, read_constant, write_ignored, 0},   // NB_CFG
    {0xc0010055, 0xc0010055, AMD, read_constant, write_ignored, 0},   // INT_PENDING: no C1E
    {0xc0010058, 0xc0010058, AMD, read_constant, write_ignored, 0},   // MMIO_CONF_BASE: ECAM is in ACPI
    {0xc0010061, 0xc001006b, AMD, read_constant, write_ignored, 0},   // P-states
    {0xc0010114, 0xc0010114, AMD, read_constant, NULL, VM_CR_SVMDIS | VM_CR_LOCK},
    {0xc0010117, 0xc0010117, AMD, NULL, NULL, 0},                     // VM_HSAVE_PA
    {0xc001011f, 0xc001011f, AMD, NULL, NULL, 0},                     // VIRT_SPEC_CTRL
    {0xc0010140, 0xc0010141, AMD, NULL, NULL, 0},                     // OSVW: hidden
    {0xc0010200, 0xc001020b, AMD, NULL, NULL, 0},                     // more performance counters
    {0xc0011020, 0xc0011023, AMD, read_constant, write_ignored, 0},   // LS_CFG, IC_CFG, DC_CFG, TW_CFG: errata
    {0xc0011028, 0xc0011028, AMD, read_constant, write_ignored, 0},   // FP_CFG
    {0xc0011029, 0xc0011029, AMD, read_constant, write_ignored, DE_CFG_LFENCE_SERIAL},
    {0xc001102a, 0xc001102c, AMD, read_constant, write_ignored, 0},   // BU_CFG2, CU_CFG2, EX_CFG
    {0xc0011030, 0xc001103f, AMD, NULL, NULL, 0},                     // IBS
};

static const struct row *find(const struct cpuid_policy *policy, u32 index)
{
    unsigned low = 0, high = ARRAY_SIZE(rows);

    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (index < rows[middle].first)
            high = middle;
        else if (index > rows[middle].last)
            low = middle + 1;
        else if (rows[middle].vendor == (policy->amd ? INTEL : AMD))
            return NULL;
        else
            return &rows[middle];
    }
    return NULL;
}

void msr_init(struct msr_state *s)
{
    *s = (struct msr_state){.misc_enable = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS};
    mtrr_init(&s->mtrr);
}

enum msr_result msr_read(struct msr_state *s, const struct msr_context *ctx, u32 index, u64 *value)
{
    const struct row *row = find(ctx->policy, index);

    *value = 0;
    if (!row)
        return MSR_UNKNOWN;
    return row->read ? row->read(row, s, ctx, index, value) : MSR_FAULT;
}

enum msr_result msr_write(struct msr_state *s, const struct msr_context *ctx, u32 index, u64 value,
                          struct msr_effect *effect)
{
    const struct row *row = find(ctx->policy, index);

    *effect = (struct msr_effect){0};
    if (!row)
        return MSR_UNKNOWN;
    enum msr_result result = row->write ? row->write(row, s, ctx, index, value, effect) : MSR_FAULT;
    if (result == MSR_FAULT)
        *effect = (struct msr_effect){0};
    return result;
}
