// SPDX-License-Identifier: Apache-2.0
//
// What the processor can do, and its control registers and descriptor tables. Invariant: the IDT is
// shared and never changes after cpu_init(); each CPU has its own GDT and TSS inside its struct
// cpu. Follows the SDM, "Protected-Mode Memory Management", and the APM, "CPUID Specification".

#include "arch/cpu.h"

#include "arch/mcheck.h"
#include "arch/paging.h"
#include "arch/string.h"
#include "arch/x86.h"
#include "kernel/log.h"

#define GDT_CODE64        0x00af9b000000ffffull // present, ring 0, accessed; long
#define GDT_DATA          0x00cf93000000ffffull
#define GDT_TSS           0x0000890000000000ull // available 64-bit TSS

#define IDT_GATE          0x8e00u // present, ring 0, interrupt gate: IF is cleared
#define IST_NMI           1u
#define IST_DOUBLE_FAULT  2u
#define IST_MACHINE_CHECK 3u

struct idt_gate {
    u16 offset_low, selector, flags, offset_middle;
    u32 offset_high, reserved;
};
SIZE_ASSERT(struct idt_gate, 16);

struct cpu_features cpu_features;
static struct cpu boot_cpu = {.self = &boot_cpu};
static struct idt_gate idt[256];
static u8 boot_trap_stack[4096] __attribute__((aligned(16))); // until there are guarded ones

extern const u8 trap_entries[], irq_entries[];

struct cpu *cpu_boot(void) { return &boot_cpu; }

static void read_brand(struct cpu_features *f)
{
    u32 words[12] = {0};
    for (u32 i = 0; i < 3 && f->max_extended_leaf >= 0x80000004; i++) {
        struct cpuid r = cpuid(0x80000002 + i);
        memcpy(&words[4 * i], &r, sizeof(r));
    }
    const char *brand = (const char *)words;
    unsigned skip = 0, last = 0;
    while (skip < 48 && brand[skip] == ' ')
        skip++;
    for (unsigned i = skip; i < 48 && brand[i]; i++) {
        f->brand[i - skip] = brand[i];
        last = brand[i] == ' ' ? last : i - skip + 1;
    }
    f->brand[last] = 0;
}

static void read_identity(struct cpu_features *f)
{
    struct cpuid r = cpuid(0);
    f->max_leaf = r.eax;
    f->vendor = r.ebx == 0x756e6547   ? VENDOR_INTEL
                : r.ebx == 0x68747541 ? VENDOR_AMD
                                      : VENDOR_OTHER;
    f->max_extended_leaf = cpuid(0x80000000).eax;
    u32 signature = cpuid(1).eax;
    f->stepping = signature & 0xf;
    f->family = (signature >> 8) & 0xf;
    f->model = (signature >> 4) & 0xf;
    if (f->family == 15 || f->family == 6)
        f->model |= (signature >> 12) & 0xf0;
    if (f->family == 15)
        f->family += (signature >> 20) & 0xff;
    read_brand(f);
}

static void read_features(struct cpu_features *f)
{
    struct cpuid none = {0}, one = cpuid(1), ext = cpuid(0x80000001);
    struct cpuid seven = f->max_leaf >= 7 ? cpuid(7) : none;
    struct cpuid xsave = f->max_leaf >= 0xd ? cpuid_count(0xd, 1) : none;
    struct cpuid power = f->max_extended_leaf >= 0x80000007 ? cpuid(0x80000007) : none;
    struct cpuid sizes = f->max_extended_leaf >= 0x80000008 ? cpuid(0x80000008) : none;

    f->physical_bits = sizes.eax ? MIN(sizes.eax & 0xff, 52u) : 36;
    f->linear_bits = sizes.eax ? (sizes.eax >> 8) & 0xff : 48;
    f->xsave = f->max_leaf >= 0xd && one.ecx & CPUID_1_ECX_XSAVE;
    f->xsaveopt = f->xsave && xsave.eax & CPUID_D1_EAX_XSAVEOPT;
    f->pcid = one.ecx & CPUID_1_ECX_PCID;
    f->x2apic = one.ecx & CPUID_1_ECX_X2APIC;
    f->tsc_deadline = one.ecx & CPUID_1_ECX_TSC_DEADLINE;
    f->monitor = one.ecx & CPUID_1_ECX_MONITOR;
    f->hypervisor = one.ecx & CPUID_1_ECX_HYPERVISOR;
    f->vmx = one.ecx & CPUID_1_ECX_VMX;
    f->mtrr = one.edx & CPUID_1_EDX_MTRR;
    f->mca = one.edx & CPUID_1_EDX_MCE && one.edx & CPUID_1_EDX_MCA;
    f->arat = f->max_leaf >= 6 && cpuid(6).eax & CPUID_6_EAX_ARAT;
    f->fsgsbase = seven.ebx & CPUID_7_EBX_FSGSBASE;
    f->smep = seven.ebx & CPUID_7_EBX_SMEP;
    f->erms = seven.ebx & CPUID_7_EBX_ERMS;
    f->invpcid = seven.ebx & CPUID_7_EBX_INVPCID;
    f->smap = seven.ebx & CPUID_7_EBX_SMAP;
    f->umip = seven.ecx & CPUID_7_ECX_UMIP;
    f->svm = ext.ecx & CPUID_81_ECX_SVM;
    f->nx = ext.edx & CPUID_81_EDX_NX;
    f->page1g = ext.edx & CPUID_81_EDX_PAGE1G;
    f->rdtscp = ext.edx & CPUID_81_EDX_RDTSCP;
    f->invariant_tsc = power.edx & CPUID_87_EDX_INVARIANT_TSC;
}

void cpu_init_controls(void)
{
    const struct cpu_features *f = &cpu_features;
    u64 cr4 = CR4_PAE | CR4_PGE | CR4_DE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    cr4 |= f->mca ? CR4_MCE : 0;
    cr4 |= f->umip ? CR4_UMIP : 0;
    cr4 |= f->fsgsbase ? CR4_FSGSBASE : 0;
    cr4 |= f->xsave ? CR4_OSXSAVE : 0;
    cr4 |= f->smep ? CR4_SMEP : 0;
    cr4 |= f->smap ? CR4_SMAP : 0;
    write_cr0(CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE);
    write_cr4(cr4);
    wrmsr(MSR_EFER, EFER_LME | EFER_LMA | EFER_NXE);
    wbinvd(); // no line may stay cached under a type that the new PAT gives it no longer
    wrmsr(MSR_PAT, PAT_VALUE);
    write_cr3(read_cr3());
}

static void set_gate(unsigned vector, const u8 *entry, unsigned ist)
{
    u64 offset = (u64)entry;
    idt[vector] = (struct idt_gate){
        .offset_low = (u16)offset,
        .selector = KERNEL_CS,
        .flags = (u16)(IDT_GATE | ist),
        .offset_middle = (u16)(offset >> 16),
        .offset_high = (u32)(offset >> 32),
    };
}

static void init_idt(void)
{
    for (unsigned v = 0; v < 32; v++)
        set_gate(v, trap_entries + 16 * v, 0);
    for (unsigned v = 32; v < 256; v++)
        set_gate(v, irq_entries + 16 * (v - 32), 0);
    set_gate(EXC_NMI, trap_entries + 16 * EXC_NMI, IST_NMI);
    set_gate(EXC_DF, trap_entries + 16 * EXC_DF, IST_DOUBLE_FAULT);
    set_gate(EXC_MC, trap_entries + 16 * EXC_MC, IST_MACHINE_CHECK);
}

void cpu_load_tables(struct cpu *cpu)
{
    u64 tss = (u64)&cpu->tss;
    cpu->tss.io_map_base = sizeof(struct tss);
    cpu->gdt[KERNEL_CS / 8] = GDT_CODE64;
    cpu->gdt[KERNEL_DS / 8] = GDT_DATA;
    cpu->gdt[KERNEL_TSS / 8] = GDT_TSS | (sizeof(struct tss) - 1) | (tss & 0xffffff) << 16 |
                               (tss >> 24 & 0xff) << 56;
    cpu->gdt[KERNEL_TSS / 8 + 1] = tss >> 32;
    struct table_register gdtr = {sizeof(cpu->gdt) - 1, (u64)cpu->gdt};
    struct table_register idtr = {sizeof(idt) - 1, (u64)idt};
    lgdt(&gdtr);
    asm volatile("pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1:"
                 :
                 : "i"(KERNEL_CS)
                 : "rax", "memory");
    asm volatile("movw %w0, %%ds; movw %w0, %%es; movw %w0, %%ss; movw %w1, %%fs; movw %w1, %%gs"
                 :
                 : "r"(KERNEL_DS), "r"(0)
                 : "memory");
    asm volatile("ltr %w0" : : "r"(KERNEL_TSS));
    lidt(&idtr);
    wrmsr(MSR_GS_BASE, (u64)cpu);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    wrmsr(MSR_FS_BASE, 0);
}

int cpu_alloc_stacks(struct cpu *cpu)
{
    cpu->stack_top = stack_alloc(KERNEL_STACK_PAGES);
    for (unsigned ist = IST_NMI; ist <= IST_MACHINE_CHECK; ist++) {
        u64 top = stack_alloc(TRAP_STACK_PAGES);
        if (!top)
            return -1;
        cpu->tss.ist[ist - 1] = top;
    }
    return cpu->stack_top ? 0 : -1;
}

void cpu_init(void)
{
    read_identity(&cpu_features);
    read_features(&cpu_features);
    init_idt();
    for (unsigned ist = IST_NMI; ist <= IST_MACHINE_CHECK; ist++)
        boot_cpu.tss.ist[ist - 1] = (u64)boot_trap_stack + sizeof(boot_trap_stack);
    cpu_load_tables(&boot_cpu);
    cpu_init_controls();
    mcheck_init();
}

void cpu_report(void)
{
    const struct cpu_features *f = &cpu_features;
    log_info("basalt: cpu: %s, family %u model 0x%x stepping %u, %u/%u address bits%s",
             f->brand[0] ? f->brand : "(no name)", f->family, f->model, f->stepping,
             f->physical_bits, f->linear_bits, f->hypervisor ? ", under a hypervisor" : "");
    log_info("basalt: cpu: in use: nx%s%s%s%s%s%s%s; missing:%s%s%s%s%s%s", f->smep ? " smep" : "",
             f->smap ? " smap" : "", f->umip ? " umip" : "", f->fsgsbase ? " fsgsbase" : "",
             f->xsave ? " xsave" : "", f->x2apic ? " x2apic" : "",
             f->tsc_deadline ? " tsc-deadline" : "", f->smep ? "" : " smep", f->smap ? "" : " smap",
             f->umip ? "" : " umip", f->x2apic ? "" : " x2apic",
             f->tsc_deadline ? "" : " tsc-deadline", f->invariant_tsc ? "" : " invariant-tsc");
}
