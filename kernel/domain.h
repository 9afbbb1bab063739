// SPDX-License-Identifier: Apache-2.0
//
// A domain: a physical address space, virtual processors and what hangs on them. Everything that the kernel holds for
// it is charged to its quota. Invariant: a domain is found through a handle only, and all handles are gone before its
// pages are freed. Lock order, when there is more than one CPU: domains (one at a time, but for shares: owner before
// grantee by number), then frames_lock, then the log's.

#pragma once

#include "ept/ept.h"
#include "kernel/frames.h"
#include "kernel/list.h"

#include <basalt/domain.h>
#include <basalt/error.h>
#include <basalt/event.h>
#include <basalt/hypercall.h>
#include <basalt/request.h>

#define HANDLES_PER_PAGE 64u
#define HANDLE_PAGES     64u
#define SERVERS_MAX      4u
#define PORTS_PER_PAGE   512u
#define PORT_PAGES       (BASALT_PORTS / PORTS_PER_PAGE)

struct vcpu;
struct domain;

// Who is rung when something happens; nobody where `domain` is NULL.
struct watcher {
    struct domain *domain;
    u32 port;
};

// A capability: rights of its holder over a target. An entry of a holder's handle table.
struct handle {
    struct domain *target; // NULL: the machine
    struct domain *holder; // NULL: free
    u32 rights;            // BASALT_RIGHT_*
    u32 index;             // in the holder's table
    struct handle *parent; // that this was delegated from
    struct list link;      // of the target's handles, or of the holder's free entries
    u64 reserved[2];
};
SIZE_ASSERT(struct handle, 64);

enum port_kind { PORT_FREE, PORT_ALLOCATED, PORT_IRQ };

struct port {
    u8 kind;   // enum port_kind
    u8 vector; // host vector of a PORT_IRQ
    u32 next;  // of a PORT_FREE: the next free port
};
SIZE_ASSERT(struct port, 8);

// What another domain claims of a domain's addresses: a route, or a doorbell.
struct claim {
    u64 first, last; // inclusive; the address, and above it the space
    struct domain *server;
    u32 id; // of a route: index of the server; of a doorbell: its port
};
SIZE_ASSERT(struct claim, 32);

#define CLAIMS_MAX ((u32)(PAGE_SIZE / sizeof(struct claim)) - 2)

struct share {
    struct domain *owner, *grantee; // owner NULL: free
    u64 gpa, pages;                 // in the owner
    u64 target;                     // in the grantee, or BASALT_SHARE_IDENTITY
    u64 mapped;                     // pages done
    u32 granter;    // id of who granted it: the owner, or one that has the right to its memory
    u8 permissions; // BASALT_SHARE_*
    bool mapping, ending;
    struct list link; // of the grantee's list
};

#define SHARES_MAX (PAGE_SIZE / sizeof(struct share)) // a frame's count of references is wider

struct request_server {
    struct domain *domain; // NULL: free
    struct basalt_request_page *page;
    u32 port;
};

struct domain {
    struct basalt_domain_info info; // what there is to tell of it
    u16 owner;                      // of its frames, from the low bits of its id
    bool identity;                  // its physical addresses are the machine's
    bool has_devices;

    struct ept ept;

    struct basalt_cpuid *cpuid, *cpuid_end; // one page of rows; NULL: the processor's
    const u8 *io_bitmap; // of the ports that it may access without an exit; NULL: none

    struct vcpu *vcpus[BASALT_VCPUS_MAX];

    struct handle self; // handle 0, without rights
    struct handle *handle_pages[HANDLE_PAGES];
    struct list free_handles; // entries of its own table that were used before
    u32 handles_used;    // entries from the table's start that were ever used; the first is not
    struct list handles; // on this domain, of all holders but itself for `self`

    struct basalt_event_page *events; // NULL: none
    struct port *port_pages[PORT_PAGES];
    u32 free_port;  // first port that was used before and is free, 0: none; linked by `next`
    u32 ports_used; // ports from 0 on that were ever used; 0 is never given out
    u32 timer_port;
    struct watcher end_watcher;

    struct claim *claims; // one page: one of zeros, then those that there are, sorted, then of ones
    u32 claim_count;
    struct request_server servers[SERVERS_MAX];

    struct share *share_page; // those that this domain granted
    struct list grants;       // those granted to it
};
_Static_assert(sizeof(struct domain) <= 4096, "a domain fits its page");

/// For each of the domain's vCPUs.
#define for_each_vcpu(v, d)                                     \
    for (unsigned i_ = 0, left_ = (d)->info.vcpus; left_; i_++) \
        if (((v) = (d)->vcpus[i_]) && left_--)

/// Creates a paused domain that may hold `quota` bytes of frames. -BASALT_ENOSPC when that is too little, -BASALT_ENOMEM.
must_check int domain_create(u64 quota, struct domain **out);
/// Takes a bounded step of tearing an ended domain down. 0 when it is gone, -BASALT_EINTR to be called again.
int domain_destroy(struct domain *d);
/// Stops all vCPUs for good and rings whoever watches. `detail` depends on the reason.
void domain_end(struct domain *d, enum basalt_end_reason reason, u32 vcpu, u64 detail);
/// Sets the share of time of all its vCPUs: weight 1..SCHED_WEIGHT_MAX, cap in percent of a CPU or 0.
void domain_schedule(struct domain *d, u32 weight, u32 cap);
/// Carries out an enum basalt_domain_op; -BASALT_EINVAL if it is none, or the domain has ended.
int domain_control(struct domain *d, u64 op);
u64 domains_charged(void);

/// Charges `bytes` of frames; false when the quota does not allow it.
must_check bool domain_charge(struct domain *d, u64 bytes);
void domain_uncharge(struct domain *d, u64 bytes);
/// A zeroed kernel page charged to the domain; NULL when quota or memory is out.
void *domain_page_alloc(struct domain *d);
void domain_page_free(struct domain *d, void *page);

// kernel/memory.c: a domain's physical memory.
/// Whether there are pages from `gpa` on, `gpa` is page aligned, and none lies beyond what a table can map.
bool memory_range_ok(gpa_t gpa, u64 pages);
/// Populates up to `pages` frames from `gpa` on, zeroed, as BASALT_POPULATE_* says; returns the number done (one chunk
/// or 64 frames at most).
i64 memory_populate(struct domain *d, gpa_t gpa, u64 pages, u64 flags);
i64 memory_release(struct domain *d, gpa_t gpa, u64 pages);
/// Handles a lazily populated hole. True when the access may be tried again.
bool memory_fault(struct domain *d, gpa_t gpa);
/// Lets the domain execute the page at `gpa`, which is memory of its own. False: no memory for a table.
bool memory_allow_code(struct domain *d, gpa_t gpa);
/// The byte at `gpa`, to be read or written within its page, until the next call or slots_clear(); brings in lazily
/// populated memory. `level` of the guest's table that it belongs to, 1 to 4, 0: none; two levels don't share windows.
/// NULL: no memory there, or read-only.
void *memory_window(struct domain *d, gpa_t gpa, bool write, unsigned level);
/// Copies between the kernel and a domain's physical memory. -BASALT_EFAULT leaves a part done.
must_check int memory_read(struct domain *d, gpa_t gpa, void *buffer, u64 bytes);
must_check int memory_write(struct domain *d, gpa_t gpa, const void *buffer, u64 bytes);
/// Maps kernel-held pages or device memory into an identity-mapped domain; flags EPT_*.
must_check int memory_map_identity(struct domain *d, hpa_t base, u64 bytes, u32 flags);
/// Maps frames that identity-mapped `d` owns and charges them; for dom0_build(). What was mapped before an error stays.
must_check int memory_give(struct domain *d, hpa_t base, u64 bytes);
void memory_unmap_identity(struct domain *d, hpa_t base, u64 bytes);
void memory_zero(hpa_t base, u64 bytes);
/// Frees what the domain's table maps, within *budget. 0 when done, -BASALT_EINTR otherwise.
int memory_teardown(struct domain *d, unsigned *budget);
/// A zeroed page charged to `d` and mapped, writable, in identity-mapped `holder`. NULL: out of memory or quota.
must_check void *memory_share_page(struct domain *d, struct domain *holder);

// kernel/handle.c: capabilities over a domain or the machine, in the holder's own table, charged to it. The kernel asks for
// a right, never for an identity. Invariant: a handle on a domain, but its own, is in that domain's list; delegated handles
// carry no right to delegate, so derivations are one level deep.
/// A new handle of `holder` on `target` (NULL: the machine). NULL when the holder's table or quota is full.
struct handle *handle_create(struct domain *holder, struct domain *target, u32 rights);
/// The handle at `index` of the holder's table, or NULL.
struct handle *handle_find(struct domain *holder, u64 index);
/// Delegates `rights` of `from` to `to`. Returns the new index or a negative error.
i64 handle_delegate(struct handle *from, u64 rights, struct domain *to);
/// Takes back what was delegated from `parent`, and with a holder's last handle what it has of the domain's memory by shares,
/// within *budget. 0 when done, -BASALT_EINTR otherwise.
must_check int handle_revoke(struct handle *parent, unsigned *budget);
/// Removes all handles on the domain and all that it holds, within *budget. 0 when done, -BASALT_EINTR otherwise.
int handles_teardown(struct domain *d, unsigned *budget);

// kernel/share.c: explicit, revocable grants of a range of a domain's memory to another domain. Invariant: for every page
// that a grantee has mapped through a share the frame holds one more reference, and the share knows which pages those are
// (the first `mapped` of the range). Ending a share, or either domain, takes all of them away.
/// Lends pages of the owner's, as its `granter` asks: itself, or who has the right to its memory. Returns the share's index, or
/// -BASALT_EINVAL, -BASALT_ENOSPC.
i64 share_grant(struct domain *owner, gpa_t gpa, u64 pages, u64 permissions, struct domain *grantee,
                const struct domain *granter);
/// A share by its index, if `d` may map or end it: as its grantee, or as who granted it. What others granted of its memory,
/// to reach it, the owner can't take from them.
struct share *share_find(struct domain *owner, u64 index, const struct domain *d);
/// Maps the next pages as far as they follow on each other in the grantee. Returns the address of the first there and
/// *pages, 0 if all were mapped, or an error if there is none to tell of.
i64 share_map(struct share *s, u64 target, u64 *pages);
/// Unmaps the next pieces and frees the share at the end; -BASALT_EINTR when more are left.
int share_end(struct share *s, unsigned *budget);
/// Ends all shares of the owner's memory, or all with the grantee where there is one. -BASALT_EINTR when more are left.
must_check int shares_end(struct domain *owner, const struct domain *grantee, unsigned *budget);
/// Ends all shares that the domain granted or was granted.
int shares_teardown(struct domain *d, unsigned *budget);
