// SPDX-License-Identifier: Apache-2.0
//
// realmode [STEP] [0]: what the other attacks do in 32-bit and 64-bit code, in real-address mode, where the kernel decodes
// 16-bit code and no exception has an error code: every STEPth port, string I/O at the end of a segment and around it,
// MSRs, instructions that exit with prefixes, across pages and at the end of their segment, devices through a segment of
// 4 GiB, hypercalls; then (but for 0) in virtual-8086 mode, which has no privileges. 32-bit code only: 64-bit code can't
// get there.

#include "realmode.h"
#include "../lib/guest.h"
#include "../lib/ports.h"

#include <basalt/hypercall.h>

#ifndef __x86_64__

struct real_state {
    u32 ax, cx, dx, bx, bp, si, di;
    u8 idt[8], gdt[8]; // limit, base
    u16 es, ds, ip, cs, flags, vector;
};
_Static_assert(offsetof(struct real_state, vector) == STATE_VECTOR, "as switch.S has it");

extern u8 real_code[], real_code_end[], real_stubs[], gdt_pointer[];
void real_enter(void);
unsigned v86_enter(u32 segment);

static struct real_state *const state = (void *)REAL_STATE;
static u8 *const code_segment = (void *)(REAL_CODE << 4);
static u8 *const data_segment = (void *)(REAL_DATA << 4);

#define END     0x61 // the interrupt with which code ends that nothing has stopped

#define SEGMENT 0x10000u

static void set_up(void) {
    u16 first = (u16)(REAL_PAGE + (real_stubs - real_code));

    memcpy((void *)REAL_PAGE, real_code, (size_t)(real_code_end - real_code));
    volatile u16 *vectors;
    asm("" : "=r"(vectors) : "0"(0)); // the compiler need not know where
    for (u32 i = 0; i < 256; i++) {
        vectors[2 * i] = (u16)(first + 3 * i);
        vectors[2 * i + 1] = 0;
    }
    memset(state, 0, sizeof(*state));
    memcpy(state->idt, &(struct table_pointer){0x3ff, 0}, sizeof(struct table_pointer));
    memcpy(state->gdt, gdt_pointer, sizeof(struct table_pointer));
    state->flags = 2;
}

// Runs code with what is in `state`, at an offset of its segment (around whose end it goes on at 0). Returns the vector.
static u32 real_at(u16 ip, const u8 *code, u32 length) {
    static const u8 end[] = {0xcd, END};
    u16 first = (u16)(REAL_PAGE + (real_stubs - real_code));

    for (u32 i = 0; i < length + 2; i++)
        code_segment[(u16)(ip + i)] = i < length ? code[i] : end[i - length];
    state->ip = ip;
    state->es = state->ds = REAL_DATA;
    real_enter();
    return (u32)(state->vector - first) / 3 - 1;
}

static u32 real(const u8 *code, u32 length) { return real_at(0x100, code, length); }

#define REAL(...) real((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void ports(u32 step) {
    for (u32 port = 0; port < 0x10000; port += step) {
        bool free = true;
        for (u32 i = 0; i < 4; i++)
            free = free && !port_claimed((port + i) & 0xffff);
        if (!free)
            continue;
        state->dx = port;
        state->ax = state->bx = state->cx = 0;
        // IN AL; MOV BL, AL; IN AX; MOV CX, AX; IN EAX; OUT EAX; OUT AX; OUT AL
        u32 vector = REAL(0xec, 0x88, 0xc3, 0xed, 0x89, 0xc1, 0x66, 0xed, 0x66, 0xef, 0xef, 0xee);
        if (vector != END || state->bx != 0xff || state->cx != 0xffff || state->ax != 0xffffffff)
            fail("port %x: vector %u, %x, %x, %x", port, vector, state->bx, state->cx, state->ax);
    }
}

// REP INS or OUTS of `count` elements from DI/SI on; `bytes` may pass the segment's end only one by one.
static void string(bool in, u32 bytes, u32 from, u32 count) {
    u8 code[] = {0xf3, 0x66, 0};
    bool fits = from % bytes == 0;
    u32 total = bytes * count;

    code[2] = (u8)((in ? 0x6c : 0x6e) | (bytes > 1));
    memset(data_segment - 16, 0, SEGMENT + 32);
    state->dx = 0x80;
    state->cx = count;
    state->si = state->di = from;
    u32 vector = bytes == 2 ? real((const u8[]){0xf3, code[2]}, 2) : real(code, 3);
    if (vector != (fits ? END : 13u))
        fail("%s of %u x %u at %x: vector %u", in ? "INS" : "OUTS", count, bytes, from, vector);
    // Around the segment's end it goes on at its beginning, never behind it.
    for (u32 i = 0; i < SEGMENT; i++) {
        u32 distance = (i - from) & 0xffff;
        bool written = in && distance < total &&
                       (fits || from + distance / bytes * bytes + bytes <= SEGMENT);
        if (data_segment[i] != (written ? 0xff : 0)) {
            fail("INS of %u x %u at %x: byte %x is %x", count, bytes, from, i, data_segment[i]);
            return;
        }
    }
    for (u32 i = 0; i < 16; i++)
        if (data_segment[SEGMENT + i] || data_segment[-16 + (int)i])
            fail("INS of %u x %u at %x: behind the segment", count, bytes, from);
}

static void strings(void) {
    for (u32 bytes = 1; bytes <= 4; bytes *= 2)
        for (u32 from = 0xfff8; from < SEGMENT; from++) {
            string(true, bytes, from, 6);
            string(false, bytes, from, 6);
        }
    state->dx = 0x80;
    state->di = SEGMENT; // by a 32-bit address
    if (REAL(0x67, 0x6c) != 13 || data_segment[SEGMENT])
        fail("INS behind the segment by a 32-bit address");
}

static void msrs(void) {
    static const u32 some[] = {0x10,       0x1b,       0x3a,      0x174,      0x1a0,
                               0x277,      0x480,      0x802,     0x12345678, 0xc0000080,
                               0xc0000101, 0xc0010015, 0xc0010117};

    for (u32 i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        for (u32 write = 0; write < 2; write++) {
            state->cx = some[i];
            state->ax = 0xa5a5a5a5;
            state->dx = 0x5a5a5a5a;
            u32 vector = REAL(0x0f, write ? 0x30 : 0x32);
            // An error code on the stack would be taken for IP.
            if (vector != END && (vector != 13 || state->ip != 0x100 || state->cs != REAL_CODE))
                fail("MSR %x: vector %u at %x:%x", some[i], vector, state->cs, state->ip);
        }
}

static void instructions(void) {
    static const struct {
        u8 length, bytes[4];
        bool plain; // carried out whatever prefix there is
    } samples[] = {
        {2, {0x0f, 0xa2}, true},
        {2, {0x0f, 0x09}, true},
        {2, {0x0f, 0x06}, true},
        {1, {0xec}, true},
        {1, {0xef}, true},
        {2, {0xe4, 0xe9}, true},
        {3, {0x0f, 0x20, 0xc0}, false},
        {3, {0x0f, 0x21, 0xf8}, false},
        {3, {0x0f, 0x01, 0xe0}, false},
        {3, {0x0f, 0x01, 0xd1}, false},
        {3, {0x0f, 0x01, 0xc1}, false},
        {3, {0x0f, 0x01, 0xd9}, false},
        {3, {0x0f, 0x01, 0xd8}, false},
        {3, {0x0f, 0x01, 0xc2}, false},
        {3, {0x0f, 0x01, 0xdd}, false},
        {3, {0x0f, 0x01, 0xc8}, false},
        {3, {0x0f, 0x01, 0xf9}, false},
        {4, {0xf3, 0x0f, 0xc7, 0x30}, false},
        {2, {0x0f, 0x33}, false},
        {2, {0x0f, 0xaa}, false},
        {2, {0x0f, 0x37}, false},
    };
    static const u8 prefixes[] = {0x66, 0x67, 0x2e, 0xf3, 0xf0};
    u8 code[20];

    for (u32 i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
        for (u32 p = 0; p < sizeof(prefixes); p++)
            for (u32 count = 0; count <= 14; count += count < 2 ? 1 : 4) {
                u32 length = count + samples[i].length;
                memset(code, prefixes[p], count);
                memcpy(code + count, samples[i].bytes, samples[i].length);
                // In the middle of a page, across two, and at the end of the segment.
                for (u32 place = 0; place < 3; place++) {
                    state->ax = 0, state->cx = 0x10, state->dx = 0xe9;
                    u16 end = place == 2 ? 0xfffe : place ? 0x2001 : 0x180;
                    u32 vector = real_at((u16)(end - length), code, length);
                    bool harmless = samples[i].plain && (prefixes[p] != 0xf0 || !count);
                    if (harmless && vector != (length <= 15 ? END : 13u))
                        fail("%x %x with %u prefixes %x: vector %u", samples[i].bytes[0],
                             samples[i].bytes[1], count, prefixes[p], vector);
                    else if (vector != END && vector > 14)
                        fail("%x %x: vector %u", samples[i].bytes[0], samples[i].bytes[1], vector);
                }
            }
}

static void devices(void) {
    apic_write(0xf0, 0x1ff);
    apic_write(0x80, 0);
    state->bx = LAPIC;
    state->si = 0xd0000000; // nobody's
    state->ax = 0x30;
    // MOV GS:[EBX+0x80], EAX; MOV EAX, GS:[EBX+0x80]; MOV CL, GS:[ESI]
    u32 vector = REAL(0x65, 0x67, 0x66, 0x89, 0x83, 0x80, 0, 0, 0, 0x66, 0x31, 0xc0, 0x65, 0x67,
                      0x66, 0x8b, 0x83, 0x80, 0, 0, 0, 0x65, 0x67, 0x8a, 0x0e);
    if (vector != END || state->ax != 0x30 || (state->cx & 0xff) != 0xff)
        fail("devices by 32-bit addresses: vector %u, TPR %x, %x", vector, state->ax, state->cx);
    apic_write(0x80, 0);
}

// The kernel answers; of a guest, only what concerns itself (see `hypercalls`).
static void hypercalls(u32 calls, bool amd) {
    for (u32 i = 0; i < calls; i++) {
        u32 number = (u32)random64() % 80;
        if (number == BASALT_HC_YIELD - BASALT_HC_VERSION)
            continue;
        state->ax = BASALT_HC_VERSION + number;
        u32 *registers[] = {&state->bx, &state->cx, &state->dx, &state->si, &state->di, &state->bp};
        for (u32 j = 0; j < 6; j++)
            *registers[j] = random64() & 1 ? (u32)random64() & 7 : (u32)random64();
        bool self = !state->bx;
        u32 vector = REAL(0x0f, 0x01, amd ? 0xd9 : 0xc1), call = BASALT_HC_VERSION + number;
        bool allowed = call == BASALT_HC_VERSION || call == BASALT_HC_HANDLE_INFO ||
                       (self && (call == BASALT_HC_DOMAIN_INFO || call == BASALT_HC_VCPU_STATS));
        if (vector != END || (!allowed && (int)state->ax >= 0))
            fail("call %x: vector %u, %x", number, vector, state->ax);
    }
}

static void v86(const u8 *code, u32 length, u32 expected, const char *what) {
    memcpy(code_segment, code, length);
    u32 end = v86_enter(REAL_CODE) & 0xff;
    if (end != expected)
        fail("%s in virtual-8086 mode ends with vector %u", what, end);
}

#define V86(expected, what, ...) \
    v86((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), expected, what)

static void virtual_8086(bool amd) {
    volatile u32 *directory = (volatile u32 *)tables;

    directory[0] |= 4; // all may use the low 4 MiB
    write_cr3(read_cr3());
    V86(6, "CPUID", 0x0f, 0xa2, 0x0f, 0x0b);
    V86(13, "IN", 0xe4, 0x80, 0x0f, 0x0b);
    V86(13, "INS", 0xba, 0x80, 0, 0x6c, 0x0f, 0x0b);
    V86(13, "RDMSR", 0x0f, 0x32, 0x0f, 0x0b);
    V86(13, "MOV from CR0", 0x0f, 0x20, 0xc0, 0x0f, 0x0b);
    V86(13, "HLT", 0xf4);
    // Asks for the version: UD2 if that is told, else HLT.
    V86(13, "a hypercall", 0x66, 0xb8, 0, 0, 0x5a, 0xba, 0x0f, 0x01, amd ? 0xd9 : 0xc1, 0x66, 0x85,
        0xc0, 0x78, 2, 0x0f, 0x0b, 0xf4);
    directory[0] &= ~4u;
    write_cr3(read_cr3());
}

ATTACK(realmode) {
    u32 r[4];

    cpuid(0, 0, r);
    bool amd = r[2] == 0x444d4163;
    seed = 3;
    set_up();
    ports((u32)ARGUMENT(0, 1021));
    strings();
    msrs();
    instructions();
    devices();
    hypercalls(300, amd);
    if (ARGUMENT(1, 1))
        virtual_8086(amd);
}

#else

ATTACK(realmode) { print("realmode: 32-bit code's\n"); }

#endif
