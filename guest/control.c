// SPDX-License-Identifier: Apache-2.0
//
// Exits by instructions that touch control state: CPUID, control and debug registers, XCR0. The rules are in cpuid.c and
// cr.c; this file carries out what they decide.

#include "guest/cr.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/schedule.h"

static struct cr_state control_state(struct vcpu *v) {
    return (struct cr_state){
        .cr0 = backend->read(&v->cpu, REG_CR0),
        .cr3 = backend->read(&v->cpu, REG_CR3),
        .cr4 = backend->read(&v->cpu, REG_CR4),
        .efer = backend->read(&v->cpu, REG_EFER),
        .cs_long = backend->read_segment(&v->cpu, BASALT_CS).attributes & BIT(13),
        .tss16 = (backend->read_segment(&v->cpu, BASALT_TR).attributes & 0xd) == 1,
    };
}

// Loads the four entries that PAE paging keeps in the processor. False: #GP was queued.
static bool load_pdptes(struct vcpu *v, u64 cr3) {
    u64 pdptes[4];

    if (memory_read(v->domain, GPA(cr3 & 0xffffffe0), pdptes, sizeof(pdptes)) ||
        !pdptes_legal(pdptes, &guest_cpuid)) {
        vcpu_gp(v);
        return false;
    }
    for (unsigned i = 0; i < 4; i++)
        backend->write(&v->cpu, (enum backend_register)(REG_PDPTE0 + i), pdptes[i]);
    return true;
}

// Commits a legal write of CR0, CR3, CR4 or EFER. False: an exception was queued.
static bool commit(struct vcpu *v, enum backend_register reg, const struct cr_outcome *o, u64 cr3) {
    if (o->fault) {
        vcpu_gp(v);
        return false;
    }
    if (o->load_pdptes && !load_pdptes(v, reg == REG_CR3 ? o->value : cr3))
        return false;
    backend->write(&v->cpu, reg, o->value);
    if (o->mode_changed)
        backend->write(&v->cpu, REG_EFER, o->efer);
    if (o->flush)
        backend->flush_linear(&v->cpu);
    return true;
}

static bool write_cr(struct vcpu *v, unsigned cr, u64 value) {
    struct cr_state s = control_state(v);
    struct cr_outcome o;

    switch (cr) {
    case 0: o = cr0_write(&s, value); return commit(v, REG_CR0, &o, s.cr3);
    case 3: o = cr3_write(&s, value, &guest_cpuid); return commit(v, REG_CR3, &o, s.cr3);
    case 4: o = cr4_write(&s, value, &guest_cpuid); return commit(v, REG_CR4, &o, s.cr3);
    case 8:
        if (value > 15) {
            vcpu_gp(v);
            return false;
        }
        vlapic_set_cr8(&v->lapic, value);
        return true;
    }
    vcpu_ud(v);
    return false;
}

static u64 read_cr(struct vcpu *v, unsigned cr) {
    switch (cr) {
    case 0: return backend->read(&v->cpu, REG_CR0);
    case 2: return backend->read(&v->cpu, REG_CR2);
    case 3: return backend->read(&v->cpu, REG_CR3);
    case 4: return backend->read(&v->cpu, REG_CR4);
    default: return vlapic_get_cr8(&v->lapic);
    }
}

bool vcpu_lmsw(struct vcpu *v, u16 value) {
    return write_cr(v, 0, cr0_after_lmsw(backend->read(&v->cpu, REG_CR0), value));
}

// What the instruction is, where the processor did not say. Of SMSW nothing is left to be done then.
static bool complete_cr(struct vcpu *v, struct exit *e) {
    struct insn i;

    if (!guest_decode(v, &i) || i.op == OP_MOV)
        return false;
    e->insn_length = i.length;
    e->gpr = i.rm;
    e->cr = i.reg;
    e->write = i.write;
    e->lmsw = (u16)v->cpu.gprs[i.rm];
    e->cr_op = i.op == OP_CLTS ? CR_OP_CLTS : i.op == OP_MOV_CR ? CR_OP_MOV : CR_OP_LMSW;
    if (i.op == OP_SMSW) {
        e->cr_op = CR_OP_SMSW;
        gpr_write(v, i.rm, i.reg_bytes, false, read_cr(v, 0));
    }
    return true;
}

void handle_cr(struct vcpu *v, struct exit e) {
    bool done = true, wide = guest_mode(v) == MODE_64;

    if ((e.gpr == 0xff || e.cr == 0xff || !e.insn_length) && !complete_cr(v, &e)) {
        vcpu_send_instruction(v, e);
        return;
    }
    u64 mask = wide ? ~0ull : 0xffffffff;
    if (e.cr_op == CR_OP_CLTS)
        done = write_cr(v, 0, backend->read(&v->cpu, REG_CR0) & ~CR0_TS);
    else if (e.cr_op == CR_OP_LMSW)
        done = vcpu_lmsw(v, e.lmsw);
    else if (e.cr_op == CR_OP_MOV && e.write)
        done = write_cr(v, e.cr, v->cpu.gprs[e.gpr] & mask);
    else if (e.cr_op == CR_OP_MOV)
        gpr_write(v, e.gpr, wide ? 8 : 4, false, read_cr(v, e.cr));
    if (done)
        vcpu_skip(v, e.insn_length);
}

void handle_dr(struct vcpu *v, struct exit e unused) {
    // The first touch gives the guest its debug registers; the instruction is then tried again.
    v->cpu.debug_active = true;
    backend->intercept_dr(&v->cpu, false);
}

void handle_cpuid(struct vcpu *v, struct exit e) {
    u64 *gprs = v->cpu.gprs;
    struct cpuid r = cpuid_guest(v, (u32)gprs[BASALT_RAX], (u32)gprs[BASALT_RCX]);

    gprs[BASALT_RAX] = r.eax;
    gprs[BASALT_RBX] = r.ebx;
    gprs[BASALT_RCX] = r.ecx;
    gprs[BASALT_RDX] = r.edx;
    vcpu_skip(v, e.insn_length);
}

void handle_xsetbv(struct vcpu *v, struct exit e) {
    u64 value = (u32)v->cpu.gprs[BASALT_RAX] | v->cpu.gprs[BASALT_RDX] << 32;

    if (!(backend->read(&v->cpu, REG_CR4) & CR4_OSXSAVE)) {
        vcpu_ud(v);
    } else if (vcpu_cpl(v) || !xcr0_legal((u32)v->cpu.gprs[BASALT_RCX], value, &guest_cpuid)) {
        vcpu_gp(v);
    } else {
        xsetbv(0, value); // saved with the rest of the state
        vcpu_skip(v, e.insn_length);
    }
}
