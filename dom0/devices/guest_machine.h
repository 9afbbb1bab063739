// SPDX-License-Identifier: Apache-2.0
//
// The parts of a machine, for the files that make it up; the toolstack sees machine.h only.

#pragma once

#include "host.h"
#include "ioapic.h"
#include "machine.h"
#include "pm.h"
#include "rtc.h"
#include "state.h"
#include "uart.h"
#include "virtio_blk.h"
#include "virtio_console.h"
#include "virtio_rng.h"
#include "vpci.h"

enum machine_end { MACHINE_GOES_ON = 0, MACHINE_POWER_OFF = 1, MACHINE_RESET = 2 };

// PCI slots.
#define SLOT_HOST_BRIDGE  0u
#define SLOT_CONSOLE      1u
#define SLOT_RNG          2u
#define SLOT_DISKS        3u
#define MACHINE_FUNCTIONS (SLOT_DISKS + MACHINE_DISKS_MAX)
_Static_assert(MACHINE_FUNCTIONS <= VPCI_SLOTS, "one bus");

struct guest_machine {
    struct machine_config config;
    char name[32];
    struct machine_state *state;
    void *pages[1 + MACHINE_FUNCTIONS]; // state pages
    struct guest_memory *memory, *state_memory;
    struct host_server server;
    struct vpci_bus pci;
    struct vpci_function host_bridge;
    struct virtio_console console;
    struct virtio_rng rng;
    struct virtio_blk disks[MACHINE_DISKS_MAX];
    struct uart uart;
    struct rtc rtc;
    struct pm pm;
    bool last_output_uart; // the console that printed last was ttyS0
    struct host_work end_work;
    bool input_refused; // console input found no room
    struct host_work room_work;
    unsigned ending; // disks that have requests under way still
    void (*destroyed)(void *context);
    void *destroyed_context;
};

/// The devices on fixed ports. Nothing here fails.
void machine_platform_init(struct guest_machine *machine);

/// The devices on the PCI bus. Returns 0 or -BASALT_ENOMEM; then nothing is under way.
int machine_pci_init(struct guest_machine *machine);

/// Routes everything that the machine answers to its request server. Returns 0 or a negative error.
int machine_ports_route(struct guest_machine *machine);

/// Carries out one access. For the request server, and for the tests.
uint64_t machine_read(struct guest_machine *machine, bool memory, uint64_t address, unsigned bytes);
void machine_write(struct guest_machine *machine, bool memory, uint64_t address, unsigned bytes,
                   uint64_t data);

/// RDMSR and WRMSR of what the kernel does not hold. False: #GP, and nothing was changed.
bool machine_msr_read(struct guest_machine *machine, uint32_t vcpu, uint32_t msr, uint64_t *value);
bool machine_msr_write(struct guest_machine *machine, uint32_t vcpu, uint32_t msr, uint64_t value);

/// Carries out an instruction that the kernel left to the machine, and answers its request.
void machine_instruction(struct guest_machine *machine, uint32_t vcpu,
                         const struct basalt_request *request);

/// Serves what is pending in the request page.
void machine_serve(void *machine);

/// The guest wants to be off, or to be reset.
void machine_ends(struct guest_machine *machine, enum machine_end how);

/// Callbacks of the console devices.
void machine_console_uart_output(void *machine, const char *bytes, size_t length);
void machine_console_virtio_output(void *machine, const char *bytes, size_t length);
void machine_console_room(void *machine);

/// Work: tells the toolstack that refused input may be offered again.
void machine_console_has_room(void *machine);
