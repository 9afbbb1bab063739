// SPDX-License-Identifier: Apache-2.0
//
// See virtio.h.

#include "virtio.h"

#define ANSWER (*(volatile u8 *)(BUFFERS + 0x9000))

volatile u8 *common;
u16 notify;

u32 config(u32 slot, u32 offset, bool write, u32 value) {
    outl(0xcf8, 0x80000000 | slot << 11 | offset);
    if (write)
        outl(0xcfc, value);
    return inl(0xcfc);
}

bool find(u32 slot) {
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

u32 find_device(u32 kind) {
    u32 slot = 0;

    while (slot < 32 && !(find(slot) && config(slot, 0, false, 0) >> 16 == kind))
        slot++;
    if (slot == 32)
        fail("there is no device %x", kind);
    return slot;
}

void reset(void) {
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

void queue(u32 index, u32 size, u64 desc, u64 avail, u64 used) {
    REGISTER(u16, SELECT) = (u16)index;
    REGISTER(u16, QUEUE_SIZE) = (u16)size;
    u32 *registers = (u32 *)(word)(common + DESC);
    u64 areas[3] = {desc, avail, used};
    for (unsigned i = 0; i < 6; i++)
        ((volatile u32 *)registers)[i] = ((u32 *)areas)[i];
    REGISTER(u16, ENABLE) = 1;
}

void request(void) {
    struct descriptor *d = (void *)AREA;
    u64 *header = (void *)(BUFFERS + 0x8000);

    reset();
    memset(d, 0, 3 * PAGE);
    header[0] = header[1] = 0;
    d[0] = (struct descriptor){(word)header, 16, NEXT, 1};
    d[1] = (struct descriptor){BUFFERS, 512, NEXT | WRITE, 2};
    d[2] = (struct descriptor){BUFFERS + 0x9000, 1, WRITE, 0};
    ANSWER = 0xee;
    queue(0, SIZE, AREA, AREA + PAGE, AREA + 2 * PAGE);
    REGISTER(u8, STATUS) = 15;
}

bool served(void) {
    for (unsigned i = 0; i < 300 && !USED[1]; i++)
        inb(0x3ff); // dom0 answers, and has then seen the doorbell
    return USED[1] == AVAIL[1] && !ANSWER;
}

bool ring(void) {
    AVAIL[1] = 1;
    outw(notify, 0);
    return served();
}
