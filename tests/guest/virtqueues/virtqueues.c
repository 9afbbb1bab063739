// SPDX-License-Identifier: Apache-2.0
//
// virtqueues [ROUNDS] [SEED]: gives its disk a ring of every malformed kind: indices beyond the queue, chains that loop,
// lengths and addresses that wrap or lie outside its memory, indirect tables in indirect tables. Then it finds all its
// virtio devices (console, entropy, disk) and gives each of their queues random rings, which may overlap themselves or
// their buffers, an index that jumps, queues that are enabled twice or half; in the second half of the rounds another
// processor scribbles on them all the while. dom0 must go on, must not write where no descriptor pointed, and serve a
// proper request after each reset. `doorbells` only keeps dom0 busy.

#include "../lib/virtio.h"

// Below all that a descriptor, even half of one, can say: nothing may be written here.
#define CANARY 0x300000u

static u32 broken, kicks;

static u64 address(void) {
    u64 r = random64();

    switch (r & 15) {
    case 0: return ram - (r >> 4 & 31);
    case 1: return ~0ull - (r >> 4 & 31);
    case 2: return 1ull << (r >> 4 & 63) | 0x800000;
    case 3: return LAPIC;
    case 4: return r | 0x80000000;
    case 5: return AREA + (r >> 4 & 0xfff); // the descriptors themselves
    case 6: return AREA + 2 * PAGE + (r >> 4 & 0xff);
    default: return BUFFERS + (r >> 4 & 0xf000) + (r & 0x80 ? r >> 16 & 0xfff : 0);
    }
}

static bool console; // what it is given to print is printed: little

static u32 length(void) {
    u64 r = random64();

    if (console && (r & 7) != 1)
        return (u32)(r >> 3 & 15);
    switch (r & 7) {
    case 0: return 0;
    case 1: return 0xffffffff - (u32)(r >> 3 & 31);
    case 2: return 1u << (r >> 3 & 31);
    case 3: return 16;
    case 4: return 1;
    default: return r >> 3 & 0xfff;
    }
}

static u16 flags(void) { return (u16)(random64() >> 20 & (random64() & 1 ? 3 : 7)); }

static void scribble_once(void) {
    volatile struct descriptor *d = (void *)AREA;
    u32 i = (u32)random64() % SIZE;

    d[i].address = address();
    d[i].length = length();
    d[i].flags = flags();
    d[i].next = (u16)(random64() & 7 ? random64() % SIZE : random64());
    AVAIL[2 + (u32)random64() % SIZE] = (u16)(random64() & 7 ? random64() % SIZE : random64());
    volatile struct descriptor *indirect = (void *)BUFFERS;
    indirect[i].address = address();
    indirect[i].length = length();
    indirect[i].flags = flags();
    indirect[i].next = (u16)(random64() % (SIZE + 1));
}

static void scribble(void) {
    for (;;)
        scribble_once();
}

static void kick(u32 index) {
    u64 r = random64();

    AVAIL[1] = (u16)(AVAIL[1] + (r & 7 ? 1 : r >> 8));
    outw((u16)(notify + 4 * index), (u16)index);
    kicks++;
}

static void round_of(u32 queues) {
    static const u32 sizes[] = {SIZE, SIZE, SIZE, 1, 0, 3, 0x8000, 0xffff};
    u32 index = (u32)random64() % (queues ? queues : 1);
    bool sane = random64() & 3;

    reset();
    memset((void *)AREA, 0, 3 * PAGE);
    for (unsigned i = 0; i < 4 * SIZE; i++)
        scribble_once();
    if (sane)
        queue(index, SIZE, AREA, AREA + PAGE, AREA + 2 * PAGE);
    else
        queue(index, sizes[random64() & 7], random64() & 1 ? AREA : address() & ~15ull,
              random64() & 1 ? AREA + PAGE : address() & ~1ull,
              random64() & 1 ? AREA + 2 * PAGE : address() & ~3ull);
    if (!(random64() & 7))
        queue((u32)random64() & 3, SIZE, AREA, AREA + PAGE,
              AREA); // a second one, or the same once more
    REGISTER(u8, STATUS) = 15;
    for (unsigned i = 0; i < 6; i++) {
        kick(index);
        scribble_once();
    }
    broken += (REGISTER(u8, STATUS) & NEEDS_RESET) != 0;
}

// What is in the ring must be given up: the device waits for a reset.
static void given_up(const char *what, u32 number) {
    AVAIL[1] = AVAIL[1] ? AVAIL[1] : 1;
    outw(notify, 0);
    for (unsigned i = 0; i < 300 && !(REGISTER(u8, STATUS) & NEEDS_RESET); i++)
        asm volatile("pause");
    if (!(REGISTER(u8, STATUS) & NEEDS_RESET))
        fail("the disk goes on with %s %x", what, number);
}

// An index ahead by more than the ring has, a head and a next descriptor that it has not.
static void beyond(void) {
    struct descriptor *d = (void *)AREA;
    static const u16 indices[] = {SIZE + 1, 0x100, 0x8000, 0xffff};
    static const u16 others[] = {SIZE, 0x100, 0x4000, 0xffff};

    for (unsigned i = 0; i < 4; i++) {
        request();
        AVAIL[1] = indices[i];
        given_up("index", indices[i]);
        request();
        AVAIL[2] = others[i];
        given_up("head", others[i]);
        request();
        d[0].next = others[i];
        given_up("next descriptor", others[i]);
    }
}

// A request with all features that are offered, so that indirect descriptors are known.
static void request_with_indirect(void) {
    u32 agreed;

    do {
        request();
        REGISTER(u32, 8) = 0;
        agreed = REGISTER(u32, 12);
    } while (!(agreed & 1u << 28));
}

// Chains that no driver makes.
static void malformed(void) {
    struct descriptor *d = (void *)AREA, *table = (void *)(BUFFERS + 0xa000);
    static const u64 wrapping[] = {~0ull, ~0ull - 510, 0 - 512ull + 1};
    static const u32 lengths[] = {0, 8, 24, 0x100010};

    request();
    d[2].flags |= NEXT; // to the first
    given_up("a loop", 0);
    request();
    d[1].flags |= NEXT; // to itself
    d[1].next = 1;
    given_up("a loop of one", 0);
    for (unsigned i = 0; i < 3; i++) {
        request();
        d[1].address = wrapping[i];
        given_up("an address that wraps", i);
    }
    request();
    d[0].flags |= WRITE;
    d[1].flags = NEXT;
    given_up("a readable buffer behind a writable one", 0);
    for (unsigned i = 0; i < 4; i++) {
        request_with_indirect();
        d[0] = (struct descriptor){(word)table, lengths[i], INDIRECT, 0};
        table[0] = (struct descriptor){BUFFERS + 0x8000, 16, NEXT, 0x7fff};
        given_up("an indirect table of length", lengths[i]);
    }
    request_with_indirect();
    d[0] = (struct descriptor){(word)table, 64, INDIRECT, 0};
    table[0] = (struct descriptor){BUFFERS + 0x8000, 16, NEXT, 1};
    table[1] = (struct descriptor){BUFFERS, 512, NEXT | WRITE, 4};
    given_up("a descriptor behind its indirect table's end", 4);
    request_with_indirect();
    d[0] = (struct descriptor){(word)table, 16, INDIRECT, 0};
    table[0] = (struct descriptor){(word)(table + 2), 48, INDIRECT, 0};
    table[2] = (struct descriptor){BUFFERS + 0x8000, 16, NEXT, 1};
    table[3] = (struct descriptor){BUFFERS, 512, NEXT | WRITE, 2};
    table[4] = (struct descriptor){BUFFERS + 0x9000, 1, WRITE, 0};
    given_up("an indirect table in another", 0);
    request_with_indirect();
    d[0] = (struct descriptor){ram, 48, INDIRECT, 0};
    given_up("an indirect table outside its memory", 0);
}

// Buffers outside of this guest's memory: an error, or the end of the queue, but nothing is read or written there.
static void outside(void) {
    struct descriptor *d = (void *)AREA;
    static const u64 places[] = {1ull << 32, 1ull << 47, LAPIC, 0xc0000000, 0x40000000};

    for (unsigned i = 0; i <= sizeof(places) / sizeof(places[0]); i++) {
        u64 place = i ? places[i - 1] : ram;
        for (unsigned which = 0; which < 3; which++) {
            request();
            d[which].address = place;
            if (ring())
                fail("the disk reads or writes at %X, buffer %u", place, which);
        }
    }
}

static void proper(void) {
    request();
    if (!ring())
        fail("the disk does not read: used %u, device %x, queue enabled %u, size %u", USED[1],
             REGISTER(u8, STATUS), REGISTER(u16, ENABLE), REGISTER(u16, QUEUE_SIZE));
}

ATTACK(virtqueues) {
    u32 rounds = (u32)ARGUMENT(0, 100), devices = 0;

    seed = ARGUMENT(1, 0);
    if (!seed)
        seed = rdtsc() | 1;
    print("virtqueues: seed %U\n", seed);
    broken = kicks = 0;
    for (u32 i = CANARY; i < CANARY + 0x100000; i += 4)
        *(u32 *)(word)i = 0xca4a4100 ^ i;
    find_device(DISK);
    beyond();
    malformed();
    outside();
    for (u32 slot = 0; slot < 32; slot++) {
        if (!find(slot))
            continue;
        u32 queues = REGISTER(u16, 0x12);
        devices++;
        console = config(slot, 0, false, 0) >> 16 == CONSOLE;
        for (u32 i = 0; i < rounds; i++) {
            if (i == rounds / 2)
                ap_run(scribble);
            round_of(queues);
        }
        ap_stop();
        if (config(slot, 0, false, 0) >> 16 == DISK)
            proper();
        REGISTER(u8, STATUS) = 0;
    }
    for (u32 i = CANARY; i < CANARY + 0x100000; i += 4)
        if (*(u32 *)(word)i != (0xca4a4100 ^ i)) {
            fail("memory that no descriptor pointed to was written at %x", i);
            break;
        }
    print("virtqueues: %u devices, %u kicks, %u times broken\n", devices, kicks, broken);
}

// doorbells: asks the disk for its first sector and rings its doorbell, for ever and without a pause.
ATTACK(doorbells) {
    find_device(DISK);
    request();
    print("doorbells: goes\n");
    for (;;) {
        if (USED[1] == AVAIL[1])
            AVAIL[1]++;
        outw(notify, 0);
    }
}
