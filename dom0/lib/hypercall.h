// SPDX-License-Identifier: Apache-2.0
//
// Every hypercall of <basalt/hypercall.h> as a typed inline function, but for those that only
// event_last_call() makes. They return the kernel's
// result: a value >= 0 or a negative error. Calls that make partial progress (-EINTR, fewer pages
// than asked) are repeated here until they are through. Buffers are dom0's own memory. The
// instruction (VMCALL or VMMCALL) is written into hypercall_insn by start.S before paging is on;
// host tests provide hypercall_raw() themselves.

#pragma once

#include "lib/types.h"

#include "lib/memory.h"

#include <basalt/domain.h>
#include <basalt/hypercall.h>
#include <basalt/request.h>

struct hypercall_result {
    i64 value;
    u64 second; // RDX
};

#ifdef HOST_TEST
struct hypercall_result hypercall_raw(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
#else
static inline struct hypercall_result hypercall_raw(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e,
                                                    u64 f) {
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    register u64 r9 __asm__("r9") = f;
    struct hypercall_result r;
    __asm__ volatile("call hypercall_insn"
                     : "=a"(r.value), "=d"(r.second)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "memory", "cc");
    return r;
}
#endif

#define HC0(n)                (hypercall_raw(n, 0, 0, 0, 0, 0, 0).value)
#define HC1(n, a)             (hypercall_raw(n, a, 0, 0, 0, 0, 0).value)
#define HC2(n, a, b)          (hypercall_raw(n, a, b, 0, 0, 0, 0).value)
#define HC3(n, a, b, c)       (hypercall_raw(n, a, b, c, 0, 0, 0).value)
#define HC4(n, a, b, c, d)    (hypercall_raw(n, a, b, c, d, 0, 0).value)
#define HC5(n, a, b, c, d, e) (hypercall_raw(n, a, b, c, d, e, 0).value)

// ---- the caller itself, the machine ----

static inline u64 hc_version(void) { return (u64)HC0(BASALT_HC_VERSION); }
static inline void hc_block(void) { (void)HC0(BASALT_HC_BLOCK); }
static inline void hc_yield(void) { (void)HC0(BASALT_HC_YIELD); }
/// Bytes of the kernel's log that are on the line, or a negative error.
static inline i64 hc_console_bind(u32 port, u64 shown) {
    return HC3(BASALT_HC_CONSOLE_BIND, BASALT_HANDLE_MACHINE, port, shown);
}
/// Bytes of RAM that no one holds, or a negative error.
static inline i64 hc_memory_free(void) { return HC1(BASALT_HC_MEMORY_INFO, BASALT_HANDLE_MACHINE); }
/// Bytes that are charged to domains.
static inline u64 hc_memory_charged(void) {
    return hypercall_raw(BASALT_HC_MEMORY_INFO, BASALT_HANDLE_MACHINE, 0, 0, 0, 0, 0).second;
}
/// Chooses what the kernel's trace records: a bit for each enum basalt_trace_event.
static inline i64 hc_trace(u64 events) {
    return HC2(BASALT_HC_TRACE, BASALT_HANDLE_MACHINE, events);
}
static inline i64 hc_reset(enum basalt_reset how) {
    return HC2(BASALT_HC_RESET, BASALT_HANDLE_MACHINE, how);
}

// ---- domains ----

static inline i64 hc_domain_create(u64 memory_quota) {
    return HC2(BASALT_HC_DOMAIN_CREATE, BASALT_HANDLE_MACHINE, memory_quota);
}
/// One step: -EINTR means call again (from a later pass of the event loop, for a big domain).
static inline i64 hc_domain_destroy_step(u32 handle) {
    return HC1(BASALT_HC_DOMAIN_DESTROY, handle);
}
static inline i64 hc_domain_destroy(u32 handle) {
    i64 r;
    while ((r = hc_domain_destroy_step(handle)) == -BASALT_EINTR)
        continue;
    return r;
}
static inline i64 hc_domain_control(u32 handle, enum basalt_domain_op op) {
    return HC2(BASALT_HC_DOMAIN_CONTROL, handle, op);
}
static inline i64 hc_domain_info(u32 handle, struct basalt_domain_info *info) {
    return HC2(BASALT_HC_DOMAIN_INFO, handle, phys_of(info));
}
static inline i64 hc_domain_bind(u32 handle, u32 port) {
    return HC2(BASALT_HC_DOMAIN_BIND, handle, port);
}
static inline i64 hc_cpuid_set(u32 handle, const struct basalt_cpuid *rows, u32 count) {
    return HC3(BASALT_HC_CPUID_SET, handle, phys_of(rows), count);
}
static inline i64 hc_domain_schedule(u32 handle, u32 weight, u32 cap) {
    return HC3(BASALT_HC_DOMAIN_SCHEDULE, handle, weight, cap);
}

// ---- memory ----

/// Populates all `pages`; 0, or the error that stopped it (what was done stays; destroy gives it
/// back).
static inline i64 hc_memory_populate(u32 handle, u64 gpa, u64 pages, u32 flags) {
    while (pages > 0) {
        i64 r = HC4(BASALT_HC_MEMORY_POPULATE, handle, gpa, pages, flags);
        if (r < 0 && r != -BASALT_EINTR)
            return r;
        if (r == 0)
            return -BASALT_EAGAIN; // no progress: never for ever
        if (r > 0) {
            gpa += (u64)r * PAGE_SIZE;
            pages -= MIN((u64)r, pages);
        }
    }
    return 0;
}
static inline i64 hc_memory_release(u32 handle, u64 gpa, u64 pages) {
    while (pages > 0) {
        i64 r = HC3(BASALT_HC_MEMORY_RELEASE, handle, gpa, pages);
        if (r < 0 && r != -BASALT_EINTR)
            return r;
        if (r == 0)
            return -BASALT_EAGAIN; // no progress: never for ever
        if (r > 0) {
            gpa += (u64)r * PAGE_SIZE;
            pages -= MIN((u64)r, pages);
        }
    }
    return 0;
}
/// Index of the share among the owner's.
static inline i64 hc_share_grant(u32 owner, u64 gpa, u64 pages, u32 permissions, u32 grantee) {
    return HC5(BASALT_HC_SHARE_GRANT, owner, gpa, pages, permissions, grantee);
}
/// Maps the next pages of the share. Returns the address of the first, and in *pages how many lie there; 0: no more.
static inline i64 hc_share_map(u32 owner, u64 share, u64 gpa, u64 *pages) {
    struct hypercall_result r = hypercall_raw(BASALT_HC_SHARE_MAP, owner, share, gpa, 0, 0, 0);
    *pages = r.value < 0 ? 0 : r.second;
    return r.value;
}
static inline i64 hc_share_end(u32 owner, u64 share) {
    i64 r;
    while ((r = HC2(BASALT_HC_SHARE_END, owner, share)) == -BASALT_EINTR)
        continue;
    return r;
}

// ---- vCPUs ----

static inline i64 hc_vcpu_create(u32 handle, u32 vcpu) {
    return HC2(BASALT_HC_VCPU_CREATE, handle, vcpu);
}
static inline i64 hc_vcpu_set(u32 handle, u32 vcpu, const struct basalt_vcpu_state *state) {
    return HC3(BASALT_HC_VCPU_SET, handle, vcpu, phys_of(state));
}
static inline i64 hc_vcpu_get(u32 handle, u32 vcpu, struct basalt_vcpu_state *state) {
    return HC3(BASALT_HC_VCPU_GET, handle, vcpu, phys_of(state));
}
static inline i64 hc_vcpu_stats(u32 handle, u32 vcpu, struct basalt_vcpu_stats *stats) {
    return HC3(BASALT_HC_VCPU_STATS, handle, vcpu, phys_of(stats));
}
static inline i64 hc_vcpu_field(u32 handle, u32 vcpu, u32 field, u64 *value) {
    struct hypercall_result r = hypercall_raw(BASALT_HC_VCPU_FIELD, handle, vcpu, field, 0, 0, 0);
    *value = r.second;
    return r.value;
}

// ---- ports and the timer (lib/event.h and lib/timer.h are built on these) ----

static inline i64 hc_port_alloc(void) { return HC0(BASALT_HC_PORT_ALLOC); }
static inline i64 hc_port_free(u32 port) { return HC1(BASALT_HC_PORT_FREE, port); }
static inline i64 hc_timer_set(u64 deadline_tsc, u32 port) {
    return HC2(BASALT_HC_TIMER_SET, deadline_tsc, port);
}

// ---- requests, doorbells, injection ----

/// Server id >= 0; the page's address in *page.
static inline i64 hc_request_serve(u32 handle, u32 port, u64 *page) {
    struct hypercall_result r = hypercall_raw(BASALT_HC_REQUEST_SERVE, handle, port, 0, 0, 0, 0);
    *page = r.second;
    return r.value;
}
/// `server`: of a doorbell the port that it rings.
static inline i64 hc_request_route(u32 handle, u32 server, enum basalt_space space, u64 first,
                                   u64 last) {
    return HC5(BASALT_HC_REQUEST_ROUTE, handle, server, space, first, last);
}
static inline i64 hc_request_complete(u32 handle, u32 vcpu, u64 number,
                                      const struct basalt_completion *completion) {
    return HC4(BASALT_HC_REQUEST_COMPLETE, handle, vcpu, number, phys_of(completion));
}
/// `access`: bytes, BASALT_APIC_WRITE.
static inline i64 hc_request_apic(u32 handle, u32 vcpu, u64 number, u64 address, u64 access,
                                  u64 *value) {
    struct hypercall_result r =
        hypercall_raw(BASALT_HC_REQUEST_APIC, handle, vcpu, number, address, access, *value);
    if (r.value >= 0)
        *value = r.second;
    return r.value;
}
static inline u32 hc_pci_read(u32 bdf, u32 offset) {
    return (u32)HC3(BASALT_HC_PCI_READ, BASALT_HANDLE_MACHINE, bdf, offset);
}
static inline i64 hc_pci_command(u32 bdf, u32 value) {
    return HC3(BASALT_HC_PCI_COMMAND, BASALT_HANDLE_MACHINE, bdf, value);
}
static inline i64 hc_irq_bind(u32 bdf, u32 entry, u32 port) {
    return HC4(BASALT_HC_IRQ_BIND, BASALT_HANDLE_MACHINE, bdf, entry, port);
}
static inline i64 hc_irq_ack(u32 port) { return HC1(BASALT_HC_IRQ_ACK, port); }

// ---- handles ----

static inline i64 hc_handle_delegate(u32 handle, u32 rights, u32 holder) {
    return HC3(BASALT_HC_HANDLE_DELEGATE, handle, rights, holder);
}
static inline i64 hc_handle_revoke(u32 handle) {
    i64 r;
    while ((r = HC1(BASALT_HC_HANDLE_REVOKE, handle)) == -BASALT_EINTR)
        continue;
    return r;
}
/// Rights of one's handle, bit 32: on a domain; -BASALT_ENOENT where there is none, -BASALT_EINVAL at the end of the table.
static inline i64 hc_handle_info(u64 index) { return HC1(BASALT_HC_HANDLE_INFO, index); }
