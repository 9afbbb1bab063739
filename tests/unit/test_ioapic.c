// SPDX-License-Identifier: Apache-2.0
//
// The guests' I/O APIC against a model written from the data sheet, with random line changes,
// register writes and EOIs; its registers; and that what it sends is in its state page.
//
// sources: dom0/devices/ioapic.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dom0/devices/host.h"
#include "dom0/devices/ioapic.h"

#define DOMAIN 7u

static struct machine_state io;
static unsigned sent; // messages
static uint64_t address;
static uint32_t data;

void host_inject_msi(uint32_t domain, uint64_t to, uint32_t what) {
    assert_int_equal(domain, DOMAIN);
    sent++;
    address = to;
    data = what;
}

static void set_line(unsigned pin, bool level) { ioapic_set_line(&io, DOMAIN, pin, level); }

static void end(uint8_t vector) { ioapic_write(&io, DOMAIN, 0x40, vector); }

static void write_register(uint8_t reg, uint32_t value) {
    ioapic_write(&io, DOMAIN, 0x00, reg);
    ioapic_write(&io, DOMAIN, 0x10, value);
}

static uint32_t read_register(uint8_t reg) {
    ioapic_write(&io, DOMAIN, 0x00, reg);
    return ioapic_read(&io, 0x10);
}

// The number of messages since the last call.
static unsigned messages(void) {
    unsigned count = sent;
    sent = 0;
    return count;
}

static int fresh(void **state) {
    (void)state;
    memset(&io, 0xff, sizeof(io));
    io.lines = 0;
    ioapic_reset(&io);
    sent = 0;
    return 0;
}

static void registers(void **state) {
    (void)state;
    assert_int_equal(read_register(0), 0);
    assert_int_equal(read_register(1), 0x00170020);
    write_register(0, 0xffffffff);
    assert_int_equal(read_register(0), 0x0f000000);
    for (unsigned reg = 0; reg < 256; reg++) {
        write_register((uint8_t)reg, 0xffffffff);
        uint32_t value = read_register((uint8_t)reg);
        if (reg >= 0x10 && reg < 0x40)
            assert_int_equal(value,
                             reg & 1 ? 0xff000000 : 0x0001afff); // bits 12 and 14 are read-only
        else if (reg > 1)
            assert_int_equal(value, 0);
    }
    for (unsigned offset = 0; offset < 0x1000; offset++) {
        if (offset == 0x10 || offset == 0)
            continue;
        assert_int_equal(ioapic_read(&io, offset), 0);
        ioapic_write(&io, DOMAIN, offset, 0x30);
    }
    assert_int_equal(messages(), 0);
}

static void edge(void **state) {
    (void)state;
    set_line(4, true); // masked: lost
    write_register(0x11 + 8, 0x03000000);
    write_register(0x10 + 8, 0x00000831); // logical, fixed, vector 0x31
    set_line(4, true);                    // no edge
    set_line(4, false);
    assert_int_equal(messages(), 0);
    set_line(4, true);
    assert_int_equal(messages(), 1);
    assert_int_equal(address, 0xfee03004);
    assert_int_equal(data, 0x4031);
    end(0x31);
    assert_int_equal(messages(), 0); // edges need no EOI
}

static void level(void **state) {
    (void)state;
    write_register(0x11 + 18, 0xff000000);
    write_register(0x10 + 18, 0x0000a051);
    set_line(9, true);
    assert_int_equal(messages(), 1);
    assert_int_equal(address, 0xfeeff000);
    assert_int_equal(data, 0xc051);
    assert_int_equal(read_register(0x10 + 18), 0x0000e051); // remote IRR
    set_line(9, true);
    assert_int_equal(messages(), 0);
    end(0x51);
    assert_int_equal(messages(), 1); // still asserted
    set_line(9, false);
    set_line(9, true);
    assert_int_equal(messages(), 0); // EOI outstanding
    set_line(9, false);
    end(0x51);
    end(0x51);
    assert_int_equal(messages(), 0);
    assert_int_equal(read_register(0x10 + 18), 0x0000a051);
}

static void unmasking(void **state) {
    (void)state;
    write_register(0x10, 0x00018060);
    set_line(0, true);
    assert_int_equal(messages(), 0);
    write_register(0x10, 0x00008060);
    assert_int_equal(messages(), 1);
    write_register(0x10, 0x00018060);
    write_register(0x10, 0x00008060); // EOI outstanding
    assert_int_equal(messages(), 0);
    write_register(0x10, 0x00018060);
    end(0x60);
    assert_int_equal(messages(), 0); // masked
    write_register(0x10, 0x00008060);
    assert_int_equal(messages(), 1);
    // Guests end a stuck interrupt by switching the entry to edge and back.
    write_register(0x10, 0x00010060);
    assert_int_equal(read_register(0x10), 0x00010060);
    write_register(0x10, 0x00008060);
    assert_int_equal(messages(), 1);
}

static void pins_out_of_range(void **state) {
    (void)state;
    for (unsigned pin = IOAPIC_PINS; pin < 300; pin++)
        set_line(pin, true);
    assert_int_equal(io.lines, 0);
    assert_int_equal(messages(), 0);
}

// The model: what the data sheet says of one pin, one fact per field.
static struct model {
    bool asserted, masked, level, outstanding;
    uint8_t vector;
} pins[IOAPIC_PINS];

static bool deliverable(const struct model *p) {
    return p->level && p->asserted && !p->masked && !p->outstanding;
}

static void check(unsigned pin, bool want) {
    assert_int_equal(messages(), want);
    if (!want)
        return;
    assert_int_equal(data, 0x4000u | pins[pin].vector | (pins[pin].level ? 0x8000u : 0));
    pins[pin].outstanding = pins[pin].level;
}

static void random_line(unsigned pin) {
    struct model *p = &pins[pin];
    bool on = rand() & 1, rises = on && !p->asserted;
    p->asserted = on;
    set_line(pin, on);
    check(pin, p->level ? deliverable(p) : rises && !p->masked);
}

static void random_entry(unsigned pin) {
    struct model *p = &pins[pin];
    p->vector = (uint8_t)(0x20 + rand() % 4);
    p->masked = rand() & 1;
    p->level = rand() & 1;
    p->outstanding &= p->level;
    write_register((uint8_t)(0x10 + 2 * pin),
                   p->vector | (uint32_t)p->level << 15 | (uint32_t)p->masked << 16);
    check(pin, deliverable(p));
}

static void random_eoi(void) {
    uint8_t vector = (uint8_t)(0x20 + rand() % 4);
    unsigned want = 0;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        if (!pins[pin].outstanding || pins[pin].vector != vector)
            continue;
        pins[pin].outstanding = false;
        pins[pin].outstanding = deliverable(&pins[pin]);
        want += pins[pin].outstanding;
    }
    end(vector);
    assert_int_equal(messages(), want);
}

static void against_the_model(void **state) {
    (void)state;
    srand(7);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        pins[pin] = (struct model){.masked = true};
    for (unsigned i = 0; i < 200000; i++) {
        unsigned pin = (unsigned)rand() % IOAPIC_PINS;
        switch (rand() % 4) {
        case 0: random_entry(pin); break;
        case 1: random_eoi(); break;
        default: random_line(pin);
        }
        uint32_t low = read_register((uint8_t)(0x10 + 2 * pin));
        assert_int_equal(low >> 14 & 1, pins[pin].outstanding);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(registers, fresh),
        cmocka_unit_test_setup(edge, fresh),
        cmocka_unit_test_setup(level, fresh),
        cmocka_unit_test_setup(unmasking, fresh),
        cmocka_unit_test_setup(pins_out_of_range, fresh),
        cmocka_unit_test_setup(against_the_model, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
