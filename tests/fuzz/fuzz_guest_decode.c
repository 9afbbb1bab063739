// SPDX-License-Identifier: Apache-2.0
//
// Fuzzer of the kernel's instruction decoder. The first input byte chooses the mode, the others are the instruction. What
// guest/decode.h claims of arbitrary bytes is checked, and the result compared with Capstone's as the unit test does; the
// sanitizers watch for reads past the end.
//
// like: tests/unit/test_guest_decode.c

#include "tests/fuzz/unit.h"

#include "tests/unit/test_guest_decode.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool ready;

    if (!ready)
        require(open_capstone(NULL) == 0);
    ready = true;
    if (!size)
        return 0;
    enum cpu_mode mode = data[0] % 3;
    unsigned valid = (unsigned)MIN(size - 1, (size_t)INSN_MAX_LENGTH);
    struct insn insn, again;
    if (decode_exactly(data + 1, valid, mode, &insn)) {
        require(insn.length >= 2 && insn.length <= valid);
        require(insn.reg < 16 && insn.rm < 16 && insn.bytes <= 8);
        for (unsigned shorter = 0; shorter < insn.length; shorter++)
            require(!decode_exactly(data + 1, shorter, mode, &again));
    }
    if (!excepted(mode, data + 1, valid))
        compare(mode, data + 1, valid);
    require(!differences); // one is described on the standard error
    return 0;
}
