// SPDX-License-Identifier: Apache-2.0
//
// The guest that measures what Basalt costs a guest. Each word of its command line names a path; it takes the path
// SAMPLES times between two RDTSCs, prints one line
//
//     bench: NAME MEDIAN MINIMUM MAXIMUM
//
// where the same code without the instruction in question has been subtracted, and switches itself off after the last.
// TSC ticks are instructions on QEMU with -icount shift=0 and on Bochs. Nothing is printed while something is measured,
// so that dom0 has nothing to do. Behind the word `mark` each path is only taken
// MARKED times, between two marks each: `xchg %bx, %bx`, from which the profiler takes its cue (tests/bench/profile.py).

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define SAMPLES   10000u
#define MARKED    4u
#define COM1      0x3f8
#define PM1A      0x604
#define UNCLAIMED "0xe0" // a port of nobody's
#define LAPIC_ID  "0xfee00020"
#ifdef __x86_64__
#define LAPIC_LOAD "mov (%%rdx), %%eax"
#else
#define LAPIC_LOAD "mov (%%edx), %%eax"
#endif
#define APIC_BASE  "0x1b" // MSR
#define HC_VERSION "0xba5a0000"

void bench_main(const char *command_line);

static u32 samples[SAMPLES];
static u8 vmmcall; // the processor's hypercall instruction is VMMCALL

// Two functions for each path: `name` with the instruction, `name_empty` without.
#define SAMPLE(function, setup, instruction)                                 \
    static u32 function(void) {                                              \
        u32 ticks;                                                           \
        __asm__ volatile("rdtsc\n mov %%eax, %%esi\n" setup "\n" instruction \
                         "\n rdtsc\n sub %%esi, %%eax"                       \
                         : "=a"(ticks)                                       \
                         :                                                   \
                         : "ebx", "ecx", "edx", "esi", "memory");            \
        return ticks;                                                        \
    }
#define PATH(function, setup, instruction)                                                 \
    SAMPLE(function, setup, instruction)                                                   \
    SAMPLE(function##_empty, setup, "")                                                    \
    static void function##_marked(void) {                                                  \
        for (u32 i = 0; i < MARKED; i++)                                                   \
            __asm__ volatile(setup "\n xchg %%bx, %%bx\n" instruction "\n xchg %%bx, %%bx" \
                             :                                                             \
                             :                                                             \
                             : "eax", "ebx", "ecx", "edx", "esi", "memory");               \
    }

PATH(call_intel, "mov $" HC_VERSION ", %%eax", "vmcall")
PATH(call_amd, "mov $" HC_VERSION ", %%eax", "vmmcall")
PATH(cpuid_0, "mov $0, %%eax\n mov $0, %%ecx", "cpuid")
PATH(cpuid_1, "mov $1, %%eax\n mov $0, %%ecx", "cpuid")
PATH(rdmsr, "mov $" APIC_BASE ", %%ecx", "rdmsr")
PATH(out, "mov $" UNCLAIMED ", %%edx", "out %%al, %%dx")
PATH(ioreq, "mov $0x3ff, %%edx", "in %%dx, %%al") // the UART's scratch register
PATH(lapic, "mov $" LAPIC_ID ", %%edx", LAPIC_LOAD)

struct path {
    const char *name;
    u32 (*sample)(void), (*empty)(void);
    void (*marked)(void);
};
#define ROW(name, function) \
    { name, function, function##_empty, function##_marked }

static const struct path paths[] = {
    ROW("exit_cpuid", cpuid_0),         ROW("exit_cpuid_leaf1", cpuid_1),
    ROW("exit_rdmsr_apic_base", rdmsr), ROW("exit_out_unclaimed", out),
    ROW("lapic_mmio_read", lapic),      ROW("ioreq_roundtrip", ioreq),
};
static const struct path calls[] = {ROW("hypercall_null", call_intel),
                                    ROW("hypercall_null", call_amd)};

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static u8 in8(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void put(char c) {
    while (!(in8(COM1 + 5) & 0x20))
        continue;
    out8(COM1, (u8)c);
}

static void print(const char *text) {
    while (*text)
        put(*text++);
}

static void print_number(u32 value) {
    char digits[11];
    char *p = digits + sizeof(digits) - 1;

    *p = '\0';
    do
        *--p = (char)('0' + value % 10);
    while (value /= 10);
    put(' ');
    print(p);
}

static void sift_down(u32 *a, u32 root, u32 count) {
    for (u32 child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && a[child + 1] > a[child])
            child++;
        if (a[root] >= a[child])
            return;
        u32 swap = a[root];
        a[root] = a[child];
        a[child] = swap;
    }
}

static void sort(u32 *a, u32 count) { // heap sort
    for (u32 i = count / 2; i-- > 0;)
        sift_down(a, i, count);
    while (count-- > 1) {
        u32 swap = a[0];
        a[0] = a[count];
        a[count] = swap;
        sift_down(a, 0, count);
    }
}

static void report(const char *name, u32 subtract) {
    sort(samples, SAMPLES);
    print("bench: ");
    print(name);
    print_number(samples[SAMPLES / 2] - subtract);
    print_number(samples[0] - subtract);
    print_number(samples[SAMPLES - 1] - subtract);
    print("\r\n");
}

static void run(const struct path *path) {
    for (u32 i = 0; i < SAMPLES; i++)
        samples[i] = path->empty();
    sort(samples, SAMPLES);
    u32 empty = samples[SAMPLES / 2];
    for (u32 i = 0; i < SAMPLES; i++)
        samples[i] = path->sample();
    report(path->name, empty);
}

// Doorbells (dom0/toolstack/bench.c)
#define ANSWERS_AT_ONCE 0xb0u
#define ANSWERS_LATER   0xb2u
#ifndef __x86_64__
// ---- events: dom0's side is dom0/toolstack/bench.c ----

#define EVENT_PAGE   0x8000u
#define EVENT_VECTOR 0x40u
#define APIC_EOI     (*(volatile u32 *)0xfee000b0)
#define APIC_SVR     (*(volatile u32 *)0xfee000f0)

extern u32 idt[], interrupt_tsc;
void interrupted(void);

static volatile struct {
    u32 handled, handled_high, injected, injected_high, tsc_offset, tsc_offset_high, mark;
} *const events = (void *)EVENT_PAGE;

static u32 doorbells[SAMPLES];

// Rings, halts until dom0 has answered with an interrupt, and takes all four times. The other marks are in dom0's handler
// and in `interrupted`. dom0 answers ANSWERS_AT_ONCE before this vCPU, which it has taken the CPU from, comes to its HLT.
static void event(u32 i, u32 port) {
    u32 rung;
    if (events->mark && port == ANSWERS_AT_ONCE)
        __asm__ volatile("xchg %%bx, %%bx" : : : "memory");
    __asm__ volatile("cli\n rdtsc\n mov %%eax, %%esi\n mov %%ecx, %%edx\n"
                     "out %%ax, %%dx\n sti\n hlt\n cli"
                     : "=&S"(rung)
                     : "c"(port)
                     : "eax", "edx", "memory");
    doorbells[i] = events->handled + events->tsc_offset - rung;
    samples[i] = interrupt_tsc - (events->injected + events->tsc_offset);
    APIC_EOI = 0;
}

static void run_events(int mark, u32 port) {
    idt[2 * EVENT_VECTOR] = 0x80000 | ((u32)&interrupted & 0xffff); // selector 8
    idt[2 * EVENT_VECTOR + 1] = ((u32)&interrupted & 0xffff0000) | 0x8e00;
    APIC_SVR = 0x1ff;
    events->mark = 0;
    for (u32 i = 0; i < SAMPLES; i++)
        event(i, port);
    if (mark) { // now that the scheduler has seen how it goes
        events->mark = 1;
        for (u32 i = 0; i < MARKED; i++)
            event(i, port);
        return;
    }
    if (port == ANSWERS_LATER) {
        report("irq_inject", 0);
        return;
    }
    report("irq_inject_before_hlt", 0);
    for (u32 i = 0; i < SAMPLES; i++)
        samples[i] = doorbells[i];
    report("doorbell", 0);
}
#else
static void run_events(int mark, u32 port) { (void)mark, (void)port; }
#endif

// Whether `word` stands at the beginning of *line; steps over it then.
static int word_is(const char **line, const char *word) {
    const char *p = *line;

    while (*word)
        if (*p++ != *word++)
            return 0;
    if (*p > ' ')
        return 0;
    *line = p;
    return 1;
}

static const struct path *find(const char **line) {
    if (word_is(line, calls[0].name))
        return &calls[vmmcall];
    for (u32 i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        if (word_is(line, paths[i].name))
            return &paths[i];
    return 0;
}

static int is_amd(void) {
    u32 a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return c == 0x444d4163; // "cAMD"
}

void bench_main(const char *line) {
    int mark = 0;

    vmmcall = (u8)is_amd();
    while (*line) {
        if (*line == ' ') {
            line++;
            continue;
        }
        if (word_is(&line, "mark")) {
            mark = 1;
            continue;
        }
        if (word_is(&line, "events")) {
            run_events(mark, ANSWERS_AT_ONCE);
            continue;
        }
        if (word_is(&line, "waiting")) {
            run_events(mark, ANSWERS_LATER);
            continue;
        }
        if (word_is(&line, "idle"))
            for (;;)
                __asm__ volatile("cli\n hlt");
        const struct path *path = find(&line);
        if (!path) {
            print("bench: unknown: ");
            print(line);
            print("\r\n");
            break;
        }
        if (mark)
            path->marked();
        else
            run(path);
    }
    print("bench: end\r\n");
    __asm__ volatile("outw %w0, %w1" : : "a"(0x3400), "Nd"((u16)PM1A)); // SLP_TYP 5, SLP_EN
}
