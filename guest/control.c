// SPDX-License-Identifier: Apache-2.0
//
// Exits by instructions that touch control and debug registers and XCR0. The rules of CR0, CR4 and EFER are in cr.c; this file
// carries out what they decide.

#include "arch/cpu.h"
#include "guest/vcpu.h"

// CR0, CR4 and CR8 are the only ones whose accesses exit. False: #GP.
static bool write_cr(struct vcpu *v, unsigned cr, u64 value) {
    if (cr == 0)
        return vcpu_write_cr0(v, value);
    if (cr == 4)
        return vcpu_write_cr4(v, value);
    if (value > 15)
        return false;
    vlapic_set_cr8(&v->lapic, value);
    return true;
}

static u64 read_cr(struct vcpu *v, unsigned cr) {
    switch (cr) {
    case 0: return backend->read(&v->cpu, REG_CR0);
    case 4: return backend->read(&v->cpu, REG_CR4);
    default: return vlapic_get_cr8(&v->lapic);
    }
}

// What the instruction is, where the processor did not say. False: it is for the instruction server, or no longer what exited:
// whether it may write was asked of that.
static bool complete_cr(struct vcpu *v, struct exit *e) {
    struct insn i;

    if (!guest_decode(v, &i) || i.op != OP_MOV_CR || i.write != e->write)
        return false;
    e->insn_length = i.length;
    e->gpr = i.rm;
    e->cr = i.reg;
    return true;
}

void handle_cr(struct vcpu *v, struct exit e) {
    bool legal = true, wide = guest_mode(v) == MODE_64;

    if ((e.gpr == 0xff || e.cr == 0xff || !e.insn_length) && !complete_cr(v, &e)) {
        vcpu_send_instruction(v, e);
        return;
    }
    u64 mask = wide ? ~0ull : 0xffffffff;
    if (e.write)
        legal = write_cr(v, e.cr, v->cpu.gprs[e.gpr] & mask);
    else
        gpr_write(v, e.gpr, wide ? 8 : 4, read_cr(v, e.cr));
    if (legal)
        vcpu_skip(v, e.insn_length);
    else
        vcpu_gp(v);
}

void handle_dr(struct vcpu *v, struct exit e unused) {
    // The first touch gives the guest its debug registers; the instruction is then tried again.
    v->cpu.debug_active = true;
    backend->allow_dr(&v->cpu);
}

// CR4.OSXSAVE and the privilege level are the caller's to look at.
static bool xcr0_legal(u32 index, u64 value) {
    bool sse = value & XCR0_SSE, avx = value & XCR0_AVX;

    return index == 0 && (value & XCR0_X87) && !(value & ~xstate_mask) && (sse || !avx);
}

void handle_xsetbv(struct vcpu *v, struct exit e) {
    u64 value = (u32)v->cpu.gprs[BASALT_RAX] | v->cpu.gprs[BASALT_RDX] << 32;

    if (!(backend->read(&v->cpu, REG_CR4) & CR4_OSXSAVE)) {
        vcpu_ud(v);
    } else if (vcpu_cpl(v) || !xcr0_legal((u32)v->cpu.gprs[BASALT_RCX], value)) {
        vcpu_gp(v);
    } else {
        xsetbv(0, value); // saved with the rest of the state
        vcpu_skip(v, e.insn_length);
    }
}
