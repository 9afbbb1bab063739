// SPDX-License-Identifier: Apache-2.0
//
// VM exits: a table from the processor's exit code to the vendor-neutral kind and a function that
// decodes the rest. Invariant: a function of the VMCB and the processor's features; a code
// that is not in the table is UNKNOWN, and a length that the processor did not report is 0. Follows
// the APM, "SVM Intercept Exit Codes" and the sections on each intercept.

#include "arch/x86.h"
#include "svm/svm.h"

#define VMMCALL_LENGTH 3u // without prefixes

enum exit_row_flag {
    KNOWN = 1,  // a row that is not there has no flags
    ALWAYS = 2, // intercepted in every guest at all times
    INSTRUCTION =
        4, // comes before an instruction, of which NRIP save tells the end, and interrupts no delivery
};

struct exit_row {
    u8 kind;  // enum basalt_exit_kind
    u8 flags; // enum exit_row_flag
    struct exit (*decode)(const struct vmcb *vmcb, struct exit e);
};

static u8 length_until(const struct vmcb *vmcb, u64 next_rip) {
    u64 length = next_rip - vmcb->rip;
    return length <= 15 ? (u8)length : 0;
}

// Of an instruction, from NRIP save; without it next_rip stays 0.
static u8 length(const struct vmcb *vmcb) { return length_until(vmcb, vmcb->next_rip); }

// Writes have bit 4 of the code set. Without decode assists the
// general register is not known, nor is it for CLTS, LMSW and SMSW.
static struct exit decode_cr(const struct vmcb *vmcb, struct exit e) {
    u64 code = vmcb->exit_code == EXIT_CR0_SELECT ? EXIT_CR_WRITE + 0 : vmcb->exit_code;
    bool mov = vmcb->exit_info1 & CR_INFO_MOV;

    e.insn_length = length(vmcb);
    e.write = code & 0x10;
    e.cr = code & 0xf;
    e.gpr = backend_features.decode_assists && mov ? vmcb->exit_info1 & 0xf : 0xff;
    return e;
}

static struct exit decode_exception(const struct vmcb *vmcb, struct exit e) {
    e.vector = vmcb->exit_code & 0x1f;
    if (e.vector == EXC_DB)
        e.detail = vmcb->dr6 & ~DR6_FIXED; // the processor has updated it before the exit
    return e;
}

// The exit took the exception; what it reports is the host's.
static struct exit decode_machine_check(const struct vmcb *vmcb, struct exit e) {
    svm_machine_check();
    return decode_exception(vmcb, e);
}

// INT1 traps: that its length is known tells the caller to move RIP over it before the exception is
// delivered. The x87 error that would freeze a PC/AT's processor until its IRQ 13 was handled is told
// to the guest as #MF.
static struct exit decode_int1_or_ferr(const struct vmcb *vmcb, struct exit e) {
    bool int1 = vmcb->exit_code == EXIT_ICEBP;

    e.vector = int1 ? EXC_DB : EXC_MF;
    e.insn_length = (u8)(int1 ? MAX(length(vmcb), 1) : 0);
    return e;
}

static struct exit call_of(const struct vmcb *vmcb, unsigned length) {
    return (struct exit){
        .kind = BASALT_EXIT_HYPERCALL, .insn_length = (u8)length, .detail = vmcb->cpl};
}

// A function of its own, without which the other path is 3 instructions longer.
static __attribute__((noinline)) struct exit measured_call(const struct vmcb *vmcb) {
    return call_of(vmcb, length(vmcb));
}

// The interface (docs/abi.md) allows no prefixes: they are not looked for where NRIP save does not count them.
static struct exit decode_call(const struct vmcb *vmcb, struct exit e unused) {
    return unlikely(vmcb->next_rip) ? measured_call(vmcb) : call_of(vmcb, VMMCALL_LENGTH);
}

static struct exit decode_io(const struct vmcb *vmcb, struct exit e) {
    e.insn_length = length_until(vmcb, vmcb->exit_info2);
    return e;
}

static struct exit decode_msr(const struct vmcb *vmcb, struct exit e) {
    e.insn_length = length(vmcb);
    e.kind = vmcb->exit_info1 & 1 ? BASALT_EXIT_WRMSR : BASALT_EXIT_RDMSR;
    return e;
}

static struct exit decode_nested_fault(const struct vmcb *vmcb, struct exit e) {
    e.write = vmcb->exit_info1 & FAULT_INFO_WRITE;
    e.fetch = vmcb->exit_info1 & FAULT_INFO_FETCH;
    e.in_walk = vmcb->exit_info1 & FAULT_INFO_WALK;
    e.gpa = GPA(vmcb->exit_info2);
    return e;
}

static struct exit decode_unknown(const struct vmcb *vmcb, struct exit e) {
    e.detail = vmcb->exit_code;
    return e;
}

#define ROW(name, flags, decode) \
    { BASALT_EXIT_##name, KNOWN | (flags), decode }
#define INSN(name)         ROW(name, ALWAYS | INSTRUCTION, NULL)
#define CODES(first, last) [first... last]
#define EXC(vector)        (EXIT_EXCEPTION + (vector))

static const struct exit_row exit_rows[] = {
    CODES(EXIT_CR_READ, EXIT_DR_READ - 1) = ROW(CR_ACCESS, INSTRUCTION, decode_cr),
    CODES(EXIT_DR_READ, EXIT_EXCEPTION - 1) = ROW(DR_ACCESS, INSTRUCTION, NULL),
    [EXC(EXC_DB)] = ROW(EXCEPTION, ALWAYS, decode_exception), // see EXC_AC
    [EXC(EXC_AC)] = ROW(EXCEPTION, ALWAYS, decode_exception), // its delivery may raise it
    [EXC(EXC_MC)] = ROW(MACHINE_CHECK, ALWAYS, decode_machine_check),
    [0x60] = ROW(INTERRUPT, ALWAYS, NULL),
    [0x61] = ROW(NMI, ALWAYS, NULL),
    [0x62] = ROW(SMI, ALWAYS, NULL),
    [0x63] = ROW(INIT, ALWAYS, NULL),
    [EXIT_VINTR] = ROW(IRQ_WINDOW, 0, NULL),
    [EXIT_CR0_SELECT] = ROW(CR_ACCESS, ALWAYS | INSTRUCTION, decode_cr),
    [0x6f] = INSN(RDPMC),
    [0x72] = INSN(CPUID),
    [0x73] = INSN(VIRT_INSN),               // RSM
    [EXIT_IRET] = ROW(NMI_WINDOW, 0, NULL), // it is still to be executed
    [0x76] = INSN(INVD),
    [EXIT_PAUSE] = ROW(PAUSE, INSTRUCTION, NULL),
    [0x78] = INSN(HLT),
    [0x7a] = INSN(VIRT_INSN), // INVLPGA
    [0x7b] = ROW(IO, ALWAYS | INSTRUCTION, decode_io),
    [0x7c] = ROW(RDMSR, ALWAYS | INSTRUCTION, decode_msr),
    [0x7d] = ROW(TASK_SWITCH, ALWAYS, NULL),
    [0x7e] = ROW(EXCEPTION, ALWAYS, decode_int1_or_ferr),
    [0x7f] = ROW(TRIPLE_FAULT, ALWAYS, NULL), // shutdown
    [EXIT_VMRUN] = INSN(VIRT_INSN),
    [0x81] = ROW(HYPERCALL, ALWAYS | INSTRUCTION, decode_call), // VMMCALL
    CODES(0x82, 0x86) = INSN(VIRT_INSN), // VMLOAD, VMSAVE, STGI, CLGI, SKINIT
    [EXIT_ICEBP] = ROW(EXCEPTION, ALWAYS | INSTRUCTION, decode_int1_or_ferr),
    [0x89] = INSN(WBINVD),
    [0x8a] = INSN(MONITOR),
    [0x8b] = INSN(MWAIT),
    [0x8d] = INSN(XSETBV),
    [0x8e] = INSN(VIRT_INSN),            // RDPRU
    CODES(0xa0, 0xa1) = INSN(VIRT_INSN), // INVLPGB
    CODES(0xa3, 0xa4) = INSN(VIRT_INSN), // MCOMMIT, TLBSYNC
};

// Codes beyond the table.
static const struct exit_row nested_fault_row = ROW(MEMORY, 0, decode_nested_fault);
static const struct exit_row invalid_row = ROW(BAD_STATE, 0, NULL);
static const struct exit_row unknown_row = ROW(UNKNOWN, 0, decode_unknown);

static const struct exit_row *row_of(u64 code) {
    if (code < ARRAY_SIZE(exit_rows))
        return exit_rows[code].flags ? &exit_rows[code] : &unknown_row;
    if (code == EXIT_NESTED_FAULT)
        return &nested_fault_row;
    return (u32)code == EXIT_INVALID ? &invalid_row : &unknown_row; // some write 32 bits only
}

void svm_intercept_always(struct cpu_state *cpu) {
    for (u32 code = 0; code < ARRAY_SIZE(exit_rows); code++)
        if (exit_rows[code].flags & ALWAYS)
            vmcb_intercept(cpu, code, true);
}

static __attribute__((noinline)) struct exit decode_event(struct cpu_state *cpu) {
    const struct vmcb *vmcb = vmcb_of(cpu);
    const struct exit_row *row = row_of(vmcb->exit_code);
    struct exit e = {.kind = row->kind, .detail = vmcb->exit_info1};

    svm_events_after_exit(cpu);
    return row->decode ? row->decode(vmcb, e) : e;
}

// `detail` is what the processor tells first, or the code that is not known.
struct exit svm_exit(struct cpu_state *cpu) {
    const struct vmcb *vmcb = vmcb_of(cpu);
    u64 code = vmcb->exit_code;

    if (unlikely(code >= ARRAY_SIZE(exit_rows) || !(exit_rows[code].flags & INSTRUCTION)))
        return decode_event(cpu);
    const struct exit_row *row = &exit_rows[code];
    if (row->decode)
        return row->decode(vmcb, exit_new(row->kind, 0, vmcb->exit_info1));
    return exit_new(row->kind, length(vmcb), vmcb->exit_info1);
}
