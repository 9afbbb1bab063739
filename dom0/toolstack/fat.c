// SPDX-License-Identifier: Apache-2.0
//
// FAT: boot sector, table, root folder.

#include "toolstack/fat.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SECTOR          512u
#define ENTRY           32u
#define ATTRIBUTE_LONG  0x0fu // part of a long name
#define ATTRIBUTE_OTHER 0x18u // a folder or the volume's name
#define LONG_LETTERS    13u

struct fat {
    const struct fat_source *source;
    unsigned width; // bits of an entry of the table: 12, 16, 32
    u32 cluster_bytes;
    u32 clusters;    // their numbers are 2 to clusters + 1
    u64 table, data; // offsets of the table and of cluster 2
    u64 root;        // offset of the root folder, FAT12 and 16
    u32 root_bytes, root_cluster;
    u64 cached; // offset of the sector in `sector`
    u8 sector[SECTOR];
    // The long name whose parts are being collected.
    char name[FAT_NAME_SIZE];
    unsigned parts_left;
};

static u16 get16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static u32 get32(const u8 *p) { return (u32)get16(p) | (u32)get16(p + 2) << 16; }

// Copies bytes of the file system, sector by sector.
static bool read_bytes(struct fat *f, u64 offset, u32 bytes, void *to) {
    u8 *out = to;
    if (offset > f->source->bytes || bytes > f->source->bytes - offset)
        return false;
    while (bytes > 0) {
        u64 base = offset & ~(u64)(SECTOR - 1);
        u32 skip = (u32)(offset - base), piece = MIN(bytes, SECTOR - skip);
        if (base != f->cached) {
            f->cached = ~0ull;
            if (!f->source->read(f->source->context, base, SECTOR, f->sector))
                return false;
            f->cached = base;
        }
        memcpy(out, f->sector + skip, piece);
        out += piece;
        offset += piece;
        bytes -= piece;
    }
    return true;
}

static const char *read_header(struct fat *f) {
    u8 b[SECTOR];
    if (!read_bytes(f, 0, SECTOR, b))
        return "its first sector can't be read";
    u32 sector = get16(b + 11), reserved = get16(b + 14), tables = b[16], entries = get16(b + 17);
    u32 total = get16(b + 19) ? get16(b + 19) : get32(b + 32);
    u32 table_sectors = get16(b + 22) ? get16(b + 22) : get32(b + 36);
    if (get16(b + 510) != 0xaa55 || sector < 512 || sector > 4096 || (sector & (sector - 1)) ||
        !b[13] || (b[13] & (b[13] - 1)) || !reserved || !tables || !table_sectors)
        return "it holds no FAT file system";
    u64 root_sectors = (entries * ENTRY + sector - 1) / sector;
    u64 data_sector = reserved + (u64)tables * table_sectors + root_sectors;
    if (data_sector >= total || (u64)total * sector > f->source->bytes)
        return "its FAT file system is larger than the partition, or damaged";
    f->cluster_bytes = sector * b[13];
    f->clusters = (u32)((total - data_sector) / b[13]);
    f->width = f->clusters < 4085 ? 12 : f->clusters < 65525 ? 16 : 32;
    f->table = (u64)reserved * sector;
    f->root = (reserved + (u64)tables * table_sectors) * sector;
    f->root_bytes = entries * ENTRY;
    f->root_cluster = f->width == 32 ? get32(b + 44) : 0;
    f->data = data_sector * sector;
    return (f->clusters + 2ull) * f->width / 8 > (u64)table_sectors * sector
               ? "its table is too short"
               : NULL;
}

// The cluster after `cluster`; 0 at the chain's end and where it is damaged.
static u32 next_cluster(struct fat *f, u32 cluster) {
    u8 b[4] = {0};
    u64 bit = (u64)cluster * f->width;
    if (!read_bytes(f, f->table + bit / 8, f->width == 32 ? 4 : 2, b))
        return 0;
    u32 value = get32(b);
    if (f->width == 12)
        value = (bit % 8 ? value >> 4 : value) & 0xfff;
    value &= 0x0fffffff;
    return value >= 2 && value < f->clusters + 2 ? value : 0;
}

// Copies up to `bytes` bytes of a chain; returns how many there were.
static u32 read_chain(struct fat *f, u32 cluster, u32 bytes, u8 *to) {
    u32 done = 0;
    while (done < bytes && cluster >= 2 && cluster < f->clusters + 2) {
        u32 piece = MIN(bytes - done, f->cluster_bytes);
        if (!read_bytes(f, f->data + (u64)(cluster - 2) * f->cluster_bytes, piece, to + done))
            break;
        done += piece;
        cluster = next_cluster(f, cluster);
    }
    return done;
}

// ---- names ----

// A part of a long name; they come last part first.
static void take_long_part(struct fat *f, const u8 *e) {
    static const u8 places[LONG_LETTERS] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
    unsigned number = e[0] & 0x1f;
    if (e[0] & 0x40) {
        memset(f->name, 0, sizeof(f->name));
        f->parts_left = number + 1;
    }
    if (number == 0 || f->parts_left != number + 1) {
        f->parts_left = 0;
        return;
    }
    f->parts_left = number;
    for (unsigned i = 0; i < LONG_LETTERS; i++) {
        u16 letter = get16(e + places[i]);
        size_t at = (number - 1) * LONG_LETTERS + i;
        if (letter == 0 || letter == 0xffff || at + 1 >= sizeof(f->name))
            break;
        f->name[at] = letter < 0x20 || letter > 0x7e ? '?' : (char)letter;
    }
}

// The name of an entry: the long one that came before it, or its own eight and three letters.
static void make_name(struct fat *f, const u8 *e) {
    size_t used = 0;
    if (f->parts_left == 1)
        return;
    for (unsigned i = 0; i < 11; i++) {
        if (i == 8 && e[8] != ' ')
            f->name[used++] = '.';
        if (e[i] > ' ' && e[i] < 0x7f)
            f->name[used++] = (char)(e[i] >= 'A' && e[i] <= 'Z' ? e[i] + 32 : e[i]);
    }
    f->name[used] = 0;
}

// ---- the root folder ----

static bool ends_in(const char *name, const char *suffix) {
    size_t n = strlen(name), s = strlen(suffix);
    return n > s && strcasecmp(name + n - s, suffix) == 0;
}

struct wanted {
    const char *suffix;
    u32 most;
    void (*file)(void *context, const char *name, const char *data, u32 bytes);
    void *context;
};

static void take_file(struct fat *f, const u8 *e, const struct wanted *w) {
    u32 bytes = get32(e + 28), cluster = (u32)get16(e + 20) << 16 | get16(e + 26);
    make_name(f, e);
    if (!ends_in(f->name, w->suffix))
        return;
    u8 *data = bytes <= w->most ? malloc(bytes + 1) : NULL;
    bool whole = data &&
                 read_chain(f, f->width == 32 ? cluster : cluster & 0xffff, bytes, data) == bytes;
    w->file(w->context, f->name, whole ? (const char *)data : NULL, bytes);
    free(data);
}

const char *fat_read_root(const struct fat_source *source, const char *suffix, u32 most,
                          void (*file)(void *context, const char *name, const char *data,
                                       u32 bytes),
                          void *context) {
    struct fat f = {.source = source, .cached = ~0ull};
    struct wanted w = {suffix, most, file, context};
    const char *wrong = read_header(&f);
    if (wrong)
        return wrong;
    u8 *folder = calloc(FAT_ENTRIES_MAX, ENTRY);
    if (!folder)
        return "dom0 has no memory left to read it";
    u32 bytes = MIN(f.root_bytes, FAT_ENTRIES_MAX * ENTRY);
    if (f.width == 32)
        bytes = read_chain(&f, f.root_cluster, FAT_ENTRIES_MAX * ENTRY, folder);
    else if (!read_bytes(&f, f.root, bytes, folder))
        bytes = 0;
    for (u32 at = 0; at + ENTRY <= bytes && folder[at]; at += ENTRY) {
        const u8 *e = folder + at;
        if ((e[11] & 0x3f) == ATTRIBUTE_LONG && e[0] != 0xe5) {
            take_long_part(&f, e);
            continue;
        }
        if (e[0] != 0xe5 && !(e[11] & ATTRIBUTE_OTHER))
            take_file(&f, e, &w);
        f.parts_left = 0;
    }
    free(folder);
    return bytes ? NULL : "its root folder can't be read";
}
