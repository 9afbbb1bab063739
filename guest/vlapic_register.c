// SPDX-License-Identifier: Apache-2.0
//
// The virtual local APIC's registers through both interfaces: xAPIC memory, x2APIC MSRs. One table says which
// interface has which register and which bits can be written. Follows the SDM, "Local APIC" and "Extended XAPIC
// (x2APIC)".

#include "guest/vlapic.h"

enum { R = 1, W = 2, XR = 4, XW = 8, RW = R | W, ALL = R | W | XR | XW }; // X: as an x2APIC MSR

static const struct vlapic_register {
    u8 access;
    u32 writable; // bits that keep what is written
    u32 status;   // read-only bits whose writing is ignored, even by WRMSR
} registers[LAPIC_REGISTERS] = {
    [LAPIC_ID] = {R | XR, 0, 0},
    [LAPIC_VERSION] = {R | XR, 0, 0},
    [LAPIC_TPR] = {ALL, 0xff, 0},
    [LAPIC_PPR] = {R | XR, 0, 0},
    [LAPIC_EOI] = {W | XW, 0, 0},
    [LAPIC_LDR] = {RW | XR, 0xff000000, 0},
    [LAPIC_DFR] = {RW, 0xf0000000, 0},
    [LAPIC_SVR] = {ALL, 0x3ff, 0},
    [LAPIC_ISR... LAPIC_IRR + 7] = {R | XR, 0, 0},
    [LAPIC_ESR] = {ALL, 0, 0},
    [LAPIC_ICR] = {ALL, 0x000ccfff, 0},
    [LAPIC_ICR_HIGH] = {RW, 0xff000000, 0},
    [LAPIC_LVT_TIMER] = {ALL, 0x700ff, LVT_STATUS},
    [LAPIC_LVT_TIMER + 1 ... LAPIC_LVT_PERF] = {ALL, 0x107ff, LVT_STATUS},
    [LAPIC_LVT_LINT0... LAPIC_LVT_LINT1] = {ALL, 0x1a7ff, LVT_STATUS | LVT_REMOTE_IRR},
    [LAPIC_LVT_ERROR] = {ALL, 0x100ff, LVT_STATUS},
    [LAPIC_INITIAL] = {ALL, 0xffffffff, 0},
    [LAPIC_CURRENT] = {R | XR, 0, 0},
    [LAPIC_DIVIDE] = {ALL, 0x0b, 0},
    [LAPIC_SELF_IPI] = {XW, 0xff, 0},
};

static bool has(u32 reg, u8 access) {
    return reg < LAPIC_REGISTERS && (registers[reg].access & access);
}

// In the page all are 32 bits wide but the x2APIC's ICR.
static u64 register_read(const struct vlapic *v, u32 reg, u64 now) {
    const u32 *at = vlapic_reg(v, reg);

    switch (reg) {
    case LAPIC_PPR: return vlapic_ppr(v);
    case LAPIC_CURRENT: return vlapic_timer_count(v, now);
    default: return at[0] | (u64)at[1] << 32;
    }
}

// Sends what the ICR says.
static void send(struct vlapic *v, struct vlapic_effect *effect) {
    u32 low = vlapic_reg(v, LAPIC_ICR)[0], dest = vlapic_reg(v, LAPIC_ICR)[1];

    if (!vlapic_x2apic(v)) {
        dest = *vlapic_reg(v, LAPIC_ICR_HIGH) >> 24;
        dest = dest == 0xff ? VLAPIC_BROADCAST : dest;
    }
    struct apic_message m = {.dest = dest,
                             .vector = (u8)low,
                             .mode = low >> 8 & 7,
                             .shorthand = low >> 18 & 3,
                             .logical = low & 0x800};
    bool fixed = m.mode == APIC_FIXED || m.mode == APIC_LOWEST;
    bool deassert = !(low & 0x4000) && (low & 0x8000);
    if (m.mode == APIC_RESERVED || m.mode == APIC_EXTINT || (m.mode == APIC_INIT && deassert) ||
        (fixed && m.vector < 16))
        return;
    if (m.shorthand != APIC_TO_SELF) {
        effect->send = true;
        effect->message = m;
    } else if (fixed) {
        vlapic_accept(v, m.vector, false);
    }
}

// Writes a register; `value` has only its writable bits.
static struct vlapic_effect register_write(struct vlapic *v, u32 reg, u32 value, u64 now) {
    struct vlapic_effect effect = {.timer = reg == LAPIC_SVR || reg == LAPIC_LVT_TIMER ||
                                            reg >= LAPIC_INITIAL};
    bool enabled = *vlapic_reg(v, LAPIC_SVR) & SVR_ENABLED;

    switch (reg) {
    case LAPIC_EOI: return vlapic_eoi(v);
    case LAPIC_SELF_IPI: vlapic_accept(v, (u8)value, false); return effect;
    case LAPIC_DFR: value |= 0x0fffffff; break;
    case LAPIC_LVT_TIMER ... LAPIC_LVT_ERROR: value |= enabled ? 0 : LVT_MASKED; break;
    case LAPIC_TPR: v->changed = true; break;
    case LAPIC_SVR:
        for (u32 lvt = LAPIC_LVT_TIMER; lvt <= LAPIC_LVT_ERROR && !(value & SVR_ENABLED); lvt++)
            *vlapic_reg(v, lvt) |= LVT_MASKED;
    }
    if (reg == LAPIC_LVT_TIMER || reg >= LAPIC_INITIAL)
        vlapic_timer_write(v, reg, value, now);
    else
        *vlapic_reg(v, reg) = value;
    if (reg == LAPIC_ICR)
        send(v, &effect);
    return effect;
}

u64 vlapic_read(struct vlapic *v, u32 offset, unsigned bytes, u64 now) {
    u32 byte = offset & 15;

    if (!has(offset >> 4, R) || byte + bytes > 4 || bytes == 0)
        return 0;
    return register_read(v, offset >> 4, now) >> byte * 8 & (BIT(bytes * 8) - 1);
}

struct vlapic_effect vlapic_write(struct vlapic *v, u32 offset, unsigned bytes, u32 value,
                                  u64 now) {
    if (!has(offset >> 4, W) || offset & 15 || bytes != 4)
        return (struct vlapic_effect){0};
    return register_write(v, offset >> 4, value & registers[offset >> 4].writable, now);
}

bool vlapic_msr_read(struct vlapic *v, u32 msr, u64 now, u64 *value) {
    u32 reg = msr - MSR_X2APIC_BASE;

    if (!vlapic_x2apic(v) || !has(reg, XR))
        return false;
    *value = register_read(v, reg, now);
    return true;
}

struct vlapic_effect vlapic_msr_write(struct vlapic *v, u32 msr, u64 value, u64 now) {
    u32 reg = msr - MSR_X2APIC_BASE;

    if (!vlapic_x2apic(v) || !has(reg, XW))
        return (struct vlapic_effect){.fault = true};
    u64 legal = registers[reg].writable | registers[reg].status;
    if (reg == LAPIC_ICR)
        legal |= 0xffffffff00000000;
    if (value & ~legal)
        return (struct vlapic_effect){.fault = true};
    if (reg == LAPIC_ICR)
        vlapic_reg(v, reg)[1] = (u32)(value >> 32);
    return register_write(v, reg, (u32)value & registers[reg].writable, now);
}
