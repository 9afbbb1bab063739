// SPDX-License-Identifier: Apache-2.0
//
// memory [STEP]: reads and writes where this guest has no memory: around every power of two up to the end of the
// physical address space, around the end of its RAM, and every STEP bytes below 4 GiB, in every width, by MOV, XCHG and
// string instructions. What nobody has reads as ones and keeps nothing; what keeps what was written would be someone
// else's memory.

#include "../lib/guest.h"

static u32 touched;

static bool device(u64 at) {
    return (at >= 0xc0000000 && at < 0xe0100000) || (at >= 0xfec00000 && at < 0xfec01000) ||
           (at >= LAPIC && at < LAPIC + PAGE);
}

static volatile u8 *at_physical(u64 at) {
#ifdef __x86_64__
    if (at >> 32) {
        ((u64 *)(tables + 0x2000))[WINDOW >> 21] = (at & ~0x1fffffull) | 0x87;
        asm volatile("invlpg (%0)" : : "r"((word)WINDOW) : "memory");
        return (volatile u8 *)(WINDOW + (at & 0x1fffff));
    }
#endif
    return (volatile u8 *)(word)at;
}

#define TOUCH(type, address)                                           \
    do {                                                               \
        volatile type *cell = (volatile type *)(address);              \
        type before = *cell;                                           \
        *cell = (type)0x5a5a5a5a5a5a5a5aull;                           \
        type after = *cell;                                            \
        if (before != (type)~0ull || after != (type)~0ull)             \
            fail("%X holds %X, then %X", at, (u64)before, (u64)after); \
    } while (0)

static void touch(u64 at, bool all) {
    volatile u8 *p = at_physical(at);

    if (at < ram || device(at))
        return;
    touched++;
    TOUCH(u32, p);
    if (!all)
        return;
    TOUCH(u8, p);
    TOUCH(u16, p);
#ifdef __x86_64__
    TOUCH(u64, p);
#endif
    u32 value = 0x12345678;
    asm volatile("xchg %0, (%1)" : "+r"(value) : "r"(p) : "memory");
    if (value != 0xffffffff)
        fail("XCHG at %X gave %x", at, value);
    asm volatile("lock incl (%0)" : : "r"(p) : "memory");
    static u32 buffer[64];
    word count = 4, from = (word)p, to = (word)buffer;
    asm volatile("rep movsl" : "+c"(count), "+S"(from), "+D"(to) : : "memory");
    count = 4, from = (word)buffer, to = (word)p;
    asm volatile("rep movsl" : "+c"(count), "+S"(from), "+D"(to) : : "memory");
    count = 3, to = (word)p;
    asm volatile("rep stosb" : "+c"(count), "+D"(to) : "a"(0) : "memory");
    if (buffer[0] != 0xffffffff)
        fail("MOVS at %X gave %x", at, buffer[0]);
}

ATTACK(memory) {
    u64 step = ARGUMENT(0, 0x201000);
    u32 leaf[4];
    unsigned bits = 32;

    touched = 0;
    cpuid(0x80000008, 0, leaf);
    if (sizeof(word) == 8)
        bits = leaf[0] & 0xff;
    for (unsigned bit = 12; bit < bits; bit++) {
        touch(1ull << bit, true);
        touch((1ull << bit) - PAGE, true);
        touch((1ull << bit) + PAGE, true);
        touch((1ull << bit) | (1ull << (bit - 1)), true);
    }
    if (bits > 32)
        touch((1ull << bits) - 16, true);
    touch(ram, true);
    touch(ram + PAGE - 16, true);
    for (u64 at = ram; at < (1ull << 32); at += step)
        touch(at & ~15ull, false);
    print("memory: %u addresses, %u bits\n", touched, bits);
}
