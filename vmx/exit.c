// SPDX-License-Identifier: Apache-2.0
//
// Exits and events: one table of basic exit reasons turns the VMCS's exit fields into struct exit, and a queued event
// becomes the entry's event field. Follows the SDM, "VM-Exit Information Fields", "Information for VM Exits That Occur
// During Event Delivery", "Resuming Guest Software after Handling an Exception" and "Event Injection".

#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/x86.h"

#define NMI_UNBLOCKED_QUALIFICATION BIT(12) // where an exit has no event field

// Exit qualification of an EPT violation
#define EPT_WRITE        BIT(1)
#define EPT_FETCH        BIT(2)
#define EPT_LINEAR_VALID BIT(7)
#define EPT_TRANSLATED   BIT(8) // the access itself, not a walk on its behalf

static struct exit decode_exception(struct exit e) {
    u32 event = vmcs_read32(EXIT_EVENT);
    unsigned type = (event >> 8) & 7;

    e.vector = (u8)event;
    if (event & EVENT_HAS_ERROR)
        e.detail = vmcs_read32(EXIT_ERROR_CODE);
    if (type == EVENT_NMI)
        e.kind = BASALT_EXIT_NMI;
    else if (e.vector == EXC_MC)
        e.kind = BASALT_EXIT_MACHINE_CHECK;
    if (type == EVENT_PRIVILEGED_SOFT || type == EVENT_SOFT_EXCEPTION)
        e.insn_length = (u8)vmcs_read32(EXIT_INSN_LENGTH);
    return e;
}

static struct exit decode_interrupt(struct exit e) {
    e.vector = (u8)vmcs_read32(EXIT_EVENT);
    return e;
}

static struct exit decode_eoi(struct exit e) {
    e.vector = (u8)e.detail;
    return e;
}

static struct exit decode_cr(struct exit e) {
    u64 q = e.detail = vmcs_readnat(EXIT_QUALIFICATION);
    unsigned access = (q >> 4) & 3;

    e.cr = q & 0xf;
    e.gpr = access < 2 ? (q >> 8) & 0xf : 0xff; // CLTS, LMSW
    e.write = access != 1;
    return e;
}

static struct exit decode_io(struct exit e) {
    u64 q = vmcs_readnat(EXIT_QUALIFICATION);

    e.detail = (q & 0xffff0000) | ((q & 7) + 1) << EXIT_IO_BYTES | (q >> 3 & EXIT_IO_IN) |
               (q >> 2 & EXIT_IO_STRING);
    return e;
}

static struct exit decode_call(struct exit e) {
    e.detail = SEGMENT_DPL(vmcs_read32(GUEST_ATTRIBUTES(BASALT_SS)));
    return e;
}

static struct exit decode_ept_violation(struct exit e) {
    u64 q = e.detail;

    e.gpa = GPA(vmcs_read64(GUEST_PHYSICAL_ADDRESS));
    e.write = q & EPT_WRITE;
    e.fetch = q & EPT_FETCH;
    e.in_walk = q & EPT_LINEAR_VALID && !(q & EPT_TRANSLATED);
    return e;
}

#define INSN true // the exit is the instruction's own doing, its length is valid
static const struct exit_row {
    u8 kind;
    bool insn;
    struct exit (*decode)(struct exit e); // of an event with the exit qualification in `detail`
} rows[] = {
    [0] = {BASALT_EXIT_EXCEPTION, false, decode_exception},
    [1] = {BASALT_EXIT_INTERRUPT, false, decode_interrupt},
    [2] = {BASALT_EXIT_TRIPLE_FAULT, false, NULL},
    [3] = {BASALT_EXIT_INIT, false, NULL},
    [7] = {BASALT_EXIT_IRQ_WINDOW, false, NULL},
    [8] = {BASALT_EXIT_NMI_WINDOW, false, NULL},
    [9] = {BASALT_EXIT_TASK_SWITCH, false, NULL}, // an event's delivery may be what switches
    [10] = {BASALT_EXIT_CPUID, INSN, NULL},
    [11] = {BASALT_EXIT_VIRT_INSN, INSN, NULL}, // GETSEC
    [12] = {BASALT_EXIT_HLT, INSN, NULL},
    [13] = {BASALT_EXIT_INVD, INSN, NULL},
    [15] = {BASALT_EXIT_RDPMC, INSN, NULL},
    [18] = {BASALT_EXIT_HYPERCALL, INSN, decode_call},
    [19 ... 27] = {BASALT_EXIT_VIRT_INSN, INSN, NULL}, // VMCLEAR to VMXON
    [28] = {BASALT_EXIT_CR_ACCESS, INSN, decode_cr},
    [29] = {BASALT_EXIT_DR_ACCESS, INSN, NULL},
    [30] = {BASALT_EXIT_IO, INSN, decode_io},
    [31] = {BASALT_EXIT_RDMSR, INSN, NULL},
    [32] = {BASALT_EXIT_WRMSR, INSN, NULL},
    [33] = {BASALT_EXIT_BAD_STATE, false, NULL}, // entry failure: guest state
    [34] = {BASALT_EXIT_BAD_STATE, false, NULL}, // entry failure: MSR loading
    [36] = {BASALT_EXIT_MWAIT, INSN, NULL},
    [39] = {BASALT_EXIT_MONITOR, INSN, NULL},
    [40] = {BASALT_EXIT_PAUSE, INSN, NULL},
    [41] = {BASALT_EXIT_MACHINE_CHECK, false, NULL}, // during an entry
    [45] = {BASALT_EXIT_APIC_EOI, false, decode_eoi},
    [48] = {BASALT_EXIT_MEMORY, false, decode_ept_violation},
    [49] = {BASALT_EXIT_BAD_STATE, false, decode_ept_violation}, // misconfiguration: our mistake
    [50] = {BASALT_EXIT_VIRT_INSN, INSN, NULL},                  // INVEPT
    [52] = {BASALT_EXIT_PREEMPTION, false, NULL},
    [53] = {BASALT_EXIT_VIRT_INSN, INSN, NULL}, // INVVPID
    [54] = {BASALT_EXIT_WBINVD, INSN, NULL},
    [55] = {BASALT_EXIT_XSETBV, INSN, NULL},
    [56] = {BASALT_EXIT_APIC_WRITE, false, NULL},
    [60] = {BASALT_EXIT_VIRT_INSN, INSN, NULL}, // ENCLS
};

// The upper half of the field has flags.
static const struct exit_row *row_of(u32 reason) {
    static const struct exit_row unknown = {BASALT_EXIT_UNKNOWN, false, NULL};
    u32 basic = reason & 0xffff;

    return basic < ARRAY_SIZE(rows) && (rows[basic].kind || rows[basic].decode) ? &rows[basic]
                                                                                : &unknown;
}

// Puts the event whose delivery this exit interrupted back. An NMI among them will be delivered again, which the entry
// allows only while NMIs are not blocked. False: there is none.
static bool put_back_event(struct cpu_state *cpu) {
    u32 info = vmcs_read32(VECTORING_EVENT);

    if (likely(!(info & EVENT_VALID)))
        return false;
    cpu->queued = event_from_field(info, vmcs_read32(VECTORING_ERROR_CODE));
    if (cpu->queued.type >= EVENT_SOFT_INTERRUPT)
        cpu->queued.insn_length = (u8)vmcs_read32(EXIT_INSN_LENGTH);
    if (cpu->queued.type == EVENT_NMI)
        vmcs_write32(GUEST_INTERRUPTIBILITY, vmcs_read32(GUEST_INTERRUPTIBILITY) & ~BLOCKED_BY_NMI);
    return true;
}

// An IRET that faulted has ended the blocking of NMIs already; as it will be done again, NMIs are blocked anew.
static void restore_nmi_blocking(const struct exit *e, u64 qualification) {
    bool unblocked = false;

    if (e->kind == BASALT_EXIT_MEMORY)
        unblocked = qualification & NMI_UNBLOCKED_QUALIFICATION;
    else if (e->kind == BASALT_EXIT_EXCEPTION && e->vector != EXC_DF)
        unblocked = vmcs_read32(EXIT_EVENT) & EVENT_NMI_UNBLOCKED;
    if (unblocked)
        vmcs_write32(GUEST_INTERRUPTIBILITY, vmcs_read32(GUEST_INTERRUPTIBILITY) | BLOCKED_BY_NMI);
}

// An exit that came before or after an instruction, or instead of an entry; or of a reason without a row.
static __attribute__((noinline)) struct exit decode_event(struct cpu_state *cpu, u32 reason) {
    const struct exit_row *row = row_of(reason);
    u64 qualification = vmcs_readnat(EXIT_QUALIFICATION);
    struct exit e = {.kind = row->kind, .detail = qualification};

    if (e.kind == BASALT_EXIT_UNKNOWN)
        e.detail = reason;
    if (row->decode)
        e = row->decode(e);
    if (!(reason & REASON_ENTRY_FAILURE) && !put_back_event(cpu))
        restore_nmi_blocking(&e, qualification);
    if (e.kind == BASALT_EXIT_NMI)
        vmx_host_event(EXC_NMI);
    else if (e.kind == BASALT_EXIT_MACHINE_CHECK)
        vmx_host_event(EXC_MC);
    return e;
}

// The domain ends: what was to be injected, and whether there was a launch, matters no more.
struct exit vmx_refused(void) {
    return (struct exit){.kind = BASALT_EXIT_BAD_STATE, .detail = vmcs_read32(INSTRUCTION_ERROR)};
}

// `detail` is the exit qualification where it means something; the reason, where that is not known. An instruction that
// ran interrupted no delivery, and is no IRET that faulted.
struct exit vmx_exit(struct cpu_state *cpu) {
    u32 reason = vmcs_read32(EXIT_REASON);
    if (unlikely(reason >= ARRAY_SIZE(rows) || !rows[reason].insn))
        return decode_event(cpu, reason);
    struct exit e = exit_new(rows[reason].kind, vmcs_read32(EXIT_INSN_LENGTH), 0);
    return rows[reason].decode ? rows[reason].decode(e) : e;
}

// Whether a hardware exception has an error code is a matter of its vector; in real mode none has.
static bool needs_error_code(const struct event *event, u64 cr0) {
    return event->type == EVENT_EXCEPTION && exception_has_error(event->vector) && (cr0 & CR0_PE);
}

void vmx_clear_shadow(struct cpu_state *cpu unused) {
    u32 blocking = vmcs_read32(GUEST_INTERRUPTIBILITY);

    if (blocking & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS))
        vmcs_write32(GUEST_INTERRUPTIBILITY, blocking & ~(BLOCKED_BY_STI | BLOCKED_BY_MOV_SS));
}

void vmx_queue_event(struct cpu_state *cpu) {
    const struct event *event = &cpu->queued;
    u32 info = event_field(event);

    if (needs_error_code(event, vmcs_readnat(GUEST_CR0))) {
        info |= EVENT_HAS_ERROR;
        vmcs_write32(ENTRY_ERROR_CODE, (u16)event->error);
    }
    if (event->type >= EVENT_SOFT_INTERRUPT)
        vmcs_write32(ENTRY_INSN_LENGTH, event->insn_length);
    vmx_clear_shadow(cpu); // delivery ends it; the entry may refuse both together
    vmcs_write32(ENTRY_EVENT, info);
    cpu->queued.valid = false;
}
