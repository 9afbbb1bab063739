// SPDX-License-Identifier: Apache-2.0
//
// The scene of hypercalls: a machine with dom0 in it, whose one vCPU is loaded, and after each test nothing of it left.

#pragma once

#include "tests/unit/host_machine.h"

#include "arch/paging.h"
#include "drivers/pci.h"
#include "kernel/event.h"
#include "kernel/hypercall.h"
#include "kernel/interrupt.h"
#include "kernel/request.h"
#include "kernel/trace.h"

#include <basalt/error.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DOM0_BYTES (4 * MIB)

static struct host_account empty;
static struct domain *dom0;
static u64 ram;

static int setup(void **state unused) {
    host_seed();
    host_machine_init();
    trace_init();
    host_log_quiet = true;
    return 0;
}

static void make_dom0(void) {
    dom0 = host_dom0(DOM0_BYTES, &ram);
    assert_int_equal(device_assign(dom0, &pci_functions[0]), 0);
    assert_int_equal(device_assign(dom0, &pci_functions[1]), 0);
    host_load(dom0->vcpus[0]);
}

static int begin(void **state unused) {
    host_fail_at = 0;
    empty = host_account();
    make_dom0();
    return 0;
}

static int end(void **state unused) {
    u32 cursor = 0;
    struct handle *h;

    host_fail_at = 0;
    host_load(dom0->vcpus[0]);
    for (; (h = host_next_handle(dom0, &cursor)); cursor++)
        while (h->target && h->target != dom0 && h->rights & BASALT_RIGHT_LIFE) {
            i64 result = HOST_CALL(dom0->vcpus[0], DOMAIN_DESTROY, h->index);
            assert_true(!result || result == -BASALT_EINTR);
            if (!result)
                break;
        }
    host_load(NULL);
    host_destroy(dom0);
    host_assert_same(empty);
    return 0;
}

// Domains that dom0 has a handle on.
static unsigned population(void) {
    const struct handle *h;
    unsigned count = 0;

    for (u32 cursor = 2; (h = host_next_handle(dom0, &cursor)); cursor++)
        count += h->target && h->target != dom0;
    return count;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
