// SPDX-License-Identifier: Apache-2.0
//
// Handles: capabilities over a domain or the machine, in the holder's own table, charged to it. The kernel asks for a
// right, never for an identity. Invariant: a handle on a domain is in that domain's list; delegated handles carry no
// right to delegate, so derivations are one level deep. Protected by the target's lock and the holder's.

#pragma once

#include "kernel/domain.h"

#define BASALT_RIGHTS_SELF 0u

/// A new handle of `holder` on `target` (NULL: the machine). NULL when the holder's table or quota is full.
struct handle *handle_create(struct domain *holder, struct domain *target, u32 rights);
/// The handle at `index` of the holder's table, or NULL.
struct handle *handle_find(struct domain *holder, u64 index);
/// The first handle at or after *cursor; *cursor is its index then. NULL at the end.
struct handle *handle_next(struct domain *holder, u32 *cursor);
/// Delegates `rights` of `from` to `to`. Returns the new index or a negative error.
i64 handle_delegate(struct handle *from, u64 rights, struct domain *to);
/// Takes back what was delegated from `parent`.
void handle_revoke(struct handle *parent);
/// Removes all handles on the domain and all that it holds, within *budget. 0 when done, -BASALT_EINTR otherwise.
int handles_teardown(struct domain *d, unsigned *budget);
