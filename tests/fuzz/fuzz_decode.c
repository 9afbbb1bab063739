// SPDX-License-Identifier: Apache-2.0
//
// Fuzzer of the emulator's instruction decoder. The first input byte chooses the mode, the others are the
// instruction. Every claim of dom0/emulator/decode.h that holds for arbitrary bytes is checked, and every
// field is compared with capstone's as the unit test does; the sanitizers watch for reads past the
// end.
//
// like: tests/unit/test_decode_capstone.c

#include "tests/fuzz/unit.h"

#include "tests/unit/test_decode_capstone.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool ready;

    if (!ready)
        require(open_capstone(NULL) == 0);
    ready = true;
    if (!size)
        return 0;
    enum cpu_mode mode = data[0] % 3;
    const u8 *bytes = data + 1;
    unsigned valid = size - 1 > 20 ? 20 : (unsigned)size - 1;
    struct insn insn, again;
    u64 gprs[16];
    memset(gprs, 0xa5, sizeof(gprs));

    if (decode_exactly(bytes, valid, mode, &insn) != DECODE_OK)
        return 0;
    require(insn.length >= 1 && insn.length <= valid && insn.length <= INSN_MAX_LENGTH);
    require(insn.op > OP_INVALID && insn.op < OP_COUNT);
    if (insn.operand_size || insn.rm_size || insn.address_size) { // else it has no operands
        require(insn.address_size == 2 || insn.address_size == 4 || insn.address_size == 8);
        require(insn.operand_size && insn.operand_size <= 16 && insn.rm_size && insn.rm_size <= 16);
    }
    require(insn.reg < 16 && insn.rm < 16 && insn.segment <= SEG_GS);
    require(insn.base < 16 || insn.base == INSN_NONE);
    require(insn.index < 16 || insn.index == INSN_NONE);
    require(!(insn.immediate & ~insn_mask(insn.operand_size)) || insn.immediate <= 0xff);
    require(!(insn_offset(&insn, gprs, ~0ull) & ~insn_mask(insn.address_size)));

    // The bytes after the instruction do not matter, and every byte of it is needed.
    require(decode_exactly(bytes, insn.length, mode, &again) == DECODE_OK);
    require(again.op == insn.op && again.length == insn.length);
    require(again.displacement == insn.displacement && again.immediate == insn.immediate);
    for (unsigned shorter = 0; shorter < insn.length; shorter++)
        require(decode_exactly(bytes, shorter, mode, &again) == DECODE_TRUNCATED);
    compare(mode, bytes, valid);
    require(!differences); // one is described on the standard error
    return 0;
}
