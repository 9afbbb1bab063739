// SPDX-License-Identifier: Apache-2.0
//
// The reader of FAT file systems, over images that mtools make (FAT12, 16 and 32, short and long
// names, files of several clusters, folders, deleted files), damaged ones, and ones with random
// bytes changed.
//
// sources: dom0/toolstack/fat.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "toolstack/fat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static u8 *image;
static u64 image_bytes;
static char folder[64];

static bool read_image(void *context, u64 offset, u32 bytes, void *buffer) {
    (void)context;
    assert_true(offset % 512 == 0 && bytes % 512 == 0);
    if (offset > image_bytes || bytes > image_bytes - offset)
        return false;
    memcpy(buffer, image + offset, bytes);
    return true;
}

static void run(const char *format, ...) {
    char command[512];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static void write_file(const char *name, u32 bytes, char letter) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    for (u32 i = 0; i < bytes; i++)
        fputc(letter + (char)(i / 512 % 20), f);
    fclose(f);
    run("cd %s && MTOOLS_SKIP_CHECK=1 mcopy -i image '%s' ::", folder, name);
}

static void make_image(u32 mib, const char *options) {
    if (system("command -v mformat > /dev/null") != 0)
        skip();
    snprintf(folder, sizeof(folder), "/tmp/test_fat_%d", (int)getpid());
    run("rm -rf %s && mkdir %s && truncate -s %uM %s/image && mformat -i %s/image %s ::", folder,
        folder, mib, folder, folder, options);
    write_file("A.CNF", 10, 'a');
    write_file("guest1.conf", 300, 'b');
    write_file("other.txt", 10, 'c');
    write_file("a-name-that-is-much-longer-than-eight-letters-and-three.conf", 20000, 'd');
    write_file("gone.conf", 10, 'e');
    write_file("big.conf", 70000, 'f');
    write_file("empty.conf", 0, 'g');
    run("cd %s && MTOOLS_SKIP_CHECK=1 mdel -i image ::gone.conf && MTOOLS_SKIP_CHECK=1 mmd -i image "
        "::folder.conf",
        folder);
    char path[128];
    snprintf(path, sizeof(path), "%s/image", folder);
    FILE *f = fopen(path, "rb");
    image_bytes = (u64)mib << 20;
    free(image);
    image = malloc(image_bytes);
    assert_int_equal(fread(image, 1, image_bytes, f), image_bytes);
    fclose(f);
    run("rm -rf %s", folder);
}

static char seen[1024];

static void file(void *context, const char *name, const char *data, u32 bytes) {
    (void)context;
    size_t used = strlen(seen);
    snprintf(seen + used, sizeof(seen) - used, "%s %u %s\n", name, bytes, data ? "ok" : "no");
    for (u32 i = 0; data && i < bytes; i++)
        if (data[i] != data[0] + (char)(i / 512 % 20))
            fail_msg("%s: byte %u is wrong", name, i);
}

static const char *read_root(void) {
    struct fat_source source = {image_bytes, read_image, NULL};
    seen[0] = 0;
    return fat_read_root(&source, ".conf", 65536, file, NULL);
}

static void check_files(void) {
    assert_null(read_root());
    assert_string_equal(seen,
                        "guest1.conf 300 ok\n"
                        "a-name-that-is-much-longer-than-eight-letters-and-three.conf 20000 ok\n"
                        "big.conf 70000 no\n"
                        "empty.conf 0 ok\n");
}

static void test_fat12(void **state) {
    (void)state;
    make_image(2, "-c 1");
    assert_memory_equal(image + 54, "FAT12", 5);
    check_files();
}

static void test_fat16(void **state) {
    (void)state;
    make_image(16, "-c 2");
    assert_memory_equal(image + 54, "FAT16", 5);
    check_files();
}

static void test_fat32(void **state) {
    (void)state;
    make_image(40, "-F -c 1");
    assert_memory_equal(image + 82, "FAT32", 5);
    check_files();
}

static void test_damaged(void **state) {
    (void)state;
    make_image(2, "-c 1");
    image_bytes = MIB; // the partition is too short
    assert_string_equal(read_root(),
                        "its FAT file system is larger than the partition, or damaged");
    image_bytes = 0;
    assert_string_equal(read_root(), "its first sector can't be read");
    image_bytes = 2 * MIB;
    image[510] = 0;
    assert_string_equal(read_root(), "it holds no FAT file system");
    image[510] = 0x55;
    image[13] = 3;
    assert_string_equal(read_root(), "it holds no FAT file system");
}

static void random_file(void *context, const char *name, const char *data, u32 bytes) {
    (void)context;
    assert_non_null(memchr(name, 0, FAT_NAME_SIZE));
    for (u32 i = 0; data && i < bytes; i++)
        *(volatile char *)&seen[0] = data[i];
}

static void test_random_damage(void **state) {
    (void)state;
    make_image(2, "-c 1");
    u8 *good = malloc(image_bytes);
    memcpy(good, image, image_bytes);
    u32 seed = 7;
    struct fat_source source = {image_bytes, read_image, NULL};
    for (unsigned round = 0; round < 3000; round++) {
        memcpy(image, good, 65536);
        for (unsigned i = 0; i < 1 + round % 20; i++) {
            seed = seed * 1664525 + 1013904223;
            image[(seed >> 8) % (i % 2 ? 64 : 24576)] = (u8)(seed >> 24);
        }
        image[510] = 0x55, image[511] = 0xaa;
        (void)!fat_read_root(&source, ".conf", 65536, random_file, NULL);
    }
    free(good);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fat12),         cmocka_unit_test(test_fat16),
        cmocka_unit_test(test_fat32),         cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_random_damage),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(image);
    return failed;
}
