// SPDX-License-Identifier: Apache-2.0
//
// What newlib asks of the system: memory, the console as standard output, time, an end. There are
// no files, no processes and no signals here; the calls for those say so.

#include "lib/boot.h"
#include "lib/log.h"
#include "lib/memory.h"
#include "lib/pages.h"
#include "lib/timer.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

void *sbrk(ptrdiff_t bytes);
int write(int file, const void *data, size_t bytes);

void *sbrk(ptrdiff_t bytes) {
    void *end = pages_heap_grow(bytes);
    if (end)
        return end;
    errno = ENOMEM;
    return (void *)-1;
}

int write(int file, const void *data, size_t bytes) {
    if (file != STDOUT_FILENO && file != STDERR_FILENO) {
        errno = EBADF;
        return -1;
    }
    log_text(data, bytes);
    return (int)bytes;
}

int read(int file, void *data, size_t bytes);
int read(int file, void *data, size_t bytes) {
    (void)file;
    (void)data;
    (void)bytes;
    return 0;
}

int close(int file) {
    (void)file;
    errno = EBADF;
    return -1;
}

off_t lseek(int file, off_t offset, int whence);
off_t lseek(int file, off_t offset, int whence) {
    (void)file;
    (void)offset;
    (void)whence;
    errno = ESPIPE;
    return -1;
}

int fstat(int file, struct stat *status) {
    (void)file;
    *status = (struct stat){.st_mode = S_IFCHR};
    return 0;
}

int isatty(int file) { return file <= STDERR_FILENO; }

pid_t getpid(void) { return 1; }

int kill(int process, int signal);
int kill(int process, int signal) {
    (void)process;
    fatal("signal %d", signal);
}

_Noreturn void _exit(int status) { fatal("exit %d", status); }

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    u64 ns = time_wall_ns();
    now->tv_sec = (time_t)(ns / NS_PER_S);
    now->tv_usec = (suseconds_t)(ns % NS_PER_S / NS_PER_US);
    return 0;
}
