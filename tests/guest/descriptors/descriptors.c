// SPDX-License-Identifier: Apache-2.0
//
// descriptors [COUNT] [SEED]: segment descriptors and interrupt gates of random bits, loaded into every segment register,
// LDTR and TR, looked at, and gone through by INT, so that faults come from within the delivery of events; then IDTs and
// GDTs with limits that cut entries. Exceptions only; task gates are left to `deaths`.

#include "../lib/guest.h"

static void restore_segments(void) {
    asm volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs; mov %0, %%ss; lldt %w1"
                 :
                 : "r"(DATA), "r"(0));
}

static void load(u32 selector) {
    u32 value = 0;
    asm volatile(GUARD("mov %0, %%es") : : "r"(selector) : "memory");
    asm volatile(GUARD("mov %0, %%fs") : : "r"(selector) : "memory");
    asm volatile(GUARD("mov %0, %%gs") : : "r"(selector) : "memory");
    asm volatile(GUARD("lldt %w0") : : "r"(selector) : "memory");
    asm volatile(GUARD("mov %0, %%fs") : : "r"(selector | 4) : "memory"); // from that LDT
    asm volatile(GUARD("lar %1, %0") : "+r"(value) : "r"(selector) : "memory");
    asm volatile(GUARD("lsl %1, %0") : "+r"(value) : "r"(selector) : "memory");
    asm volatile(GUARD("verw %w0") : : "r"(selector) : "memory");
    restore_segments();
}

ATTACK(descriptors) {
    u32 rounds = (u32)ARGUMENT(0, 2000), delivered = 0;
    static u8 old_gate[16];
    unsigned size = 2 * sizeof(word);
    u8 *gate = idt + size * 0x60;

    seed = ARGUMENT(1, 5);
    memcpy(old_gate, gate, size);
    while (rounds--) {
        // A system descriptor's base stays within RAM: an LDT outside of it is one of the `deaths`.
        u64 low = random64(), high = random64();
        if (!(low >> 44 & 1))
            low &= 0x00ffff3fffffffffull, high &= ~0xffffffffull;
        *(u64 *)(gdt + SPARE) = low;
        *(u64 *)(gdt + SPARE + 8) = high;
        load(SPARE | (random64() & 3));
        load((u32)random64() & 0xffff & ~4u);

        // A gate that leads to the same stub, with random attributes and selector.
        memcpy(gate, old_gate, size);
        u64 bits = random64();
        if ((bits >> 8 & 0x1f) == 5)
            bits ^= 0x300;
        gate[5] = (u8)(bits >> 8);
        if (bits & 1)
            *(u16 *)(gate + 2) = (u16)(bits >> 16);
        if (sizeof(word) == 8)
            gate[4] = (u8)(bits >> 32 & 7); // interrupt stack tables that are not set up
        if (gate[4] && sizeof(word) == 8 && (bits & 6))
            gate[4] = 0;
        bool valid = (gate[5] & 0x9f) == 0x8e || (gate[5] & 0x9f) == 0x8f;
        if (gate[4] && valid)
            gate[5] &= 0x7f;
        if (!valid || *(u16 *)(gate + 2) == CODE) {
            // A gate for 16-bit handlers would cut the stack pointer's frame: not from here.
            if ((gate[5] & 0x9f) == 0x86 || (gate[5] & 0x9f) == 0x87)
                continue;
            asm volatile(GUARD("int $0x60") : : : "memory");
            delivered += trap_vector < 0;
        }
    }
    memcpy(gate, old_gate, size);
    struct table_pointer whole = {(u16)(256 * size - 1), (word)idt}, cut;
    for (unsigned limit = 18 * size; limit < 19 * size; limit++) {
        cut = (struct table_pointer){(u16)limit, (word)idt};
        asm volatile("lidt %0" : : "m"(cut));
        asm volatile(GUARD("int $0x60") : : : "memory");
        if (trap_vector != 13)
            fail("INT behind the IDT's limit: %u", (u32)trap_vector);
        asm volatile("lidt %0" : : "m"(whole));
    }
    print("descriptors: %u interrupts delivered\n", delivered);
}
