// SPDX-License-Identifier: Apache-2.0
//
// The parser of the boot information: the input is the list of tags.
//
// sources: boot/multiboot2.c boot/memory_map.c

#include "tests/fuzz/fuzz.h"

#include "boot/boot.h"
#include "kernel/log.h"

void log_line(enum log_level level, const char *text, ...) { (void)level, (void)text; }

static void check_text(const char *text, size_t size) {
    require(memchr(text, 0, size));
    for (; *text; text++)
        require(*text >= ' ' && *text <= '~');
}

static void check_memory(const struct boot_params *p) {
    require(p->memory_count <= BOOT_MEMORY_MAX);
    for (u32 i = 0; i < p->memory_count; i++) {
        const struct boot_memory *m = &p->memory[i];
        require(m->base < m->end && m->end <= BIT(52));
        require(m->kind >= MEMORY_RAM && m->kind <= MEMORY_BAD);
        require(!i || m[-1].end <= m->base);
        require(m->kind != MEMORY_RAM || (m->base % PAGE_SIZE == 0 && m->end % PAGE_SIZE == 0));
    }
}

static void check(const struct boot_params *p) {
    check_memory(p);
    check_text(p->cmdline, sizeof(p->cmdline));
    check_text(p->loader, sizeof(p->loader));
    require(p->module_count <= BOOT_MODULES_MAX && p->rsdp_size <= sizeof(p->rsdp));
    for (u32 i = 0; i < p->module_count; i++) {
        require(p->modules[i].base % PAGE_SIZE == 0 && p->modules[i].size <= 0xffffffff);
        check_text(p->modules[i].cmdline, BOOT_NAME_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct boot_params params;
    u8 *info = malloc(8 + size);
    u32 total = (u32)size + 8;

    memcpy(info, &total, 4);
    memset(info + 4, 0, 4);
    if (size)
        memcpy(info + 8, data, size);
    memset(&params, 0, sizeof(params));
    if (multiboot2_parse(info, total, &params) == 0)
        check(&params);
    free(info);
    return 0;
}
