// SPDX-License-Identifier: Apache-2.0
//
// Guest-linear addresses: segmentation, the guest's own page tables in all three formats, and instruction fetch. Used
// where the processor did not do it for us: string I/O, decoding. Accessed and dirty bits are set as a processor
// would. Follows the SDM, "Paging", and "Segment Limit Checking".

#include "arch/cpu.h"
#include "arch/paging.h"
#include "arch/string.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/schedule.h"

#define WALK_TRIES 8u                        // when other processors change the tables meanwhile
#define DECODED    8u                        // instructions kept
#define NOINLINE   __attribute__((noinline)) // what is seldom needed stays out of the way

// The way to the page from which a CPU last fetched an instruction. While the entries that were met have not changed, nor
// the windows in which they were read, the way leads there again: a TLB that notices by itself what it has missed.
struct code_page {
    u64 page, cr3, controls; // of the linear address; the registers that matter
    u64 changes;             // of this CPU's slots
    const u8 *window;
    unsigned levels; // of entries below; 0 without paging
    struct {
        const volatile u64 *slot;
        u64 value;
    } entries[4];
};

// The decoder is a pure function: what bytes meant last time they mean again.
struct decoded {
    u64 code[2];
    enum cpu_mode mode;
    struct insn insn;
};

static struct fetched {
    struct code_page way;
    struct decoded decoded[DECODED];
} fetched[CPUS_MAX];

static bool no_memory(struct vcpu *v, u64 linear, unsigned access) {
    if (!(access & ACCESS_PROBE))
        domain_end(v->domain, BASALT_END_EMULATION, v->index, linear);
    return false;
}

static bool page_fault(struct vcpu *v, u64 linear, unsigned error) {
    if (!(error & ACCESS_PROBE)) {
        backend->write(&v->cpu, REG_CR2, linear);
        vcpu_exception(v, EXC_PF, true, error);
    }
    return false;
}

// Rights accumulated over the levels against the access.
static bool allowed(struct vcpu *v, u64 rights, bool no_exec, u64 cr4, unsigned access) {
    bool user = access & PF_USER, user_page = rights & PTE_USER;

    if (user && !user_page)
        return false;
    if (access & PF_WRITE && !(rights & PTE_WRITE) &&
        (user || backend->read(&v->cpu, REG_CR0) & CR0_WP))
        return false;
    if (access & PF_FETCH)
        return !no_exec && !(user_page && !user && cr4 & CR4_SMEP);
    return !(user_page && !user && cr4 & CR4_SMAP && !(v->cpu.rflags & RFLAGS_AC));
}

// Sets bits of an entry of `bytes` bytes that had the value `old`. False: another processor changed it, or it can't be
// written.
static bool set_bits(struct domain *d, gpa_t gpa, unsigned level, unsigned bytes, u64 old,
                     u64 bits) {
    void *entry = memory_window(d, gpa, true, level);
    u32 old32 = (u32)old;

    if (!entry)
        return false;
    if (bytes == 4)
        return __atomic_compare_exchange_n((u32 *)entry, &old32, (u32)(old | bits), false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return __atomic_compare_exchange_n((u64 *)entry, &old, old | bits, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

bool guest_translate(struct vcpu *v, u64 linear, unsigned access, gpa_t *gpa) {
    *gpa = GPA((u32)linear);
    if (!(v->cpu.cr0_guest & CR0_PG))
        return true;

    u64 cr4 = v->cpu.cr4_guest, efer = v->cpu.efer_guest;
    unsigned levels = efer & EFER_LMA ? 4 : cr4 & CR4_PAE ? 3 : 2;
    unsigned bytes = levels == 2 ? 4 : 8, index_bits = levels == 2 ? 10 : 9;
    bool nx = efer & EFER_NXE && levels > 2, no_exec = false;
    u64 table = backend->read(&v->cpu, REG_CR3) & (levels == 3 ? 0xffffffe0ull : PTE_ADDRESS);
    u64 rights = PTE_WRITE | PTE_USER;

    if (vcpu_cpl(v) == 3)
        access |= PF_USER;
    // Of a fetch the error code tells only where it can matter.
    struct code_page other, *way = access & PF_FETCH ? &fetched[this_cpu()->id].way : &other;
    way->page = ~0ull; // it is for find_code() to say that this can be used again
    way->levels = bytes == 8 ? levels : ~0u;
    unsigned error = nx || cr4 & CR4_SMEP ? access : access & ~(unsigned)PF_FETCH;
    for (unsigned level = levels, tries = WALK_TRIES; tries;) {
        unsigned shift = PAGE_SHIFT + index_bits * (level - 1);
        bool pdpte = levels == 3 && level == 3; // has two index bits and no rights of its own
        u64 index = linear >> shift & (pdpte ? 3 : BIT(index_bits) - 1);
        gpa_t at = GPA(table + index * bytes);
        const volatile void *slot = memory_window(v->domain, at, false, level);
        if (!slot)
            break;
        u64 entry = bytes == 8 ? *(const volatile u64 *)slot : *(const volatile u32 *)slot;
        if (!(entry & PTE_PRESENT))
            return page_fault(v, linear, error);
        u64 wanted = pdpte ? 0 : PTE_ACCESSED;
        bool leaf = level == 1 ||
                    (!pdpte && level < 4 && entry & PTE_LARGE && (bytes == 8 || cr4 & CR4_PSE));
        if (leaf) {
            if (!allowed(v, rights & entry, no_exec || (nx && entry & PTE_NX), cr4, access))
                return page_fault(v, linear, error | PF_PRESENT);
            wanted |= access & PF_WRITE ? PTE_DIRTY : 0;
        }
        if (~entry & wanted && !set_bits(v->domain, at, level, bytes, entry, wanted)) {
            tries--;
            continue;
        }
        way->entries[levels - level].slot = slot;
        way->entries[levels - level].value = entry | wanted;
        if (leaf) {
            way->levels -= level - 1;
            u64 base = entry & PTE_ADDRESS & ~(BIT(shift) - 1);
            if (level == 2 && bytes == 4)
                base = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32; // PSE-36
            *gpa = GPA(base | (linear & (BIT(shift) - 1)));
            return true;
        }
        rights &= pdpte ? rights : entry;
        no_exec |= nx && !pdpte && entry & PTE_NX;
        table = entry & (bytes == 8 ? PTE_ADDRESS : 0xfffff000);
        level--;
    }
    return no_memory(v, linear, access);
}

bool guest_copy(struct vcpu *v, u64 linear, void *buffer, unsigned bytes, unsigned access) {
    u8 *kernel = buffer;

    for (unsigned piece; bytes; linear += piece, kernel += piece, bytes -= piece) {
        gpa_t gpa;
        piece = (unsigned)MIN(bytes, PAGE_SIZE - (linear & ~PAGE_MASK));
        if (!guest_translate(v, linear, access, &gpa))
            return false;
        if (access & PF_WRITE ? memory_write(v->domain, gpa, kernel, piece)
                              : memory_read(v->domain, gpa, kernel, piece))
            return no_memory(v, linear, access);
    }
    return true;
}

// The code that runs: where the next instruction is, and its mode.
struct code {
    u64 linear;
    enum cpu_mode mode;
};

static inline enum cpu_mode mode_of(struct vcpu *v) {
    if (guest_wide(v))
        return MODE_64;
    if (!(v->cpu.cr0_guest & CR0_PE) || v->cpu.rflags & RFLAGS_VM)
        return MODE_16;
    return backend->read(&v->cpu, REG_CS_ATTRIBUTES) & SEGMENT_DB ? MODE_32 : MODE_16;
}

enum cpu_mode guest_mode(struct vcpu *v) { return mode_of(v); }

static inline struct code current_code(struct vcpu *v) {
    struct code c = {v->cpu.rip, mode_of(v)};

    if (c.mode != MODE_64)
        c.linear = (u32)(backend->read(&v->cpu, REG_CS_BASE) + v->cpu.rip);
    return c;
}

static unsigned bytes_in_page(u64 linear) {
    return (unsigned)MIN((u64)INSN_MAX_LENGTH, PAGE_SIZE - (linear & ~PAGE_MASK));
}

unsigned guest_fetch(struct vcpu *v, u8 bytes[16]) {
    u64 linear = current_code(v).linear;
    unsigned first = bytes_in_page(linear);

    if (guest_copy(v, linear, bytes, INSN_MAX_LENGTH, PF_FETCH | ACCESS_PROBE))
        return INSN_MAX_LENGTH;
    return guest_copy(v, linear, bytes, first, PF_FETCH | ACCESS_PROBE) ? first : 0;
}

// The registers that a translation for a fetch depends on, besides CR3; no two of these share a bit. 0 without paging.
static u64 code_controls(struct vcpu *v) {
    if (!(v->cpu.cr0_guest & CR0_PG))
        return 0;
    return CR0_PG << 32 | v->cpu.efer_guest << 32 | v->cpu.cr4_guest |
           (u64)(vcpu_cpl(v) == 3) << 62;
}

static bool same_way(struct vcpu *v, const struct code *c, const struct code_page *way) {
    u64 controls = code_controls(v);

    if (way->page != c->linear >> PAGE_SHIFT || way->controls != controls ||
        way->changes != this_cpu()->slot_changes ||
        (controls && way->cr3 != backend->read(&v->cpu, REG_CR3)))
        return false;
    for (unsigned i = 0; i < way->levels; i++)
        if (*way->entries[i].slot != way->entries[i].value)
            return false;
    return true;
}

// Opens a window on the code. False: a page fault was queued, or the domain ended.
static NOINLINE bool find_code(struct vcpu *v, const struct code *c, struct code_page *way) {
    gpa_t gpa;

    way->levels = 0; // without paging; else the translation counts them
    if (!guest_translate(v, c->linear, PF_FETCH, &gpa))
        return false;
    way->window = memory_window(v->domain, GPA(gpa.v & PAGE_MASK), false, 0);
    if (!way->window)
        return no_memory(v, c->linear, 0);
    way->page = way->levels <= 4 ? c->linear >> PAGE_SHIFT : ~0ull;
    way->cr3 = backend->read(&v->cpu, REG_CR3);
    way->controls = code_controls(v);
    way->changes = this_cpu()->slot_changes;
    return true;
}

// Decodes from a copy, which can't change meanwhile.
static NOINLINE bool decode_anew(struct vcpu *v, const struct code *c, const u8 *bytes,
                                 struct decoded *kept) {
    unsigned valid = bytes_in_page(c->linear);

    *kept = (struct decoded){.mode = c->mode};
    memcpy(kept->code, bytes, valid);
    enum decode_status status = insn_decode((u8 *)kept->code, valid, c->mode, &kept->insn);
    if (status == DECODE_TRUNCATED) { // goes on in the next page
        kept->insn.length = 0;        // should the next page not be there
        if (!guest_copy(v, c->linear, kept->code, INSN_MAX_LENGTH, PF_FETCH))
            return false;
        status = insn_decode((u8 *)kept->code, INSN_MAX_LENGTH, c->mode, &kept->insn);
    }
    if (status == DECODE_OK)
        return true;
    kept->insn.length = 0; // not to be found again
    if (status == DECODE_TOO_LONG)
        vcpu_gp(v);
    else if (status == DECODE_INVALID)
        vcpu_ud(v);
    else
        domain_end(v->domain, BASALT_END_EMULATION, v->index, v->io.gpa.v);
    return false;
}

// Decodes the instruction at RIP; what it returns lasts until the next one is decoded. NULL: an exception was queued, or the
// domain ended.
static const struct insn *decode_current(struct vcpu *v) {
    struct code c = current_code(v);
    struct fetched *f = &fetched[this_cpu()->id];
    struct decoded *kept = &f->decoded[c.linear % DECODED];
    u64 offset = c.linear & ~PAGE_MASK;

    if (unlikely(!same_way(v, &c, &f->way)) && !find_code(v, &c, &f->way))
        return NULL;
    const u8 *bytes = f->way.window + offset;
    u64 code[2] = {0, 0};
    bool whole = offset <= PAGE_SIZE - sizeof(code);
    if (likely(whole))
        __builtin_memcpy(code, bytes, sizeof(code)); // two loads
    // The sixteenth byte is not kept: no instruction has one.
    bool same = whole && kept->code[0] == code[0] && kept->code[1] == (code[1] & insn_mask(7)) &&
                kept->mode == c.mode && kept->insn.length;
    if (!same && !decode_anew(v, &c, bytes, kept))
        return NULL;
    return &kept->insn;
}

bool guest_decode(struct vcpu *v, struct insn *insn) {
    const struct insn *found = decode_current(v);

    if (found)
        *insn = *found;
    return found;
}

u8 guest_insn_length(struct vcpu *v) {
    const struct insn *insn = decode_current(v);
    return insn ? insn->length : 0;
}

bool guest_linear(struct vcpu *v, unsigned segment, u64 offset, unsigned bytes, bool write,
                  u64 *linear) {
    struct basalt_segment s = backend->read_segment(&v->cpu, segment);

    if (guest_mode(v) == MODE_64) {
        *linear = offset + (segment == BASALT_FS || segment == BASALT_GS ? s.base : 0);
        if (canonical(*linear) && canonical(*linear + bytes - 1))
            return true;
    } else {
        bool expand_down = (s.attributes & 0x1c) == 0x14, code = s.attributes & 0x8;
        u64 last = offset + bytes - 1, top = s.attributes & SEGMENT_DB ? 0xffffffff : 0xffff;
        bool inside = expand_down ? offset > s.limit && last <= top : last <= s.limit;
        bool real = !(v->cpu.cr0_guest & CR0_PE) || v->cpu.rflags & RFLAGS_VM;
        bool rights = real || (!(s.attributes & BIT(16)) &&
                               (write ? !code && s.attributes & 2 : !code || s.attributes & 2));
        *linear = (u32)(s.base + offset);
        if (inside && rights)
            return true;
    }
    vcpu_exception(v, segment == BASALT_SS ? EXC_SS : EXC_GP, true, 0);
    return false;
}
