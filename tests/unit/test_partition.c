// SPDX-License-Identifier: Apache-2.0
//
// The block layer over a disk of the test's own: chunks, turns among partitions, errors, claims,
// names, partition scans.
//
// sources: tests/unit/dom0_host.c dom0/block/block.c dom0/block/claim.c dom0/block/partition.c dom0/block/gpt.c
// sources: dom0/lib/event.c dom0/lib/timer.c dom0/lib/console.c dom0/lib/log.c dom0/lib/kernel_log.c dom0/lib/boot.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0_host.h"

#include "block/block.h"
#include "lib/event.h"
#include "lib/log.h"
#include "lib/timer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE 4u

// A disk that answers when told to, up to QUEUE chunks at a time. Devices are for ever, so each
// test makes its own: "d<n>" with the partitions "d<n>p1" and "d<n>p2".
static struct {
    struct block_device disk, parts[2];
    u8 *data;
    struct block_request *queue[QUEUE];
    u32 depth, chunks, most_pieces;
    enum block_status answer;
    u64 bad_sector;
    bool automatic;
} * t;
static unsigned disk_number;

static void transfer(struct block_request *r) {
    struct block_walk walk;
    void *data;
    u64 bytes, at = r->chunk_sector * t->disk.sector_size;
    u32 pieces = 0;
    block_walk_begin(&walk, r);
    while (block_walk_next(&walk, &data, &bytes)) {
        assert_true(bytes <= t->disk.max_segment_bytes);
        assert_true(at + bytes <= t->disk.sectors * t->disk.sector_size);
        if (r->op == BLOCK_READ)
            memcpy(data, t->data + at, bytes);
        else
            memcpy(t->data + at, data, bytes);
        at += bytes;
        pieces++;
    }
    assert_int_equal(at, r->chunk_sector * t->disk.sector_size + r->chunk_bytes);
    assert_true(pieces <= t->disk.max_segments && r->chunk_bytes <= t->disk.max_bytes);
    t->most_pieces = MAX(t->most_pieces, pieces);
}

static void answer_one(u32 index) {
    struct block_request *r = t->queue[index];
    t->queue[index] = t->queue[--t->depth];
    u64 sectors = r->chunk_bytes / t->disk.sector_size;
    enum block_status status = t->answer;
    if (t->bad_sector && t->bad_sector - r->chunk_sector < sectors)
        status = BLOCK_EIO;
    if (status == BLOCK_OK)
        transfer(r);
    block_complete(r, status);
}

static bool start(struct block_device *disk, struct block_request *r) {
    assert_ptr_equal(disk, &t->disk);
    if (t->depth == QUEUE)
        return false;
    t->chunks++;
    t->queue[t->depth++] = r;
    if (t->automatic)
        answer_one(0);
    return true;
}

static const struct block_driver_ops ops = {.start = start};

static u32 done_count;
static struct block_request *done_order[256];

static void done(struct block_request *r) { done_order[done_count++ % 256] = r; }

static void make_partition(unsigned index, const char *label, u64 first, u64 sectors) {
    struct block_device *p = &t->parts[index];
    snprintf(p->name, sizeof(p->name), "d%up%u", disk_number, index + 1);
    snprintf(p->label, sizeof(p->label), "%s%u", label, disk_number);
    p->first_sector = first;
    p->sectors = sectors;
    p->sector_size = t->disk.sector_size;
    block_register_partition(&t->disk, p);
}

static void make_disk(u64 sectors) {
    t = calloc(1, sizeof(*t));
    t->automatic = true;
    t->disk.ops = &ops;
    t->disk.sectors = sectors;
    t->disk.sector_size = 512;
    t->disk.max_segments = 5;
    t->disk.max_segment_bytes = 1024;
    t->disk.max_bytes = 4096;
    t->disk.flush = true;
    t->data = calloc(sectors, 512);
    snprintf(t->disk.name, sizeof(t->disk.name), "d%u", ++disk_number);
    block_register(&t->disk);
}

static int setup(void **state) {
    (void)state;
    host_reset();
    event_init();
    make_disk(1000);
    make_partition(0, "alpha", 100, 50);
    make_partition(1, "beta", 200, 100);
    done_count = 0;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(t->data);
    return 0;
}

static void run(void) {
    while (event_pass(false))
        continue;
}

static u8 buffer[65536] __attribute__((aligned(4096)));

static struct block_request make(struct block_device *device, enum block_op op, u64 sector,
                                 const struct block_segment *segments, u32 count) {
    return (struct block_request){.device = device,
                                  .op = op,
                                  .sector = sector,
                                  .segments = segments,
                                  .segment_count = count,
                                  .done = done};
}

static void big_and_scattered(void **state) {
    (void)state;
    for (unsigned i = 0; i < sizeof(buffer); i++)
        buffer[i] = (u8)(i * 13 + i / 512);
    // 20 sectors in pieces that fit nothing: 4, 4096 - 4, 2048 + 100, 100 less, an empty one, ...
    static const u64 sizes[] = {4, 4092, 2148, 0, 412, 3584};
    struct block_segment segments[6];
    u64 at = 0;
    for (unsigned i = 0; i < 6; i++) {
        segments[i] = (struct block_segment){buffer + at, sizes[i]};
        at += sizes[i];
    }
    struct block_request r = make(&t->parts[0], BLOCK_WRITE, 7, segments, 6);
    block_submit(&r);
    assert_int_equal(done_count, 0); // never from within submit
    run();
    assert_int_equal(done_count, 1);
    assert_int_equal(r.status, BLOCK_OK);
    assert_memory_equal(t->data + 107 * 512, buffer, at);
    assert_true(t->chunks >= 3);
    static u8 back[32768] __attribute__((aligned(8)));
    assert_int_equal(block_read(&t->parts[0], 7, back, 20 * 512), BLOCK_OK);
    assert_memory_equal(back, buffer, 20 * 512);
    assert_int_equal(block_write(&t->disk, 0, buffer, sizeof(buffer)), BLOCK_OK);
    assert_memory_equal(t->data, buffer, sizeof(buffer));
    assert_int_equal(t->parts[0].bytes_written, 20 * 512);
    assert_int_equal(t->parts[0].reads, 1);
}

static enum block_status outcome(struct block_request r) {
    u32 before = done_count;
    block_submit(&r);
    run();
    assert_int_equal(done_count, before + 1);
    return r.status;
}

static void bounds(void **state) {
    (void)state;
    struct block_device *p = &t->parts[0];
    struct block_segment one = {buffer, 512}, two = {buffer, 1024}, odd = {buffer + 1, 512},
                         cut = {buffer, 516}, none = {buffer, 0},
                         huge[3] = {{buffer, ~3ull}, {buffer, ~3ull}, {buffer, 8}};
    assert_int_equal(outcome(make(p, BLOCK_READ, 49, &one, 1)), BLOCK_OK);
    assert_int_equal(outcome(make(p, BLOCK_READ, 49, &two, 1)), BLOCK_ERANGE);
    assert_int_equal(outcome(make(p, BLOCK_READ, 50, &one, 1)), BLOCK_ERANGE);
    assert_int_equal(outcome(make(p, BLOCK_WRITE, ~0ull, &one, 1)), BLOCK_ERANGE);
    assert_int_equal(outcome(make(p, BLOCK_WRITE, ~0ull - 1, &two, 1)), BLOCK_ERANGE);
    assert_int_equal(outcome(make(p, BLOCK_READ, 0, &odd, 1)), BLOCK_EINVAL);
    assert_int_equal(outcome(make(p, BLOCK_READ, 0, &cut, 1)), BLOCK_EINVAL);
    assert_int_equal(outcome(make(p, BLOCK_READ, 0, &none, 1)), BLOCK_EINVAL);
    assert_int_equal(outcome(make(p, BLOCK_READ, 0, NULL, 0)), BLOCK_EINVAL);
    assert_int_equal(outcome(make(p, BLOCK_READ, 0, huge, 3)), BLOCK_EINVAL);
    assert_int_equal(outcome(make(p, (enum block_op)9, 0, &one, 1)), BLOCK_EINVAL);
    p->read_only = true;
    assert_int_equal(outcome(make(p, BLOCK_WRITE, 0, &one, 1)), BLOCK_EREADONLY);
    assert_int_equal(outcome(make(p, BLOCK_FLUSH, 0, NULL, 0)), BLOCK_OK);
    // Crumbs: not one sector in as many pieces as the disk takes.
    struct block_segment crumbs[128];
    for (unsigned i = 0; i < 128; i++)
        crumbs[i] = (struct block_segment){buffer + 4 * i, 4};
    assert_int_equal(outcome(make(p, BLOCK_READ, 0, crumbs, 128)), BLOCK_EINVAL);
}

// A disk whose chunks must be runs of pages.
static void page_runs(void **state) {
    (void)state;
    t->disk.page_runs = true;
    t->disk.max_segment_bytes = MIB;
    t->disk.max_bytes = MIB;
    struct block_segment fits[] = {
        {buffer + 512, 3584}, {buffer + 8192, 8192}, {buffer + 4096, 512}};
    assert_int_equal(outcome(make(&t->parts[0], BLOCK_READ, 0, fits, 3)), BLOCK_OK);
    assert_int_equal(t->chunks, 1);
    struct block_segment gaps[] = {
        {buffer, 512}, {buffer + 8192, 4096}, {buffer + 512, 1024}, {buffer + 16384, 512}};
    assert_int_equal(outcome(make(&t->parts[0], BLOCK_READ, 0, gaps, 4)), BLOCK_OK);
    assert_int_equal(t->chunks, 1 + 4);
}

static void flush_reaches_the_disk(void **state) {
    (void)state;
    t->automatic = false;
    struct block_request r = make(&t->parts[1], BLOCK_FLUSH, 0, NULL, 0);
    block_submit(&r);
    run();
    assert_int_equal(done_count, 0);
    assert_int_equal(t->depth, 1);
    t->answer = BLOCK_EIO;
    answer_one(0);
    run();
    assert_int_equal(r.status, BLOCK_EIO);
}

// One partition with a long queue does not keep the other from its turn.
static void turns(void **state) {
    (void)state;
    t->automatic = false;
    static struct block_request many[40], other;
    struct block_segment one = {buffer, 512};
    for (unsigned i = 0; i < 40; i++) {
        many[i] = make(&t->parts[0], BLOCK_READ, i, &one, 1);
        block_submit(&many[i]);
    }
    other = make(&t->parts[1], BLOCK_READ, 0, &one, 1);
    run();
    assert_int_equal(t->depth, QUEUE);
    block_submit(&other);
    for (unsigned answers = 0; other.bytes_done == 0; answers++) {
        assert_true(answers < 2 * QUEUE);
        answer_one(0);
        run();
    }
    while (t->depth) {
        answer_one(0);
        run();
    }
    assert_int_equal(done_count, 41);
    assert_int_equal(t->disk.in_flight + t->parts[0].in_flight + t->parts[1].in_flight, 0);
}

static void errors_are_counted_and_reported(void **state) {
    (void)state;
    t->bad_sector = 110;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(block_read(&t->parts[0], 0, buffer, 20 * 512), BLOCK_EIO);
    assert_int_equal(t->parts[0].errors, 100);
    assert_non_null(strstr(host_console, "read at sector 0 failed: the disk reported an error"));
    assert_null(strstr(strstr(host_console, "failed") + 1, "failed"));
    assert_int_equal(block_read(&t->parts[1], 0, buffer, 512), BLOCK_OK);
}

static void a_disk_that_dies(void **state) {
    (void)state;
    t->automatic = false;
    static struct block_request many[10];
    struct block_segment one = {buffer, 512};
    for (unsigned i = 0; i < 10; i++) {
        many[i] = make(&t->parts[i % 2], BLOCK_READ, i, &one, 1);
        block_submit(&many[i]);
    }
    run();
    block_fail(&t->disk);
    t->answer = BLOCK_EFAILED;
    while (t->depth)
        answer_one(0);
    run();
    assert_int_equal(done_count, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(many[i].status, BLOCK_EFAILED);
    assert_int_equal(block_read(&t->parts[1], 0, buffer, 512), BLOCK_EFAILED);
    char error[200];
    struct block_claim claim;
    assert_int_equal(block_claim(&claim, &t->parts[1], "x", false, error, sizeof(error)),
                     -BASALT_ENODEV);
}

static void claims(void **state) {
    (void)state;
    struct block_claim a, b, c;
    char error[200] = "";
    assert_int_equal(block_claim(&a, &t->parts[0], "debian1", true, error, sizeof(error)), 0);
    assert_int_equal(block_claim(&b, &t->parts[0], "debian2", true, error, sizeof(error)),
                     -BASALT_EBUSY);
    assert_non_null(strstr(error, "in use: \"debian1\" writes to it"));
    assert_int_equal(block_claim(&b, &t->parts[0], "debian2", false, error, sizeof(error)),
                     -BASALT_EBUSY);
    assert_int_equal(block_claim(&b, &t->disk, "debian2", false, error, sizeof(error)),
                     -BASALT_EBUSY);
    assert_non_null(strstr(error, "which shares sectors with it"));
    assert_int_equal(block_claim(&b, &t->parts[1], "debian2", true, error, sizeof(error)), 0);
    block_unclaim(&a);
    block_unclaim(&a);
    block_unclaim(&b);
    assert_int_equal(block_claim(&a, &t->parts[0], "one", false, error, sizeof(error)), 0);
    assert_int_equal(block_claim(&b, &t->disk, "two", false, error, sizeof(error)), 0);
    assert_int_equal(block_claim(&c, &t->parts[0], "three", true, error, sizeof(error)),
                     -BASALT_EBUSY);
    block_unclaim(&c); // holds nothing
    block_unclaim(&b);
    block_unclaim(&a);
    t->parts[0].read_only = true;
    assert_int_equal(block_claim(&a, &t->parts[0], "one", true, error, sizeof(error)),
                     -BASALT_EPERM);
}

static void finding(void **state) {
    (void)state;
    char error[400], name[32];
    snprintf(name, sizeof(name), "d%up2", disk_number);
    assert_ptr_equal(block_find(name, error, sizeof(error)), &t->parts[1]);
    snprintf(name, sizeof(name), "beta%u", disk_number);
    assert_ptr_equal(block_find(name, error, sizeof(error)), &t->parts[1]);
    snprintf(name, sizeof(name), "label:beta%u", disk_number);
    assert_ptr_equal(block_find(name, error, sizeof(error)), &t->parts[1]);
    snprintf(t->parts[0].guid, sizeof(t->parts[0].guid), "00000000-0000-0000-0000-0000000000%02u",
             disk_number);
    snprintf(name, 6, "guid:");
    char guid[64];
    snprintf(guid, sizeof(guid), "guid:%s", t->parts[0].guid);
    assert_ptr_equal(block_find(guid, error, sizeof(error)), &t->parts[0]);
    assert_null(block_find("nothing", error, sizeof(error)));
    assert_non_null(
        strstr(error, "there is no disk or partition \"nothing\"; there is: d1 d1p1 (alpha1)"));
    char tiny[10];
    assert_null(block_find("nothing", tiny, sizeof(tiny)));
    snprintf(t->parts[0].label, sizeof(t->parts[0].label), "%s", t->parts[1].label);
    assert_null(block_find(t->parts[1].label, error, sizeof(error)));
    assert_non_null(strstr(error, "ambiguous"));
}

static void disk_names(void **state) {
    (void)state;
    static const struct {
        u32 index;
        const char *name;
    } cases[] = {{0, "vda"},    {25, "vdz"},    {26, "vdaa"},
                 {701, "vdzz"}, {702, "vdaaa"}, {~0u, "vdmwlqkwv"}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct block_device d;
        block_name(&d, "vd", cases[i].index);
        assert_string_equal(d.name, cases[i].name);
    }
}

// ---- scans ----

static void put(u8 *at, u64 value, unsigned bytes) { memcpy(at, &value, bytes); }

u32 gpt_crc32(u32 crc, const void *data, size_t bytes);

static void write_table(u64 last_of_second) {
    u8 *e = t->data + 2 * 512, *h = t->data + 512;
    memset(e, 1, 32);
    put(e + 32, 64, 8);
    put(e + 40, 127, 8);
    e[56] = 'r';
    memset(e + 128, 2, 32);
    put(e + 160, 128, 8);
    put(e + 168, last_of_second, 8);
    put(e + 176, 1ull << 60, 8); // read-only
    memcpy(h, "EFI PART", 8);
    put(h + 12, 92, 4);
    put(h + 24, 1, 8);
    put(h + 32, 999, 8);
    put(h + 40, 34, 8);
    put(h + 48, 900, 8);
    put(h + 72, 2, 8);
    put(h + 80, 128, 4);
    put(h + 84, 128, 4);
    put(h + 88, gpt_crc32(0, e, 16384), 4);
    put(h + 16, gpt_crc32(0, h, 92), 4);
}

static void scan_makes_partitions(void **state) {
    (void)state;
    free(t->data);
    make_disk(1000);
    write_table(999);
    partition_scan(&t->disk);
    struct block_device *p = t->disk.next;
    assert_non_null(p);
    assert_null(p->next); // the second lies outside the usable sectors
    char name[16];
    snprintf(name, sizeof(name), "d%up1", disk_number);
    assert_string_equal(p->name, name);
    assert_string_equal(p->label, "r");
    assert_int_equal(p->sectors, 64);
    assert_int_equal(p->first_sector, 64);
    assert_non_null(strstr(host_console, "partition 2"));
    assert_int_equal(block_write(p, 63, buffer, 512), BLOCK_OK);
    assert_memory_equal(t->data + 127 * 512, buffer, 512);
    free(t->data);

    make_disk(1000);
    write_table(800);
    partition_scan(&t->disk);
    p = t->disk.next->next;
    assert_true(p->read_only);
    assert_int_equal(block_write(p, 0, buffer, 512), BLOCK_EREADONLY);
}

static void scan_of_strange_disks(void **state) {
    (void)state;
    free(t->data);
    make_disk(1000);
    partition_scan(&t->disk);
    assert_non_null(strstr(host_console, "no GUID partition table"));
    t->bad_sector = 1;
    partition_scan(&t->disk);
    assert_non_null(strstr(host_console, "sector 1 can't be read"));
    t->answer = BLOCK_ETIMEOUT;
    partition_scan(&t->disk);
    assert_non_null(strstr(host_console, "could not be read"));
    assert_null(t->disk.next);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(big_and_scattered, setup, teardown),
        cmocka_unit_test_setup_teardown(bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(page_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(flush_reaches_the_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(turns, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_are_counted_and_reported, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_dies, setup, teardown),
        cmocka_unit_test_setup_teardown(claims, setup, teardown),
        cmocka_unit_test_setup_teardown(finding, setup, teardown),
        cmocka_unit_test(disk_names),
        cmocka_unit_test_setup_teardown(scan_makes_partitions, setup, teardown),
        cmocka_unit_test_setup_teardown(scan_of_strange_disks, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
