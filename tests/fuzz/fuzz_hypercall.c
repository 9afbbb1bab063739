// SPDX-License-Identifier: Apache-2.0
//
// Hypercalls as hostile callers make them: the callers of the unit test (dom0, guests, a domain with delegated rights)
// with the fuzzer's bytes in the place of their seed. After each input everything is torn down; every frame and every
// charge must be back.
//
// fuzz: -len_control=0 -max_len=2000
// keep: 65536
// like: tests/unit/test_hypercall_random.c

#include "tests/fuzz/unit.h"

#include "tests/unit/test_hypercall_random.c"

static struct input input;

// Most choices are among few: one byte. The last of its values announce all 64 bits.
static u64 next(void) {
    u64 byte = take(&input, 1);
    return byte < 0xf8 ? byte : take(&input, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool ready;

    if (!ready) {
        setup(NULL);
        empty = host_account();
        host_random_source = next;
        ready = true;
    }
    input = (struct input){data, size};
    latest_request = 0;
    make_dom0();
    tend();
    u64 errors = host_log_errors;
    for (unsigned n = 0; input.size; n++) {
        if (n % 64 == 63)
            tend();
        one_call();
    }
    assert_int_equal(host_log_errors, errors);
    end(NULL);
    return 0;
}
