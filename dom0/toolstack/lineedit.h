// SPDX-License-Identifier: Apache-2.0
//
// A small line editor for a serial terminal: arrows, Home and End, Delete, ^A ^E ^B ^F ^U ^K ^W ^C
// ^D ^L, history with up and down (^P ^N), completion with TAB. It is fed bytes and writes bytes;
// it knows nothing else of its surroundings. Invariant: cursor <= length < LINEEDIT_SIZE, the text
// is NUL-terminated; whatever is typed, no more.

#pragma once

#include "lib/types.h"

#define LINEEDIT_SIZE    256u
#define LINEEDIT_HISTORY 32u

enum lineedit_event {
    LINEEDIT_NOTHING,
    LINEEDIT_LINE, // `text` is a line that was finished with Enter; the next byte begins a new one
    LINEEDIT_CANCEL, // ^C: the line was given up
};

struct lineedit {
    // Filled in by the owner.
    const char *prompt;
    void (*output)(void *context, const char *bytes, size_t length);
    // Offers each candidate for the word `text[start..cursor)` with lineedit_offer(). May be NULL.
    void (*complete)(void *context, struct lineedit *editor, size_t start);
    void *context;
    // The editor's own; zero at first.
    char text[LINEEDIT_SIZE];
    size_t length, cursor;
    bool visible, finished;
    u8 escape;    // state in a terminal's key sequence
    u8 parameter; // of it
    char last;    // byte before this one
    char history[LINEEDIT_HISTORY][LINEEDIT_SIZE];
    u32 history_count;          // lines ever kept
    u32 browsing;               // 0: the line itself, n: the n-th last of the history
    char kept[LINEEDIT_SIZE];   // the line itself, while the history is looked at
    char common[LINEEDIT_SIZE]; // completion: what all candidates have in common
    u32 candidates;
    bool listing;
};

/// Takes one typed byte.
enum lineedit_event lineedit_feed(struct lineedit *editor, char c);

/// Shows the prompt and the line / takes them off the terminal, so that other text can be printed.
void lineedit_show(struct lineedit *editor);
void lineedit_hide(struct lineedit *editor);

/// From within complete(): a whole word that could stand here. Those that do not continue what is
/// typed are passed over.
void lineedit_offer(struct lineedit *editor, const char *word);
