// SPDX-License-Identifier: Apache-2.0
//
// Guest-linear addresses: segmentation, the guest's own page tables in all three formats, and
// instruction fetch. Accessed and dirty bits are set as a processor would. The guest's other
// processors may change the tables meanwhile: each entry is read once, and bits are set in one that
// has not changed. Follows the SDM, "Paging", and "Segment Limit Checking".

#include "devices/host.h"
#include "emulator/emulator.h"
#include "emulator/x86.h"

#include <string.h>

#define WALK_TRIES 8u // when other processors change the tables meanwhile

enum cpu_mode emulator_mode(const struct emulator *e) {
    u32 attributes = e->state.segments[BASALT_CS].attributes;

    if (!(e->state.cr0 & CR0_PE) || e->state.rflags & RFLAGS_VM)
        return MODE_16;
    if (attributes & SEGMENT_LONG && e->state.efer & EFER_LMA)
        return MODE_64;
    return attributes & SEGMENT_DB ? MODE_32 : MODE_16;
}

// SS has the current privilege level in its DPL.
bool emulator_user(const struct emulator *e) {
    if (!(e->state.cr0 & CR0_PE))
        return false;
    return e->state.rflags & RFLAGS_VM || (e->state.segments[BASALT_SS].attributes >> 5 & 3) == 3;
}

bool emulator_raise(struct emulator *e, unsigned vector, u32 error) {
    e->completion.action = BASALT_COMPLETE_EXCEPTION;
    e->completion.vector = (u8)vector;
    e->completion.error = error;
    e->completion.length = 0;
    e->failure = EMULATOR_COMPLETE;
    return false;
}

bool emulator_fail(struct emulator *e, enum emulator_result why) {
    e->failure = why;
    return false;
}

static bool page_fault(struct emulator *e, u64 linear, unsigned error) {
    e->completion.operand = linear;
    return emulator_raise(e, EXC_PF, error);
}

// Rights accumulated over the levels against the access.
static bool allowed(const struct emulator *e, u64 rights, bool no_exec, unsigned access) {
    bool user = access & PF_USER, user_page = rights & PTE_USER;
    u64 cr4 = e->state.cr4;

    if (user && !user_page)
        return false;
    if (access & PF_WRITE && !(rights & PTE_WRITE) && (user || e->state.cr0 & CR0_WP))
        return false;
    if (access & PF_FETCH)
        return !no_exec && !(user_page && !user && cr4 & CR4_SMEP);
    return !(user_page && !user && cr4 & CR4_SMAP && !(e->state.rflags & RFLAGS_AC));
}

// ---- Entries ----

struct walk {
    u64 linear;
    unsigned levels, entry_bytes, index_bits;
    bool nx;
};

static struct walk walk_begin(const struct emulator *e, u64 linear) {
    unsigned levels = e->state.efer & EFER_LMA ? 4 : e->state.cr4 & CR4_PAE ? 3 : 2;

    return (struct walk){.linear = linear,
                         .levels = levels,
                         .entry_bytes = levels == 2 ? 4 : 8,
                         .index_bits = levels == 2 ? 10 : 9,
                         .nx = e->state.efer & EFER_NXE && levels > 2};
}

static unsigned shift_of(const struct walk *w, unsigned level) {
    return PAGE_SHIFT + w->index_bits * (level - 1);
}

static void *pin_entry(struct emulator *e, const struct walk *w, u64 gpa, bool write) {
    size_t length = w->entry_bytes; // aligned: in one page

    return host_guest_pin(e->memory, gpa, &length, write);
}

static bool read_entry(struct emulator *e, const struct walk *w, u64 gpa, u64 *entry) {
    const volatile void *slot = pin_entry(e, w, gpa, false);

    if (!slot)
        return false;
    *entry = w->entry_bytes == 8 ? *(const volatile u64 *)slot : *(const volatile u32 *)slot;
    host_guest_unpin(e->memory);
    return true;
}

// Sets bits of an entry that had the value `old`. False: it has changed, or can't be written.
static bool set_bits(struct emulator *e, const struct walk *w, u64 gpa, u64 old, u64 bits) {
    void *slot = pin_entry(e, w, gpa, true);
    u32 old32 = (u32)old;
    bool done;

    if (!slot)
        return false;
    if (w->entry_bytes == 4)
        done = __atomic_compare_exchange_n((u32 *)slot, &old32, (u32)(old | bits), false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    else
        done = __atomic_compare_exchange_n((u64 *)slot, &old, old | bits, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    host_guest_unpin(e->memory);
    return done;
}

static bool is_leaf(const struct emulator *e, const struct walk *w, unsigned level, u64 entry) {
    if (level == 1)
        return true;
    if (!(entry & PTE_LARGE))
        return false;
    return level == 2 ? w->entry_bytes == 8 || e->state.cr4 & CR4_PSE
                      : level == 3 && w->levels == 4;
}

static u64 leaf_address(const struct walk *w, unsigned level, u64 entry) {
    u64 offset_mask = BIT(shift_of(w, level)) - 1, base = entry & PTE_ADDRESS & ~offset_mask;

    if (level == 2 && w->entry_bytes == 4)
        base = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32; // PSE-36
    return base | (w->linear & offset_mask);
}

static bool walk(struct emulator *e, const struct walk *w, unsigned access, unsigned error,
                 u64 *gpa) {
    u64 rights = PTE_WRITE | PTE_USER, entry;
    u64 table = e->state.cr3 & (w->levels == 3 ? 0xffffffe0ull : PTE_ADDRESS);
    bool no_exec = false;

    for (unsigned level = w->levels, tries = WALK_TRIES; tries;) {
        bool pdpte = w->levels == 3 && level == 3; // has no rights of its own
        u64 index = w->linear >> shift_of(w, level) & (BIT(w->index_bits) - 1);
        u64 at = table + index * w->entry_bytes, wanted = pdpte ? 0 : PTE_ACCESSED;
        if (!read_entry(e, w, at, &entry))
            break;
        if (!(entry & PTE_PRESENT))
            return page_fault(e, w->linear, error);
        bool leaf = is_leaf(e, w, level, entry);
        bool entry_nx = w->nx && !pdpte && entry & PTE_NX;
        if (leaf) {
            if (!allowed(e, rights & entry, no_exec || entry_nx, access))
                return page_fault(e, w->linear, error | PF_PRESENT);
            wanted |= access & PF_WRITE ? PTE_DIRTY : 0;
        }
        if (~entry & wanted && !set_bits(e, w, at, entry, wanted)) {
            tries--;
            continue;
        }
        if (leaf) {
            *gpa = leaf_address(w, level, entry);
            return true;
        }
        rights &= pdpte ? rights : entry;
        no_exec |= entry_nx;
        table = entry & PTE_ADDRESS;
        level--;
    }
    return emulator_fail(e, EMULATOR_CANNOT);
}

bool emulator_translate(struct emulator *e, u64 linear, unsigned access, u64 *gpa) {
    if (!(e->state.cr0 & CR0_PG)) {
        *gpa = (u32)linear;
        return true;
    }
    struct walk w = walk_begin(e, emulator_mode(e) == MODE_64 ? linear : (u32)linear);
    if (emulator_user(e))
        access |= PF_USER;
    // Of a fetch the error code tells only where it can matter.
    unsigned error = w.nx || e->state.cr4 & CR4_SMEP ? access : access & ~PF_FETCH;
    return walk(e, &w, access, error, gpa);
}

// ---- Data and code ----

static bool copy_piece(struct emulator *e, u64 gpa, u8 *buffer, unsigned bytes, bool write) {
    while (bytes) {
        size_t length = bytes;
        u8 *ram = host_guest_pin(e->memory, gpa, &length, write);
        if (!ram)
            return emulator_fail(e, EMULATOR_CANNOT);
        memcpy(write ? ram : buffer, write ? buffer : ram, length);
        host_guest_unpin(e->memory);
        gpa += length;
        buffer += length;
        bytes -= (unsigned)length;
    }
    return true;
}

bool emulator_copy(struct emulator *e, u64 linear, void *buffer, unsigned bytes, unsigned access) {
    u8 *ours = buffer;

    for (unsigned piece; bytes; linear += piece, ours += piece, bytes -= piece) {
        u64 gpa;
        piece = (unsigned)MIN(bytes, PAGE_SIZE - (linear & ~PAGE_MASK));
        if (!emulator_translate(e, linear, access, &gpa) ||
            !copy_piece(e, gpa, ours, piece, access & PF_WRITE))
            return false;
    }
    return true;
}

bool emulator_is_ram(struct emulator *e, u64 gpa) {
    size_t length = 1;
    bool ram = host_guest_pin(e->memory, gpa, &length, false);

    if (ram)
        host_guest_unpin(e->memory);
    return ram;
}

static u64 code_address(const struct emulator *e) {
    if (emulator_mode(e) == MODE_64)
        return e->state.rip;
    return (u32)(e->state.segments[BASALT_CS].base + e->state.rip);
}

// Decodes from a copy, which can't change meanwhile; the next page is read only if the instruction
// goes on there.
bool emulator_decode(struct emulator *e) {
    u8 bytes[INSN_MAX_LENGTH];
    u64 linear = code_address(e);
    unsigned first = (unsigned)MIN((u64)INSN_MAX_LENGTH, PAGE_SIZE - (linear & ~PAGE_MASK));

    if (!emulator_copy(e, linear, bytes, first, PF_FETCH))
        return false;
    enum decode_status status = insn_decode(bytes, first, emulator_mode(e), &e->insn);
    if (status == DECODE_TRUNCATED) {
        if (!emulator_copy(e, linear + first, bytes + first, INSN_MAX_LENGTH - first, PF_FETCH))
            return false;
        status = insn_decode(bytes, INSN_MAX_LENGTH, emulator_mode(e), &e->insn);
    }
    switch (status) {
    case DECODE_OK: return true;
    case DECODE_TOO_LONG: return emulator_raise(e, EXC_GP, 0);
    case DECODE_INVALID: return emulator_raise(e, EXC_UD, 0);
    default: return emulator_fail(e, EMULATOR_CANNOT);
    }
}

// ---- Segments ----

static bool canonical(u64 linear) { return (u64)((i64)(linear << 16) >> 16) == linear; }

static bool inside(const struct basalt_segment *s, u64 offset, unsigned bytes) {
    u64 kind = s->attributes & (SEGMENT_S | SEGMENT_CODE | SEGMENT_EXPAND_DOWN);
    bool expand_down = kind == (SEGMENT_S | SEGMENT_EXPAND_DOWN);
    u64 last = offset + bytes - 1, top = s->attributes & SEGMENT_DB ? 0xffffffff : 0xffff;

    return expand_down ? offset > s->limit && last <= top : last <= s->limit;
}

static bool segment_permits(const struct emulator *e, const struct basalt_segment *s, bool write) {
    bool code = s->attributes & SEGMENT_CODE, second = s->attributes & SEGMENT_WRITABLE;

    if (!(e->state.cr0 & CR0_PE) || e->state.rflags & RFLAGS_VM)
        return true;
    if (s->attributes & SEGMENT_UNUSABLE)
        return false;
    return write ? !code && second : !code || second;
}

bool emulator_linear(struct emulator *e, unsigned segment, u64 offset, unsigned bytes, bool write,
                     u64 *linear) {
    const struct basalt_segment *s = &e->state.segments[segment];

    if (emulator_mode(e) == MODE_64) {
        *linear = offset + (segment == SEG_FS || segment == SEG_GS ? s->base : 0);
        if (canonical(*linear) && canonical(*linear + bytes - 1))
            return true;
    } else {
        *linear = (u32)(s->base + offset);
        if (inside(s, offset, bytes) && segment_permits(e, s, write))
            return true;
    }
    return emulator_raise(e, segment == SEG_SS ? EXC_SS : EXC_GP, 0);
}
