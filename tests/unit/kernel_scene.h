// SPDX-License-Identifier: Apache-2.0
//
// The scene of the tests of domains and their virtual processors: each begins with nothing loaded, no allocation that
// fails, and an account of what is held, to be compared at its end.

#pragma once

#include "tests/unit/host_machine.h"

#include "arch/paging.h"
#include "kernel/event.h"
#include "kernel/request.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct host_account empty;

static int setup(void **state unused) {
    host_seed();
    host_machine_init();
    return 0;
}

// One test's leak is not the next one's.
static int begin(void **state unused) {
    host_load(NULL);
    host_fail_at = 0;
    host_fail_rest = false;
    empty = host_account();
    return 0;
}

// Every frame that is held is charged to someone.
static void check_charges(void) {
    struct host_account a = host_account();

    assert_int_equal(a.charged - empty.charged, (a.kernel_frames - empty.kernel_frames +
                                                 a.domain_frames - empty.domain_frames) *
                                                    PAGE_SIZE);
}

#define TEST(name) cmocka_unit_test_setup(name, begin)
