// SPDX-License-Identifier: Apache-2.0
//
// Guest-linear addresses: segmentation, the guest's own page tables in all three formats, and instruction fetch. Used
// where the processor did not do it for us: string I/O, decoding. Accessed and dirty bits are set as a processor
// would. Follows the SDM, "Paging", and "Segment Limit Checking".

#include "arch/paging.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/schedule.h"

#define SEGMENT_DB   BIT(14)
#define SEGMENT_LONG BIT(13)
#define WALK_TRIES   8u // when other processors change the tables meanwhile

static bool no_memory(struct vcpu *v, u64 linear, unsigned access) {
    if (!(access & ACCESS_PROBE))
        domain_end(v->domain, BASALT_END_EMULATION, v->index, linear);
    return false;
}

static bool page_fault(struct vcpu *v, u64 linear, unsigned error) {
    if (!(error & ACCESS_PROBE)) {
        v->cpu.cr2 = linear;
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
static bool set_bits(struct domain *d, gpa_t gpa, unsigned bytes, u64 old, u64 bits) {
    void *entry = memory_window(d, gpa, true);
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
    if (!(backend->read(&v->cpu, REG_CR0) & CR0_PG))
        return true;

    u64 cr4 = backend->read(&v->cpu, REG_CR4), efer = backend->read(&v->cpu, REG_EFER);
    unsigned levels = efer & EFER_LMA ? 4 : cr4 & CR4_PAE ? 3 : 2;
    unsigned bytes = levels == 2 ? 4 : 8, index_bits = levels == 2 ? 10 : 9;
    bool nx = efer & EFER_NXE && levels > 2, no_exec = false;
    u64 table = backend->read(&v->cpu, REG_CR3) & (levels == 3 ? 0xffffffe0ull : PTE_ADDRESS);
    u64 rights = PTE_WRITE | PTE_USER;

    if (backend->cpl(&v->cpu) == 3)
        access |= PF_USER;
    // Of a fetch the error code tells only where it can matter.
    unsigned error = nx || cr4 & CR4_SMEP ? access : access & ~(unsigned)PF_FETCH;
    for (unsigned level = levels, tries = WALK_TRIES; tries;) {
        unsigned shift = PAGE_SHIFT + index_bits * (level - 1);
        bool pdpte = levels == 3 && level == 3; // has two index bits and no rights of its own
        u64 index = linear >> shift & (pdpte ? 3 : BIT(index_bits) - 1);
        gpa_t at = GPA(table + index * bytes);
        const void *slot = memory_window(v->domain, at, false);
        if (!slot)
            break;
        u64 entry = bytes == 8 ? *(const volatile u64 *)slot : *(const volatile u32 *)slot;
        if (!(entry & PTE_PRESENT))
            return page_fault(v, linear, error);
        u64 wanted = pdpte ? 0 : PTE_ACCESSED;
        bool leaf = level == 1 || (!pdpte && level < 4 && entry & PTE_LARGE &&
                                   (bytes == 8 || cr4 & CR4_PSE));
        if (leaf) {
            if (!allowed(v, rights & entry, no_exec || (nx && entry & PTE_NX), cr4, access))
                return page_fault(v, linear, error | PF_PRESENT);
            wanted |= access & PF_WRITE ? PTE_DIRTY : 0;
        }
        if (~entry & wanted && !set_bits(v->domain, at, bytes, entry, wanted)) {
            tries--;
            continue;
        }
        if (leaf) {
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

// What kind of code runs, and where the next instruction is.
static enum cpu_mode code_at(struct vcpu *v, u64 *linear) {
    struct basalt_segment cs = backend->read_segment(&v->cpu, BASALT_CS);

    *linear = (u32)(cs.base + v->cpu.rip);
    if (!(backend->read(&v->cpu, REG_CR0) & CR0_PE) || v->cpu.rflags & RFLAGS_VM)
        return MODE_16;
    if (cs.attributes & SEGMENT_LONG && backend->read(&v->cpu, REG_EFER) & EFER_LMA) {
        *linear = v->cpu.rip;
        return MODE_64;
    }
    return cs.attributes & SEGMENT_DB ? MODE_32 : MODE_16;
}

enum cpu_mode guest_mode(struct vcpu *v) {
    u64 linear;

    return code_at(v, &linear);
}

static unsigned bytes_in_page(u64 linear) {
    return (unsigned)MIN((u64)INSN_MAX_LENGTH, PAGE_SIZE - (linear & ~PAGE_MASK));
}

unsigned guest_fetch(struct vcpu *v, u8 bytes[16]) {
    u64 linear;

    code_at(v, &linear);
    for (unsigned count = INSN_MAX_LENGTH; count; count = bytes_in_page(linear)) {
        if (guest_copy(v, linear, bytes, count, PF_FETCH | ACCESS_PROBE))
            return count;
        if (count == bytes_in_page(linear))
            break;
    }
    return 0;
}

bool guest_decode(struct vcpu *v, struct insn *insn) {
    u64 linear;
    enum cpu_mode mode = code_at(v, &linear);
    u8 copy[INSN_MAX_LENGTH];
    gpa_t gpa;

    if (!guest_translate(v, linear, PF_FETCH, &gpa))
        return false;
    const u8 *bytes = memory_window(v->domain, gpa, false);
    if (!bytes)
        return no_memory(v, linear, 0);
    enum decode_status status = insn_decode(bytes, bytes_in_page(linear), mode, insn);
    if (status == DECODE_TRUNCATED) { // goes on in the next page
        if (!guest_copy(v, linear, copy, sizeof(copy), PF_FETCH))
            return false;
        status = insn_decode(copy, sizeof(copy), mode, insn);
    }
    if (status == DECODE_TOO_LONG)
        vcpu_gp(v);
    else if (status == DECODE_INVALID)
        vcpu_ud(v);
    else if (status != DECODE_OK)
        domain_end(v->domain, BASALT_END_EMULATION, v->index, v->io.gpa.v);
    return status == DECODE_OK;
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
    vcpu_exception(v, segment == BASALT_SS ? EXC_SS : EXC_GP, true, 0);
    return false;
}
