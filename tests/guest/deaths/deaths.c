// SPDX-License-Identifier: Apache-2.0
//
// deaths NUMBER: ways to end oneself that bring the processor or the kernel into a corner: triple faults of several kinds,
// tables, stacks and code in devices or where no memory is, so that events are delivered through them, hardware task
// switches, and accesses that nobody emulates. The guest must end, with a reason, and nothing else.

#include "../lib/guest.h"

#define NOWHERE 0x20000000u // neither memory nor a device

static void no_idt(void) {
    struct table_pointer none = {0, 0};
    asm volatile("lidt %0" : : "m"(none));
}

static void idt_at(word base) {
    struct table_pointer pointer = {0xfff, base};
    asm volatile("lidt %0" : : "m"(pointer));
}

static void stack_at(word top) {
    asm volatile("mov %0, %%" STACK "; push $1; int $0x60" : : "r"(top));
}

static void ud_without_idt(void) {
    no_idt();
    asm volatile("ud2");
}

static void int3_without_idt(void) {
    no_idt();
    asm volatile("int3");
}

static void nmi_without_idt(void) {
    no_idt();
    apic_write(0xf0, 0x1ff);
    ipi(0x4400, 0); // NMI to itself: not by the shorthand
    for (;;)
        asm volatile("pause");
}

static void stack_not_present(void) {
    u8 *page = fine_map(0, 0, 0);
    stack_at((word)page + PAGE);
}

static void tables_of_zeros(void) { write_cr3(0x600000); }
static void tables_in_device(void) { write_cr3(LAPIC); }
static void tables_nowhere(void) { write_cr3(NOWHERE); }
static void fault_in_device_idt(void) {
    idt_at(LAPIC);
    asm volatile("ud2");
}
static void interrupt_through_nowhere(void) {
    idt_at(NOWHERE);
    asm volatile("int $0x60");
}
static void ipi_through_nowhere(void) {
    apic_write(0xf0, 0x1ff);
    idt_at(NOWHERE);
    ipi(0x40060, 0);
    // It comes within this instruction, which must not be taken for what touched the device: carried out by dom0 it would
    // last for hours.
    for (;;) {
        word count = 0xffffffff, from = 0;
        asm volatile("sti; rep lodsb" : "+c"(count), "+S"(from) : : "eax");
    }
}
static void nmi_through_nowhere(void) {
    apic_write(0xf0, 0x1ff);
    idt_at(NOWHERE);
    ipi(0x4400, 0);
    for (;;)
        asm volatile("pause");
}
static void gdt_nowhere(void) {
    struct table_pointer pointer = {0xfff, NOWHERE};
    asm volatile("lgdt %0; mov %1, %%es" : : "m"(pointer), "r"(DATA));
}
static void stack_in_device(void) { stack_at(LAPIC + 0x800); }
static void stack_nowhere(void) { stack_at(NOWHERE + 0x800); }
static void code_in_device(void) { ((void (*)(void))(word)LAPIC)(); }
static void code_nowhere(void) { ((void (*)(void))(word)NOWHERE)(); }

static void over_the_end_of_ram(void) { *(volatile u32 *)(word)(ram - 2) = 1; }
static void between_two_devices(void) { *(volatile u32 *)(word)(NOWHERE - 2) = 1; }
static void vector_from_device(void) {
    write_cr4(read_cr4() | 0x600);
    asm volatile("movups (%0), %%xmm0" : : "r"((word)LAPIC));
    asm volatile("fldl (%0)" : : "r"((word)NOWHERE));
}
static void bound_by_device(void) { asm volatile("cmpxchg8b (%0)" : : "r"((word)NOWHERE)); }

// In 32-bit code the tables mean something else now; in 64-bit code CR3 has a bit beyond the physical width.
static void format_of_tables(void) {
    no_idt();
#ifdef __x86_64__
    write_cr3(read_cr3() | 1ull << 51);
#else
    write_cr4(read_cr4() ^ 0x30);
#endif
    asm volatile("ud2");
}

// A TSS in SPARE, and a switch to it.
static void make_task(void) {
    static u8 task[104];
    u32 base = (u32)(word)task, *descriptor = (u32 *)(gdt + SPARE);
    descriptor[0] = base << 16 | 103;
    descriptor[1] = (base & 0xff000000) | (base >> 16 & 0xff) | 0x8900;
}

static void task_by_jump(void) {
    make_task();
    static const struct {
        u32 offset;
        u16 selector;
    } __attribute__((packed)) target = {0, SPARE};
    asm volatile("ljmpl *%0" : : "m"(target));
}

// A vector whose gate leads to the task.
static void task_gate(unsigned vector) {
    make_task();
    u32 *gate = (u32 *)(idt + 2 * sizeof(word) * vector);
    gate[0] = SPARE << 16;
    gate[1] = 0x8500;
}

static void task_by_gate(void) {
    task_gate(0x60);
    asm volatile("int $0x60");
}

static void task_by_double_fault(void) {
    task_gate(8);
    stack_not_present();
}

static void (*const ways[])(void) = {
    ud_without_idt,       int3_without_idt,    nmi_without_idt,
    stack_not_present,    tables_of_zeros,
    tables_in_device, // 5
    tables_nowhere,       fault_in_device_idt, interrupt_through_nowhere,
    ipi_through_nowhere,
    gdt_nowhere, // 10
    stack_in_device,      stack_nowhere,       code_in_device,
    code_nowhere,
    vector_from_device, // 15
    bound_by_device,      format_of_tables,    task_by_jump,
    task_by_gate,
    task_by_double_fault, // 20
    over_the_end_of_ram,  // these two may be survived
    between_two_devices,  nmi_through_nowhere,
};

// An exception that can be delivered is no end yet: what only 32-bit code can do is a #GP in 64-bit code.
static bool end_here(struct frame *f __attribute__((unused))) {
    no_idt();
    asm volatile("ud2");
    return false;
}

ATTACK(deaths) {
    on_exception = end_here;
    recover = 0;
    ways[ARGUMENT(0, 0) % (sizeof(ways) / sizeof(ways[0]))]();
    asm volatile("cli");
    no_idt(); // what was survived ends here
    asm volatile("ud2");
}
