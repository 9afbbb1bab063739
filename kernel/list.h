// SPDX-License-Identifier: Apache-2.0
//
// Circular doubly-linked lists whose links lie in their members. The head is a link of its own; an empty list's head
// points to itself. clang-tidy does not see that what is removed is no longer reached from the head, and that a member
// which was reached is whole.

#pragma once

#include "arch/types.h"

struct list {
    struct list *next, *previous;
};

static inline void list_init(struct list *head) { head->next = head->previous = head; }

static inline bool list_empty(const struct list *head) { return head->next == head; }

/// Adds `item` at the end.
static inline void list_add(struct list *head, struct list *item) {
    item->next = head;
    item->previous = head->previous; // NOLINT(clang-analyzer-core.NullDereference): see above
    item->previous->next = item;
    head->previous = item;
}

static inline void list_remove(struct list *item) {
    item->next->previous = item->previous; // NOLINT(clang-analyzer-core.NullDereference): see above
    item->previous->next = item->next;
}

/// The member of `type` that the link `item` lies in as `field`.
#define list_entry(item, type, field) container_of(item, type, field)

/// For each link of a list, which may not change meanwhile.
#define list_for_each(l, head) for (typeof(&*(head)) l = (head)->next; l != (head); l = l->next)
