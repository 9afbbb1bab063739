// SPDX-License-Identifier: Apache-2.0
//
// A virtual processor: the backend's state, the local APIC, and what it waits for. It runs when nothing blocks it.
// Owned by one CPU (its runqueue's) at a time; `blocked` is changed by that CPU only.

#pragma once

#include "arch/x86.h"
#include "guest/backend.h"
#include "guest/decode.h"
#include "guest/vlapic.h"
#include "kernel/policy.h"
#include "kernel/timer.h"

#include <basalt/hypercall.h>
#include <basalt/request.h>

struct claim;
struct domain;
struct vcpu;

// Why a vCPU does not run.
#define BLOCK_NEW     0x01u // has no state yet
#define BLOCK_SIPI    0x02u // waits for INIT/SIPI
#define BLOCK_PAUSED  0x04u // its domain is paused
#define BLOCK_ENDED   0x08u // its domain ended
#define BLOCK_HALT    0x10u // HLT
#define BLOCK_REQUEST 0x20u // waits for a request server
#define BLOCK_EVENT   0x40u // BASALT_HC_BLOCK
#define BLOCK_CAP     0x80u // used up its share of this period

// What the answer to a request is for.
enum io_stage {
    IO_IDLE,        // nothing; the end of an interrupt may have been told
    IO_ACCESS,      // the access in `insn`
    IO_INSTRUCTION, // the instruction at RIP
};
#define IO_AGAIN 4u // with one of them: the server has gone, the request is sent again first

// An access to a device: it waits for its answer while the vCPU is blocked by BLOCK_REQUEST.
struct io_state {
    u8 stage;    // enum io_stage, IO_AGAIN
    u8 server;   // of the last request, index in the domain's servers
    u8 bytes;    // of the last request, as request_send() was told
    bool write;  // the same
    u64 place;   // the same, space and address
    u64 sent;    // the same, what was to be written
    u64 number;  // of the last request
    u64 data;    // of the last answer: what the device gave
    u64 address; // of the instruction's operand, or its port
    struct insn insn;
    const struct claim *route, *bell; // of the domain's, found last
};

struct vcpu {
    struct cpu_state cpu;
    struct domain *domain;
    u16 index;
    u32 blocked; // BLOCK_*
    struct sched_entity sched;
    struct timer lapic_timer;
    struct timer cap_timer;
    struct timer event_timer; // of a domain with an event page
    struct vlapic lapic;
    struct io_state io;
    bool nmi_pending, halted; // in HLT until an interrupt or NMI can be taken; with lapic.changed
    bool irq_window;          // asked of the backend
    u64 xcr0;
    struct basalt_vcpu_stats stats;
    u8 xstate[] __attribute__((aligned(64)));
};

/// Lets the vCPU take notice of a new interrupt, event or answer: unblocks what waits for `reason`.
void vcpu_unblock(struct vcpu *v, u32 reason);
void vcpu_block(struct vcpu *v, u32 reason);

// guest/run.c
/// Runs `v` on this CPU until it blocks or another should run.
void vcpu_run(struct vcpu *v);
void vcpu_single_step(struct vcpu *v);
/// What follows an instruction: the trap of a single step, the end of an interrupt shadow.
static inline void vcpu_after_insn(struct vcpu *v) {
    if (unlikely(v->cpu.rflags & RFLAGS_TF))
        vcpu_single_step(v);
    backend->clear_shadow(&v->cpu);
}
/// Advances RIP past the current instruction, which is over.
static inline void vcpu_skip(struct vcpu *v, unsigned length) {
    v->cpu.rip += length;
    vcpu_after_insn(v);
}
/// An NMI is pending.
static inline void vcpu_nmi(struct vcpu *v) { v->nmi_pending = v->lapic.changed = true; }
/// guest/event.c: queues an exception for the guest, which merges with one that was being delivered. In real mode without an
/// error code.
void vcpu_exception(struct vcpu *v, u8 vector, bool has_error, u32 error);
static inline void vcpu_gp(struct vcpu *v) { vcpu_exception(v, 13, true, 0); }
static inline void vcpu_ud(struct vcpu *v) { vcpu_exception(v, 6, false, 0); }
static inline u64 guest_tsc(const struct vcpu *v) { return rdtsc() + v->cpu.tsc_offset; }

// guest/interrupt.c
/// Carries out what a local APIC access asked for.
void vcpu_apic_effect(struct vcpu *v, const struct vlapic_effect *effect);
/// Delivers an MSI message to the domain's local APICs. 0, or -BASALT_EINVAL for a message that is none.
int guest_msi(struct domain *d, u64 address, u64 data);
/// An EOI that the processor virtualized, of a level-triggered vector.
void handle_apic_eoi(struct vcpu *v, struct exit e);
/// Does what v->lapic.attention asks for, right before an entry: goes on with an access that has its answer, puts the
/// next event to deliver into cpu.queued or asks for a window, blocks a vCPU that is in HLT with nothing to end it.
/// False: the vCPU shall leave the CPU.
must_check bool vcpu_prepare(struct vcpu *v);

// guest/cpuid.c
/// What guests may do on this machine, whatever CPUID shows them.
struct cpuid_policy {
    u8 phys_bits; // guests' MAXPHYADDR
    u64 cr4;      // bits of CR4 that a guest may set
    u64 arch_capabilities;
};
#define EFER_GUEST (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
extern struct cpuid_policy guest_cpuid;
/// Prepares guest_cpuid, once.
void cpuid_setup(void);
/// Gives the domain's vCPUs another CPUID: `count` rows in the memory of `from`. -BASALT_EINVAL: too many, -BASALT_ENOSPC,
/// -BASALT_EFAULT; after that its leaves are all zeros.
must_check int cpuid_set(struct domain *d, struct domain *from, gpa_t rows, u64 count);
void handle_cpuid(struct vcpu *v, struct exit e);

// guest/vcpu.c
/// Creates vCPU `index`. -BASALT_EINVAL, -BASALT_EEXIST, -BASALT_ENOSPC, -BASALT_ENOMEM.
must_check int vcpu_create(struct domain *d, u64 index);
void vcpu_destroy(struct vcpu *v);
must_check int vcpu_set_state(struct vcpu *v, const struct basalt_vcpu_state *state);
/// Commits what the instruction server did. -BASALT_EINVAL: it is nothing that an instruction may do.
must_check int vcpu_complete(struct vcpu *v, const struct basalt_completion *completion);
void vcpu_get_state(struct vcpu *v, struct basalt_vcpu_state *state);
/// Reads a field of the control block, as BASALT_HC_VCPU_FIELD numbers them. False: there is no such field.
must_check bool vcpu_control_field(struct vcpu *v, u64 field, u64 *value);
/// The state after INIT, waiting for a start-up IPI; and what that does.
void vcpu_init_ipi(struct vcpu *v);
void vcpu_startup_ipi(struct vcpu *v, u8 vector);

// guest/control.c: handlers of exits by instructions that touch control state.
void handle_cr(struct vcpu *v, struct exit e);
void handle_dr(struct vcpu *v, struct exit e);
void handle_xsetbv(struct vcpu *v, struct exit e);

// guest/cr.c
/// Writes a control register, or CR0's low bits as LMSW does, by a loaded vCPU. False: #GP(0), and nothing was changed.
must_check bool vcpu_write_cr0(struct vcpu *v, u64 value);
must_check bool vcpu_lmsw(struct vcpu *v, u16 value);
must_check bool vcpu_write_cr4(struct vcpu *v, u64 value);
must_check bool vcpu_write_efer(struct vcpu *v, u64 value);
/// With these registers, loads the four entries that PAE paging outside long mode keeps in the processor. False: they are not
/// legal, and nothing was changed.
must_check bool vcpu_load_pdptes(struct vcpu *v, u64 cr0, u64 cr3, u64 cr4, u64 efer);

// guest/msr.c
/// RDMSR and WRMSR by a loaded vCPU; false: nothing was changed, the instruction is for the instruction server. What a write
/// asks of the local APIC's world is put into *effect, to be carried out when the instruction is over.
must_check bool msr_read(struct vcpu *v, u32 index, u64 *value);
must_check bool msr_write(struct vcpu *v, u32 index, u64 value, struct vlapic_effect *effect);
void handle_rdmsr(struct vcpu *v, struct exit e);
void handle_wrmsr(struct vcpu *v, struct exit e);

// guest/walk.c: the code at RIP.
/// Its bytes as far as they are there; returns how many.
unsigned guest_fetch(struct vcpu *v, u8 bytes[16]);
/// Decodes the instruction. False: it is for the instruction server.
must_check bool guest_decode(struct vcpu *v, struct insn *insn);
/// The length of an instruction without operands whose opcode has `opcode_bytes`. 0: it is no longer there.
must_check u8 guest_insn_length(struct vcpu *v, unsigned opcode_bytes);
enum cpu_mode guest_mode(struct vcpu *v);
/// Whether the code that runs is 64-bit code, and its privilege level.
static inline bool guest_wide(struct vcpu *v) {
    return v->cpu.efer_guest & EFER_LMA && backend->read(&v->cpu, REG_CS_ATTRIBUTES) & SEGMENT_LONG;
}
static inline unsigned vcpu_cpl(struct vcpu *v) {
    return (unsigned)backend->read(&v->cpu, REG_CPL);
}

// guest/emulate.c
/// Carries out the instruction at RIP that accessed device memory, or a port.
void handle_device_memory(struct vcpu *v, struct exit e);
void handle_port(struct vcpu *v, struct exit e);
/// Leaves the instruction at RIP to the instruction server; without one RDMSR and WRMSR raise #GP, at all others the
/// domain ends.
void vcpu_send_instruction(struct vcpu *v, struct exit e);
/// Goes on with what the answer in v->io is for, or sends the request to the next server.
void vcpu_answered(struct vcpu *v);
/// Accesses the local APIC's page for the instruction server. The vector of a level-triggered interrupt that ended, or 0;
/// -BASALT_EINVAL: the page is not there.
i64 vcpu_apic_access(struct vcpu *v, u64 gpa, u64 bytes, bool write, u64 *value);
/// Writes a general register's low bytes as instructions do (32 bits clear the upper half).
void gpr_write(struct vcpu *v, unsigned number, unsigned bytes, u64 value);
