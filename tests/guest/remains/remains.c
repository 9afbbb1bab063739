// SPDX-License-Identifier: Apache-2.0
//
// remains [1] [MIB]: with 1, fills all its memory with a secret; without, looks in all its memory (of which it has MIB)
// for that secret, which the guest that had these frames before left, and for anything else that was there before: but
// for what was loaded, all of it must be zero.

#include "../lib/guest.h"

#define SECRET 0x5ec3e75ec3e75ec3ull

ATTACK(remains) {
    u64 dirty = 0, found = 0, end = ARGUMENT(1, ram >> 20) << 20;
    bool fill = ARGUMENT(0, 0);

    for (u64 at = ((word)image_end + PAGE) & ~0xfffull; at < end - 0x10000; at += 8) {
        volatile u64 *p = (volatile u64 *)(word)at;
        if (fill)
            *p = SECRET;
        else {
            dirty += *p != 0;
            found += *p == SECRET;
        }
    }
    if (found)
        fail("%X words of the secret of a guest that is gone", found);
    if (!fill && dirty > 4096)
        fail("%U words are not zero", dirty);
    if (!fill)
        print("remains: %U words are not zero\n", dirty);
}
