// SPDX-License-Identifier: Apache-2.0
//
// The state pages of a machine: all that a guest can see of its devices, in a versioned layout that
// outlives dom0. Page 0 is the machine's, page 1 + n belongs to the n-th PCI function. Invariant:
// no structure is longer than a page and each begins with a header that says what it is; a field is
// only ever added at the end, with a new version. Device models work on these structures in place;
// they are dom0's and the kernel's, the guest cannot reach them.

#pragma once

#include <stdint.h>

#include <basalt/request.h>

#define STATE_MAGIC   0x54534142u // "BAST"
#define STATE_VERSION 3u
#define STATE_PAGE    4096u

enum state_kind {
    STATE_MACHINE = 1,
    STATE_HOST_BRIDGE = 2,
    STATE_VIRTIO_BLK = 3,
    STATE_VIRTIO_CONSOLE = 4,
    STATE_VIRTIO_RNG = 5,
};

struct state_header {
    uint32_t magic;
    uint16_t version;
    uint16_t kind; // enum state_kind
    uint32_t size; // of the whole structure, bytes
    uint32_t slot; // PCI device number of a function
};
_Static_assert(sizeof(struct state_header) == 16, "state layout");

#define UART_FIFO 16

struct uart_state {
    uint8_t ier, lcr, mcr, scratch;
    uint8_t dll, dlm;
    uint8_t fcr;          // FIFO enable and trigger level
    uint8_t lsr_errors;   // overrun and break, until LSR is read
    uint8_t msr_delta;    // until MSR is read
    uint8_t thre_pending; // transmitter-empty interrupt not yet seen
    uint8_t line;         // level of IRQ 4
    uint8_t rx_first, rx_count;
    uint8_t rx_timeout; // characters wait below the trigger level
    uint8_t reserved[2];
    uint8_t rx[UART_FIFO];
};
_Static_assert(sizeof(struct uart_state) == 32, "state layout");

struct rtc_state {
    uint8_t index; // port 0x70 without the NMI bit
    uint8_t line;  // level of IRQ 8
    uint8_t reserved[6];
    int64_t offset_ns;  // the guest's clock minus the wall clock
    int64_t stopped_ns; // the guest's clock while register B's SET is 1
    uint64_t checked;   // update and alarm flags are right up to this second of the guest's clock
    uint8_t cmos[128];  // time registers hold what was last written to them while SET is 1
};
_Static_assert(sizeof(struct rtc_state) == 160, "state layout");

struct pm_state {
    uint16_t status, enable; // PM1 event block
    uint16_t control;        // PM1 control block
    uint8_t line;            // level of the SCI
    uint8_t timer_msb;       // of the PM timer when TMR_STS was last brought up to date
    uint64_t timer_base;     // ticks of the TSC at timer value 0
    uint64_t reserved;
};
_Static_assert(sizeof(struct pm_state) == 24, "state layout");

#define IOAPIC_PINS 24u

struct ioapic_state {
    uint32_t select; // register chosen by the index window
    uint32_t id;     // bits 27:24, as the register shows it
    uint64_t entries[IOAPIC_PINS];
};
_Static_assert(sizeof(struct ioapic_state) == 200, "state layout");

struct machine_state {
    struct state_header header;
    uint64_t memory; // bytes
    uint32_t vcpus;
    uint32_t functions;   // state pages that follow
    uint32_t pci_address; // port 0xcf8
    uint32_t lines;       // levels of the IOAPIC's pins
    uint64_t end; // 0, or enum machine_end: the guest asked for it, dom0 has not carried it out yet
    uint64_t answered[BASALT_REQUEST_SLOTS]; // number of the last request carried out, by vCPU
    uint64_t answers[BASALT_REQUEST_SLOTS];  // and what it was answered with
    struct uart_state uart;
    struct rtc_state rtc;
    struct pm_state pm;
    struct ioapic_state ioapic; // from version 2
    // From version 3: kvm-clock's MSRs as they were written last, by vCPU
    uint64_t system_time[BASALT_REQUEST_SLOTS], wall_clock[BASALT_REQUEST_SLOTS];
};
_Static_assert(sizeof(struct machine_state) <= STATE_PAGE, "state layout");

#define PCI_CONFIG_SIZE 256
#define MSIX_VECTORS    8

struct msix_entry {
    uint64_t address;
    uint32_t data;
    uint32_t control; // bit 0: masked
};
_Static_assert(sizeof(struct msix_entry) == 16, "state layout");

struct pci_state {
    struct state_header header;
    uint8_t config[PCI_CONFIG_SIZE];
    struct msix_entry msix[MSIX_VECTORS];
    uint64_t msix_pending; // bit per vector
};
_Static_assert(sizeof(struct pci_state) == 16 + 256 + 128 + 8, "state layout");

#define VIRTIO_QUEUES  2
#define VIRTQUEUE_SIZE 128 // the largest, and what a driver finds after reset

struct virtqueue_state {
    uint16_t size, msix_vector, enabled;
    uint16_t last_avail;                     // next entry of the available ring to take
    uint16_t used_idx;                       // as last written to the used ring
    uint16_t signalled;                      // used_idx when the driver was last interrupted
    uint16_t completing;                     // head that is being put into the used ring, or 0xffff
    uint16_t completing_idx;                 // and used_idx before that
    uint64_t desc, driver, device;           // guest-physical addresses of the three areas
    uint64_t in_flight[VIRTQUEUE_SIZE / 64]; // chains taken and not yet used, by head
};
_Static_assert(sizeof(struct virtqueue_state) == 56, "state layout");

struct virtio_state {
    uint32_t device_feature_select, driver_feature_select;
    uint64_t driver_features;
    uint16_t queue_select, msix_config;
    uint8_t status; // device status
    uint8_t isr;
    uint8_t generation;
    uint8_t resetting; // the driver wrote 0 to the status; requests are under way still
    struct virtqueue_state queues[VIRTIO_QUEUES];
};
_Static_assert(sizeof(struct virtio_state) == 24 + 56 * VIRTIO_QUEUES, "state layout");

struct virtio_function_state {
    struct pci_state pci;
    struct virtio_state virtio;
    uint64_t device[16]; // of the device model: the entropy device's allowance
};
_Static_assert(sizeof(struct virtio_function_state) <= STATE_PAGE, "state layout");
