// SPDX-License-Identifier: Apache-2.0
//
// The kernel's log ring, its binary trace ring and the list of exit kinds, as dom0 reads them (mapped read-only).
// Writers store a record first and advance `head` after; a reader that was overtaken sees it in the record's own
// sequence number.

#pragma once

#include <stdint.h>

struct basalt_log {
    uint64_t head;  // bytes ever written; byte n lies at data[n % bytes]
    uint64_t bytes; // of data, a power of two
    uint64_t reserved[6];
    char data[];
};

struct basalt_trace_record {
    uint64_t tsc;
    uint16_t event;  // enum basalt_trace_event, or BASALT_TRACE_EXIT + exit kind
    uint16_t domain; // id, low 16 bits
    uint16_t vcpu;
    uint16_t sequence; // low bits of the record's number
    uint64_t args[2];
};
_Static_assert(sizeof(struct basalt_trace_record) == 32, "ABI");

struct basalt_trace {
    uint64_t head;  // records ever written; record n lies at records[n % count]
    uint64_t count; // a power of two
    uint64_t reserved[2];
    struct basalt_trace_record records[];
};

// An exit's arguments are RIP and a detail: of a hypercall RAX, of a memory access its address, of a port access the
// APM's "IOIO Intercept Information", whichever the processor.
enum basalt_trace_event {
    BASALT_TRACE_EXITS,    // no record's: stands for all exits in the choice of what is recorded
    BASALT_TRACE_SWITCH,   // args: vCPU's virtual time
    BASALT_TRACE_WAKE,     // args: why it waited (BLOCK_* of guest/vcpu.h), what it still waits for
    BASALT_TRACE_INJECT,   // args: vector
    BASALT_TRACE_REQUEST,  // args: address, data
    BASALT_TRACE_DOORBELL, // args: address, port
    BASALT_TRACE_IRQ,      // args: vector
    BASALT_TRACE_TIMER,
    BASALT_TRACE_DOMAIN,       // args: what happened
    BASALT_TRACE_EXIT = 0x100, // + enum basalt_exit_kind
};

// The choice of what is recorded: BIT(event) of each.
#define BASALT_TRACE_ALL 0x1ffu

// It never ends moving these:
// clang-format off
// One row per kind of VM exit, the same for both vendors: X(kind, name).
#define BASALT_EXITS(X)                                                                   \
    X(EXCEPTION, "exception") X(INTERRUPT, "interrupt") X(NMI, "nmi") X(SMI, "smi")       \
    X(INIT, "init") X(IRQ_WINDOW, "irq-window") X(NMI_WINDOW, "nmi-window")               \
    X(TASK_SWITCH, "task-switch") X(CPUID, "cpuid") X(HLT, "hlt") X(INVD, "invd")         \
    X(WBINVD, "wbinvd") X(RDPMC, "rdpmc") X(HYPERCALL, "hypercall")                       \
    X(VIRT_INSN, "virt-insn") X(CR_ACCESS, "cr-access") X(DR_ACCESS, "dr-access")         \
    X(IO, "io") X(RDMSR, "rdmsr") X(WRMSR, "wrmsr") X(BAD_STATE, "bad-state")             \
    X(MWAIT, "mwait") X(MONITOR, "monitor") X(PAUSE, "pause")                             \
    X(MACHINE_CHECK, "machine-check") X(APIC_EOI, "apic-eoi") X(MEMORY, "memory")         \
    X(PREEMPTION, "preemption-timer") X(XSETBV, "xsetbv") X(TRIPLE_FAULT, "triple-fault") \
    X(APIC_WRITE, "apic-write") X(UNKNOWN, "unknown")
// clang-format on

enum basalt_exit_kind {
#define BASALT_EXIT_ENUM(kind, name) BASALT_EXIT_##kind,
    BASALT_EXITS(BASALT_EXIT_ENUM)
#undef BASALT_EXIT_ENUM
        BASALT_EXIT_COUNT,
};
