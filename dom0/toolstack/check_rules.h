// SPDX-License-Identifier: Apache-2.0
//
// What the rules of both vendors are written with (see check.h).

#pragma once

#include "lib/types.h"
#include "toolstack/check.h"

static inline u64 check_read(const struct check *check, u32 field) {
    return check->read(check->context, field);
}

static inline bool check_canonical(const struct check *check, u64 address) {
    unsigned unused_bits = 64 - check->linear_bits;

    return (u64)((i64)(address << unused_bits) >> unused_bits) == address;
}

/// Every one of a PAT's eight memory types exists.
static inline bool check_pat(u64 pat) {
    for (unsigned i = 0; i < 8; i++, pat >>= 8)
        if ((pat & 0xff) > 7 || (pat & 0xff) == 2 || (pat & 0xff) == 3)
            return false;
    return true;
}

// The rules are one line each; a file's `c` is the struct check.
#define RULE(at, holds, name)             \
    do {                                  \
        if (!(holds)) {                   \
            c->field = at;                \
            c->value = check_read(c, at); \
            return name;                  \
        }                                 \
    } while (0)

// Bits that both vendors' rules speak of
#define CR0_PE       BIT(0)
#define CR0_WP       BIT(16)
#define CR0_NW       BIT(29)
#define CR0_CD       BIT(30)
#define CR0_PG       BIT(31)
#define CR4_PAE      BIT(5)
#define CR4_PCIDE    BIT(17)
#define CR4_CET      BIT(23)
#define EFER_SCE     BIT(0)
#define EFER_LME     BIT(8)
#define EFER_LMA     BIT(10)
#define EFER_NXE     BIT(11)
#define EFER_SVME    BIT(12)
#define RFLAGS_FIXED BIT(1)
#define RFLAGS_TF    BIT(8)
#define RFLAGS_IF    BIT(9)
#define RFLAGS_VM    BIT(17)
enum { EVENT_INTERRUPT = 0, EVENT_NMI = 2, EVENT_EXCEPTION = 3, EVENT_SOFT_INTERRUPT = 4 };
#define EVENT_HAS_ERROR (1u << 11)
#define EVENT_VALID     (1u << 31)
