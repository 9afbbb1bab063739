// SPDX-License-Identifier: Apache-2.0
//
// The check of dom0's file: a good one, the same cut at every byte, both sizes at their extremes, and random damage. Whatever
// it accepts lies inside the file and inside the limit.
// sources: kernel/image.c

#include "boot/boot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define LIMIT     (64 * MIB)
#define FILE_SIZE 0x5000u

static const struct basalt_image good = {BASALT_IMAGE_MAGIC, 0x3234, 0xb000};

// What the check says of a file with this header; what it accepts is looked at.
static const char *checked(struct basalt_image image, u64 file_size) {
    const char *wrong = image_check(&image, file_size);

    if (!wrong) {
        assert_true(image.magic == BASALT_IMAGE_MAGIC);
        assert_true(BASALT_IMAGE_OFFSET + (u64)image.bytes <= file_size);
        assert_true(image.bytes > sizeof(image)); // there is something to enter
        assert_true(image.bytes <= image.size && image.size <= LIMIT);
    }
    return wrong;
}

// A file that has no header is not looked into: `image` may lie anywhere.
static void test_cut_at_every_byte(void **state) {
    (void)state;
    for (u64 size = 0; size < BASALT_IMAGE_OFFSET + sizeof(good); size++)
        assert_non_null(image_check(NULL, size));
    for (u64 size = BASALT_IMAGE_OFFSET + sizeof(good); size <= FILE_SIZE; size++)
        assert_int_equal(checked(good, size) == NULL, size >= BASALT_IMAGE_OFFSET + good.bytes);
}

#define REFUSES(what, ...)                                        \
    do {                                                          \
        struct basalt_image image = good;                         \
        __VA_ARGS__;                                              \
        assert_non_null(checked(image, FILE_SIZE));               \
        assert_non_null(strstr(checked(image, FILE_SIZE), what)); \
    } while (0)

static void test_wrong_headers(void **state) {
    (void)state;
    REFUSES("header", image.magic ^= 1);
    REFUSES("header", image.magic ^= BIT(63));
    REFUSES("header", image.magic = 0);
    REFUSES("cut short", image.bytes = FILE_SIZE - BASALT_IMAGE_OFFSET + 1);
    REFUSES("cut short", image.bytes = ~0u);
    REFUSES("impossible", image.bytes = 0);
    REFUSES("impossible", image.bytes = sizeof(image));
    REFUSES("impossible", image.size = 0);
    REFUSES("impossible", image.size = image.bytes - 1);
    REFUSES("impossible", image.size = LIMIT + 1);
    REFUSES("impossible", image.size = ~0u);
    struct basalt_image image = good;
    image.size = LIMIT, image.bytes = FILE_SIZE - BASALT_IMAGE_OFFSET;
    assert_null(checked(image, FILE_SIZE));
}

static void test_random_damage(void **state) {
    (void)state;
    u64 seed = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : (u64)time(NULL);

    srand48((long)seed);
    for (unsigned n = 0; n < 200000; n++) {
        struct basalt_image image = good;
        u8 *bytes = (u8 *)&image;
        for (unsigned i = 0; i <= n % 4; i++)
            bytes[(n % 2 ? 8 : 0) + lrand48() % (n % 2 ? 8 : 16)] = (u8)lrand48();
        (void)!checked(image, (u64)lrand48() % (2 * FILE_SIZE));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_wrong_headers),
        cmocka_unit_test(test_random_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
