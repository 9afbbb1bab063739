// SPDX-License-Identifier: Apache-2.0
//
// Fuzzer of the guests' boot loaders. The input's first bytes choose the protocol, the guest's
// memory and the sizes of its other files, and turn the rest into something that looks like a
// kernel; every plan must keep the promises of loader.h.
//
// sources: dom0/toolstack/loader.c dom0/toolstack/loader_linux.c dom0/toolstack/loader_elf.c
// sources: dom0/toolstack/loader_pvh.c dom0/toolstack/loader_multiboot.c
// sources: dom0/toolstack/loader_multiboot2.c dom0/toolstack/text.c dom0/toolstack/config.c
// sources: dom0/toolstack/config_value.c

#include "tests/fuzz/fuzz.h"

#include "../unit/loader_image.h"

static u8 file_bytes[2][8 * MIB];

bool guest_write(struct guest_memory *m, u64 gpa, const void *from, u64 bytes) {
    (void)m, (void)gpa, (void)from, (void)bytes;
    return true;
}

bool guest_fill(struct guest_memory *m, u64 gpa, u8 value, u64 bytes) {
    (void)m, (void)gpa, (void)value, (void)bytes;
    return true;
}

// Puts magic numbers where a loader looks for them, so that the fuzzer need not find them itself.
static void disguise(u8 *kernel, size_t bytes, unsigned as) {
    if (as == 1 && bytes > 0x264) {
        memcpy(kernel + 0x202, "HdrS", 4);
        image_put(kernel + 0x1fe, 0xaa55, 2);
        image_put(kernel + 0x206, 0x020f, 2);
        kernel[0x236] |= 1;
    }
    if ((as == 2 || as == 3) && bytes > 64) {
        memcpy(kernel, "\177ELF", 4);
        kernel[4] = (u8)(as - 1);
        kernel[5] = 1;
        image_put(kernel + 18, 62, 2);
        image_put(kernel + (as == 3 ? 54 : 42), as == 3 ? 56 : 32, 2);
    }
    if (as == 4 && bytes > 16) {
        image_put(kernel, 0x1badb002, 4);
        image_put(kernel + 8, 0u - 0x1badb002 - loader_u32(kernel + 4), 4);
    }
    if (as == 5 && bytes > 16) {
        image_put(kernel, 0xe85250d6, 4);
        image_put(kernel + 4, 0, 4);
        image_put(kernel + 12, 0u - 0xe85250d6 - loader_u32(kernel + 8), 4);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct loader_plan plan;
    static const u64 memories[] = {MIB,     2 * MIB, 16 * MIB, 64 * MIB,
                                   3 * GIB, 4 * GIB, 8 * GIB,  1024 * GIB};
    struct machine_memory_range map[MACHINE_MEMORY_RANGES];
    static const u8 rsdp[LOADER_RSDP_SIZE];
    if (size < 6) {
        data = (const uint8_t[6]){0};
        size = 6;
    }
    struct loader_file module = {"module", file_bytes[1], (u64)data[3] * 32768, "module words"};
    struct loader_input input = {
        .kernel = {"kernel", NULL, size - 6, ""},
        .modules = &module,
        .module_count = data[4] & 1,
        .cmdline = data[4] & 2 ? "a command line" : "",
        .protocol = data[0] % 5,
        .memory = memories[data[1] % ARRAY_SIZE(memories)],
        .map = map,
        .rsdp = 0xe0000,
        .rsdp_copy = data[4] & 4 ? rsdp : NULL,
    };
    if (data[4] & 8)
        input.initrd = (struct loader_file){"initrd", file_bytes[0], (u64)data[2] * 32768, ""};
    u8 *kernel = exact_copy(data + 6, size - 6);
    disguise(kernel, size - 6, data[5] % 6);
    input.kernel.data = kernel;
    input.map_count = image_memory_map(map, input.memory);
    if (loader_make_plan(&input, &plan))
        require(image_plan_sound(&input, &plan) && loader_carry_out(&plan, NULL));
    else
        require(plan.error[0] && memchr(plan.error, 0, sizeof(plan.error)));
    free(kernel);
    return 0;
}
