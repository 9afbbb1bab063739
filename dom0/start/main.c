// SPDX-License-Identifier: Apache-2.0
//
// dom0 from its first C instruction to its event loop. The order: page tables first (nothing
// writable is executable afterwards), then what reports errors, memory, time and events, disks,
// device models, and the domains. Only a boot information that can't be used or no memory at all
// ends dom0; everything else is reported and left out.

#include "start/traps.h"

#include "block/block.h"
#include "drivers/drivers.h"
#include "drivers/rtc.h"
#include "lib/boot.h"
#include "lib/console.h"
#include "lib/dom0.h"
#include "lib/event.h"
#include "lib/hypercall.h"
#include "lib/kernel_log.h"
#include "lib/log.h"
#include "lib/memory.h"
#include "lib/pages.h"
#include "lib/paging.h"

#include <string.h>

_Noreturn void dom0_entry(const struct basalt_boot_info *info, u64 load_address);

// The other houses of dom0; weak, so that an image without them still starts.
__attribute__((weak)) int devices_init(void) { return 0; }

__attribute__((weak)) int toolstack_main(void) {
    log_info("dom0", "this image has no toolstack");
    return 0;
}

static void check_boot_info(void) {
    if (boot_info->magic != BASALT_BOOT_MAGIC || boot_info->size < sizeof(*boot_info))
        fatal("the boot information is not one of this version");
    u64 version = hc_version();
    if (version != (BASALT_VERSION_MAGIC | BASALT_ABI_VERSION) ||
        boot_info->abi_version != BASALT_ABI_VERSION)
        fatal("Basalt speaks version %llx of the interface, this dom0 %x: use files of one release",
              (unsigned long long)(version & 0xffff), BASALT_ABI_VERSION);
    if (boot_info->tsc_khz == 0 || boot_info->event_page == 0)
        fatal("the boot information lacks a time or an event page");
}

// dom0's RAM is one range with the image at its start; what else the kernel put into it stays as it
// is.
static void init_memory(void) {
    struct page_range reserved[5 + BASALT_BOOT_MODULES] = {
        {boot_info->ram_base, boot_info->image_size},
        {(u64)(uintptr_t)boot_info, sizeof(*boot_info)},
        {boot_info->event_page, PAGE_SIZE},
        {boot_info->log_base, boot_info->log_size},
        {boot_info->trace_base, boot_info->trace_size * boot_info->cpus},
    };
    unsigned count = 5;
    for (u32 i = 0; boot_module(i); i++)
        reserved[count++] = (struct page_range){boot_module(i)->base, boot_module(i)->size};
    if (!pages_init(boot_info->ram_base, boot_info->ram_size, reserved, count))
        fatal("%llu KiB of memory are too little", (unsigned long long)boot_info->ram_size / 1024);
}

static void init_log(void) {
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char level[16];
    if (!boot_option("loglvl", level, sizeof(level)))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(level, names[i]) == 0) {
            log_set_threshold((enum log_level)i);
            return;
        }
    }
    log_warning("dom0", "loglvl=%s ignored: error, warning, info or debug", level);
}

_Noreturn void dom0_entry(const struct basalt_boot_info *info, u64 load_address) {
    boot_info = info;
    paging_init(load_address);
    traps_init();
    check_boot_info();
    init_memory();
    event_init();
    console_init();
    kernel_log_init();
    init_log();
    log_info("dom0", "%llu MiB of memory, %u module(s)%s%s",
             (unsigned long long)boot_info->ram_size / MIB, boot_info->module_count,
             boot_info->restarts ? ", restarted" : "",
             boot_info->iommu ? "" : "; no IOMMU: its devices can reach all memory");
    crash_on_request();
    clock_init();
    drivers_init();
    if (devices_init() < 0)
        log_error("dom0", "device models did not start: no guest can");
    if (toolstack_main() < 0)
        log_error("dom0", "the toolstack did not start: no guest will");
    event_loop();
}
