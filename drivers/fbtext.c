// SPDX-License-Identifier: Apache-2.0
//
// Text on an EGA text screen. Graphics framebuffers are left to dom0. Invariant: row < rows, column
// < columns.

#include "drivers/fbtext.h"

#include "arch/paging.h"
#include "boot/multiboot2.h"
#include "kernel/log.h"

#define EGA_ADDRESS     0xb8000ull
#define EGA_COLUMNS     80u
#define EGA_ROWS        25u
#define GREY            0x0700u
#define FRAMEBUFFER_EGA 2u // Multiboot2's type

static volatile u16 *screen;
static unsigned row, column;

static void clear_row(void)
{
    for (unsigned i = 0; i < EGA_COLUMNS; i++)
        screen[row * EGA_COLUMNS + i] = GREY | ' ';
}

// After the last row comes the first: scrolling would read and write all of a slow memory for each line.
static void put(char c)
{
    if (c == '\n' || column == EGA_COLUMNS) {
        column = 0;
        row = (row + 1) % EGA_ROWS;
        clear_row();
    }
    if (c >= ' ')
        screen[row * EGA_COLUMNS + column++] = (u16)(GREY | (u8)c);
}

void fbtext_write(const char *text, size_t length)
{
    for (size_t i = 0; screen && i < length; i++)
        put(text[i]);
}

void fbtext_init(const struct boot_framebuffer *framebuffer)
{
    bool other = framebuffer->address && framebuffer->type != FRAMEBUFFER_EGA;
    screen = other ? NULL
                   : device_map(HPA(EGA_ADDRESS), EGA_COLUMNS * EGA_ROWS * 2, MAP_WRITE | MAP_UC);
    log_replay(fbtext_write);
}
