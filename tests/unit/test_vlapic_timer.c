// SPDX-License-Identifier: Apache-2.0
//
// The virtual local APIC's timer against exact arithmetic: one-shot, periodic and TSC-deadline, and what changes of its
// registers, of the TSC and of the APIC's mode do to a running count.
//
// sources: guest/vlapic.c guest/vlapic_timer.c guest/vlapic_register.c

#include "tests/unit/vlapic.h"

static const u8 divide_codes[8] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa}; // by 1, 2, 4 ... 128

// The count that a timer started at `start` with `initial` has at `now`, in exact arithmetic.
static u64 exact_count(u64 start, u32 initial, unsigned shift, u32 khz, u64 now) {
    unsigned __int128 counts = (unsigned __int128)(now - start) * 1000000 / khz >> shift;

    return counts >= initial ? 0 : initial - (u64)counts;
}

static void one_shot(void **state) {
    static const u32 frequencies[] = {1000,    99999,   999999,  1000000, 1000001,
                                      2400000, 2500000, 5100000, 16000000};

    (void)state;
    srand(11);
    for (unsigned i = 0; i < 50000; i++) {
        u32 khz = frequencies[(unsigned)rand() % 9], initial = (u32)rand() >> rand() % 31;
        unsigned shift = (unsigned)rand() % 8;
        u64 start = (u64)rand() << rand() % 24;
        initial += !initial;
        tsc_khz = khz;
        vlapic_init(&v, page, 0, true);
        put(0xf0, ON, start);
        put(0x3e0, divide_codes[shift], start);
        put(0x320, 0x31, start);
        assert_true(put(0x380, initial, start).timer);
        assert_in_range(get(0x390, start), initial - (initial >> 28), initial);
        u64 deadline = vlapic_timer_deadline(&v);
        // Expiry: within one count plus a few TSC ticks of exact, and never early.
        unsigned __int128 exact = (((unsigned __int128)initial << shift) * khz) / 1000000;
        assert_true(deadline >= start + (u64)exact);
        assert_true(deadline <= start + (u64)exact + 2 + (u64)(exact >> 38));
        for (unsigned j = 0; j < 4; j++) {
            u64 now = start + (u64)((double)(deadline - start) * (rand() % 1001) / 1000.0);
            if (now >= deadline)
                continue;
            u64 want = exact_count(start, initial, shift, khz, now), have = get(0x390, now);
            assert_true(have >= 1 && have <= initial);
            // Two counts, or what two TSC ticks make, and a bit of a long time.
            u64 slack = 2 + (2000000u / khz >> shift) + (initial >> 28);
            assert_true(have <= want + slack && have + slack >= want);
            assert_false(vlapic_timer_fire(&v, now));
        }
        assert_int_equal(get(0x390, deadline), 0);
        assert_true(vlapic_timer_fire(&v, deadline + (u64)rand() % 1000));
        assert_int_equal(vlapic_pending(&v), 0x31);
        assert_int_equal(vlapic_timer_deadline(&v), 0);
        assert_int_equal(get(0x380, deadline), initial);
        assert_false(vlapic_timer_fire(&v, ~0ull));
    }
    tsc_khz = 2500000;
}

static void periodic_stays_in_phase(void **state) {
    u64 period = 4000000ull * 5 / 2, now = 1000, due, fired = 0; // 4 ms at 2.5 GHz

    (void)state;
    srand(5);
    put(0x3e0, 0xb, now);
    put(0x320, 0x20040, now);
    put(0x380, 4000000, now);
    due = vlapic_timer_deadline(&v);
    assert_in_range(due, now + period, now + period + 1);
    period = due - now;
    for (unsigned i = 0; i < 10000; i++) {
        now += (u64)rand() % (3 * period);
        bool fires = vlapic_timer_fire(&v, now);
        assert_int_equal(fires, now >= due);
        if (fires) {
            fired++;
            vlapic_ack(&v, 0x40);
            vlapic_eoi(&v);
            while (due <= now)
                due += period;
        }
        assert_int_equal(vlapic_timer_deadline(&v), due);
        assert_in_range(get(0x390, now), 1, 4000000);
    }
    assert_true(fired > 1000);
    // Late by a century: no loop, one interrupt.
    now = due + tsc_khz * 1000 * 86400 * 36525 / 2;
    assert_true(vlapic_timer_fire(&v, now));
    assert_true(vlapic_timer_deadline(&v) > now && vlapic_timer_deadline(&v) <= now + period);
    assert_int_equal((vlapic_timer_deadline(&v) - due) % period, 0);
    put(0x380, 0, now); // stops it
    assert_int_equal(vlapic_timer_deadline(&v), 0);
    assert_int_equal(get(0x390, now), 0);
}

static void short_periods_are_stretched(void **state) {
    (void)state;
    put(0x3e0, 0xb, 0);
    put(0x320, 0x20040, 0);
    put(0x380, 1, 0);
    u64 due = vlapic_timer_deadline(&v);
    assert_true(due >= 250000); // 100 us
    assert_true(vlapic_timer_fire(&v, due));
    assert_true(vlapic_timer_deadline(&v) - due >= 250000);
    assert_int_equal(get(0x390, due), 1);
}

// A processor that does not take its ticks, as one that sleeps with IF clear, does not cost the others their time.
static void ticks_that_nobody_takes(void **state) {
    static const u32 entries[] = {0x20040, 0x20008}; // the second: a vector that none can take

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        u64 period, due, ticks = 0;
        put(0x3e0, 0xb, 0);
        put(0x320, entries[i], 0);
        put(0x380, 100000, 0);
        due = period = vlapic_timer_deadline(&v);
        for (u64 end = tsc_khz * 1000; due < end; due = vlapic_timer_deadline(&v)) { // a second
            assert_int_equal(vlapic_timer_fire(&v, due), i == 0 && ticks == 0);
            assert_int_equal(vlapic_timer_deadline(&v) % period, 0);
            assert_in_range(get(0x390, due), 99999, 100000);
            assert_in_range(get(0x390, due + period / 2), 49999, 50001);
            ticks++;
        }
        assert_in_range(ticks, 200, 260);
    }
    put(0x320, 0x20040, 0);
    put(0x380, 100000, 0);
    vlapic_ack(&v, 0x40);
    u64 due = vlapic_timer_deadline(&v), period = due;
    assert_true(vlapic_timer_fire(&v, due));
    assert_int_equal(vlapic_timer_deadline(&v), due + period);
    put(0x320, 0x30040, due); // masked it goes on
    put(0x320, 0x20040, due + 3 * period);
    assert_int_equal(vlapic_timer_deadline(&v), due + 4 * period);
}

static void timer_mask_and_mode_changes(void **state) {
    (void)state;
    put(0x3e0, 0xb, 0);
    put(0x320, 0x10040, 0); // one-shot, masked
    put(0x380, 1000, 0);
    assert_int_equal(vlapic_timer_deadline(&v), 0); // nobody needs to wake up
    assert_in_range(get(0x390, 1250), 499, 501);    // but it counts
    put(0x320, 0x40, 5000);                         // unmasked after its expiry: lost
    assert_int_equal(vlapic_timer_deadline(&v), 0);
    assert_int_equal(vlapic_pending(&v), -1);
    put(0x380, 1000, 10000);
    put(0x320, 0x10040, 10100);
    put(0x320, 0x41, 10200); // unmasked before: fires with the new vector
    assert_true(vlapic_timer_fire(&v, 13000));
    assert_int_equal(vlapic_pending(&v), 0x41);
    // Due when the mask is set: it had fired by then.
    put(0x380, 1000, 20000);
    put(0x320, 0x10042, 30000);
    assert_true(*vlapic_reg(&v, LAPIC_IRR + 2) & BIT(1));
    // To TSC-deadline mode and back disarms.
    put(0x320, 0x41, 30000);
    put(0x380, 1000, 30000);
    put(0x320, 0x40041, 30001);
    assert_int_equal(vlapic_timer_deadline(&v), 0);
    put(0x380, 1000, 30001); // ignored there
    assert_int_equal(get(0x380, 30001) | get(0x390, 30001), 0);
    vlapic_set_tsc_deadline(&v, 99999);
    put(0x320, 0x20041, 30001);
    assert_int_equal(vlapic_timer_deadline(&v), 0);
}

static void divider_change_keeps_the_count(void **state) {
    (void)state;
    put(0x3e0, 0xb, 0);
    put(0x320, 0x40, 0);
    put(0x380, 1000000, 0);
    u32 before = get(0x390, 1000000);
    put(0x3e0, 0x3, 1000000); // by 16
    assert_in_range(get(0x390, 1000000), before - 1, before + 1);
    u64 left = vlapic_timer_deadline(&v) - 1000000;
    assert_in_range(left, (u64)(before - 1) * 40, (u64)(before + 1) * 40);
}

static void tsc_deadline(void **state) {
    (void)state;
    assert_false(vlapic_set_tsc_deadline(&v, 500).timer); // not in that mode
    assert_int_equal(vlapic_get_tsc_deadline(&v, 0), 0);
    put(0x320, 0x40055, 0);
    assert_true(vlapic_set_tsc_deadline(&v, 500).timer);
    assert_int_equal(vlapic_get_tsc_deadline(&v, 499), 500);
    assert_int_equal(vlapic_get_tsc_deadline(&v, 500), 0);
    assert_int_equal(vlapic_timer_deadline(&v), 500);
    assert_false(vlapic_timer_fire(&v, 499));
    assert_true(vlapic_timer_fire(&v, 500));
    assert_int_equal(vlapic_pending(&v), 0x55);
    assert_int_equal(vlapic_get_tsc_deadline(&v, 500), 0);
    vlapic_set_tsc_deadline(&v, 900);
    assert_int_equal(vlapic_timer_deadline(&v), 900);
    vlapic_set_tsc_deadline(&v, 0);
    assert_false(vlapic_timer_fire(&v, ~0ull));
    // What is never reached is not waited for: the host's TSC differs, and must not wrap around.
    vlapic_set_tsc_deadline(&v, ~0ull);
    assert_int_equal(vlapic_timer_deadline(&v), 0);
    assert_int_equal(vlapic_get_tsc_deadline(&v, 1), ~0ull);
    vlapic_set_tsc_deadline(&v, (1ull << 63) - 1);
    assert_int_equal(vlapic_timer_deadline(&v), (1ull << 63) - 1);
}

static void timer_while_disabled(void **state) {
    (void)state;
    put(0x3e0, 0xb, 0);
    put(0x320, 0x40, 0);
    put(0x380, 1000, 0);
    assert_true(put(0xf0, 0xff, 0).timer);
    assert_int_equal(vlapic_timer_deadline(&v), 0);
    assert_false(vlapic_timer_fire(&v, 1000000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_shot, fresh),
        cmocka_unit_test_setup(periodic_stays_in_phase, fresh),
        cmocka_unit_test_setup(short_periods_are_stretched, fresh),
        cmocka_unit_test_setup(ticks_that_nobody_takes, fresh),
        cmocka_unit_test_setup(timer_mask_and_mode_changes, fresh),
        cmocka_unit_test_setup(divider_change_keeps_the_count, fresh),
        cmocka_unit_test_setup(tsc_deadline, fresh),
        cmocka_unit_test_setup(timer_while_disabled, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
