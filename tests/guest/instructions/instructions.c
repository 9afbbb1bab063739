// SPDX-License-Identifier: Apache-2.0
//
// instructions: instructions that exit, with up to 15 bytes of prefixes and more, across the end of a page behind which
// there is another, or none, or a device, and (32-bit code) at the end of the code segment's limit; instructions in whose
// place another one stands when they are looked at; and instructions that a second processor rewrites meanwhile. What
// fits and is legal must be carried out and nothing behind it; what is too long, or ends where nothing is, must fault,
// and so must what its privilege level may not do.

#include "../lib/guest.h"

struct sample {
    const char *name;
    u8 bytes[8];
    u8 length;
    bool plain; // operand and address size prefixes, segments and REP don't change what it does
};

// BX: LAPIC; CX: the TSC's MSR; DX: a port that nobody has. DI and SI: a buffer.
static const struct sample samples[] = {
    {"CPUID", {0x0f, 0xa2}, 2, true},
    {"RDMSR", {0x0f, 0x32}, 2, true},
    {"IN", {0xec}, 1, true},
    {"OUT", {0xee}, 1, true},
    {"IN imm8", {0xe4, 0xe9}, 2, true},
    {"MOV from device", {0x8b, 0x43, 0x20}, 3, false},
    {"MOV to device", {0x89, 0x83, 0x80, 0, 0, 0}, 6, false},
    {"MOVZX", {0x0f, 0xb6, 0x43, 0x30}, 4, false},
    {"XCHG", {0x87, 0x83, 0x80, 0, 0, 0}, 6, false},
    {"ADD to device", {0x01, 0x83, 0x80, 0, 0, 0}, 6, false},
    {"TEST", {0xf7, 0x43, 0x20, 1, 0, 0, 0}, 7, false},
    {"WBINVD", {0x0f, 0x09}, 2, true},
    {"PAUSE", {0xf3, 0x90}, 2, false},
    {"MOV from CR0", {0x0f, 0x20, 0xc0}, 3, false},
    {"MOV from DR7", {0x0f, 0x21, 0xf8}, 3, false},
    {"SMSW", {0x0f, 0x01, 0xe0}, 3, false},
    {"CLTS", {0x0f, 0x06}, 2, true},
    {"RDPMC", {0x0f, 0x33}, 2, false},
    {"XSETBV", {0x0f, 0x01, 0xd1}, 3, false},
    {"VMCALL", {0x0f, 0x01, 0xc1}, 3, false},
    {"VMMCALL", {0x0f, 0x01, 0xd9}, 3, false},
    {"VMRUN", {0x0f, 0x01, 0xd8}, 3, false},
    {"VMLAUNCH", {0x0f, 0x01, 0xc2}, 3, false},
    {"VMXON", {0xf3, 0x0f, 0xc7, 0x30}, 4, false},
    {"CLGI", {0x0f, 0x01, 0xdd}, 3, false},
    {"INVLPGA", {0x0f, 0x01, 0xdf}, 3, false},
    {"MONITOR", {0x0f, 0x01, 0xc8}, 3, false},
    {"MWAIT", {0x0f, 0x01, 0xc9}, 3, false},
    {"RDTSCP", {0x0f, 0x01, 0xf9}, 3, false},
    {"INS", {0x6c}, 1, false},
    {"OUTS", {0x6e}, 1, false},
    {"GETSEC", {0x0f, 0x37}, 2, false},
    {"RSM", {0x0f, 0xaa}, 2, false},
};

static u8 pages[3 * PAGE] __attribute__((aligned(4096)));
static u8 data[PAGE] __attribute__((aligned(4096)));
word saved_stack;

// Calls the code; whatever happens, comes back. Returns the vector, or -1.
static int call(const void *code) {
    word ax = 0, cx = 0x10, dx = 0xe9, bx = LAPIC, si = (word)data, di = (word)data;

    // BP may be the compiler's; the code does not touch it. Flags: DF and the rest are as they were.
    asm volatile("mov %%" STACK
                 ", saved_stack\n\t" GUARD("call *%[code]") "mov saved_stack, %%" STACK "\n\tcld"
                 : "+a"(ax), "+c"(cx), "+d"(dx), "+b"(bx), "+S"(si), "+D"(di)
                 : [code] "m"(code)
                 : "memory", "cc");
    return trap_vector;
}

static void put(u8 *at, const u8 *bytes, unsigned length) {
    for (unsigned i = 0; i < length; i++)
        at[i] = bytes[i];
}

// The instruction with `count` prefixes so that `before` of its bytes are before the page's end, and the others, then RET,
// in the page that is mapped behind it. Physically there lies one full of INT3.
static unsigned place(const struct sample *s, unsigned count, u8 prefix, unsigned before) {
    u8 code[40];

    for (unsigned i = 0; i < count; i++)
        code[i] = prefix;
    memcpy(code + count, s->bytes, s->length);
    code[count + s->length] = 0xc3;
    unsigned length = count + s->length + 1u;
    put(pages + PAGE - before, code, before < length ? before : length);
    if (before < length)
        put(pages + 2 * PAGE, code + before, length - before);
    return count + s->length;
}

static void across_pages(const struct sample *s) {
    static const u8 prefixes[] = {0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65,
                                  0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x48};
    static unsigned turn;
    u8 *fine = fine_map(0, (word)pages, 7);

    memset(pages + PAGE, 0xcc, PAGE);
    fine_map(2, (word)data, 7);
    for (unsigned total = s->length; total <= 17;
         total += total == s->length + 1u && total < 14 ? 14 - total : 1) {
        u8 prefix = prefixes[turn++ % (sizeof(word) == 8 ? 12 : 11)];
        unsigned count = total - s->length;
        for (unsigned before = 1; before <= total + 1;
             before += before + 1 < total ? (total + 2) / 3 : 1) {
            place(s, count, prefix, before);
            fine_map(1, (word)pages + 2 * PAGE, 7);
            int vector = call(fine + PAGE - before);
            bool harmless = s->plain && (prefix < 0x40 || !count) && prefix != 0xf0;
            if (harmless && (total <= 15 ? vector >= 0 : vector != 13))
                fail("%s with %u prefixes %x: vector %u", s->name, count, prefix, (u32)vector);
            if (vector > 14)
                fail("%s: vector %u", s->name, (u32)vector);
            fine_map(1, 0, 0); // now there is nothing behind
            vector = call(fine + PAGE - before);
            if (harmless && before < total && total <= 15 && vector != 14)
                fail("%s, cut after %u of %u bytes: vector %u", s->name, before, total,
                     (u32)vector);
            if (harmless && before > total && vector >= 0)
                fail("%s at the end of the memory: vector %u", s->name, (u32)vector);
        }
    }
}

#ifndef __x86_64__
// The code segment ends within the instruction, or right behind it.
static void at_the_limit(const struct sample *s) {
    for (unsigned inside = 1; inside <= s->length + 1u; inside++) {
        place(s, 0, 0, 8);
        pages[PAGE - 8 + s->length] = 0xcb; // far RET
        u32 start = (u32)pages + PAGE - 8, limit = start + inside - 1,
            *descriptor = (u32 *)(gdt + SPARE);
        descriptor[0] = limit & 0xffff;
        descriptor[1] = 0x00409b00 | (limit & 0xf0000);
        if (limit >> 20) { // above 1 MiB: the base makes up for it
            u32 base = start & ~0xfffu;
            limit -= base, start -= base;
            descriptor[0] = base << 16 | (limit & 0xffff);
            descriptor[1] = (base & 0xff000000) | 0x00409b00 | (base >> 16 & 0xff) |
                            (limit & 0xf0000);
        }
        static struct {
            u32 offset;
            u16 selector;
        } __attribute__((packed)) target;
        target.offset = start;
        target.selector = SPARE;
        word ax = 0, cx = 0x10, dx = 0xe9, bx = LAPIC, si = (word)data, di = (word)data;
        asm volatile(
            "mov %%esp, saved_stack\n\t" GUARD("lcall *%[target]") "mov saved_stack, %%esp\n\tcld"
            : "+a"(ax), "+c"(cx), "+d"(dx), "+b"(bx), "+S"(si), "+D"(di)
            : [target] "m"(target)
            : "memory", "cc");
        // QEMU's processor does not look at limits when it fetches; then the instruction is carried out, and the far RET.
        if (trap_vector >= 0 && trap_vector != 13 && trap_vector != 6)
            fail("%s, %u bytes within the limit: vector %u", s->name, inside, (u32)trap_vector);
    }
}
#endif

// CPL 3 accesses a device, and has just exchanged the page of its code under itself: `fetched` is what the processor
// still has of the old page and executes, `found` is what lies in its place. EBX: the device, which may be read;
// ESI: `data`.
static void exchanged(const u8 fetched[3], const u8 found[3]) {
    static u8 old[PAGE] __attribute__((aligned(4096))), new[PAGE] __attribute__((aligned(4096)));
    u8 *code = fine_map(3, (word)old, 7);
    word table = (word)fine_map(4, (word)fine_table, 7);
    u32 edi = (u32)table + 3 * sizeof(word), eax = (word) new | 7;
    u8 begin[] = {0xbf, 0,   0, 0, 0, // mov $entry, %edi
                  0xb8, 0,   0, 0, 0, // mov $new, %eax
                  0xbb, 0,   0, 0, 0, // mov $device, %ebx
                  0xbe, 0,   0, 0, 0, // mov $data, %esi
                  0x89, 0x07};        // mov %eax, (%edi)
    u32 ebx = (u32)(word)fine_map(5, LAPIC, 5) + 0x80, esi = (u32)(word)fine_map(2, (word)data, 7);

    memcpy(begin + 1, &edi, 4);
    memcpy(begin + 6, &eax, 4);
    memcpy(begin + 11, &ebx, 4);
    memcpy(begin + 16, &esi, 4);
    memset(old, 0xcc, PAGE);
    put(old, begin, sizeof(begin));
    put(old + sizeof(begin), fetched, 3);
    memset(new, 0xf4, PAGE); // HLT, which CPL 3 may not
    put(new + sizeof(begin), found, 3);
    user_enter(code, code + PAGE - 64);
}

static void exchanged_for_more_rights(void) {
    static const u8 movzx[] = {0x0f, 0xb6, 0x03},
                    lmsw[] = {0x0f, 0x01, 0x36}, // of (%ebx), of (%esi)
        load[] = {0x8b, 0x43, 0x00}, store[] = {0x89, 0x43, 0x00}, smsw[] = {0x0f, 0x01, 0xe0},
                    lmsw_ax[] = {0x0f, 0x01, 0xf0};

    data[0] = (u8)(read_cr0() | 8); // TS
    exchanged(movzx, lmsw);
    if (read_cr0() & 8)
        fail("LMSW at CPL 3, found where MOVZX was");
    // With CD SMSW exits where it can; AX, an address | 7, would set EM.
    write_cr0(read_cr0() | 1u << 30);
    exchanged(smsw, lmsw_ax);
    if (read_cr0() & 4)
        fail("LMSW at CPL 3, found where SMSW was");
    write_cr0(read_cr0() & ~(word)(1u << 30));
    apic_write(0x80, 0x20);
    exchanged(load, store);
    if (apic_read(0x80) != 0x20)
        fail("a write where only reads are allowed, found where a read was: %x", apic_read(0x80));
    apic_write(0x80, 0);
}

static volatile u16 *victim;
static void rewrite(void) {
    static const u16 codes[] = {0x038b, 0x0389, 0xa20f, 0xecec, 0x0387,
                                0x9090, 0x0301, 0x320f, 0x0bff, 0x2801};
    for (unsigned i = 0;; i++)
        *victim = codes[i % 10];
}

ATTACK(instructions) {
    for (unsigned i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        across_pages(&samples[i]);
#ifndef __x86_64__
        at_the_limit(&samples[i]);
#endif
    }
    exchanged_for_more_rights();
    victim = (volatile u16 *)data;
    put(data, (const u8 *)"\x90\x90\xc3", 3);
    if (!ap_run(rewrite))
        fail("there is no second processor");
    for (u64 end = rdtsc() + ARGUMENT(0, 300000000); rdtsc() < end;)
        call(data);
    ap_stop();
}
