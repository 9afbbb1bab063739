// SPDX-License-Identifier: Apache-2.0
//
// The processor as constants and one-instruction functions: control registers, MSRs, CPUID bits, and its clock.
// Everything here is architectural; what a machine really has is asked in arch/cpu.h. Follows the
// SDM, "System Architecture Overview" and "Model-Specific Registers", and the APM, "System
// Programming".

#pragma once

#include "arch/types.h"

#define RFLAGS_FIXED   BIT(1)      // always one
#define RFLAGS_TF      BIT(8)      // trap after each instruction
#define RFLAGS_IF      BIT(9)      // interrupts enabled
#define RFLAGS_STATUS  0x8d5ull    // CF, PF, AF, ZF, SF, OF
#define RFLAGS_VM      BIT(17)     // virtual-8086 mode
#define RFLAGS_DEFINED 0x3f7fd7ull // the other bits are always zero

#define CR0_PE         BIT(0)  // protected mode
#define CR0_MP         BIT(1)  // WAIT obeys TS
#define CR0_EM         BIT(2)  // no x87
#define CR0_TS         BIT(3)  // task switched: FPU faults
#define CR0_ET         BIT(4)  // always one
#define CR0_NE         BIT(5)  // x87 errors by #MF
#define CR0_WP         BIT(16) // the kernel obeys read-only pages
#define CR0_AM         BIT(18) // alignment checks
#define CR0_NW         BIT(29) // not write-through
#define CR0_CD         BIT(30) // caches off
#define CR0_PG         BIT(31) // paging

#define CR4_VME        BIT(0)
#define CR4_PVI        BIT(1)
#define CR4_TSD        BIT(2)
#define CR4_DE         BIT(3)  // debugging extensions
#define CR4_PSE        BIT(4)  // 4 MiB pages
#define CR4_PAE        BIT(5)  // 8-byte entries
#define CR4_MCE        BIT(6)  // machine checks are delivered
#define CR4_PGE        BIT(7)  // global pages
#define CR4_PCE        BIT(8)  // RDPMC outside ring 0
#define CR4_OSFXSR     BIT(9)  // SSE in use
#define CR4_OSXMMEXCPT BIT(10) // SSE errors by #XM
#define CR4_UMIP       BIT(11) // SGDT and the like are for ring 0
#define CR4_VMXE       BIT(13) // VMX
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17) // process context identifiers
#define CR4_OSXSAVE    BIT(18) // XSAVE in use
#define CR4_SMEP       BIT(20) // the kernel does not execute user pages
#define CR4_SMAP       BIT(21) // nor read them

#define EFER_SCE       BIT(0)  // SYSCALL
#define EFER_LME       BIT(8)  // long mode wanted
#define EFER_LMA       BIT(10) // long mode is on
#define EFER_NXE       BIT(11) // no-execute bit
#define EFER_SVME      BIT(12) // SVM
#define EFER_AIBRSE    BIT(21) // automatic IBRS

#define XCR0_X87       BIT(0)
#define XCR0_SSE       BIT(1)
#define XCR0_AVX       BIT(2)

#define DR6_FIXED      0xffff0ff0ull // bits that read as one
#define DR6_BS         BIT(14)       // single step
#define DR7_FIXED      0x400ull      // bits that read as one
#define DR7_GD         BIT(13)       // an access to a debug register traps

// Exception vectors.
#define EXC_DE  0u  // divide error
#define EXC_DB  1u  // debug
#define EXC_NMI 2u  // not an exception, but its vector
#define EXC_BP  3u  // INT3
#define EXC_OF  4u  // INTO
#define EXC_UD  6u  // invalid opcode
#define EXC_DF  8u  // double fault
#define EXC_TS  10u // invalid TSS
#define EXC_NP  11u // segment not present
#define EXC_SS  12u // stack segment
#define EXC_GP  13u // general protection
#define EXC_PF  14u // page fault
#define EXC_MF  16u // x87 error
#define EXC_AC  17u // alignment check
#define EXC_MC  18u // machine check
#define EXC_XM  19u // SSE error
#define EXC_VE  20u // virtualization
#define EXC_CP  21u // control protection
// Those of the exceptions that push an error code, one bit per vector.
#define EXC_WITH_ERROR                                                                   \
    (BIT(EXC_DF) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_PF) | \
     BIT(EXC_AC) | BIT(EXC_CP))

static inline bool exception_has_error(u8 vector) {
    return vector < 32 && (EXC_WITH_ERROR & BIT(vector));
}

// MSRs.
#define MSR_TSC                     0x10u
#define MSR_APIC_BASE               0x1bu
#define MSR_FEATURE_CONTROL         0x3au
#define MSR_SPEC_CTRL               0x48u
#define MSR_PRED_CMD                0x49u // 1: IBPB
#define MSR_ARCH_CAPABILITIES       0x10au
#define MSR_SYSENTER_CS             0x174u
#define MSR_SYSENTER_ESP            0x175u
#define MSR_SYSENTER_EIP            0x176u
#define MSR_MCG_CAP                 0x179u
#define MSR_MCG_STATUS              0x17au
#define MSR_MCG_CTL                 0x17bu
#define MSR_DEBUGCTL                0x1d9u
#define MSR_PAT                     0x277u
#define MSR_MC0_CTL                 0x400u // 4 per bank: CTL, STATUS, ADDR, MISC
#define MSR_VMX_BASIC               0x480u
#define MSR_VMX_MISC                0x485u
#define MSR_VMX_CR0_FIXED0          0x486u
#define MSR_VMX_CR0_FIXED1          0x487u
#define MSR_VMX_CR4_FIXED0          0x488u
#define MSR_VMX_CR4_FIXED1          0x489u
#define MSR_VMX_PROCBASED_CTLS2     0x48bu
#define MSR_VMX_EPT_VPID_CAP        0x48cu
#define MSR_VMX_TRUE_PINBASED_CTLS  0x48du
#define MSR_VMX_TRUE_PROCBASED_CTLS 0x48eu
#define MSR_VMX_TRUE_EXIT_CTLS      0x48fu
#define MSR_VMX_TRUE_ENTRY_CTLS     0x490u
#define MSR_TSC_DEADLINE            0x6e0u
#define MSR_X2APIC_BASE             0x800u // + xAPIC register offset / 16
#define MSR_EFER                    0xc0000080u
#define MSR_STAR                    0xc0000081u
#define MSR_LSTAR                   0xc0000082u
#define MSR_CSTAR                   0xc0000083u
#define MSR_FMASK                   0xc0000084u
#define MSR_FS_BASE                 0xc0000100u
#define MSR_GS_BASE                 0xc0000101u
#define MSR_KERNEL_GS_BASE          0xc0000102u
#define MSR_VM_CR                   0xc0010114u
#define MSR_VM_HSAVE_PA             0xc0010117u

#define APIC_BASE_BSP               BIT(8)  // bootstrap processor
#define APIC_BASE_X2APIC            BIT(10) // x2APIC mode
#define APIC_BASE_ENABLE            BIT(11)
#define FEATURE_CONTROL_LOCKED      BIT(0)
#define FEATURE_CONTROL_VMX         BIT(2)  // VMX outside SMX
#define VM_CR_SVMDIS                BIT(4)  // EFER.SVME can't be set
#define VM_CR_LOCK                  BIT(3)  // SVMDIS is locked
#define MCG_CAP_COUNT               0xffull // banks
#define MCG_CAP_CTL                 BIT(8)  // MCG_CTL exists
#define MCG_STATUS_RIPV             BIT(0)
#define MC_STATUS_PCC               BIT(57) // processor context corrupt
#define MC_STATUS_ADDRV             BIT(58) // address is valid
#define MC_STATUS_UC                BIT(61) // uncorrected
#define MC_STATUS_VALID             BIT(63)

// Registers of the local APIC: xAPIC offset / 16, x2APIC MSR - MSR_X2APIC_BASE
enum {
    LAPIC_ID = 0x02,
    LAPIC_VERSION = 0x03,
    LAPIC_TPR = 0x08,
    LAPIC_PPR = 0x0a,
    LAPIC_EOI = 0x0b,
    LAPIC_LDR = 0x0d,
    LAPIC_DFR = 0x0e,
    LAPIC_SVR = 0x0f,
    LAPIC_ISR = 0x10, // this and the next two: eight registers each
    LAPIC_TMR = 0x18,
    LAPIC_IRR = 0x20,
    LAPIC_ESR = 0x28,
    LAPIC_ICR = 0x30,
    LAPIC_ICR_HIGH = 0x31,
    LAPIC_LVT_TIMER = 0x32, // the first of the local vectors
    LAPIC_LVT_THERMAL = 0x33,
    LAPIC_LVT_PERF = 0x34,
    LAPIC_LVT_LINT0 = 0x35,
    LAPIC_LVT_LINT1 = 0x36,
    LAPIC_LVT_ERROR = 0x37,
    LAPIC_INITIAL = 0x38,
    LAPIC_CURRENT = 0x39,
    LAPIC_DIVIDE = 0x3e,
    LAPIC_SELF_IPI = 0x3f,
    LAPIC_REGISTERS
};

#define SVR_ENABLED        0x100u // software enable

#define LVT_NMI            0x00400u
#define LVT_STATUS         0x01000u // delivery status, read-only
#define LVT_REMOTE_IRR     0x04000u // read-only
#define LVT_MASKED         0x10000u
#define LVT_TIMER_MODE     0x60000u
#define LVT_TIMER_PERIODIC 0x20000u
#define LVT_TIMER_DEADLINE 0x40000u

// CPUID bits, by leaf and register.
#define CPUID_1_ECX_VMX             BIT(5)
#define CPUID_1_ECX_PCID            BIT(17)
#define CPUID_1_ECX_X2APIC          BIT(21)
#define CPUID_1_ECX_TSC_DEADLINE    BIT(24)
#define CPUID_1_ECX_XSAVE           BIT(26)
#define CPUID_1_ECX_OSXSAVE         BIT(27)
#define CPUID_1_ECX_HYPERVISOR      BIT(31)
#define CPUID_1_EDX_APIC            BIT(9)
#define CPUID_1_EDX_MCA             BIT(14)
#define CPUID_7_EBX_FSGSBASE        BIT(0)
#define CPUID_7_EBX_SMEP            BIT(7)
#define CPUID_7_EBX_SMAP            BIT(20)
#define CPUID_7_ECX_UMIP            BIT(2)
#define CPUID_81_ECX_SVM            BIT(2) // leaf 0x80000001
#define CPUID_81_EDX_PAGE1G         BIT(26)
#define CPUID_87_EDX_INVARIANT_TSC  BIT(8) // leaf 0x80000007
#define CPUID_8A_EDX_NPT            BIT(0) // leaf 0x8000000a: SVM
#define CPUID_8A_EDX_NRIP_SAVE      BIT(3)
#define CPUID_8A_EDX_CLEAN_BITS     BIT(5)
#define CPUID_8A_EDX_FLUSH_BY_ASID  BIT(6)
#define CPUID_8A_EDX_DECODE_ASSISTS BIT(7)
#define CPUID_8A_EDX_PAUSE_FILTER   BIT(10)

struct cpuid {
    u32 eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid_count(u32 leaf, u32 subleaf) {
    struct cpuid r;
    asm volatile("cpuid"
                 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                 : "a"(leaf), "c"(subleaf));
    return r;
}

static inline struct cpuid cpuid(u32 leaf) { return cpuid_count(leaf, 0); }

static inline u64 rdmsr(u32 msr) {
    u32 low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return low | (u64)high << 32;
}

static inline void wrmsr(u32 msr, u64 value) {
    asm volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

// A row of the exception table: a fault at `insn` continues at `fixup` instead of being a panic.
#define EXTABLE(insn, fixup) \
    ".pushsection .extable, \"a\"\n\t.balign 8\n\t.quad " insn ", " fixup "\n\t.popsection\n\t"

/// Reads an MSR that may not exist. Returns false, and 0 in *value, if the processor refuses.
must_check static inline bool rdmsr_safe(u32 msr, u64 *value) {
    u32 low = 0, high = 0, ok = 0;
    asm volatile("1: rdmsr\n\tmovl $1, %2\n\t2:\n\t" EXTABLE("1b", "2b")
                 : "+a"(low), "+d"(high), "+r"(ok)
                 : "c"(msr)
                 : "memory");
    *value = low | (u64)high << 32;
    return ok;
}

/// Writes an MSR that may not exist or may not take the value. Returns false if the processor
/// refuses.
static inline bool wrmsr_safe(u32 msr, u64 value) {
    u32 ok = 0;
    asm volatile("1: wrmsr\n\tmovl $1, %0\n\t2:\n\t" EXTABLE("1b", "2b")
                 : "+r"(ok)
                 : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32))
                 : "memory");
    return ok;
}

#define X86_REGISTER(name)                                              \
    static inline u64 read_##name(void) {                               \
        u64 value;                                                      \
        asm volatile("mov %%" #name ", %0" : "=r"(value) : : "memory"); \
        return value;                                                   \
    }                                                                   \
    static inline void write_##name(u64 value) {                        \
        asm volatile("mov %0, %%" #name : : "r"(value) : "memory");     \
    }
X86_REGISTER(cr0)
X86_REGISTER(cr2)
X86_REGISTER(cr3)
X86_REGISTER(cr4)
X86_REGISTER(dr6)

static inline void read_breakpoints(u64 dr[4]) {
    asm volatile("mov %%dr0, %0; mov %%dr1, %1; mov %%dr2, %2; mov %%dr3, %3"
                 : "=&r"(dr[0]), "=&r"(dr[1]), "=&r"(dr[2]), "=r"(dr[3]));
}

static inline void write_breakpoints(const u64 dr[4]) {
    asm volatile("mov %0, %%dr0; mov %1, %%dr1; mov %2, %%dr2; mov %3, %%dr3"
                 :
                 : "r"(dr[0]), "r"(dr[1]), "r"(dr[2]), "r"(dr[3])
                 : "memory");
}

struct table_register { // operand of LGDT and LIDT
    u16 limit;
    u64 base;
} packed;

static inline void lgdt(const struct table_register *r) { asm volatile("lgdt %0" : : "m"(*r)); }

static inline void lidt(const struct table_register *r) { asm volatile("lidt %0" : : "m"(*r)); }

static inline u64 xgetbv(u32 index) {
    u32 low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(index));
    return low | (u64)high << 32;
}

static inline void xsetbv(u32 index, u64 value) {
    asm volatile("xsetbv" : : "c"(index), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline u64 rdtsc(void) {
    u64 low, high; // RDTSC clears the upper halves
    asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return low | high << 32;
}

// The time-stamp counter as the kernel's clock, in arch/tsc.c. Once tsc_init() has returned, its frequency never changes.
extern u64 tsc_khz; // ticks per millisecond

/// Begins the measurement. After acpi_init(), less than four seconds before tsc_init().
void tsc_begin(void);
/// Finds the frequency: KVM or VMware leaf, CPUID 0x15, else measured against the ACPI PM timer.
void tsc_init(void);
/// Ticks to nanoseconds, rounded down; exact to 2^-32 for any 64-bit count that does not overflow the
/// result.
u64 tsc_to_ns(u64 ticks);
/// Reads a counter together with the TSC, several times; the pair that belongs together best.
u32 tsc_pair(u32 (*read)(void), u64 *tsc);

static inline void invlpg(const void *address) {
    asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static inline void cpu_pause(void) { asm volatile("pause" : : : "memory"); }

static inline void cpu_cli(void) { asm volatile("cli" : : : "memory"); }

static inline void cpu_hlt(void) { asm volatile("hlt" : : : "memory"); }

static inline void wbinvd(void) { asm volatile("wbinvd" : : : "memory"); }

#define X86_PORT(letter, type)                                                       \
    static inline type in##letter(u16 port) {                                        \
        type value;                                                                  \
        asm volatile("in" #letter " %1, %0" : "=a"(value) : "Nd"(port) : "memory");  \
        return value;                                                                \
    }                                                                                \
    static inline void out##letter(u16 port, type value) {                           \
        asm volatile("out" #letter " %0, %1" : : "a"(value), "Nd"(port) : "memory"); \
    }
X86_PORT(b, u8)
X86_PORT(l, u32)

// Device registers: one access of the stated width.
static inline u32 mmio_read32(const volatile void *p) { return *(const volatile u32 *)p; }
static inline void mmio_write32(volatile void *p, u32 value) { *(volatile u32 *)p = value; }
