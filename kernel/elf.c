// SPDX-License-Identifier: Apache-2.0
//
// The ELF reader: every field is checked against the file's size and for overflow before it is used.

#include "kernel/elf.h"

#define ELF_SIZE_MAX (64 * MIB)
#define PT_LOAD      1u
#define EM_X86_64    62u

struct elf_header {
    u8 ident[16];
    u16 type, machine;
    u32 version;
    u64 entry, phoff, shoff;
    u32 flags;
    u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
SIZE_ASSERT(struct elf_header, 64);

struct elf_segment { // a program header
    u32 type, flags;
    u64 offset, vaddr, paddr, filesz, memsz, align;
};
SIZE_ASSERT(struct elf_segment, 56);

static const char *add_segment(const struct elf_segment *p, u64 file_size, struct elf_plan *plan) {
    if (p->offset > file_size || p->filesz > file_size - p->offset)
        return "it is cut short: a segment reaches beyond the end of the file";
    if (p->filesz > p->memsz || p->memsz > ELF_SIZE_MAX || p->paddr > ELF_SIZE_MAX)
        return "a segment has an impossible size or address";
    if (!plan->size)
        plan->offset = p->offset - p->paddr;
    if (p->offset < p->paddr || p->offset - p->paddr != plan->offset || p->paddr < plan->size ||
        plan->bytes != plan->size)
        return "its segments do not lie in the file as in memory";
    plan->bytes = p->paddr + p->filesz;
    plan->size = p->paddr + p->memsz;
    return NULL;
}

const char *elf_read(const u8 *header, u64 valid, u64 file_size, struct elf_plan *plan) {
    struct elf_header h;
    bool entered = false;

    *plan = (struct elf_plan){0};
    if (valid < sizeof(h))
        return "it is cut short: there is no whole ELF header";
    memcpy(&h, header, sizeof(h));
    if (memcmp(h.ident, "\177ELF\2\1", 6))
        return "it is not a 64-bit ELF file";
    if (h.machine != EM_X86_64 || h.type != 2 || h.phentsize != sizeof(struct elf_segment))
        return "it is not an x86-64 executable";
    if (!h.phnum || h.phoff > valid || (u64)h.phnum * sizeof(struct elf_segment) > valid - h.phoff)
        return "its program headers are not at the start of the file";
    for (unsigned i = 0; i < h.phnum; i++) {
        struct elf_segment p;
        memcpy(&p, header + h.phoff + i * sizeof(p), sizeof(p));
        if (p.type != PT_LOAD || !p.memsz)
            continue;
        const char *wrong = add_segment(&p, file_size, plan);
        if (wrong)
            return wrong;
        if (h.entry >= p.vaddr && h.entry - p.vaddr < p.filesz) {
            plan->entry = p.paddr + (h.entry - p.vaddr);
            entered = true;
        }
    }
    return entered ? NULL : "its entry point lies in no segment";
}
