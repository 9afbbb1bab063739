// SPDX-License-Identifier: Apache-2.0
//
// A hostile dom0: linked with dom0's start.S and dom0.ld in dom0's place. It holds the machine's handle and makes
// domains, to race with their requests, to run them in legal states and in others, and to call the kernel with random,
// extreme and nearly right arguments for whatever these handles allow. The kernel trusts dom0 with the machine, so that
// calls are left out which the machine itself would not survive: RESET, PCI_COMMAND (DMA, power), and MEMORY_RELEASE of
// its own memory, where this program is. After each round everything is given back, and the machine must have what it
// had after the first, but for dom0's tables: once made they stay until it ends, at most one for each 2 MiB of memory,
// and each may keep the chunk of 2 MiB that it is in from being free. So what is lost must be whole chunks, one more
// than pages that are charged now at most. "seed=N", "calls=N", "states=N" and "rounds=N" are on its command line.

#include <basalt/boot_info.h>
#include <basalt/domain.h>
#include <basalt/error.h>
#include <basalt/hypercall.h>
#include <basalt/request.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t u32;
typedef int64_t i64;
typedef uint64_t u64;

#define PAGE  4096u
#define AREA  (16u << 20) // behind the image: what it points the kernel to
#define PORTS 4096u
#define MOST  64u // shares looked for
#define CHUNK (2 << 20)

static u64 seed, area, kinds; // kinds: of calls that have succeeded, a bit each
static u32 uart;
static u64 known[16]; // what calls returned last: handles, shares, ports, servers

// ---- printing ----

static void put(char c) {
    uint8_t status = 0;

    while (!(status & 0x20)) // its transmitter is busy
        __asm__ volatile("inb %w1, %0" : "=a"(status) : "d"(uart + 5));
    __asm__ volatile("outb %0, %w1" : : "a"(c), "d"(uart));
}

static void print(const char *text, u64 number) {
    char digits[20];
    unsigned count = 0;

    while (*text)
        put(*text++);
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        put(digits[--count]);
}

// ---- calls ----

static i64 call(u64 number, const u64 a[6], u64 *second) {
    register u64 r10 __asm__("r10") = a[3];
    register u64 r8 __asm__("r8") = a[4];
    register u64 r9 __asm__("r9") = a[5];
    u64 rdx = a[2];
    i64 result;

    __asm__ volatile("call hypercall_insn"
                     : "=a"(result), "+d"(rdx)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "r"(r10), "r"(r8), "r"(r9)
                     : "memory", "cc");
    if (second)
        *second = rdx;
    return result;
}

static i64 call2(u64 number, u64 first, u64 other) {
    return call(number, (const u64[6]){first, other}, NULL);
}

static void until_done(u64 number, u64 first, u64 second) {
    while (call2(number, first, second) == -BASALT_EINTR)
        ;
}

static u64 random64(void) {
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * 0x2545f4914f6cdd1dull;
}

static u64 argument(void) {
    static const u64 extreme[] = {0,          ~0ull,      1ull << 63, ~0ull >> 1,
                                  0xffffffff, 0xfee00000, 0x80000000, 0xffff800000000000ull};
    u64 r = random64(), more = r >> 8;

    switch (r & 15) {
    case 0 ... 5: return more & 7;
    case 6 ... 8: return more & 0x7f;
    case 9: return (more & 0xff) * PAGE;
    case 10: return known[more & 15];
    case 11 ... 12: return area + (more & 0x3f) * (more & 0x40 ? PAGE : 8);
    case 13: return extreme[more & 7];
    case 14: return 1ull << (more & 63);
    default: return random64();
    }
}

// What a call's IN argument points to, as the kernel takes it.
static void put_right(u64 number) {
    struct basalt_vcpu_state *vcpu = (void *)area;
    u64 *words = (u64 *)area;

    for (u32 i = 0; i < 64; i++)
        words[i] = 0;
    if (number == BASALT_HC_VCPU_SET) {
        vcpu->rflags = 2;
        vcpu->cr0 = 0x10;
        vcpu->dr6 = 0xffff0ff0, vcpu->dr7 = 0x400;
        for (u32 i = 0; i < 8; i++)
            vcpu->segments[i] = (struct basalt_segment){.limit = 0xffff, .attributes = 0x93};
        vcpu->segments[BASALT_CS].attributes = 0x9b;
        vcpu->segments[BASALT_LDTR].attributes = 0x82;
        vcpu->segments[BASALT_TR].attributes = 0x8b;
    }
}

// The same, or with something else in a place or two.
static void prepare(u64 number) {
    u64 *words = (u64 *)area;

    put_right(number);
    if (number == BASALT_HC_VCPU_SET)
        ((struct basalt_vcpu_state *)area)->cr0 |= random64() & 0x80000001;
    for (u32 i = random64() & 1 ? (u32)random64() & 3 : 0; i; i--)
        words[random64() & 63] = argument();
}

static bool left_out(u64 number, const u64 a[6]) {
    if (number == BASALT_HC_BLOCK) // until something comes: nothing may
        return true;
    return number == BASALT_HC_RESET || number == BASALT_HC_PCI_COMMAND ||
           (number == BASALT_HC_MEMORY_RELEASE && a[0] == BASALT_HANDLE_SELF);
}

// Calls that take a structure find it at the area's beginning, those on the machine its handle, as a rule.
static void nearly_right(u64 number, u64 a[6]) {
    u64 r = random64();

    switch (number) {
    case BASALT_HC_DOMAIN_CREATE: a[0] = BASALT_HANDLE_MACHINE, a[1] = (r & 0x3ff) * PAGE; break;
    case BASALT_HC_VCPU_SET: a[1] = 0, a[2] = area; break;
    case BASALT_HC_REQUEST_ROUTE:
        a[2] = r & 7;
        a[3] = (r >> 8 & 7) * PAGE;
        a[4] = a[3] + (1u << (r >> 16 & 3)) - 1;
        break;
    case BASALT_HC_PCI_READ:
    case BASALT_HC_IRQ_BIND:
        a[0] = BASALT_HANDLE_MACHINE;
        a[1] = r & 1 ? r >> 8 & 0xff : BASALT_IRQ_ISA + (r >> 8 & 15);
        break;
    case BASALT_HC_SHARE_GRANT: // of a guest's memory, to itself
        a[2] = r & 3, a[3] = r >> 8 & 3, a[4] = BASALT_HANDLE_SELF;
        break;
    case BASALT_HC_SHARE_MAP:
        a[1] = r >> 8 & 3;
        a[2] = r & 7 ? BASALT_SHARE_IDENTITY : a[2];
        break;
    default: break;
    }
}

static u32 one_call(void) {
    u64 number = BASALT_HC_BASE + random64() % (BASALT_HC_END - BASALT_HC_BASE + 2), a[6];
    bool ends = number == BASALT_HC_DOMAIN_DESTROY || number == BASALT_HC_PORT_FREE;

    if (ends && random64() & 7)
        number = BASALT_HC_DOMAIN_CREATE; // else hardly anything would be there for long
    prepare(number);
    for (u32 i = 0; i < 6; i++)
        a[i] = argument();
    if (random64() & 7)
        nearly_right(number, a);
    i64 result = left_out(number, a) ? -1 : call(number, a, NULL);
    if (result < 0)
        return 0;
    kinds |= 1ull << (number - BASALT_HC_BASE);
    if (number == BASALT_HC_DOMAIN_CREATE || number == BASALT_HC_SHARE_GRANT ||
        number == BASALT_HC_PORT_ALLOC || number == BASALT_HC_REQUEST_SERVE)
        known[random64() & 15] = (u64)result;
    return 1;
}

// ---- a peer that rewrites requests ----

#define RACES        4000u
#define RACE_PAGE    0x1000u // of the guest: its code, and behind that what it has read
#define RACE_DATA    0x1800u
#define RACE_PORT    0x500u
#define RACE_VECTORS 0x1400u

// Reads a byte, a word and a doubleword from the port to memory and writes a byte, for ever.
static const uint8_t racer[] = {
    0xba,           RACE_PORT & 0xff,
    RACE_PORT >> 8, // MOV DX, port
    0xbf,           RACE_DATA & 0xff,
    RACE_DATA >> 8,       // MOV DI, data
    0xec,           0xaa, // IN AL, DX; STOSB
    0xed,           0xab, // IN AX, DX; STOSW
    0x66,           0xed,
    0x66,           0xab, // IN EAX, DX; STOSD
    0xee,           0xeb,
    0xf2, // OUT DX, AL; JMP to MOV DI
};

static void race_failed(const char *what, u64 number) {
    print("\r\nprivileged: FAILED: request ", number);
    print(what, 0);
}

static void scribble(u64 *page) {
    for (u32 i = 0; i < PAGE / 8; i++)
        if (random64() & 1)
            page[i] = argument();
    ((uint8_t *)page)[64 + 24 + (random64() & 3)] = (uint8_t)random64(); // space, write, bytes
}

// Runs the guest until it has the answer to request `number`.
static bool answer(u64 guest, u64 number, u64 data, u64 *page) {
    for (u32 tries = 0; tries < 100000; tries++) {
        call2(BASALT_HC_YIELD, 0, 0);
        scribble(page);
        u64 wrong = random64() & 1 ? page[8] : number + 1 + (random64() & 7);
        if (wrong != number &&
            call(BASALT_HC_REQUEST_ANSWER, (const u64[6]){guest, 0, wrong, ~data}, NULL) >= 0)
            race_failed(" is answered by another's answer: ", number);
        if (call(BASALT_HC_REQUEST_ANSWER, (const u64[6]){guest, 0, number, data}, NULL) < 0)
            continue;
        if (call(BASALT_HC_REQUEST_ANSWER, (const u64[6]){guest, 0, number, ~data}, NULL) >= 0)
            race_failed(" is answered twice: ", number);
        return true;
    }
    race_failed(" does not come: ", number);
    return false;
}

// Gives a guest a page with its program, which is returned, and a processor in real mode, whose vectors and stack are there,
// too. NULL: a call failed.
static uint8_t *small_guest(u64 guest, const uint8_t *program, u32 bytes) {
    struct basalt_vcpu_state *vcpu = (void *)area;
    const u64 memory[6] = {guest, RACE_PAGE, 1, 0},
              grant[6] = {guest, RACE_PAGE, 1, BASALT_SHARE_READ | BASALT_SHARE_WRITE,
                          BASALT_HANDLE_SELF};

    if (call(BASALT_HC_MEMORY_POPULATE, memory, NULL) != 1)
        return NULL;
    i64 share = call(BASALT_HC_SHARE_GRANT, grant, NULL);
    i64 mapped =
        call(BASALT_HC_SHARE_MAP, (const u64[6]){guest, (u64)share, BASALT_SHARE_IDENTITY}, NULL);
    if (mapped <= 0)
        return NULL;
    uint8_t *page = (uint8_t *)mapped;
    for (u32 i = 0; i < bytes; i++)
        page[i] = program[i];
    put_right(BASALT_HC_VCPU_SET);
    vcpu->rip = RACE_PAGE;
    vcpu->gprs[BASALT_RSP] = RACE_DATA;
    vcpu->segments[BASALT_IDTR] = (struct basalt_segment){.base = RACE_VECTORS, .limit = 0x3ff};
    if (call2(BASALT_HC_VCPU_CREATE, guest, 0) < 0 ||
        call(BASALT_HC_VCPU_SET, (const u64[6]){guest, 0, area}, NULL) < 0)
        return NULL;
    return page;
}

static void race(void) {
    u64 guest = (u64)call2(BASALT_HC_DOMAIN_CREATE, BASALT_HANDLE_MACHINE, 0x200 * PAGE);
    u64 address = 0;
    const volatile uint8_t *seen = small_guest(guest, racer, sizeof(racer));
    i64 port = call2(BASALT_HC_PORT_ALLOC, 0, 0);
    i64 server = call(BASALT_HC_REQUEST_SERVE, (const u64[6]){guest, (u64)port}, &address);
    const u64 route[6] = {guest, (u64)server, BASALT_SPACE_IO, RACE_PORT, RACE_PORT};

    if (!seen || server < 0 || call(BASALT_HC_REQUEST_ROUTE, route, NULL) < 0 ||
        call2(BASALT_HC_DOMAIN_CONTROL, guest, BASALT_OP_RESUME) < 0) {
        race_failed(" is not set up: ", 0);
        return;
    }
    for (u64 number = 1; number < RACES;) {
        uint8_t given[7];
        u32 have = 0;
        for (u32 bytes = 1; bytes <= 8; bytes *= 2) { // 8: the write
            u64 data = random64();
            for (u32 i = 0; i < bytes && bytes < 8; i++)
                given[have++] = (uint8_t)(data >> 8 * i);
            if (!answer(guest, number++, data, (u64 *)address))
                return;
            for (u32 i = 0; bytes == 8 && i < sizeof(given); i++)
                if (seen[RACE_DATA - RACE_PAGE + i] != given[i])
                    race_failed(" is not what the guest has read: ", number);
        }
    }
    print("\r\nprivileged: requests answered in a race: ", RACES);
}

// ---- processors in states that they can't be in ----

#define STATE_PAGES \
    6u // code, stack, three tables for 64-bit code, of which the last is the second one of 32-bit code
#define STATE_MODES 4u

// Gives a guest pages from 0 on, and tells where they are. False: a call failed.
static bool state_memory(u64 guest, uint8_t *pages[STATE_PAGES]) {
    const u64 populate[6] = {guest, 0, STATE_PAGES},
              grant[6] = {guest, 0, STATE_PAGES, BASALT_SHARE_READ | BASALT_SHARE_WRITE,
                          BASALT_HANDLE_SELF};
    u64 mapped = 0;
    u32 count = 0;

    if (call(BASALT_HC_MEMORY_POPULATE, populate, NULL) != STATE_PAGES)
        return false;
    i64 share = call(BASALT_HC_SHARE_GRANT, grant, NULL), at;
    const u64 map[6] = {guest, (u64)share, BASALT_SHARE_IDENTITY};
    while (count < STATE_PAGES && (at = call(BASALT_HC_SHARE_MAP, map, &mapped)) > 0)
        for (u64 i = 0; i < mapped; i++)
            pages[count++] = (uint8_t *)at + i * PAGE;
    return count == STATE_PAGES;
}

// 16-, 32- or 64-bit code, or 32-bit code with PAE paging, at 0.
static void legal_state(struct basalt_vcpu_state *state, unsigned mode) {
    static const u32 code[] = {0x9b, 0xc09b, 0xa09b, 0xc09b},
                     data[] = {0x93, 0xc093, 0xc093, 0xc093};

    put_right(BASALT_HC_VCPU_SET);
    state->cr0 = mode >= 2 ? 0x80000031 : mode == 1 ? 0x31 : 0x10;
    state->cr4 = mode >= 2 ? 0x20 : 0;
    state->cr3 = mode == 2 ? 2 * PAGE : mode == 3 ? 5 * PAGE : 0;
    state->efer = mode == 2 ? 0x500 : 0;
    state->gprs[BASALT_RAX] = 0x5a5a5a5a5a5a5a5a;
    state->gprs[BASALT_RSP] = 2 * PAGE;
    for (u32 i = 0; i <= BASALT_GS; i++)
        state->segments[i].attributes = i == BASALT_CS ? code[mode] : data[mode];
    for (u32 i = 0; i <= BASALT_GS && mode; i++)
        state->segments[i].limit = ~0u;
}

// Something else in up to three places, mostly a bit.
static void make_illegal(struct basalt_vcpu_state *state) {
    u64 *words = &state->rip;
    u32 count = (u32)((u64 *)&state->activity - words);

    for (u64 i = random64() & 3; i + 1; i--) {
        u64 *word = &words[random64() % count];
        *word = random64() & 7 ? *word ^ 1ull << (random64() & 63) : argument();
    }
    if (state->efer & 0x100) // without PAE such a guest stops QEMU (docs/caveats.md)
        state->cr4 |= 0x20;
}

// A guest with a processor, and the code and tables for a state. 0: a call failed.
static u64 state_guest(uint8_t *pages[STATE_PAGES]) {
    static const uint8_t code[] = {0x50, 0xf4, 0xeb, 0xfd}; // PUSH RAX; HLT; JMP to it
    u64 guest = (u64)call2(BASALT_HC_DOMAIN_CREATE, BASALT_HANDLE_MACHINE, 0x20 * PAGE);

    if (!state_memory(guest, pages) || call2(BASALT_HC_VCPU_CREATE, guest, 0) < 0)
        return 0;
    for (u32 i = 0; i < sizeof(code); i++)
        pages[0][i] = code[i];
    *(u64 *)pages[2] = 3 * PAGE | 3;
    *(u64 *)pages[3] = 4 * PAGE | 3;
    *(u64 *)pages[4] = 0x83;
    *(u64 *)pages[5] = 4 * PAGE | 1;
    return guest;
}

// Whether the kernel takes the state.
static bool run_state(u64 guest) {
    if (call(BASALT_HC_VCPU_SET, (const u64[6]){guest, 0, area}, NULL) < 0)
        return false;
    call2(BASALT_HC_DOMAIN_CONTROL, guest, BASALT_OP_RESUME);
    for (u32 i = 0; i < 3; i++)
        call2(BASALT_HC_YIELD, 0, 0);
    return true;
}

static void states(u64 count) {
    struct basalt_vcpu_state *state = (void *)area;
    u64 taken = 0;

    for (u64 i = 0; i < count; i++) {
        uint8_t *pages[STATE_PAGES];
        u64 guest = state_guest(pages);
        if (!guest) {
            print("\r\nprivileged: FAILED: no guest for state ", i);
            return;
        }
        legal_state(state, (unsigned)(i % STATE_MODES));
        if (i >= STATE_MODES)
            make_illegal(state);
        bool took = run_state(guest);
        taken += took;
        if (i < STATE_MODES && (!took || pages[1][PAGE - 1] != 0x5a))
            print("\r\nprivileged: FAILED: does not run in mode ", i);
        until_done(BASALT_HC_DOMAIN_DESTROY, guest, 0);
    }
    print("\r\nprivileged: states: ", count);
    print(", of which the kernel took ", taken);
}

// ---- a control block's fields that no processor has ----

static void missing_fields(void) {
    u64 guest = (u64)call2(BASALT_HC_DOMAIN_CREATE, BASALT_HANDLE_MACHINE, 0x20 * PAGE), value = 0;

    call2(BASALT_HC_VCPU_CREATE, guest, 0);
    for (u64 field = 0x11f0; field < 0x8000; field += 0x1000) { // of controls
        const u64 args[6] = {guest, 0, field};
        if (call(BASALT_HC_VCPU_FIELD, args, &value) != -BASALT_EINVAL)
            print("\r\nprivileged: FAILED: there is a field ", field);
    }
}

// ---- a guest that nobody serves ----

#define FAULTED 8u // where it goes on after a general-protection fault

// Reads, then writes an MSR of nobody's, and counts the faults.
static const uint8_t unserved[] = {
    0x66, 0xb9, 0x45, 0x23, 0x01, 0x00, // MOV ECX, 0x12345
    0x0f, 0x32,                         // RDMSR
    0xfe, 0x06, 0x00, 0x18,             // FAULTED: INC BYTE [RACE_DATA]
    0x80, 0x3e, 0x00, 0x18, 0x02,       // CMP BYTE [RACE_DATA], 2
    0x73, 0x02,                         // JAE over it
    0x0f, 0x30,                         // WRMSR
    0xeb, 0xfe,                         // JMP to itself
};

static void unknown_msrs(void) {
    u64 guest = (u64)call2(BASALT_HC_DOMAIN_CREATE, BASALT_HANDLE_MACHINE, 0x20 * PAGE);
    volatile uint8_t *page = small_guest(guest, unserved, sizeof(unserved));
    const struct basalt_domain_info *info = (void *)area;

    if (page)
        *(volatile u32 *)(page + RACE_VECTORS - RACE_PAGE + 13 * 4) = RACE_PAGE + FAULTED;
    if (!page || call2(BASALT_HC_DOMAIN_CONTROL, guest, BASALT_OP_RESUME) < 0) {
        print("\r\nprivileged: FAILED: no guest for MSRs ", guest);
        return;
    }
    for (u32 tries = 0; tries < 100000 && page[RACE_DATA - RACE_PAGE] < 2; tries++)
        call2(BASALT_HC_YIELD, 0, 0);
    call2(BASALT_HC_DOMAIN_INFO, guest, area);
    if (page[RACE_DATA - RACE_PAGE] != 2 || info->status != BASALT_STATUS_RUNNING)
        print("\r\nprivileged: FAILED: an unknown MSR is no fault, status ", info->status);
}

// ---- ports that are the kernel's ----

// Whatever firmware says, what is at 0xcf8 to 0xcff resets the machine and writes configuration space.
static void ports_of_the_kernel(void) {
    uint8_t value;

    for (uint16_t port = 0xcf8; port < 0xd00; port++) {
        __asm__ volatile("inb %w1, %0" : "=a"(value) : "d"(port));
        if (value != 0xff)
            print("\r\nprivileged: FAILED: there is a port ", port);
    }
}

// ---- giving back ----

static void give_back(void) {
    i64 rights;

    for (u64 handle = BASALT_HANDLE_MACHINE + 1;
         (rights = call2(BASALT_HC_HANDLE_INFO, handle, 0)) != -BASALT_EINVAL; handle++)
        if (rights >= 0)
            until_done(BASALT_HC_DOMAIN_DESTROY, handle, 0);
    for (u64 share = 0; share < MOST; share++)
        until_done(BASALT_HC_SHARE_END, BASALT_HANDLE_SELF, share);
    call2(BASALT_HC_TIMER_SET, 0, 1);
    for (u64 port = 1; port < PORTS; port++)
        call2(BASALT_HC_PORT_FREE, port, 0);
}

static u64 option(const char *text, const char *name, u64 otherwise) {
    for (; *text; text++) {
        u32 i = 0;
        while (name[i] && text[i] == name[i])
            i++;
        if (name[i])
            continue;
        u64 value = 0;
        for (text += i; *text >= '0' && *text <= '9'; text++)
            value = value * 10 + (u64)(*text - '0');
        return value;
    }
    return otherwise;
}

static void report(u64 succeeded, u64 total) {
    static u64 first_free, first_charged;
    u64 charged = 0;
    i64 free = call(BASALT_HC_MEMORY_INFO, (const u64[6]){BASALT_HANDLE_MACHINE}, &charged);

    if (free < 0)
        print("\r\nprivileged: FAILED: no memory information ", 0);
    print("\r\nprivileged: calls that succeeded: ", succeeded);
    print(", bytes free: ", (u64)free);
    print(", charged: ", charged);
    if (!first_free)
        first_free = (u64)free, first_charged = charged;
    u64 grown = charged > first_charged ? (charged - first_charged) / PAGE : 0;
    i64 lost = (i64)first_free - free;
    if (lost % CHUNK || lost > ((i64)grown + 1) * CHUNK || grown > total / CHUNK)
        print("\r\nprivileged: FAILED: bytes lost: ", (u64)lost);
}

void dom0_entry(struct basalt_boot_info *info, u64 load_address);
void dom0_entry(struct basalt_boot_info *info, u64 load_address) {
    u64 calls = option(info->cmdline, "calls=", 10000),
        rounds = option(info->cmdline, "rounds=", 4);

    uart = info->console_port;
    area = load_address + AREA;
    seed = option(info->cmdline, "seed=", 0);
    seed = seed ? seed : __builtin_ia32_rdtsc() | 1;
    print("\r\nprivileged: seed ", seed);
    race();
    missing_fields();
    unknown_msrs();
    states(option(info->cmdline, "states=", 300));
    race();
    ports_of_the_kernel();
    for (u64 round = 0; round < rounds; round++) {
        u64 succeeded = 0;
        for (u64 i = 0; i < calls; i++)
            succeeded += one_call();
        give_back();
        report(succeeded, info->memory_total);
    }
    print("\r\nprivileged: kinds of calls that succeeded: ", (u64)__builtin_popcountll(kinds));
    print(", without success ", ~kinds & ((1ull << (BASALT_HC_END - BASALT_HC_BASE)) - 1));
    print("\r\nprivileged: done ", rounds);
    for (;;)
        call2(BASALT_HC_BLOCK, 0, 0);
}
