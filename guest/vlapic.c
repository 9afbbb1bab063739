// SPDX-License-Identifier: Apache-2.0
//
// The virtual local APIC's core (see vlapic.h): acceptance and priority of interrupts, local sources, destinations,
// and the mode set by IA32_APIC_BASE. The timer is in vlapic_timer.c, the register interfaces in vlapic_register.c.

#include "guest/vlapic.h"
#include "guest/vlapic_bits.h"

#define BITMAP_WORD(vector) ((vector) >> 6)
#define BITMAP_BIT(vector)  BIT((vector)&63)

static int highest(const u64 map[4]) {
    for (int word = 3; word >= 0; word--)
        if (map[word])
            return word * 64 + 63 - __builtin_clzll(map[word]);
    return -1;
}

void vlapic_reset(struct vlapic *v) {
    struct vlapic fresh = {
        .apic_base = v->apic_base,
        .id = v->id,
        .dfr = 0xffffffff,
        .svr = 0xff,
        .counts_per_tsc = v->counts_per_tsc,
        .tsc_per_count = v->tsc_per_count,
    };

    for (unsigned i = 0; i < LVT_COUNT; i++)
        fresh.lvt[i] = LVT_MASKED;
    if (vlapic_x2apic(v))
        fresh.ldr = X2APIC_LDR(v->id);
    *v = fresh;
}

void vlapic_init(struct vlapic *v, u32 id, bool bsp, u32 tsc_khz) {
    *v = (struct vlapic){
        .id = id, .apic_base = VLAPIC_BASE_DEFAULT | APIC_BASE_ENABLE | (bsp ? APIC_BASE_BSP : 0)};
    vlapic_timer_init(v, tsc_khz);
    vlapic_reset(v);
}

void vlapic_error(struct vlapic *v, u32 error) {
    // Once per error and ESR write, or an error vector that is itself illegal would recurse.
    if (v->esr_new & error)
        return;
    v->esr_new |= error;
    if (!(v->lvt[LVT_ERROR] & LVT_MASKED))
        vlapic_accept(v, (u8)v->lvt[LVT_ERROR], false);
}

bool vlapic_accept(struct vlapic *v, u8 vector, bool level) {
    if (!vlapic_on(v))
        return false;
    if (vector < 16) {
        vlapic_error(v, ESR_RECEIVE_ILLEGAL);
        return false;
    }
    if (!(v->svr & SVR_ENABLED))
        return false;

    u64 bit = BITMAP_BIT(vector), *irr = &v->irr[BITMAP_WORD(vector)],
        *tmr = &v->tmr[BITMAP_WORD(vector)];
    bool fresh = !(*irr & bit);

    *irr |= bit;
    *tmr = level ? *tmr | bit : *tmr & ~bit;
    return fresh;
}

u32 vlapic_ppr(const struct vlapic *v) {
    int in_service = highest(v->isr);

    if (in_service < 0 || (v->tpr & 0xf0) >= ((u32)in_service & 0xf0))
        return v->tpr;
    return (u32)in_service & 0xf0;
}

int vlapic_pending(const struct vlapic *v) {
    int vector = highest(v->irr);

    if (vector < 0 || ((u32)vector & 0xf0) <= (vlapic_ppr(v) & 0xf0))
        return -1;
    return vector;
}

void vlapic_ack(struct vlapic *v, u8 vector) {
    v->irr[BITMAP_WORD(vector)] &= ~BITMAP_BIT(vector);
    v->isr[BITMAP_WORD(vector)] |= BITMAP_BIT(vector);
}

void vlapic_unack(struct vlapic *v, u8 vector) {
    v->isr[BITMAP_WORD(vector)] &= ~BITMAP_BIT(vector);
    v->irr[BITMAP_WORD(vector)] |= BITMAP_BIT(vector);
}

struct vlapic_effect vlapic_eoi(struct vlapic *v) {
    int vector = highest(v->isr);

    if (vector < 0)
        return (struct vlapic_effect){0};
    v->isr[BITMAP_WORD(vector)] &= ~BITMAP_BIT(vector);
    bool level = v->tmr[BITMAP_WORD(vector)] & BITMAP_BIT(vector);
    return (struct vlapic_effect){.eoi = level, .eoi_vector = (u8)vector};
}

static bool match_xapic_logical(const struct vlapic *v, u32 dest) {
    u32 ldr = v->ldr >> 24;

    if (dest > 0xff)
        return false;
    if (v->dfr >> 28 == DFR_FLAT)
        return dest & ldr;
    if (v->dfr >> 28 != DFR_CLUSTER)
        return false;
    return (dest >> 4 == ldr >> 4 || dest >> 4 == 0xf) && (dest & ldr & 0xf);
}

bool vlapic_match(const struct vlapic *v, u32 dest, bool logical) {
    if (!vlapic_on(v))
        return false;
    if (dest == VLAPIC_BROADCAST)
        return true;
    if (!logical)
        return dest == v->id || (!vlapic_x2apic(v) && dest == 0xff);
    if (!vlapic_x2apic(v))
        return match_xapic_logical(v, dest);
    return dest >> 16 == v->ldr >> 16 && (dest & v->ldr & 0xffff);
}

/// Legal transitions: off -> xAPIC -> x2APIC -> off, xAPIC -> off, and each mode to itself.
static bool mode_change_legal(u64 old, u64 next) {
    bool was_on = old & APIC_BASE_ENABLE, was_x2 = old & APIC_BASE_X2APIC;
    bool on = next & APIC_BASE_ENABLE, x2 = next & APIC_BASE_X2APIC;

    if (x2)
        return on && was_on;
    return !(on && was_x2);
}

struct vlapic_effect vlapic_base_write(struct vlapic *v, u64 value, unsigned phys_bits) {
    u64 allowed = (BIT(phys_bits) - 1) &
                  (PAGE_MASK | APIC_BASE_BSP | APIC_BASE_X2APIC | APIC_BASE_ENABLE);
    u64 old = v->apic_base;

    if ((value & ~allowed) || !mode_change_legal(old, value))
        return (struct vlapic_effect){.fault = true};
    if (value == old)
        return (struct vlapic_effect){0};
    v->apic_base = value;
    if ((old & APIC_BASE_ENABLE) && !(value & APIC_BASE_ENABLE))
        vlapic_reset(v);
    if ((value & ~old) & APIC_BASE_X2APIC) {
        v->ldr = X2APIC_LDR(v->id);
        v->icr = (u32)v->icr;
    }
    return (struct vlapic_effect){.timer = true};
}
