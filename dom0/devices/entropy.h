// SPDX-License-Identifier: Apache-2.0
//
// Random bytes for guests: a ChaCha20 generator whose key is replaced after every use ("fast key
// erasure"), seeded from the processor's random numbers where it has them and from the jitter of
// the time stamp counter everywhere.

#pragma once

#include <stddef.h>
#include <stdint.h>

/// Fills `bytes` bytes.
void entropy_fill(void *to, size_t bytes);

/// One ChaCha20 block (RFC 8439): for the tests.
void entropy_chacha_block(const uint32_t key[8], uint32_t counter, const uint32_t nonce[3],
                          uint8_t out[64]);
