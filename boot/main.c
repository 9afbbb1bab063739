// SPDX-License-Identifier: Apache-2.0
//
// The boot, as one list. Each step may use what the steps above it brought up, and nothing else.

#include "boot/boot.h"

#include "arch/paging.h"
#include "arch/spec.h"
#include "drivers/ioapic.h"
#include "drivers/pci.h"
#include "kernel/cmdline.h"
#include "kernel/console.h"
#include "kernel/log.h"
#include "kernel/panic.h"

extern const char basalt_version[];

#define INFO_MAX (1 * MIB)

static struct boot_params params;

static void report(void) {
    log_info("basalt: memory: %lu MiB in %u ranges, ends at 0x%lx", params.ram_bytes / MIB,
             params.memory_count, params.ram_end);
    for (const struct boot_module *m = params.modules; m < params.modules + params.module_count;
         m++)
        log_info("basalt: module: 0x%lx, %lu KiB: %s", m->base, m->size >> 10, m->cmdline);
    if (params.framebuffer.width)
        log_info("basalt: framebuffer: %ux%u%s at 0x%lx (not used)", params.framebuffer.width,
                 params.framebuffer.height, params.framebuffer.type == 2 ? " characters" : "",
                 params.framebuffer.address);
    log_info("basalt: loader: %s; command line: %s", params.loader, params.cmdline);
}

// On the boot processor's own stack.
noreturn static void boot_rest(void) {
    panic_map_record();
    acpi_init(&params);   // tables, through the device window
    console_init();       // once more: SPCR may name another port
    tsc_begin();          // the clock's measurement, which ends below
    frames_init(&params); // the frame allocator: early_frame() is over
    ioapic_init(); // all lines masked, 8259s off: before LINT0 is, else QEMU keeps a stale request
    apic_init();   // local APIC, timer stopped
    fpu_init();    // extended state
    pci_init();    // all functions found
    tsc_init();    // the clock
    apic_timer_init(); // the local APIC's one-shot timer
    basalt_start(&params);
}

void kernel_main(u32 magic, u64 multiboot_info) {
    bool ours = magic == MULTIBOOT2_MAGIC && multiboot_info && multiboot_info % 8 == 0;
    int error = ours ? multiboot2_parse((u8 *)multiboot_info, INFO_MAX, &params) : -1;
    cmdline_parse(params.cmdline); // complaints go to the log ring
    console_init();                // shows the ring
    log_info("basalt: Basalt %s", basalt_version);
    cpu_init();  // features, descriptor tables, traps, control registers
    spec_init(); // speculation controls
    if (error)
        panic("the boot loader's information can't be used: boot with GRUB's `multiboot2` command");
    panic_show_previous();
    report();
    early_init(&params);                                       // what memory is taken
    paging_init();                                             // own tables; the low 4 GiB are gone
    asm volatile("movq %0, %%rsp; xorl %%ebp, %%ebp; call *%1" // backtraces end there
                 :
                 : "r"(boot_cpu.stack_top), "r"(boot_rest)
                 : "memory");
    __builtin_unreachable();
}
