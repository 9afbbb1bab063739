// SPDX-License-Identifier: Apache-2.0
//
// See ports.h.

#include "ports.h"

bool port_claimed(u32 port) {
    return (port >= 0x3f8 && port < 0x400) || port == 0x70 || port == 0x71 ||
           (port >= 0x600 && port < 0x640) || (port >= 0xcf8 && port < 0xd00) || port == 0x60 ||
           port == 0x64;
}

// One element is `suffix` wide; `pointer` is the constraint of the register that points to it.
#define REP(instruction, suffix, pointer) \
    asm volatile(GUARD("rep " instruction suffix) : "+c"(count), pointer(at) : "d"(port) : "memory")
#define REP_OF_WIDTH(instruction, pointer) \
    if (width == 1)                        \
        REP(instruction, "b", pointer);    \
    else if (width == 2)                   \
        REP(instruction, "w", pointer);    \
    else                                   \
        REP(instruction, "l", pointer)

struct string_outcome rep_ins(u16 port, unsigned width, void *to, word count) {
    word at = (word)to;

    REP_OF_WIDTH("ins", "+D");
    return (struct string_outcome){count, at, trap_vector};
}

struct string_outcome rep_outs(u16 port, unsigned width, const void *from, word count) {
    word at = (word)from;

    REP_OF_WIDTH("outs", "+S");
    return (struct string_outcome){count, at, trap_vector};
}
