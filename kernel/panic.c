// SPDX-License-Identifier: Apache-2.0
//
// The end. What goes to the log meanwhile is also kept in a page of low memory with a checksum, which firmware and
// boot loader leave alone in a warm reset; the next boot shows it. Names for code addresses come from a table that the
// build puts into the image. Invariant: a panic in a panic stops at once; nothing here allocates or waits for a lock (the
// log's not for long).

#include "kernel/panic.h"

#include "arch/cpu.h"
#include "arch/paging.h"
#include "kernel/cmdline.h"
#include "kernel/console.h"
#include "kernel/log.h"

// SeaBIOS, Bochs' BIOS and GRUB leave conventional memory alone from 0x90000 on.
#define RECORD_ADDRESS  0x94000ull
#define RECORD_MAGIC    0x70746c6173616221ull
#define BACKTRACE_MAX   32u
#define FRAME_SPAN      0x10000ull // no frame of ours is larger

#define PORT_DEBUG_EXIT 0xf4 // QEMU's isa-debug-exit
#define PORT_BOCHS_EXIT 0x8900

// Made by the build from the linked kernel; sorted by offset from the image's start.
extern const u32 symbol_count;
extern const struct symbol {
    u32 offset, name; // name: offset into symbol_names
} symbol_table[];
extern const char symbol_names[];
extern char __kernel_start[], __text_start[], __text_end[];

struct record {
    u64 magic;
    u32 length, checksum;
    char text[PAGE_SIZE - 16];
};
SIZE_ASSERT(struct record, PAGE_SIZE);

static struct record *const record = (struct record *)(POOL_BASE + RECORD_ADDRESS);
static unsigned depth;
static u64 start; // of what the panic says, in the log

static u32 checksum(const char *text, u32 length) {
    u32 sum = 2166136261u; // FNV-1a
    for (u32 i = 0; i < length; i++)
        sum = (sum ^ (u8)text[i]) * 16777619u;
    return sum;
}

// With the name of the function around the address ("?" if there is none) and the offset into it.
static void say_address(const char *label, u64 address) {
    u64 wanted = address - (u64)__kernel_start;
    u32 i = symbol_count;
    while (i && symbol_table[i - 1].offset > wanted)
        i--;
    bool code = address >= (u64)__text_start && address < (u64)__text_end && i;
    const struct symbol *s = &symbol_table[code ? i - 1 : 0];
    log_err("  %s %016lx %s+0x%lx", label, address, code ? &symbol_names[s->name] : "?",
            code ? wanted - s->offset : 0);
}

static void say_registers(const struct trap_frame *f) {
    say_address("rip", f->rip);
    log_err("  rax %016lx rbx %016lx rcx %016lx rdx %016lx", f->rax, f->rbx, f->rcx, f->rdx);
    log_err("  rsi %016lx rdi %016lx rbp %016lx rsp %016lx", f->rsi, f->rdi, f->rbp, f->rsp);
    log_err("  r8  %016lx r9  %016lx r10 %016lx r11 %016lx", f->r8, f->r9, f->r10, f->r11);
    log_err("  r12 %016lx r13 %016lx r14 %016lx r15 %016lx", f->r12, f->r13, f->r14, f->r15);
    log_err("  rflags %lx cs %lx ss %lx vector %lu error %lx", f->rflags, f->cs, f->ss, f->vector,
            f->error);
}

// Each frame begins with the caller's frame pointer and the return address; frames go up the stack.
static void say_backtrace(const u64 *frame) {
    for (unsigned i = 0; i < BACKTRACE_MAX && frame && (u64)frame % 8 == 0; i++) {
        if (kernel_virt_to_hpa(frame).v == HPA_NONE.v ||
            kernel_virt_to_hpa(frame + 1).v == HPA_NONE.v || !frame[1])
            return;
        say_address("from", frame[1] - 1); // in the call, perhaps its function's last instruction
        const u64 *next = (const u64 *)frame[0];
        frame = next > frame && (u64)next - (u64)frame <= FRAME_SPAN ? next : NULL;
    }
}

void test_exit(unsigned status) {
    if (!options.testexit)
        return;
    outb(PORT_DEBUG_EXIT, (u8)status);
    for (const char *p = "Shutdown"; *p; p++)
        outb(PORT_BOCHS_EXIT, (u8)*p);
}

// Keeps what the log has from `start` on.
static void make_record(void) {
    const struct basalt_log *log = log_ring();
    if (kernel_virt_to_hpa(record).v == HPA_NONE.v)
        return;
    record->length = (u32)MIN(log->head - start, sizeof(record->text) - 1);
    for (u32 i = 0; i < record->length; i++)
        record->text[i] = log->data[(start + i) % log->bytes];
    record->checksum = checksum(record->text, record->length);
    record->magic = RECORD_MAGIC;
}

static void say(const struct trap_frame *trap, const u64 *frame, const char *text, va_list args) {
    char line[256];
    console_take();
    start = log_ring()->head;
    (void)format_va(line, sizeof(line), text, args);
    log_err("basalt: panic: %s", line);
    if (trap)
        say_registers(trap);
    log_err("  cr0 %lx cr2 %lx cr3 %lx cr4 %lx, CPU %u", read_cr0(), read_cr2(), read_cr3(),
            read_cr4(), rdmsr(MSR_GS_BASE) ? this_cpu()->id : 0);
    say_backtrace(frame);
    log_err("basalt: %s", options.panic_halt ? "halted" : "resetting the machine");
}

void panic_trap(const struct trap_frame *trap, const char *text, ...) {
    const u64 *frame = trap ? (const u64 *)trap->rbp : __builtin_frame_address(0);
    va_list args;

    cpu_cli();
    va_start(args, text);
    if (depth++ == 0)
        say(trap, frame, text, args);
    va_end(args);
    if (depth <= 2) {
        make_record();
        test_exit(1);
        while (options.panic_halt)
            cpu_hlt();
    }
    machine_reset(true);
}

void panic_show_previous(void) {
    if (record->magic != RECORD_MAGIC || record->length >= sizeof(record->text) ||
        record->checksum != checksum(record->text, record->length))
        return;
    record->magic = 0;
    log_warn("basalt: previous boot panicked:");
    record->text[record->length] = 0;
    for (char *line = record->text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        log_warn("| %s", line);
    }
}

void panic_map_record(void) { map_at_boot((u64)record, HPA(RECORD_ADDRESS), PAGE_SIZE, MAP_WRITE); }
