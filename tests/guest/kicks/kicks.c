// SPDX-License-Identifier: Apache-2.0
//
// kicks: string instructions with REP at the registers of devices, where each element has an effect. Repeated writes to a
// disk's notification port ring as single ones do, in every width, for one element and for thousands, downwards, up to a
// page that is not there, through the window in configuration space, and while the function decodes no ports (then they
// must not ring); repeated reads fill what they should and no byte beside it. A second processor places one request after
// another meanwhile: several must be served. A queue's addresses are written by one REP MOVS. What is sent to the serial
// port's loopback by one REP OUTS comes back by one REP INS, whole and in order.

#include "../lib/ports.h"
#include "../lib/virtio.h"

#define COM1 0x3f8

static u8 buffer[3 * PAGE] __attribute__((aligned(4096)));

// A request that only what is done next makes known.
static void place(void) {
    request();
    AVAIL[1] = 1;
}

static void single(u16 port, unsigned width) {
    if (width == 1)
        outb(port, 0);
    else if (width == 2)
        outw(port, 0);
    else
        outl(port, 0);
}

static void repeated(unsigned width) {
    static const word counts[] = {1, 2, 63, 64, 65, PAGE / 4, 2 * PAGE / 4};

    place();
    single(notify, width);
    if (!served())
        fail("a write of %u bytes does not ring", width);
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        place();
        struct string_outcome o = rep_outs(notify, width, buffer, counts[i]);
        if (o.vector >= 0 || o.count || o.at != (word)buffer + counts[i] * width)
            fail("REP OUTS, width %u, count %u: %u left, at %x, vector %u", width, (u32)counts[i],
                 (u32)o.count, (u32)o.at, (u32)o.vector);
        if (!served() || REGISTER(u8, STATUS) & NEEDS_RESET)
            fail("REP OUTS, width %u, count %u, does not ring", width, (u32)counts[i]);
    }
    place();
    rep_outs(notify, width, buffer, 0);
    if (served())
        fail("REP OUTS, width %u, rings for no element", width);
}

static void downwards(void) {
    word count = 3, at = (word)buffer + PAGE;

    place();
    asm volatile("std\n\t" GUARD("rep outsw") "cld"
                 : "+c"(count), "+S"(at)
                 : "d"(notify)
                 : "memory");
    if (trap_vector >= 0 || count || at != (word)buffer + PAGE - 6 || !served())
        fail("REP OUTSW downwards: %u left, at %x, vector %u", (u32)count, (u32)at,
             (u32)trap_vector);
}

// The elements before a page that is not there ring; the fault shows the state between two of them.
static void up_to_a_fault(void) {
    u8 *fine = fine_map(0, (word)buffer, 7);

    fine_map(1, 0, 0);
    for (word before = 0; before <= 70; before += 35) {
        place();
        struct string_outcome o = rep_outs(notify, 2, fine + PAGE - 2 * before, 100);
        if (o.vector != 14 || o.count != 100 - before || o.at != (word)fine + PAGE)
            fail("REP OUTSW up to a fault: %u left, at %x, vector %u", (u32)o.count, (u32)o.at,
                 (u32)o.vector);
        if (served() != (before > 0))
            fail("REP OUTSW up to a fault after %u elements: %u served", (u32)before, USED[1]);
    }
}

static void reads(void) {
    for (unsigned width = 1; width <= 4; width *= 2) {
        memset(buffer, 0xa5, sizeof(buffer));
        place();
        u32 value = width == 1 ? inb(notify) : width == 2 ? inw(notify) : inl(notify);
        u8 *start = buffer + PAGE - 7, *end = start + 100 * width;
        struct string_outcome o = rep_ins(notify, width, start, 100);
        if (o.vector >= 0 || o.count || o.at != (word)end)
            fail("REP INS, width %u: %u left, at %x, vector %u", width, (u32)o.count, (u32)o.at,
                 (u32)o.vector);
        for (u8 *byte = start; byte < end; byte++)
            if (*byte != (u8)(value >> 8 * ((word)(byte - start) % width)))
                fail("REP INS, width %u: byte %u is %x", width, (u32)(byte - start), *byte);
        if (start[-1] != 0xa5 || *end != 0xa5)
            fail("REP INS, width %u, writes beside its buffer", width);
        if (served())
            fail("a read of the notification port rings");
    }
}

static void feed(void) {
    for (;;)
        if (USED[1] == AVAIL[1])
            AVAIL[1]++;
}

static void many(void) {
    request();
    if (!ap_run(feed))
        fail("there is no second processor");
    for (unsigned i = 0; i < 200 && USED[1] < 3; i++)
        rep_outs(notify, 2, buffer, sizeof(buffer) / 2);
    ap_stop();
    print("kicks: %u requests served\n", USED[1]);
    if (USED[1] < 3 || REGISTER(u8, STATUS) & NEEDS_RESET)
        fail("only %u requests are served", USED[1]);
}

static void without_ports(u32 slot) {
    config(slot, 4, true, 6); // memory and bus mastering only
    place();
    rep_outs(notify, 2, buffer, 100);
    outw(notify, 0);
    if (served())
        fail("a function that decodes no ports is rung");
    config(slot, 4, true, 7);
    place();
    rep_outs(notify, 2, buffer, 100);
    if (!served())
        fail("a function that decodes ports again is not rung");
}

// The capability that gives access to BARs through configuration space ("PCI configuration access capability").
static void through_the_window(u32 slot) {
    u32 at = config(slot, 0x34, false, 0) & 0xfc;

    while (at && (config(slot, at, false, 0) & 0xff0000ff) != 0x05000009)
        at = config(slot, at, false, 0) >> 8 & 0xfc;
    if (!at) {
        fail("there is no window through configuration space");
        return;
    }
    place();
    config(slot, at + 4, true, 2); // BAR 2
    config(slot, at + 8, true, 0);
    config(slot, at + 12, true, 2);
    config(slot, at + 16, false, 0);
    rep_outs(0xcfc, 2, buffer, 100);
    if (!served())
        fail("REP OUTSW through the window does not ring");
}

static void registers_at_once(void) {
    u64 areas[3] = {AREA, AREA + PAGE, AREA + 2 * PAGE};
    word count = 6, from = (word)areas, to = (word)(common + DESC);

    request();
    reset();
    REGISTER(u16, SELECT) = 0;
    REGISTER(u16, QUEUE_SIZE) = SIZE;
    asm volatile(GUARD("rep movsl") : "+c"(count), "+S"(from), "+D"(to) : : "memory");
    if (trap_vector >= 0 || count || to != (word)(common + DESC) + 24)
        fail("REP MOVSD to registers: %u left, vector %u", (u32)count, (u32)trap_vector);
    u32 back[8] = {0};
    count = 6, from = (word)(common + DESC), to = (word)(back + 1);
    asm volatile(GUARD("rep movsl") : "+c"(count), "+S"(from), "+D"(to) : : "memory");
    for (unsigned i = 0; i < 6; i++)
        if (back[1 + i] != ((u32 *)areas)[i])
            fail("REP MOVSD from registers: %x instead of %x", back[1 + i], ((u32 *)areas)[i]);
    if (back[0] || back[7])
        fail("REP MOVSD from registers writes beside its buffer");
    REGISTER(u16, ENABLE) = 1;
    REGISTER(u8, STATUS) = 15;
    AVAIL[1] = 1;
    rep_outs(notify, 2, buffer, 3);
    if (!served())
        fail("a queue whose addresses REP MOVSD wrote does not work");
}

static void loopback(void) {
    static const u8 sent[] = "each byte once";
    u8 back[sizeof(sent) + 2], modem = inb(COM1 + 4);

    memset(back, 0xa5, sizeof(back));
    outb(COM1 + 2, 7); // both queues on and empty
    outb(COM1 + 4, modem | 0x10);
    struct string_outcome o = rep_outs(COM1, 1, sent, sizeof(sent));
    u8 status = inb(COM1 + 5);
    struct string_outcome i = rep_ins(COM1, 1, back + 1, sizeof(sent));
    bool empty = !(inb(COM1 + 5) & 1);
    outb(COM1 + 4, modem);
    if (o.count || i.count || !(status & 1) || !empty)
        fail("loopback: %u and %u left, line status %x, %s", (u32)o.count, (u32)i.count, status,
             empty ? "empty" : "more is there");
    for (unsigned n = 0; n < sizeof(sent); n++)
        if (back[1 + n] != sent[n])
            fail("loopback: byte %u is %x", n, back[1 + n]);
    if (back[0] != 0xa5 || back[sizeof(sent) + 1] != 0xa5)
        fail("loopback: a byte beside the buffer is written");
}

ATTACK(kicks) {
    u32 slot = find_device(DISK);

    if (slot == 32)
        return;
    loopback();
    for (unsigned width = 1; width <= 4; width *= 2)
        repeated(width);
    downwards();
    up_to_a_fault();
    reads();
    without_ports(slot);
    through_the_window(slot);
    registers_at_once();
    many();
    REGISTER(u8, STATUS) = 0;
}
