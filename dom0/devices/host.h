// SPDX-License-Identifier: Apache-2.0
//
// What the device models need from below: guest memory, interrupts, doorbells, time, the disk.
// host.c implements it with dom0's libraries and hypercalls; the unit tests and fuzz targets bring
// an implementation of their own. No device model reaches past this header, so that each of them
// runs on the host unchanged.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guest_memory;
struct block_device;

/// Pointer to `length` bytes of guest memory at `gpa` that are contiguous in dom0 too, or the part
/// of them that is: *length is lowered to it. NULL if the first byte is not RAM of the guest. The
/// bytes stay pinned until host_guest_unpin() is called.
void *host_guest_pin(struct guest_memory *memory, uint64_t gpa, size_t *length, bool write);
void host_guest_unpin(struct guest_memory *memory);

/// Populates and maps `pages` pages at `gpa` of the domain; several ranges make one guest_memory,
/// which the first call (*memory == NULL) makes. Returns 0 or a negative error; the domain's own
/// memory is the domain's to free, when all pins are gone.
int host_guest_memory_add(struct guest_memory **memory, uint32_t domain, uint64_t gpa,
                          uint64_t pages);
void host_guest_memory_free(struct guest_memory *memory);
bool host_guest_write(struct guest_memory *memory, uint64_t gpa, const void *bytes, size_t length);

/// The same for zeroed pages that the domain itself can't touch: state pages, in a guest_memory of
/// their own, where no address that a guest gives leads to them. Each stays pinned.
int host_state_alloc(struct guest_memory **memory, uint32_t domain, uint64_t gpa, unsigned count,
                     void **pages);
/// Gives back their pins, and the guest_memory.
void host_state_free(struct guest_memory *memory, unsigned count);

/// Serves requests of the domain: `handler(context)` is called when some are pending in *page.
/// Returns 0 or a negative error.
struct basalt_request_page;
struct host_server {
    uint32_t domain;
    int id, port;
    struct basalt_request_page *page;
};
int host_server_init(struct host_server *server, uint32_t domain, void (*handler)(void *),
                     void *context);
void host_server_end(struct host_server *server);
int host_server_route(struct host_server *server, bool memory, uint64_t first, uint64_t last);
/// The same for the instructions that the kernel leaves to the server.
int host_server_instructions(struct host_server *server);
/// Answers a request, at the latest before another handler runs.
void host_server_answer(struct host_server *server, uint32_t vcpu, uint64_t number, uint64_t data);

/// From now on the kernel answers reads of one byte from the I/O port with `value`; not `valid`: they come as requests.
void host_server_publish(struct host_server *server, uint16_t port, bool valid, uint8_t value);

/// The state of a vCPU that waits for an answer. False: it waits no longer.
struct basalt_vcpu_state;
bool host_vcpu_state(uint32_t domain, uint32_t vcpu, struct basalt_vcpu_state *state);
/// Answers the request for an instruction.
struct basalt_completion;
void host_server_complete(struct host_server *server, uint32_t vcpu, uint64_t number,
                          const struct basalt_completion *completion);
/// Accesses the vCPU's local APIC for the instruction that the request is for. A negative error: it
/// is not at `address`. Else the vector of a level-triggered interrupt that a write ended, or 0.
int host_server_apic(struct host_server *server, uint32_t vcpu, uint64_t number, uint64_t address,
                     unsigned bytes, bool write, uint64_t *value);

/// Injects an MSI, at the latest before another handler runs.
void host_inject_msi(uint32_t domain, uint64_t address, uint32_t data);

/// Ties writes of `bytes` at I/O port `address` to `ring(context)`. Returns a number >= 0 for
/// host_doorbell_unbind(), or an error, after which the writes come as requests.
int host_doorbell_bind(uint32_t domain, uint64_t address, uint32_t bytes, void (*ring)(void *),
                       void *context);
void host_doorbell_unbind(uint32_t domain, uint64_t address, uint32_t bytes, int doorbell);

/// Nanoseconds of the TSC's time line, and since 1970.
uint64_t host_time_ns(void);
uint64_t host_wall_ns(void);
/// What a domain sees of them: ticks of the TSC per millisecond, and nanoseconds since its own TSC was 0.
uint32_t host_tsc_khz(void);
uint64_t host_domain_ns(uint32_t domain);

/// The processor's CPUID.
struct host_cpuid {
    uint32_t eax, ebx, ecx, edx;
};
struct host_cpuid host_cpuid(uint32_t leaf, uint32_t subleaf);
/// What it shows the domain's vCPUs. Returns 0 or a negative error.
struct basalt_cpuid;
int host_cpuid_set(uint32_t domain, const struct basalt_cpuid *rows, unsigned count);

/// One-shot timers and deferred work: both call `handler(context)` from the event loop, once. The
/// caller embeds the structure, with everything but handler and context zeroed; setting an armed
/// timer moves it, queueing queued work does nothing.
struct host_timer {
    void (*handler)(void *context);
    void *context;
    uint64_t opaque[6]; // the implementation's
};
struct host_work {
    void (*handler)(void *context);
    void *context;
    uint64_t opaque[4];
};
void host_timer_set(struct host_timer *timer, uint64_t deadline_ns);
void host_timer_cancel(struct host_timer *timer);
void host_work_queue(struct host_work *work);
void host_work_cancel(struct host_work *work);

/// Hardware's random numbers: one 64-bit word, false if the processor has none or it failed.
bool host_random(uint64_t *word);

/// One line to dom0's log.
void host_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

void *host_alloc(size_t bytes); // zeroed; NULL when there is none
void host_free(void *pointer);

// Disks.
struct host_segment {
    uint8_t *pointer;
    uint64_t length; // bytes
};
enum host_disk_operation { HOST_DISK_READ, HOST_DISK_WRITE, HOST_DISK_FLUSH };
enum host_disk_result { HOST_DISK_OK = 0, HOST_DISK_ERROR = 1, HOST_DISK_UNSUPPORTED = 2 };

struct host_disk_request {
    enum host_disk_operation operation;
    uint64_t sector; // of 512 bytes
    const struct host_segment *segments;
    unsigned segment_count;
    void (*done)(struct host_disk_request *request, enum host_disk_result result);
    void *device;         // whose request it is
    uint64_t backing[24]; // the implementation's
};

uint64_t host_disk_sectors(const struct block_device *device); // of 512 bytes
uint32_t host_disk_block_size(const struct block_device *device);
bool host_disk_read_only(const struct block_device *device);

/// Starts a request; `done` is called exactly once, from the event loop. The segments stay valid
/// until then.
void host_disk_submit(struct block_device *device, struct host_disk_request *request);
