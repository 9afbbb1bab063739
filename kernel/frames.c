// SPDX-License-Identifier: Apache-2.0
//
// The frame allocator's two tables: one `struct chunk` per 2 MiB of address space below the end of RAM and one
// `struct frame` per 4 KiB of RAM, both virtually contiguous, the second mapped only where RAM is. Chunks hang in
// lists by what they have to give, so that every operation takes constant time. Kernel chunks are always whole, are
// mapped in the pool window while they belong to the kernel, and go back when they are empty and others have room.

#include "kernel/frames.h"

#include "arch/acpi.h"
#include "arch/cpu.h"
#include "arch/early.h"
#include "arch/paging.h"
#include "arch/spinlock.h"
#include "arch/string.h"
#include "boot/boot.h"
#include "kernel/panic.h"

#ifndef CHUNK_TABLE_BASE // the host tests have their own
#define CHUNK_TABLE_BASE (FRAME_TABLE_BASE + 256 * GIB)
#endif

#define FRAMES_PER_CHUNK 512u
#define NO_CHUNK         0xffffffffu
#define KERNEL_RESERVE \
    6 // free kernel frames kept for the page tables that map the next kernel chunk

enum chunk_use { CHUNK_NONE, CHUNK_FREE, CHUNK_WHOLE, CHUNK_SPLIT, CHUNK_KERNEL, CHUNK_USES };

struct chunk {
    u64 free_map[8]; // bit set: frame is free
    u32 previous, next;
    u16 free;
    u8 node; // NUMA node
    u8 use; // enum chunk_use; CHUNK_FREE, CHUNK_SPLIT and CHUNK_KERNEL with free frames are in a list
};

static struct frame *const frame_table = (struct frame *)FRAME_TABLE_BASE;
static struct chunk *const chunk_table = (struct chunk *)CHUNK_TABLE_BASE;

static struct spinlock frames_lock;
static u32 lists[CHUNK_USES] = {NO_CHUNK, NO_CHUNK, NO_CHUNK, NO_CHUNK, NO_CHUNK};
static u32 chunk_count;
static u64 kernel_free;  // free frames in kernel chunks
static u64 domain_free;  // free frames elsewhere
static u64 total_frames; // of RAM
static u32
    growing_cpu; // 1 + number of the CPU that maps a new kernel chunk, holding the lock; 0: none

static struct frame *frame_of(hpa_t hpa) { return &frame_table[hpa.v >> PAGE_SHIFT]; }
static u32 chunk_index(hpa_t hpa) { return (u32)(hpa.v >> SUPERPAGE_SHIFT); }
static hpa_t chunk_hpa(u32 index) { return HPA((u64)index << SUPERPAGE_SHIFT); }

static bool managed(hpa_t hpa) {
    return hpa.v >> SUPERPAGE_SHIFT < chunk_count &&
           chunk_table[chunk_index(hpa)].use != CHUNK_NONE;
}

static void list_add(u32 index) {
    struct chunk *c = &chunk_table[index];
    u32 *head = &lists[c->use];

    c->previous = NO_CHUNK;
    c->next = *head;
    if (*head != NO_CHUNK)
        chunk_table[*head].previous = index;
    *head = index;
}

static void list_remove(u32 index) {
    struct chunk *c = &chunk_table[index];

    if (c->previous == NO_CHUNK)
        lists[c->use] = c->next;
    else
        chunk_table[c->previous].next = c->next;
    if (c->next != NO_CHUNK)
        chunk_table[c->next].previous = c->previous;
}

static void set_owners(u32 index, u16 owner, u32 references) {
    struct frame *f = &frame_table[(u64)index * FRAMES_PER_CHUNK];

    for (unsigned i = 0; i < FRAMES_PER_CHUNK; i++)
        f[i] = (struct frame){.owner = owner, .references = references};
}

// Takes a whole free chunk out of the free list. NO_CHUNK when there is none.
static u32 take_chunk(enum chunk_use use) {
    u32 index = lists[CHUNK_FREE];

    if (index == NO_CHUNK)
        return NO_CHUNK;
    list_remove(index);
    chunk_table[index].use = (u8)use;
    domain_free -= FRAMES_PER_CHUNK;
    return index;
}

static hpa_t take_frame(u32 index, u16 owner) {
    struct chunk *c = &chunk_table[index];
    unsigned word = 0;

    while (!c->free_map[word])
        word++;
    unsigned bit = (unsigned)__builtin_ctzll(c->free_map[word]);
    hpa_t hpa = HPA(chunk_hpa(index).v + (word * 64 + bit) * PAGE_SIZE);

    c->free_map[word] &= ~BIT(bit);
    if (--c->free == 0)
        list_remove(index);
    *frame_of(hpa) = (struct frame){.owner = owner, .references = 1};
    return hpa;
}

// Opens a free chunk for single frames.
static u32 open_chunk(enum chunk_use use) {
    u32 index = take_chunk(use);

    if (index != NO_CHUNK)
        list_add(index);
    return index;
}

static void give_frame(hpa_t hpa) {
    u32 index = chunk_index(hpa);
    struct chunk *c = &chunk_table[index];
    unsigned n = (unsigned)(hpa.v >> PAGE_SHIFT) & (FRAMES_PER_CHUNK - 1);

    if (c->use == CHUNK_WHOLE)
        c->use = CHUNK_SPLIT;
    *frame_of(hpa) = (struct frame){0};
    c->free_map[n / 64] |= BIT(n % 64);
    if (c->free++ == 0)
        list_add(index);
    if (c->use == CHUNK_KERNEL)
        kernel_free++;
    else
        domain_free++;
    if (c->free == FRAMES_PER_CHUNK && c->use == CHUNK_SPLIT) {
        list_remove(index);
        c->use = CHUNK_FREE;
        list_add(index);
    }
}

static void close_kernel_chunk(u32 index) {
    list_remove(index);
    chunk_table[index].use = CHUNK_FREE;
    list_add(index);
    kernel_free -= FRAMES_PER_CHUNK;
    domain_free += FRAMES_PER_CHUNK;
}

// Gives the kernel one more chunk. Mapping it may take frames for tables: they come from the reserve.
static bool add_kernel_chunk(void) {
    u32 index = open_chunk(CHUNK_KERNEL);

    if (index == NO_CHUNK)
        return false;
    u64 va = (u64)pool_ptr(chunk_hpa(index));
    growing_cpu = this_cpu()->id + 1;
    list_remove(index); // nothing may be taken from it before it is mapped
    int error = map_kernel(va, chunk_hpa(index), SUPERPAGE_SIZE, MAP_WRITE);
    list_add(index);
    growing_cpu = 0;
    kernel_free += FRAMES_PER_CHUNK;
    if (error)
        close_kernel_chunk(index);
    return !error;
}

static hpa_t kernel_take(void) {
    if (lists[CHUNK_KERNEL] == NO_CHUNK)
        return HPA_NONE;
    kernel_free--;
    return take_frame(lists[CHUNK_KERNEL], FRAME_OWNER_KERNEL);
}

hpa_t frame_kernel_alloc_hpa(void) {
    hpa_t hpa = HPA_NONE;

    if (growing_cpu == this_cpu()->id + 1) // called by map_kernel() for a table, the lock is held
        return kernel_take();
    spin_lock(&frames_lock);
    if (kernel_free > KERNEL_RESERVE || add_kernel_chunk())
        hpa = kernel_take();
    spin_unlock(&frames_lock);
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

    spin_lock(&frames_lock);
    assert(managed(hpa) && frame_of(hpa)->owner == FRAME_OWNER_KERNEL,
           "freeing what is not a kernel page");
    give_frame(hpa);
    u32 index = chunk_index(hpa);
    if (chunk_table[index].free == FRAMES_PER_CHUNK &&
        kernel_free - FRAMES_PER_CHUNK > KERNEL_RESERVE) {
        unmap_kernel((u64)pool_ptr(chunk_hpa(index)), SUPERPAGE_SIZE);
        close_kernel_chunk(index);
    }
    spin_unlock(&frames_lock);
}

hpa_t frame_alloc(u16 owner) {
    hpa_t hpa = HPA_NONE;

    spin_lock(&frames_lock);
    u32 index = lists[CHUNK_SPLIT];
    if (index == NO_CHUNK) {
        index = open_chunk(CHUNK_SPLIT);
        domain_free += index != NO_CHUNK ? FRAMES_PER_CHUNK : 0;
    }
    if (index != NO_CHUNK) {
        hpa = take_frame(index, owner);
        domain_free--;
    }
    spin_unlock(&frames_lock);
    return hpa;
}

hpa_t frame_alloc_chunk(u16 owner) {
    spin_lock(&frames_lock);
    u32 index = take_chunk(CHUNK_WHOLE);
    if (index != NO_CHUNK) {
        memset(chunk_table[index].free_map, 0, sizeof(chunk_table[index].free_map));
        chunk_table[index].free = 0;
        set_owners(index, owner, 1);
    }
    spin_unlock(&frames_lock);
    return index == NO_CHUNK ? HPA_NONE : chunk_hpa(index);
}

hpa_t frame_alloc_run(u16 owner, u64 bytes, u64 limit) {
    u32 wanted = (u32)(bytes >> SUPERPAGE_SHIFT), run = 0;

    for (u32 i = 0; i < chunk_count && chunk_hpa(i + 1).v <= limit; i++) {
        run = chunk_table[i].use == CHUNK_FREE ? run + 1 : 0;
        if (run < wanted)
            continue;
        u32 first = i + 1 - wanted;
        for (u32 n = first; n <= i; n++) {
            list_remove(n);
            chunk_table[n].use = CHUNK_WHOLE;
            chunk_table[n].free = 0;
            memset(chunk_table[n].free_map, 0, sizeof(chunk_table[n].free_map));
            set_owners(n, owner, 1);
        }
        domain_free -= (u64)wanted * FRAMES_PER_CHUNK;
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

u16 frame_owner(hpa_t hpa) { return managed(hpa) ? frame_of(hpa)->owner : FRAME_OWNER_RESERVED; }
u32 frame_references(hpa_t hpa) { return managed(hpa) ? frame_of(hpa)->references : 0; }

void frames_get(hpa_t hpa, unsigned count) {
    spin_lock(&frames_lock);
    for (unsigned i = 0; i < count; i++) {
        struct frame *f = frame_of(HPA(hpa.v + i * PAGE_SIZE));
        assert(f->owner && f->references, "reference to a free frame");
        f->references++;
    }
    spin_unlock(&frames_lock);
}

void frames_put(hpa_t hpa, unsigned count) {
    spin_lock(&frames_lock);
    for (unsigned i = 0; i < count; i++, hpa.v += PAGE_SIZE) {
        struct frame *f = frame_of(hpa);
        assert(managed(hpa) && f->owner && f->references, "too many references dropped");
        if (--f->references == 0)
            give_frame(hpa);
    }
    spin_unlock(&frames_lock);
}

struct frames_count frames_count(void) {
    spin_lock(&frames_lock);
    struct frames_count c = {.total = total_frames * PAGE_SIZE, .free = domain_free * PAGE_SIZE};
    spin_unlock(&frames_lock);
    return c;
}

static void map_table(u64 first, u64 last) {
    for (u64 va = first & PAGE_MASK; va < last; va += PAGE_SIZE)
        if (kernel_virt_to_hpa((void *)va).v == HPA_NONE.v &&
            map_kernel(va, early_frame(), PAGE_SIZE, MAP_WRITE))
            panic("no memory for the frame table");
}

// The range taken before this allocator was there that holds `pa` or begins first after it.
static struct range next_taken(u64 pa) {
    unsigned count;
    const struct range *ranges = early_reserved(&count);
    struct range next = {~0ull, ~0ull};

    for (unsigned i = 0; i < count; i++)
        if (ranges[i].end > pa && ranges[i].base < next.base)
            next = ranges[i];
    return next;
}

static void add_ram(u64 base, u64 end) {
    for (u64 pa = ALIGN_DOWN(base, SUPERPAGE_SIZE); pa < end; pa += SUPERPAGE_SIZE) {
        u32 index = chunk_index(HPA(pa));
        struct chunk *c = &chunk_table[index];

        if (pa >= base && pa + SUPERPAGE_SIZE <= end &&
            next_taken(pa).base >= pa + SUPERPAGE_SIZE) {
            *c = (struct chunk){
                .use = CHUNK_FREE, .free = FRAMES_PER_CHUNK, .node = (u8)acpi_node_of(pa)};
            memset(c->free_map, 0xff, sizeof(c->free_map));
            list_add(index);
            domain_free += FRAMES_PER_CHUNK;
            continue;
        }
        if (c->use == CHUNK_NONE) {
            c->use = CHUNK_SPLIT;
            set_owners(index, FRAME_OWNER_RESERVED, 0);
        }
        for (u64 frame = MAX(pa, base); frame < MIN(pa + SUPERPAGE_SIZE, end); frame += PAGE_SIZE)
            if (next_taken(frame).base > frame)
                give_frame(HPA(frame));
    }
}

void frames_init(const struct boot_params *boot) {
    const struct boot_memory *end = boot->memory + boot->memory_count;
    u64 top = 0;

    for (const struct boot_memory *m = boot->memory; m < end; m++)
        top = m->kind == MEMORY_RAM ? MAX(top, m->end) : top;
    chunk_count = (u32)(ALIGN_UP(top, SUPERPAGE_SIZE) >> SUPERPAGE_SHIFT);
    map_table((u64)chunk_table, (u64)&chunk_table[chunk_count]);
    for (const struct boot_memory *m = boot->memory; m < end; m++)
        if (m->kind == MEMORY_RAM)
            map_table((u64)frame_of(HPA(ALIGN_DOWN(m->base, SUPERPAGE_SIZE))),
                      (u64)frame_of(HPA(ALIGN_UP(m->end, SUPERPAGE_SIZE))));
    // From here on no early frame may be taken: all that were are known.
    for (const struct boot_memory *m = boot->memory; m < end; m++)
        if (m->kind == MEMORY_RAM) {
            add_ram(m->base, m->end);
            total_frames += (m->end - m->base) >> PAGE_SHIFT;
        }
    if (!add_kernel_chunk())
        panic("no free 2 MiB of memory for the kernel");
    paging_set_frame_source(frame_kernel_alloc_hpa);
}
