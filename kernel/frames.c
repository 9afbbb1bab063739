// SPDX-License-Identifier: Apache-2.0
//
// The frame allocator's two tables: one `struct chunk` per 2 MiB of address space below the end of RAM and one
// `struct frame` per 4 KiB of RAM, both virtually contiguous, the second mapped only where RAM is. Chunks hang in
// lists by what they have to give, so that every operation takes constant time. Kernel chunks are always whole, are
// mapped in the pool window while they belong to the kernel, and go back when they are empty and another has room.

#include "kernel/frames.h"

#include "arch/cpu.h"
#include "arch/paging.h"
#include "arch/spinlock.h"
#include "boot/boot.h"
#include "kernel/list.h"
#include "kernel/panic.h"

#ifndef CHUNK_TABLE_BASE // the host tests have their own
#define CHUNK_TABLE_BASE (FRAME_TABLE_BASE + 256 * GIB)
#endif

#define FRAMES_PER_CHUNK 512u
#define FRAMES_AT_ONCE   64u // given back between two looks at pending interrupts
#define NO_FRAME         0xffffu

enum chunk_use { CHUNK_NONE, CHUNK_FREE, CHUNK_DOMAINS, CHUNK_KERNEL, CHUNK_USES };

// Chunks with free frames hang in the list of their use. Frames from `fresh` on were never taken since the chunk was
// opened; others that are free are linked through their `references` in a ring, which begins behind `last`: what was given
// back in the order of its addresses is taken so again, and lies in one piece for whoever maps it.
struct chunk {
    struct list link;
    u16 free, fresh, last; // frame numbers in the chunk
    u8 use;                // enum chunk_use
};
SIZE_ASSERT(struct chunk, 24);

static struct frame *const frame_table = (struct frame *)FRAME_TABLE_BASE;
static struct chunk *const chunk_table = (struct chunk *)CHUNK_TABLE_BASE;

static struct spinlock frames_lock;
static struct list lists[CHUNK_USES];
static u32 chunk_count;
static u64 domain_free; // free frames, but those of kernel chunks

static struct frame *frame_of(hpa_t hpa) { return &frame_table[hpa.v >> PAGE_SHIFT]; }
static struct chunk *chunk_of(hpa_t hpa) { return &chunk_table[hpa.v >> SUPERPAGE_SHIFT]; }
static hpa_t chunk_hpa(const struct chunk *c) {
    return HPA((u64)(c - chunk_table) << SUPERPAGE_SHIFT);
}

static bool managed(hpa_t hpa) {
    return hpa.v >> SUPERPAGE_SHIFT < chunk_count && chunk_of(hpa)->use != CHUNK_NONE;
}

static bool owned(const struct frame *f) { return f->owner > FRAME_OWNER_NONE; }

static struct chunk *first_chunk(enum chunk_use use) {
    return list_empty(&lists[use]) ? NULL : list_entry(lists[use].next, struct chunk, link);
}

// Marks a free chunk as handed out as a whole.
static void take_chunk(struct chunk *c, u16 owner) {
    list_remove(&c->link);
    c->use = CHUNK_DOMAINS;
    c->free = 0;
    c->fresh = FRAMES_PER_CHUNK;
    c->last = NO_FRAME;
    domain_free -= FRAMES_PER_CHUNK;
    for (unsigned i = 0; i < FRAMES_PER_CHUNK; i++)
        frame_of(chunk_hpa(c))[i] = (struct frame){.owner = owner, .references = 1};
}

// A chunk without a frame in use becomes, or is again, one of `use`.
static void put_chunk(struct chunk *c, enum chunk_use use) {
    list_remove(&c->link);
    c->use = (u8)use;
    c->free = FRAMES_PER_CHUNK;
    c->fresh = 0;
    c->last = NO_FRAME;
    list_add(&lists[use], &c->link);
}

static hpa_t take_frame(struct chunk *c, u16 owner) {
    struct frame *frames = frame_of(chunk_hpa(c));
    u16 n = c->last == NO_FRAME ? c->fresh++ : frames[c->last].references;

    if (n == c->last)
        c->last = NO_FRAME;
    else if (c->last != NO_FRAME)
        frames[c->last].references = frames[n].references;
    if (--c->free == 0)
        list_remove(&c->link);
    domain_free -= c->use == CHUNK_DOMAINS;
    frames[n] = (struct frame){.owner = owner, .references = 1};
    return HPA(chunk_hpa(c).v + n * PAGE_SIZE);
}

static void give_frame(hpa_t hpa) {
    struct chunk *c = chunk_of(hpa);
    struct frame *frames = frame_of(chunk_hpa(c));
    u16 n = (u16)(hpa.v >> PAGE_SHIFT) % FRAMES_PER_CHUNK, last = c->last == NO_FRAME ? n : c->last;

    frames[n] = (struct frame){.owner = FRAME_OWNER_NONE, .references = n};
    if (n != last) {
        frames[n].references = frames[last].references;
        frames[last].references = n;
    }
    c->last = n;
    if (c->free++ == 0)
        list_add(&lists[c->use], &c->link);
    domain_free += c->use == CHUNK_DOMAINS;
    if (c->free == FRAMES_PER_CHUNK && c->use == CHUNK_DOMAINS)
        put_chunk(c, CHUNK_FREE);
}

// Opens a free chunk for single frames; one of the kernel's is mapped in the pool window, for which all tables are there.
// NULL when there is none.
static struct chunk *open_chunk(enum chunk_use use) {
    struct chunk *c = first_chunk(CHUNK_FREE);

    if (!c)
        return NULL;
    if (use == CHUNK_KERNEL) {
        if (map_kernel((u64)pool_ptr(chunk_hpa(c)), chunk_hpa(c), SUPERPAGE_SIZE, MAP_WRITE))
            return NULL;
        domain_free -= FRAMES_PER_CHUNK;
    }
    put_chunk(c, use);
    return c;
}

static hpa_t alloc(enum chunk_use use, u16 owner) {
    hpa_t hpa = HPA_NONE;

    spin_lock(&frames_lock);
    struct chunk *c = first_chunk(use);
    if (c || (c = open_chunk(use)))
        hpa = take_frame(c, owner);
    spin_unlock(&frames_lock);
    return hpa;
}

hpa_t frame_alloc(u16 owner) { return alloc(CHUNK_DOMAINS, owner); }

hpa_t frame_kernel_alloc_hpa(void) {
    hpa_t hpa = alloc(CHUNK_KERNEL, FRAME_OWNER_KERNEL);

    if (hpa.v != HPA_NONE.v)
        memset(pool_ptr(hpa), 0, PAGE_SIZE);
    return hpa;
}

void *frame_kernel_alloc(void) {
    hpa_t hpa = frame_kernel_alloc_hpa();

    return hpa.v == HPA_NONE.v ? NULL : pool_ptr(hpa);
}

void frame_kernel_free(void *page) {
    hpa_t hpa = pool_hpa(page);
    struct chunk *c = chunk_of(hpa);

    spin_lock(&frames_lock);
    assert(managed(hpa) && frame_of(hpa)->owner == FRAME_OWNER_KERNEL,
           "freeing what is not a kernel page");
    give_frame(hpa);
    if (c->free == FRAMES_PER_CHUNK &&
        c->link.next != c->link.previous) { // not the only one with room
        unmap_kernel((u64)pool_ptr(chunk_hpa(c)), SUPERPAGE_SIZE);
        put_chunk(c, CHUNK_FREE);
        domain_free += FRAMES_PER_CHUNK;
    }
    spin_unlock(&frames_lock);
}

hpa_t frame_alloc_chunk(u16 owner) {
    spin_lock(&frames_lock);
    struct chunk *c = first_chunk(CHUNK_FREE);
    if (c)
        take_chunk(c, owner);
    spin_unlock(&frames_lock);
    return c ? chunk_hpa(c) : HPA_NONE;
}

hpa_t frame_alloc_run(u16 owner, u64 bytes, u64 limit) {
    u64 wanted = bytes >> SUPERPAGE_SHIFT, run = 0;

    for (u64 i = 0; i < MIN(chunk_count, limit >> SUPERPAGE_SHIFT); i++) {
        run = chunk_table[i].use == CHUNK_FREE ? run + 1 : 0;
        if (run < wanted)
            continue;
        struct chunk *first = &chunk_table[i + 1 - wanted];
        for (struct chunk *c = first; c <= &chunk_table[i]; c++)
            take_chunk(c, owner);
        return chunk_hpa(first);
    }
    return HPA_NONE;
}

void frames_adopt(u16 owner, hpa_t base, u64 bytes) {
    for (u64 offset = 0; offset < bytes; offset += PAGE_SIZE) {
        hpa_t hpa = HPA(base.v + offset);
        if (managed(hpa) && frame_of(hpa)->owner == FRAME_OWNER_RESERVED)
            *frame_of(hpa) = (struct frame){.owner = owner, .references = 1};
    }
}

u32 frame_references(hpa_t hpa) {
    return managed(hpa) && owned(frame_of(hpa)) ? frame_of(hpa)->references : 0;
}

void frames_get(hpa_t hpa, unsigned count) {
    spin_lock(&frames_lock);
    for (struct frame *f = frame_of(hpa), *end = f + count; f < end; f++) {
        assert(owned(f) && f->references, "reference to a free frame");
        f->references++;
    }
    spin_unlock(&frames_lock);
}

void frames_put(hpa_t hpa, unsigned count) {
    while (count) {
        spin_lock(&frames_lock);
        do {
            struct frame *f = frame_of(hpa);
            assert(managed(hpa) && owned(f) && f->references, "too many references dropped");
            if (--f->references == 0)
                give_frame(hpa);
            hpa.v += PAGE_SIZE;
        } while (--count % FRAMES_AT_ONCE);
        spin_unlock(&frames_lock);
        irq_window(); // handlers only set pending bits
    }
}

u64 frames_free(void) { return domain_free * PAGE_SIZE; }

static void map_table(const void *table, u64 bytes) {
    for (u64 va = (u64)table & PAGE_MASK; va < (u64)table + bytes; va += PAGE_SIZE)
        if (kernel_virt_to_hpa((void *)va).v == HPA_NONE.v)
            map_at_boot(va, early_frame(), PAGE_SIZE, MAP_WRITE);
}

// A chunk with some RAM begins as one of which all frames are taken.
static void add_chunks(const struct boot_memory *m) {
    for (u64 pa = ALIGN_DOWN(m->base, SUPERPAGE_SIZE); pa < m->end; pa += SUPERPAGE_SIZE) {
        struct chunk *c = chunk_of(HPA(pa));

        *c = (struct chunk){.use = CHUNK_DOMAINS, .fresh = FRAMES_PER_CHUNK, .last = NO_FRAME};
        list_init(&c->link);
    }
}

static void free_ram(const struct boot_memory *m) {
    for (u64 pa = m->base, end; pa < m->end; pa = end) {
        end = MIN(ALIGN_DOWN(pa, SUPERPAGE_SIZE) + SUPERPAGE_SIZE, m->end);
        if (end - pa == SUPERPAGE_SIZE) {
            put_chunk(chunk_of(HPA(pa)), CHUNK_FREE);
            domain_free += FRAMES_PER_CHUNK;
            continue;
        }
        for (; pa < end; pa += PAGE_SIZE)
            give_frame(HPA(pa));
    }
}

// Makes the tables of the pool window, which stay when what they map is unmapped: mapping a chunk later takes no frame.
static void make_pool_tables(void) {
    for (u64 pa = SUPERPAGE_SIZE; pa <= (u64)chunk_count << SUPERPAGE_SHIFT; pa += GIB)
        if (!map_kernel((u64)pool_ptr(HPA(pa)), HPA(pa), SUPERPAGE_SIZE, MAP_WRITE))
            unmap_kernel((u64)pool_ptr(HPA(pa)), SUPERPAGE_SIZE);
}

// The frames that early_frame() did not need: mapped in the pool window, they can only be the kernel's.
static void add_early_rest(void) {
    u64 frame, end;

    for (early_rest(&frame, &end); frame < end; frame += PAGE_SIZE) {
        chunk_of(HPA(frame))->use = CHUNK_KERNEL;
        give_frame(HPA(frame));
    }
}

void frames_init(const struct boot_params *boot) {
    for (unsigned use = 0; use < CHUNK_USES; use++)
        list_init(&lists[use]);
    chunk_count = (u32)(ALIGN_UP(boot->ram_end, SUPERPAGE_SIZE) >> SUPERPAGE_SHIFT);
    map_table(chunk_table, chunk_count * sizeof(struct chunk));
    for (u32 i = 0; i < boot->memory_count; i++)
        if (boot->memory[i].kind <= MEMORY_TAKEN)
            add_chunks(&boot->memory[i]);
    for (const struct chunk *c = chunk_table; c < chunk_table + chunk_count; c++)
        if (c->use != CHUNK_NONE)
            map_table(frame_of(chunk_hpa(c)), FRAMES_PER_CHUNK * sizeof(struct frame));
    make_pool_tables();
    // From here on no early frame may be taken: the map knows all that were.
    for (u32 i = 0; i < boot->memory_count; i++)
        if (boot->memory[i].kind == MEMORY_RAM)
            free_ram(&boot->memory[i]);
    add_early_rest();
    paging_set_frame_source(frame_kernel_alloc_hpa);
}
