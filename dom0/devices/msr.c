// SPDX-License-Identifier: Apache-2.0
//
// The MSRs of a guest's machine that the kernel does not hold: what only reads as a constant or faults is a row of one
// table (number, vendor, rule and value); what has no rule is #GP, and a line in the log. kvm-clock's two registers are
// here as well: they name memory of the guest's, in which it finds how its TSC becomes time. MTRRs: the second level
// decides on memory types, so the guest is shown none but the default type, which stays write-back. Follows the SDM,
// "Model-Specific Registers (MSRs)", the APM, "MSR Cross-Reference", and Linux' "KVM-specific MSRs".

#include "cpuid.h"
#include "guest_machine.h"
#include "pvclock.h"

#define MSR_WALL_CLOCK           0x4b564d00u
#define MSR_SYSTEM_TIME          0x4b564d01u
#define SYSTEM_TIME_ON           1u

#define FEATURE_CONTROL_LOCKED   0x1u
#define MISC_ENABLE_FAST_STRINGS 0x1u
#define MISC_ENABLE_NO_BTS       0x800u
#define MISC_ENABLE_NO_PEBS      0x1000u
#define MTRR_CAP_WC              0x400u // write-combining is supported
#define MTRR_DEF_ENABLE          0x800u
#define MEMORY_WB                0x6u
#define HWCR_TSC_AT_P0           0x1000000u // Linux complains without it
#define VM_CR_SVMDIS             0x10u
#define VM_CR_LOCK               0x8u
#define DE_CFG_LFENCE_SERIAL     0x2u // the kernel sets it on AMD hosts that need it

#define NS_PER_SECOND            1000000000ull
#define LINES_MAX                64u

enum rule {
    FAULT,     // #GP, and nobody wonders
    CONSTANT,  // reads as the row's value, writes are ignored
    READ_ONLY, // reads as the row's value, writes fault
};
enum vendor { ANY, INTEL, AMD };

// MSRs of the other vendor fault without a word: stock kernels probe some on both.
static const struct row {
    uint32_t first, last;
    enum vendor vendor;
    enum rule rule;
    uint64_t value;
} rows[] = {
    {0x17, 0x17, INTEL, READ_ONLY, 0},                      // PLATFORM_ID
    {0x33, 0x33, INTEL, FAULT, 0},                          // TEST_CTRL: no split-lock detection
    {0x34, 0x34, INTEL, READ_ONLY, 0},                      // SMI_COUNT
    {0x3a, 0x3a, INTEL, READ_ONLY, FEATURE_CONTROL_LOCKED}, // no VMX, no SGX
    {0x3b, 0x3b, ANY, CONSTANT, 0},    // TSC_ADJUST: a domain's vCPUs have one TSC, never moved
    {0x49, 0x49, ANY, FAULT, 0},       // PRED_CMD: not on this processor, or not such a command
    {0x79, 0x79, INTEL, CONSTANT, 0},  // microcode updates are the kernel's
    {0x8b, 0x8b, ANY, CONSTANT, 0},    // BIOS_SIGN_ID, written before it is read
    {0xce, 0xce, INTEL, READ_ONLY, 0}, // PLATFORM_INFO: no ratio, no CPUID faulting
    {0xfe, 0xfe, ANY, READ_ONLY, MTRR_CAP_WC}, // MTRR_CAP: no ranges
    {0x10a, 0x10b, ANY, FAULT, 0},             // ARCH_CAPABILITIES, FLUSH_CMD: as PRED_CMD
    {0x140, 0x140, INTEL, FAULT, 0},           // MISC_FEATURES_ENABLES
    {0x179, 0x179, ANY, READ_ONLY, 0},         // MCG_CAP: no banks
    {0x17a, 0x17a, ANY, CONSTANT, 0},          // MCG_STATUS
    {0x1a0, 0x1a0, INTEL, CONSTANT,            // MISC_ENABLE
     MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS},
    {0x2ff, 0x2ff, ANY, CONSTANT, MTRR_DEF_ENABLE | MEMORY_WB}, // MTRR_DEF_TYPE
    {0x600, 0x65f, INTEL, FAULT, 0},                            // running average power
    {0xc0000103, 0xc0000103, ANY, FAULT, 0},                    // TSC_AUX: no RDTSCP
    {0xc0010000, 0xc0010007, AMD, FAULT, 0},                    // performance counters
    {0xc0010010, 0xc0010010, AMD, CONSTANT, 0},                 // SYSCFG
    {0xc0010015, 0xc0010015, AMD, CONSTANT, HWCR_TSC_AT_P0},
    {0xc001001a, 0xc001001f, AMD, CONSTANT, 0}, // TOP_MEM, TOP_MEM2, NB_CFG
    {0xc0010055, 0xc0010058, AMD, CONSTANT, 0}, // INT_PENDING, MMIO_CONF_BASE
    {0xc0010114, 0xc0010114, AMD, READ_ONLY, VM_CR_SVMDIS | VM_CR_LOCK}, // VM_CR
    {0xc0011029, 0xc0011029, AMD, CONSTANT, DE_CFG_LFENCE_SERIAL},
    {0xc0011020, 0xc001102c, AMD, CONSTANT, 0}, // LS_CFG, IC_CFG, DC_CFG, ..., for errata
};

// The rule of an MSR; of one that nobody knows the log tells.
static const struct row *find(const struct guest_machine *m, uint32_t vcpu, uint32_t msr) {
    static const struct row fault = {.rule = FAULT};
    static unsigned lines;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (msr >= rows[i].first && msr <= rows[i].last)
            return rows[i].vendor == (cpuid_is_amd() ? INTEL : AMD) ? &fault : &rows[i];
    if (lines++ < LINES_MAX)
        host_log("%s: vCPU %u: unknown MSR 0x%x, or a value that it does not take: #GP", m->name,
                 vcpu, msr);
    return &fault;
}

// Where there is no memory the guest gets no time: it is told by nothing but that.
static void write_system_time(struct guest_machine *m, uint64_t msr) {
    struct pvclock_time time = pvclock_time(host_tsc_khz());
    if (msr & SYSTEM_TIME_ON)
        (void)host_guest_write(m->memory, msr & ~1ull, &time, sizeof(time));
}

static void write_wall_clock(struct guest_machine *m, uint64_t gpa) {
    uint64_t ns = host_wall_ns() - host_domain_ns(m->config.domain); // when its TSC was 0
    struct pvclock_wall wall = {2, (uint32_t)(ns / NS_PER_SECOND), (uint32_t)(ns % NS_PER_SECOND)};
    (void)host_guest_write(m->memory, gpa, &wall, sizeof(wall));
}

bool machine_msr_read(struct guest_machine *m, uint32_t vcpu, uint32_t msr, uint64_t *value) {
    if (msr == MSR_WALL_CLOCK) {
        *value = m->state->wall_clock[vcpu];
        return true;
    }
    if (msr == MSR_SYSTEM_TIME) {
        *value = m->state->system_time[vcpu];
        return true;
    }
    const struct row *row = find(m, vcpu, msr);
    *value = row->value;
    return row->rule != FAULT;
}

bool machine_msr_write(struct guest_machine *m, uint32_t vcpu, uint32_t msr, uint64_t value) {
    if (msr == MSR_WALL_CLOCK) {
        m->state->wall_clock[vcpu] = value;
        write_wall_clock(m, value);
        return true;
    }
    if (msr == MSR_SYSTEM_TIME) {
        m->state->system_time[vcpu] = value;
        write_system_time(m, value);
        return true;
    }
    return find(m, vcpu, msr)->rule == CONSTANT;
}
