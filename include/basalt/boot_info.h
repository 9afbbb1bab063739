// SPDX-License-Identifier: Apache-2.0
//
// What dom0 finds at its entry, and how the kernel finds dom0. From its second page on (the first is left to whatever
// kind of file it is; ours is an ELF) dom0's file is the image as it lies in memory, without zeros at its end, and begins
// with struct basalt_image. The kernel loads it at a 2 MiB aligned address below 4 GiB and enters it behind that structure, in
// 32-bit protected mode with paging off, flat segments and interrupts off: EAX = BASALT_BOOT_MAGIC, EBX = address of
// struct basalt_boot_info, EDX = load address. All addresses are the machine's, which are dom0's own: its second-level
// table is an identity map of what it may touch. dom0 has one vCPU, no local APIC and takes no interrupts: it scans its
// event page and calls BASALT_HC_BLOCK.

#pragma once

#include <stdint.h>

#define BASALT_BOOT_MAGIC   0xba5a1700u
#define BASALT_BOOT_MODULES 32
#define BASALT_BOOT_CMDLINE 1024

#define BASALT_IMAGE_MAGIC  0x306d6f64746c6173ull
#define BASALT_IMAGE_OFFSET 4096u // in the file

struct basalt_image {
    uint64_t magic; // BASALT_IMAGE_MAGIC
    uint32_t bytes; // in the file, from this structure on
    uint32_t size;  // in memory; zeros behind what is in the file
};
_Static_assert(sizeof(struct basalt_image) == 16, "ABI");

enum basalt_call_insn { BASALT_VMCALL = 0, BASALT_VMMCALL = 1 };

struct basalt_boot_module {
    uint64_t base, size; // bytes; the pages belong to dom0, the last one is zero beyond the size
    char name[112];      // the module's command line; its first word is its name
};

struct basalt_boot_info {
    uint32_t magic, abi_version;
    uint32_t size;       // of this structure, bytes
    uint32_t call_insn;  // enum basalt_call_insn
    uint64_t ram_base;   // one contiguous range, 2 MiB aligned; the image lies at its start
    uint64_t ram_size;   // bytes
    uint64_t image_size; // bytes from ram_base that the image, with .bss, takes up
    uint64_t event_page; // struct basalt_event_page
    uint64_t log_base;   // struct basalt_log, read-only
    uint64_t log_size;   // bytes, header included
    uint64_t trace_base; // struct basalt_trace of CPU 0, read-only; CPU n at + n * trace_size
    uint64_t trace_size; // bytes of one
    uint64_t acpi_root;  // ACPI's XSDT or RSDT, 0 if there is none
    uint64_t tsc_khz;    // TSC ticks per millisecond
    uint32_t cpus;
    uint32_t restarts; // how often dom0 was started before in this boot
    uint32_t iommu;    // 0: DMA of dom0's devices is not confined
    uint32_t module_count;
    uint32_t console_port; // of a 16550 that dom0 may drive, 0: none
    uint32_t console_baud; // 0: as it is set
    uint64_t memory_total; // bytes of RAM that the kernel manages
    uint64_t reserved[7];
    char cmdline[BASALT_BOOT_CMDLINE];
    struct basalt_boot_module modules[BASALT_BOOT_MODULES];
};
_Static_assert(sizeof(struct basalt_boot_module) == 128, "ABI");
_Static_assert(sizeof(struct basalt_boot_info) == 16 + 10 * 8 + 16 + 8 + 64 + 1024 + 32 * 128,
               "ABI");
