// SPDX-License-Identifier: Apache-2.0
//
// The check of dom0's file, whose bytes nobody has looked at before: see include/basalt/boot_info.h.

#include "boot/boot.h"

#define IMAGE_SIZE_MAX (64 * MIB)

const char *image_check(const struct basalt_image *image, u64 file_size) {
    if (file_size < BASALT_IMAGE_OFFSET + sizeof(*image) || image->magic != BASALT_IMAGE_MAGIC)
        return "it has no image header";
    if (image->bytes > file_size - BASALT_IMAGE_OFFSET)
        return "it is cut short";
    if (image->bytes <= sizeof(*image) || image->size < image->bytes ||
        image->size > IMAGE_SIZE_MAX)
        return "its image has an impossible size";
    return NULL;
}
