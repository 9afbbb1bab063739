// SPDX-License-Identifier: Apache-2.0
//
// The virtual machine around a guest's vCPUs: where its memory lies, which devices it has, and who
// answers an access to one of them. This is the interface that the toolstack uses; everything else
// in this folder is below it. Invariant: everything that the guest can see of its devices lies in
// its state pages (state.h); the structures here can be built anew from those and the
// configuration. All calls are made from dom0's event loop and do not block.
//
// Order of use: BASALT_HC_DOMAIN_CREATE; machine_create() (memory is populated and mapped, devices
// and ACPI tables are in place); a loader writes through machine_memory() and asks
// machine_memory_map() and machine_acpi_root(); vCPUs are created and set; the domain is resumed.
// At its end: machine_destroy(), and in its callback BASALT_HC_DOMAIN_DESTROY.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_DISKS_MAX   16
#define MACHINE_SERIAL_SIZE 20

// Where things lie in a guest's physical address space.
#define MACHINE_LOW_END        0xa0000ull // conventional memory ends
#define MACHINE_EBDA           0x9fc00ull // reserved from here on
#define MACHINE_TABLES         0xe0000ull // ACPI tables, to the end of the first MiB
#define MACHINE_TABLES_END     0x100000ull
#define MACHINE_HOLE           0xc0000000ull // RAM stops here and goes on at 4 GiB
#define MACHINE_PCI_MEMORY     0xc0000000ull // window for BARs
#define MACHINE_PCI_MEMORY_END 0xe0000000ull
#define MACHINE_ECAM           0xe0000000ull // bus 0 only: 1 MiB
#define MACHINE_ECAM_SIZE      0x100000ull
#define MACHINE_HIGH           0x100000000ull
#define MACHINE_PCI_IO         0x1000u // window for I/O BARs, to 0xffff
#define MACHINE_RESET_PORT     0xcf9u
#define MACHINE_RESET_VALUE    0x06u

struct block_device;
struct guest_machine;
struct guest_memory;

struct machine_disk {
    struct block_device *device;
    bool read_only; // the guest sees a read-only disk; a device that is, makes it so anyway
    char serial[MACHINE_SERIAL_SIZE]; // what "get id" answers; need not be NUL-terminated
};

struct machine_config {
    const char *name; // for log lines; copied
    uint32_t domain;  // handle with the rights MEMORY and IO
    uint32_t vcpus;   // 1..BASALT_VCPUS_MAX; LAPIC ids are 0..vcpus-1
    uint64_t memory;  // bytes, a multiple of 4 KiB, at least 1 MiB
    unsigned disk_count;
    struct machine_disk disks[MACHINE_DISKS_MAX];
    // Handed to the callbacks. These are called from the event loop, never from within a call of
    // the toolstack's except machine_console_input(). on_power_off and on_reset may destroy the
    // machine.
    void *context;
    // The guest printed `length` bytes, on ttyS0 or hvc0.
    void (*console_output)(void *context, const char *bytes, size_t length);
    // The guest has room for input again after machine_console_input() took less than it was given.
    // May be NULL.
    void (*console_room)(void *context);
    void (*on_power_off)(void *context);
    void (*on_reset)(void *context);
};

enum machine_memory_type {
    MACHINE_RAM = 1,
    MACHINE_RESERVED = 2,
    MACHINE_ACPI = 3
}; // as e820 and PVH number them

struct machine_memory_range {
    uint64_t base, size; // bytes
    uint32_t type;       // enum machine_memory_type
    uint32_t reserved;
};

#define MACHINE_MEMORY_RANGES 8

/// Builds the machine of the domain: populates its memory, maps it, places devices and ACPI tables.
/// Returns 0 and the machine, or -BASALT_EINVAL (configuration), -BASALT_ENOMEM, -BASALT_ENOSPC
/// (quota: leave it memory + machine_overhead()) or what a hypercall said; then nothing of it is
/// left but what the domain itself holds.
int machine_create(struct guest_machine **machine, const struct machine_config *config);

/// Bytes that a machine of this configuration is charged for beyond its memory and its page tables
/// (state pages).
uint64_t machine_overhead(const struct machine_config *config);

/// Ends the machine. The domain must not run any more (paused for good or ended). Requests to disks
/// that are under way are waited for; then everything is freed and `done` is called, perhaps before
/// this returns. The guest's memory must stay until then.
void machine_destroy(struct guest_machine *machine, void (*done)(void *context), void *context);

/// The guest's memory, for guest_access().
struct guest_memory *machine_memory(struct guest_machine *machine);

/// Guest-physical address of the RSDP.
uint64_t machine_acpi_root(const struct guest_machine *machine);

/// Fills in the memory map in ascending order; returns the count (<= MACHINE_MEMORY_RANGES).
unsigned machine_memory_map(const struct guest_machine *machine,
                            struct machine_memory_range ranges[MACHINE_MEMORY_RANGES]);

/// Bytes of RAM below MACHINE_HOLE.
uint64_t machine_low_memory(const struct guest_machine *machine);

/// Presses the power button: the guest's operating system is asked to shut down. Returns false if
/// it does not listen to the button (yet), so that asking is pointless.
bool machine_power_button(struct guest_machine *machine);

/// Types on the guest's console. Returns how many bytes it took; console_room() is called when
/// there is room again.
size_t machine_console_input(struct guest_machine *machine, const char *bytes, size_t length);

struct machine_disk_stats {
    uint64_t reads, writes, flushes, errors; // requests
    uint64_t read_bytes, written_bytes;
    uint32_t in_flight;
    uint32_t broken; // 1: the device needs a reset, since its ring was malformed
};

/// Counters of disk `index`. Returns 0 or -BASALT_ENOENT.
int machine_disk_stats(const struct guest_machine *machine, unsigned index,
                       struct machine_disk_stats *stats);
