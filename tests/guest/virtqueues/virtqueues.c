// SPDX-License-Identifier: Apache-2.0
//
// virtqueues [ROUNDS] [SEED]: finds its virtio devices (console, entropy, disk) and gives each of their queues rings of
// every malformed kind: chains that loop, lengths and addresses that wrap or lie outside its memory, indices beyond the
// queue, indirect tables in indirect tables, rings that overlap themselves or their buffers, an index that jumps, queues
// that are enabled twice or half; then rings that a second processor scribbles on all the while. dom0 must go on, must
// not write where no descriptor pointed, and serve a proper request after each reset. `doorbells` only keeps dom0 busy.

#include "../lib/guest.h"

#define AREA    0x500000u // rings: desc, avail, used, a page each
#define BUFFERS 0x510000u // 64 KiB that descriptors may point to
#define CANARY \
    0x300000u // below all that a descriptor, even half of one, can say: nothing may be written here
#define SIZE 16u

enum { SELECT = 0x16, QUEUE_SIZE = 0x18, ENABLE = 0x1c, DESC = 0x20, STATUS = 0x14 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};

static u32 broken, kicks;
static volatile u8 *common;
static u16 notify;

static u32 config(u32 slot, u32 offset, bool write, u32 value) {
    outl(0xcf8, 0x80000000 | slot << 11 | offset);
    if (write)
        outl(0xcfc, value);
    return inl(0xcfc);
}

#define REGISTER(type, offset) (*(volatile type *)(common + (offset)))

static bool find(u32 slot) {
    u32 id = config(slot, 0, false, 0);

    if ((id & 0xffff) != 0x1af4)
        return false;
    config(slot, 0x10, true, 0xc0000000 + slot * 0x10000);
    config(slot, 0x14, true, 0);
    config(slot, 0x18, true, 0x2000 + slot * 0x100);
    config(slot, 4, true, 7);
    common = (volatile u8 *)(word)(0xc0000000 + slot * 0x10000);
    notify = (u16)(0x2000 + slot * 0x100);
    return true;
}

static void reset(void) {
    REGISTER(u8, STATUS) = 0;
    for (unsigned i = 0; i < 1000 && REGISTER(u8, STATUS); i++)
        asm volatile("pause");
    if (REGISTER(u8, STATUS))
        fail("a device does not come out of its reset: %x", REGISTER(u8, STATUS));
    REGISTER(u8, STATUS) = 1;
    REGISTER(u8, STATUS) = 3;
    u32 r = (u32)random64();
    for (u32 half = 0; half < 2; half++) {
        REGISTER(u32, 0) = half;
        u32 offered = REGISTER(u32, 4);
        REGISTER(u32, 8) = half;
        REGISTER(u32, 12) = half || r & 1 ? offered : offered & r;
    }
    REGISTER(u8, STATUS) = 11;
}

static void queue(u32 index, u32 size, u64 desc, u64 avail, u64 used) {
    REGISTER(u16, SELECT) = (u16)index;
    REGISTER(u16, QUEUE_SIZE) = (u16)size;
    u32 *registers = (u32 *)(word)(common + DESC);
    u64 areas[3] = {desc, avail, used};
    for (unsigned i = 0; i < 6; i++)
        ((volatile u32 *)registers)[i] = ((u32 *)areas)[i];
    REGISTER(u16, ENABLE) = 1;
}

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
    volatile u16 *avail = (void *)(AREA + PAGE);
    u32 i = (u32)random64() % SIZE;

    d[i].address = address();
    d[i].length = length();
    d[i].flags = flags();
    d[i].next = (u16)(random64() & 7 ? random64() % SIZE : random64());
    avail[2 + (u32)random64() % SIZE] = (u16)(random64() & 7 ? random64() % SIZE : random64());
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
    volatile u16 *avail = (void *)(AREA + PAGE);
    u64 r = random64();

    avail[1] = (u16)(avail[1] + (r & 7 ? 1 : r >> 8));
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
    broken += (REGISTER(u8, STATUS) & 0x40) != 0;
}

// A queue with a proper request to the disk in it: to read its first sector.
static void request(void) {
    struct descriptor *d = (void *)AREA;
    u64 *header = (void *)(BUFFERS + 0x8000);

    reset();
    memset(d, 0, 3 * PAGE);
    header[0] = header[1] = 0;
    d[0] = (struct descriptor){(word)header, 16, NEXT, 1};
    d[1] = (struct descriptor){BUFFERS, 512, NEXT | WRITE, 2};
    d[2] = (struct descriptor){BUFFERS + 0x9000, 1, WRITE, 0};
    *(volatile u8 *)(BUFFERS + 0x9000) = 0xee;
    queue(0, SIZE, AREA, AREA + PAGE, AREA + 2 * PAGE);
    REGISTER(u8, STATUS) = 15;
}

// What must be given up at once: an index ahead by more than the ring has, a head and a next descriptor that it has not.
static void beyond(void) {
    struct descriptor *d = (void *)AREA;
    volatile u16 *avail = (void *)(AREA + PAGE);
    static const u16 indices[] = {SIZE + 1, 0x100, 0x8000, 0xffff};
    static const u16 others[] = {SIZE, 0x100, 0x4000, 0xffff};

    for (unsigned i = 0; i < 12; i++) {
        u16 index = i < 4 ? indices[i] : 1, other = others[i & 3];
        request();
        avail[2] = i >= 4 && i < 8 ? other : 0;
        d[0].next = i >= 8 ? other : 1;
        avail[1] = index;
        outw(notify, 0);
        for (unsigned j = 0; j < 300 && !(REGISTER(u8, STATUS) & 0x40); j++)
            asm volatile("pause");
        if (!(REGISTER(u8, STATUS) & 0x40))
            fail("the disk goes on with index %x, head %x, next %x", index, avail[2], d[0].next);
    }
}

static void proper(void) {
    volatile u16 *avail = (void *)(AREA + PAGE), *used = (void *)(AREA + 2 * PAGE);

    request();
    avail[1] = 1;
    outw(notify, 0);
    for (unsigned i = 0; i < 300 && !used[1]; i++)
        inb(0x3fd); // lets dom0 run
    if (used[1] != 1 || *(volatile u8 *)(BUFFERS + 0x9000))
        fail("the disk does not read: used %u, request %x, device %x, queue enabled %u, size %u",
             used[1], *(volatile u8 *)(BUFFERS + 0x9000), REGISTER(u8, STATUS),
             REGISTER(u16, ENABLE), REGISTER(u16, QUEUE_SIZE));
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
    bool second = ap_run(scribble);
    if (second)
        ap_stop();
    for (u32 slot = 0; slot < 32; slot++) {
        if (!find(slot))
            continue;
        u32 queues = REGISTER(u16, 0x12);
        devices++;
        console = config(slot, 0, false, 0) >> 16 == 0x1043;
        for (u32 i = 0; i < rounds; i++) {
            if (i == rounds / 2)
                ap_run(scribble);
            round_of(queues);
        }
        ap_stop();
        if (config(slot, 0, false, 0) >> 16 == 0x1042) {
            beyond();
            proper();
        }
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
    volatile u16 *avail = (void *)(AREA + PAGE), *used = (void *)(AREA + 2 * PAGE);

    for (u32 slot = 0; slot < 32; slot++)
        if (find(slot) && config(slot, 0, false, 0) >> 16 == 0x1042)
            break;
    request();
    print("doorbells: goes\n");
    for (;;) {
        if (used[1] == avail[1])
            avail[1]++;
        outw(notify, 0);
    }
}
