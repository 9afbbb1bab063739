// SPDX-License-Identifier: Apache-2.0
//
// The virtio console's two queues. Output is bounded per turn, so that a guest that writes without
// end (or a buffer of gigabytes) takes turns with everyone else; the rest of a long buffer is
// printed in later turns. After a restart of dom0 an unfinished buffer is printed again from its
// start. Follows "Console Device" of virtio 1.2.

#include <string.h>

#include "virtio_console.h"

#define CONSOLE_TYPE   3u
#define CONSOLE_CLASS  0x078000u // communication controller, other
#define QUEUE_RX       0u
#define QUEUE_TX       1u
#define CONSOLE_BUDGET 16384u // bytes printed per turn
#define CONSOLE_PIECE  512u

// Prints from the chain; returns the budget that is left.
static size_t print(struct virtio_console *console, size_t budget) {
    struct virtqueue *tx = &console->device.queues[QUEUE_TX];
    char piece[CONSOLE_PIECE];
    while (budget && console->tx_done < console->tx.read_bytes) {
        size_t wanted = budget < sizeof(piece) ? budget : sizeof(piece);
        size_t bytes = virtqueue_read(tx, &console->tx, console->tx_done, piece, wanted);
        if (bytes == 0) { // not memory: as good as printed
            console->tx_done = console->tx.read_bytes;
            break;
        }
        console->output(console->context, piece, bytes);
        console->tx_done += bytes;
        budget -= bytes;
    }
    return budget;
}

static void transmit(struct virtio_console *console) {
    struct virtqueue *tx = &console->device.queues[QUEUE_TX];
    size_t budget = CONSOLE_BUDGET;
    for (unsigned chains = 0; budget && chains < VIRTQUEUE_SIZE; chains++) {
        if (!console->tx_taken) {
            enum virtqueue_result taken = virtqueue_pop(tx, &console->tx);
            if (taken == VIRTQUEUE_MALFORMED)
                virtio_device_broken(&console->device, "malformed ring");
            if (taken != VIRTQUEUE_CHAIN_TAKEN)
                break;
            console->tx_taken = true;
            console->tx_done = 0;
        }
        budget = print(console, budget);
        if (console->tx_done < console->tx.read_bytes)
            break;
        console->tx_taken = false;
        virtqueue_push(tx, console->tx.head, 0);
    }
    virtio_device_used(&console->device, QUEUE_TX);
    bool more = console->tx_taken || virtqueue_kicks(tx, true);
    if (more && virtio_device_running(&console->device))
        host_work_queue(&console->more);
}

static void go_on(void *context) {
    struct virtio_console *console = context;
    virtio_device_kick(&console->device, QUEUE_TX);
    virtio_device_kick(&console->device, QUEUE_RX);
}

static void console_kick(struct virtio_device *device, unsigned queue) {
    struct virtio_console *console = (struct virtio_console *)device;
    if (queue == QUEUE_TX)
        transmit(console);
    else
        console->room(console->context);
}

bool virtio_console_open(const struct virtio_console *console) {
    return virtio_device_running(&console->device) && console->device.queues[QUEUE_RX].mapped;
}

size_t virtio_console_input(struct virtio_console *console, const char *bytes, size_t length) {
    struct virtqueue *rx = &console->device.queues[QUEUE_RX];
    size_t done = 0;
    if (!virtio_console_open(console))
        return 0;
    for (unsigned chains = 0; done < length && chains < VIRTQUEUE_SIZE; chains++) {
        enum virtqueue_result taken = virtqueue_pop(rx, &console->rx);
        if (taken == VIRTQUEUE_MALFORMED)
            virtio_device_broken(&console->device, "malformed ring");
        if (taken != VIRTQUEUE_CHAIN_TAKEN)
            break;
        size_t written = virtqueue_write(rx, &console->rx, 0, bytes + done, length - done);
        virtqueue_push(rx, console->rx.head, (uint32_t)written);
        done += written;
    }
    virtio_device_used(&console->device, QUEUE_RX);
    if (done < length && virtio_console_open(console) && virtqueue_kicks(rx, true))
        host_work_queue(&console->more); // buffers came meanwhile: to be offered in a later turn
    return done;
}

static bool console_stop(struct virtio_device *device) {
    struct virtio_console *console = (struct virtio_console *)device;
    host_work_cancel(&console->more);
    console->tx_taken = false;
    return true;
}

static void console_resume(struct virtio_device *device) {
    struct virtio_console *console = (struct virtio_console *)device;
    for (unsigned queue = 0; queue < 2; queue++) {
        struct virtqueue *q = &device->queues[queue];
        for (uint16_t head = 0; head < VIRTQUEUE_SIZE; head++) {
            if (virtqueue_resume(q, head, &console->tx) != VIRTQUEUE_CHAIN_TAKEN)
                continue;
            console->tx_done = 0;
            if (queue == QUEUE_TX)
                print(console, CONSOLE_BUDGET);
            virtqueue_push(q, head, 0);
        }
        virtio_device_used(device, queue);
    }
}

static const struct virtio_model console_model = {
    .type = CONSOLE_TYPE,
    .kind = STATE_VIRTIO_CONSOLE,
    .class = CONSOLE_CLASS,
    .queues = 2,
    .kick = console_kick,
    .stop = console_stop,
    .resume = console_resume,
};

void virtio_console_init(struct virtio_console *console, struct vpci_bus *bus, unsigned slot,
                         struct guest_memory *memory, struct virtio_function_state *page,
                         bool fresh) {
    console->more = (struct host_work){.handler = go_on, .context = console};
    virtio_device_init(&console->device, &console_model, bus, slot, memory, page, 0, fresh);
}
