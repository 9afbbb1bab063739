// SPDX-License-Identifier: Apache-2.0
//
// The emulator of instructions: what it does with a device, and what the real processor does with the same bytes and
// registers on RAM at the same address; registers, defined flags and memory must agree, and the device must have seen
// each access once, whole. String instructions in both directions, with REP, between devices, ports and memory. What
// is not done has touched nothing.
//
// sources: dom0/emulator/emulate.c dom0/emulator/decode.c dom0/emulator/alu.c dom0/emulator/walk.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#include "devices/host.h"
#include "emulator/emulator.h"
#include "emulator/x86.h"

#include <basalt/hypercall.h>
#include <basalt/trace.h>

#define unused __attribute__((unused))

static u64 seed;

static u64 native_random(void) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    u64 x = seed ^ seed >> 29;
    return x * 0xbf58476d1ce4e5b9ull ^ x >> 32;
}

#include "tests/unit/native_insn.h"

static struct emulator e;
static enum emulator_result outcome;
static u8 ram[PAGES(16)];
static unsigned pins;
static u8 device[PAGES(2)]; // what the emulated device holds
static u8 *area;            // the processor's memory at DEVICE
static unsigned reads, writes;
static u64 port_values[64];
static unsigned port_count;
static const u8 ram_pages[3] = {9, 7, 12}; // guest-physical pages of RAM

void *host_guest_pin(struct guest_memory *memory unused, uint64_t gpa, size_t *length,
                     bool write unused) {
    if (gpa >= sizeof(ram))
        return NULL;
    *length = MIN(*length, sizeof(ram) - gpa);
    assert_int_equal(pins++, 0);
    return ram + gpa;
}

void host_guest_unpin(struct guest_memory *memory unused) { pins--; }

static u64 frame(u64 linear) { // guest-physical address of a linear one
    if (linear < CODE)
        return DEVICE_GPA + (linear - DEVICE);
    return linear < RAM ? PAGES(5) : PAGES(ram_pages[(linear - RAM) / PAGE_SIZE]);
}

static u64 bus_read(void *context unused, bool memory, u64 address, unsigned bytes) {
    u64 value = ~0ull; // what lies above the access's size means nothing

    assert_true(bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8);
    if (!memory) {
        assert_int_equal(address, 0x170);
        return port_values[port_count++];
    }
    assert_true(address - DEVICE_GPA + bytes <= sizeof(device));
    memcpy(&value, device + (address - DEVICE_GPA), bytes);
    reads++;
    return value;
}

static void bus_write(void *context unused, bool memory, u64 address, unsigned bytes, u64 data) {
    assert_true(bytes == 8 || !(data >> (8 * bytes)));
    if (!memory) {
        assert_int_equal(address, 0x170);
        port_values[port_count++] = data;
        return;
    }
    assert_true(address - DEVICE_GPA + bytes <= sizeof(device));
    memcpy(device + (address - DEVICE_GPA), &data, bytes);
    writes++;
}

static const struct emulator_bus bus = {bus_read, bus_write};

static int setup(void **state unused) {
    const char *given = getenv("BASALT_TEST_SEED");

    seed = given ? strtoull(given, NULL, 0) : (u64)time(NULL);
    print_message("BASALT_TEST_SEED=%llu\n", (unsigned long long)seed);
    area = mmap((void *)DEVICE, PAGES(AREA_PAGES), PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_ptr_equal(area, (void *)DEVICE);
    return 0;
}

static void entry(u64 table, u64 index, u64 value) { memcpy(ram + table + index * 8, &value, 8); }

static void set_user(bool user) { e.state.segments[BASALT_SS].attributes = user ? 0xc0f3 : 0xc093; }

static int begin(void **state unused) {
    memset(ram, 0, sizeof(ram));
    e = (struct emulator){.bus = &bus};
    e.state.cr0 = CR0_PE | CR0_PG | CR0_WP;
    e.state.cr3 = PAGES(1);
    e.state.cr4 = CR4_PAE;
    e.state.efer = EFER_LMA | EFER_NXE;
    e.state.segments[BASALT_CS].attributes = 0xa09b;
    set_user(false);
    entry(PAGES(1), 0, PAGES(2) | 7);
    entry(PAGES(2), 0, PAGES(3) | 7);
    entry(PAGES(3), DEVICE >> 21, PAGES(4) | 7);
    for (u64 i = 0; i < AREA_PAGES; i++)
        entry(PAGES(4), i, frame(DEVICE + PAGES(i)) | 7);
    return 0;
}

static void load_code(const u8 *insn, unsigned length) {
    memset(ram + frame(CODE), 0xcc, 32);
    memcpy(ram + frame(CODE), insn, length);
    e.state.rip = CODE;
}

// As the kernel does with what it is told.
static void carry_out(struct basalt_request request) {
    e.request = request;
    outcome = emulator_run(&e);
    assert_int_equal(pins, 0);
    if (outcome != EMULATOR_COMPLETE || e.completion.action == BASALT_COMPLETE_EXCEPTION)
        return;
    memcpy(e.state.gprs, e.completion.gprs, sizeof(e.state.gprs));
    e.state.rflags = e.completion.rflags;
    e.state.rip += e.completion.length;
}

static void exit_at(u64 linear, bool write) {
    carry_out((struct basalt_request){.space = BASALT_SPACE_INSTRUCTION,
                                      .address = DEVICE_GPA + (linear - DEVICE),
                                      .data = BASALT_EXIT_MEMORY,
                                      .write = write});
}

static void exit_port(unsigned bytes, bool write) {
    carry_out((struct basalt_request){.space = BASALT_SPACE_INSTRUCTION,
                                      .address = 0x170,
                                      .data = BASALT_EXIT_IO,
                                      .bytes = (u8)bytes,
                                      .write = write});
}

static bool raised(unsigned vector) {
    return outcome == EMULATOR_COMPLETE && e.completion.action == BASALT_COMPLETE_EXCEPTION &&
           e.completion.vector == vector && !e.completion.length;
}

static bool done(void) {
    return outcome == EMULATOR_COMPLETE && e.completion.action == BASALT_COMPLETE_DONE;
}

static void compare(const struct form *f, struct sample *s) {
    struct native n = s->registers;

    for (unsigned i = 0; i < sizeof(device); i++)
        device[i] = (u8)native_random();
    if (f->opcode_bytes == 2 && f->opcode[1] >> 1 == 0x58 &&
        native_random() % 2) // CMPXCHG that succeeds
        memcpy(device + (s->target - DEVICE), n.gprs, s->size);
    memcpy(area, device, sizeof(device));
    load_code(s->bytes, s->length);
    memcpy(e.state.gprs, n.gprs, sizeof(n.gprs));
    e.state.rflags = n.rflags;
    reads = writes = 0;
    exit_at(s->target, f->access & W);
    execute_natively(&n, s->bytes, s->length);
    if (!done())
        fail_with(f, s, "it was not done", outcome, EMULATOR_COMPLETE);
    for (unsigned i = 0; i < 16; i++)
        if (i != BASALT_RSP && e.state.gprs[i] != n.gprs[i])
            fail_with(f, s, "register", e.state.gprs[i], n.gprs[i]);
    if ((e.state.rflags ^ n.rflags) & (s->flags | DF))
        fail_with(f, s, "flags", e.state.rflags, n.rflags);
    if (memcmp(device, area, sizeof(device)))
        fail_with(f, s, "memory", 0, 0);
    if (e.state.rip != CODE + s->length)
        fail_with(f, s, "RIP", e.state.rip, CODE + s->length);
    if (reads != (f->access & R) || writes != (f->access & W) / 2)
        fail_with(f, s, "accesses", reads << 4 | writes, 0);
}

static void test_against_the_processor(void **state unused) {
    for (unsigned n = 0; n < ARRAY_SIZE(forms); n++)
        for (unsigned k = 0; k < 150; k++) {
            struct sample s = make_sample(&forms[n]);
            if (!s.crosses)
                compare(&forms[n], &s);
        }
}

// ---- Strings ----

static void mirror(void) { // the processor's RAM as the guest has it
    for (u64 i = 0; i < 3; i++)
        memcpy((u8 *)RAM + PAGES(i), ram + PAGES(ram_pages[i]), PAGE_SIZE);
}

static bool ram_differs(void) {
    for (u64 i = 0; i < 3; i++)
        if (memcmp((u8 *)RAM + PAGES(i), ram + PAGES(ram_pages[i]), PAGE_SIZE))
            return true;
    return false;
}

static void test_strings(void **state unused) {
    static const u8 opcodes[] = {0xa4, 0xaa, 0xac}; // MOVS, STOS, LODS
    static const struct form f = {.name = "string"};

    for (unsigned n = 0; n < 6000; n++) {
        struct sample s = {0};
        u64 r = native_random();
        unsigned which = n % 3, size = 1u << (r & 3), rep = (unsigned)(r >> 2) % 3;
        bool source_device = which == 2 || (r >> 8) & 1,
             target_device = which == 1 || !source_device || (r >> 9) & 1;
        u64 count = (r >> 16) % 20, span = 512;
        // The RAM side is never aligned to anything and crosses pages, the device's stays within one.
        u64 source = source_device ? DEVICE + span + native_random() % 2048
                                   : RAM + span + native_random() % (PAGES(3) - 1024);
        u64 target = target_device ? DEVICE + PAGE_SIZE + span + native_random() % 2048
                                   : RAM + span + native_random() % (PAGES(3) - 1024);
        if (rep == 2)
            emit(&s, (r >> 20) & 1 ? 0xf3 : 0xf2, 1); // REPNE does the same here
        if (size == 2)
            emit(&s, 0x66, 1);
        if ((r >> 21) % 6 == 0)
            emit(&s, 0x67, 1);
        if (size == 8)
            emit(&s, 0x48, 1);
        emit(&s, opcodes[which] | (size > 1), 1);
        for (unsigned i = 0; i < 16; i++)
            s.registers.gprs[i] = native_random();
        s.registers.gprs[BASALT_RSI] = source;
        s.registers.gprs[BASALT_RDI] = target;
        s.registers.gprs[BASALT_RCX] = rep == 2 ? count : native_random();
        s.registers.rflags = 2 | (native_random() & ARITHMETIC) | ((r >> 40) & 1 ? DF : 0);
        struct native native = s.registers;
        for (unsigned i = 0; i < sizeof(device); i++)
            device[i] = (u8)native_random();
        for (unsigned i = 0; i < 64; i++)
            ram[PAGES(ram_pages[i % 3]) + native_random() % PAGE_SIZE] = (u8)native_random();
        memcpy(area, device, sizeof(device));
        mirror();
        load_code(s.bytes, s.length);
        memcpy(e.state.gprs, native.gprs, sizeof(native.gprs));
        e.state.rflags = native.rflags;
        reads = writes = 0;
        for (unsigned turns = 0; e.state.rip == CODE; turns++) {
            assert_true(turns <= 20);
            exit_at(source_device ? DEVICE : DEVICE + PAGE_SIZE,
                    !source_device); // where exactly is found out anew
            assert_true(done());
        }
        execute_natively(&native, s.bytes, s.length);
        u64 elements = rep == 2 ? count : 1;
        assert_int_equal(reads, which != 1 && source_device ? elements : 0);
        assert_int_equal(writes, which != 2 && target_device ? elements : 0);
        for (unsigned i = 0; i < 16; i++)
            if (i != BASALT_RSP && e.state.gprs[i] != native.gprs[i])
                fail_with(&f, &s, "register", e.state.gprs[i], native.gprs[i]);
        assert_true(e.state.rflags == s.registers.rflags);
        assert_memory_equal(device, area, sizeof(device));
        assert_false(ram_differs());
        assert_true(e.state.rip == CODE + s.length);
    }
}

// The memory side faults before the device is touched, and nothing has moved.
static void test_string_faults(void **state unused) {
    entry(PAGES(4), 4, frame(RAM + PAGE_SIZE) | 5); // the second page of RAM is read-only
    entry(PAGES(4), 5, 0);                          // the third one is gone
    for (unsigned n = 0; n < 4; n++) {
        bool reading = n & 1, gone = n & 2 || reading;
        u64 where = RAM + PAGES(gone ? 2 : 1) + 8;
        load_code((const u8 *)"\xf3\x48\xa5", 3); // REP MOVSQ
        e.state.gprs[BASALT_RSI] = reading ? where : DEVICE + 64;
        e.state.gprs[BASALT_RDI] = reading ? DEVICE + 64 : where;
        e.state.gprs[BASALT_RCX] = 5;
        e.state.rflags = 2;
        struct basalt_vcpu_state before = e.state;
        reads = writes = 0;
        exit_at(DEVICE + 64, reading);
        assert_int_equal(reads + writes, 0);
        assert_true(raised(EXC_PF));
        assert_int_equal(e.completion.error, reading ? 0 : gone ? 2 : 3);
        assert_true(e.completion.operand == where);
        assert_memory_equal(&before, &e.state, sizeof(before));
        assert_memory_equal(before.gprs, e.completion.gprs, sizeof(before.gprs));
    }
}

static void test_string_ports(void **state unused) {
    for (unsigned n = 0; n < 2000; n++) {
        struct sample s = {0};
        u64 r = native_random(), start = RAM + 600 + native_random() % (PAGES(3) - 1200);
        unsigned bytes = 1u << (r & 3) % 3;
        bool out = r & 4, rep = r & 8, down = r & 16, narrow = (r >> 5) % 6 == 0;
        u64 count = rep ? (r >> 16) % 20 : 1, step = down ? -(u64)bytes : bytes;
        u8 expected[PAGES(3)];
        if (rep)
            emit(&s, 0xf3, 1);
        if (bytes == 2)
            emit(&s, 0x66, 1);
        if (narrow)
            emit(&s, 0x67, 1);
        emit(&s, (out ? 0x6eu : 0x6cu) | (bytes > 1), 1);
        for (unsigned i = 0; i < 16; i++)
            e.state.gprs[i] = native_random();
        unsigned pointer = out ? BASALT_RSI : BASALT_RDI;
        e.state.gprs[pointer] = start | (narrow ? native_random() << 32 : 0);
        e.state.gprs[BASALT_RCX] = rep ? count | (narrow ? native_random() << 32 : 0)
                                       : native_random();
        u64 old_count = e.state.gprs[BASALT_RCX];
        e.state.rflags = 2 | (down ? DF : 0);
        for (unsigned i = 0; i < 64; i++) {
            ram[PAGES(ram_pages[i % 3]) + native_random() % PAGE_SIZE] = (u8)native_random();
            port_values[i] = native_random();
        }
        mirror();
        memcpy(expected, (u8 *)RAM, sizeof(expected));
        u64 given[64];
        memcpy(given, port_values, sizeof(given));
        load_code(s.bytes, s.length);
        port_count = 0;
        for (unsigned turns = 0; e.state.rip == CODE; turns++) {
            assert_true(turns <= 20);
            exit_port(bytes, out);
            assert_true(done());
        }
        assert_int_equal(port_count, count);
        for (u64 i = 0; i < count; i++) {
            u8 *at = expected + (i64)(start - RAM + i * step);
            u64 value = 0;
            if (out) {
                memcpy(&value, at, bytes);
                assert_true(port_values[i] == value);
            } else {
                memcpy(at, &given[i], bytes);
            }
        }
        mirror();
        assert_memory_equal(expected, (u8 *)RAM, sizeof(expected));
        u64 after = start + count * step;
        assert_true(narrow ? (u32)e.state.gprs[pointer] == (u32)after
                           : e.state.gprs[pointer] == after);
        if (narrow && count)
            assert_true(e.state.gprs[pointer] ==
                        (u32)after); // a 32-bit write clears the upper half
        assert_true(e.state.gprs[BASALT_RCX] ==
                    (rep ? narrow && !count ? old_count : 0 : old_count));
    }
}

static void test_string_port_faults(void **state unused) {
    entry(PAGES(4), 4, frame(RAM + PAGE_SIZE) | 5);
    for (unsigned user = 0; user < 2; user++) {
        set_user(user);
        load_code((const u8 *)"\x6d", 1); // INSD to a read-only page
        e.state.gprs[BASALT_RDI] = RAM + PAGE_SIZE + 16;
        e.state.rflags = 2;
        port_count = 0;
        exit_port(4, false);
        assert_int_equal(port_count, 0);
        assert_true(raised(EXC_PF));
        assert_int_equal(e.completion.error, user ? 7 : 3);
        assert_true(e.completion.operand == RAM + PAGE_SIZE + 16);
    }
    set_user(false);
    load_code((const u8 *)"\x6d", 1);
    e.state.gprs[BASALT_RDI] = BIT(47); // not canonical
    exit_port(4, false);
    assert_true(raised(EXC_GP));
}

// More than one request's share goes on with the next one.
static void test_long_string(void **state unused) {
    load_code((const u8 *)"\xf3\xab", 2); // REP STOSD
    e.state.gprs[BASALT_RDI] = DEVICE;
    e.state.gprs[BASALT_RCX] = ELEMENTS_MAX + 3;
    e.state.rflags = 2;
    writes = 0;
    exit_at(DEVICE, true);
    assert_true(done() && e.state.rip == CODE);
    assert_int_equal(writes, ELEMENTS_MAX);
    assert_int_equal(e.state.gprs[BASALT_RCX], 3);
    assert_true(e.state.gprs[BASALT_RDI] == DEVICE + 4 * ELEMENTS_MAX);
    exit_at(DEVICE + 4 * ELEMENTS_MAX, true);
    assert_true(done() && e.state.rip == CODE + 2);
    assert_int_equal(writes, ELEMENTS_MAX + 3);
}

// ---- What is not done ----

static void expect(const char *bytes, unsigned length, u64 rbx, enum emulator_result want) {
    struct basalt_vcpu_state before;

    load_code((const u8 *)bytes, length);
    e.state.gprs[BASALT_RBX] = rbx;
    e.state.rflags = 2;
    before = e.state;
    reads = writes = 0;
    exit_at(DEVICE, true);
    assert_int_equal(outcome, want);
    assert_int_equal(reads + writes, 0);
    assert_memory_equal(&before, &e.state, sizeof(before));
}

static void test_what_cannot_be_emulated(void **state unused) {
    expect("\xff\x33", 2, DEVICE, EMULATOR_CANNOT);                 // PUSH [RBX]
    expect("\x8f\x03", 2, DEVICE, EMULATOR_CANNOT);                 // POP [RBX]
    expect("\x0f\x29\x03", 3, DEVICE, EMULATOR_CANNOT);             // MOVAPS [RBX], XMM0
    expect("\x0f\xc7\x0b", 3, DEVICE, EMULATOR_CANNOT);             // CMPXCHG8B [RBX]
    expect("\xdd\x03", 2, DEVICE, EMULATOR_CANNOT);                 // FLD [RBX]
    expect("\xa6", 1, DEVICE, EMULATOR_CANNOT);                     // CMPSB
    expect("\xff\x13", 2, DEVICE, EMULATOR_CANNOT);                 // CALL [RBX]
    expect("\x89\x03", 2, DEVICE + PAGE_SIZE - 2, EMULATOR_CANNOT); // across two pages
    expect("\xd8\x03", 2, DEVICE, EMULATOR_CANNOT);
}

// Another processor of the guest has written something else there.
static void test_what_changed_meanwhile(void **state unused) {
    expect("\x89\x03", 2, RAM, EMULATOR_AGAIN);        // no device any more
    expect("\xec", 1, DEVICE, EMULATOR_AGAIN);         // a port, without an intercept for it
    expect("\x0f\x01\x33", 3, DEVICE, EMULATOR_AGAIN); // LMSW [RBX]
    expect("\x0f\x01\xc1", 3, DEVICE, EMULATOR_AGAIN); // VMCALL
    expect("\x90", 1, DEVICE, EMULATOR_AGAIN);
    expect("\x89\xd8", 2, DEVICE, EMULATOR_AGAIN); // MOV EAX, EBX
    load_code((const u8 *)"\xee", 1);              // OUT where IN was
    exit_port(1, false);
    assert_int_equal(outcome, EMULATOR_AGAIN);
    load_code((const u8 *)"\x6d", 1); // four bytes where one was
    exit_port(1, false);
    assert_int_equal(outcome, EMULATOR_AGAIN);
    load_code((const u8 *)"\x89\x03", 2);
    exit_port(1, false);
    assert_int_equal(outcome, EMULATOR_AGAIN);
}

static void test_what_faults(void **state unused) {
    load_code((const u8 *)"\x0f\x0b", 2);
    exit_at(DEVICE, true);
    assert_true(raised(EXC_UD));
    memset(ram + frame(CODE), 0x66, 32);
    exit_at(DEVICE, true);
    assert_true(raised(EXC_GP));
    load_code((const u8 *)"\x01\x03", 2);
    e.state.gprs[BASALT_RBX] = BIT(47);
    exit_at(DEVICE, true);
    assert_true(raised(EXC_GP));
    entry(PAGES(4), 0, frame(DEVICE) | 5); // read-only
    e.state.gprs[BASALT_RBX] = DEVICE + 8;
    exit_at(DEVICE + 8, true);
    assert_true(raised(EXC_PF) && e.completion.error == 3 && e.completion.operand == DEVICE + 8);
}

// CLTS, LMSW and SMSW. The exit tells whether it was a write.
static void test_machine_status_word(void **state unused) {
    enum { STORED, LOADED, AGAIN };
    static const struct {
        const char *code;
        u8 length, lmsw, want;
        u16 loaded, memory; // of which RBX is the address
        u64 rdx;
    } rows[] = {
        {"\x0f\x01\x23", 3, 0, STORED, 0, CR0_PE, ~0ull}, // SMSW [RBX]
        {"\x0f\x01\x23", 3, 1, AGAIN, 0, 0x0b, ~0ull},
        {"\x0f\x01\xe2", 3, 0, STORED, 0, 0x0b, CR0_PE | CR0_PG | CR0_WP}, // SMSW EDX
        {"\x66\x0f\x01\xe2", 4, 0, STORED, 0, 0x0b, ~0xffffull | CR0_PE},  // SMSW DX
        {"\x0f\x01\x33", 3, 0, AGAIN, 0, 0x0b, ~0ull},                     // LMSW [RBX]
        {"\x0f\x01\x33", 3, 1, LOADED, 0x0b, 0x0b, ~0ull},
        {"\x0f\x01\xf0", 3, 0, AGAIN, 0, 0x0b, ~0ull}, // LMSW AX
        {"\x0f\x01\xf0", 3, 1, LOADED, 0x0a, 0x0b, ~0ull},
        {"\x0f\x06", 2, 0, AGAIN, 0, 0x0b, ~0ull}, // CLTS
        {"\x0f\x06", 2, 1, LOADED, CR0_PE, 0x0b, ~0ull},
        {"\x0f\x22\xc0", 3, 1, AGAIN, 0, 0x0b, ~0ull}, // MOV CR0, RAX: the kernel does it
    };
    u16 *memory = (u16 *)&ram[PAGES(ram_pages[0]) + 6];

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        *memory = 0x0b;
        e.state.cr0 = CR0_PE | CR0_PG | CR0_WP | (rows[i].code[1] == 6 ? CR0_TS : 0);
        e.state.gprs[BASALT_RAX] = 0x7777000a;
        e.state.gprs[BASALT_RBX] = RAM + 6;
        e.state.gprs[BASALT_RDX] = ~0ull;
        load_code((const u8 *)rows[i].code, rows[i].length);
        carry_out((struct basalt_request){.space = BASALT_SPACE_INSTRUCTION,
                                          .data = BASALT_EXIT_CR_ACCESS,
                                          .write = rows[i].lmsw});
        assert_int_equal(outcome, rows[i].want == AGAIN ? EMULATOR_AGAIN : EMULATOR_COMPLETE);
        assert_true(e.state.rip == CODE + (rows[i].want == AGAIN ? 0 : rows[i].length));
        assert_true(e.state.gprs[BASALT_RDX] == rows[i].rdx);
        assert_int_equal(*memory, rows[i].memory);
        if (rows[i].want == AGAIN)
            continue;
        assert_int_equal(e.completion.action,
                         rows[i].want == LOADED ? BASALT_COMPLETE_LMSW : BASALT_COMPLETE_DONE);
        assert_int_equal(e.completion.operand, rows[i].loaded);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_against_the_processor),
        TEST(test_absolute_address),
        TEST(test_strings),
        TEST(test_string_faults),
        TEST(test_string_ports),
        TEST(test_string_port_faults),
        TEST(test_long_string),
        TEST(test_what_cannot_be_emulated),
        TEST(test_what_changed_meanwhile),
        TEST(test_what_faults),
        TEST(test_machine_status_word),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
