// SPDX-License-Identifier: Apache-2.0
//
// The runtime of hostile guests: console, exceptions, the second processor, and the loop that runs what is typed.

#include "guest.h"

#include <stdarg.h>

#define COM1       0x3f8
#define VERIFY_RAM 0x800000ull // every hostile guest is given 8 MiB

extern const struct attack attacks[], attacks_end[];
extern u8 ap_start[], ap_start_end[], user_came_back[];
extern u64 user_return;
extern u32 boot_cmdline;

volatile word recover, trap_error, trap_address;
volatile int trap_vector;
void (*on_interrupt)(struct frame *f);
bool (*on_exception)(struct frame *f);
volatile u32 interrupts[256];
volatile bool ap_arrived;
unsigned user_result;
u64 ram = VERIFY_RAM, seed = 1;
static void (*ap_function)(void);
static const char *running = "guest";
static bool failed;

// The compiler makes calls of these.
void *memset(void *to, int value, size_t bytes) {
    void *start = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
    return start;
}

void *memcpy(void *to, const void *from, size_t bytes) {
    void *start = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
    return start;
}

// xorshift64*: Marsaglia's generator.
u64 random64(void) {
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * 0x2545f4914f6cdd1dull;
}

static void put_number(u64 value, unsigned base) {
    char digits[24];
    unsigned n = 0;

    do {
        // 64-bit division is no instruction of 32-bit code.
        unsigned digit = 0;
        if (base == 16) {
            digit = (unsigned)value & 15;
            value >>= 4;
        } else {
            u32 high = (u32)(value >> 32), quotient = high / 10, remainder = high % 10,
                low = (u32)value;
            asm("divl %2" : "+a"(low), "+d"(remainder) : "r"(10u));
            value = (u64)quotient << 32 | low;
            digit = remainder;
        }
        digits[n++] = "0123456789abcdef"[digit];
    } while (value);
    while (n)
        outb(COM1, (u8)digits[--n]);
}

static void vprint(const char *format, va_list list) {
    for (; *format; format++) {
        if (*format == '\n')
            outb(COM1, '\r');
        if (*format != '%') {
            outb(COM1, (u8)*format);
            continue;
        }
        switch (*++format) {
        case 's':
            for (const char *s = va_arg(list, const char *); *s; s++)
                outb(COM1, (u8)*s);
            break;
        case 'c': outb(COM1, (u8)va_arg(list, int)); break;
        case 'u': put_number(va_arg(list, u32), 10); break;
        case 'x': put_number(va_arg(list, u32), 16); break;
        case 'U': put_number(va_arg(list, u64), 10); break;
        case 'X': put_number(va_arg(list, u64), 16); break;
        default: return;
        }
    }
}

void print(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vprint(format, list);
    va_end(list);
}

void fail(const char *format, ...) {
    va_list list;

    if (failed)
        return;
    failed = true;
    print("%s: FAILED: ", running);
    va_start(list, format);
    vprint(format, list);
    va_end(list);
    print("\n");
}

int typed(void) { return inb(COM1 + 5) & 1 ? inb(COM1) : -1; }

const char *read_line(void) {
    static char line[128];
    unsigned length = 0;

    for (;;) {
        int c = typed();
        if (c < 0) {
            asm volatile("pause");
            continue;
        }
        if (c == '\r' || c == '\n')
            break;
        if (length < sizeof(line) - 1)
            line[length++] = (char)c;
    }
    line[length] = 0;
    return line;
}

// ---- exceptions and interrupts ----

static bool on_ap(const struct frame *f) {
    return (word)f >= (word)ap_stack && (word)f < (word)ap_stack_top;
}

static void unexpected(const struct frame *f) {
    print("%s: FAILED: unexpected exception %u, error %x, at %X, CR2 %X\n", running, (u32)f->vector,
          (u32)f->error, (u64)f->ip, (u64)read_cr2());
    for (;;)
        asm volatile("cli; hlt");
}

void trap(struct frame *f);
void trap(struct frame *f) {
    u32 vector = (u32)f->vector;

    interrupts[vector]++;
    if (vector >= 32 || vector == 2) {
        if (on_interrupt)
            on_interrupt(f);
        if (vector >= 32)
            apic_write(0xb0, 0);
        return;
    }
    if (user_return && (f->cs & 3 || f->flags & 0x20000)) { // back from CPL 3, or virtual-8086 mode
        user_result = (unsigned)f->error << 8 | vector;
        f->ip = (word)user_came_back;
        f->cs = CODE;
        f->flags = 2;
#ifdef __x86_64__
        f->sp = user_return;
        f->ss = DATA;
#endif
        return;
    }
    trap_error = f->error;
    trap_address = read_cr2();
    if (recover && !on_ap(f)) {
        trap_vector = (int)vector;
        f->ip = recover;
        f->cs = CODE;
        f->flags &= ~(word)0x100; // TF
        return;
    }
    if (on_exception && on_exception(f))
        return;
    if (on_ap(f))
        for (;;)
            asm volatile("cli; hlt");
    unexpected(f);
}

void set_gate(unsigned vector, void *handler) {
    word address = (word)handler;
#ifdef __x86_64__
    u32 *gate = (u32 *)(idt + 16 * vector);
    gate[2] = (u32)(address >> 32);
    gate[3] = 0;
#else
    u32 *gate = (u32 *)(idt + 8 * vector);
#endif
    gate[0] = (u32)CODE << 16 | (address & 0xffff);
    gate[1] = (u32)(address & 0xffff0000) | 0x8e00;
}

static void set_tables(void) {
    static struct table_pointer pointer;
    u32 base = (u32)(word)tss, *descriptor = (u32 *)(gdt + TSS);

    for (unsigned i = 0; i < 256; i++)
        set_gate(i, stubs + 16 * i);
    pointer = (struct table_pointer){(u16)(256 * 2 * sizeof(word) - 1), (word)idt};
    asm volatile("lidt %0" : : "m"(pointer));
#ifndef __x86_64__
    ((u32 *)tss)[2] = DATA;
#endif
    *(u16 *)(tss + 102) = 104; // no I/O permission bitmap
    descriptor[0] = base << 16 | 103;
    descriptor[1] = (base & 0xff000000) | (base >> 16 & 0xff) | 0x8900;
    asm volatile("ltr %w0" : : "r"(TSS));
}

// ---- processors ----

void apic_write(u32 offset, u32 value) { *(volatile u32 *)(word)(LAPIC + offset) = value; }
u32 apic_read(u32 offset) { return *(volatile u32 *)(word)(LAPIC + offset); }

void ipi(u32 low, u32 destination) {
    apic_write(0x310, destination << 24);
    apic_write(0x300, low);
}

void ap_main(void);
void ap_main(void) {
    struct table_pointer pointer = {(u16)(256 * 2 * sizeof(word) - 1), (word)idt};

    // Who loops with interrupts off has the processor for itself on Bochs' ryzen (docs/caveats.md).
    asm volatile("lidt %0; sti" : : "m"(pointer));
    ap_arrived = true;
    ap_function();
}

bool ap_run(void (*function)(void)) {
    ap_function = function;
    ap_arrived = false;
    memcpy((void *)AP_PAGE, ap_start, (size_t)(ap_start_end - ap_start));
    apic_write(0xf0, 0x1ff);
    ipi(0x4500, 1);
    ipi(0x4600 | AP_PAGE >> 12, 1);
    for (u64 end = rdtsc() + (1ull << 32); !ap_arrived && rdtsc() < end;)
        asm volatile("pause");
    return ap_arrived;
}

void ap_stop(void) { ipi(0x4500, 1); }

// ---- memory ----

void *fine_map(unsigned index, u64 physical, u32 bits) {
    void *address = (void *)(word)(FINE + index * PAGE);
#ifdef __x86_64__
    ((u64 *)fine_table)[index] = physical | bits;
    ((u64 *)(tables + 0x2000))[FINE >> 21] = (word)fine_table | 7;
#else
    ((u32 *)fine_table)[index] = (u32)physical | bits;
    ((u32 *)tables)[FINE >> 22] = (word)fine_table | 7;
#endif
    asm volatile("invlpg (%0)" : : "r"(address) : "memory");
    return address;
}

unsigned user_call(const void *code, size_t bytes) {
    static u8 page[PAGE] __attribute__((aligned(4096)));
    u8 *at = fine_map(USER_PAGE, (word)page, 7);

    memcpy(page, code, bytes);
    return user_enter(at, at + PAGE - 64);
}

// ---- the loop ----

static bool word_is(const char *line, const char *name) {
    while (*name && *line == *name)
        line++, name++;
    return !*name && (*line == ' ' || !*line || *line == ';');
}

static const char *number(const char *text, u64 *value) {
    bool hex = text[0] == '0' && text[1] == 'x';

    *value = 0;
    for (text += hex ? 2 : 0;; text++) {
        u32 digit = *text >= '0' && *text <= '9'          ? (u32)(*text - '0')
                    : hex && *text >= 'a' && *text <= 'f' ? (u32)(*text - 'a' + 10)
                                                          : 99;
        if (digit == 99)
            return text;
        *value = *value * (hex ? 16 : 10) + digit;
    }
}

static void run_line(const char *line) {
    u64 arguments[8];
    unsigned count = 0;

    for (const struct attack *a = attacks; a < attacks_end; a++) {
        if (!word_is(line, a->name))
            continue;
        while (*line && *line != ' ')
            line++;
        while (*line == ' ' && count < 8)
            line = number(line + 1, &arguments[count++]);
        running = a->name;
        failed = false;
        a->run(arguments, count);
        if (!failed)
            print("%s: done\n", a->name);
        running = "guest";
        return;
    }
    print("guest: no attack \"%s\"\n", line);
}

void guest_main(void);
void guest_main(void) {
    set_tables();
    if (boot_cmdline && *(const char *)(word)boot_cmdline)
        run_line((const char *)(word)boot_cmdline);
    print("guest: %u-bit, ready\n", (u32)sizeof(word) * 8);
    for (;;)
        run_line(read_line());
}
