// SPDX-License-Identifier: Apache-2.0
//
// The line editor, fed with any keys, against the unit test's terminal: what it shows must be the text.
//
// like: tests/unit/test_lineedit.c

#include "tests/fuzz/unit.h"

#include "tests/unit/test_lineedit.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    setup(NULL);
    for (size_t i = 0; i < size; i++) {
        char key[2] = {(char)data[i], 0};
        type(key);
        if (last != LINEEDIT_NOTHING && key[0])
            lineedit_show(e);
        listed[0] = 0;
    }
    teardown(NULL);
    return 0;
}
