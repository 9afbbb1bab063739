// SPDX-License-Identifier: Apache-2.0
//
// Two clocks of known frequency: the ACPI PM timer (24 bits) and the PIT's channel 2, which is read through its gate at
// port 0x61 and disturbs no interrupt. Follows the ACPI specification, "Power Management Timer".

#include "drivers/timer.h"

#include "arch/acpi.h"
#include "arch/x86.h"

#define PM_HZ 3579545ull
#define PM_MASK 0xffffffu
#define PIT_HZ 1193182ull
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND 0x43
#define PIT_GATE 0x61       // bit 0: gate of channel 2, bit 1: speaker
#define PIT_LATCH2 0x80     // latch the count of channel 2
#define PIT_MODE0 0xb0      // channel 2, both bytes, counts down once
#define POLLS_MAX 20000000u // a dead clock never gets there
#define ATTEMPTS 3u

static bool using_pit;

static u32 pm_read(void)
{
    return inl((u16)acpi.pm_timer_port) & PM_MASK;
}

static void pit_start(void)
{
    outb(PIT_GATE, (u8)((inb(PIT_GATE) & ~3u) | 1));
    outb(PIT_COMMAND, PIT_MODE0);
    outb(PIT_CHANNEL2, 0xff);
    outb(PIT_CHANNEL2, 0xff);
}

static u32 pit_read(void)
{
    outb(PIT_COMMAND, PIT_LATCH2);
    u32 low = inb(PIT_CHANNEL2);
    return 0xffff - (low | (u32)inb(PIT_CHANNEL2) << 8);
}

static bool pm_alive(void)
{
    if (!acpi.pm_timer_port)
        return false;
    u32 first = pm_read();
    for (unsigned i = 0; i < 10000; i++)
        if (pm_read() != first)
            return true;
    return false;
}

// One measurement. The clock is read at a tick's edge at both ends. *blur: counts that passed between the last two
// readings of the clock, the uncertainty. Returns ticks of the clock, 0 if it stood still.
static u64 measure(u64 (*counter)(void), u32 (*clock)(void), u32 mask, u32 ticks, u64 *counted, u64 *blur)
{
    u32 start = clock(), now = start;
    u64 first, last, before;
    unsigned polls = 0;
    while (now == start && polls++ < POLLS_MAX)
        now = clock();
    first = counter();
    start = now;
    do {
        before = counter();
        now = clock();
    } while (((now - start) & mask) < ticks && polls++ < POLLS_MAX);
    last = counter();
    *counted = last - first;
    *blur = last - before;
    return polls < POLLS_MAX ? (now - start) & mask : 0;
}

u64 timer_measure(u64 (*counter)(void), u64 us, u64 *ticks)
{
    using_pit = !pm_alive();
    u64 hz = using_pit ? PIT_HZ : PM_HZ, best_blur = ~0ull, result = 0;
    u32 wanted = (u32)(us * hz / 1000000);
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        u64 counted, blur, passed;
        if (using_pit)
            pit_start();
        passed = measure(counter, using_pit ? pit_read : pm_read, using_pit ? 0xffff : PM_MASK, wanted, &counted, &blur);
        if (passed && blur < best_blur) {
            best_blur = blur;
            *ticks = counted;
            result = passed * 1000000000 / hz;
        }
    }
    return result;
}

const char *timer_name(void)
{
    return using_pit ? "PIT" : "ACPI PM timer";
}
