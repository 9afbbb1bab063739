// SPDX-License-Identifier: Apache-2.0
//
// What the fuzzers share: a claim that ends the run when it is false, and the input as a stream of values.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/// libFuzzer calls it with one input after the other; always returns 0.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void require(bool condition) {
    if (!condition)
        abort();
}

struct input {
    const uint8_t *data;
    size_t size;
};

/// The next `bytes` bytes of the input as a little-endian number; beyond its end there are zeros.
static inline uint64_t take(struct input *in, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes && in->size; i++, in->size--)
        value |= (uint64_t)*in->data++ << 8 * i;
    return value;
}

/// A copy in a heap block of exactly `size` bytes, so that AddressSanitizer sees the first byte that is read too many.
static inline void *exact_copy(const void *from, size_t size) {
    void *copy = malloc(size ? size : 1); // aligned to 16 bytes
    if (size)
        memcpy(copy, from, size);
    return copy;
}
