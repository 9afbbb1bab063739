// SPDX-License-Identifier: Apache-2.0
//
// ports [STEP]: reads and writes every STEPth I/O port (all of them if it is 1) with 1, 2 and 4 bytes, then by string
// instructions with REP, to and from its memory, memory that it does not have, and up to a page that is not present.
// What is not one of the few devices of this guest must read as ones: anything else would be the machine's own port.
// Left out are only those writes that would end the guest or its console.

#include "../lib/ports.h"

static bool near(u32 port, u32 first, u32 last) { return port + 3 >= first && port <= last; }

static void access(u32 port) {
    u8 byte = inb((u16)port);
    u16 two = inw((u16)port);
    u32 four = inl((u16)port);
    bool free = true;

    for (u32 i = 0; i < 4; i++)
        free = free && !port_claimed((port + i) & 0xffff);
    if (free && (byte != 0xff || two != 0xffff || four != 0xffffffff))
        fail("port %x reads as %x, %x, %x", port, byte, two, four);
    if (near(port, 0x3f8, 0x3ff) || near(port, 0xcf9, 0xcf9))
        return;
    outb((u16)port, 0);
    outw((u16)port, 0xffff);
    outl((u16)port, 0xffffffff);
}

static u8 buffer[3 * PAGE] __attribute__((aligned(4096)));

static void strings(u16 port) {
    u64 page = (word)buffer;

    for (unsigned width = 1; width <= 4; width *= 2) {
        memset(buffer, 0, sizeof(buffer));
        rep_ins(port, width, buffer + PAGE - 5, 40);
        if (trap_vector >= 0 || buffer[PAGE - 5] != 0xff ||
            buffer[PAGE - 5 + 40 * width - 1] != 0xff || buffer[PAGE - 6] ||
            buffer[PAGE - 5 + 40 * width])
            fail("REP INS of %u bytes from %x", width, port);
        rep_outs(port, width, buffer + PAGE - 5, 40);
        rep_ins(port, width, (void *)0xd0000000, 8); // no memory: dropped
        rep_outs(port, width, (void *)0xd0000000, 8);
        rep_ins(port, width, (void *)(word)(ram - 8), 16); // out of the RAM's end
        rep_outs(port, width, (void *)(word)(ram - 8), 16);
        // Up to a page that is not there, with a count that never ends.
        u8 *fine = fine_map(0, page, 7);
        fine_map(1, 0, 0);
        rep_ins(port, width, fine + PAGE - 64, ~(word)0);
        if (trap_vector != 14)
            fail("REP INS into a page that is not present: %u", (u32)trap_vector);
        rep_outs(port, width, fine + PAGE - 64, ~(word)0);
        if (trap_vector != 14)
            fail("REP OUTS from a page that is not present: %u", (u32)trap_vector);
        fine_map(0, page, 5);
        rep_ins(port, width, fine, 1);
        if (trap_vector != 14 && (read_cr0() & 0x10000))
            fail("REP INS into a page that is read-only: %u", (u32)trap_vector);
        rep_ins(port, width, buffer, 0); // nothing
        rep_outs(port, width, buffer, 0);
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
