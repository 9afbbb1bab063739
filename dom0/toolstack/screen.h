// SPDX-License-Identifier: Apache-2.0
//
// One serial line, many consoles: dom0's and one per guest. Each has a ring that keeps its latest
// output; one of them is shown, and gets what is typed. Ctrl-] shows the next one, Ctrl-] and a
// digit the one with that number (dom0 is 0). Invariants: what a console prints while it is not
// shown is kept, up to its ring's size, and shown when it is chosen; the key never reaches a guest.

#pragma once

#include "lib/types.h"

#define SCREEN_KEY       0x1d // Ctrl-]
#define SCREEN_TYPED_MAX 256u

struct screen {
    // Filled in by the owner before screen_add().
    const char *name;
    unsigned number; // for the digit; 0 is dom0
    char *ring;
    u32 size; // of the ring, a power of two
    // Takes typed bytes; returns how many (the rest is kept and offered again after screen_room()).
    size_t (*input)(void *context, const char *bytes, size_t length);
    // Called after the screen was chosen (true) or another instead (false); may be NULL.
    void (*shown)(void *context, bool shown);
    void *context;
    // The screens' own.
    u64 head;  // bytes ever written
    u64 seen;  // bytes that were shown
    u64 begun; // bytes written before the present run
    struct screen *next;
    char typed[SCREEN_TYPED_MAX];
    u32 typed_count;
    bool added;
};

/// Output of the screen's owner, as it is (a terminal wants "\r\n").
void screen_write(struct screen *screen, const char *bytes, size_t length);

/// Makes the screen one of those that the key goes round; the first is shown at once. It keeps its
/// ring when it is removed. Removing the one that is shown shows dom0's.
void screen_add(struct screen *screen);
void screen_remove(struct screen *screen);

/// Shows a screen that was added.
void screen_show(struct screen *screen);
struct screen *screen_shown(void);

/// The screen's owner takes input again.
void screen_room(struct screen *screen);

/// Bytes that were typed on the serial line (for console_set_input()).
void screen_typed(void *context, const u8 *data, size_t bytes);

/// A new run of the owner begins: screen_tail() does not look further back.
void screen_begin(struct screen *screen);

/// Calls `line` for each of the last `lines` lines that the ring holds of the present run, without
/// control characters.
void screen_tail(const struct screen *screen, unsigned lines,
                 void (*line)(void *context, const char *text), void *context);
