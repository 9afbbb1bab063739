// SPDX-License-Identifier: Apache-2.0
//
// The MSR policy (see msr.h): one table, sorted by number, of the rule that each MSR follows. msr_read and msr_write
// carry out the rules.

#include "guest/msr.h"

enum rule {
    FAULT,     // #GP, and nobody wonders
    CONSTANT,  // reads as the row's value, writes are ignored
    READ_ONLY, // reads as the row's value, writes fault
    HELD,      // in the backend; the row's value has the bits that may be set
    HELD_BASE, // in the backend; a canonical address
    TSC,
    TSC_ADJUST,
    TSC_DEADLINE,
    TSC_AUX,
    APIC_BASE,
    X2APIC,
    EFER,
    PAT,
    MTRR,
    MISC_ENABLE,
    MICROCODE,
    CAPABILITIES,
    PRED_CMD,
    FLUSH_CMD,
    WALL_CLOCK,
    SYSTEM_TIME,
};
enum vendor { ANY, INTEL, AMD };

#define MISC_ENABLE_FAST_STRINGS BIT(0)
#define MISC_ENABLE_NO_BTS       BIT(11)
#define MISC_ENABLE_NO_PEBS      BIT(12)
#define DEBUGCTL_LBR_BTF         3u
#define HWCR_TSC_AT_P0           BIT(24) // Linux complains without it
#define DE_CFG_LFENCE_SERIAL     BIT(1)  // the kernel sets it on AMD hosts that need it
#define LOW                      0xffffffffu

static const struct row {
    u32 first, last;
    enum vendor vendor;
    enum rule rule;
    u64 value;
} rows[] = {
    {0x10, 0x10, ANY, TSC, 0},
    {0x11, 0x11, ANY, WALL_CLOCK, 0}, // KVM clock, old numbers
    {0x12, 0x12, ANY, SYSTEM_TIME, 0},
    {0x17, 0x17, INTEL, READ_ONLY, 0}, // PLATFORM_ID
    {0x1b, 0x1b, ANY, APIC_BASE, 0},
    {0x33, 0x33, INTEL, FAULT, 0},                          // TEST_CTRL: no split-lock detection
    {0x34, 0x34, INTEL, READ_ONLY, 0},                      // SMI_COUNT
    {0x3a, 0x3a, INTEL, READ_ONLY, FEATURE_CONTROL_LOCKED}, // no VMX, no SGX
    {0x3b, 0x3b, ANY, TSC_ADJUST, 0},
    {0x49, 0x49, ANY, PRED_CMD, 0},
    {0x79, 0x79, INTEL, CONSTANT, 0},  // microcode updates are the kernel's
    {0x8b, 0x8b, ANY, MICROCODE, 0},   // BIOS_SIGN_ID, written before it is read
    {0xce, 0xce, INTEL, READ_ONLY, 0}, // PLATFORM_INFO: no ratio, no CPUID faulting
    {0xfe, 0xfe, ANY, MTRR, 0},
    {0x10a, 0x10a, ANY, CAPABILITIES, 0},
    {0x10b, 0x10b, ANY, FLUSH_CMD, 0},
    {0x140, 0x140, INTEL, FAULT, 0}, // MISC_FEATURES_ENABLES
    {0x174, 0x174, ANY, HELD, LOW},  // SYSENTER_CS, _ESP, _EIP
    {0x175, 0x176, ANY, HELD_BASE, 0},
    {0x179, 0x179, ANY, READ_ONLY, 0}, // MCG_CAP: no banks
    {0x17a, 0x17a, ANY, CONSTANT, 0},  // MCG_STATUS
    {0x1a0, 0x1a0, INTEL, MISC_ENABLE, 0},
    {0x1d9, 0x1d9, ANY, HELD, DEBUGCTL_LBR_BTF},
    {0x200, 0x26f, ANY, MTRR, 0}, // variable and fixed ranges, with gaps
    {0x277, 0x277, ANY, PAT, 0},
    {0x2ff, 0x2ff, ANY, MTRR, 0},
    {0x600, 0x65f, INTEL, FAULT, 0}, // running average power
    {0x6e0, 0x6e0, ANY, TSC_DEADLINE, 0},
    {0x800, 0x8ff, ANY, X2APIC, 0},
    {0x4b564d00, 0x4b564d00, ANY, WALL_CLOCK, 0}, // KVM clock
    {0x4b564d01, 0x4b564d01, ANY, SYSTEM_TIME, 0},
    {0xc0000080, 0xc0000080, ANY, EFER, 0},
    {0xc0000081, 0xc0000081, ANY, HELD, ~0ull},  // STAR
    {0xc0000082, 0xc0000083, ANY, HELD_BASE, 0}, // LSTAR, CSTAR
    {0xc0000084, 0xc0000084, ANY, HELD, LOW},    // FMASK
    {0xc0000100, 0xc0000102, ANY, HELD_BASE, 0}, // FS, GS, kernel GS base
    {0xc0000103, 0xc0000103, ANY, TSC_AUX, 0},
    {0xc0010000, 0xc0010007, AMD, FAULT, 0},    // performance counters
    {0xc0010010, 0xc0010010, AMD, CONSTANT, 0}, // SYSCFG
    {0xc0010015, 0xc0010015, AMD, CONSTANT, HWCR_TSC_AT_P0},
    {0xc001001a, 0xc001001f, AMD, CONSTANT, 0}, // TOP_MEM, TOP_MEM2, NB_CFG
    {0xc0010055, 0xc0010058, AMD, CONSTANT, 0}, // INT_PENDING, MMIO_CONF_BASE
    {0xc0010114, 0xc0010114, AMD, READ_ONLY, VM_CR_SVMDIS | VM_CR_LOCK},
    {0xc0011020, 0xc0011028, AMD, CONSTANT, 0}, // LS_CFG, IC_CFG, DC_CFG, ..., for errata
    {0xc0011029, 0xc0011029, AMD, CONSTANT, DE_CFG_LFENCE_SERIAL},
    {0xc001102a, 0xc001102c, AMD, CONSTANT, 0}, // BU_CFG2, EX_CFG
};

// MSRs of the other vendor fault without a word: stock kernels probe some on both.
static const struct row foreign = {.rule = FAULT};

// The last row that begins at or before the MSR, found by halving what is left of the table.
static const struct row *find(const struct cpuid_policy *policy, u32 index) {
    const struct row *row = rows;

    for (unsigned left = ARRAY_SIZE(rows), half = left / 2; half; left -= half, half = left / 2)
        row = row[half].first <= index ? row + half : row;
    if (index < row->first || index > row->last)
        return NULL;
    return row->vendor == (policy->amd ? INTEL : AMD) ? &foreign : row;
}

void msr_init(struct msr_state *s) {
    *s = (struct msr_state){.misc_enable = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS |
                                           MISC_ENABLE_NO_PEBS};
    mtrr_init(&s->mtrr);
}

static enum msr_result done_if(bool legal) { return legal ? MSR_DONE : MSR_FAULT; }
static enum msr_result held_if(bool legal) { return legal ? MSR_BACKEND : MSR_FAULT; }

enum msr_result msr_read(struct msr_state *s, const struct msr_context *ctx, u32 index,
                         u64 *value) {
    const struct row *row = find(ctx->policy, index);
    const struct cpuid_policy *policy = ctx->policy;

    *value = 0;
    if (!row || (row->rule == MTRR && !mtrr_owns(index)))
        return MSR_UNKNOWN;
    switch (row->rule) {
    case FAULT:
    case PRED_CMD:
    case FLUSH_CMD: return MSR_FAULT;
    case CONSTANT:
    case READ_ONLY: *value = row->value; break;
    case HELD:
    case HELD_BASE:
    case PAT: return MSR_BACKEND;
    case TSC_AUX: return held_if(policy->rdtscp);
    case TSC: *value = ctx->now; break;
    case TSC_ADJUST: *value = s->tsc_adjust; break;
    case TSC_DEADLINE: *value = vlapic_get_tsc_deadline(ctx->vlapic, ctx->now); break;
    case APIC_BASE: *value = ctx->vlapic->apic_base; break;
    case X2APIC: return done_if(vlapic_msr_read(ctx->vlapic, index, ctx->now, value));
    case EFER: *value = ctx->efer; break;
    case MTRR: *value = mtrr_read(&s->mtrr, index); break;
    case MISC_ENABLE: *value = s->misc_enable; break;
    case MICROCODE: *value = s->microcode; break;
    case CAPABILITIES: *value = policy->arch_capabilities; return done_if(*value);
    case WALL_CLOCK: *value = s->wall_clock; break;
    case SYSTEM_TIME: *value = s->system_time; break;
    }
    return MSR_DONE;
}

static enum msr_result move_tsc(struct msr_state *s, const struct msr_context *ctx, u64 delta,
                                struct msr_effect *effect) {
    s->tsc_adjust += delta;
    vlapic_tsc_moved(ctx->vlapic, delta);
    *effect = (struct msr_effect){.tsc = true, .tsc_delta = delta, .apic.timer = true};
    return MSR_DONE;
}

// A command of one bit, carried out by the host's own MSR.
static enum msr_result command(bool exists, u64 value, struct msr_effect *effect) {
    effect->host = exists && value == 1;
    return done_if(exists && value <= 1);
}

static enum msr_result write_efer(const struct msr_context *ctx, u64 value,
                                  struct msr_effect *effect) {
    effect->cr = efer_write(ctx->cr, value, ctx->policy);
    effect->efer = !effect->cr.fault;
    return done_if(effect->efer);
}

enum msr_result msr_write(struct msr_state *s, const struct msr_context *ctx, u32 index, u64 value,
                          struct msr_effect *effect) {
    const struct row *row = find(ctx->policy, index);
    const struct cpuid_policy *policy = ctx->policy;

    *effect = (struct msr_effect){0};
    if (!row || (row->rule == MTRR && !mtrr_owns(index)))
        return MSR_UNKNOWN;
    switch (row->rule) {
    case FAULT:
    case READ_ONLY:
    case CAPABILITIES: return MSR_FAULT;
    case CONSTANT:
    case MICROCODE: break;
    case HELD: return held_if(!(value & ~row->value));
    case HELD_BASE: return held_if(canonical(value));
    case PAT: return held_if(pat_legal(value));
    case TSC_AUX: return held_if(policy->rdtscp && !(value >> 32));
    case TSC: return move_tsc(s, ctx, value - ctx->now, effect);
    case TSC_ADJUST: return move_tsc(s, ctx, value - s->tsc_adjust, effect);
    case TSC_DEADLINE: effect->apic = vlapic_set_tsc_deadline(ctx->vlapic, value); break;
    case APIC_BASE:
        effect->apic = vlapic_base_write(ctx->vlapic, value, policy->phys_bits);
        return done_if(!effect->apic.fault);
    case X2APIC:
        effect->apic = vlapic_msr_write(ctx->vlapic, index, value, ctx->now);
        return done_if(!effect->apic.fault);
    case EFER: return write_efer(ctx, value, effect);
    case MTRR: return done_if(mtrr_write(&s->mtrr, index, value, policy->phys_bits));
    case MISC_ENABLE: // only fast strings can be changed
        s->misc_enable ^= (s->misc_enable ^ value) & MISC_ENABLE_FAST_STRINGS;
        break;
    case PRED_CMD: return command(policy->ibpb, value, effect);
    case FLUSH_CMD: return command(policy->l1d_flush, value, effect);
    case WALL_CLOCK:
        s->wall_clock = value;
        effect->wall_clock = true;
        break;
    case SYSTEM_TIME:
        s->system_time = value;
        effect->system_time = true;
        break;
    }
    return MSR_DONE;
}
