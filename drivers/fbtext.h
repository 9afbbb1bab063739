// SPDX-License-Identifier: Apache-2.0
//
// Text on the screen, for machines without a serial port: EGA text mode only.

#pragma once

#include "arch/types.h"

struct boot_framebuffer;
/// Uses the text screen that the boot loader left, if there is one; after paging_init().
void fbtext_init(const struct boot_framebuffer *framebuffer);
void fbtext_write(const char *text, size_t length);
