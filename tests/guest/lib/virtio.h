// SPDX-License-Identifier: Apache-2.0
//
// How hostile guests drive their virtio devices: they find a device, give it addresses and a queue of SIZE descriptors in
// AREA, and place a request for a disk's first sector in it. Of one processor at a time.

#pragma once

#include "guest.h"

#define AREA    0x500000u // rings: desc, avail, used, a page each
#define BUFFERS 0x510000u // 64 KiB that descriptors may point to
#define SIZE    16u

enum { SELECT = 0x16, QUEUE_SIZE = 0x18, ENABLE = 0x1c, DESC = 0x20, STATUS = 0x14 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
enum { CONSOLE = 0x1043, DISK = 0x1042, NEEDS_RESET = 0x40 };

struct descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};

#define AVAIL ((volatile u16 *)(AREA + PAGE)) // [1]: its index
#define USED  ((volatile u16 *)(AREA + 2 * PAGE))

/// The registers of the device that was found last, and the port that kicks its queue 0 (the others': 4 further on each).
extern volatile u8 *common;
extern u16 notify;
#define REGISTER(type, offset) (*(volatile type *)(common + (offset)))

/// Reads the register at a multiple of 4 of a function's configuration space, after it was written if `write`.
u32 config(u32 slot, u32 offset, bool write, u32 value);
/// Puts the device in a slot at addresses of its own. False: there is no virtio device.
bool find(u32 slot);
/// The same with the first device of that kind (DISK, ...); returns its slot.
u32 find_device(u32 kind);
/// To the point where features are agreed on, a random part of those that are offered.
void reset(void);
void queue(u32 index, u32 size, u64 desc, u64 avail, u64 used);
/// Resets the disk; places a proper request in its queue: to read the first sector. AVAIL[1] does not tell of it yet.
void request(void);
/// Tells the disk of the request, and rings; whether it was served.
bool ring(void);
/// Waits a while for the answer; whether it came and is good.
bool served(void);
