// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the partition table reader: the input is the start of a disk. Both checksums of the first
// header are put right when they can be, so that the fuzzer gets behind them.
//
// sources: dom0/block/gpt.c

#include "tests/fuzz/fuzz.h"

#include "block/gpt.h"

struct disk {
    u8 *data;
    u64 sectors;
    u32 sector_size;
};

static bool read_disk(void *context, u64 sector, u32 count, void *buffer) {
    struct disk *in = context;
    if (count == 0 || sector >= in->sectors || count > in->sectors - sector)
        abort();
    memcpy(buffer, in->data + sector * in->sector_size, (size_t)count * in->sector_size);
    return true;
}

static void repair(struct disk *in) {
    u8 *header = in->data + in->sector_size;
    u64 table, zero = 0;
    u32 count, bytes;
    memcpy(header, "EFI PART", 8);
    memcpy(&table, header + 72, 8);
    memcpy(&count, header + 80, 4);
    memcpy(&bytes, header + 84, 4);
    u64 total = (u64)count * bytes, room = in->sectors * in->sector_size;
    if (table < in->sectors && total <= room - table * in->sector_size) {
        u32 crc = gpt_crc32(0, in->data + table * in->sector_size, total);
        memcpy(header + 88, &crc, 4);
    }
    u32 header_bytes;
    memcpy(&header_bytes, header + 12, 4);
    if (header_bytes <= in->sector_size) {
        memcpy(header + 16, &zero, 4);
        u32 crc = gpt_crc32(0, header, header_bytes);
        memcpy(header + 16, &crc, 4);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) {
        data = (const uint8_t *)"";
        size = 1;
    }
    // The first byte chooses; the rest comes to lie from the header on, and a short disk is filled
    // up with zeros.
    struct disk in = {.sector_size = data[0] & 1 ? 4096 : 512};
    in.sectors = 64 + size / in.sector_size;
    in.data = calloc(in.sectors, in.sector_size);
    memcpy(in.data + in.sector_size, data + 1, size - 1);
    if (data[0] & 2)
        repair(&in);
    struct gpt_source source = {in.sectors, in.sector_size, read_disk, &in};
    static struct gpt_table table;
    (void)gpt_read(&source, &table, NULL, NULL);
    for (u32 i = 0; i < table.count; i++)
        if (table.partitions[i].first > table.partitions[i].last ||
            table.partitions[i].last >= in.sectors)
            abort();
    free(in.data);
    return 0;
}
