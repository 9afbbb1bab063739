// SPDX-License-Identifier: Apache-2.0
//
// A machine for kernel objects on the host: 64 MiB of RAM under the real frame allocator, one CPU with a real
// scheduler queue, and a backend that keeps a guest's registers in a page and insists that only the loaded
// virtual processor is touched. Frame allocations can be made to fail. Tests that use it name in their comments
// the sources of host_machine.c's list and the --wrap options of its allocator hooks.

#pragma once

#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/schedule.h"

#include <setjmp.h>

// What the fake backend keeps of one virtual processor.
struct host_vcpu {
    u64 pat;
    u64 registers[REG_PDPTE3 + 1]; // CR0, CR4 and EFER are in struct cpu_state
    struct basalt_segment segments[BASALT_IDTR + 1];
    u32 cpl;
    bool no_interrupt, no_nmi;
    bool irq_window, nmi_window, intercept_dr;
    bool x2apic;
    u16 apic_status;
    u32 level_vectors; // of 64 to 95
    unsigned apic_updates;
    u64 flushes;
};

extern bool host_log_quiet;
extern unsigned host_log_errors;
extern unsigned host_log_lines;
extern u64 host_fail_at;     // the n-th frame allocation from now on fails (1: the next); 0: none
extern bool host_fail_rest;  // and all after it do too
extern u64 host_allocations; // count of all
extern jmp_buf *host_reset;  // where machine_reset() jumps to

extern struct exit (*host_run)(
    struct cpu_state *cpu); // plays the guest: takes what is queued, returns an exit
extern u64 host_tsc;        // the clock; 0: the real one
extern u64 host_timer;      // what the local APIC's timer is set to

/// An interrupt of a device comes at the next irq_window().
void host_interrupt(unsigned vector);
/// Frame allocator, CPU, scheduler and backend; once per program.
void host_machine_init(void);
/// A domain, paused, with `quota` bytes; asserts that it works.
struct domain *host_domain(u64 quota);
/// One like dom0: identity-mapped, with an event page, the machine handle and `bytes` of RAM of its own, whose
/// address is returned in *ram. Its vCPU 0 runs 64-bit code.
struct domain *host_dom0(u64 bytes, u64 *ram);
/// Destroys step by step; returns the steps.
unsigned host_destroy(struct domain *d);
struct host_vcpu *host_vcpu(const struct vcpu *v);
/// Makes `v` the current, loaded one, as the scheduler does. NULL: none.
void host_load(struct vcpu *v);
/// Registers and segments of flat 64-bit, 32-bit or 16-bit code; paging off but in 64-bit mode.
void host_set_mode(struct vcpu *v, enum cpu_mode mode);
/// What the backend makes of VMCALL or VMMCALL: the exit of the call that the loaded vCPU's registers say.
void host_exit_for_call(struct vcpu *v);
/// A hypercall by a loaded vCPU in 64-bit mode. *second: RDX, may be NULL.
i64 host_call(struct vcpu *v, u64 number, const u64 args[6], u64 *second);
#define HOST_CALL(v, number, ...) \
    host_call(v, BASALT_HC_##number, (const u64[6]){__VA_ARGS__}, NULL)
/// Where a domain's memory is on the host; asserts that it is mapped.
void *host_memory(struct domain *d, u64 gpa);
/// A bit of randomness, repeatable from the seed that is printed.
u64 host_random(void);
void host_seed(void);
extern u64 (*host_random_source)(void); // where it comes from instead, e.g. from a fuzzer

/// The first handle at or after *cursor; *cursor is its index then. NULL at the end.
static inline struct handle *host_next_handle(struct domain *holder, u32 *cursor) {
    for (; *cursor < holder->handles_used; ++*cursor)
        if (handle_find(holder, *cursor))
            return handle_find(holder, *cursor);
    return NULL;
}

// Who has frames: every frame of RAM is looked at.
// The owner in the frame table of the frame at `pa`.
u16 host_frame_owner(u64 pa);

struct host_account {
    u32 kernel_frames, domain_frames;
    u64 charged;
};
struct host_account host_account(void);
void host_assert_same(struct host_account before);
