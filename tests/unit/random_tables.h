// SPDX-License-Identifier: Apache-2.0
//
// Page tables of random entries, in pages that point to each other: what the kernel's fetch walk and the emulator's walk are
// compared with their models on. The includer has native_random() and write_entry().

#pragma once

#define TABLES 8u // pages that random tables lie in, from guest-physical 0 on

enum format { LEGACY, PAE, LONG };

static void write_entry(u64 gpa, unsigned bytes, u64 entry);

static void random_tables(unsigned size) {
    for (u64 gpa = 0; gpa < TABLES * PAGE_SIZE; gpa += size) {
        u64 entry = native_random() % TABLES << 12, r = native_random();
        entry |= (r % 16 != 0) | (r >> 4) % 8 % 7 << 1; // present; R/W and U/S mostly set
        entry |= (r >> 8) % 4 ? 6 : 0;
        entry |= (r >> 12) % 4 << 5; // accessed, dirty
        entry |= (r >> 16) % 4 ? 0 : 0x80;
        entry |= (r >> 20) % 3 ? 0 : 0x100; // global, or nothing
        if (entry & 0x80)
            entry |= r >> 24 & (size == 8 ? 0x00003fffffe01000 : 0xffc00000 | 0x1fe000);
        if (size == 8 && (r >> 60) % 6 == 0)
            entry |= BIT(63);
        write_entry(gpa, size, entry);
    }
}
