// SPDX-License-Identifier: Apache-2.0
//
// The kernel's ELF reader: the input is what changes in the headers of a good file, so that all zeros are one. What it
// accepts must keep the promises that the unit test checks.
//
// like: tests/unit/test_elf.c

#include "tests/fuzz/unit.h"

#include "tests/unit/test_elf.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    good(NULL);
    for (size_t i = 0; i < size && i < HEADERS; i++)
        file[i] ^= data[i];
    (void)!reads();
    return 0;
}
