// SPDX-License-Identifier: Apache-2.0
//
// The virtio entropy device: fills the guest's buffers with random bytes, at most RNG_RATE bytes a
// second, so that a guest that wants ever more cannot keep dom0 busy. Follows "Entropy Device" of
// virtio 1.2.

#pragma once

#include "virtio.h"

struct virtio_rng {
    struct virtio_device device; // first
    struct host_timer refill;
    struct virtqueue_chain chain;
};

/// Fills in a zeroed device and puts it on the bus.
void virtio_rng_init(struct virtio_rng *rng, struct vpci_bus *bus, unsigned slot,
                     struct guest_memory *memory, struct virtio_function_state *page, bool fresh);
