// SPDX-License-Identifier: Apache-2.0
//
// The ACPI PM timer: 24 bits (or more, which are not used) at 3.579545 MHz, on every machine whose
// FADT has it. Follows the ACPI specification, "Power Management Timer".

#include "drivers/timer.h"

#include "arch/acpi.h"
#include "arch/x86.h"

#define PM_HZ     3579545ull
#define PM_MASK   0xffffffu
#define POLLS_MAX 20000000u // a dead clock never gets there
#define ATTEMPTS  3u

static u32 clock_read(void) { return inl(acpi.pm_timer_port) & PM_MASK; }

// One measurement between two ticks of the clock. *blur: counts that passed between the last two
// readings of the clock, the uncertainty. Returns kHz, 0 if the clock stands still.
static u64 measure(u64 (*counter)(void), u32 wanted, u64 *blur) {
    u32 start = clock_read(), now = start;
    u64 first, before, last;
    unsigned polls = 0;
    while (now == start && polls++ < POLLS_MAX)
        now = clock_read();
    first = counter();
    start = now;
    do {
        before = counter();
        now = clock_read();
    } while (((now - start) & PM_MASK) < wanted && polls++ < POLLS_MAX);
    last = counter();
    *blur = last - before;
    return polls < POLLS_MAX ? (last - first) * PM_HZ / ((now - start) & PM_MASK) / 1000 : 0;
}

u64 timer_measure(u64 (*counter)(void), u64 us) {
    u64 best_blur = ~0ull, result = 0, blur;
    for (unsigned i = 0; acpi.pm_timer_port && i < ATTEMPTS; i++) {
        u64 khz = measure(counter, (u32)(us * PM_HZ / 1000000), &blur);
        if (khz && blur < best_blur) {
            best_blur = blur;
            result = khz;
        }
    }
    return result;
}
