// SPDX-License-Identifier: Apache-2.0
//
// neighbour: the guest that the attacks must not disturb. It fills most of its memory with a pattern, checks it over and
// over, a piece at each tick of its local APIC's periodic timer (10 ms), and between ticks halts. For each key that is
// typed it reports rounds of its memory, what was wrong, ticks, and milliseconds by its TSC.

#include "../lib/guest.h"

#define START 0x400000u // nothing of the image is there
#define PIECE 0x20000u  // checked at a tick

static volatile u32 ticks;
static void tick(struct frame *f) { ticks += f->vector == 0x40; }

static u32 pattern(u32 at) { return (at * 2654435761u) ^ 0xba5a1700; }

ATTACK(neighbour) {
    u32 r[4], at = START, rounds = 0, wrong = 0;

    for (u32 i = START; i < ram; i += 4)
        *(volatile u32 *)(word)i = pattern(i);
    cpuid(0x40000010, 0, r);
    u32 khz = r[0] ? r[0] : 1000000;
    on_interrupt = tick;
    apic_write(0xf0, 0x1ff);
    apic_write(0x3e0, 0xb);            // divide by 1
    apic_write(0x320, 0x20000 | 0x40); // periodic
    // The timer's frequency from the TSC's: how far it counts in a while. Where this guest had to wait
    // meanwhile it counted further: the least is right.
    u32 counted = 0xffffffff;
    u64 start;
    for (u32 i = 0; i < 5; i++) {
        apic_write(0x380, 0xffffffff);
        start = rdtsc();
        while (rdtsc() - start < khz * 2ull)
            asm volatile("pause");
        u32 now = 0xffffffff - apic_read(0x390);
        counted = now < counted ? now : counted;
    }
    apic_write(0x380, counted * 5);
    start = rdtsc();
    ticks = 0;
    print("neighbour: ready, TSC %u kHz\n", khz);
    for (;;) {
        asm volatile("sti; hlt; cli");
        for (u32 end = at + PIECE; at < end && at < ram; at += 4)
            wrong += *(volatile u32 *)(word)at != pattern(at);
        if (at >= ram)
            at = START, rounds++;
        if (typed() >= 0) {
            u64 ms = rdtsc() - start, divided = 0;
            for (u64 unit = (u64)khz << 30; unit >= khz; unit >>= 1) { // ms / khz
                divided <<= 1;
                if (ms >= unit)
                    ms -= unit, divided |= 1;
            }
            print("neighbour: %u rounds, %u wrong, %u ticks in %U ms\n", rounds, wrong, ticks,
                  divided);
        }
    }
}
