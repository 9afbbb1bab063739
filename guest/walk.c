// SPDX-License-Identifier: Apache-2.0
//
// Guest-linear addresses: segmentation, the guest's own page tables in all three formats, and instruction fetch. Used
// where the processor did not do it for us: string I/O, decoding. Accessed and dirty bits are set as a processor
// would. Follows the SDM, "Paging", and "Segment Limit Checking".

#include "arch/paging.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/schedule.h"

#include <basalt/error.h>

#define SEGMENT_DB   BIT(14)
#define SEGMENT_LONG BIT(13)
#define WALK_TRIES   8u // when other processors change the tables meanwhile
#define RFLAGS_AC    BIT(18)
#define RFLAGS_VM    BIT(17)

// One of the three formats of guest page tables.
struct walk_format {
    u8 levels, entry_bytes, index_bits;
};

struct access {
    bool write, user, fetch;
};

// A page-table entry of the guest; NULL where there is no memory. *writable: its bits may be changed.
static void *entry_at(struct domain *d, u64 gpa, bool *writable) {
    struct ept_leaf leaf = ept_walk(&d->ept, GPA(gpa));

    if (!leaf.present && memory_fault(d, GPA(gpa)))
        leaf = ept_walk(&d->ept, GPA(gpa));
    if (!leaf.present || leaf.flags & EPT_UNCACHED)
        return NULL;
    *writable = leaf.flags & EPT_WRITE;
    return page_peek(HPA(leaf.hpa.v + (gpa - leaf.gpa)));
}

static struct walk_format format_of(u64 cr4, u64 efer) {
    if (efer & EFER_LMA)
        return (struct walk_format){4, 8, 9};
    return cr4 & CR4_PAE ? (struct walk_format){3, 8, 9} : (struct walk_format){2, 4, 10};
}

static int page_fault(u64 linear, bool present, const struct access *a, bool tells_fetch,
                      struct walk_fault *fault) {
    fault->faulted = true;
    fault->linear = linear;
    fault->error = (u32)((present ? PF_PRESENT : 0) | (a->write ? PF_WRITE : 0) |
                         (a->user ? PF_USER : 0) | (a->fetch && tells_fetch ? PF_FETCH : 0));
    return -BASALT_EFAULT;
}

// Rights accumulated over the levels against the access.
static bool allowed(struct vcpu *v, u64 rights, u64 no_exec, const struct access *a) {
    u64 cr0 = backend->read(&v->cpu, REG_CR0), cr4 = backend->read(&v->cpu, REG_CR4);
    bool user_page = rights & PTE_USER;

    if (a->user && !user_page)
        return false;
    if (a->write && !(rights & PTE_WRITE) && (a->user || cr0 & CR0_WP))
        return false;
    if (a->fetch)
        return !no_exec && !(user_page && !a->user && cr4 & CR4_SMEP);
    return !(user_page && !a->user && cr4 & CR4_SMAP && !(v->cpu.rflags & RFLAGS_AC));
}

static int set_bits(void *entry, unsigned bytes, u64 old, u64 bits, bool writable) {
    bool done;

    if ((old & bits) == bits)
        return 0;
    if (!writable)
        return -BASALT_EFAULT;
    if (bytes == 4) {
        u32 expected = (u32)old;
        done = __atomic_compare_exchange_n((u32 *)entry, &expected, (u32)(old | bits), false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    } else {
        done = __atomic_compare_exchange_n((u64 *)entry, &old, old | bits, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    }
    return done ? 0 : -BASALT_EAGAIN; // another processor changed it
}

static int walk(struct vcpu *v, u64 linear, const struct access *a, gpa_t *gpa,
                struct walk_fault *fault) {
    u64 cr4 = backend->read(&v->cpu, REG_CR4), efer = backend->read(&v->cpu, REG_EFER);
    struct walk_format f = format_of(cr4, efer);
    bool nx = efer & EFER_NXE && f.entry_bytes == 8, tells_fetch = nx || cr4 & CR4_SMEP;
    u64 table = backend->read(&v->cpu, REG_CR3) & (f.levels == 3 ? 0xffffffe0ull : PTE_ADDRESS);
    u64 rights = PTE_WRITE | PTE_USER, no_exec = 0;

    for (unsigned level = f.levels; level; level--) {
        unsigned shift = PAGE_SHIFT + f.index_bits * (level - 1);
        u64 index = (linear >> shift) & (f.levels == 3 && level == 3 ? 3 : BIT(f.index_bits) - 1);
        bool writable;
        void *slot = entry_at(v->domain, table + index * f.entry_bytes, &writable);
        if (!slot)
            return -BASALT_EFAULT;
        u64 entry = f.entry_bytes == 8 ? *(volatile u64 *)slot : *(volatile u32 *)slot;
        if (!(entry & PTE_PRESENT))
            return page_fault(linear, false, a, tells_fetch, fault);
        bool pdpte = f.levels == 3 && level == 3; // has no rights of its own
        if (!pdpte) {
            rights &= entry;
            no_exec |= nx ? entry & PTE_NX : 0;
        }
        bool leaf = level == 1 || (!pdpte && level < 4 && entry & PTE_LARGE &&
                                   (f.entry_bytes == 8 || cr4 & CR4_PSE));
        if (leaf && !allowed(v, rights, no_exec, a))
            return page_fault(linear, true, a, tells_fetch, fault);
        int error = pdpte ? 0
                          : set_bits(slot, f.entry_bytes, entry,
                                     PTE_ACCESSED | (leaf && a->write ? PTE_DIRTY : 0), writable);
        if (error)
            return error;
        if (leaf) {
            u64 base = entry & PTE_ADDRESS & ~(BIT(shift) - 1);
            if (f.entry_bytes == 4 && level == 2)
                base = (entry & 0xffc00000ull) | (entry >> 13 & 0xff) << 32; // PSE-36
            *gpa = GPA(base | (linear & (BIT(shift) - 1)));
            return 0;
        }
        table = entry & (f.entry_bytes == 8 ? PTE_ADDRESS : 0xfffff000ull);
    }
    return -BASALT_EFAULT;
}

int guest_translate(struct vcpu *v, u64 linear, bool write, bool user, bool fetch, gpa_t *gpa,
                    struct walk_fault *fault) {
    struct access a = {write, user, fetch};

    fault->faulted = false;
    fault->linear = linear;
    if (!(backend->read(&v->cpu, REG_CR0) & CR0_PG)) {
        *gpa = GPA((u32)linear);
        return 0;
    }
    int error = -BASALT_EAGAIN;
    for (unsigned tries = 0; error == -BASALT_EAGAIN && tries < WALK_TRIES; tries++)
        error = walk(v, linear, &a, gpa, fault);
    return error;
}

static int copy_linear(struct vcpu *v, u64 linear, void *buffer, unsigned bytes,
                       const struct access *a, struct walk_fault *fault) {
    u8 *kernel = buffer;

    while (bytes) {
        unsigned piece = (unsigned)MIN(bytes, PAGE_SIZE - (linear & ~PAGE_MASK));
        gpa_t gpa;
        int error = guest_translate(v, linear, a->write, a->user, a->fetch, &gpa, fault);
        if (!error)
            error = a->write ? memory_write(v->domain, gpa, kernel, piece)
                             : memory_read(v->domain, gpa, kernel, piece);
        if (error)
            return error;
        kernel += piece;
        linear += piece;
        bytes -= piece;
    }
    return 0;
}

int guest_read_linear(struct vcpu *v, u64 linear, void *buffer, unsigned bytes, bool user,
                      bool fetch, struct walk_fault *fault) {
    return copy_linear(v, linear, buffer, bytes, &(struct access){false, user, fetch}, fault);
}

int guest_write_linear(struct vcpu *v, u64 linear, const void *buffer, unsigned bytes, bool user,
                       struct walk_fault *fault) {
    return copy_linear(v, linear, (void *)buffer, bytes, &(struct access){true, user, false},
                       fault);
}

enum cpu_mode guest_mode(struct vcpu *v) {
    if (!(backend->read(&v->cpu, REG_CR0) & CR0_PE) || v->cpu.rflags & RFLAGS_VM)
        return MODE_16;
    u32 attributes = backend->read_segment(&v->cpu, BASALT_CS).attributes;
    if (attributes & SEGMENT_LONG && backend->read(&v->cpu, REG_EFER) & EFER_LMA)
        return MODE_64;
    return attributes & SEGMENT_DB ? MODE_32 : MODE_16;
}

unsigned guest_fetch(struct vcpu *v, u8 bytes[16], struct walk_fault *fault) {
    bool user = backend->cpl(&v->cpu) == 3, wide = guest_mode(v) == MODE_64;
    u64 linear = wide ? v->cpu.rip
                      : (u32)(backend->read_segment(&v->cpu, BASALT_CS).base + v->cpu.rip);
    unsigned first = (unsigned)MIN((u64)INSN_MAX_LENGTH, PAGE_SIZE - (linear & ~PAGE_MASK));

    if (guest_read_linear(v, linear, bytes, first, user, true, fault))
        return 0;
    // The next page is looked at only if it is there: the instruction may end before it.
    struct walk_fault ignored;
    if (first < INSN_MAX_LENGTH &&
        !guest_read_linear(v, linear + first, bytes + first, INSN_MAX_LENGTH - first, user, true,
                           &ignored))
        first = INSN_MAX_LENGTH;
    return first;
}

bool guest_decode(struct vcpu *v, struct insn *insn) {
    struct walk_fault fault;
    u8 bytes[16];
    unsigned valid = guest_fetch(v, bytes, &fault);

    if (!valid) {
        vcpu_walk_failed(v, &fault);
        return false;
    }
    switch (insn_decode(bytes, valid, guest_mode(v), insn)) {
    case DECODE_OK: return true;
    case DECODE_TOO_LONG: vcpu_gp(v); return false;
    case DECODE_INVALID: vcpu_ud(v); return false;
    case DECODE_TRUNCATED:
    case DECODE_UNSUPPORTED: break;
    }
    domain_end(v->domain, BASALT_END_EMULATION, v->index, v->io.gpa.v);
    return false;
}

unsigned guest_insn_length(struct vcpu *v, const struct exit *e) {
    struct insn insn;

    if (likely(e->insn_length))
        return e->insn_length;
    return guest_decode(v, &insn) ? insn.length : 0;
}

bool guest_linear(struct vcpu *v, unsigned segment, u64 offset, unsigned bytes, bool write,
                  u64 *linear) {
    struct basalt_segment s = backend->read_segment(&v->cpu, segment);
    bool stack = segment == BASALT_SS;

    if (guest_mode(v) == MODE_64) {
        *linear = offset + (segment == BASALT_FS || segment == BASALT_GS ? s.base : 0);
        if (canonical(*linear) && canonical(*linear + bytes - 1))
            return true;
    } else {
        bool expand_down = (s.attributes & 0x1c) == 0x14, code = s.attributes & 0x8;
        u64 last = offset + bytes - 1, top = s.attributes & SEGMENT_DB ? 0xffffffff : 0xffff;
        bool inside = expand_down ? offset > s.limit && last <= top : last <= s.limit;
        bool real = !(backend->read(&v->cpu, REG_CR0) & CR0_PE) || v->cpu.rflags & RFLAGS_VM;
        bool rights = real || (!(s.attributes & BIT(16)) &&
                               (write ? !code && s.attributes & 2 : !code || s.attributes & 2));
        *linear = (u32)(s.base + offset);
        if (inside && rights)
            return true;
    }
    vcpu_exception(v, stack ? 12 : 13, true, 0);
    return false;
}
