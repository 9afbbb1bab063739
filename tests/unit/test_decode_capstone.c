// SPDX-License-Identifier: Apache-2.0
//
// The emulator's instruction decoder against Capstone, an independent disassembler: all opcodes with all forms of ModRM, and
// random instructions.
//
// sources: dom0/emulator/decode.c
// libs: -lcapstone

#include "tests/unit/decoded.h"

#include <capstone/capstone.h>

static csh capstone[3];
static cs_insn *theirs;
static unsigned long compared, compared_memory, compared_registers, differences,
    compared_op[OP_COUNT], excepted[16];

static int open_capstone(void **state) {
    static const cs_mode modes[3] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};
    (void)state;
    for (int i = 0; i < 3; i++) {
        if (cs_open(CS_ARCH_X86, modes[i], &capstone[i]) != CS_ERR_OK)
            return -1;
        cs_option(capstone[i], CS_OPT_DETAIL, CS_OPT_ON);
    }
    theirs = cs_malloc(capstone[0]);
    return 0;
}

static int close_capstone(void **state) {
    (void)state;
    cs_free(theirs, 1);
    for (int i = 0; i < 3; i++)
        cs_close(&capstone[i]);
    return 0;
}

// Whether Capstone's mnemonic is one of those that our operation stands for.
static bool same_operation(const struct insn *insn, const char *name) {
    static const struct {
        u8 op;
        const char
            *pattern; // names separated by spaces; one that ends in * matches all that begin so
    } others[] = {
        {OP_MOV, "mov movabs"},
        {OP_MOVSX, "movsx movsxd"},
        {OP_CLFLUSH, "clflush clflushopt"},
        {OP_MOVS, "movsb movsw movsd movsq"},
        {OP_STOS, "stosb stosw stosd stosq"},
        {OP_LODS, "lodsb lodsw lodsd lodsq"},
        {OP_INS, "insb insw insd"},
        {OP_OUTS, "outsb outsw outsd"},
        {OP_MOV_CR, "mov"},
        {OP_OTHER,
         "cpuid hlt invd wbinvd rdmsr wrmsr xsetbv vmcall vmmcall nop pause xchg"}, // the last three: 90
    };
    const char *pattern = op_name[insn->op];
    for (unsigned i = 0; i < COUNT_OF(others); i++)
        if (others[i].op == insn->op)
            pattern = others[i].pattern;
    // Capstone 4 puts prefixes in front of the mnemonic.
    const char *last = strrchr(name, ' ');
    name = last ? last + 1 : name;
    size_t length = strlen(name);
    for (const char *p = pattern; *p; p += strcspn(p, " "), p += *p == ' ') {
        size_t n = strcspn(p, " ");
        if (p[n - 1] == '*' ? !strncmp(p, name, n - 1) : n == length && !strncmp(p, name, n))
            return true;
    }
    return false;
}

static const char *capstone_register(x86_reg reg) {
    const char *name = cs_reg_name(capstone[2], reg);
    return name ? name : "";
}

static bool same_register(x86_reg reg, u8 number, unsigned size) {
    if (reg == X86_REG_INVALID || reg == X86_REG_EIZ || reg == X86_REG_RIZ)
        return number == INSN_NONE;
    return number != INSN_NONE &&
           !strcmp(capstone_register(reg), register_name(number, size, false));
}

static bool same_memory(const struct insn *insn, const x86_op_mem *mem, enum cpu_mode mode) {
    u64 mask = insn_mask(insn->address_size);
    bool rip = mem->base == X86_REG_RIP || mem->base == X86_REG_EIP;
    bool base = rip ? insn->rip_relative
                    : !insn->rip_relative &&
                          same_register(mem->base, insn->base, insn->address_size);
    bool scale = insn->index == INSN_NONE || mem->scale == insn->scale;
    bool displacement = !(((u64)mem->disp ^ (u64)insn->displacement) & mask);

    // Capstone tells of overrides only, and in 64-bit mode also of those that have no effect.
    const char *segment = capstone_register(mem->segment);
    bool by_stack = insn->base == 4 || insn->base == 5;
    const char *ours = segment_name[insn->segment];
    const char *implied = by_stack ? "ss" : "ds";
    bool effective = *segment && (mode != MODE_64 || *segment == 'f' || *segment == 'g');
    bool same_segment = !strcmp(ours, effective ? segment : implied);
    if (insn->op >= OP_MOVS && insn->op <= OP_OUTS && insn->base == 7)
        same_segment = !strcmp(ours, "es");

    return base && same_register(mem->index, insn->index, insn->address_size) && scale &&
           displacement && same_segment;
}

// The memory operand that is our r/m: of the two of MOVS and CMPS the one at rSI.
static const cs_x86_op *memory_operand(const struct insn *insn, const cs_x86 *x86) {
    const cs_x86_op *found = NULL;
    for (int i = 0; i < x86->op_count; i++) {
        const cs_x86_op *op = &x86->operands[i];
        bool two = insn->op == OP_MOVS;
        if (op->type == X86_OP_MEM && (!two || same_register(op->mem.base, 6, insn->address_size)))
            found = op;
    }
    return found;
}

static bool same_immediate(const struct insn *insn, const cs_x86 *x86) {
    for (int i = 0; i < x86->op_count; i++)
        if (x86->operands[i].type == X86_OP_IMM)
            return !(((u64)x86->operands[i].imm ^ insn->immediate) & insn_mask(insn->operand_size));
    return insn->immediate == 1; // of shifts by one, which Capstone may leave out
}

static bool is_register(const cs_x86_op *op, const char *name) {
    return op->type == X86_OP_REG && !strcmp(capstone_register(op->reg), name);
}

// The register operands, in the order in which Intel writes them.
static bool same_registers(const struct insn *insn, const cs_x86 *x86) {
    bool control = insn->op == OP_MOV_CR;
    if (insn->op > OP_CLFLUSH && !control)
        return true;
    const cs_x86_op *rm = &x86->operands[0], *reg = &x86->operands[1];
    unsigned rm_size = insn->op == OP_SMSW ? insn->operand_size : insn->rm_size;
    if (!insn->to_rm && !has_one_operand(insn->op)) {
        rm = &x86->operands[1];
        reg = &x86->operands[0];
    }
    if (!insn->memory && !is_register(rm, register_name(insn->rm, rm_size, insn->rm_high)))
        return false;
    if (has_one_operand(insn->op) || insn->immediate_source)
        return true;
    compared_registers++;
    char name[8];
    if (control)
        sprintf(name, "cr%u", insn->reg);
    else
        strcpy(name, register_name(insn->reg, insn->operand_size, insn->reg_high));
    return is_register(reg, name);
}

struct prefix_summary {
    bool operand;   // 66 among them
    u8 last;        // of all but REX
    u8 segment;     // the last segment override
    u8 rex;         // the last REX
    bool split_rex; // REX that another prefix, or REX, follows
};

static bool is_one_of(u8 byte, const char *set) { return byte && strchr(set, byte); }

static struct prefix_summary summarize_prefixes(const u8 *bytes, enum cpu_mode mode) {
    struct prefix_summary sum = {0};
    for (;; bytes++) {
        bool rex = mode == MODE_64 && (*bytes & 0xf0) == 0x40;
        bool segment = is_one_of(*bytes, "\x26\x2e\x36\x3e\x64\x65");
        if (!rex && !segment && !is_one_of(*bytes, "\x66\x67\xf0\xf2\xf3"))
            return sum;
        sum.split_rex |= sum.rex != 0;
        if (rex) {
            sum.rex = *bytes;
            continue;
        }
        sum.last = *bytes;
        sum.operand |= *bytes == 0x66;
        if (segment)
            sum.segment = *bytes;
    }
}

enum deviation {
    DEVIATION_NONE,
    DEVIATION_LOCK_CR,      // nor AMD's LOCK MOV to and from CR0 for CR8
    DEVIATION_66_REPEAT,    // F2 or F3 makes it forget 66, even where they select nothing
    DEVIATION_MOVSXD,       // MOVSXD is always into 8 bytes
    DEVIATION_REX_W,        // REX.W makes PUSH, POP, INS and OUTS 2 bytes wide
    DEVIATION_NULL_SEGMENT, // ES, CS, SS, DS overrides end the effect of FS and GS in 64-bit mode
    DEVIATION_COUNT
};

// Where Capstone 4.0.2 is taken to be wrong; asked only about instructions that differ.
static enum deviation capstone_deviation(const struct insn *insn, enum cpu_mode mode,
                                         const u8 *bytes) {
    struct prefix_summary sum = summarize_prefixes(bytes, mode);

    if (insn->op == OP_MOV_CR && insn->reg == 8 && (sum.split_rex || !(sum.rex & 4)))
        return DEVIATION_LOCK_CR;
    if (sum.operand && insn->rep)
        return DEVIATION_66_REPEAT;
    if (insn->op == OP_MOVSX && strstr(theirs->mnemonic, "movsxd") && insn->operand_size != 8)
        return DEVIATION_MOVSXD;
    if (sum.rex & 8 && (insn->op == OP_INS || insn->op == OP_OUTS))
        return DEVIATION_REX_W;
    if (insn->segment >= SEG_FS && mode == MODE_64 && sum.segment < 0x64)
        return DEVIATION_NULL_SEGMENT;
    return DEVIATION_NONE;
}

static const char *difference(const struct insn *insn, enum cpu_mode mode, const u8 *bytes,
                              size_t count) {
    const u8 *code = bytes;
    u64 address = 0;
    if (!cs_disasm_iter(capstone[mode], &code, &count, &address, theirs))
        return "unknown to Capstone";
    const cs_x86 *x86 = &theirs->detail->x86;
    if (theirs->size != insn->length)
        return "length";
    if (!same_operation(insn, theirs->mnemonic))
        return "operation";
    const cs_x86_op *mem = memory_operand(insn, x86);
    bool memory = insn->memory;
    if (memory && !mem)
        return "no memory operand";
    if (memory && !same_memory(insn, &mem->mem, mode))
        return "memory operand";
    if (memory && mem->size != insn->rm_size && insn->op != OP_CLFLUSH)
        return "size of the memory operand";
    if (!same_registers(insn, x86))
        return "registers";
    if (insn->immediate_source && insn->op != OP_IN && insn->op != OP_OUT &&
        !same_immediate(insn, x86))
        return "immediate";
    compared++;
    compared_op[insn->op]++;
    compared_memory += memory;
    return NULL;
}

// Reports each kind of difference once, with the first instruction that shows it.
static void report(const struct insn *insn, enum cpu_mode mode, const u8 *bytes,
                   const char *problem) {
    static const char *seen[OP_COUNT][3];
    differences++;
    if (seen[insn->op][mode] == problem)
        return;
    seen[insn->op][mode] = problem;
    print_error("mode %s: %s: %s; ours: %s; Capstone: %s %s\n", mode_name[mode],
                hex(bytes, insn->length), problem, format(insn), theirs->mnemonic, theirs->op_str);
}

static void compare(enum cpu_mode mode, const u8 *bytes, unsigned count) {
    struct insn insn;
    if (insn_decode(bytes, count, mode, &insn) != DECODE_OK)
        return;
    const char *problem = difference(&insn, mode, bytes, insn.length);
    if (!problem)
        return;
    enum deviation deviation = capstone_deviation(&insn, mode, bytes);
    excepted[deviation]++;
    if (deviation == DEVIATION_NONE)
        report(&insn, mode, bytes, problem);
}

// Sometimes prefixes, often REX or 0F, then random bytes.
static unsigned random_instruction(u8 bytes[15]) {
    static const u8 prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26,
                                  0x2e, 0x36, 0x3e, 0x64, 0x65, 0x48};
    u64 dice = random64();
    unsigned count = 0;

    for (unsigned i = dice & 0x300 ? 0 : dice & 3; i; i--)
        bytes[count++] = prefixes[random64() % COUNT_OF(prefixes)];
    if (dice & 4)
        bytes[count++] = 0x40 | (dice >> 12 & 15);
    if (dice & 8)
        bytes[count++] = 0x0f;
    while (count < 15)
        bytes[count++] = (u8)random64();
    return count;
}

static void test_random_against_capstone(void **state) {
    (void)state;
    unsigned rounds = random_rounds();
    unsigned long before = compared;
    u8 bytes[15];
    struct insn insn, again;

    differences = 0;
    for (unsigned i = 0; i < rounds; i++) {
        for (int mode = MODE_16; mode <= MODE_64; mode++) {
            unsigned count = random_instruction(bytes);
            compare(mode, bytes, count);
            if (i % 8 || insn_decode(bytes, count, mode, &insn) != DECODE_OK)
                continue;
            for (unsigned shorter = 0; shorter < insn.length; shorter++)
                assert_int_equal(decode_exactly(bytes, shorter, mode, &again), DECODE_TRUNCATED);
            assert_int_equal(decode_exactly(bytes, insn.length, mode, &again), DECODE_OK);
            assert_int_equal(again.length, insn.length);
        }
    }
    print_message("%u random strings per mode, %lu instructions compared\n", rounds,
                  compared - before);
    assert_true(compared - before > rounds / 4);
    assert_int_equal(differences, 0);
}

static void compare_modrm(enum cpu_mode mode, u8 *bytes, unsigned count) {
    for (unsigned modrm = 0; modrm < 256; modrm++) {
        bytes[count] = (u8)modrm;
        bytes[count + 1] = (u8)(modrm * 37 + bytes[count - 1] * 11); // SIB: varied, reproducible
        compare(mode, bytes, 15);
    }
}

// Every opcode with every ModRM behind subsets of the prefixes.
static void test_all_opcodes_against_capstone(void **state) {
    // The first three of these meet every REX, the others the first three REX.
    static const char *const prefixes[] = {"",      "66",    "67",    "f2",    "f3",   "f0",
                                           "26",    "2e",    "36",    "3e",    "64",   "65",
                                           "66 67", "66 f2", "f3 66", "66 f0", "65 f3"};
    static const u8 rex[] = {0, 0x48, 0x45, 0x40, 0x41, 0x42, 0x44, 0x4f};
    u8 bytes[32];

    (void)state;
    for (int mode = MODE_16; mode <= MODE_64; mode++) {
        for (unsigned p = 0; p < COUNT_OF(prefixes); p++) {
            unsigned rex_count = mode != MODE_64 ? 1 : p < 3 ? COUNT_OF(rex) : 3;
            for (unsigned r = 0; r < rex_count; r++) {
                memset(bytes, 0x91, sizeof(bytes));
                unsigned count = parse_hex(prefixes[p], bytes);
                if (rex[r])
                    bytes[count++] = rex[r];
                for (unsigned opcode = 0; opcode < 256; opcode++) {
                    bytes[count] = (u8)opcode;
                    compare_modrm(mode, bytes, count + 1);
                    bytes[count] = 0x0f;
                    bytes[count + 1] = (u8)opcode;
                    compare_modrm(mode, bytes, count + 2);
                }
            }
        }
    }
    print_message("%lu instructions compared, %lu with memory, %lu with two registers\n", compared,
                  compared_memory, compared_registers);
    for (int i = 1; i < DEVIATION_COUNT; i++)
        print_message("deviation %d: %lu excepted\n", i, excepted[i]);
    for (unsigned op = OP_INVALID + 1; op < OP_COUNT; op++)
        if (!compared_op[op])
            fail_msg("never compared: %s", op_name[op]);
    assert_int_equal(differences, 0);
    assert_true(compared > 500000 && compared_memory > 400000 && compared_registers > 100000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_opcodes_against_capstone),
        cmocka_unit_test(test_random_against_capstone),
    };
    return cmocka_run_group_tests(tests, open_capstone, close_capstone);
}
