// SPDX-License-Identifier: Apache-2.0
//
// The virtio entropy device. The allowance is a bucket of bytes that refills with time; when it is
// empty, buffers wait in the ring for a timer. A buffer may be filled in part, which the
// specification allows, so that one request costs a bounded amount of work. Follows "Entropy
// Device" of virtio 1.2.

#include "entropy.h"
#include "virtio_rng.h"

#define RNG_TYPE      4u
#define RNG_CLASS     0x108000u // encryption controller, other
#define RNG_RATE      65536u    // bytes a second
#define RNG_BURST     16384u    // bytes that an idle guest saves up
#define RNG_PIECE     256u
#define RNG_REFILL_NS 20000000ull

static uint64_t *allowance(struct virtio_rng *rng) { return &rng->device.page->device[0]; }

static void refill(struct virtio_rng *rng) {
    uint64_t *last = &rng->device.page->device[1];
    uint64_t now = host_time_ns();
    uint64_t elapsed = now > *last ? now - *last : 0;
    uint64_t bytes = elapsed > 1000000000ull ? RNG_BURST : elapsed * RNG_RATE / 1000000000ull;
    if (bytes == 0)
        return; // keep the time for later
    *last = now;
    *allowance(rng) += bytes;
    if (*allowance(rng) > RNG_BURST)
        *allowance(rng) = RNG_BURST;
}

static uint32_t fill(struct virtio_rng *rng) {
    uint8_t piece[RNG_PIECE];
    uint32_t done = 0;
    while (done < rng->chain.write_bytes && *allowance(rng)) {
        size_t wanted = rng->chain.write_bytes - done;
        wanted = wanted < sizeof(piece) ? wanted : sizeof(piece);
        wanted = wanted < *allowance(rng) ? wanted : *allowance(rng);
        entropy_fill(piece, wanted);
        size_t written = virtqueue_write(&rng->device.queues[0], &rng->chain, done, piece, wanted);
        *allowance(rng) -= wanted;
        done += (uint32_t)written;
        if (written < wanted)
            break;
    }
    return done;
}

static void serve(struct virtio_rng *rng) {
    struct virtqueue *queue = &rng->device.queues[0];
    enum virtqueue_result taken = VIRTQUEUE_EMPTY;
    refill(rng);
    for (unsigned chains = 0; chains < VIRTQUEUE_SIZE && *allowance(rng); chains++) {
        taken = virtqueue_pop(queue, &rng->chain);
        if (taken == VIRTQUEUE_MALFORMED)
            virtio_device_broken(&rng->device, "malformed ring");
        if (taken != VIRTQUEUE_CHAIN_TAKEN)
            break;
        virtqueue_push(queue, rng->chain.head, fill(rng));
    }
    virtio_device_used(&rng->device, 0);
    if (taken != VIRTQUEUE_MALFORMED && virtqueue_kicks(queue, true))
        host_timer_set(&rng->refill, host_time_ns() + RNG_REFILL_NS);
}

static void rng_kick(struct virtio_device *device, unsigned queue) {
    (void)queue;
    serve((struct virtio_rng *)device);
}

static void refill_due(void *context) {
    struct virtio_rng *rng = context;
    if (virtio_device_running(&rng->device) && rng->device.queues[0].mapped)
        serve(rng);
}

static bool rng_stop(struct virtio_device *device) {
    host_timer_cancel(&((struct virtio_rng *)device)->refill);
    return true;
}

static void rng_resume(struct virtio_device *device) {
    struct virtio_rng *rng = (struct virtio_rng *)device;
    for (uint16_t head = 0; head < VIRTQUEUE_SIZE; head++)
        if (virtqueue_resume(&device->queues[0], head, &rng->chain) == VIRTQUEUE_CHAIN_TAKEN)
            virtqueue_push(&device->queues[0], head, fill(rng));
    virtio_device_used(device, 0);
}

static const struct virtio_model rng_model = {
    .type = RNG_TYPE,
    .kind = STATE_VIRTIO_RNG,
    .class = RNG_CLASS,
    .queues = 1,
    .kick = rng_kick,
    .stop = rng_stop,
    .resume = rng_resume,
};

void virtio_rng_init(struct virtio_rng *rng, struct vpci_bus *bus, unsigned slot,
                     struct guest_memory *memory, struct virtio_function_state *page, bool fresh) {
    rng->refill = (struct host_timer){.handler = refill_due, .context = rng};
    if (fresh)
        page->device[0] = RNG_BURST;
    virtio_device_init(&rng->device, &rng_model, bus, slot, memory, page, 0, fresh);
}
