// SPDX-License-Identifier: Apache-2.0
//
// host.h in dom0: on the event loop, timers, guest memory, block layer and hypercalls of its
// libraries. Disks may have sectors of 4 KiB while virtio always counts in 512 bytes: the
// translation is here.

#include <cpuid.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "lib/boot.h"
#include "lib/dom0.h"
#include "lib/event.h"
#include "lib/hypercall.h"
#include "lib/log.h"
#include "lib/memory.h"
#include "lib/timer.h"

#include "host.h"

#define VIRTIO_SECTOR     512u
#define INSTRUCTIONS_LAST ((1ull << 48) - 1) // of guest-physical addresses

int devices_init(void) {
    return 0; // machines are made by the toolstack; there is nothing to do before
}

// ---- guest memory ----

void *host_guest_pin(struct guest_memory *memory, uint64_t gpa, size_t *length, bool write) {
    u64 contiguous = 0;
    void *pointer =
        guest_access(memory, gpa, *length, write ? GUEST_WRITE : GUEST_READ, &contiguous);
    *length = contiguous;
    return pointer;
}

void host_guest_unpin(struct guest_memory *memory) { guest_release(memory, 1); }

bool host_guest_write(struct guest_memory *memory, uint64_t gpa, const void *bytes, size_t length) {
    return guest_write(memory, gpa, bytes, length);
}

static int add_memory(struct guest_memory **memory, uint32_t domain, uint64_t gpa, uint64_t pages,
                      u32 flags) {
    if (!*memory) {
        *memory = calloc(1, sizeof(**memory));
        if (!*memory)
            return -BASALT_ENOMEM;
        guest_memory_init(*memory, domain);
    }
    i64 error = hc_memory_populate(domain, gpa, pages, flags);
    return error < 0 ? (int)error : guest_memory_add(*memory, gpa, pages, GUEST_READ | GUEST_WRITE);
}

int host_guest_memory_add(struct guest_memory **memory, uint32_t domain, uint64_t gpa,
                          uint64_t pages) {
    return add_memory(memory, domain, gpa, pages, 0);
}

void host_guest_memory_free(struct guest_memory *memory) {
    if (guest_memory_destroy(memory) < 0)
        log_error("devices", "guest memory is pinned at its end; leaked");
    else
        free(memory);
}

int host_state_alloc(struct guest_memory **memory, uint32_t domain, uint64_t gpa, unsigned count,
                     void **pages) {
    int error = add_memory(memory, domain, gpa, count, BASALT_POPULATE_HIDDEN);
    for (unsigned i = 0; error == 0 && i < count; i++)
        pages[i] = guest_access(*memory, gpa + i * PAGE_SIZE, PAGE_SIZE, GUEST_WRITE, NULL);
    return error;
}

void host_state_free(struct guest_memory *memory, unsigned count) {
    guest_release(memory, count);
    host_guest_memory_free(memory);
}

// ---- requests, doorbells, interrupts ----

int host_server_init(struct host_server *server, uint32_t domain, void (*handler)(void *),
                     void *context) {
    u64 page = 0;
    server->domain = domain;
    server->port = event_port_alloc(handler, context);
    if (server->port < 0)
        return server->port;
    i64 id = hc_request_serve(domain, (u32)server->port, &page);
    server->id = (int)id;
    server->page = id < 0 ? NULL : phys_map(page, PAGE_SIZE);
    if (server->page)
        return 0;
    host_server_end(server);
    return id < 0 ? (int)id : -BASALT_ENOMEM;
}

void host_server_end(struct host_server *server) {
    event_port_free(server->port);
    server->port = -1;
}

int host_server_route(struct host_server *server, bool memory, uint64_t first, uint64_t last) {
    return (int)hc_request_route(server->domain, (u32)server->id,
                                 memory ? BASALT_SPACE_MEMORY : BASALT_SPACE_IO, first, last);
}

int host_server_instructions(struct host_server *server) {
    return (int)hc_request_route(server->domain, (u32)server->id, BASALT_SPACE_INSTRUCTION, 0,
                                 INSTRUCTIONS_LAST);
}

bool host_vcpu_state(uint32_t domain, uint32_t vcpu, struct basalt_vcpu_state *state) {
    return hc_vcpu_get(domain, vcpu, state) >= 0;
}

void host_server_complete(struct host_server *server, uint32_t vcpu, uint64_t number,
                          const struct basalt_completion *completion) {
    // -ENOENT: the vCPU was reset, or the domain has ended meanwhile.
    (void)hc_request_complete(server->domain, vcpu, number, completion);
}

int host_server_apic(struct host_server *server, uint32_t vcpu, uint64_t number, uint64_t address,
                     unsigned bytes, bool write, uint64_t *value) {
    return (int)hc_request_apic(server->domain, vcpu, number, address,
                                bytes | (write ? BASALT_APIC_WRITE : 0), value);
}

void host_server_answer(struct host_server *server, uint32_t vcpu, uint64_t number, uint64_t data) {
    // It may fail: the domain has ended meanwhile.
    event_last_call(BASALT_HC_REQUEST_ANSWER, server->domain, vcpu, number, data);
}

void host_server_publish(struct host_server *server, uint16_t port, bool valid, uint8_t value) {
    uint32_t reg = valid ? BASALT_REGISTER_VALID | (uint32_t)value << 16 | port : 0;
    __atomic_store_n(&server->page->registers[port % BASALT_REGISTERS], reg, __ATOMIC_RELEASE);
}

int host_doorbell_bind(uint32_t domain, uint64_t address, uint32_t bytes, void (*ring)(void *),
                       void *context) {
    int port = event_port_alloc(ring, context);
    if (port < 0)
        return port;
    i64 error =
        hc_request_route(domain, (u32)port, BASALT_SPACE_IO_DOORBELL, address, address + bytes - 1);
    if (error >= 0)
        return port;
    event_port_free(port);
    return (int)error;
}

void host_doorbell_unbind(uint32_t domain, uint64_t address, uint32_t bytes, int port) {
    // Fails only if the domain is gone.
    (void)hc_request_route(domain, (u32)port, BASALT_SPACE_IO_DOORBELL, address,
                           address + bytes - 1);
    event_port_free(port);
}

void host_inject_msi(uint32_t domain, uint64_t address, uint32_t data) {
    // It may fail: a wrong address is the guest's own affair.
    event_last_call(BASALT_HC_INJECT_MSI, domain, address, data, 0);
}

// ---- time, work, randomness, log, heap ----

_Static_assert(sizeof(struct timer) <= sizeof(struct host_timer) &&
                   sizeof(struct work) <= sizeof(struct host_work),
               "the opaque parts have room");
_Static_assert(offsetof(struct timer, context) == offsetof(struct host_timer, context) &&
                   offsetof(struct work, context) == offsetof(struct host_work, context),
               "handler and context lie where they do in the library's structures");

uint64_t host_time_ns(void) { return time_ns(); }

uint64_t host_wall_ns(void) { return time_wall_ns(); }

uint32_t host_tsc_khz(void) { return (uint32_t)boot_info->tsc_khz; }

uint64_t host_domain_ns(uint32_t domain) {
    struct basalt_domain_info info = {0}; // stays so if the domain is gone
    (void)hc_domain_info(domain, &info);
    return time_ns_of_ticks(time_tsc() + info.tsc_offset);
}

struct host_cpuid host_cpuid(uint32_t leaf, uint32_t subleaf) {
    struct host_cpuid r;
    __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
    return r;
}

int host_cpuid_set(uint32_t domain, const struct basalt_cpuid *rows, unsigned count) {
    return (int)hc_cpuid_set(domain, rows, count);
}

void host_timer_set(struct host_timer *timer, uint64_t deadline_ns) {
    timer_set((struct timer *)timer, deadline_ns);
}

void host_timer_cancel(struct host_timer *timer) { timer_cancel((struct timer *)timer); }

void host_work_queue(struct host_work *work) { work_queue((struct work *)work); }

void host_work_cancel(struct host_work *work) { work_cancel((struct work *)work); }

bool host_random(uint64_t *word) {
    unsigned a, b, c, d;
    bool rdrand = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_RDRND);
    for (unsigned tries = 0; rdrand && tries < 10; tries++) {
        unsigned char ok;
        __asm__ volatile("rdrand %0; setc %1" : "=r"(*word), "=qm"(ok) : : "cc");
        if (ok)
            return true;
    }
    return false;
}

void host_log(const char *format, ...) {
    char line[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    log_warning("devices", "%s", line);
}

void *host_alloc(size_t bytes) { return calloc(1, bytes); }

void host_free(void *pointer) { free(pointer); }

// ---- disks ----

// What a request needs beyond host_disk_request; lies in its `backing`.
struct disk_backing {
    struct block_request request;
};
_Static_assert(sizeof(struct disk_backing) <= sizeof(((struct host_disk_request *)0)->backing),
               "room");
_Static_assert(sizeof(struct host_segment) == sizeof(struct block_segment) &&
                   offsetof(struct host_segment, length) == offsetof(struct block_segment, bytes),
               "segments are handed on as they are");

uint64_t host_disk_sectors(const struct block_device *device) {
    return device->sectors * (device->sector_size / VIRTIO_SECTOR);
}

uint32_t host_disk_block_size(const struct block_device *device) { return device->sector_size; }

bool host_disk_read_only(const struct block_device *device) { return device->read_only; }

static void disk_done(struct block_request *block) {
    struct host_disk_request *request = block->context;
    request->done(request, block->status == BLOCK_OK ? HOST_DISK_OK : HOST_DISK_ERROR);
}

void host_disk_submit(struct block_device *device, struct host_disk_request *request) {
    static const enum block_op operations[] = {
        [HOST_DISK_READ] = BLOCK_READ,
        [HOST_DISK_WRITE] = BLOCK_WRITE,
        [HOST_DISK_FLUSH] = BLOCK_FLUSH,
    };
    struct block_request *block = &((struct disk_backing *)request->backing)->request;
    unsigned ratio = device->sector_size / VIRTIO_SECTOR;
    memset(block, 0, sizeof(*block));
    block->device = device;
    block->op = operations[request->operation];
    // A start within a sector of the disk is made one that no disk has, so that the block layer
    // refuses it.
    block->sector = request->operation == HOST_DISK_FLUSH ? 0
                    : request->sector % ratio             ? ~0ull
                                                          : request->sector / ratio;
    block->segments = (const struct block_segment *)request->segments;
    block->segment_count = request->operation == HOST_DISK_FLUSH ? 0 : request->segment_count;
    block->done = disk_done;
    block->context = request;
    block_submit(block);
}
