// SPDX-License-Identifier: Apache-2.0
//
// The scene of the run loop's tests: a guest of two virtual processors whose first one runs a script of exits. Each test
// begins with a new guest and ends with every frame and charge back.

#pragma once

#include "tests/unit/host_machine.h"

#include "kernel/event.h"
#include "kernel/interrupt.h"
#include "kernel/request.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IF BIT(9)

static struct host_account empty;
static struct domain *d, *server;
static struct vcpu *v;
static struct host_vcpu *cpu;
static struct exit script[8];
static struct event injected[8], interrupted[8]; // at the entry; by the exit
static bool server_rung[8];                      // at the entry
static unsigned device_irq; // vector of an interrupt that comes in at the first exit; 0: none
static unsigned runs, script_length;

// Takes the queued event as an entry does, and gives the next exit; at the end of the script the scheduler wants the CPU.
static struct exit play(struct cpu_state *c) {
    assert_true(runs < script_length);
    injected[runs] = c->queued;
    server_rung[runs] = server && events_pending(server);
    if (device_irq && !runs)
        host_interrupt(device_irq);
    c->queued = interrupted[runs];
    if (runs + 1 == script_length)
        schedule_yield();
    return script[runs++];
}

static void run(unsigned length) {
    runs = 0;
    script_length = length;
    this_queue()->resched = false;
    this_queue()->slice_end = ~0ull;
    this_queue()->current = v;
    host_run = play;
    vcpu_run(v);
    this_queue()->current = NULL;
}

static int setup(void **state unused) {
    host_seed();
    host_machine_init();
    host_log_quiet = true;
    return 0;
}

static void new_guest(void) {
    d = host_domain(8 * MIB);
    for (u64 i = 0; i < 16; i++)
        assert_int_equal(memory_populate(d, GPA(i * PAGE_SIZE), 1, 0), 1);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(vcpu_create(d, i), 0);
    v = d->vcpus[0];
    cpu = host_vcpu(v);
    host_load(v);
    host_set_mode(v, MODE_32);
    vcpu_unblock(v, BLOCK_NEW);
    assert_int_equal(domain_control(d, BASALT_OP_RESUME), 0);
    sched_remove(&this_queue()->queue, &v->sched); // it runs
    v->cpu.rip = 0x1000;
    v->cpu.rflags = 2 | IF;
    memset(host_memory(d, 0x1000), 0x90, PAGE_SIZE);
    *vlapic_reg(&v->lapic, LAPIC_SVR) = 0x1ff; // on
}

static int begin(void **state unused) {
    empty = host_account();
    new_guest();
    server = NULL;
    memset(script, 0, sizeof(script));
    memset(interrupted, 0, sizeof(interrupted));
    return 0;
}

static int end(void **state unused) {
    host_run = NULL;
    host_load(NULL);
    if (d)
        host_destroy(d);
    if (server)
        host_destroy(server);
    host_assert_same(empty);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
