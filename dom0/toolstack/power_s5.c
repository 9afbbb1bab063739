// SPDX-License-Identifier: Apache-2.0
//
// Finding \_S5 in AML (ACPI specification, "AML Grammar Definition"): Name (_S5, Package () {a, b,
// ...}) is NameOp, perhaps a root prefix, the four letters, PackageOp, a length, the count of
// elements, and constants.

#include "toolstack/power.h"

#include <string.h>

#define ZERO_OP      0x00
#define ONE_OP       0x01
#define NAME_OP      0x08
#define BYTE_PREFIX  0x0a
#define PACKAGE_OP   0x12
#define ROOT_PREFIX  0x5c
#define SLP_TYP_MOST 7

struct reader {
    const u8 *aml;
    size_t at, end;
};

// The next byte; -1 at the end.
static int next(struct reader *r) { return r->at < r->end ? r->aml[r->at++] : -1; }

// A small constant; -1 if there is none.
static int constant(struct reader *r) {
    int op = next(r);
    int value = op == BYTE_PREFIX ? next(r) : op == ZERO_OP || op == ONE_OP ? op : -1;
    return value <= SLP_TYP_MOST ? value : -1;
}

// The package behind the name.
static bool read_package(struct reader r, u8 *type_a, u8 *type_b) {
    if (next(&r) != PACKAGE_OP)
        return false;
    int lead = next(&r);
    for (int more = lead >= 0 ? lead >> 6 : 0; more > 0; more--)
        next(&r);
    int count = next(&r);
    int a = constant(&r), b = count > 1 ? constant(&r) : a;
    if (lead < 0 || count < 1 || a < 0)
        return false;
    *type_a = (u8)a;
    *type_b = (u8)(b < 0 ? a : b);
    return true;
}

bool power_find_s5(const u8 *aml, size_t bytes, u8 *type_a, u8 *type_b) {
    for (size_t i = 1; i + 4 < bytes; i++) {
        if (memcmp(aml + i, "_S5_", 4) != 0)
            continue;
        bool named = aml[i - 1] == NAME_OP ||
                     (aml[i - 1] == ROOT_PREFIX && i > 1 && aml[i - 2] == NAME_OP);
        if (named && read_package((struct reader){aml, i + 4, bytes}, type_a, type_b))
            return true;
    }
    return false;
}
