// SPDX-License-Identifier: Apache-2.0
//
// The control path of each virtio device, block, console and entropy: a driver that knows where everything is, and
// does the steps of initialization, queue set-up, requests and reset in any order and with any values. What a driver
// may rely on is checked after each step; at the end no pin, timer or request may be left.
//
// like: tests/unit/test_guest_machine.c

#include "tests/fuzz/virtio.h"

#define FIRST_TYPE     2u // block; then console and entropy
#define TYPES          3u
#define RINGS          0x10000ull // of type and queue, 0x4000 each
#define STATUS         20
#define REGISTERS_SIZE 56u

static struct fake_driver drivers[TYPES];
static uint64_t bars[TYPES];

static uint64_t rings(unsigned type, unsigned queue) { return RINGS * (1 + type) + 0x4000 * queue; }

// All devices are where they were found.
static bool in_place(void) {
    bool same = true;
    for (unsigned i = 0; i < TYPES; i++)
        same &= fake_bar(&drivers[i], 0) == bars[i] &&
                cfg(&drivers[i], PCI_COMMAND, 2) & PCI_COMMAND_MEMORY;
    return same;
}

// What holds for every driver at any time.
static void check(struct fake_driver *d) {
    if (!in_place())
        return;
    require(mmio(d, d->common + 18, 2) >= 1 && mmio(d, d->common + 18, 2) <= 4); // queues
    unsigned size = (unsigned)mmio(d, d->common + 24, 2);
    require(size <= 1024 && !(size & (size - 1)));
    require(mmio(d, d->common + 28, 2) <= 1); // enabled or not
}

static void reset(struct fake_driver *d) {
    mmio_write(d, d->common + STATUS, 1, 0);
    fake_run(50); // what is under way ends first
    require(!in_place() || !mmio(d, d->common + STATUS, 1));
}

static void request(struct fake_driver *d, unsigned type, unsigned queue, struct input *in) {
    struct fake_queue *q = &d->queues[queue];
    unsigned count = 1 + take(in, 1) % 4, head = (unsigned)take(in, 1) % 64;
    if (!q->size)
        return;
    for (unsigned i = 0; i < count; i++) {
        unsigned choice = (unsigned)take(in, 1);
        uint64_t address = rings(type, queue) + 0x3000 + (choice & 15) * 64;
        uint32_t length = choice & 16 ? (uint32_t)take(in, 3) : 1u << (choice >> 5) << i;
        uint16_t flags = (uint16_t)((i + 1 < count) | (choice & 1) << 1);
        if (choice == 255)
            address = take(in, 8), flags = (uint16_t)take(in, 2);
        fake_descriptor(q, (head + i) % q->size, address, length, flags,
                        (uint16_t)((head + i + 1) % q->size));
    }
    fake_put(rings(type, queue) + 0x3000 + (take(in, 1) & 15) * 64, 8, take(in, 2));
    fake_available(q, (uint16_t)(head % q->size));
    fake_kick(d, queue);
}

static void step(struct fake_driver *d, unsigned type, struct block_device *disk,
                 struct input *in) {
    unsigned op = (unsigned)take(in, 1), queue = op >> 7, bytes = 1u << (op >> 4 & 3);
    uint64_t offset = 0;
    switch (op & 15) {
    case 0: fake_negotiate(d, take(in, 1) == 255 ? take(in, 8) : ~0ull); break;
    case 1: fake_queue_setup(d, queue, rings(type, queue)); break;
    case 2: fake_driver_ok(d); break;
    case 3:
    case 4:
        offset = take(in, 1) % REGISTERS_SIZE;
        mmio_write(d, d->common + offset, bytes, take(in, bytes));
        break;
    case 5: mmio(d, d->common + take(in, 1) % (REGISTERS_SIZE + 8), bytes); break;
    case 6: mmio(d, d->config + take(in, 1), bytes); break;
    case 7:
        offset = take(in, 1);
        mmio_write(d, d->config + offset, bytes, take(in, bytes));
        break;
    case 8:
    case 9: request(d, type, queue, in); break;
    case 10: reset(d); break;
    case 11:
        offset = take(in, 1);
        mmio_write(d, d->table + offset, bytes, take(in, bytes));
        break;
    case 12: cfg_write(d, (unsigned)take(in, 1) & ~(bytes - 1), bytes, take(in, bytes)); break;
    case 13:
        offset = rings(type, queue) + take(in, 2) % 0x3000;
        fake_put(offset, bytes, take(in, bytes));
        break;
    case 14:
        if (disk->waiting_count)
            fake_disk_complete(disk, (unsigned)take(in, 1) % disk->waiting_count);
        machine_console_input(d->machine, "0123456789", 10);
        fake_run(4);
        break;
    default: mmio(d, d->isr, 1); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct block_device disk;
    struct guest_machine *machine = fuzz_machine(&disk);
    struct input in = {data, size};

    for (unsigned i = 0; i < TYPES; i++) {
        require(fake_probe(&drivers[i], machine, FIRST_TYPE + i));
        bars[i] = fake_bar(&drivers[i], 0);
    }
    while (in.size) {
        unsigned type = (unsigned)take(&in, 1) % TYPES;
        step(&drivers[type], type, &disk, &in);
        check(&drivers[type]);
    }
    fuzz_machine_end(machine, &disk);
    return 0;
}
