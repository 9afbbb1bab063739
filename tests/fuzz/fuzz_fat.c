// SPDX-License-Identifier: Apache-2.0
//
// The reader of FAT file systems. The input is the start of a disk of 64 MiB, which repeats it, so that also what lies
// far behind comes from the fuzzer; a sector that claims to be none of FAT's gets its signature.
//
// sources: dom0/toolstack/fat.c

#include "tests/fuzz/fuzz.h"

#include "toolstack/fat.h"

#define SECTOR 512u
#define DISK   (64u << 20)

static bool read_disk(void *context, u64 offset, u32 bytes, void *buffer) {
    const struct input *in = context;
    u64 sectors = (in->size + SECTOR - 1) / SECTOR;

    require(offset % SECTOR == 0 && bytes % SECTOR == 0 && offset <= DISK &&
            bytes <= DISK - offset);
    memset(buffer, 0, bytes);
    for (u32 at = 0; at < bytes && sectors; at += SECTOR) {
        u64 from = (offset + at) / SECTOR % sectors * SECTOR;
        size_t length = in->size - from < SECTOR ? in->size - from : SECTOR;
        memcpy((u8 *)buffer + at, in->data + from, length);
        if (from == 0)
            memcpy((u8 *)buffer + at + 510, "\x55\xaa", 2);
    }
    return true;
}

static void file(void *context, const char *name, const char *data, u32 bytes) {
    (void)context;
    require(memchr(name, 0, FAT_NAME_SIZE));
    volatile char sink = 0;
    for (u32 i = 0; data && i < bytes; i++)
        sink = data[i];
    (void)sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct fat_source source = {DISK, read_disk, &in};
    (void)!fat_read_root(&source, ".conf", 16384, file, NULL);
    return 0;
}
