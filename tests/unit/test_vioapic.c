// SPDX-License-Identifier: Apache-2.0
//
// The virtual I/O APIC against a model written from the datasheet, with random line changes, register writes and EOIs;
// its registers; and MSI decoding.
//
// sources: guest/vioapic.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/vioapic.h"

static struct vioapic io;
static struct apic_message m;

static u32 write_register(u8 reg, u32 value) {
    struct vioapic_eoi eoi;

    assert_int_equal(vioapic_write(&io, 0x00, reg, &eoi), 0);
    return vioapic_write(&io, 0x10, value, &eoi);
}

static u32 read_register(u8 reg) {
    struct vioapic_eoi eoi;

    assert_int_equal(vioapic_write(&io, 0x00, reg, &eoi), 0);
    return vioapic_read(&io, 0x10);
}

static int fresh(void **state) {
    (void)state;
    vioapic_init(&io, 2);
    m = (struct apic_message){0};
    return 0;
}

static void registers(void **state) {
    (void)state;
    assert_int_equal(read_register(0), 2u << 24);
    assert_int_equal(read_register(1), 0x00170020);
    write_register(0, 0xffffffff);
    assert_int_equal(read_register(0), 0x0f000000);
    for (unsigned reg = 0; reg < 256; reg++) {
        assert_int_equal(write_register((u8)reg, 0xffffffff), 0);
        u32 value = read_register((u8)reg);
        if (reg >= 0x10 && reg < 0x40)
            assert_int_equal(value,
                             reg & 1 ? 0xff000000 : 0x0001afff); // bits 12 and 14 are read-only
        else if (reg > 1)
            assert_int_equal(value, 0);
    }
    for (u32 offset = 0; offset < 0x1000; offset++)
        if (offset != 0x10 && offset != 0)
            assert_int_equal(vioapic_read(&io, offset), 0);
}

static void edge(void **state) {
    (void)state;
    assert_false(vioapic_set_line(&io, 4, true, &m)); // masked: lost
    assert_int_equal(write_register(0x11 + 8, 0x03000000), 0);
    assert_int_equal(write_register(0x10 + 8, 0x00000831), 0); // logical, fixed, vector 0x31
    assert_false(vioapic_set_line(&io, 4, true, &m));          // no edge
    assert_false(vioapic_set_line(&io, 4, false, &m));
    assert_true(vioapic_set_line(&io, 4, true, &m));
    assert_true(m.vector == 0x31 && m.dest == 3 && m.logical && !m.level && m.mode == APIC_FIXED);
    struct vioapic_eoi eoi = vioapic_eoi(&io, 0x31);
    assert_int_equal(eoi.ended | eoi.again, 0); // edges need no EOI
}

static void level(void **state) {
    (void)state;
    write_register(0x11 + 18, 0xff000000);
    write_register(0x10 + 18, 0x0000a051);
    assert_true(vioapic_set_line(&io, 9, true, &m));
    assert_true(m.level && m.dest == VLAPIC_BROADCAST && m.vector == 0x51);
    assert_int_equal(read_register(0x10 + 18), 0x0000e051); // remote IRR
    assert_false(vioapic_set_line(&io, 9, true, &m));
    assert_false(vioapic_deliver(&io, 9, &m));
    struct vioapic_eoi eoi = vioapic_eoi(&io, 0x51);
    assert_int_equal(eoi.ended, 1u << 9);
    assert_int_equal(eoi.again, 1u << 9);
    assert_true(vioapic_deliver(&io, 9, &m)); // still asserted
    assert_false(vioapic_set_line(&io, 9, false, &m));
    eoi = vioapic_eoi(&io, 0x51);
    assert_int_equal(eoi.ended, 1u << 9);
    assert_int_equal(eoi.again, 0);
    assert_int_equal(vioapic_eoi(&io, 0x51).ended, 0);
}

static void level_unmask_and_eoi_register(void **state) {
    struct vioapic_eoi eoi;

    (void)state;
    write_register(0x10, 0x00018060);
    assert_false(vioapic_set_line(&io, 0, true, &m));
    assert_int_equal(write_register(0x10, 0x00008060), 1); // unmasked: deliverable
    assert_true(vioapic_deliver(&io, 0, &m));
    assert_int_equal(write_register(0x10, 0x00018060), 0);
    assert_int_equal(write_register(0x10, 0x00008060), 0); // EOI outstanding
    assert_int_equal(vioapic_write(&io, 0x40, 0x60, &eoi), 0);
    assert_true(eoi.ended == 1 && eoi.again == 1);
    assert_true(vioapic_deliver(&io, 0, &m));
    // Guests end a stuck interrupt by switching the entry to edge and back.
    write_register(0x10, 0x00010060);
    assert_int_equal(read_register(0x10), 0x00010060);
    assert_int_equal(write_register(0x10, 0x00008060), 1);
}

static void pins_out_of_range(void **state) {
    (void)state;
    for (unsigned pin = VIOAPIC_PINS; pin < 300; pin++)
        assert_false(vioapic_set_line(&io, pin, true, &m) || vioapic_deliver(&io, pin, &m));
    assert_int_equal(io.lines, 0);
}

// The model: what the datasheet says of one pin, one fact per field.
static struct model {
    bool asserted, masked, level, outstanding;
    u8 vector;
} pins[VIOAPIC_PINS];

static bool model_deliverable(const struct model *p) {
    return p->level && p->asserted && !p->masked && !p->outstanding;
}

static void check_delivery(unsigned pin, bool delivered, bool want) {
    assert_int_equal(delivered, want);
    if (!want)
        return;
    assert_int_equal(m.vector, pins[pin].vector);
    assert_int_equal(m.level, pins[pin].level);
    pins[pin].outstanding = pins[pin].level;
}

static void random_line(unsigned pin) {
    bool on = rand() & 1, rises = on && !pins[pin].asserted;

    pins[pin].asserted = on;
    bool want = pins[pin].level ? model_deliverable(&pins[pin]) : rises && !pins[pin].masked;
    check_delivery(pin, vioapic_set_line(&io, pin, on, &m), want);
}

static void random_entry(unsigned pin) {
    struct model *p = &pins[pin];

    p->vector = (u8)(0x20 + rand() % 4);
    p->masked = rand() & 1;
    p->level = rand() & 1;
    p->outstanding &= p->level;
    u32 ready = write_register((u8)(0x10 + 2 * pin),
                               p->vector | (u32)p->level << 15 | (u32)p->masked << 16);
    assert_int_equal(ready, (u32)model_deliverable(p) << pin);
    if (ready)
        check_delivery(pin, vioapic_deliver(&io, pin, &m), true);
}

static void random_eoi(void) {
    u8 vector = (u8)(0x20 + rand() % 4);
    struct vioapic_eoi eoi = vioapic_eoi(&io, vector);

    for (unsigned pin = 0; pin < VIOAPIC_PINS; pin++) {
        bool ended = pins[pin].outstanding && pins[pin].vector == vector;
        assert_int_equal(eoi.ended >> pin & 1, ended);
        if (!ended)
            continue;
        pins[pin].outstanding = false;
        assert_int_equal(eoi.again >> pin & 1, pins[pin].asserted);
        check_delivery(pin, vioapic_deliver(&io, pin, &m), model_deliverable(&pins[pin]));
    }
}

static void against_the_model(void **state) {
    (void)state;
    srand(7);
    for (unsigned pin = 0; pin < VIOAPIC_PINS; pin++)
        pins[pin] = (struct model){.masked = true};
    for (unsigned i = 0; i < 200000; i++) {
        unsigned pin = (unsigned)rand() % VIOAPIC_PINS;
        switch (rand() % 4) {
        case 0: random_entry(pin); break;
        case 1: random_eoi(); break;
        default: random_line(pin);
        }
        u32 low = read_register((u8)(0x10 + 2 * pin));
        assert_int_equal(low >> 14 & 1, pins[pin].outstanding);
    }
}

static void messages(void **state) {
    (void)state;
    assert_true(msi_decode(0xfee05000, 0x4041, &m));
    assert_true(m.dest == 5 && m.vector == 0x41 && m.mode == APIC_FIXED && !m.logical && !m.level);
    assert_true(msi_decode(0xfeeff00c, 0xc1ff, &m));
    assert_true(m.dest == VLAPIC_BROADCAST && m.vector == 0xff && m.mode == APIC_LOWEST &&
                m.logical && m.level);
    assert_false(msi_decode(0xfed00000, 0x41, &m));
    assert_false(msi_decode(0xfef00000, 0x41, &m));
    assert_false(msi_decode(0x1fee00000, 0x41, &m));
    for (u32 mode = 0; mode < 8; mode++)
        assert_int_equal(msi_decode(0xfee00000, mode << 8 | 0x40, &m),
                         mode != APIC_RESERVED && mode != APIC_SIPI);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(registers, fresh),
        cmocka_unit_test_setup(edge, fresh),
        cmocka_unit_test_setup(level, fresh),
        cmocka_unit_test_setup(level_unmask_and_eoi_register, fresh),
        cmocka_unit_test_setup(pins_out_of_range, fresh),
        cmocka_unit_test_setup(against_the_model, fresh),
        cmocka_unit_test_setup(messages, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
