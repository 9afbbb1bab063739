// SPDX-License-Identifier: Apache-2.0
//
// The commands of the AHCI driver on a port whose registers are memory: what it does after an error while other commands
// are open, with an interrupt and without one.
//
// sources: tests/unit/dom0_host.c dom0/drivers/ahci.c dom0/block/block.c dom0/lib/event.c
// sources: dom0/lib/timer.c dom0/lib/console.c dom0/lib/log.c dom0/lib/kernel_log.c dom0/lib/boot.c dom0/lib/dma.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0_host.h"

#include "dom0/drivers/ahci.h"

#include "lib/event.h"
#include "lib/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMANDS 3u
#define MS       1000000ull

static u8 registers[HBA_PORT_BYTES] __attribute__((aligned(4096)));
static u8 buffer[COMMANDS * 512] __attribute__((aligned(4096)));
static struct ahci_table tables[AHCI_SLOTS];
static struct ahci_adapter adapter;
static struct ahci_port port;
static struct block_request requests[COMMANDS];
static struct block_segment segments[COMMANDS];
static unsigned restarts, done_count;

bool ahci_port_stop(struct ahci_port *p) {
    (void)p;
    return true;
}

bool ahci_port_restart(struct ahci_port *p, bool reset_link) {
    (void)reset_link;
    restarts++;
    ahci_put(p, PORT_CI, 0);
    ahci_put(p, PORT_IS, 0);
    return true;
}

void ahci_fill_command(struct ahci_port *p, u32 slot, u8 command, u64 lba, u32 sectors, u16 pieces,
                       bool write) {
    (void)p, (void)slot, (void)command, (void)lba, (void)sectors, (void)pieces, (void)write;
}

bool ahci_identify(struct ahci_port *p, u16 *identify) {
    (void)p;
    memset(identify, 0, 512);
    identify[60] = 1000; // sectors
    return true;
}

void *page_alloc(u64 count) { return aligned_alloc(PAGE_SIZE, count * PAGE_SIZE); }
void page_free(void *pages, u64 count) {
    (void)count;
    free(pages);
}
void pci_disable(const struct pci_device *d) { (void)d; }

static void done(struct block_request *r) {
    (void)r;
    done_count++;
}

// A disk without an interrupt, with COMMANDS commands issued.
static int setup(void **state) {
    (void)state;
    host_reset();
    event_init();
    memset(registers, 0, sizeof(registers));
    restarts = done_count = 0;
    adapter = (struct ahci_adapter){.port = -1};
    port = (struct ahci_port){
        .adapter = &adapter, .registers = registers, .slots_used = 0xff, .tables = tables};
    assert_true(ahci_disk_start(&port));
    for (unsigned i = 0; i < COMMANDS; i++) {
        segments[i] = (struct block_segment){buffer + 512 * i, 512};
        requests[i] = (struct block_request){.device = &port.disk,
                                             .sector = i,
                                             .segments = &segments[i],
                                             .segment_count = 1,
                                             .done = done};
        block_submit(&requests[i]);
    }
    event_pass(false);
    assert_int_equal(port.issued, BIT(COMMANDS) - 1);
    ahci_put(&port, PORT_CI, port.issued);
    return 0;
}

static void pass(u64 milliseconds) {
    host_advance(milliseconds * MS);
    event_pass(false);
    event_pass(false);
}

static void polled(void **state) {
    (void)state;
    pass(3);
    assert_int_equal(done_count, 0);
    ahci_put(&port, PORT_CI, 4);
    pass(3);
    assert_int_equal(done_count, 2);
    ahci_put(&port, PORT_CI, 0);
    pass(3);
    assert_int_equal(done_count, 3);
    assert_int_equal(requests[2].status, BLOCK_OK);
    assert_int_equal(restarts, 0);
}

// An error with others open: the port is left alone as long as issue bits change, and half a second more.
static void an_error_settles(void **state) {
    (void)state;
    ahci_put(&port, PORT_IS, PORT_IS_TFES);
    if (adapter.port < 0)
        pass(3);
    else
        ahci_port_interrupt(&port);
    ahci_put(&port, PORT_IS, 0);
    assert_int_equal(restarts, 0);
    assert_true(port.settling);
    pass(400);
    assert_int_equal(restarts, 0);
    ahci_put(&port, PORT_CI, 6); // it goes on with the others
    pass(200);
    pass(400);
    assert_int_equal(restarts, 0);
    pass(200);
    assert_int_equal(restarts, 1);
    assert_int_equal(done_count, 0);
    assert_int_equal(ahci_get(&port, PORT_CI), 1); // once more, one at a time
    for (unsigned i = 0; i < COMMANDS; i++) {
        assert_int_equal(port.issued, BIT(i));
        ahci_put(&port, PORT_CI, 0);
        ahci_port_interrupt(&port);
    }
    pass(3);
    assert_int_equal(done_count, 3);
    assert_int_equal(requests[0].status, BLOCK_OK);
}

static void an_error_settles_with_an_interrupt(void **state) {
    adapter.port = 5;
    an_error_settles(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(polled, setup),
        cmocka_unit_test_setup(an_error_settles, setup),
        cmocka_unit_test_setup(an_error_settles_with_an_interrupt, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
