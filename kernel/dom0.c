// SPDX-License-Identifier: Apache-2.0
//
// Building dom0: its memory is one contiguous range below 4 GiB with the image at the start and the boot
// information at the end; around it, in the same identity map, the boot modules, its devices' BARs, the firmware's
// tables and the kernel's log and trace rings, the last two read-only. The image stays where the boot loader put it,
// for a later restart.

#include "arch/acpi.h"
#include "arch/paging.h"
#include "boot/boot.h"
#include "drivers/pci.h"
#include "kernel/cmdline.h"
#include "kernel/console.h"
#include "kernel/event.h"
#include "kernel/interrupt.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/schedule.h"
#include "kernel/trace.h"

#define DOM0_MEMORY_DEFAULT (64 * MIB)
#define DOM0_MEMORY_MIN     (8 * MIB)
#define DOM0_MEMORY_LIMIT   (4 * GIB) // below which it lies
#define DOM0_WEIGHT         1024u
#define RTC_PORT            0x70u // index and data
#define KERNEL_PORT         0xcf8u
#define KERNEL_PORTS        8u
#define INFO_BYTES          ALIGN_UP(sizeof(struct basalt_boot_info), PAGE_SIZE)

static u8 io_bitmap[3 * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

// The kernel's own, configuration space and the reset, are no one's, whatever a table or a BAR says.
static void allow_ports(u64 first, u64 count) {
    for (u64 port = first; first && port < first + count && port < 0x10000; port++)
        if (port - KERNEL_PORT >= KERNEL_PORTS)
            io_bitmap[port / 8] &= (u8) ~(1u << port % 8);
}

static int give_modules(struct domain *d, const struct boot_params *boot,
                        struct basalt_boot_info *info) {
    for (u32 i = 1; i < boot->module_count && info->module_count < BASALT_BOOT_MODULES; i++) {
        const struct boot_module *m = &boot->modules[i];
        struct basalt_boot_module *out = &info->modules[info->module_count];
        u64 end = m->base + m->size, bytes = ALIGN_UP(m->size, PAGE_SIZE);
        if (!m->size)
            continue;
        memset(slot_map(0, HPA(end)), 0, m->base + bytes - end);
        frames_adopt(d->owner, HPA(m->base), bytes);
        if (memory_give(d, HPA(m->base), bytes))
            return -1;
        *out = (struct basalt_boot_module){.base = m->base, .size = m->size};
        format(out->name, sizeof(out->name), "%s", m->cmdline);
        info->module_count++;
    }
    return 0;
}

static void map_read_only(struct domain *d, u64 base, u64 bytes) {
    for (u64 at = ALIGN_DOWN(base, PAGE_SIZE); at < base + bytes; at += PAGE_SIZE) {
        int error = memory_map_identity(d, HPA(at), PAGE_SIZE, EPT_READ);
        if (error && error != -BASALT_EEXIST)
            log_warn("dom0: 0x%lx can't be mapped: error %u", at, (unsigned)-error);
    }
}

// Firmware's memory, as far as it is no RAM.
static void map_firmware(struct domain *d, u64 base, u64 bytes) {
    for (u64 at = ALIGN_DOWN(base, PAGE_SIZE); at < base + bytes; at += PAGE_SIZE)
        if (!boot_is_ram(at, at + PAGE_SIZE))
            map_read_only(d, at, PAGE_SIZE);
}

static void give_firmware_tables(struct domain *d, const struct boot_params *boot) {
    map_firmware(d, 0xe0000, 0x20000); // where some BIOS keeps them
    for (u32 i = 0; i < boot->memory_count; i++) {
        const struct boot_memory *m = &boot->memory[i];
        if (m->kind == MEMORY_ACPI_RECLAIM || m->kind == MEMORY_ACPI_NVS)
            map_firmware(d, m->base, m->end - m->base);
    }
    if (acpi.dsdt) // some firmware keeps it in plain reserved memory
        map_firmware(d, acpi.dsdt, 64 * KIB);
}

static void give_function(struct domain *d, struct pci_function *fn) {
    int error = device_assign(d, fn);

    if (error)
        log_warn("dom0: PCI %02x:%02x.%u can't be given: error %u", fn->bdf >> 8, fn->bdf >> 3 & 31,
                 fn->bdf & 7, (unsigned)-error);
    for (unsigned bar = 0; bar < ARRAY_SIZE(fn->bars) && !error; bar++)
        if (fn->bars[bar].io)
            allow_ports(fn->bars[bar].base, fn->bars[bar].size);
}

static void give_devices(struct domain *d) {
    memset(io_bitmap, 0xff, sizeof(io_bitmap));
    for (struct pci_function *fn = pci_functions; fn < pci_functions + pci_function_count; fn++)
        give_function(d, fn);
    allow_ports(console.port, 8);
    allow_ports(RTC_PORT, 2);
    allow_ports(acpi.pm1a_control, 2);
    allow_ports(acpi.pm1b_control, 2);
    allow_ports(0x8900, 1); // Bochs' shutdown port; nothing on other machines
    if (options.testexit)
        allow_ports(0xf4, 4); // QEMU's debug exit
    d->io_bitmap = io_bitmap;
}

static void fill_info(struct basalt_boot_info *info, const struct domain *d,
                      const struct basalt_image *image, u64 base, u64 size) {
    *info = (struct basalt_boot_info){
        .magic = BASALT_BOOT_MAGIC,
        .abi_version = BASALT_ABI_VERSION,
        .size = sizeof(*info),
        .call_insn = backend->vmx ? BASALT_VMCALL : BASALT_VMMCALL,
        .ram_base = base,
        .ram_size = size - INFO_BYTES,
        .image_size = ALIGN_UP(image->size, PAGE_SIZE),
        .event_page = pool_hpa(d->events).v,
        .log_base = kernel_virt_to_hpa(log_ring()).v,
        .log_size = ALIGN_UP(sizeof(struct basalt_log) + log_ring()->bytes, PAGE_SIZE),
        .trace_base = kernel_virt_to_hpa(this_cpu()->trace).v,
        .trace_size = TRACE_PAGES * PAGE_SIZE,
        .acpi_root = acpi.root,
        .tsc_khz = tsc_khz,
        .cpus = 1,
        .console_port = console.port,
        .console_baud = console.baud,
    };
}

#define DATA_SEGMENT \
    { .limit = 0xffffffff, .selector = 0x10, .attributes = 0xc093 }

static int enter(struct domain *d, u64 base, u64 info) {
    const struct basalt_vcpu_state state = {
        .rip = base + sizeof(struct basalt_image),
        .rflags = 2,
        .cr0 = CR0_PE | CR0_ET | CR0_NE,
        .gprs = {[BASALT_RAX] = BASALT_BOOT_MAGIC, [BASALT_RBX] = info, [BASALT_RDX] = base},
        .segments = {[BASALT_ES] = DATA_SEGMENT,
                     [BASALT_CS] = {.limit = 0xffffffff, .selector = 8, .attributes = 0xc09b},
                     [BASALT_SS... BASALT_GS] = DATA_SEGMENT,
                     [BASALT_LDTR] = {.limit = 0xffff, .attributes = 0x10082},
                     [BASALT_TR] = {.limit = 0xffff, .attributes = 0x8b}},
    };

    d->vcpus[0]->lapic.apic_base = 0; // no local APIC: events only
    return vcpu_set_state(d->vcpus[0], &state);
}

// Everything that is charged to dom0 and given to it, once its memory is there.
static int furnish(struct domain *d, const struct boot_params *boot,
                   const struct basalt_image *image, hpa_t base, u64 size) {
    static struct basalt_boot_info info; // too big for the stack
    u64 info_address = base.v + size - INFO_BYTES;

    if (memory_give(d, base, size) || events_init(d) ||
        !handle_create(d, NULL, BASALT_RIGHTS_MACHINE))
        return -1;
    fill_info(&info, d, image, base.v, size);
    info.memory_total = boot->ram_bytes;
    format(info.cmdline, sizeof(info.cmdline), "%s", boot->modules[0].cmdline);
    give_devices(d);
    if (give_modules(d, boot, &info) || vcpu_create(d, 0))
        return -1;
    give_firmware_tables(d, boot);
    map_read_only(d, info.log_base, info.log_size);
    map_read_only(d, info.trace_base, info.trace_size);
    if (memory_write(d, GPA(info_address), &info, sizeof(info)))
        return -1;
    return enter(d, base.v, info_address);
}

void dom0_build(const struct boot_params *boot) {
    const struct boot_module *file = &boot->modules[0];
    struct basalt_image image;
    struct domain *d;

    if (!boot->module_count)
        refuse("add `module2 /boot/dom0.elf dom0` to the boot entry",
               "there is no dom0: the boot loader gave no module");
    memcpy(&image, slot_map(0, HPA(file->base + BASALT_IMAGE_OFFSET)), sizeof(image));
    const char *wrong = image_check(&image, file->size);
    if (wrong)
        refuse("make dom0.elf the first module, and copy it again if it was damaged",
               "the first module (\"%.32s\") is no usable dom0: %s", file->cmdline, wrong);
    u64 size = options.dom0_mem ? options.dom0_mem : DOM0_MEMORY_DEFAULT;
    size = ALIGN_UP(MAX(MIN(size, DOM0_MEMORY_LIMIT), MAX(DOM0_MEMORY_MIN, image.size + 4 * MIB)),
                    SUPERPAGE_SIZE);
    if (domain_create(boot->ram_bytes, &d))
        refuse("give the machine more memory", "there is too little memory for dom0's structures");
    hpa_t base = frame_alloc_run(d->owner, size, DOM0_MEMORY_LIMIT);
    if (base.v == HPA_NONE.v)
        refuse("give the machine more memory, or dom0 less with dom0_mem=",
               "there are no %lu MiB of contiguous memory below 4 GiB for dom0", size / MIB);
    d->identity = true;
    domain_schedule(d, DOM0_WEIGHT, 0);
    d->info.tsc_offset = 0;  // dom0's clock is the machine's
    memory_zero(base, size); // nothing of former owners shows
    for (u64 at = 0, from = file->base + BASALT_IMAGE_OFFSET; at < image.bytes; at += PAGE_SIZE)
        memcpy(slot_map(0, HPA(base.v + at)), slot_map(1, HPA(from + at)),
               MIN(PAGE_SIZE, image.bytes - at));
    if (furnish(d, boot, &image, base, size))
        refuse("give the machine more memory",
               "there is too little memory for dom0's tables and modules");
    log_info("basalt: dom0: %lu MiB at 0x%lx, image %lu KiB, %u modules", size / MIB, base.v,
             image.size / KIB, boot->module_count - 1);
    (void)domain_control(d, BASALT_OP_RESUME);
}
