// SPDX-License-Identifier: Apache-2.0
//
// Second-level page tables: guest-physical to host-physical, in the formats of EPT, AMD nested paging and VT-d
// second level, built by one builder. Invariant: every table frame reachable from the root came from ept_page_alloc()
// and is reachable once; an entry that is not present may carry a fault policy. Follows
// "The Extended Page Table Mechanism" (SDM), "Nested Paging" (APM) and "Second-Stage Paging Entries" (VT-d).

#pragma once

#include "arch/types.h"

// Permissions and memory type of a leaf. Without any permission it is memory that the domain holds but can't touch.
#define EPT_READ     0x1u
#define EPT_WRITE    0x2u
#define EPT_EXEC     0x4u
#define EPT_RWX      0x7u
#define EPT_UNCACHED 0x8u  // device memory; write-back otherwise
#define EPT_FOREIGN  0x10u // the frame is not owned by this table's domain (share, device)

// What an access to an entry without permission means.
enum ept_policy { EPT_POLICY_TRAP, EPT_POLICY_POPULATE, EPT_POLICY_COPY, EPT_POLICY_LOG };

struct ept_format {
    u64 read, write, exec, no_exec; // permission bits; no_exec is set where EXEC is absent
    u64 table;                      // bits of an entry that points to a table
    u64 superpage;                  // marks a leaf above the last level
    u64 write_back, uncached;       // memory type bits of a leaf
};

extern const struct ept_format ept_format_ept, ept_format_npt, ept_format_vtd;

struct ept {
    const struct ept_format *format;
    u64 *root;
    u64 generation; // counts changes that cached translations must not outlive
    u64 cursor;     // of ept_pop
    u8 max_shift;   // largest leaf that the processor takes: 12, 21 or 30
};

struct ept_leaf {
    bool present;
    u8 shift;  // 12, 21, 30; of the hole where not present
    u8 policy; // enum ept_policy
    u32 flags; // EPT_*
    u64 gpa;   // start of the leaf
    hpa_t hpa; // start of the frame
};

#define EPT_LIMIT BIT(48)

/// The owner of the tables has these: a zeroed page of the kernel's pool for them, or NULL; and to give one back.
void *ept_page_alloc(struct ept *ept);
void ept_page_free(struct ept *ept, void *page);

/// Sets up an empty table. -BASALT_ENOMEM when there is no page for the root. No lock: not yet visible.
must_check int ept_init(struct ept *ept, const struct ept_format *format, unsigned max_shift);

/// Maps one leaf of 1 << `shift` bytes. Both addresses are aligned to it. -BASALT_EEXIST if anything is mapped in
/// the range, -BASALT_ENOMEM if a table can't be allocated (nothing is changed then but empty tables),
/// -BASALT_EINVAL for a bad address or a size that this table doesn't take. Caller holds the domain's lock.
must_check int ept_map(struct ept *ept, gpa_t gpa, hpa_t hpa, unsigned shift, u32 flags);

/// Removes the leaf of exactly 1 << `shift` bytes at `gpa`, splitting a larger one if needed; `*old` tells what it
/// was. -BASALT_ENOENT if nothing is mapped or only smaller leaves are, -BASALT_ENOMEM if a split found no page.
must_check int ept_unmap(struct ept *ept, gpa_t gpa, unsigned shift, struct ept_leaf *old);

/// Makes the mapped page at `gpa` executable, splitting a larger leaf. -BASALT_ENOENT if nothing is mapped there,
/// -BASALT_ENOMEM if a split found no page.
must_check int ept_allow_exec(struct ept *ept, gpa_t gpa);

/// Sets the fault policy of a hole of 1 << `shift` bytes. -BASALT_EEXIST if something is mapped there.
must_check int ept_set_policy(struct ept *ept, gpa_t gpa, unsigned shift, enum ept_policy policy);

/// What lies at `gpa`: bounded by the number of levels.
struct ept_leaf ept_walk(const struct ept *ept, gpa_t gpa);

/// Takes the first leaf out of the table and frees tables that became empty, looking at no more than *budget
/// entries (decremented). Returns 1 with *out filled; 0 when the table is empty and even the root is freed; -1 when
/// the budget is used up: call again.
int ept_pop(struct ept *ept, struct ept_leaf *out, unsigned *budget);
