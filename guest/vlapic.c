// SPDX-License-Identifier: Apache-2.0
//
// The virtual local APIC's core (see vlapic.h): acceptance and priority of interrupts, local sources, destinations,
// and the mode set by IA32_APIC_BASE. The timer is in vlapic_timer.c, the register interfaces in vlapic_register.c.

#include "guest/vlapic.h"

#define VERSION        (0x14u | (LAPIC_LVT_ERROR - LAPIC_LVT_TIMER) << 16)

#define DFR_FLAT       0xfu
#define DFR_CLUSTER    0x0u

#define X2APIC_LDR(id) (((id) >> 4) << 16 | 1u << ((id)&15))

// The highest vector in IRR or ISR, none of which is above `limit`; 0: there is none, for no vector below 16 ever gets there.
static inline __attribute__((always_inline)) u8 highest(const struct vlapic *v, unsigned reg,
                                                        u8 limit) {
    const u32 *first = vlapic_reg(v, reg), *word = vlapic_reg(v, reg + limit / 32);

    while (!*word && word > first)
        word -= 4;
    return *word ? (u8)((word - first) * 8 + 31 - __builtin_clz(*word)) : 0;
}

static u32 *word_of(const struct vlapic *v, unsigned reg, u8 vector) {
    return vlapic_reg(v, reg + vector / 32);
}

static u32 bit_of(u8 vector) { return 1u << vector % 32; }

// The registers that the mode decides.
static void identify(struct vlapic *v) {
    *vlapic_reg(v, LAPIC_ID) = vlapic_x2apic(v) ? v->id : v->id << 24;
    if (vlapic_x2apic(v))
        *vlapic_reg(v, LAPIC_LDR) = X2APIC_LDR(v->id);
    v->changed = v->reconfigured = true;
}

void vlapic_reset(struct vlapic *v) {
    memset(v->page, 0, PAGE_SIZE);
    *vlapic_reg(v, LAPIC_VERSION) = VERSION;
    *vlapic_reg(v, LAPIC_DFR) = 0xffffffff;
    *vlapic_reg(v, LAPIC_SVR) = 0xff;
    for (unsigned reg = LAPIC_LVT_TIMER; reg <= LAPIC_LVT_ERROR; reg++)
        *vlapic_reg(v, reg) = LVT_MASKED;
    identify(v);
    v->deadline = v->irr = v->isr = 0;
    v->moved = true;
}

void vlapic_init(struct vlapic *v, void *page, u32 id, bool bsp) {
    *v = (struct vlapic){
        .page = page,
        .id = id,
        .apic_base = VLAPIC_BASE_DEFAULT | APIC_BASE_ENABLE | (bsp ? APIC_BASE_BSP : 0),
    };
    vlapic_reset(v);
}

bool vlapic_accept(struct vlapic *v, u8 vector, bool level) {
    u32 bit = bit_of(vector), *irr = word_of(v, LAPIC_IRR, vector),
        *tmr = word_of(v, LAPIC_TMR, vector);

    if (vector < 16 || !vlapic_on(v) || !(*vlapic_reg(v, LAPIC_SVR) & SVR_ENABLED))
        return false;
    if (!(*tmr & bit) == level) {
        *tmr ^= bit;
        v->reconfigured = true;
    }
    bool fresh = !(*irr & bit);
    *irr |= bit;
    v->irr = (u8)MAX(v->irr, vector);
    v->changed = true;
    return fresh;
}

// The processor priority while `in_service` (0: none) is the highest vector in service.
static u32 priority(const struct vlapic *v, u32 in_service) {
    u32 tpr = *vlapic_reg(v, LAPIC_TPR);

    return (tpr & 0xf0) >= (in_service & 0xf0) ? tpr : in_service & 0xf0;
}

u32 vlapic_ppr(const struct vlapic *v) { return priority(v, highest(v, LAPIC_ISR, 0xff)); }

void vlapic_look(struct vlapic *v) {
    v->irr = highest(v, LAPIC_IRR, 0xff);
    v->isr = highest(v, LAPIC_ISR, 0xff);
}

int vlapic_pending(const struct vlapic *v) {
    return (v->irr & 0xf0) > (priority(v, v->isr) & 0xf0) ? v->irr : -1;
}

void vlapic_ack(struct vlapic *v, u8 vector) {
    *word_of(v, LAPIC_IRR, vector) &= ~bit_of(vector);
    *word_of(v, LAPIC_ISR, vector) |= bit_of(vector);
    v->irr = highest(v, LAPIC_IRR, vector);
    v->isr = vector;
}

void vlapic_unack(struct vlapic *v, u8 vector) {
    *word_of(v, LAPIC_ISR, vector) &= ~bit_of(vector);
    *word_of(v, LAPIC_IRR, vector) |= bit_of(vector);
    vlapic_look(v);
    v->changed = v->moved = true;
}

struct vlapic_effect vlapic_eoi(struct vlapic *v) {
    u8 vector = highest(v, LAPIC_ISR, 0xff);

    if (!vector)
        return (struct vlapic_effect){0};
    *word_of(v, LAPIC_ISR, vector) &= ~bit_of(vector);
    v->isr = highest(v, LAPIC_ISR, vector);
    v->changed = v->moved = true;
    bool level = *word_of(v, LAPIC_TMR, vector) & bit_of(vector);
    return (struct vlapic_effect){.eoi = level, .eoi_vector = vector};
}

static bool match_xapic_logical(const struct vlapic *v, u32 dest) {
    u32 ldr = *vlapic_reg(v, LAPIC_LDR) >> 24, model = *vlapic_reg(v, LAPIC_DFR) >> 28;

    if (dest > 0xff)
        return false;
    if (model == DFR_FLAT)
        return dest & ldr;
    if (model != DFR_CLUSTER)
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
    u32 ldr = *vlapic_reg(v, LAPIC_LDR);
    return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff);
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
    identify(v);
    return (struct vlapic_effect){.timer = true};
}
