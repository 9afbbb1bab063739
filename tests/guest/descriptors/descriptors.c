// SPDX-License-Identifier: Apache-2.0
//
// descriptors [COUNT] [SEED]: segment descriptors and interrupt gates of random bits, loaded into every segment register,
// LDTR and TR, looked at, and gone through by INT, so that faults come from within the delivery of events; then IDTs and
// GDTs with limits that cut entries, and (32-bit code) string I/O through segments of every type at their limits, which
// the kernel has to heed where it emulates. Exceptions only; task gates are left to `deaths`.

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

#ifndef __x86_64__
// Whether a code or data segment of this type may be written there.
static bool may_write(u32 type, bool big, u32 limit, u32 offset, u32 bytes) {
    u32 last = offset + bytes - 1;

    if ((type & 8) || !(type & 2) || last < offset)
        return false;
    return type & 4 ? offset > limit && last <= (big ? 0xffffffff : 0xffff) : last <= limit;
}

static void in_string(u32 bytes, u32 offset) {
    const word port = 0x80; // reads as ones
    if (bytes == 1)
        asm volatile(GUARD("insb") : "+D"(offset) : "d"(port) : "memory");
    else if (bytes == 2)
        asm volatile(GUARD("insw") : "+D"(offset) : "d"(port) : "memory");
    else
        asm volatile(GUARD("insl") : "+D"(offset) : "d"(port) : "memory");
}

// INS to `offset` of a segment whose base makes that an address of a buffer.
static void write_at(u32 type, bool big, u32 limit, u32 offset, u32 bytes) {
    static u8 buffer[32];
    u32 base = (u32)buffer + 8 - offset, *descriptor = (u32 *)(gdt + SPARE);

    descriptor[0] = base << 16 | (limit & 0xffff);
    descriptor[1] = (base & 0xff000000) | (big ? 0x400000 : 0) | (limit & 0xf0000) | 0x9000 |
                    type << 8 | (base >> 16 & 0xff);
    memset(buffer, 0, sizeof(buffer));
    asm volatile(GUARD("mov %0, %%es") : : "r"(SPARE) : "memory");
    bool loaded = trap_vector < 0, may = may_write(type, big, limit, offset, bytes);
    if (loaded)
        in_string(bytes, offset);
    restore_segments();
    if (!loaded)
        return;
    for (u32 i = 0; i < sizeof(buffer); i++) {
        u8 expected = may && i >= 8 && i < 8 + bytes ? 0xff : 0;
        if (buffer[i] != expected)
            fail("INS of %u to %x of a segment of type %x, limit %x: byte %u is %x", bytes, offset,
                 type, limit, i, buffer[i]);
    }
    if (may ? trap_vector >= 0 : trap_vector != 13)
        fail("INS of %u to %x of a segment of type %x, limit %x: vector %u", bytes, offset, type,
             limit, (u32)trap_vector);
}

static void at_limits(void) {
    static const u32 limits[] = {0, 3, 0x7fff, 0xffff, 0xfffff};

    for (u32 type = 0; type < 16; type++)
        for (u32 big = 0; big < 2; big++)
            for (u32 i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
                for (u32 bytes = 1; bytes <= 4; bytes *= 2) {
                    for (u32 offset = limits[i] - 4; offset != limits[i] + 6; offset++)
                        write_at(type, big, limits[i], offset, bytes);
                    write_at(type, big, limits[i], 0xfffe, bytes);
                    write_at(type, big, limits[i], 0xfffffffe, bytes);
                }
}
#endif

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
#ifndef __x86_64__
    at_limits();
#endif
    print("descriptors: %u interrupts delivered\n", delivered);
}
