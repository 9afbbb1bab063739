// SPDX-License-Identifier: Apache-2.0
//
// The generator: a key of 256 bits; each request starts with a block whose first half becomes the
// next key before any output leaves, so that what was handed out cannot be computed from what is
// kept. Seeding hashes samples into the key by encrypting with it. Block function as in RFC 8439,
// "The ChaCha20 Block Function".

#include <string.h>

#include "entropy.h"
#include "host.h"

#define RESEED_BYTES   (1u << 20)
#define JITTER_SAMPLES 512u

static uint32_t key[8];
static size_t until_reseed;

static uint32_t rotate(uint32_t x, unsigned n) { return x << n | x >> (32 - n); }

static void quarter(uint32_t *s, unsigned a, unsigned b, unsigned c, unsigned d) {
    s[a] += s[b];
    s[d] = rotate(s[d] ^ s[a], 16);
    s[c] += s[d];
    s[b] = rotate(s[b] ^ s[c], 12);
    s[a] += s[b];
    s[d] = rotate(s[d] ^ s[a], 8);
    s[c] += s[d];
    s[b] = rotate(s[b] ^ s[c], 7);
}

void entropy_chacha_block(const uint32_t block_key[8], uint32_t counter, const uint32_t nonce[3],
                          uint8_t out[64]) {
    uint32_t start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}; // "expand 32-byte k"
    uint32_t s[16];
    memcpy(start + 4, block_key, 32);
    start[12] = counter;
    memcpy(start + 13, nonce, 12);
    memcpy(s, start, sizeof(s));
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 4; i++)
            quarter(s, i, 4 + i, 8 + i, 12 + i);
        for (unsigned i = 0; i < 4; i++)
            quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
    }
    for (unsigned i = 0; i < 16; i++)
        s[i] += start[i];
    memcpy(out, s, 64);
}

// The sample goes in as the nonce: the new key depends on it and on the old key.
static void absorb(uint64_t sample) {
    const uint32_t nonce[3] = {(uint32_t)sample, (uint32_t)(sample >> 32), 0x73656564};
    uint8_t block[64];
    entropy_chacha_block(key, 0, nonce, block);
    memcpy(key, block, sizeof(key));
}

static void seed(void) {
    for (unsigned i = 0; i < 8; i++) {
        uint64_t word;
        if (host_random(&word))
            absorb(word);
    }
    absorb(host_wall_ns());
    // How long each block took, with all its cache misses and interrupts, is what cannot be
    // foreseen.
    for (unsigned i = 0; i < JITTER_SAMPLES; i++)
        absorb(host_time_ns());
    until_reseed = RESEED_BYTES;
}

void entropy_fill(void *to, size_t bytes) {
    static const uint32_t nonce[3];
    uint8_t *out = to;
    uint8_t block[64];
    uint32_t using[8];
    if (until_reseed < bytes || until_reseed == 0)
        seed();
    until_reseed -= bytes < until_reseed ? bytes : until_reseed;
    memcpy(using, key, sizeof(using));
    entropy_chacha_block(using, 0, nonce, block);
    memcpy(key, block, sizeof(key));
    for (uint32_t counter = 1; bytes; counter++) {
        size_t piece = bytes < sizeof(block) ? bytes : sizeof(block);
        entropy_chacha_block(using, counter, nonce, block);
        memcpy(out, block, piece);
        out += piece;
        bytes -= piece;
    }
    memset(block, 0, sizeof(block));
    memset(using, 0, sizeof(using));
    __asm__ volatile("" : : "r"(block), "r"(using) : "memory"); // the erasure is meant
}
