// SPDX-License-Identifier: Apache-2.0
//
// RDMSR and WRMSR of what the processor or the kernel itself acts on: addresses and modes of system calls, EFER, PAT, the
// TSC, the local APIC, commands against speculation. All other MSRs, and what these don't take, are the instruction server's
// to answer (docs/decisions/0017-msrs-of-the-platform-are-dom0s.md). Follows the SDM, "Model-Specific Registers (MSRs)".

#include "guest/vcpu.h"

#define MSR_FLUSH_CMD    0x10bu
#define MSR_X2APIC_LAST  0x8ffu
#define DEBUGCTL_LBR_BTF 3u
#define PAT_TYPES        0xf3u // by number: UC, WC, WT, WP, WB, UC-

static bool canonical(u64 address) { return (u64)((i64)(address << 16) >> 16) == address; }

// Each byte is a memory type.
static bool pat_legal(u64 value) {
    for (unsigned i = 0; i < 8; i++, value >>= 8)
        if ((value & 0xff) > 7 || !(PAT_TYPES >> (value & 7) & 1))
            return false;
    return true;
}

// Of those that the backend holds.
static bool legal(u32 index, u64 value) {
    switch (index) {
    case MSR_STAR: return true;
    case MSR_FMASK:
    case MSR_SYSENTER_CS: return !(value >> 32);
    case MSR_DEBUGCTL: return !(value & ~(u64)DEBUGCTL_LBR_BTF);
    case MSR_PAT: return pat_legal(value);
    default: return canonical(value);
    }
}

bool msr_read(struct vcpu *v, u32 index, u64 *value) {
    switch (index) {
    case MSR_TSC: *value = guest_tsc(v); break;
    case MSR_TSC_DEADLINE: *value = vlapic_get_tsc_deadline(&v->lapic, guest_tsc(v)); break;
    case MSR_APIC_BASE: *value = v->lapic.apic_base; break;
    case MSR_X2APIC_BASE ... MSR_X2APIC_LAST:
        return vlapic_msr_read(&v->lapic, index, guest_tsc(v), value);
    case MSR_EFER: *value = backend->read(&v->cpu, REG_EFER); break;
    case MSR_ARCH_CAPABILITIES: *value = guest_cpuid.arch_capabilities; break;
    default: return backend->access_msr(&v->cpu, index, false, value);
    }
    return true;
}

bool msr_write(struct vcpu *v, u32 index, u64 value, struct vlapic_effect *effect) {
    *effect = (struct vlapic_effect){0};
    switch (index) {
    case MSR_TSC: break; // a domain's vCPUs have one TSC, never moved
    case MSR_TSC_DEADLINE: *effect = vlapic_set_tsc_deadline(&v->lapic, value); break;
    case MSR_APIC_BASE: *effect = vlapic_base_write(&v->lapic, value, guest_cpuid.phys_bits); break;
    case MSR_X2APIC_BASE ... MSR_X2APIC_LAST:
        *effect = vlapic_msr_write(&v->lapic, index, value, guest_tsc(v));
        break;
    case MSR_EFER: return vcpu_write_efer(v, value);
    case MSR_PRED_CMD:
    case MSR_FLUSH_CMD: return value <= 1 && wrmsr_safe(index, value); // one command each
    default: return legal(index, value) && backend->access_msr(&v->cpu, index, true, &value);
    }
    return !effect->fault;
}

// The request for the instruction says which MSR it is.
static void send(struct vcpu *v, struct exit e) {
    e.gpa = GPA((u32)v->cpu.gprs[BASALT_RCX]);
    vcpu_send_instruction(v, e);
}

void handle_rdmsr(struct vcpu *v, struct exit e) {
    u64 value;

    if (!msr_read(v, (u32)v->cpu.gprs[BASALT_RCX], &value)) {
        send(v, e);
        return;
    }
    v->cpu.gprs[BASALT_RAX] = (u32)value;
    v->cpu.gprs[BASALT_RDX] = value >> 32;
    vcpu_skip(v, e.insn_length);
}

void handle_wrmsr(struct vcpu *v, struct exit e) {
    u64 value = (u32)v->cpu.gprs[BASALT_RAX] | v->cpu.gprs[BASALT_RDX] << 32;
    struct vlapic_effect effect;

    if (!msr_write(v, (u32)v->cpu.gprs[BASALT_RCX], value, &effect)) {
        send(v, e);
        return;
    }
    vcpu_skip(v, e.insn_length); // before the effect, which may be an INIT of this vCPU
    vcpu_apic_effect(v, &effect);
}
