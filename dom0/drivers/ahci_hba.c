// SPDX-License-Identifier: Apache-2.0
//
// The AHCI adapter and its ports: taking over from the firmware, starting and stopping the engines,
// resetting the link. Every wait is bounded. Order that matters: a port's engines are stopped
// before its memory addresses change, and its interrupt status is cleared before the adapter's.

#include "ahci.h"

#include "lib/log.h"
#include "lib/memory.h"

#include <stdlib.h>
#include <string.h>

#define CLASS_AHCI     0x010601u
#define AHCI_BAR       5u
#define FIS_H2D        0x27
#define FIS_IS_COMMAND 0x80
#define ATA_DEVICE_LBA 0x40

static u32 hba_get(const struct ahci_adapter *a, u32 offset) {
    return *(volatile u32 *)(a->registers + offset);
}

static void hba_put(const struct ahci_adapter *a, u32 offset, u32 value) {
    *(volatile u32 *)(a->registers + offset) = value;
}

// Waits until the bits of `mask` in a register are `value`.
static bool wait_for(const volatile u8 *registers, u32 offset, u32 mask, u32 value,
                     u64 milliseconds) {
    u64 end = time_ns() + milliseconds * NS_PER_MS;
    while ((*(const volatile u32 *)(registers + offset) & mask) != value) {
        if (time_ns() > end)
            return false;
        delay_us(20);
    }
    return true;
}

// ---- ports ----

bool ahci_port_stop(struct ahci_port *p) {
    ahci_put(p, PORT_CMD, ahci_get(p, PORT_CMD) & ~(u32)PORT_CMD_ST);
    if (!wait_for(p->registers, PORT_CMD, PORT_CMD_CR, 0, 500))
        return false;
    ahci_put(p, PORT_CMD, ahci_get(p, PORT_CMD) & ~(u32)PORT_CMD_FRE);
    return wait_for(p->registers, PORT_CMD, PORT_CMD_FR, 0, 500);
}

static bool reset_link(struct ahci_port *p) {
    ahci_put(p, PORT_SCTL, PORT_SCTL_NO_SLEEP | PORT_SCTL_COMRESET);
    delay_us(1000);
    ahci_put(p, PORT_SCTL, PORT_SCTL_NO_SLEEP);
    bool up = wait_for(p->registers, PORT_SSTS, PORT_SSTS_DET, PORT_SSTS_UP, 1000);
    ahci_put(p, PORT_SERR, ~0u);
    return up;
}

static bool start_engines(struct ahci_port *p) {
    ahci_put(p, PORT_SERR, ~0u);
    ahci_put(p, PORT_IS, ~0u);
    ahci_put(p, PORT_CMD, ahci_get(p, PORT_CMD) | (u32)PORT_CMD_FRE);
    if (!wait_for(p->registers, PORT_TFD, PORT_TFD_BSY | PORT_TFD_DRQ, 0, 2000))
        return false;
    ahci_put(p, PORT_CMD, ahci_get(p, PORT_CMD) | (u32)PORT_CMD_ST);
    ahci_put(p, PORT_IE, (u32)PORT_IE_WANTED);
    return true;
}

bool ahci_port_restart(struct ahci_port *p, bool with_reset) {
    bool stopped = ahci_port_stop(p);
    bool busy = ahci_get(p, PORT_TFD) & (PORT_TFD_BSY | PORT_TFD_DRQ);
    if ((with_reset || !stopped || busy) && !reset_link(p))
        return false;
    if (!stopped && !ahci_port_stop(p))
        return false;
    return start_engines(p);
}

static void put_address(struct ahci_port *p, u32 offset, u64 address) {
    ahci_put(p, offset, (u32)address);
    ahci_put(p, offset + 4, (u32)(address >> 32));
}

void ahci_fill_command(struct ahci_port *p, u32 slot, u8 command, u64 lba, u32 sectors, u16 pieces,
                       bool write) {
    struct ahci_table *table = &p->tables[slot];
    u8 *fis = table->fis;
    memset(fis, 0, sizeof(table->fis));
    fis[0] = FIS_H2D;
    fis[1] = FIS_IS_COMMAND;
    fis[2] = command;
    for (unsigned i = 0; i < 3; i++) {
        fis[4 + i] = (u8)(lba >> 8 * i);
        fis[8 + i] = (u8)(lba >> (24 + 8 * i));
    }
    fis[7] = ATA_DEVICE_LBA;
    if (!p->lba48) { // 28-bit commands have the top bits here
        fis[7] |= (u8)(lba >> 24 & 0xf);
        fis[8] = 0;
    }
    fis[12] = (u8)sectors;
    fis[13] = (u8)(sectors >> 8);
    p->list[slot] = (struct ahci_header){
        .flags = (u16)(5 | (write ? AHCI_HEADER_WRITE : 0)),
        .pieces = pieces,
        .table = phys_of(table),
    };
    __atomic_thread_fence(__ATOMIC_SEQ_CST); // before the caller's write of the issue bit
}

bool ahci_identify(struct ahci_port *p, u16 *identify) {
    p->tables[0].pieces[0] = (struct ahci_piece){dma_map(identify, 512), 0, 511};
    ahci_fill_command(p, 0, ATA_IDENTIFY, 0, 0, 1, false);
    ahci_put(p, PORT_CI, 1);
    bool done = wait_for(p->registers, PORT_CI, 1, 0, 5000) &&
                !(ahci_get(p, PORT_TFD) & PORT_TFD_ERR) && !(ahci_get(p, PORT_IS) & PORT_IS_ERRORS);
    ahci_put(p, PORT_IS, ~0u);
    dma_unmap(phys_of(identify), 512);
    return done;
}

static bool allocate_port(struct ahci_port *p) {
    p->list = page_alloc(1);
    p->tables = page_alloc(AHCI_SLOTS * sizeof(struct ahci_table) / PAGE_SIZE);
    return p->list && p->tables;
}

// Brings the port up with its disk; a sentence about what is wrong, or NULL.
static const char *start_port(struct ahci_port *p) {
    if (!allocate_port(p))
        return "out of memory";
    if (!ahci_port_stop(p) && (!reset_link(p) || !ahci_port_stop(p)))
        return "its port does not stop";
    put_address(p, PORT_CLB, phys_of(p->list));
    put_address(p, PORT_FB, phys_of(p->list) + 1024);
    ahci_put(p, PORT_CMD, ahci_get(p, PORT_CMD) | (u32)(PORT_CMD_SUD | PORT_CMD_POD));
    if ((ahci_get(p, PORT_SSTS) & PORT_SSTS_DET) != PORT_SSTS_UP && !reset_link(p))
        return "no link";
    if (!start_engines(p) && !ahci_port_restart(p, true))
        return "it stays busy";
    if (ahci_get(p, PORT_SIG) != PORT_SIG_ATA)
        return "not a disk";
    return ahci_disk_start(p) ? NULL : "it does not identify itself properly";
}

static void probe_port(struct ahci_adapter *a, u32 index) {
    volatile u8 *registers = a->registers + HBA_PORT0 + index * HBA_PORT_BYTES;
    if ((*(volatile u32 *)(registers + PORT_SSTS) & PORT_SSTS_DET) == 0)
        return; // nothing connected
    struct ahci_port *p = calloc(1, sizeof(*p));
    if (!p)
        return;
    *p = (struct ahci_port){
        .adapter = a, .registers = registers, .index = index, .slots_used = a->slots};
    a->ports[index] = p;
    const char *wrong = start_port(p);
    if (!wrong)
        return;
    a->ports[index] = NULL; // its memory stays: the adapter might still write there
    hba_put(a, HBA_PORT0 + index * HBA_PORT_BYTES + PORT_IE, 0); // no one would end its interrupts
    hba_put(a, HBA_PORT0 + index * HBA_PORT_BYTES + PORT_IS, ~0u);
    enum log_level level = *(volatile u32 *)(registers + PORT_SIG) == PORT_SIG_ATA ? LOG_ERROR
                                                                                   : LOG_DEBUG;
    log_line(level, "disk", "AHCI %s port %u is not used: %s", a->pci->name, index, wrong);
    if (!ahci_port_stop(p))
        log_warning("disk", "AHCI %s port %u does not stop", a->pci->name, index);
}

// ---- the adapter ----

static void interrupt(void *context) {
    struct ahci_adapter *a = context;
    u32 status = hba_get(a, HBA_IS);
    for (u32 i = 0; i < AHCI_PORTS; i++)
        if (status & BIT(i) && a->ports[i])
            ahci_port_interrupt(a->ports[i]);
    hba_put(a, HBA_IS, status);
    if (a->line)
        pci_line_ack(a->port);
}

static void bind_interrupt(struct ahci_adapter *a) {
    a->port = a->pci->msi || a->pci->msix ? pci_bind_msi(a->pci, 0, interrupt, a) : -BASALT_ENODEV;
    if (a->port >= 0)
        return;
    a->port = pci_bind_line(a->pci, interrupt, a);
    a->line = a->port >= 0;
    if (a->port < 0)
        log_warning("disk", "AHCI %s: no interrupt (%s): it is polled", a->pci->name,
                    error_text(a->port));
}

static bool reset_adapter(struct ahci_adapter *a) {
    if (hba_get(a, HBA_CAP2) & HBA_CAP2_BOH) {
        hba_put(a, HBA_BOHC, hba_get(a, HBA_BOHC) | (u32)HBA_BOHC_OOS);
        if (!wait_for(a->registers, HBA_BOHC, HBA_BOHC_BOS | HBA_BOHC_BB, 0, 2000))
            log_warning("disk", "AHCI %s: the firmware does not let it go; taken all the same",
                        a->pci->name);
    }
    hba_put(a, HBA_GHC, (u32)HBA_GHC_AE);
    hba_put(a, HBA_GHC, (u32)(HBA_GHC_AE | HBA_GHC_HR));
    if (!wait_for(a->registers, HBA_GHC, HBA_GHC_HR, 0, 1000))
        return false;
    hba_put(a, HBA_GHC, (u32)HBA_GHC_AE);
    return true;
}

static bool is_connected(const struct ahci_adapter *a, u32 port) {
    return (hba_get(a, HBA_PORT0 + port * HBA_PORT_BYTES + PORT_SSTS) & PORT_SSTS_DET) != 0;
}

// After a reset a link needs some milliseconds; ports without a disk stay empty.
static void wait_for_links(const struct ahci_adapter *a, u32 implemented) {
    u64 end = time_ns() + 100 * NS_PER_MS;
    bool any = false;
    while (!any && time_ns() < end)
        for (u32 i = 0; i < AHCI_PORTS; i++)
            any |= implemented & BIT(i) && is_connected(a, i);
}

static const char *start_adapter(struct ahci_adapter *a) {
    a->registers = pci_map(a->pci, AHCI_BAR, 0, HBA_PORT0 + AHCI_PORTS * HBA_PORT_BYTES);
    if (!a->registers)
        return "it has no registers";
    pci_enable(a->pci);
    if (!reset_adapter(a))
        return "it does not reset";
    u32 cap = hba_get(a, HBA_CAP), slots = (cap >> HBA_CAP_SLOTS_SHIFT & 31) + 1;
    a->slots = (u32)(BIT(slots) - 1);
    if (!(cap & HBA_CAP_S64A))
        return "it can't reach memory above 4 GiB";
    u32 implemented = hba_get(a, HBA_PI);
    bind_interrupt(a);
    wait_for_links(a, implemented);
    for (u32 i = 0; i < AHCI_PORTS; i++)
        if (implemented & BIT(i))
            probe_port(a, i);
    hba_put(a, HBA_IS, ~0u);
    hba_put(a, HBA_GHC, (u32)(HBA_GHC_AE | HBA_GHC_IE));
    return NULL;
}

// Also those that were refused: they might still ring their port.
static struct ahci_adapter *all;

bool ahci_probe(const struct pci_device *pci) {
    if (pci->class != CLASS_AHCI)
        return false;
    struct ahci_adapter *a = calloc(1, sizeof(*a));
    if (a) {
        a->pci = pci;
        a->next = all;
        all = a;
    }
    const char *wrong = a ? start_adapter(a) : "out of memory";
    if (wrong) {
        log_error("disk", "AHCI adapter at %s is not used: %s", pci->name, wrong);
        pci_disable(pci);
    }
    return true;
}
