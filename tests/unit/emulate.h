// SPDX-License-Identifier: Apache-2.0
//
// The scene of the tests of kernel-side emulation: a guest with a page of code and three of RAM, a device that another
// domain serves, and that server's answers.

#pragma once

#include "tests/unit/host_machine.h"

#include "arch/paging.h"
#include "kernel/event.h"
#include "kernel/request.h"

#include <basalt/error.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "tests/unit/native_area.h"

static struct host_account empty;
static struct domain *d, *server;
static struct vcpu *v;
static struct host_vcpu *cpu;
static u32 port;
static u8 device[PAGES(2)]; // what the emulated device holds
static u8 *area;            // the processor's memory at DEVICE
static unsigned reads, writes;
static const u8 ram_pages[3] = {9, 7, 12}; // guest-physical pages of RAM

static inline u64 frame(u64 linear) { // guest-physical address of a linear one
    if (linear < CODE)
        return DEVICE_GPA + (linear - DEVICE);
    return linear < RAM ? PAGES(5) : PAGES(ram_pages[(linear - RAM) / PAGE_SIZE]);
}

static inline int setup(void **state unused) {
    host_seed();
    host_machine_init();
    host_log_quiet = true;
    area = mmap((void *)DEVICE, PAGES(AREA_PAGES), PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_ptr_equal(area, (void *)DEVICE);
    return 0;
}

static inline void entry(u64 table, u64 index, u64 value) {
    memcpy((u8 *)host_memory(d, table) + index * 8, &value, 8);
}

static inline int begin(void **state unused) {
    u64 page;

    empty = host_account();
    d = host_domain(8 * MIB);
    for (u64 i = 0; i < 16; i++)
        assert_int_equal(memory_populate(d, GPA(PAGES(i ^ 3)), 1, 0), 1);
    assert_int_equal(vcpu_create(d, 0), 0);
    v = d->vcpus[0];
    cpu = host_vcpu(v);
    host_load(v);
    host_set_mode(v, MODE_64);
    vcpu_unblock(v, BLOCK_NEW);
    assert_int_equal(domain_control(d, BASALT_OP_RESUME), 0);
    cpu->registers[REG_CR3] = PAGES(1);
    entry(PAGES(1), 0, PAGES(2) | 7);
    entry(PAGES(2), 0, PAGES(3) | 7);
    entry(PAGES(3), DEVICE >> 21, PAGES(4) | 7);
    for (u64 i = 0; i < AREA_PAGES; i++)
        entry(PAGES(4), i, frame(DEVICE + PAGES(i)) | 7);
    server = host_domain(2 * MIB);
    server->identity = true;
    assert_int_equal(events_init(server), 0);
    assert_non_null(handle_create(server, d, BASALT_RIGHTS_DOMAIN));
    port = (u32)port_alloc(server);
    assert_int_equal(request_serve(d, server, port, &page), 0);
    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_MEMORY, DEVICE_GPA,
                                   DEVICE_GPA + sizeof(device) - 1),
                     0);
    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_IO, 0x100, 0x1ff), 0);
    return 0;
}

static inline int end(void **state unused) {
    host_load(NULL);
    host_destroy(d);
    host_destroy(server);
    host_assert_same(empty);
    return 0;
}

// ---- The emulation ----

// Answers the request that is out, after having looked that nothing has changed meanwhile.
static inline void answer(void) {
    const struct basalt_request *r = &d->servers[0].page->slots[0];
    struct cpu_state before = v->cpu;
    u64 value = ~0ull; // what lies above the access's size means nothing

    assert_int_equal(v->blocked, BLOCK_REQUEST);
    assert_true(r->bytes == 1 || r->bytes == 2 || r->bytes == 4 || r->bytes == 8);
    assert_int_equal(r->space, BASALT_SPACE_MEMORY);
    u64 offset = r->address - DEVICE_GPA;
    assert_true(offset + r->bytes <= sizeof(device));
    if (r->write) {
        assert_true(r->bytes == 8 || !(r->data >> (8 * r->bytes)));
        memcpy(device + offset, &r->data, r->bytes);
        writes++;
    } else {
        memcpy(&value, device + offset, r->bytes);
        reads++;
    }
    assert_int_equal(request_answer(d, server, 0, r->number, value), 0);
    assert_memory_equal(&before, &v->cpu, sizeof(before)); // registers wait for the end
    assert_int_equal(v->blocked, 0);
}

// As the run loop does.
static inline void finish(void) {
    for (unsigned n = 0; v->io.stage; n++) {
        assert_true(n < 4);
        answer();
        vcpu_answered(v);
    }
}

static inline void exit_at(u64 linear, bool write) {
    struct exit e = {
        .kind = BASALT_EXIT_MEMORY, .write = write, .gpa = GPA(DEVICE_GPA + (linear - DEVICE))};

    handle_device_memory(v, e);
}

static inline void load_code(const u8 *insn, unsigned length) {
    memset(host_memory(d, frame(CODE)), 0xcc, 32);
    memcpy(host_memory(d, frame(CODE)), insn, length);
    v->cpu.rip = CODE;
    v->cpu.dirty = 0;
}

static inline void emulate_one(const char *bytes, unsigned length, u64 gpa, bool write) {
    struct exit e = {.kind = BASALT_EXIT_MEMORY, .write = write, .gpa = GPA(gpa)};

    load_code((const u8 *)bytes, length);
    handle_device_memory(v, e);
}

static inline void take_interrupt(u8 vector) {
    v->cpu.queued.valid = false;
    v->cpu.rflags |= BIT(9);
    (void)!vcpu_prepare(v);
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == vector);
    v->cpu.queued.valid = false;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
