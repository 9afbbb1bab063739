// SPDX-License-Identifier: Apache-2.0
//
// I/O ports: which of them a guest's devices have, and string instructions with REP of any width.

#pragma once

#include "guest.h"

/// Whether the port is one of this guest's devices'; all others must read as ones.
bool port_claimed(u32 port);

struct string_outcome {
    word count, at; // as the instruction left them
    int vector;     // or -1
};

/// REP INS of `count` elements of `width` bytes (1, 2, 4) to memory; REP OUTS from there. It may fault.
struct string_outcome rep_ins(u16 port, unsigned width, void *to, word count);
struct string_outcome rep_outs(u16 port, unsigned width, const void *from, word count);
