// SPDX-License-Identifier: Apache-2.0
//
// Exception merging, exhaustively: every pair of exceptions against the SDM's table (written here class by class), and
// every kind of event that an exception can meet.
//
// sources: guest/event.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/event.h"

enum class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum class class_of(unsigned vector) {
    switch (vector){
        case 0 : case 10 : case 11 : case 12 : case 13 : case 21 : return CONTRIBUTORY;
        case 14 : case 20 : return PAGE_FAULT;
        case 8 : return DOUBLE_FAULT;
        default : return BENIGN;
    }
}

// Rows: the first exception; columns: the second.
static const enum event_outcome expected[4][4] = {
    [BENIGN] = {EVENT_QUEUED, EVENT_QUEUED, EVENT_QUEUED, EVENT_QUEUED},
    [CONTRIBUTORY] = {EVENT_QUEUED, EVENT_DOUBLE_FAULT, EVENT_QUEUED, EVENT_QUEUED},
    [PAGE_FAULT] = {EVENT_QUEUED, EVENT_DOUBLE_FAULT, EVENT_DOUBLE_FAULT, EVENT_QUEUED},
    [DOUBLE_FAULT] = {EVENT_QUEUED, EVENT_TRIPLE_FAULT, EVENT_TRIPLE_FAULT, EVENT_QUEUED},
};

static void check_slot(const struct event *slot, enum event_outcome outcome, unsigned vector,
                       u32 error) {
    bool pushes = event_pushes_error((u8)vector);

    switch (outcome) {
    case EVENT_TRIPLE_FAULT: assert_false(slot->valid); break;
    case EVENT_DOUBLE_FAULT:
        assert_true(slot->valid && slot->vector == 8 && slot->type == EVENT_EXCEPTION);
        assert_true(slot->has_error);
        assert_int_equal(slot->error, 0);
        break;
    default:
        assert_true(slot->valid && slot->vector == vector && slot->type == EVENT_EXCEPTION);
        assert_int_equal(slot->has_error, pushes);
        assert_int_equal(slot->error, pushes ? error : 0);
    }
}

static struct event unused_one; // where nothing is deferred

static void every_pair(void **state) {
    (void)state;
    for (unsigned first = 0; first < 32; first++) {
        for (unsigned second = 0; second < 32; second++) {
            struct event met = {.valid = true, .type = EVENT_EXCEPTION, .vector = (u8)first};
            enum event_outcome want = expected[class_of(first)][class_of(second)];
            struct event deferred = {0};

            assert_int_equal(event_queue_exception(&met, (u8)second, event_pushes_error((u8)second),
                                                   0x1234, &deferred),
                             want);
            check_slot(&met, want, second, 0x1234);
            assert_false(deferred.valid);
        }
    }
}

static void other_kinds_are_benign(void **state) {
    static const u8 kinds[] = {EVENT_INTERRUPT, EVENT_NMI, EVENT_SOFT_INTERRUPT,
                               EVENT_PRIVILEGED_SOFT, EVENT_SOFT_EXCEPTION};

    (void)state;
    for (unsigned k = 0; k < sizeof(kinds); k++) {
        for (unsigned first = 0; first < 256; first++) {
            struct event met = {.valid = true, .type = kinds[k], .vector = (u8)first}, slot = met,
                         deferred = {0};
            bool again = kinds[k] == EVENT_INTERRUPT || kinds[k] == EVENT_NMI;

            assert_int_equal(event_queue_exception(&slot, 13, true, 7, &deferred),
                             again ? EVENT_QUEUED_DEFER : EVENT_QUEUED);
            check_slot(&slot, EVENT_QUEUED, 13, 7);
            assert_int_equal(deferred.valid, again);
            if (again)
                assert_memory_equal(&deferred, &met, sizeof(met));
        }
    }
}

static void nothing_met(void **state) {
    struct event slot = {0};

    (void)state;
    assert_int_equal(event_queue_exception(&slot, 6, false, 99, &unused_one), EVENT_QUEUED);
    check_slot(&slot, EVENT_QUEUED, 6, 0);
}

static void real_mode_pushes_no_error(void **state) {
    struct event met = {.valid = true, .type = EVENT_EXCEPTION, .vector = 13};

    (void)state;
    assert_int_equal(event_queue_exception(&met, 12, false, 0, &unused_one), EVENT_DOUBLE_FAULT);
    assert_false(met.has_error);
}

static void a_chain_ends_in_shutdown(void **state) {
    struct event slot = {0};

    (void)state;
    assert_int_equal(event_queue_exception(&slot, 14, true, 0, &unused_one), EVENT_QUEUED);
    assert_int_equal(event_queue_exception(&slot, 14, true, 0, &unused_one), EVENT_DOUBLE_FAULT);
    assert_int_equal(event_queue_exception(&slot, 14, true, 0, &unused_one), EVENT_TRIPLE_FAULT);
    assert_false(slot.valid);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair),
        cmocka_unit_test(other_kinds_are_benign),
        cmocka_unit_test(nothing_met),
        cmocka_unit_test(real_mode_pushes_no_error),
        cmocka_unit_test(a_chain_ends_in_shutdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
