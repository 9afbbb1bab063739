// SPDX-License-Identifier: Apache-2.0
//
// What the processor can do, and its control registers and descriptor tables. Invariant: the IDT is
// shared and never changes after cpu_init(); each CPU has its own GDT and TSS inside its struct
// cpu. Follows the SDM, "Protected-Mode Memory Management", and the APM, "CPUID Specification".

#include "arch/cpu.h"

#include "arch/paging.h"
#include "kernel/log.h"

#define GDT_CODE64  0x00af9b000000ffffull // present, ring 0, accessed; long
#define GDT_DATA    0x00cf93000000ffffull
#define GDT_TSS     0x0000890000000000ull // available 64-bit TSS

#define IDT_GATE    0x00008e0000000000ull // present, ring 0, interrupt gate: IF is cleared

#define CPUID_INTEL 0x756e6547u // EBX of leaf 0
#define CPUID_AMD   0x68747541u

struct cpu_features cpu_features;
struct cpu boot_cpu = {.self = &boot_cpu};
u64 cpu_idt[256][2];
static u8 boot_trap_stack[4096] __attribute__((aligned(16))); // until there are guarded ones

extern const u8 trap_entries[];

// What is looked for in CPUID, and the bits of CR4 that turn it on.
enum cpuid_register { EAX, EBX, ECX, EDX };
static const struct feature {
    const char *name; // NULL: nobody misses it
    bool *found;
    u32 leaf;
    enum cpuid_register reg;
    u64 bit, cr4;
} features[] = {
    {"smep", &cpu_features.smep, 7, EBX, CPUID_7_EBX_SMEP, CR4_SMEP},
    {"smap", &cpu_features.smap, 7, EBX, CPUID_7_EBX_SMAP, CR4_SMAP},
    {"umip", &cpu_features.umip, 7, ECX, CPUID_7_ECX_UMIP, CR4_UMIP},
    {"fsgsbase", &cpu_features.fsgsbase, 7, EBX, CPUID_7_EBX_FSGSBASE, CR4_FSGSBASE},
    {"xsave", &cpu_features.xsave, 1, ECX, CPUID_1_ECX_XSAVE, CR4_OSXSAVE},
    {"x2apic", &cpu_features.x2apic, 1, ECX, CPUID_1_ECX_X2APIC, 0},
    {"tsc-deadline", &cpu_features.tsc_deadline, 1, ECX, CPUID_1_ECX_TSC_DEADLINE, 0},
    {"invariant-tsc", &cpu_features.invariant_tsc, 0x80000007, EDX, CPUID_87_EDX_INVARIANT_TSC, 0},
    {"machine-checks", &cpu_features.mca, 1, EDX, CPUID_1_EDX_MCA, CR4_MCE},
    {NULL, &cpu_features.hypervisor, 1, ECX, CPUID_1_ECX_HYPERVISOR, 0},
    {NULL, &cpu_features.pcid, 1, ECX, CPUID_1_ECX_PCID, 0},
    {NULL, &cpu_features.vmx, 1, ECX, CPUID_1_ECX_VMX, 0},
    {NULL, &cpu_features.svm, 0x80000001, ECX, CPUID_81_ECX_SVM, 0},
    {NULL, &cpu_features.page1g, 0x80000001, EDX, CPUID_81_EDX_PAGE1G, 0},
};

static void read_features(struct cpu_features *f) {
    struct cpuid r = cpuid(0);
    f->vendor = r.ebx == CPUID_INTEL ? VENDOR_INTEL
                : r.ebx == CPUID_AMD ? VENDOR_AMD
                                     : VENDOR_OTHER;
    f->max_leaf = r.eax;
    f->max_extended_leaf = cpuid(0x80000000).eax;
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        u32 leaf = features[i].leaf;
        r = cpuid(leaf);
        const u32 registers[] = {r.eax, r.ebx, r.ecx, r.edx};
        *features[i].found = leaf <= (leaf & 0x80000000 ? f->max_extended_leaf : f->max_leaf) &&
                             registers[features[i].reg] & features[i].bit;
    }
    u32 sizes = f->max_extended_leaf >= 0x80000008 ? cpuid(0x80000008).eax : 0x3024;
    f->physical_bits = MIN(sizes & 0xff, 52u);
    f->linear_bits = sizes >> 8 & 0xff;
}

static void init_controls(void) {
    u64 cr4 = CR4_PAE | CR4_PGE | CR4_DE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
        cr4 |= *features[i].found ? features[i].cr4 : 0;
    write_cr0(CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE);
    write_cr4(cr4);
    wrmsr(MSR_EFER, EFER_LME | EFER_LMA | EFER_NXE);
    wbinvd(); // no line may stay cached under a type that the new PAT gives it no longer
    wrmsr(MSR_PAT, PAT_VALUE);
    write_cr3(read_cr3());
}

static void init_idt(void) {
    static const u8 stacks[] = {[EXC_NMI] = 1, [EXC_DF] = 2, [EXC_MC] = TRAP_STACKS};
    for (unsigned v = 0; v < ARRAY_SIZE(cpu_idt); v++) {
        u64 offset = (u64)trap_entries + 16 * v, stack = v < ARRAY_SIZE(stacks) ? stacks[v] : 0;
        cpu_idt[v][0] = IDT_GATE | KERNEL_CS << 16 | stack << 32 | (offset & 0xffff) |
                        (offset & 0xffff0000) << 32;
        cpu_idt[v][1] = offset >> 32;
    }
}

static void load_tables(struct cpu *cpu) {
    u64 tss = (u64)&cpu->tss;
    cpu->tss.io_map_base = sizeof(struct tss);
    cpu->gdt[KERNEL_CS / 8] = GDT_CODE64;
    cpu->gdt[KERNEL_DS / 8] = GDT_DATA;
    cpu->gdt[KERNEL_TSS / 8] = GDT_TSS | (sizeof(struct tss) - 1) | (tss & 0xffffff) << 16 |
                               (tss >> 24 & 0xff) << 56;
    cpu->gdt[KERNEL_TSS / 8 + 1] = tss >> 32;
    struct table_register gdtr = {sizeof(cpu->gdt) - 1, (u64)cpu->gdt};
    struct table_register idtr = {sizeof(cpu_idt) - 1, (u64)cpu_idt};
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

static void report_features(const char *what, bool found) {
    char line[256] = "";
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
        if (features[i].name && *features[i].found == found)
            format(line + strlen(line), sizeof(line) - strlen(line), " %s", features[i].name);
    log_info("basalt: cpu: %s:%s", what, line);
}

static void report(void) {
    struct cpuid brand[3] = {{0}};
    for (u32 i = 0; i < 3 && cpu_features.max_extended_leaf >= 0x80000004; i++)
        brand[i] = cpuid(0x80000002 + i);
    log_info("basalt: cpu: %.48s, signature 0x%x, %u/%u address bits%s", (const char *)brand,
             cpuid(1).eax, cpu_features.physical_bits, cpu_features.linear_bits,
             cpu_features.hypervisor ? ", under a hypervisor" : "");
    report_features("in use", true);
    report_features("missing", false);
}

void cpu_init(void) {
    read_features(&cpu_features);
    init_idt();
    for (unsigned i = 0; i < TRAP_STACKS; i++)
        boot_cpu.tss.ist[i] = (u64)boot_trap_stack + sizeof(boot_trap_stack);
    load_tables(&boot_cpu);
    init_controls();
    report();
    mcheck_init();
}
