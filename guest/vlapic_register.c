// SPDX-License-Identifier: Apache-2.0
//
// The virtual local APIC's registers through both interfaces: xAPIC memory, x2APIC MSRs. One table says which
// interface has which register and which bits can be written. Follows the SDM, "Local APIC" and "Extended XAPIC
// (x2APIC)".

#include "guest/vlapic.h"
#include "guest/vlapic_bits.h"

#define X2APIC_MSR_FIRST 0x800u
#define VERSION (0x14u | (LVT_COUNT - 1) << 16)

enum { // register = xAPIC offset / 16 = MSR - 0x800
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
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
    REG_LVT_THERMAL = 0x33,
    REG_LVT_PERF = 0x34,
    REG_LVT_LINT0 = 0x35,
    REG_LVT_LINT1 = 0x36,
    REG_LVT_ERROR = 0x37,
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
    REG_COUNT = 0x40,
};

enum { R = 1, W = 2, XR = 4, XW = 8 }; // xAPIC read and write, x2APIC read and write

static const struct vlapic_register {
    u8 access;
    u32 writable;  // bits that keep what is written
    u32 read_only; // bits whose writing is ignored, even by WRMSR
} registers[REG_COUNT] = {
    [REG_ID] = {R | XR, 0, 0},
    [REG_VERSION] = {R | XR, 0, 0},
    [REG_TPR] = {R | W | XR | XW, 0xff, 0},
    [REG_APR] = {R, 0, 0},
    [REG_PPR] = {R | XR, 0, 0},
    [REG_EOI] = {W | XW, 0, 0},
    [REG_LDR] = {R | W | XR, 0xff000000, 0},
    [REG_DFR] = {R | W, 0xf0000000, 0},
    [REG_SVR] = {R | W | XR | XW, 0x3ff, 0},
    [REG_ISR ... REG_ISR + 7] = {R | XR, 0, 0},
    [REG_TMR ... REG_TMR + 7] = {R | XR, 0, 0},
    [REG_IRR ... REG_IRR + 7] = {R | XR, 0, 0},
    [REG_ESR] = {R | W | XR | XW, 0, 0},
    [REG_ICR] = {R | W | XR | XW, 0x000ccfff, 0},
    [REG_ICR_HIGH] = {R | W, 0xff000000, 0},
    [REG_LVT_TIMER] = {R | W | XR | XW, 0x700ff, LVT_STATUS},
    [REG_LVT_THERMAL] = {R | W | XR | XW, 0x107ff, LVT_STATUS},
    [REG_LVT_PERF] = {R | W | XR | XW, 0x107ff, LVT_STATUS},
    [REG_LVT_LINT0] = {R | W | XR | XW, 0x1a7ff, LVT_STATUS | LVT_REMOTE_IRR},
    [REG_LVT_LINT1] = {R | W | XR | XW, 0x1a7ff, LVT_STATUS | LVT_REMOTE_IRR},
    [REG_LVT_ERROR] = {R | W | XR | XW, 0x100ff, LVT_STATUS},
    [REG_INITIAL] = {R | W | XR | XW, 0xffffffff, 0},
    [REG_CURRENT] = {R | XR, 0, 0},
    [REG_DIVIDE] = {R | W | XR | XW, 0x0b, 0},
    [REG_SELF_IPI] = {XW, 0xff, 0},
};

static u32 bitmap_part(const u64 map[4], u32 part)
{
    return (u32)(map[part >> 1] >> (part & 1) * 32);
}

static u32 register_read(const struct vlapic *v, u32 reg, u64 now)
{
    switch (reg) {
    case REG_ID: return vlapic_x2apic(v) ? v->id : v->id << 24;
    case REG_VERSION: return VERSION;
    case REG_TPR: return v->tpr;
    case REG_PPR: return vlapic_ppr(v);
    case REG_LDR: return v->ldr;
    case REG_DFR: return v->dfr;
    case REG_SVR: return v->svr;
    case REG_ISR ... REG_ISR + 7: return bitmap_part(v->isr, reg - REG_ISR);
    case REG_TMR ... REG_TMR + 7: return bitmap_part(v->tmr, reg - REG_TMR);
    case REG_IRR ... REG_IRR + 7: return bitmap_part(v->irr, reg - REG_IRR);
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

/// Sends what the ICR says.
static struct vlapic_effect send(struct vlapic *v)
{
    u32 low = (u32)v->icr, dest = (u32)(v->icr >> 32);
    struct apic_message m = {.vector = (u8)low, .mode = low >> 8 & 7, .shorthand = low >> 18 & 3, .logical = low & 0x800};
    bool fixed = m.mode == APIC_FIXED || m.mode == APIC_LOWEST;
    bool deassert = !(low & 0x4000) && (low & 0x8000);

    if (!vlapic_x2apic(v))
        dest = dest >> 24 == 0xff ? VLAPIC_BROADCAST : dest >> 24;
    m.dest = dest;
    if (fixed && m.vector < 16) {
        vlapic_error(v, ESR_SEND_ILLEGAL);
        return (struct vlapic_effect){.pending = true};
    }
    if (m.mode == APIC_RESERVED || m.mode == APIC_EXTINT || (m.mode == APIC_INIT && deassert))
        return (struct vlapic_effect){0};
    if (m.shorthand == APIC_TO_SELF)
        return (struct vlapic_effect){.pending = fixed && vlapic_accept(v, m.vector, false)};
    return (struct vlapic_effect){.send = true, .message = m};
}

static struct vlapic_effect write_lvt(struct vlapic *v, u32 reg, u32 value, u64 now)
{
    if (!(v->svr & SVR_ENABLED))
        value |= LVT_MASKED;
    if (reg == REG_LVT_TIMER)
        vlapic_timer_set_lvt(v, value, now);
    v->lvt[reg - REG_LVT_TIMER] = value;
    return (struct vlapic_effect){.timer = reg == REG_LVT_TIMER, .pending = true};
}

static struct vlapic_effect write_svr(struct vlapic *v, u32 value)
{
    v->svr = value;
    if (!(value & SVR_ENABLED))
        for (unsigned i = 0; i < LVT_COUNT; i++)
            v->lvt[i] |= LVT_MASKED;
    return (struct vlapic_effect){.timer = true};
}

/// Writes a register; `value` has only its writable bits.
static struct vlapic_effect register_write(struct vlapic *v, u32 reg, u32 value, u64 now)
{
    switch (reg) {
    case REG_TPR: v->tpr = value; return (struct vlapic_effect){.pending = true};
    case REG_EOI: return vlapic_eoi(v);
    case REG_LDR: v->ldr = value; break;
    case REG_DFR: v->dfr = value | 0x0fffffff; break;
    case REG_SVR: return write_svr(v, value);
    case REG_ESR: v->esr = v->esr_new; v->esr_new = 0; break;
    case REG_ICR: v->icr = (v->icr & ~0xffffffffull) | value; return send(v);
    case REG_ICR_HIGH: v->icr = (u64)value << 32 | (u32)v->icr; break;
    case REG_LVT_TIMER ... REG_LVT_ERROR: return write_lvt(v, reg, value, now);
    case REG_INITIAL: vlapic_timer_set_initial(v, value, now); return (struct vlapic_effect){.timer = true};
    case REG_DIVIDE: vlapic_timer_set_divide(v, value, now); return (struct vlapic_effect){.timer = true};
    case REG_SELF_IPI: return (struct vlapic_effect){.pending = vlapic_accept(v, (u8)value, false)};
    default: break;
    }
    return (struct vlapic_effect){0};
}

static bool has(u32 reg, u8 access)
{
    return reg < REG_COUNT && (registers[reg].access & access);
}

u64 vlapic_read(struct vlapic *v, u32 offset, unsigned bytes, u64 now)
{
    u32 reg = offset >> 4, byte = offset & 15;

    if (!has(reg, R)) {
        vlapic_error(v, ESR_ILLEGAL_REGISTER);
        return 0;
    }
    if (byte + bytes > 4 || bytes == 0)
        return 0;
    u64 value = register_read(v, reg, now) >> byte * 8;
    return value & (BIT(bytes * 8) - 1);
}

struct vlapic_effect vlapic_write(struct vlapic *v, u32 offset, unsigned bytes, u32 value, u64 now)
{
    u32 reg = offset >> 4;

    if (!has(reg, W)) {
        vlapic_error(v, ESR_ILLEGAL_REGISTER);
        return (struct vlapic_effect){.pending = true};
    }
    if (offset & 15 || bytes != 4)
        return (struct vlapic_effect){0};
    return register_write(v, reg, value & registers[reg].writable, now);
}

bool vlapic_msr_read(struct vlapic *v, u32 msr, u64 now, u64 *value)
{
    u32 reg = msr - X2APIC_MSR_FIRST;

    if (!vlapic_x2apic(v) || !has(reg, XR))
        return false;
    *value = reg == REG_ICR ? v->icr : register_read(v, reg, now);
    return true;
}

struct vlapic_effect vlapic_msr_write(struct vlapic *v, u32 msr, u64 value, u64 now)
{
    u32 reg = msr - X2APIC_MSR_FIRST;

    if (!vlapic_x2apic(v) || !has(reg, XW))
        return (struct vlapic_effect){.fault = true};
    u64 legal = registers[reg].writable | registers[reg].read_only | (reg == REG_ICR ? 0xffffffff00000000ull : 0);
    if (value & ~legal)
        return (struct vlapic_effect){.fault = true};
    if (reg == REG_ICR)
        v->icr = value;
    return register_write(v, reg, (u32)value & registers[reg].writable, now);
}
