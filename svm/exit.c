// SPDX-License-Identifier: Apache-2.0
//
// VM exits: a table from the processor's exit code to the vendor-neutral kind and a function that decodes the rest.
// Invariant: a pure function of the VMCB and the processor's features; a code that is not in the table is UNKNOWN,
// and a length that the processor did not report is 0. Follows the APM, "SVM Intercept Exit Codes" and the sections
// on each intercept.

#include "arch/x86.h"
#include "svm/svm.h"

struct decoder {
    const struct vmcb *vmcb;
    const struct backend_features *features;
    struct exit *exit;
};

enum exit_row_flag {
    KNOWN = 1,  // a row that is not there has no flags
    ALWAYS = 2, // intercepted in every guest at all times
    INSTRUCTION =
        4, // comes before an instruction is executed: with NRIP save the end of that is known
};

struct exit_row {
    u8 kind;  // enum basalt_exit_kind
    u8 flags; // enum exit_row_flag
    void (*decode)(const struct decoder *d);
};

static u8 length_until(const struct vmcb *vmcb, u64 next_rip)
{
    u64 length = next_rip - vmcb->rip;
    return length >= 1 && length <= 15 ? (u8)length : 0;
}

static void decode_cr(const struct decoder *d)
{
    u64 code = d->vmcb->exit_code;
    bool selective = code == EXIT_CR0_SELECT;

    d->exit->write = selective || code >= EXIT_CR_WRITE;
    d->exit->cr = selective ? 0 : code & 0xf;
    d->exit->gpr = 0xff; // CLTS, LMSW, SMSW, or a processor that does not say
    if (d->features->decode_assists && (d->vmcb->exit_info1 & CR_INFO_MOV))
        d->exit->gpr = d->vmcb->exit_info1 & 0xf;
}

static void decode_dr(const struct decoder *d)
{
    d->exit->write = d->vmcb->exit_code >= EXIT_DR_WRITE;
    d->exit->cr = d->vmcb->exit_code & 0xf;
    d->exit->gpr = d->features->decode_assists ? d->vmcb->exit_info1 & 0xf : 0xff;
}

static void decode_exception(const struct decoder *d)
{
    u8 vector = d->vmcb->exit_code & 0x1f;

    d->exit->vector = vector;
    d->exit->has_error = EXC_WITH_ERROR & BIT(vector);
    if (d->exit->has_error)
        d->exit->error = (u32)d->vmcb->exit_info1;
    if (vector == EXC_PF)
        d->exit->linear = d->vmcb->exit_info2;
    if (vector == EXC_DB)
        d->exit->detail = d->vmcb->dr6 & ~DR6_FIXED; // the processor has updated it before the exit
}

// INT1 traps: its length, if it is known, tells the caller to move RIP over it before the exception is delivered.
static void decode_icebp(const struct decoder *d)
{
    d->exit->vector = EXC_DB;
    d->exit->insn_length = MAX(d->exit->insn_length, 1);
}

// The x87 error that would freeze a PC/AT's processor until its IRQ 13 was handled is told to the guest as #MF.
static void decode_ferr(const struct decoder *d)
{
    d->exit->vector = EXC_MF;
}

static void decode_io(const struct decoder *d)
{
    u64 info = d->vmcb->exit_info1;
    struct exit *e = d->exit;

    e->write = !(info & IO_INFO_IN);
    e->string = info & IO_INFO_STRING;
    e->rep = info & IO_INFO_REP;
    e->bytes = info >> IO_INFO_BYTES_SHIFT & 7;
    e->address_size = (u8)((info >> IO_INFO_ADDRESS_SHIFT & 7) << 1);
    e->segment = d->features->decode_assists ? info >> IO_INFO_SEGMENT_SHIFT & 7 : 0xff;
    e->port = (u16)(info >> IO_INFO_PORT_SHIFT);
    e->insn_length = length_until(d->vmcb, d->vmcb->exit_info2);
}

static void decode_msr(const struct decoder *d)
{
    d->exit->kind = d->vmcb->exit_info1 & 1 ? BASALT_EXIT_WRMSR : BASALT_EXIT_RDMSR;
}

// In the form that VMX reports: the TSS selector, and in bits 31:30 CALL, IRET, JMP or task gate.
static void decode_task_switch(const struct decoder *d)
{
    u64 info = d->vmcb->exit_info2;
    u64 source = info & TASK_INFO_IRET ? 1 : info & TASK_INFO_JUMP ? 2 : 0;

    if (d->vmcb->exit_int_info & EVENT_VALID)
        source = 3;
    d->exit->detail = (d->vmcb->exit_info1 & 0xffff) | source << 30;
}

static void decode_nested_fault(const struct decoder *d)
{
    u64 info = d->vmcb->exit_info1;

    d->exit->write = info & FAULT_INFO_WRITE;
    d->exit->fetch = info & FAULT_INFO_FETCH;
    d->exit->in_walk = info & FAULT_INFO_WALK;
    d->exit->detail = info;
    d->exit->gpa = GPA(d->vmcb->exit_info2);
}

#define ROW(name, flags, decode)                    \
    {                                               \
        BASALT_EXIT_##name, KNOWN | (flags), decode \
    }
#define INSN(name)         ROW(name, ALWAYS | INSTRUCTION, NULL)
#define CODES(first, last) [first... last]
#define EXC(vector)        (EXIT_EXCEPTION + (vector))

static const struct exit_row exit_rows[] = {
    CODES(EXIT_CR_READ, EXIT_DR_READ - 1) = ROW(CR_ACCESS, INSTRUCTION, decode_cr),
    CODES(EXIT_DR_READ, EXIT_EXCEPTION - 1) = ROW(DR_ACCESS, INSTRUCTION, decode_dr),
    [EXC(EXC_DE)] = ROW(EXCEPTION, 0, decode_exception),
    [EXC(EXC_DB)] = ROW(EXCEPTION, ALWAYS, decode_exception), // see EXC_AC
    CODES(EXC(EXC_NMI), EXC(EXC_MF)) = ROW(EXCEPTION, 0, decode_exception),
    [EXC(EXC_AC)] = ROW(EXCEPTION, ALWAYS, decode_exception), // its delivery may raise it
    [EXC(EXC_MC)] = ROW(MACHINE_CHECK, ALWAYS, decode_exception),
    CODES(EXC(EXC_XM), EXC(31)) = ROW(EXCEPTION, 0, decode_exception),
    [0x60] = ROW(INTERRUPT, ALWAYS, NULL),
    [0x61] = ROW(NMI, ALWAYS, NULL),
    [0x62] = ROW(SMI, ALWAYS, NULL),
    [0x63] = ROW(INIT, ALWAYS, NULL),
    [EXIT_VINTR] = ROW(IRQ_WINDOW, 0, NULL),
    [EXIT_CR0_SELECT] = ROW(CR_ACCESS, ALWAYS | INSTRUCTION, decode_cr),
    [0x6e] = ROW(RDTSC, INSTRUCTION, NULL),
    [0x6f] = INSN(RDPMC),
    [0x72] = INSN(CPUID),
    [0x73] = INSN(VIRT_INSN),               // RSM
    [EXIT_IRET] = ROW(NMI_WINDOW, 0, NULL), // it is still to be executed
    [0x76] = INSN(INVD),
    [EXIT_PAUSE] = ROW(PAUSE, INSTRUCTION, NULL),
    [0x78] = INSN(HLT),
    [0x7a] = INSN(VIRT_INSN), // INVLPGA
    [0x7b] = ROW(IO, ALWAYS, decode_io),
    [0x7c] = ROW(RDMSR, ALWAYS | INSTRUCTION, decode_msr),
    [0x7d] = ROW(TASK_SWITCH, ALWAYS, decode_task_switch),
    [0x7e] = ROW(EXCEPTION, ALWAYS, decode_ferr),
    [0x7f] = ROW(TRIPLE_FAULT, ALWAYS, NULL), // shutdown
    [EXIT_VMRUN] = INSN(VIRT_INSN),
    [0x81] = INSN(HYPERCALL),            // VMMCALL
    CODES(0x82, 0x86) = INSN(VIRT_INSN), // VMLOAD, VMSAVE, STGI, CLGI, SKINIT
    [0x87] = ROW(RDTSCP, INSTRUCTION, NULL),
    [0x88] = ROW(EXCEPTION, ALWAYS | INSTRUCTION, decode_icebp),
    [0x89] = INSN(WBINVD),
    [0x8a] = INSN(MONITOR),
    [0x8b] = INSN(MWAIT),
    [0x8d] = INSN(XSETBV),
    [0x8e] = INSN(VIRT_INSN),            // RDPRU
    CODES(0xa0, 0xa1) = INSN(VIRT_INSN), // INVLPGB
    CODES(0xa3, 0xa4) = INSN(VIRT_INSN), // MCOMMIT, TLBSYNC
};
static const struct exit_row nested_fault_row = ROW(MEMORY, 0, decode_nested_fault);
static const struct exit_row invalid_row = ROW(BAD_STATE, 0, NULL);
static const struct exit_row unknown_row = ROW(UNKNOWN, 0, NULL);

static const struct exit_row *row_of(u64 code)
{
    if (code == EXIT_NESTED_FAULT)
        return &nested_fault_row;
    if ((u32)code == EXIT_INVALID) // some write 32 bits only
        return &invalid_row;
    return code < ARRAY_SIZE(exit_rows) && exit_rows[code].flags ? &exit_rows[code] : &unknown_row;
}

void svm_intercept_always(struct vmcb *vmcb)
{
    for (u32 code = 0; code < ARRAY_SIZE(exit_rows); code++)
        if (exit_rows[code].flags & ALWAYS)
            vmcb_intercept(vmcb, code, true);
}

// INT n, INT3 and INTO are not reported: RIP is still at the instruction, which is executed again.
static struct event decode_vectoring(u64 info)
{
    struct event event = {
        .vector = info & EVENT_VECTOR,
        .type = svm_event_type(info),
        .has_error = info & EVENT_HAS_ERROR,
        .error = info & EVENT_HAS_ERROR ? (u32)(info >> EVENT_ERROR_SHIFT) : 0,
    };
    event.valid = (info & EVENT_VALID) && !svm_event_is_soft(info);
    return event.valid ? event : (struct event){0};
}

struct exit svm_exit(const struct vmcb *vmcb, const struct backend_features *features)
{
    const struct exit_row *row = row_of(vmcb->exit_code);
    struct exit exit = {.kind = row->kind, .raw = (u32)vmcb->exit_code, .segment = 0xff};
    struct decoder decoder = {vmcb, features, &exit};

    if ((row->flags & INSTRUCTION) && features->nrip_save)
        exit.insn_length = length_until(vmcb, vmcb->next_rip);
    if (row == &unknown_row)
        exit.detail = vmcb->exit_info1;
    if (row->decode)
        row->decode(&decoder);
    exit.vectoring = decode_vectoring(vmcb->exit_int_info);
    return exit;
}
