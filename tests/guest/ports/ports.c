// SPDX-License-Identifier: Apache-2.0
//
// ports [STEP]: reads and writes every STEPth I/O port (all of them if it is 1) with 1, 2 and 4 bytes, then by string
// instructions with REP, to and from its memory, memory that it does not have, and up to a page that is not present.
// What is not one of the few devices of this guest must read as ones: anything else would be the machine's own port.
// Left out are only those writes that would end the guest or its console.

#include "../lib/guest.h"

static bool claimed(u32 port) {
    return (port >= 0x3f8 && port < 0x400) || port == 0x70 || port == 0x71 ||
           (port >= 0x600 && port < 0x640) || (port >= 0xcf8 && port < 0xd00) || port == 0x60 ||
           port == 0x64;
}

static bool near(u32 port, u32 first, u32 last) { return port + 3 >= first && port <= last; }

static void access(u32 port) {
    u8 byte = inb((u16)port);
    u16 two = inw((u16)port);
    u32 four = inl((u16)port);
    bool free = true;

    for (u32 i = 0; i < 4; i++)
        free = free && !claimed((port + i) & 0xffff);
    if (free && (byte != 0xff || two != 0xffff || four != 0xffffffff))
        fail("port %x reads as %x, %x, %x", port, byte, two, four);
    if (near(port, 0x3f8, 0x3ff) || near(port, 0xcf9, 0xcf9))
        return;
    outb((u16)port, 0);
    outw((u16)port, 0xffff);
    outl((u16)port, 0xffffffff);
}

static u8 buffer[3 * PAGE] __attribute__((aligned(4096)));

static void ins(u16 port, void *at, word count, unsigned width) {
    word c = count, to = (word)at;
    if (width == 1)
        asm volatile(GUARD("rep insb") : "+c"(c), "+D"(to) : "d"(port) : "memory");
    else if (width == 2)
        asm volatile(GUARD("rep insw") : "+c"(c), "+D"(to) : "d"(port) : "memory");
    else
        asm volatile(GUARD("rep insl") : "+c"(c), "+D"(to) : "d"(port) : "memory");
}

static void outs(u16 port, void *at, word count, unsigned width) {
    word c = count, from = (word)at;
    if (width == 1)
        asm volatile(GUARD("rep outsb") : "+c"(c), "+S"(from) : "d"(port) : "memory");
    else if (width == 2)
        asm volatile(GUARD("rep outsw") : "+c"(c), "+S"(from) : "d"(port) : "memory");
    else
        asm volatile(GUARD("rep outsl") : "+c"(c), "+S"(from) : "d"(port) : "memory");
}

static void strings(u16 port) {
    u64 page = (word)buffer;

    for (unsigned width = 1; width <= 4; width *= 2) {
        memset(buffer, 0, sizeof(buffer));
        ins(port, buffer + PAGE - 5, 40, width);
        if (trap_vector >= 0 || buffer[PAGE - 5] != 0xff ||
            buffer[PAGE - 5 + 40 * width - 1] != 0xff || buffer[PAGE - 6] ||
            buffer[PAGE - 5 + 40 * width])
            fail("REP INS of %u bytes from %x", width, port);
        outs(port, buffer + PAGE - 5, 40, width);
        ins(port, (void *)0xd0000000, 8, width); // no memory: dropped
        outs(port, (void *)0xd0000000, 8, width);
        ins(port, (void *)(word)(ram - 8), 16, width); // out of the RAM's end
        outs(port, (void *)(word)(ram - 8), 16, width);
        // Up to a page that is not there, with a count that never ends.
        u8 *fine = fine_map(0, page, 7);
        fine_map(1, 0, 0);
        ins(port, fine + PAGE - 64, ~(word)0, width);
        if (trap_vector != 14)
            fail("REP INS into a page that is not present: %u", (u32)trap_vector);
        outs(port, fine + PAGE - 64, ~(word)0, width);
        if (trap_vector != 14)
            fail("REP OUTS from a page that is not present: %u", (u32)trap_vector);
        fine_map(0, page, 5);
        ins(port, fine, 1, width);
        if (trap_vector != 14 && (read_cr0() & 0x10000))
            fail("REP INS into a page that is read-only: %u", (u32)trap_vector);
        ins(port, buffer, 0, width); // nothing
        outs(port, buffer, 0, width);
    }
}

ATTACK(ports) {
    u32 step = (u32)ARGUMENT(0, 1);

    for (u32 port = 0; port < 0x10000; port += step)
        access(port);
    outb(0x3fb, 3); // as it was
    strings(0xe9);
    strings(0x80);
    strings(0xffff);
    strings(0x61);
}
