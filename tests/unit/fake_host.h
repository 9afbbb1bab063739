// SPDX-License-Identifier: Apache-2.0
//
// dom0/devices/host.h for tests and fuzzers: guest memory in single heap pages (so that the address
// sanitizer sees every step beyond one), a clock that the test moves, work and timers that it runs,
// a disk in memory whose requests complete when the test says so, and a record of every interrupt.
// Included by exactly one file of a program.

#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <basalt/domain.h>
#include <basalt/error.h>
#include <basalt/request.h>

#include "dom0/devices/guest_machine.h"

#define FAKE_PAGES 1024u // of guest memory, from address 0
#define FAKE_PAGE  4096u

struct guest_memory {
    uint8_t *pages[FAKE_PAGES];
    uint64_t count;
    long pins;
};

static struct guest_memory fake_memory;
static bool fake_memory_used;

static inline void fake_memory_init(uint64_t pages) {
    fake_memory.count = pages < FAKE_PAGES ? pages : FAKE_PAGES;
    for (uint64_t i = 0; i < fake_memory.count; i++)
        if (!fake_memory.pages[i])
            fake_memory.pages[i] = calloc(1, FAKE_PAGE);
}

static inline void fake_memory_end(void) {
    for (unsigned i = 0; i < FAKE_PAGES; i++)
        free(fake_memory.pages[i]);
    memset(&fake_memory, 0, sizeof(fake_memory));
    fake_memory_used = false;
}

void *host_guest_pin(struct guest_memory *memory, uint64_t gpa, size_t *length, bool write) {
    (void)write;
    uint64_t page = gpa / FAKE_PAGE, offset = gpa % FAKE_PAGE;
    if (page >= memory->count || *length == 0)
        return NULL;
    if (*length > FAKE_PAGE - offset)
        *length = FAKE_PAGE - offset;
    memory->pins++;
    return memory->pages[page] + offset;
}

void host_guest_unpin(struct guest_memory *memory) {
    if (memory->pins-- == 0)
        abort();
}

bool host_guest_write(struct guest_memory *memory, uint64_t gpa, const void *bytes, size_t length) {
    for (size_t done = 0; done < length; done++) {
        if ((gpa + done) / FAKE_PAGE >= memory->count)
            return false;
        memory->pages[(gpa + done) / FAKE_PAGE][(gpa + done) % FAKE_PAGE] =
            ((const uint8_t *)bytes)[done];
    }
    return true;
}

static inline bool fake_read(uint64_t gpa, void *to, size_t length) {
    for (size_t done = 0; done < length; done++) {
        if ((gpa + done) / FAKE_PAGE >= fake_memory.count)
            return false;
        ((uint8_t *)to)[done] =
            fake_memory.pages[(gpa + done) / FAKE_PAGE][(gpa + done) % FAKE_PAGE];
    }
    return true;
}

static inline bool fake_write(uint64_t gpa, const void *from, size_t length) {
    return host_guest_write(&fake_memory, gpa, from, length);
}

static inline uint64_t fake_get(uint64_t gpa, unsigned bytes) {
    uint64_t value = 0;
    if (!fake_read(gpa, &value, bytes))
        abort();
    return value;
}

static inline void fake_put(uint64_t gpa, unsigned bytes, uint64_t value) {
    if (!fake_write(gpa, &value, bytes))
        abort();
}

int host_guest_memory_add(struct guest_memory **memory, uint32_t domain, uint64_t gpa,
                          uint64_t pages) {
    (void)domain;
    if (gpa == 0)
        fake_memory_init(pages);
    *memory = &fake_memory;
    fake_memory_used = true;
    return 0;
}

void host_guest_memory_free(struct guest_memory *memory) {
    if (memory->pins)
        abort();
    fake_memory_used = false;
}

// ---- state pages ----

static void *fake_state[64];
static unsigned fake_state_count;

int host_state_alloc(struct guest_memory **memory, uint32_t domain, uint64_t gpa, unsigned count,
                     void **pages) {
    (void)memory;
    (void)domain;
    (void)gpa;
    for (unsigned i = 0; i < count; i++)
        pages[i] = fake_state[fake_state_count++] = calloc(1, FAKE_PAGE);
    return 0;
}

void host_state_free(struct guest_memory *memory, unsigned count) {
    (void)memory;
    (void)count;
}

static inline void fake_state_end(void) {
    while (fake_state_count)
        free(fake_state[--fake_state_count]);
}

// ---- requests ----

static struct basalt_request_page fake_requests;
static void (*fake_server)(void *);
static void *fake_server_context;
static uint64_t fake_routes[64][3];
static unsigned fake_route_count;
static uint64_t fake_answer, fake_answer_number;
static unsigned fake_answers;

int host_server_init(struct host_server *server, uint32_t domain, void (*handler)(void *),
                     void *context) {
    *server = (struct host_server){domain, 1, 1, &fake_requests};
    fake_server = handler;
    fake_server_context = context;
    fake_route_count = 0;
    return 0;
}

void host_server_end(struct host_server *server) {
    server->port = -1;
    fake_server = NULL;
}

int host_server_route(struct host_server *server, bool memory, uint64_t first, uint64_t last) {
    (void)server;
    fake_routes[fake_route_count][0] = memory;
    fake_routes[fake_route_count][1] = first;
    fake_routes[fake_route_count++][2] = last;
    return 0;
}

void host_server_answer(struct host_server *server, uint32_t vcpu, uint64_t number, uint64_t data) {
    (void)server, (void)vcpu;
    fake_answer = data;
    fake_answer_number = number;
    fake_answers++;
}

void host_server_publish(struct host_server *server, uint16_t port, bool valid, uint8_t value) {
    server->page->registers[port % BASALT_REGISTERS] =
        valid ? BASALT_REGISTER_VALID | (uint32_t)value << 16 | port : 0;
}

// ---- instructions ----

static struct basalt_vcpu_state fake_vcpu;
static struct basalt_completion fake_completion;
static unsigned fake_completions;
static uint64_t fake_apic_address; // of its page
static uint32_t fake_apic[1024];
static int fake_apic_ended; // what a write ends

int host_server_instructions(struct host_server *server) {
    (void)server;
    return 0;
}

bool host_vcpu_state(uint32_t domain, uint32_t vcpu, struct basalt_vcpu_state *state) {
    (void)domain, (void)vcpu;
    *state = fake_vcpu;
    return true;
}

void host_server_complete(struct host_server *server, uint32_t vcpu, uint64_t number,
                          const struct basalt_completion *completion) {
    (void)server, (void)vcpu, (void)number;
    fake_completion = *completion;
    fake_completions++;
}

int host_server_apic(struct host_server *server, uint32_t vcpu, uint64_t number, uint64_t address,
                     unsigned bytes, bool write, uint64_t *value) {
    (void)server, (void)vcpu, (void)number, (void)bytes;
    if (!fake_apic_address || address - fake_apic_address >= sizeof(fake_apic))
        return -1;
    uint32_t *reg = &fake_apic[(address - fake_apic_address) / 4];
    if (write)
        *reg = (uint32_t)*value;
    else
        *value = *reg;
    return write ? fake_apic_ended : 0;
}

// ---- interrupts and doorbells ----

struct fake_msi {
    uint64_t address;
    uint32_t data;
};
static struct fake_msi fake_msis[4096];
static unsigned fake_msi_count;

void host_inject_msi(uint32_t domain, uint64_t address, uint32_t data) {
    (void)domain;
    fake_msis[fake_msi_count++ % 4096] = (struct fake_msi){address, data};
}

static inline bool fake_line(const struct guest_machine *machine, unsigned pin) {
    return machine->state->lines >> pin & 1;
}

static struct {
    uint64_t address;
    uint32_t bytes;
    void (*ring)(void *);
    void *context;
    bool bound;
} fake_bells[64];

int host_doorbell_bind(uint32_t domain, uint64_t address, uint32_t bytes, void (*ring)(void *),
                       void *context) {
    (void)domain;
    for (int i = 0; i < 64; i++)
        if (fake_bells[i].bound && fake_bells[i].address == address)
            return -BASALT_EBUSY;
    for (int i = 0; i < 64; i++) {
        if (fake_bells[i].bound)
            continue;
        fake_bells[i].address = address;
        fake_bells[i].bytes = bytes;
        fake_bells[i].ring = ring;
        fake_bells[i].context = context;
        fake_bells[i].bound = true;
        return i;
    }
    return -BASALT_ENOSPC;
}

void host_doorbell_unbind(uint32_t domain, uint64_t address, uint32_t bytes, int doorbell) {
    (void)domain, (void)bytes;
    if (doorbell < 0 || !fake_bells[doorbell].bound || fake_bells[doorbell].address != address)
        abort();
    fake_bells[doorbell].bound = false;
}

/// Writes to a port as a guest does: true if a doorbell took it.
static inline bool fake_ring(uint64_t address, uint32_t bytes) {
    for (int i = 0; i < 64; i++) {
        if (!fake_bells[i].bound || fake_bells[i].address != address ||
            fake_bells[i].bytes != bytes)
            continue;
        fake_bells[i].ring(fake_bells[i].context);
        return true;
    }
    return false;
}

static inline unsigned fake_bell_count(void) {
    unsigned count = 0;
    for (int i = 0; i < 64; i++)
        count += fake_bells[i].bound;
    return count;
}

// ---- time, work ----

static uint64_t fake_now = 1000000000ull, fake_wall = 1700000000ull * 1000000000ull;
static struct host_timer *fake_timers[64];
static struct host_work *fake_works[256];
static unsigned fake_work_count;

uint64_t host_time_ns(void) { return fake_now; }

uint64_t host_wall_ns(void) { return fake_wall + fake_now; }

uint32_t host_tsc_khz(void) { return 2000000; }

uint64_t host_domain_ns(uint32_t domain) {
    (void)domain;
    return fake_now;
}

struct host_cpuid host_cpuid(uint32_t leaf, uint32_t subleaf) {
    (void)leaf, (void)subleaf;
    return (struct host_cpuid){0, 0, 0, 0};
}

static unsigned fake_cpuid_rows;

int host_cpuid_set(uint32_t domain, const struct basalt_cpuid *rows, unsigned count) {
    (void)domain, (void)rows;
    fake_cpuid_rows = count;
    return 0;
}

void host_timer_cancel(struct host_timer *timer) {
    for (unsigned i = 0; i < 64; i++)
        if (fake_timers[i] == timer)
            fake_timers[i] = NULL;
}

void host_timer_set(struct host_timer *timer, uint64_t deadline_ns) {
    host_timer_cancel(timer);
    timer->opaque[0] = deadline_ns;
    for (unsigned i = 0; i < 64; i++)
        if (!fake_timers[i]) {
            fake_timers[i] = timer;
            return;
        }
    abort();
}

void host_work_queue(struct host_work *work) {
    for (unsigned i = 0; i < fake_work_count; i++)
        if (fake_works[i] == work)
            return;
    if (fake_work_count == 256)
        abort();
    fake_works[fake_work_count++] = work;
}

void host_work_cancel(struct host_work *work) {
    unsigned kept = 0;
    for (unsigned i = 0; i < fake_work_count; i++)
        if (fake_works[i] != work)
            fake_works[kept++] = fake_works[i];
    fake_work_count = kept;
}

/// Runs what is queued, and what that queues, at most `passes` items; returns how many.
static inline unsigned fake_run(unsigned passes) {
    unsigned done = 0;
    while (fake_work_count && done < passes) {
        struct host_work *work = fake_works[0];
        memmove(fake_works, fake_works + 1, --fake_work_count * sizeof(*fake_works));
        work->handler(work->context);
        done++;
    }
    return done;
}

/// Lets `ns` pass; timers that become due are run.
static inline void fake_pass(uint64_t ns) {
    uint64_t end = fake_now + ns;
    for (;;) {
        struct host_timer *first = NULL;
        for (unsigned i = 0; i < 64; i++)
            if (fake_timers[i] && (!first || fake_timers[i]->opaque[0] < first->opaque[0]))
                first = fake_timers[i];
        if (!first || first->opaque[0] > end)
            break;
        if (first->opaque[0] > fake_now)
            fake_now = first->opaque[0];
        host_timer_cancel(first);
        first->handler(first->context);
    }
    fake_now = end;
}

bool host_random(uint64_t *word) {
    static uint64_t x = 88172645463325252ull;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *word = x;
    return true;
}

static char fake_log[400];

void host_log(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fake_log, sizeof(fake_log), format, arguments);
    va_end(arguments);
}

static unsigned fake_alloc_fails; // the next so many allocations fail after `fake_alloc_after` more
static unsigned fake_alloc_after;

void *host_alloc(size_t bytes) {
    if (fake_alloc_fails && fake_alloc_after == 0) {
        fake_alloc_fails--;
        return NULL;
    }
    if (fake_alloc_after)
        fake_alloc_after--;
    return calloc(1, bytes);
}

void host_free(void *pointer) { free(pointer); }

// ---- a disk ----

struct block_device {
    uint8_t *bytes;
    uint64_t sectors;
    uint32_t block_size; // 0: 512
    bool read_only, failing;
    unsigned flushes;
    struct host_disk_request *waiting[256];
    unsigned waiting_count, most_segments;
};

uint64_t host_disk_sectors(const struct block_device *device) { return device->sectors; }

uint32_t host_disk_block_size(const struct block_device *device) {
    return device->block_size ? device->block_size : 512;
}

bool host_disk_read_only(const struct block_device *device) { return device->read_only; }

void host_disk_submit(struct block_device *device, struct host_disk_request *request) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < request->segment_count; i++)
        bytes += request->segments[i].length;
    if (device->waiting_count == 256 || bytes % host_disk_block_size(device) ||
        request->sector * 512 % host_disk_block_size(device))
        abort();
    if (request->segment_count > device->most_segments)
        device->most_segments = request->segment_count;
    device->waiting[device->waiting_count++] = request;
}

/// Completes request `index` of those that wait.
static inline void fake_disk_complete(struct block_device *d, unsigned index) {
    struct host_disk_request *r = d->waiting[index];
    uint64_t at = r->sector * 512;
    memmove(d->waiting + index, d->waiting + index + 1,
            (--d->waiting_count - index) * sizeof(*d->waiting));
    for (unsigned i = 0; i < r->segment_count && r->operation != HOST_DISK_FLUSH && !d->failing;
         i++) {
        if (at + r->segments[i].length > d->sectors * 512)
            abort();
        if (r->operation == HOST_DISK_READ)
            memcpy(r->segments[i].pointer, d->bytes + at, r->segments[i].length);
        else
            memcpy(d->bytes + at, r->segments[i].pointer, r->segments[i].length);
        at += r->segments[i].length;
    }
    d->flushes += r->operation == HOST_DISK_FLUSH;
    r->done(r, d->failing ? HOST_DISK_ERROR : HOST_DISK_OK);
}

static inline void fake_disk_run(struct block_device *d) {
    while (d->waiting_count)
        fake_disk_complete(d, 0);
}
