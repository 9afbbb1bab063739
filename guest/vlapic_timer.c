// SPDX-License-Identifier: Apache-2.0
//
// The virtual local APIC's timer. It counts nanoseconds, before its divider. A running timer is one absolute deadline in
// guest TSC ticks; the count that the guest reads is computed from it. Invariant: a count that was started with n reads
// n or (2^-28 of it) less, never 0 before its deadline and 0 from then on (one-shot). Follows the SDM, "APIC Timer".

#include "guest/vlapic.h"

// 100 us: a period too short for the machine must not cost other domains their time.
#define PERIOD_MIN_COUNTS 100000u
// 4 ms: how long a periodic timer rests whose last interrupt was not taken. Its vCPU may sleep, and is charged nothing.
#define UNTAKEN_COUNTS 4000000u

/// The divider as a shift: encodings 0..6 divide by 2..128, 7 by 1.
static unsigned divide_shift(const struct vlapic *v) {
    u32 divide = *vlapic_reg(v, LAPIC_DIVIDE), code = (divide & 3) | (divide >> 1 & 4);

    return (code + 1) & 7;
}

// Of at most 39 bits, which leaves 25 for the frequency.
static u64 ns_to_tsc(u64 ns) { return ns * tsc_khz / 1000000 + 1; }

static u32 mode(const struct vlapic *v) { return *vlapic_reg(v, LAPIC_LVT_TIMER) & LVT_TIMER_MODE; }

// How long `counts` take; a periodic timer's are stretched.
static u64 duration(const struct vlapic *v, u32 counts) {
    u64 least = mode(v) == LVT_TIMER_PERIODIC ? PERIOD_MIN_COUNTS : 0;

    return ns_to_tsc(MAX((u64)counts << divide_shift(v), least));
}

static u64 period(const struct vlapic *v) { return duration(v, *vlapic_reg(v, LAPIC_INITIAL)); }

u32 vlapic_timer_count(const struct vlapic *v, u64 now) {
    u64 left;

    if (!v->deadline || mode(v) == LVT_TIMER_DEADLINE)
        return 0;
    if (now >= v->deadline && mode(v) != LVT_TIMER_PERIODIC)
        return 0;
    if (now >= v->deadline)
        left = period(v) - (now - v->deadline) % period(v);
    else if (mode(v) == LVT_TIMER_PERIODIC)
        left = (v->deadline - now - 1) % period(v) + 1;
    else
        left = v->deadline - now;
    u64 full = tsc_to_ns(left) >> divide_shift(v);
    return (u32)MIN(full + 1, *vlapic_reg(v, LAPIC_INITIAL)); // and the one that is running
}

static void write_lvt(struct vlapic *v, u32 entry, u64 now) {
    vlapic_timer_fire(v, now);
    if ((mode(v) ^ entry) & LVT_TIMER_DEADLINE)
        v->deadline = *vlapic_reg(v, LAPIC_INITIAL) = 0;
    *vlapic_reg(v, LAPIC_LVT_TIMER) = entry;
}

void vlapic_timer_write(struct vlapic *v, u32 reg, u32 value, u64 now) {
    u32 left = reg == LAPIC_INITIAL ? value : vlapic_timer_count(v, now);

    if (reg == LAPIC_LVT_TIMER) {
        write_lvt(v, value, now);
    } else if (mode(v) != LVT_TIMER_DEADLINE) {
        *vlapic_reg(v, reg) = value;
        v->deadline = left ? now + duration(v, left) : 0;
    } else if (reg == LAPIC_DIVIDE) {
        *vlapic_reg(v, reg) = value;
    }
}

// Half the range is more than any TSC gets through; the caller may add its offset.
u64 vlapic_timer_deadline(const struct vlapic *v) {
    bool never = *vlapic_reg(v, LAPIC_LVT_TIMER) & LVT_MASKED || v->deadline >> 63;

    return never ? 0 : v->deadline;
}

bool vlapic_timer_fire(struct vlapic *v, u64 now) {
    if (!v->deadline || now < v->deadline)
        return false;
    u32 entry = *vlapic_reg(v, LAPIC_LVT_TIMER);
    bool masked = entry & LVT_MASKED, fresh = !masked && vlapic_accept(v, (u8)entry, false);
    u64 rest = masked || fresh ? 0 : ns_to_tsc(UNTAKEN_COUNTS);
    if (mode(v) == LVT_TIMER_PERIODIC)
        v->deadline += ((now - v->deadline + rest) / period(v) + 1) * period(v);
    else
        v->deadline = 0;
    return fresh;
}

u64 vlapic_get_tsc_deadline(const struct vlapic *v, u64 now) {
    return mode(v) == LVT_TIMER_DEADLINE && v->deadline > now ? v->deadline : 0;
}

struct vlapic_effect vlapic_set_tsc_deadline(struct vlapic *v, u64 value) {
    if (mode(v) != LVT_TIMER_DEADLINE)
        return (struct vlapic_effect){0};
    v->deadline = value;
    return (struct vlapic_effect){.timer = true};
}
