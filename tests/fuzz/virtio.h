// SPDX-License-Identifier: Apache-2.0
//
// What the fuzzers of virtio devices begin and end with: a machine with a disk that answers when it is told to, and what
// must be true when the machine has gone.

#pragma once

#include "tests/fuzz/fuzz.h"

#include "tests/unit/fake_host.h"

#include "tests/unit/fake_driver.h"

static unsigned fuzz_dones;

static void fuzz_output(void *context, const char *bytes, size_t length) {
    (void)context;
    volatile char sink = 0;
    for (size_t i = 0; i < length; i++)
        sink = bytes[i];
    (void)sink;
}

static void fuzz_done(void *context) {
    (void)context;
    fuzz_dones++;
}

/// A machine with one disk, which `disk` becomes.
static struct guest_machine *fuzz_machine(struct block_device *disk) {
    static uint8_t bytes[64 * 512];
    struct guest_machine *machine;
    struct machine_config config = {.domain = 1,
                                    .vcpus = 1,
                                    .memory = 1u << 20,
                                    .disk_count = 1,
                                    .console_output = fuzz_output};

    *disk = (struct block_device){.sectors = 64, .bytes = bytes};
    config.disks[0].device = disk;
    require(!machine_create(&machine, &config));
    return machine;
}

/// Takes the machine down: no pin, doorbell, work or timer may be left.
static void fuzz_machine_end(struct guest_machine *machine, struct block_device *disk) {
    fuzz_dones = 0;
    machine_destroy(machine, fuzz_done, NULL);
    fake_disk_run(disk);
    fake_run(1000);
    require(fuzz_dones == 1 && !fake_memory.pins && !fake_bell_count() && !fake_work_count);
    for (unsigned i = 0; i < 64; i++)
        require(!fake_timers[i]);
    fake_state_end();
    fake_memory_end();
}
