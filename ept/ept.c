// SPDX-License-Identifier: Apache-2.0
//
// The second-level table builder. A guest-physical address of 48 bits has four indices of nine bits:
//
//      47      39 38      30 29      21 20      12 11         0
//     +----------+----------+----------+----------+------------+
//     | level 4  | level 3  | level 2  | level 1  |   offset   |
//     +----------+----------+----------+----------+------------+
//                  1 GiB leaf 2 MiB leaf 4 KiB leaf
//
// An entry is written once, whole, after what it points to is complete, so that a processor walking the table at
// the same time sees the old or the new state. Software bits (ignored by all three formats): 52-53 fault policy of an
// entry that is not present, 54 foreign frame, 55 an entry that leads somewhere; a leaf without any rights has it,
// too, which to a processor is not present.

#include "ept/ept.h"

#include "arch/paging.h"

#include <basalt/error.h>

#define ENTRIES      512u
#define LEVELS       4u
#define ADDRESS_MASK 0x000ffffffffff000ull
#define POLICY_SHIFT 52
#define POLICY_MASK  (3ull << POLICY_SHIFT)
#define FOREIGN      BIT(54)
#define PRESENT      BIT(55)

static unsigned level_shift(unsigned level) { return PAGE_SHIFT + 9 * (level - 1); }
static unsigned shift_level(unsigned shift) { return (shift - PAGE_SHIFT) / 9 + 1; }
static unsigned index_of(u64 gpa, unsigned level) {
    return (gpa >> level_shift(level)) & (ENTRIES - 1);
}

static bool is_present(u64 entry) { return entry & PRESENT; }

static bool is_leaf(const struct ept *ept, u64 entry, unsigned level) {
    return level == 1 || (entry & ept->format->superpage);
}

static u64 leaf_entry(const struct ept *ept, hpa_t hpa, unsigned level, u32 flags) {
    const struct ept_format *f = ept->format;
    u64 entry = hpa.v | PRESENT;

    entry |= flags & EPT_READ ? f->read : 0;
    entry |= flags & EPT_WRITE ? f->write : 0;
    entry |= flags & EPT_EXEC ? f->exec : f->no_exec;
    entry |= flags & EPT_UNCACHED ? f->uncached : f->write_back;
    entry |= flags & EPT_FOREIGN ? FOREIGN : 0;
    entry |= level > 1 ? f->superpage : 0;
    return entry;
}

static u32 leaf_flags(const struct ept *ept, u64 entry) {
    const struct ept_format *f = ept->format;
    u64 type = f->uncached | f->write_back;
    u32 flags = 0;

    flags |= entry & f->read ? EPT_READ : 0;
    flags |= entry & f->write ? EPT_WRITE : 0;
    flags |= f->no_exec ? (entry & f->no_exec ? 0 : EPT_EXEC) : entry & f->exec ? EPT_EXEC : 0;
    flags |= type && (entry & type) == f->uncached ? EPT_UNCACHED : 0;
    flags |= entry & FOREIGN ? EPT_FOREIGN : 0;
    return flags;
}

static u64 *table_of(u64 entry) { return pool_ptr(HPA(entry & ADDRESS_MASK)); }

static void write_entry(u64 *slot, u64 value) { __atomic_store_n(slot, value, __ATOMIC_RELEASE); }

int ept_init(struct ept *ept, const struct ept_format *format, unsigned max_shift) {
    *ept = (struct ept){.format = format, .generation = 1, .max_shift = (u8)max_shift};
    ept->root = ept_page_alloc(ept);
    return ept->root ? 0 : -BASALT_ENOMEM;
}

// Replaces a leaf of `level` by a table of leaves of the level below with the same rights and type.
static int split(struct ept *ept, u64 *slot, unsigned level) {
    u64 *table = ept_page_alloc(ept);
    u32 flags = leaf_flags(ept, *slot);
    u64 step = BIT(level_shift(level - 1));
    hpa_t hpa = HPA(*slot & ADDRESS_MASK & ~(BIT(level_shift(level)) - 1));

    if (!table)
        return -BASALT_ENOMEM;
    for (unsigned i = 0; i < ENTRIES; i++, hpa.v += step)
        table[i] = leaf_entry(ept, hpa, level - 1, flags);
    write_entry(slot, pool_hpa(table).v | ept->format->table | PRESENT);
    ept->generation++;
    return 0;
}

// Gives an empty slot a table whose entries inherit the slot's fault policy.
static int grow(struct ept *ept, u64 *slot) {
    u64 *table = ept_page_alloc(ept);

    if (!table)
        return -BASALT_ENOMEM;
    if (*slot & POLICY_MASK)
        for (unsigned i = 0; i < ENTRIES; i++)
            table[i] = *slot & POLICY_MASK;
    write_entry(slot, pool_hpa(table).v | ept->format->table | PRESENT);
    return 0;
}

// Finds the slot of the leaf of 1 << shift bytes at `gpa`, growing missing tables or splitting larger leaves as allowed.
static int find_slot(struct ept *ept, u64 gpa, unsigned shift, bool may_grow, u64 **out) {
    u64 *table = ept->root;

    if ((shift != 12 && shift != 21 && shift != 30) || shift > ept->max_shift || gpa >= EPT_LIMIT ||
        gpa & (BIT(shift) - 1))
        return -BASALT_EINVAL;
    for (unsigned level = LEVELS; level > shift_level(shift); level--) {
        u64 *slot = &table[index_of(gpa, level)];
        int error = 0;

        if (!is_present(*slot))
            error = may_grow ? grow(ept, slot) : -BASALT_ENOENT;
        else if (is_leaf(ept, *slot, level))
            error = may_grow ? -BASALT_EEXIST : split(ept, slot, level);
        if (error)
            return error;
        table = table_of(*slot);
    }
    *out = &table[index_of(gpa, shift_level(shift))];
    return 0;
}

int ept_map(struct ept *ept, gpa_t gpa, hpa_t hpa, unsigned shift, u32 flags) {
    unsigned level = shift_level(shift);
    u64 *slot, *empty = NULL;

    if (hpa.v & ((BIT(shift) - 1) | ~ADDRESS_MASK))
        return -BASALT_EINVAL;
    int error = find_slot(ept, gpa.v, shift, true, &slot);
    if (error)
        return error;
    if (is_present(*slot)) {
        if (is_leaf(ept, *slot, level))
            return -BASALT_EEXIST;
        // An empty table may stand where a superpage fits: tables are freed by ept_pop only.
        empty = table_of(*slot);
        for (unsigned i = 0; i < ENTRIES; i++)
            if (is_present(empty[i]))
                return -BASALT_EEXIST;
    }
    write_entry(slot, leaf_entry(ept, hpa, level, flags));
    if (empty) {
        ept->generation++;
        ept_page_free(ept, empty);
    }
    return 0;
}

static struct ept_leaf describe(const struct ept *ept, u64 gpa, u64 entry, unsigned level) {
    u64 size = BIT(level_shift(level));
    bool present = is_present(entry);

    return (struct ept_leaf){
        .present = present,
        .shift = (u8)level_shift(level),
        .policy = present ? EPT_POLICY_TRAP : (u8)(entry >> POLICY_SHIFT & 3),
        .flags = present ? leaf_flags(ept, entry) : 0,
        .gpa = gpa & ~(size - 1),
        .hpa = present ? HPA(entry & ADDRESS_MASK & ~(size - 1)) : HPA_NONE,
    };
}

int ept_unmap(struct ept *ept, gpa_t gpa, unsigned shift, struct ept_leaf *old) {
    u64 *slot;
    int error = find_slot(ept, gpa.v, shift, false, &slot);

    if (error)
        return error;
    if (!is_present(*slot) || !is_leaf(ept, *slot, shift_level(shift)))
        return -BASALT_ENOENT;
    *old = describe(ept, gpa.v, *slot, shift_level(shift));
    write_entry(slot, 0);
    ept->generation++;
    return 0;
}

int ept_allow_exec(struct ept *ept, gpa_t gpa) {
    u64 *slot;
    int error = find_slot(ept, gpa.v, PAGE_SHIFT, false, &slot);

    if (error)
        return error;
    if (!is_present(*slot))
        return -BASALT_ENOENT;
    write_entry(slot, (*slot | ept->format->exec) & ~ept->format->no_exec);
    return 0;
}

int ept_set_policy(struct ept *ept, gpa_t gpa, unsigned shift, enum ept_policy policy) {
    u64 *slot;
    int error = find_slot(ept, gpa.v, shift, true, &slot);

    if (error)
        return error;
    if (is_present(*slot))
        return -BASALT_EEXIST;
    write_entry(slot, (u64)policy << POLICY_SHIFT);
    return 0;
}

struct ept_leaf ept_walk(const struct ept *ept, gpa_t gpa) {
    u64 *table = ept->root;

    if (gpa.v >= EPT_LIMIT || !table)
        return (struct ept_leaf){.shift = 12, .gpa = gpa.v & PAGE_MASK, .hpa = HPA_NONE};
    for (unsigned level = LEVELS;; level--) {
        u64 entry = table[index_of(gpa.v, level)];
        if (!is_present(entry) || is_leaf(ept, entry, level))
            return describe(ept, gpa.v, entry, level);
        table = table_of(entry);
    }
}

// The cursor moves past what is empty but never leaves a table's range, so that a table is always found again and freed.
int ept_pop(struct ept *ept, struct ept_leaf *out, unsigned *budget) {
    while (ept->root) {
        unsigned level = LEVELS;
        u64 *parent = NULL, *table = ept->root, *slot = &table[index_of(ept->cursor, level)];

        for (; *budget; --*budget) {
            bool present = is_present(*slot);
            if (present && is_leaf(ept, *slot, level)) {
                *out = describe(ept, ept->cursor, *slot, level);
                write_entry(slot, 0);
                ept->generation++;
                return 1;
            }
            if (present) {
                parent = slot;
                table = table_of(*slot);
                level--;
                slot = &table[index_of(ept->cursor, level)];
            } else if (slot == &table[ENTRIES - 1]) {
                break; // nothing is left in this table
            } else {
                slot++;
                ept->cursor = (ept->cursor | (BIT(level_shift(level)) - 1)) + 1;
            }
        }
        if (!*budget)
            return -1;
        if (parent)
            write_entry(parent, 0);
        else
            ept->root = NULL;
        ept_page_free(ept, table);
    }
    return 0;
}
