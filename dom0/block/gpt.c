// SPDX-License-Identifier: Apache-2.0
//
// GUID partition tables. Everything on the disk is unchecked input: a header counts only with its
// signature, its two checksums and all its fields within bounds; where the first does not, the
// backup at the disk's end is taken. Invariant: every partition in the result lies between the
// header's first and last usable sector and on the disk, and no two overlap.

#include "block/gpt.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE       0x5452415020494645ull // "EFI PART"
#define HEADER_MIN      92u
#define ENTRY_MIN       128u
#define ENTRY_MAX       4096u
#define TABLE_BYTES_MAX (1024 * 1024u)
#define NAME_UNITS      36u

struct header {
    u64 signature;
    u32 revision, header_bytes, header_crc, reserved;
    u64 my_sector, other_sector, first_usable, last_usable;
    u8 guid[16];
    u64 table_sector;
    u32 entry_count, entry_bytes, table_crc;
} __attribute__((packed));
SIZE_ASSERT(struct header, HEADER_MIN);

struct entry {
    u8 type[16], guid[16];
    u64 first, last, attributes;
    u16 name[NAME_UNITS];
} __attribute__((packed));
SIZE_ASSERT(struct entry, ENTRY_MIN);

struct reader {
    const struct gpt_source *source;
    void (*report)(void *context, const char *sentence);
    void *context;
    u8 *sector;  // one sector
    u8 *entries; // the table, whole sectors
    bool io_error;
};

__attribute__((format(printf, 2, 3))) static void say(struct reader *r, const char *format, ...) {
    char sentence[256];
    va_list args;
    if (!r->report)
        return;
    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    r->report(r->context, sentence);
}

u32 gpt_crc32(u32 crc, const void *data, size_t bytes) {
    static u32 table[256];
    for (u32 i = 0; table[255] == 0 && i < 256; i++) {
        u32 value = i;
        for (unsigned bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
        table[i] = value;
    }
    const u8 *p = data;
    crc = ~crc;
    for (size_t i = 0; i < bytes; i++)
        crc = crc >> 8 ^ table[(crc ^ p[i]) & 0xff];
    return ~crc;
}

// ---- texts ----

static void guid_text(const u8 *g, char text[GPT_GUID_TEXT]) {
    // The first three fields are little-endian.
    snprintf(text, GPT_GUID_TEXT,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", g[3], g[2],
             g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14],
             g[15]);
}

static size_t put_utf8(char *to, u32 c) {
    if (c >= 0x7f && c < 0xa0)
        c = '?'; // control characters, for a terminal
    if (c < 0x80) {
        to[0] = (char)(c < 0x20 ? '?' : c);
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f));
    to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

// At most three bytes per unit (a pair gives four), so that the result always fits.
static void name_text(const u16 *units, char text[GPT_NAME_BYTES]) {
    size_t used = 0;
    for (unsigned i = 0; i < NAME_UNITS && units[i]; i++) {
        u32 c = units[i];
        bool high = c >= 0xd800 && c < 0xdc00;
        if (high && i + 1 < NAME_UNITS && units[i + 1] >= 0xdc00 && units[i + 1] < 0xe000)
            c = 0x10000 + ((c - 0xd800) << 10) + (units[++i] - 0xdc00u);
        else if (c >= 0xd800 && c < 0xe000)
            c = 0xfffd;
        used += put_utf8(text + used, c);
    }
    text[used] = 0;
}
_Static_assert(NAME_UNITS * 3 + 1 <= GPT_NAME_BYTES, "every name fits");

// ---- header ----

static bool read_sectors(struct reader *r, u64 sector, u32 count, void *buffer) {
    if (r->source->read(r->source->context, sector, count, buffer))
        return true;
    r->io_error = true;
    return false;
}

// What is wrong with the header in r->sector, read from `sector`; NULL if nothing is.
static const char *header_fault(struct reader *r, struct header *h, u64 sector) {
    u64 sectors = r->source->sectors;
    memcpy(h, r->sector, sizeof(*h));
    if (h->signature != SIGNATURE)
        return "has no signature";
    if (h->header_bytes < HEADER_MIN || h->header_bytes > r->source->sector_size)
        return "has an impossible size";
    memset(r->sector + offsetof(struct header, header_crc), 0, 4);
    if (gpt_crc32(0, r->sector, h->header_bytes) != h->header_crc)
        return "has a wrong checksum";
    if (h->my_sector != sector)
        return "does not belong where it is";
    if (h->entry_bytes < ENTRY_MIN || h->entry_bytes > ENTRY_MAX || h->entry_bytes % 8 ||
        h->entry_count == 0 || h->entry_count > TABLE_BYTES_MAX / h->entry_bytes)
        return "describes an impossible table";
    u64 table_sectors = ((u64)h->entry_count * h->entry_bytes + r->source->sector_size - 1) /
                        r->source->sector_size;
    if (h->table_sector < 2 || h->table_sector >= sectors ||
        table_sectors > sectors - h->table_sector)
        return "puts its table outside the disk";
    if (h->first_usable > h->last_usable)
        return "leaves no usable sectors";
    if (h->first_usable < 2 ||
        (h->table_sector <= h->last_usable && h->first_usable < h->table_sector + table_sectors))
        return "lets partitions lie over itself or its table";
    return NULL;
}

// Reads a header and its table. Returns what is wrong, or NULL; r->entries is the table then.
static const char *read_table(struct reader *r, struct header *h, u64 sector) {
    if (!read_sectors(r, sector, 1, r->sector))
        return "can't be read";
    const char *fault = header_fault(r, h, sector);
    if (fault)
        return fault;
    u32 bytes = h->entry_count * h->entry_bytes, size = r->source->sector_size;
    u32 sectors = (bytes + size - 1) / size;
    free(r->entries);
    r->entries = malloc((size_t)sectors * size);
    if (!r->entries)
        return "needs more memory than there is";
    if (!read_sectors(r, h->table_sector, sectors, r->entries))
        return "has a table that can't be read";
    if (gpt_crc32(0, r->entries, bytes) != h->table_crc)
        return "has a table with a wrong checksum";
    return NULL;
}

// ---- entries ----

static const struct gpt_partition *overlapping(const struct gpt_table *table,
                                               const struct entry *e) {
    for (u32 i = 0; i < table->count; i++)
        if (e->first <= table->partitions[i].last && table->partitions[i].first <= e->last)
            return &table->partitions[i];
    return NULL;
}

static bool entry_usable(struct reader *r, const struct gpt_table *table, const struct header *h,
                         const struct entry *e, u32 number) {
    typedef unsigned long long ull;
    if (e->first > e->last) {
        say(r, "partition %u ends before it begins", number);
        return false;
    }
    if (e->last >= r->source->sectors) {
        say(r,
            "partition %u ends at sector %llu, but the disk has only %llu: "
            "it is shorter than its table says",
            number, (ull)e->last, (ull)r->source->sectors);
        return false;
    }
    if (e->first < h->first_usable || e->last > h->last_usable) {
        say(r, "partition %u (sectors %llu to %llu) lies outside the usable sectors %llu to %llu",
            number, (ull)e->first, (ull)e->last, (ull)h->first_usable, (ull)h->last_usable);
        return false;
    }
    const struct gpt_partition *other = overlapping(table, e);
    if (other)
        say(r, "partition %u overlaps partition %u", number, other->number);
    else if (table->count == GPT_PARTITIONS_MAX)
        say(r, "partition %u is one too many: %u can be used", number, GPT_PARTITIONS_MAX);
    return !other && table->count < GPT_PARTITIONS_MAX;
}

static void take_entries(struct reader *r, const struct header *h, struct gpt_table *table) {
    static const u8 unused[16];
    for (u32 i = 0; i < h->entry_count; i++) {
        struct entry e;
        memcpy(&e, r->entries + (size_t)i * h->entry_bytes, sizeof(e));
        if (memcmp(e.type, unused, sizeof(unused)) == 0)
            continue;
        if (!entry_usable(r, table, h, &e, i + 1)) {
            table->refused++;
            continue;
        }
        struct gpt_partition *p = &table->partitions[table->count++];
        p->number = i + 1;
        p->first = e.first;
        p->last = e.last;
        p->attributes = e.attributes;
        u16 name[NAME_UNITS];
        memcpy(name, e.name, sizeof(name));
        name_text(name, p->name);
        guid_text(e.type, p->type);
        guid_text(e.guid, p->guid);
    }
}

static enum gpt_result read_either(struct reader *r, struct gpt_table *table) {
    struct header h = {0};
    u64 last = r->source->sectors - 1;
    const char *fault = read_table(r, &h, 1);
    bool no_first = fault && h.signature != SIGNATURE && !r->io_error;
    if (fault) {
        const char *backup_fault = read_table(r, &h, last);
        if (backup_fault && no_first && h.signature != SIGNATURE)
            return r->io_error ? GPT_EIO : GPT_NONE;
        say(r, "the partition table's header %s", fault);
        if (backup_fault) {
            say(r, "and the backup at the end of the disk %s", backup_fault);
            return r->io_error ? GPT_EIO : GPT_BROKEN;
        }
        say(r, "its backup is used: repair it, for example with \"sgdisk -e\" or \"gdisk\"");
        table->from_backup = true;
    }
    if (!table->from_backup && h.other_sector >= r->source->sectors)
        say(r,
            "the disk is shorter than its table says: "
            "the backup table should be at sector %llu of %llu",
            (unsigned long long)h.other_sector, (unsigned long long)r->source->sectors);
    guid_text(h.guid, table->guid);
    take_entries(r, &h, table);
    return GPT_OK;
}

enum gpt_result gpt_read(const struct gpt_source *source, struct gpt_table *table,
                         void (*report)(void *context, const char *sentence), void *context) {
    memset(table, 0, sizeof(*table));
    if (source->sectors < 6 || (source->sector_size != 512 && source->sector_size != 4096))
        return GPT_NONE;
    struct reader r = {.source = source, .report = report, .context = context};
    r.sector = malloc(source->sector_size);
    enum gpt_result result = r.sector ? read_either(&r, table) : GPT_NOMEM;
    free(r.sector);
    free(r.entries);
    return result;
}
