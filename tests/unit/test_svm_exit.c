// SPDX-License-Identifier: Apache-2.0
//
// Exits: every code of the APM gives the kind that it should, with and without NRIP save and decode
// assists; and what must not reach the host is intercepted.
//
// sources: svm/exit.c svm/event.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86.h"
#include "svm/svm.h"

#define EXC_BR 5u // BOUND

static const struct backend_features plain = {0};
static const struct backend_features rich = {.nrip_save = true, .decode_assists = true};
struct backend_features backend_features;
static struct vmcb v;
static struct cpu_state cpu = {.page = &v};
static unsigned machine_checks;

void svm_machine_check(void) { machine_checks++; }

static struct exit decode(u64 code, u64 info1, u64 info2, const struct backend_features *features) {
    v.exit_code = code;
    v.exit_info1 = info1;
    v.exit_info2 = info2;
    backend_features = *features;
    return svm_exit(&cpu);
}

static int fresh(void **state) {
    (void)state;
    memset(&v, 0, sizeof(v));
    v.rip = 0x1000;
    return 0;
}

// From the APM's table of exit codes, in its order; instructions are in lower case there too.
static const struct {
    u64 code;
    u8 kind;
    bool instruction;
} expected[] = {
    {0x60, BASALT_EXIT_INTERRUPT, false},   {0x61, BASALT_EXIT_NMI, false},
    {0x62, BASALT_EXIT_SMI, false},         {0x63, BASALT_EXIT_INIT, false},
    {0x64, BASALT_EXIT_IRQ_WINDOW, false},  {0x6e, BASALT_EXIT_UNKNOWN, false},
    {0x6f, BASALT_EXIT_RDPMC, true},        {0x72, BASALT_EXIT_CPUID, true},
    {0x73, BASALT_EXIT_VIRT_INSN, true},    {0x74, BASALT_EXIT_NMI_WINDOW, false},
    {0x76, BASALT_EXIT_INVD, true},         {0x77, BASALT_EXIT_PAUSE, true},
    {0x78, BASALT_EXIT_HLT, true},          {0x7a, BASALT_EXIT_VIRT_INSN, true},
    {0x7d, BASALT_EXIT_TASK_SWITCH, false}, {0x7f, BASALT_EXIT_TRIPLE_FAULT, false},
    {0x80, BASALT_EXIT_VIRT_INSN, true},    {0x81, BASALT_EXIT_HYPERCALL, true},
    {0x82, BASALT_EXIT_VIRT_INSN, true},    {0x83, BASALT_EXIT_VIRT_INSN, true},
    {0x84, BASALT_EXIT_VIRT_INSN, true},    {0x85, BASALT_EXIT_VIRT_INSN, true},
    {0x86, BASALT_EXIT_VIRT_INSN, true},    {0x87, BASALT_EXIT_UNKNOWN, false},
    {0x89, BASALT_EXIT_WBINVD, true},       {0x8a, BASALT_EXIT_MONITOR, true},
    {0x8b, BASALT_EXIT_MWAIT, true},        {0x8d, BASALT_EXIT_XSETBV, true},
    {0x8e, BASALT_EXIT_VIRT_INSN, true},    {0xa0, BASALT_EXIT_VIRT_INSN, true},
    {0xa1, BASALT_EXIT_VIRT_INSN, true},    {0xa3, BASALT_EXIT_VIRT_INSN, true},
    {0xa4, BASALT_EXIT_VIRT_INSN, true},
};

static void test_kinds_and_lengths(void **state) {
    (void)state;
    v.next_rip = 0x1003;
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        struct exit e = decode(expected[i].code, 0, 0, &rich);
        assert_int_equal(e.kind, expected[i].kind);
        assert_int_equal(e.insn_length, expected[i].instruction ? 3 : 0);
    }
    v.next_rip = 0; // the processor did not say
    assert_int_equal(decode(0x72, 0, 0, &rich).insn_length, 0);
    v.next_rip = 0x1010; // more than an instruction has
    assert_int_equal(decode(0x72, 0, 0, &rich).insn_length, 0);
    v.next_rip = 0x100f;
    assert_int_equal(decode(0x72, 0, 0, &rich).insn_length, 15);
}

static void test_unknown(void **state) {
    (void)state;
    const u64 codes[] = {0x66, 0x79, 0x8f,  0x90,  0x9f,  0xa2,       0xa5,    0xa6,
                         0xbf, 0xff, 0x3ff, 0x401, 0x403, 0xfffffffe, BIT(32), ~0ull << 32};
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        struct exit e = decode(codes[i], 0x77, 0, &rich);
        assert_int_equal(e.kind, BASALT_EXIT_UNKNOWN);
        assert_int_equal(e.detail, codes[i]);
    }
    assert_int_equal(decode(~0ull, 0, 0, &rich).kind, BASALT_EXIT_BAD_STATE);
    assert_int_equal(decode(0xffffffff, 0, 0, &rich).kind, BASALT_EXIT_BAD_STATE);
}

static void test_calls(void **state) {
    (void)state;
    for (u8 cpl = 0; cpl < 4; cpl++) {
        v.cpl = cpl;
        struct exit e = decode(0x81, 0x77, 0, cpl & 1 ? &rich : &plain);
        assert_int_equal(e.kind, BASALT_EXIT_HYPERCALL);
        assert_int_equal(e.detail, cpl);
        assert_int_equal(e.insn_length, 3);
    }
    for (u8 prefixes = 0; prefixes <= 12; prefixes++) {
        v.next_rip = v.rip + 3 + prefixes;
        assert_int_equal(decode(0x81, 0, 0, &rich).insn_length, 3 + prefixes);
    }
}

static void test_control_registers(void **state) {
    (void)state;
    for (u8 cr = 0; cr < 16; cr++) {
        struct exit e = decode(EXIT_CR_READ + cr, CR_INFO_MOV | 5, 0, &rich);
        assert_int_equal(e.kind, BASALT_EXIT_CR_ACCESS);
        assert_int_equal(e.cr, cr);
        assert_int_equal(e.gpr, 5);
        assert_false(e.write);
        e = decode(EXIT_CR_WRITE + cr, CR_INFO_MOV | 15, 0, &rich);
        assert_int_equal(e.cr, cr);
        assert_int_equal(e.gpr, 15);
        assert_true(e.write);
        assert_int_equal(decode(EXIT_CR_WRITE + cr, 3, 0, &rich).gpr, 0xff); // LMSW and its kind
        assert_int_equal(decode(EXIT_CR_WRITE + cr, CR_INFO_MOV | 3, 0, &plain).gpr, 0xff);
    }
    struct exit e = decode(EXIT_CR0_SELECT, CR_INFO_MOV | 2, 0, &rich);
    assert_int_equal(e.kind, BASALT_EXIT_CR_ACCESS);
    assert_int_equal(e.cr, 0);
    assert_int_equal(e.gpr, 2);
    assert_true(e.write);
}

static void test_debug_registers(void **state) {
    (void)state;
    for (u8 dr = 0; dr < 16; dr++) {
        assert_int_equal(decode(EXIT_DR_READ + dr, 4, 0, &rich).kind, BASALT_EXIT_DR_ACCESS);
        assert_int_equal(decode(EXIT_DR_READ + 0x10 + dr, 4, 0, &plain).kind,
                         BASALT_EXIT_DR_ACCESS);
    }
}

static void test_exceptions(void **state) {
    (void)state;
    for (u8 vector = 0; vector < 32; vector++) {
        struct exit e = decode(EXIT_EXCEPTION + vector, 0x1234, 0xdeadb000, &rich);
        bool machine_check = vector == EXC_MC;
        if (!machine_check && vector != EXC_DB && vector != EXC_AC) { // not intercepted
            assert_int_equal(e.kind, BASALT_EXIT_UNKNOWN);
            assert_int_equal(e.detail, EXIT_EXCEPTION + vector);
            continue;
        }
        assert_int_equal(e.kind, machine_check ? BASALT_EXIT_MACHINE_CHECK : BASALT_EXIT_EXCEPTION);
        assert_int_equal(e.vector, vector);
        assert_int_equal(machine_checks, vector >= EXC_MC); // the host has seen it
        if (EXC_WITH_ERROR >> vector & 1)
            assert_int_equal(e.detail, 0x1234);
        assert_int_equal(e.insn_length, 0);
    }
    v.dr6 = DR6_FIXED | BIT(14);
    assert_int_equal(decode(EXIT_EXCEPTION + EXC_DB, 0, 0, &rich).detail, BIT(14));
    assert_int_equal(decode(0x7e, 0, 0, &rich).vector, EXC_MF);
}

static void test_icebp_has_a_length(void **state) {
    (void)state;
    struct exit e = decode(0x88, 0, 0, &plain);
    assert_int_equal(e.kind, BASALT_EXIT_EXCEPTION);
    assert_int_equal(e.vector, EXC_DB);
    assert_int_equal(e.insn_length, 1);
    v.next_rip = 0x1002; // with a prefix
    assert_int_equal(decode(0x88, 0, 0, &rich).insn_length, 2);
}

static void test_io(void **state) {
    (void)state;
    struct exit e = decode(0x7b, 0x03f80090, 0x1001, &plain); // out %al, %dx
    assert_int_equal(e.kind, BASALT_EXIT_IO);
    assert_int_equal(e.port, 0x3f8);
    assert_int_equal(exit_io_bytes(e), 1);
    assert_int_equal(e.insn_length, 1);
    assert_false(e.access & EXIT_IO_IN);
    assert_false(e.access & EXIT_IO_STRING);
    e = decode(0x7b, 0xffff0c00 | 0x100 | 0x40 | 0xd, 0x1003, &rich); // rep insl
    assert_int_equal(e.port, 0xffff);
    assert_int_equal(exit_io_bytes(e), 4);
    assert_int_equal(e.insn_length, 3);
    assert_true(e.access & EXIT_IO_IN);
    assert_true(e.access & EXIT_IO_STRING);
    e = decode(0x7b, 0x220 | BIT(16), 0x1000, &rich); // 64-bit addresses; next RIP is nonsense
    assert_int_equal(exit_io_bytes(e), 2);
    assert_int_equal(e.insn_length, 0);
}

static void test_msr(void **state) {
    (void)state;
    assert_int_equal(decode(0x7c, 0, 0, &plain).kind, BASALT_EXIT_RDMSR);
    assert_int_equal(decode(0x7c, 1, 0, &plain).kind, BASALT_EXIT_WRMSR);
}

static void test_nested_fault(void **state) {
    (void)state;
    struct exit e = decode(0x400, BIT(32) | 6, 0xfee00300, &rich);
    assert_int_equal(e.kind, BASALT_EXIT_MEMORY);
    assert_int_equal(e.gpa.v, 0xfee00300);
    assert_true(e.write);
    assert_false(e.fetch);
    assert_false(e.in_walk);
    e = decode(0x400, BIT(33) | 0x14, 0x1000, &rich);
    assert_false(e.write);
    assert_true(e.fetch);
    assert_true(e.in_walk);
}

static struct event vectoring(unsigned type, unsigned vector, u64 rest) {
    cpu.queued.valid = false;
    v.exit_int_info = rest | type << 8 | vector;
    v.exit_code = EXIT_NESTED_FAULT;
    svm_events_after_exit(&cpu);
    return cpu.queued;
}

static void test_vectoring(void **state) {
    (void)state;
    struct event e = vectoring(EVENT_INTERRUPT, 0x33, EVENT_VALID);
    assert_true(e.valid);
    assert_int_equal(e.vector, 0x33);
    assert_int_equal(e.type, EVENT_INTERRUPT);
    assert_false(e.has_error);
    e = vectoring(EVENT_EXCEPTION, EXC_GP, EVENT_VALID | EVENT_HAS_ERROR | 0xabcdull << 32);
    assert_int_equal(e.type, EVENT_EXCEPTION);
    assert_true(e.has_error);
    assert_int_equal(e.error, 0xabcd);
    cpu.svm.nmi = NMI_BLOCKED;
    assert_true(vectoring(EVENT_NMI, 2, EVENT_VALID).valid);
    assert_int_equal(cpu.svm.nmi, NMI_OPEN); // it was not delivered
    assert_false(vectoring(EVENT_INTERRUPT, 0x33, 0).valid);
    // These are executed again.
    assert_false(vectoring(EVENT_SOFT_INTERRUPT, 0x80, EVENT_VALID).valid);
    assert_false(vectoring(EVENT_EXCEPTION, EXC_BP, EVENT_VALID).valid);
    assert_false(vectoring(EVENT_EXCEPTION, EXC_OF, EVENT_VALID).valid);
    assert_true(vectoring(EVENT_EXCEPTION, EXC_BR, EVENT_VALID).valid);
}

static void test_intercepts(void **state) {
    (void)state;
    const u8 never[] = {0x64, 0x6e, 0x70, 0x71, 0x74, 0x75, 0x77, 0x79, 0x87, 0x8f};
    const u8 always[] = {0x41, 0x51, 0x52, 0x60, 0x61, 0x62, 0x63, 0x65, 0x6f, 0x72, 0x73,
                         0x76, 0x78, 0x7a, 0x7b, 0x7c, 0x7d, 0x7e, 0x7f, 0x80, 0x81, 0x82,
                         0x83, 0x84, 0x85, 0x86, 0x88, 0x89, 0x8a, 0x8b, 0x8d, 0x8e};
    svm_intercept_always(&cpu);
    for (unsigned i = 0; i < ARRAY_SIZE(always); i++)
        assert_true(vmcb_intercepts(&v, always[i]));
    for (unsigned i = 0; i < ARRAY_SIZE(never); i++)
        assert_false(vmcb_intercepts(&v, never[i]));
    assert_int_equal(v.intercepts[2], BIT(EXC_DB) | BIT(EXC_AC) | BIT(EXC_MC));
    assert_true(cpu.dirty & VMCB_CLEAN_INTERCEPTS);
}

static void test_any_vmcb(void **state) {
    (void)state;
    srand(7);
    for (int i = 0; i < 300000; i++) {
        u64 *words = (u64 *)&v;
        for (unsigned n = 0x60 / 8; n < 0xf0 / 8; n++)
            words[n] = (u64)rand() << 33 ^ (u64)rand() << 11 ^ (u64)rand();
        v.exit_code &= i % 2 ? 0xff : 0x7ff;
        backend_features = i % 3 ? rich : plain;
        struct exit e = svm_exit(&cpu);
        assert_true(e.kind < BASALT_EXIT_COUNT);
        assert_true(e.insn_length <= 15);
        assert_true(e.gpr < 16 || e.gpr == 0xff);
        if (e.kind == BASALT_EXIT_CR_ACCESS)
            assert_true(e.cr < 16);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_kinds_and_lengths, fresh),
        cmocka_unit_test_setup(test_unknown, fresh),
        cmocka_unit_test_setup(test_calls, fresh),
        cmocka_unit_test_setup(test_control_registers, fresh),
        cmocka_unit_test_setup(test_debug_registers, fresh),
        cmocka_unit_test_setup(test_exceptions, fresh),
        cmocka_unit_test_setup(test_icebp_has_a_length, fresh),
        cmocka_unit_test_setup(test_io, fresh),
        cmocka_unit_test_setup(test_msr, fresh),
        cmocka_unit_test_setup(test_nested_fault, fresh),
        cmocka_unit_test_setup(test_vectoring, fresh),
        cmocka_unit_test_setup(test_intercepts, fresh),
        cmocka_unit_test_setup(test_any_vmcb, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
