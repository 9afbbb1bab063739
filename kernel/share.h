// SPDX-License-Identifier: Apache-2.0
//
// Shares: explicit, revocable grants of a range of a domain's memory to another domain. Invariant: for every page that
// a grantee has mapped through a share the frame holds one more reference, and the share knows which pages those are
// (the first `mapped` of the range). Ending a share, or either domain, takes all of them away.

#pragma once

#include "kernel/domain.h"

struct share {
    struct domain *owner, *grantee; // owner NULL: free
    u64 gpa, pages;                 // in the owner
    u64 target;                     // in the grantee, or BASALT_SHARE_IDENTITY
    u64 mapped;                     // pages done
    u32 permissions;                // BASALT_SHARE_*
    bool mapping, ending;
    struct list link; // of the grantee's list
};

#define SHARES_MAX (PAGE_SIZE / sizeof(struct share)) // a frame's count of references is wider

i64 share_grant(struct domain *owner, gpa_t gpa, u64 pages, u64 permissions,
                struct domain *grantee);
/// A share by its id, if `d` is its grantee or its owner.
struct share *share_find(struct domain *d, u64 id);
/// Maps the next pieces; -BASALT_EINTR when more are left.
int share_map(struct share *s, u64 target);
/// Fills extents from page `first` on into *out; returns how many (at most `count`).
unsigned share_extents(struct share *s, u64 first, struct basalt_extent *out, unsigned count);
/// Unmaps the next pieces and frees the share at the end; -BASALT_EINTR when more are left.
int share_end(struct share *s, unsigned *budget);
/// Ends all shares that the domain granted or was granted.
int shares_teardown(struct domain *d, unsigned *budget);
