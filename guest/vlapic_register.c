// SPDX-License-Identifier: Apache-2.0
//
// The virtual local APIC's registers through both interfaces: xAPIC memory, x2APIC MSRs. One table says which
// interface has which register and which bits can be written. Follows the SDM, "Local APIC" and "Extended XAPIC
// (x2APIC)".

#include "guest/vlapic.h"
#include "guest/vlapic_bits.h"

#define VERSION (0x14u | (LVT_COUNT - 1) << 16)

enum { // register = xAPIC offset / 16 = x2APIC MSR - 0x800
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT_TIMER = 0x32,
    REG_LVT_ERROR = 0x37,
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
    REG_COUNT
};

enum { R = 1, W = 2, XR = 4, XW = 8, RW = R | W, ALL = R | W | XR | XW }; // X: as an x2APIC MSR

static const struct vlapic_register {
    u8 access;
    u32 writable; // bits that keep what is written
    u32 status;   // read-only bits whose writing is ignored, even by WRMSR
} registers[REG_COUNT] = {
    [REG_ID] = {R | XR, 0, 0},
    [REG_VERSION] = {R | XR, 0, 0},
    [REG_TPR] = {ALL, 0xff, 0},
    [REG_PPR] = {R | XR, 0, 0},
    [REG_EOI] = {W | XW, 0, 0},
    [REG_LDR] = {RW | XR, 0xff000000, 0},
    [REG_DFR] = {RW, 0xf0000000, 0},
    [REG_SVR] = {ALL, 0x3ff, 0},
    [REG_ISR... REG_IRR + 7] = {R | XR, 0, 0},
    [REG_ESR] = {ALL, 0, 0},
    [REG_ICR] = {ALL, 0x000ccfff, 0},
    [REG_ICR_HIGH] = {RW, 0xff000000, 0},
    [REG_LVT_TIMER] = {ALL, 0x700ff, LVT_STATUS},
    [REG_LVT_TIMER + LVT_THERMAL... REG_LVT_TIMER + LVT_PERF] = {ALL, 0x107ff, LVT_STATUS},
    [REG_LVT_TIMER + LVT_LINT0... REG_LVT_TIMER +
        LVT_LINT1] = {ALL, 0x1a7ff, LVT_STATUS | LVT_REMOTE_IRR},
    [REG_LVT_ERROR] = {ALL, 0x100ff, LVT_STATUS},
    [REG_INITIAL] = {ALL, 0xffffffff, 0},
    [REG_CURRENT] = {R | XR, 0, 0},
    [REG_DIVIDE] = {ALL, 0x0b, 0},
    [REG_SELF_IPI] = {XW, 0xff, 0},
};

static bool has(u32 reg, u8 access) { return reg < REG_COUNT && (registers[reg].access & access); }

// One of the eight 32-bit parts of a bitmap.
static u32 part(const u64 map[4], u32 reg) { return (u32)(map[reg >> 1 & 3] >> (reg & 1) * 32); }

static u32 register_read(const struct vlapic *v, u32 reg, u64 now) {
    switch (reg) {
    case REG_ID: return vlapic_x2apic(v) ? v->id : v->id << 24;
    case REG_VERSION: return VERSION;
    case REG_TPR: return v->tpr;
    case REG_PPR: return vlapic_ppr(v);
    case REG_LDR: return v->ldr;
    case REG_DFR: return v->dfr;
    case REG_SVR: return v->svr;
    case REG_ISR ... REG_ISR + 7: return part(v->isr, reg);
    case REG_TMR ... REG_TMR + 7: return part(v->tmr, reg);
    case REG_IRR ... REG_IRR + 7: return part(v->irr, reg);
    case REG_ESR: return v->esr;
    case REG_ICR: return (u32)v->icr;
    case REG_ICR_HIGH: return (u32)(v->icr >> 32);
    case REG_LVT_TIMER ... REG_LVT_ERROR: return v->lvt[reg - REG_LVT_TIMER];
    case REG_INITIAL: return v->initial;
    case REG_CURRENT: return vlapic_timer_count(v, now);
    case REG_DIVIDE: return v->divide;
    default: return 0;
    }
}

// Sends what the ICR says.
static void send(struct vlapic *v, struct vlapic_effect *effect) {
    u32 low = (u32)v->icr, dest = (u32)(v->icr >> 32);
    struct apic_message m = {.dest = dest,
                             .vector = (u8)low,
                             .mode = low >> 8 & 7,
                             .shorthand = low >> 18 & 3,
                             .logical = low & 0x800};
    bool fixed = m.mode == APIC_FIXED || m.mode == APIC_LOWEST;
    bool deassert = !(low & 0x4000) && (low & 0x8000);

    if (!vlapic_x2apic(v))
        m.dest = dest >> 24 == 0xff ? VLAPIC_BROADCAST : dest >> 24;
    if (m.mode == APIC_RESERVED || m.mode == APIC_EXTINT || (m.mode == APIC_INIT && deassert))
        return;
    if (fixed && m.vector < 16) {
        vlapic_error(v, ESR_SEND_ILLEGAL);
    } else if (m.shorthand != APIC_TO_SELF) {
        effect->send = true;
        effect->message = m;
    } else if (fixed) {
        vlapic_accept(v, m.vector, false);
    }
}

static void write_lvt(struct vlapic *v, u32 reg, u32 value, u64 now) {
    if (!(v->svr & SVR_ENABLED))
        value |= LVT_MASKED;
    if (reg == REG_LVT_TIMER)
        vlapic_timer_set_lvt(v, value, now);
    v->lvt[reg - REG_LVT_TIMER] = value;
}

static void write_svr(struct vlapic *v, u32 value) {
    v->svr = value;
    for (unsigned i = 0; i < LVT_COUNT && !(value & SVR_ENABLED); i++)
        v->lvt[i] |= LVT_MASKED;
}

// Writes a register; `value` has only its writable bits.
static struct vlapic_effect register_write(struct vlapic *v, u32 reg, u32 value, u64 now) {
    struct vlapic_effect effect = {0};

    switch (reg) {
    case REG_TPR: v->tpr = value; break;
    case REG_EOI: return vlapic_eoi(v);
    case REG_LDR: v->ldr = value; break;
    case REG_DFR: v->dfr = value | 0x0fffffff; break;
    case REG_SVR: write_svr(v, value); break;
    case REG_ESR:
        v->esr = v->esr_new;
        v->esr_new = 0;
        break;
    case REG_ICR:
        v->icr = (v->icr & ~0xffffffffull) | value;
        send(v, &effect);
        break;
    case REG_ICR_HIGH: v->icr = (u64)value << 32 | (u32)v->icr; break;
    case REG_LVT_TIMER ... REG_LVT_ERROR: write_lvt(v, reg, value, now); break;
    case REG_INITIAL: vlapic_timer_set_initial(v, value, now); break;
    case REG_DIVIDE: vlapic_timer_set_divide(v, value, now); break;
    case REG_SELF_IPI: vlapic_accept(v, (u8)value, false); break;
    default: break;
    }
    effect.timer = reg == REG_SVR || reg == REG_LVT_TIMER || reg >= REG_INITIAL;
    return effect;
}

u64 vlapic_read(struct vlapic *v, u32 offset, unsigned bytes, u64 now) {
    u32 byte = offset & 15;

    if (!has(offset >> 4, R)) {
        vlapic_error(v, ESR_ILLEGAL_REGISTER);
        return 0;
    }
    if (byte + bytes > 4 || bytes == 0)
        return 0;
    return register_read(v, offset >> 4, now) >> byte * 8 & (BIT(bytes * 8) - 1);
}

struct vlapic_effect vlapic_write(struct vlapic *v, u32 offset, unsigned bytes, u32 value,
                                  u64 now) {
    if (!has(offset >> 4, W))
        vlapic_error(v, ESR_ILLEGAL_REGISTER);
    else if (!(offset & 15) && bytes == 4)
        return register_write(v, offset >> 4, value & registers[offset >> 4].writable, now);
    return (struct vlapic_effect){0};
}

bool vlapic_msr_read(struct vlapic *v, u32 msr, u64 now, u64 *value) {
    u32 reg = msr - MSR_X2APIC_BASE;

    if (!vlapic_x2apic(v) || !has(reg, XR))
        return false;
    *value = reg == REG_ICR ? v->icr : register_read(v, reg, now);
    return true;
}

struct vlapic_effect vlapic_msr_write(struct vlapic *v, u32 msr, u64 value, u64 now) {
    u32 reg = msr - MSR_X2APIC_BASE;

    if (!vlapic_x2apic(v) || !has(reg, XW))
        return (struct vlapic_effect){.fault = true};
    u64 legal = registers[reg].writable | registers[reg].status;
    if (reg == REG_ICR)
        legal |= 0xffffffff00000000;
    if (value & ~legal)
        return (struct vlapic_effect){.fault = true};
    if (reg == REG_ICR)
        v->icr = value;
    return register_write(v, reg, (u32)value & registers[reg].writable, now);
}
