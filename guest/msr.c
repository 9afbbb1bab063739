// SPDX-License-Identifier: Apache-2.0
//
// What guests' RDMSR and WRMSR do. MSRs that do something have a case in msr_read and msr_write; those that only read as a
// constant, fault, or are the backend's are rows of one table: number, vendor, rule and value; what has no rule is #GP.
// Values are found legal here before the backend sees them. MTRRs: the second level decides on memory types, so the guest
// is shown none but the default type, which stays write-back. Follows the SDM, "Model-Specific Registers (MSRs)",
// the APM, "MSR Cross-Reference", and Linux' "KVM-specific MSRs".

#include "guest/pvclock.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/log.h"

#define MSR_TSC_ADJUST           0x3bu
#define MSR_FLUSH_CMD            0x10bu
#define MSR_MISC_ENABLE          0x1a0u
#define MSR_X2APIC_LAST          0x8ffu
#define MSR_WALL_CLOCK           0x4b564d00u
#define MSR_SYSTEM_TIME          0x4b564d01u

#define MISC_ENABLE_FAST_STRINGS BIT(0)
#define MISC_ENABLE_NO_BTS       BIT(11)
#define MISC_ENABLE_NO_PEBS      BIT(12)
#define DEBUGCTL_LBR_BTF         3u
#define MTRR_CAP_WC              BIT(10) // write-combining is supported
#define PAT_TYPES                0xf3u   // by number: UC, WC, WT, WP, WB, UC-
#define NS_PER_SECOND            1000000000ull
#define HWCR_TSC_AT_P0           BIT(24) // Linux complains without it
#define DE_CFG_LFENCE_SERIAL     BIT(1)  // the kernel sets it on AMD hosts that need it
#define LOW                      0xffffffffu

enum rule {
    FAULT,     // #GP, and nobody wonders
    CONSTANT,  // reads as the row's value, writes are ignored
    READ_ONLY, // reads as the row's value, writes fault
    HELD,      // in the backend; the row's value has the bits that may be set
    HELD_BASE, // in the backend; a canonical address
};
enum vendor { ANY, INTEL, AMD };

// MSRs of the other vendor fault without a word: stock kernels probe some on both.
static const struct row {
    u32 first, last;
    enum vendor vendor;
    enum rule rule;
    u64 value;
} rows[] = {
    {MSR_FS_BASE, MSR_KERNEL_GS_BASE, ANY, HELD_BASE, 0},
    {MSR_STAR, MSR_STAR, ANY, HELD, ~0ull},
    {MSR_LSTAR, MSR_CSTAR, ANY, HELD_BASE, 0},
    {MSR_FMASK, MSR_FMASK, ANY, HELD, LOW},
    {MSR_SYSENTER_CS, MSR_SYSENTER_CS, ANY, HELD, LOW},
    {MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, ANY, HELD_BASE, 0},
    {MSR_DEBUGCTL, MSR_DEBUGCTL, ANY, HELD, DEBUGCTL_LBR_BTF},
    {MSR_TSC_AUX, MSR_TSC_AUX, ANY, FAULT, 0}, // no RDTSCP
    {0x17, 0x17, INTEL, READ_ONLY, 0},         // PLATFORM_ID
    {0x33, 0x33, INTEL, FAULT, 0},             // TEST_CTRL: no split-lock detection
    {0x34, 0x34, INTEL, READ_ONLY, 0},         // SMI_COUNT
    {MSR_TSC_ADJUST, MSR_TSC_ADJUST, ANY, CONSTANT,
     0}, // a domain's vCPUs have one TSC, never moved
    {0x3a, 0x3a, INTEL, READ_ONLY, FEATURE_CONTROL_LOCKED}, // no VMX, no SGX
    {0x79, 0x79, INTEL, CONSTANT, 0},                       // microcode updates are the kernel's
    {0x8b, 0x8b, ANY, CONSTANT, 0},    // BIOS_SIGN_ID, written before it is read
    {0xce, 0xce, INTEL, READ_ONLY, 0}, // PLATFORM_INFO: no ratio, no CPUID faulting
    {MSR_MTRR_CAP, MSR_MTRR_CAP, ANY, READ_ONLY, MTRR_CAP_WC},
    {0x140, 0x140, INTEL, FAULT, 0},   // MISC_FEATURES_ENABLES
    {0x179, 0x179, ANY, READ_ONLY, 0}, // MCG_CAP: no banks
    {0x17a, 0x17a, ANY, CONSTANT, 0},  // MCG_STATUS
    {MSR_MISC_ENABLE, MSR_MISC_ENABLE, INTEL, CONSTANT,
     MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS},
    {MSR_MTRR_DEF_TYPE, MSR_MTRR_DEF_TYPE, ANY, CONSTANT, MTRR_DEF_ENABLE | MEMORY_WB},
    {0x600, 0x65f, INTEL, FAULT, 0},            // running average power
    {0xc0010000, 0xc0010007, AMD, FAULT, 0},    // performance counters
    {0xc0010010, 0xc0010010, AMD, CONSTANT, 0}, // SYSCFG
    {0xc0010015, 0xc0010015, AMD, CONSTANT, HWCR_TSC_AT_P0},
    {0xc001001a, 0xc001001f, AMD, CONSTANT, 0}, // TOP_MEM, TOP_MEM2, NB_CFG
    {0xc0010055, 0xc0010058, AMD, CONSTANT, 0}, // INT_PENDING, MMIO_CONF_BASE
    {MSR_VM_CR, MSR_VM_CR, AMD, READ_ONLY, VM_CR_SVMDIS | VM_CR_LOCK},
    {0xc0011029, 0xc0011029, AMD, CONSTANT, DE_CFG_LFENCE_SERIAL},
    {0xc0011020, 0xc001102c, AMD, CONSTANT, 0}, // LS_CFG, IC_CFG, DC_CFG, ..., for errata
};

static bool canonical(u64 address) { return (u64)((i64)(address << 16) >> 16) == address; }

// Each byte is a memory type.
static bool pat_legal(u64 value) {
    for (unsigned i = 0; i < 8; i++, value >>= 8)
        if ((value & 0xff) > 7 || !(PAT_TYPES >> (value & 7) & 1))
            return false;
    return true;
}

// The rule of an MSR without a case of its own; of one that nobody knows the log tells.
static struct row find(const struct vcpu *v, u32 index) {
    static u32 lines;

    for (const struct row *row = rows; row < rows + ARRAY_SIZE(rows); row++)
        if (index >= row->first && index <= row->last)
            return row->vendor == (guest_cpuid.amd ? INTEL : AMD) ? (struct row){.rule = FAULT}
                                                                  : *row;
    if (lines++ < 64)
        log_info("guest: '%s' vCPU %u: unknown MSR 0x%x at 0x%llx gets #GP", v->domain->info.name,
                 v->index, index, (unsigned long long)v->cpu.rip);
    return (struct row){.rule = FAULT};
}

// Out of line, so that reading the others needs no frame for it.
static __attribute__((noinline)) bool read_by_rule(struct vcpu *v, u32 index, u64 *value) {
    struct row row = find(v, index);

    if (row.rule == HELD || row.rule == HELD_BASE)
        return backend->access_msr(&v->cpu, index, false, value);
    *value = row.value;
    return row.rule != FAULT;
}

static bool write_by_rule(struct vcpu *v, u32 index, u64 value) {
    struct row row = find(v, index);
    bool legal = row.rule == HELD ? !(value & ~row.value) : canonical(value);

    if (row.rule == HELD || row.rule == HELD_BASE)
        return legal && backend->access_msr(&v->cpu, index, true, &value);
    return row.rule == CONSTANT;
}

bool msr_read(struct vcpu *v, u32 index, u64 *value) {
    *value = 0;
    switch (index) {
    case MSR_TSC: *value = guest_tsc(v); break;
    case MSR_TSC_DEADLINE: *value = vlapic_get_tsc_deadline(&v->lapic, guest_tsc(v)); break;
    case MSR_APIC_BASE: *value = v->lapic.apic_base; break;
    case MSR_X2APIC_BASE ... MSR_X2APIC_LAST:
        return vlapic_msr_read(&v->lapic, index, guest_tsc(v), value);
    case MSR_EFER: *value = backend->read(&v->cpu, REG_EFER); break;
    case MSR_PAT: return backend->access_msr(&v->cpu, index, false, value);
    case MSR_ARCH_CAPABILITIES: *value = guest_cpuid.arch_capabilities; return *value;
    case MSR_PRED_CMD:
    case MSR_FLUSH_CMD: return false;
    case MSR_WALL_CLOCK: *value = v->wall_clock; break;
    case MSR_SYSTEM_TIME: *value = v->system_time; break;
    default: return read_by_rule(v, index, value);
    }
    return true;
}

// Where there is no memory the guest gets no time: it is told by nothing but that.
static void write_system_time(struct vcpu *v) {
    struct pvclock_time t = pvclock_time((u32)tsc_khz);

    if (v->system_time & 1)
        (void)!memory_write(v->domain, GPA(v->system_time & ~1ull), &t, sizeof(t));
}

static void write_wall_clock(struct vcpu *v) {
    u64 ns = wall_clock_ns + tsc_to_ns(-v->domain->info.tsc_offset); // when this domain's TSC was 0
    struct pvclock_wall w = {2, (u32)(ns / NS_PER_SECOND), (u32)(ns % NS_PER_SECOND)};

    (void)!memory_write(v->domain, GPA(v->wall_clock), &w, sizeof(w));
}

// A command of one bit, carried out by the host's own MSR.
static bool command(bool exists, u32 index, u64 value) {
    if (!exists || value > 1)
        return false;
    if (value && !wrmsr_safe(index, value))
        log_debug("guest: host MSR 0x%x refused a value", index);
    return true;
}

bool msr_write(struct vcpu *v, u32 index, u64 value, struct vlapic_effect *effect) {
    *effect = (struct vlapic_effect){0};
    switch (index) {
    case MSR_TSC: break; // as TSC_ADJUST
    case MSR_TSC_DEADLINE: *effect = vlapic_set_tsc_deadline(&v->lapic, value); break;
    case MSR_APIC_BASE:
        *effect = vlapic_base_write(&v->lapic, value, guest_cpuid.phys_bits);
        return !effect->fault;
    case MSR_X2APIC_BASE ... MSR_X2APIC_LAST:
        *effect = vlapic_msr_write(&v->lapic, index, value, guest_tsc(v));
        return !effect->fault;
    case MSR_EFER: return vcpu_write_efer(v, value);
    case MSR_PAT: return pat_legal(value) && backend->access_msr(&v->cpu, index, true, &value);
    case MSR_ARCH_CAPABILITIES: return false;
    case MSR_PRED_CMD: return command(guest_cpuid.ibpb, index, value);
    case MSR_FLUSH_CMD: return command(guest_cpuid.l1d_flush, index, value);
    case MSR_WALL_CLOCK:
        v->wall_clock = value;
        write_wall_clock(v);
        break;
    case MSR_SYSTEM_TIME:
        v->system_time = value;
        write_system_time(v);
        break;
    default: return write_by_rule(v, index, value);
    }
    return true;
}

void handle_rdmsr(struct vcpu *v, struct exit e) {
    u64 value;

    if (!msr_read(v, (u32)v->cpu.gprs[BASALT_RCX], &value)) {
        vcpu_gp(v);
        return;
    }
    v->cpu.gprs[BASALT_RAX] = (u32)value;
    v->cpu.gprs[BASALT_RDX] = value >> 32;
    vcpu_skip(v, e.insn_length);
}

void handle_wrmsr(struct vcpu *v, struct exit e) {
    u64 value = (u32)v->cpu.gprs[BASALT_RAX] | v->cpu.gprs[BASALT_RDX] << 32;
    struct vlapic_effect effect;

    if (!msr_write(v, (u32)v->cpu.gprs[BASALT_RCX], value, &effect)) {
        vcpu_gp(v);
        return;
    }
    vcpu_skip(v, e.insn_length); // before the effect, which may be an INIT of this vCPU
    vcpu_apic_effect(v, &effect);
}
