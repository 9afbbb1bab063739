// SPDX-License-Identifier: Apache-2.0
//
// /init of the Linux guest that `make bench` starts, and of the same Linux without Basalt under it: takes the time (TSC)
// of busybox' sha256sum over 16 MiB and of 500 times fork and exec, reads its disk, if it has one, at depths of 1 and of
// 32 requests, prints
//
//     bench: linux_init TICKS   from the kernel's TSC 0 to here
//     bench: linux_sha256 TICKS
//     bench: linux_fork_exec TICKS
//     bench: end
//
// and halts. Marks for the profiler (bench.c) are here, around the work, and around each sort of reads; before and after
// each sort of reads it rings dom0's doorbell, which then prints its counters (dom0/toolstack/bench.c).

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#define BYTES     (16u << 20)
#define TIMES     500
#define READS     4096
#define DEPTH_MAX 32
#define BLOCK     4096u
#define DISK      (8u << 20)
#define DOORBELL  0xb0

static void mark(void) { __asm__ volatile("xchg %%bx, %%bx" : : : "memory"); }

static void run(const char *applet, const char *argument) {
    pid_t child = fork();
    if (child == 0) {
        freopen("/dev/null", "w", stdout);
        execl("/bin/busybox", applet, argument, NULL);
        _exit(127);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (status)
        printf("bench: %s failed: %d\n", applet, status);
}

static void make_file(const char *path) {
    char *data = calloc(1, BYTES);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || write(file, data, BYTES) != BYTES)
        printf("bench: no file\n");
    close(file);
    free(data);
}

static void ring(void) {
    outw(0, DOORBELL);
    usleep(100000);
}

static void load_modules(void) {
    char name[64], path[96];
    FILE *order = fopen("/modules.order", "r");
    while (order && fgets(name, sizeof(name), order)) {
        name[strcspn(name, "\n")] = 0;
        snprintf(path, sizeof(path), "/modules/%s", name);
        run("insmod", path);
    }
    mount("devtmpfs", "/dev", "devtmpfs", 0, "");
    mount("proc", "/proc", "proc", 0, "");
}

static void prepare(struct iocb *block, int file, unsigned number) {
    static char buffers[DEPTH_MAX][BLOCK] __attribute__((aligned(BLOCK)));
    block->aio_fildes = file;
    block->aio_lio_opcode = IOCB_CMD_PREAD;
    block->aio_buf = (unsigned long)buffers[block->aio_data];
    block->aio_nbytes = BLOCK;
    block->aio_offset = number * BLOCK % DISK;
}

// Interrupts of the disk's queue so far.
static unsigned interrupts(void) {
    char line[256];
    unsigned count = 0;
    FILE *file = fopen("/proc/interrupts", "r");
    while (file && fgets(line, sizeof(line), file))
        if (strstr(line, "req.0"))
            count = (unsigned)strtoul(strchr(line, ':') + 1, NULL, 10);
    if (file)
        fclose(file);
    return count;
}

// Keeps `depth` reads under way; those that ended together are followed by as many at once.
static void read_disk(int file, unsigned depth) {
    aio_context_t context = 0;
    struct iocb blocks[DEPTH_MAX] = {0}, *list[DEPTH_MAX];
    struct io_event ended[DEPTH_MAX];
    unsigned begun = 0, done = 0, free_count = depth;
    for (unsigned i = 0; i < depth; i++) {
        blocks[i].aio_data = i;
        list[i] = &blocks[i];
    }
    syscall(SYS_io_setup, DEPTH_MAX, &context);
    unsigned before = interrupts();
    ring();
    mark();
    while (done < READS) {
        unsigned count = 0;
        for (; count < free_count && begun < READS; count++)
            prepare(list[count], file, begun++);
        if (count && syscall(SYS_io_submit, context, count, list) != count)
            printf("bench: io_submit failed\n");
        free_count = (unsigned)syscall(SYS_io_getevents, context, 1, DEPTH_MAX, ended, NULL);
        done += free_count;
        for (unsigned i = 0; i < free_count; i++) {
            list[i] = &blocks[ended[i].data];
            if (ended[i].res != BLOCK)
                printf("bench: a read failed\n");
        }
    }
    mark();
    ring();
    printf("bench: linux_irqs_qd%u %u\n", depth, interrupts() - before);
}

static void measure_disk(void) {
    load_modules();
    int file = open("/dev/vda", O_RDONLY | O_DIRECT);
    if (file < 0 || iopl(3))
        return;
    read_disk(file, 1);
    read_disk(file, DEPTH_MAX);
}

int main(void) {
    unsigned long long init = __rdtsc(), begin, middle, end;
    mark();
    make_file("/data");
    run("true", NULL);
    mark();
    begin = __rdtsc();
    run("sha256sum", "/data");
    middle = __rdtsc();
    for (int i = 0; i < TIMES; i++)
        run("true", NULL);
    end = __rdtsc();
    mark();
    measure_disk();
    printf(
        "bench: linux_init %llu\nbench: linux_sha256 %llu\nbench: linux_fork_exec %llu\nbench: end\n",
        init, middle - begin, end - middle);
    for (;;)
        pause();
}
