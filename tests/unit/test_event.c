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

#include "guest/vcpu.h"
#include "kernel/domain.h"

enum outcome { EVENT_QUEUED, EVENT_DOUBLE_FAULT, EVENT_TRIPLE_FAULT };

static struct domain domain;
static struct vcpu vcpu = {.domain = &domain, .index = 3};
static u64 cr0;
static unsigned ends;
static int unacked; // vector

static u64 read_register(struct cpu_state *cpu, enum backend_register reg) {
    assert_ptr_equal(cpu, &vcpu.cpu);
    assert_int_equal(reg, REG_CR0);
    return cr0;
}
static const struct backend fake_backend = {.read = read_register};
const struct backend *backend = &fake_backend;

void domain_end(struct domain *d, enum basalt_end_reason reason, u32 index, u64 detail) {
    (void)detail;
    assert_ptr_equal(d, &domain);
    assert_true(reason == BASALT_END_TRIPLE_FAULT && index == 3);
    ends++;
}

void vlapic_unack(struct vlapic *v, u8 vector) {
    assert_ptr_equal(v, &vcpu.lapic);
    unacked = vector;
}

// An exception meets `slot`, whose new contents are left there.
static enum outcome meet(struct event *slot, u8 vector, bool has_error, u32 error) {
    ends = 0;
    unacked = -1;
    vcpu.nmi_pending = vcpu.lapic.changed = false;
    vcpu.cpu.queued = *slot;
    vcpu_exception(&vcpu, vector, has_error, error);
    *slot = vcpu.cpu.queued;
    assert_int_equal(vcpu.lapic.changed, vcpu.nmi_pending);
    return ends                                         ? EVENT_TRIPLE_FAULT
           : slot->vector == EXC_DF && vector != EXC_DF ? EVENT_DOUBLE_FAULT
                                                        : EVENT_QUEUED;
}

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
static const enum outcome expected[4][4] = {
    [BENIGN] = {EVENT_QUEUED, EVENT_QUEUED, EVENT_QUEUED, EVENT_QUEUED},
    [CONTRIBUTORY] = {EVENT_QUEUED, EVENT_DOUBLE_FAULT, EVENT_QUEUED, EVENT_QUEUED},
    [PAGE_FAULT] = {EVENT_QUEUED, EVENT_DOUBLE_FAULT, EVENT_DOUBLE_FAULT, EVENT_QUEUED},
    [DOUBLE_FAULT] = {EVENT_QUEUED, EVENT_TRIPLE_FAULT, EVENT_TRIPLE_FAULT, EVENT_QUEUED},
};

static void check_slot(const struct event *slot, enum outcome outcome, unsigned vector, u32 error) {
    bool pushes = exception_has_error((u8)vector);

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

static void every_pair(void **state) {
    (void)state;
    cr0 = CR0_PE;
    for (unsigned first = 0; first < 32; first++) {
        for (unsigned second = 0; second < 32; second++) {
            struct event met = {.valid = true, .type = EVENT_EXCEPTION, .vector = (u8)first};
            enum outcome want = expected[class_of(first)][class_of(second)];

            assert_int_equal(meet(&met, (u8)second, exception_has_error((u8)second), 0x1234), want);
            check_slot(&met, want, second, 0x1234);
            assert_true(unacked < 0 && !vcpu.nmi_pending);
        }
    }
}

// Interrupts and NMIs are delivered after the exception.
static void other_kinds_are_benign(void **state) {
    static const u8 kinds[] = {EVENT_INTERRUPT, EVENT_NMI, EVENT_SOFT_INTERRUPT,
                               EVENT_PRIVILEGED_SOFT, EVENT_SOFT_EXCEPTION};

    (void)state;
    cr0 = CR0_PE;
    for (unsigned k = 0; k < sizeof(kinds); k++) {
        for (unsigned first = 0; first < 256; first++) {
            struct event slot = {.valid = true, .type = kinds[k], .vector = (u8)first};

            assert_int_equal(meet(&slot, 13, true, 7), EVENT_QUEUED);
            check_slot(&slot, EVENT_QUEUED, 13, 7);
            assert_int_equal(unacked, kinds[k] == EVENT_INTERRUPT ? (int)first : -1);
            assert_int_equal(vcpu.nmi_pending, kinds[k] == EVENT_NMI);
        }
    }
}

static void nothing_met(void **state) {
    struct event slot = {.type = EVENT_INTERRUPT, .vector = 99};

    (void)state;
    cr0 = CR0_PE;
    assert_int_equal(meet(&slot, 6, false, 99), EVENT_QUEUED);
    check_slot(&slot, EVENT_QUEUED, 6, 0);
    assert_true(unacked < 0 && !vcpu.nmi_pending);
}

static void real_mode_pushes_no_error(void **state) {
    struct event met = {.valid = true, .type = EVENT_EXCEPTION, .vector = 13}, slot = {0};

    (void)state;
    cr0 = CR0_ET;
    assert_int_equal(meet(&met, 12, true, 5), EVENT_DOUBLE_FAULT);
    assert_false(met.has_error);
    assert_int_equal(meet(&slot, 13, true, 5), EVENT_QUEUED);
    assert_true(slot.vector == 13 && !slot.has_error && !slot.error);
}

static void a_chain_ends_in_shutdown(void **state) {
    struct event slot = {0};

    (void)state;
    cr0 = CR0_PE;
    assert_int_equal(meet(&slot, 14, true, 0), EVENT_QUEUED);
    assert_int_equal(meet(&slot, 14, true, 0), EVENT_DOUBLE_FAULT);
    assert_int_equal(meet(&slot, 14, true, 0), EVENT_TRIPLE_FAULT);
    assert_int_equal(ends, 1);
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
