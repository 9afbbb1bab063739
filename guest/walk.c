// SPDX-License-Identifier: Apache-2.0
//
// The code at a guest's instruction pointer, for intercepts of which the processor tells too little. The processor has just
// fetched and checked that instruction, so the guest's page tables are only read: no rights, no accessed bits, no page
// faults. What the guest has taken away meanwhile is not found; then it is entered again, and faults by itself. Follows the
// SDM, "Paging".

#include "arch/cpu.h"
#include "arch/paging.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"

enum cpu_mode guest_mode(struct vcpu *v) {
    if (guest_wide(v))
        return MODE_64;
    if (!(v->cpu.cr0_guest & CR0_PE) || v->cpu.rflags & RFLAGS_VM)
        return MODE_16;
    return backend->read(&v->cpu, REG_CS_ATTRIBUTES) & SEGMENT_DB ? MODE_32 : MODE_16;
}

// Where the next instruction is; `wide`: in 64-bit mode.
static inline u64 code_linear(struct vcpu *v, bool wide) {
    return wide ? v->cpu.rip : (u32)(backend->read(&v->cpu, REG_CS_BASE) + v->cpu.rip);
}

// The way to the page from which a CPU last fetched. While the entries that were met have not changed, nor the windows in
// which they were read, it leads there again: a TLB that notices by itself what it has missed.
static struct way {
    u64 page, cr3; // of the linear address
    u64 changes;   // of this CPU's slots
    unsigned levels, count;
    const volatile u64 *slots[4];
    u64 entries[4];
    const u8 *window;
} __attribute__((aligned(64))) ways[CPUS_MAX];

// 0: no paging.
static unsigned paging_levels(const struct vcpu *v) {
    if (!(v->cpu.cr0_guest & CR0_PG))
        return 0;
    return v->cpu.efer_guest & EFER_LMA ? 4 : v->cpu.cr4_guest & CR4_PAE ? 3 : 2;
}

static __attribute__((noinline)) bool same_tables(struct vcpu *v, const struct way *w) {
    if (w->cr3 != backend->read(&v->cpu, REG_CR3))
        return false;
    for (unsigned i = 0; i < w->count; i++)
        if (*w->slots[i] != w->entries[i])
            return false;
    return true;
}

static bool is_large(const struct vcpu *v, unsigned levels, unsigned level, u64 entry) {
    if (!(entry & PTE_LARGE))
        return false;
    return level == 2 ? levels > 2 || v->cpu.cr4_guest & CR4_PSE : level == 3 && levels == 4;
}

// What a linear address is mapped to. False: there is no such page, or no memory for a table.
static bool translate(struct vcpu *v, u64 linear, struct way *w, gpa_t *gpa) {
    unsigned bytes = w->levels == 2 ? 4 : 8, index_bits = w->levels == 2 ? 10 : 9;
    u64 table = w->cr3 & (w->levels == 3 ? 0xffffffe0 : PTE_ADDRESS);

    *gpa = GPA((u32)linear);
    for (unsigned level = w->levels; level; level--) {
        unsigned shift = PAGE_SHIFT + index_bits * (level - 1);
        gpa_t at = GPA(table + (linear >> shift & (BIT(index_bits) - 1)) * bytes);
        const volatile void *slot = memory_window(v->domain, at, false, level);
        if (!slot)
            return false;
        u64 entry = bytes == 8 ? *(const volatile u64 *)slot : *(const volatile u32 *)slot;
        if (!(entry & PTE_PRESENT))
            return false;
        w->slots[w->count] = slot;
        w->entries[w->count++] = entry;
        bool large = is_large(v, w->levels, level, entry);
        if (large && bytes == 4)
            entry = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32; // PSE-36
        if (large)
            level = 1;
        u64 offset_mask = BIT(large ? shift : PAGE_SHIFT) - 1;
        table = entry & PTE_ADDRESS;
        *gpa = GPA((table & ~offset_mask) | (linear & offset_mask));
    }
    return true;
}

// Opens a window on the page of code.
static __attribute__((noinline)) const u8 *find_way(struct vcpu *v, struct way *w, u64 linear) {
    gpa_t gpa;

    w->page = ~0ull;
    w->cr3 = backend->read(&v->cpu, REG_CR3);
    w->levels = paging_levels(v);
    w->count = 0;
    if (!translate(v, linear, w, &gpa) ||
        !(w->window = memory_window(v->domain, GPA(gpa.v & PAGE_MASK), false, 0)))
        return NULL;
    if (w->levels != 2) // whose entries are too short to be compared
        w->page = linear >> PAGE_SHIFT;
    w->changes = this_cpu()->slot_changes;
    return w->window + (linear & ~PAGE_MASK);
}

// The bytes from `linear` on to the end of its page; NULL: there are none.
static inline const u8 *code_at(struct vcpu *v, u64 linear) {
    struct way *w = &ways[this_cpu()->id];
    unsigned levels = paging_levels(v);

    if (likely(w->page == linear >> PAGE_SHIFT && w->levels == levels &&
               w->changes == this_cpu()->slot_changes && (!levels || same_tables(v, w))))
        return w->window + (linear & ~PAGE_MASK);
    return find_way(v, w, linear);
}

static __attribute__((noinline)) unsigned fetch_pages(struct vcpu *v, u64 linear, u8 bytes[16]) {
    unsigned done = 0;

    while (done < INSN_MAX_LENGTH) {
        const u8 *code = code_at(v, linear + done);
        if (!code)
            break;
        u64 left = PAGE_SIZE - ((linear + done) & ~PAGE_MASK);
        unsigned piece = (unsigned)MIN(left, (u64)INSN_MAX_LENGTH - done);
        memcpy(bytes + done, code, piece);
        done += piece;
    }
    return done;
}

// Fills `bytes` as far as the pages are there; returns how many.
static unsigned fetch(struct vcpu *v, u64 linear, u8 bytes[16]) {
    if (unlikely((linear & ~PAGE_MASK) > PAGE_SIZE - 16))
        return fetch_pages(v, linear, bytes);
    const u8 *code = code_at(v, linear);
    if (!code)
        return 0;
    __builtin_memcpy(bytes, code, 16); // two loads
    return INSN_MAX_LENGTH;
}

unsigned guest_fetch(struct vcpu *v, u8 bytes[16]) {
    return fetch(v, code_linear(v, guest_wide(v)), bytes);
}

// What a CPU has decoded of late, by the place of the code. It depends on nothing but the bytes and the mode, which are
// compared.
#define DECODED 8u
static struct decoded {
    u64 bytes[2];
    enum cpu_mode mode;
    unsigned valid;
    bool known;
    struct insn insn;
} decoded[CPUS_MAX][DECODED];

bool guest_decode(struct vcpu *v, struct insn *insn) {
    enum cpu_mode mode = guest_mode(v);
    u64 linear = code_linear(v, mode == MODE_64), bytes[2] = {0};
    struct decoded *d = &decoded[this_cpu()->id][linear / 4 % DECODED];
    unsigned valid = fetch(v, linear, (u8 *)bytes);

    if (d->valid != valid || d->mode != mode || d->bytes[0] != bytes[0] ||
        d->bytes[1] != bytes[1]) {
        *d = (struct decoded){.bytes = {bytes[0], bytes[1]}, .mode = mode, .valid = valid};
        d->known = insn_decode((u8 *)bytes, valid, mode, &d->insn);
    }
    *insn = d->insn;
    return d->known;
}

// Of code that begins with prefixes.
static __attribute__((noinline)) u8 long_length(struct vcpu *v, u64 linear, unsigned opcode_bytes) {
    u8 bytes[16];
    unsigned valid = fetch(v, linear, bytes);
    unsigned length = insn_prefixes(bytes, valid, guest_mode(v)) + opcode_bytes;

    return length <= valid ? (u8)length : 0;
}

u8 guest_insn_length(struct vcpu *v, unsigned opcode_bytes) {
    u64 linear = code_linear(v, guest_wide(v));
    const u8 *code = code_at(v, linear);

    if (likely(code && (*code == 0x0f || *code == 0xf4))) // its opcode: nearly all begin with it
        return (u8)opcode_bytes;
    return long_length(v, linear, opcode_bytes);
}
