// SPDX-License-Identifier: Apache-2.0
//
// remains [1]: with 1, fills all its memory with a secret; without, looks in all its memory, which must be zero where
// nothing was loaded, for that secret, which the guest that had these frames before left.

#include "../lib/guest.h"

#define SECRET 0x5ec3e75ec3e75ec3ull

ATTACK(remains) {
    u64 dirty = 0, found = 0;

    for (u64 at = ((word)image_end + PAGE) & ~0xfffull; at < ram - 0x10000; at += 8) {
        volatile u64 *p = (volatile u64 *)(word)at;
        if (count)
            *p = SECRET;
        else {
            dirty += *p != 0;
            found += *p == SECRET;
        }
    }
    if (found)
        fail("%X words of the secret of a guest that is gone", found);
    if (!count)
        print("remains: %U words are not zero\n", dirty);
}
