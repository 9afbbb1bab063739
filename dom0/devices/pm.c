// SPDX-License-Identifier: Apache-2.0
//
// PM1 registers and the PM timer. The timer's value is computed from the time; its overflow status
// is brought up to date when it is looked at, and by a timer of dom0's only while the guest wants
// an interrupt for it. Follows "PM1 Event Registers", "PM1 Control Registers" and "Power Management
// Timer" of the ACPI specification.

#include <string.h>

#include "access.h"
#include "pm.h"

#define TIMER_HZ         3579545u
#define NS               1000000000u

#define PM1_TIMER        0x0001u
#define PM1_GLOBAL       0x0020u
#define PM1_POWER_BUTTON 0x0100u
#define PM1_SLEEP_BUTTON 0x0200u
#define PM1_RTC          0x0400u
// The last two never happen, but Linux wants to be able to enable what it knows.
#define PM1_ALL          (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC)
#define PM1_SCI_ENABLE   0x0001u
#define PM1_SLEEP_TYPE   10u // shift
#define PM1_SLEEP_ENABLE 0x2000u
#define PM1_CONTROL_KEPT 0x1c02u // SLP_TYP and BM_RLD

static uint64_t timer_ticks(const struct pm_state *s) {
    unsigned __int128 ns = host_time_ns() - s->timer_base;
    return (uint64_t)(ns * TIMER_HZ / NS);
}

static uint8_t timer_msb(const struct pm_state *s) { return timer_ticks(s) >> 31 & 1; }

static void update(struct pm *pm) {
    struct pm_state *s = pm->state;
    if (timer_msb(s) != s->timer_msb) {
        s->timer_msb ^= 1;
        s->status |= PM1_TIMER;
    }
    bool level = s->status & s->enable;
    if (level == s->line)
        return;
    s->line = level;
    pm->line(pm->context, level);
}

static void arm(struct pm *pm) {
    if (!(pm->state->enable & PM1_TIMER)) {
        host_timer_cancel(&pm->overflow);
        return;
    }
    uint64_t left = 0x80000000u - (timer_ticks(pm->state) & 0x7fffffffu);
    host_timer_set(&pm->overflow, host_time_ns() + left * NS / TIMER_HZ + 1000);
}

static void overflow(void *context) {
    struct pm *pm = context;
    update(pm);
    arm(pm);
}

void pm_init(struct pm *pm, bool fresh) {
    pm->overflow = (struct host_timer){.handler = overflow, .context = pm};
    if (fresh) {
        memset(pm->state, 0, sizeof(*pm->state));
        pm->state->timer_base = host_time_ns();
    }
    arm(pm);
}

void pm_end(struct pm *pm) { host_timer_cancel(&pm->overflow); }

uint64_t pm_read(struct pm *pm, unsigned offset, unsigned bytes) {
    const struct pm_state *s = pm->state;
    update(pm);
    return access_part(offset, bytes, PM_EVENT, 2, s->status) |
           access_part(offset, bytes, PM_EVENT + 2, 2, s->enable) |
           access_part(offset, bytes, PM_CONTROL, 2, s->control | PM1_SCI_ENABLE) |
           access_part(offset, bytes, PM_TIMER, 4, timer_ticks(s));
}

static void write_control(struct pm *pm, uint16_t value) {
    pm->state->control = value & PM1_CONTROL_KEPT;
    if ((value & PM1_SLEEP_ENABLE) && (value >> PM1_SLEEP_TYPE & 7) == PM_SLEEP_S5)
        pm->power_off(pm->context);
}

void pm_write(struct pm *pm, unsigned offset, unsigned bytes, uint64_t data) {
    struct pm_state *s = pm->state;
    update(pm);
    if (access_touches(offset, bytes, PM_EVENT, 2)) // ones clear
        s->status &= (uint16_t)~access_merge(offset, bytes, PM_EVENT, 2, 0, data);
    if (access_touches(offset, bytes, PM_EVENT + 2, 2)) {
        s->enable = (uint16_t)access_merge(offset, bytes, PM_EVENT + 2, 2, s->enable, data) &
                    PM1_ALL;
        arm(pm);
    }
    if (access_touches(offset, bytes, PM_CONTROL, 2))
        write_control(pm, (uint16_t)access_merge(offset, bytes, PM_CONTROL, 2, s->control, data));
    update(pm);
}

bool pm_power_button(struct pm *pm) {
    pm->state->status |= PM1_POWER_BUTTON;
    update(pm);
    return pm->state->enable & PM1_POWER_BUTTON;
}
