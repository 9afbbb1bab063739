// SPDX-License-Identifier: Apache-2.0
//
// The virtio console: one port (hvc0 of Linux). What the guest writes goes to a callback in pieces;
// input goes straight into the buffers that the guest has made available, nothing is kept here.
// Follows "Console Device" of virtio 1.2.

#pragma once

#include "virtio.h"

struct virtio_console {
    struct virtio_device device; // first
    void (*output)(void *context, const char *bytes, size_t length);
    void (*room)(void *context); // the guest has made buffers available for input
    void *context;
    bool tx_taken; // tx has a chain of which `tx_done` bytes are printed
    size_t tx_done;
    struct virtqueue_chain tx, rx;
    struct host_work more;
};

/// Fills in a zeroed device, callbacks set before, and puts it on the bus.
void virtio_console_init(struct virtio_console *console, struct vpci_bus *bus, unsigned slot,
                         struct guest_memory *memory, struct virtio_function_state *page,
                         bool fresh);

/// True if a driver has it in use.
bool virtio_console_open(const struct virtio_console *console);

/// Returns how many bytes the guest's buffers took.
size_t virtio_console_input(struct virtio_console *console, const char *bytes, size_t length);
