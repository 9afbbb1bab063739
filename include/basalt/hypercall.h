// SPDX-License-Identifier: Apache-2.0
//
// Numbers and register convention of Basalt's hypercalls. The instruction is VMCALL on Intel and VMMCALL on AMD
// processors (the kernel accepts only the one that the processor has; the boot information names it). Number in EAX;
// arguments in RDI, RSI, RDX, R10, R8, R9 from 64-bit code and in EBX, ECX, EDX, ESI, EDI, EBP from 32-bit code;
// result in RAX (negative: an error of error.h, sign-extended), a second result in RDX where documented. All other
// registers are kept. Only CPL 0 may call. Buffers are given by their guest-physical address in the caller.
// The numbers do not overlap KVM's paravirtual ones. A caller begins with BASALT_HC_VERSION. A number plus
// BASALT_HC_THEN_BLOCK: if the call succeeds, it returns when BLOCK would have returned after it.

#pragma once

#define BASALT_ABI_VERSION   9u
#define BASALT_HC_BASE       0xba5a0000u
#define BASALT_HC_THEN_BLOCK 0x1000u

#define BASALT_VERSION_MAGIC 0x746c617361420000ull // "Basalt" above the version in bits 15:0

enum basalt_hypercall {
    // () -> BASALT_VERSION_MAGIC | version
    BASALT_HC_VERSION = BASALT_HC_BASE,
    // () -> 0 at once if a port of the caller's event page is pending, else after the next one; vCPU 0 only
    BASALT_HC_BLOCK,
    // () -> 0: gives the rest of the time slice away
    BASALT_HC_YIELD,
    // (machine, port, shown) -> bytes of the log that are on the line: the caller drives the console's UART from now on
    // and prints the kernel's log, too; rings `port` when that grows. `shown`: bytes of the log that are on the line
    // already; said again as it goes on
    BASALT_HC_CONSOLE_BIND,
    // (machine, events): chooses which events the trace ring records, a bit each (enum basalt_trace_event) -> the choice before
    BASALT_HC_TRACE,
    // (machine) -> bytes of RAM that no one holds; RDX: bytes charged to domains
    BASALT_HC_MEMORY_INFO,
    // (machine, how: enum basalt_reset): does not return on success
    BASALT_HC_RESET,

    // (machine, quota: bytes of frames that it may hold, tables included) -> handle with all rights; the
    // domain is paused, its weight 256, without a cap
    BASALT_HC_DOMAIN_CREATE,
    // (handle): ends the domain and gives every frame back; the handle and every delegated one die. May return
    // -EINTR: call again until 0
    BASALT_HC_DOMAIN_DESTROY,
    // (handle, op: enum basalt_domain_op)
    BASALT_HC_DOMAIN_CONTROL,
    // (handle, struct basalt_domain_info *)
    BASALT_HC_DOMAIN_INFO,
    // (handle, port): rings `port` when the domain ends, or at once if it has (info then names the reason)
    BASALT_HC_DOMAIN_BIND,
    // (handle, weight 1..10000, cap in percent of one CPU or 0)
    BASALT_HC_DOMAIN_SCHEDULE,
    // (handle, gpa, pages, flags: BASALT_POPULATE_*) -> pages done; fewer than asked: call again with the rest
    BASALT_HC_MEMORY_POPULATE,
    // (handle, gpa, pages) -> pages released, fewer than asked: call again. -EBUSY while a share covers the range
    BASALT_HC_MEMORY_RELEASE,
    // (owner handle, gpa, pages, permissions: BASALT_SHARE_*, grantee handle) -> index of the share among the owner's
    BASALT_HC_SHARE_GRANT,
    // (handle on the owner, share, gpa to map at, or BASALT_SHARE_IDENTITY): grantee only; maps the next pages, as many as
    // follow on each other there -> address of the first in the caller, RDX: how many pages; 0: all were mapped before
    BASALT_HC_SHARE_MAP,
    // (handle on the owner, share): grantee unmaps, or granter revokes; either way the share is gone. May return -EINTR
    BASALT_HC_SHARE_END,

    // (handle, vcpu index) creates one vCPU, waiting for INIT/SIPI; vCPU 0 waits for VCPU_SET
    BASALT_HC_VCPU_CREATE,
    // (handle, vcpu, struct basalt_vcpu_state *): the domain must be paused; makes the vCPU runnable
    BASALT_HC_VCPU_SET,
    // (handle, vcpu, struct basalt_vcpu_state *): the domain must be paused or ended, or the vCPU wait for an answer
    BASALT_HC_VCPU_GET,
    // (handle, vcpu, struct basalt_vcpu_stats *)
    BASALT_HC_VCPU_STATS,
    // (handle, vcpu, field): the domain must be paused or ended; RDX: a field of the vCPU's control block, for diagnosis.
    // VMX: a field by its encoding (not of the host state), or BASALT_FIELD_MSR(); SVM: eight bytes at an offset in the
    // VMCB, or BASALT_FIELD_SVM_FEATURES. -EINVAL where there is none
    BASALT_HC_VCPU_FIELD,

    // () -> a free port of the caller's, which needs an event page (only dom0 has one so far)
    BASALT_HC_PORT_ALLOC,
    // (port): unbinds its interrupt, timer and console; doorbells, servers and watchers that ring it are to be
    // unbound before
    BASALT_HC_PORT_FREE,
    // (deadline in TSC ticks, 0 = off; port): one timer per calling domain, from vCPU 0
    BASALT_HC_TIMER_SET,

    // (handle, port) -> server id; allocates a request page for the caller as a request server of the domain;
    // RDX: the page's address in the (identity-mapped) caller
    BASALT_HC_REQUEST_SERVE,
    // (handle, server id, space: enum basalt_space, first, last): exactly the same range again takes the route away. In the
    // spaces of doorbells: (handle, port, space, first, last), a write of exactly these bytes rings the caller's port
    BASALT_HC_REQUEST_ROUTE,
    // (handle, vcpu, number, data): answers a request; -ENOENT if that one is not waiting. Of an instruction the data is an
    // enum basalt_instruction
    BASALT_HC_REQUEST_ANSWER,
    // (handle, message address, message data): injects an MSI; bit 15 of the data: level-triggered. When
    // the guest ends such an interrupt, its vCPU writes the vector to the IOAPIC's EOI register, 0xfec00040: a request
    // to whoever claims that address
    BASALT_HC_INJECT_MSI,

    // (machine, bdf, offset, a multiple of 4) -> 32 bits; all ones where there is no function of the caller's
    BASALT_HC_PCI_READ,
    // (machine, bdf, value): writes the command register, of which four bits are taken: I/O, memory, bus master, INTx off
    BASALT_HC_PCI_COMMAND,
    // (machine, bdf, entry, port): MSI-X entry or MSI message `entry` of the function rings `port`; BASALT_IRQ_LINE: its INTx
    // line does, and stays masked until IRQ_ACK. With BASALT_IRQ_ISA + n instead of a function: the line of ISA interrupt n
    BASALT_HC_IRQ_BIND,
    // (port): unmasks a level-triggered line
    BASALT_HC_IRQ_ACK,

    // (handle, rights, holder handle) -> index of the new handle in the holder's table
    BASALT_HC_HANDLE_DELEGATE,
    // (handle): takes back everything that was delegated from it; who so loses its last handle on the domain loses its
    // shares of the domain's memory, too. May return -EINTR: call again until 0
    BASALT_HC_HANDLE_REVOKE,
    // (index) -> rights of that handle of the caller's, bit 32: on a domain; -ENOENT where there is none, -EINVAL at the end
    BASALT_HC_HANDLE_INFO,

    // (handle, vcpu, number, struct basalt_completion *): answers the request for an instruction with what that did
    BASALT_HC_REQUEST_COMPLETE,
    // (handle, vcpu, number, address, bytes | BASALT_APIC_WRITE, value): accesses the vCPU's local APIC on behalf of an
    // instruction; -EINVAL where the page of its registers is not at that address. RDX: the value read. Returns the vector
    // of a level-triggered interrupt that a write ended and that the IOAPIC is to be told of, else 0
    BASALT_HC_REQUEST_APIC,

    // (handle, struct basalt_cpuid *, count): what CPUID shows the domain's vCPUs; without it they see the processor's own
    BASALT_HC_CPUID_SET,

    BASALT_HC_END,
};

// Rights of a domain handle, each of them control over one aspect of the domain.
#define BASALT_RIGHT_MEMORY   0x01u // populate, release, share
#define BASALT_RIGHT_IO       0x02u // requests, doorbells, injection
#define BASALT_RIGHT_LIFE     0x04u // control, destroy, vCPUs
#define BASALT_RIGHT_DEVICES  0x08u // assign devices to it
#define BASALT_RIGHT_QUOTA    0x10u // schedule and quota
#define BASALT_RIGHT_DELEGATE 0x20u // delegate the other rights
#define BASALT_RIGHTS_DOMAIN  0x3fu
// Rights of the machine handle.
#define BASALT_RIGHT_CREATE       0x100u // create domains
#define BASALT_RIGHT_CONSOLE      0x200u // console, memory information
#define BASALT_RIGHT_PCI          0x400u // PCI functions that are its own, their interrupts
#define BASALT_RIGHT_POWER        0x800u // reset the machine
#define BASALT_RIGHTS_MACHINE     0xf20u

#define BASALT_HANDLE_SELF        0u // in every domain's table
#define BASALT_HANDLE_MACHINE     1u // where the kernel gave one

#define BASALT_IRQ_ISA            0x10000u // + 0..15
#define BASALT_IRQ_LINE           0xffffffffu
#define BASALT_POPULATE_LAZY      1u // frames come at the first touch
#define BASALT_POPULATE_HIDDEN    2u // the domain itself can neither touch nor release nor share it
#define BASALT_SHARE_READ         0x1u
#define BASALT_SHARE_WRITE        0x2u
#define BASALT_SHARE_IDENTITY     (~0ull)

#define BASALT_FIELD_MSR(number)  (0x10000u + (number)) // a VMX capability MSR, 0x480..0x490
#define BASALT_FIELD_SVM_FEATURES 0x10000u              // CPUID 0x8000000A, EDX

enum basalt_reset { BASALT_RESET_COLD = 0, BASALT_RESET_WARM = 1 };

#define BASALT_APIC_WRITE 0x100u

enum basalt_space {
    BASALT_SPACE_IO = 0,
    BASALT_SPACE_MEMORY = 1,
    // Instructions that the kernel does not carry out itself, by the address of the device or by the port
    BASALT_SPACE_INSTRUCTION = 2,
    BASALT_SPACE_IO_DOORBELL = 3, // writes that ring a port instead; they win over a route
    BASALT_SPACE_MEMORY_DOORBELL = 4,
};
