// SPDX-License-Identifier: Apache-2.0
//
// Carries out an instruction of a guest that the kernel does not: read-modify-write, strings and the
// like on device memory and ports, CLTS, LMSW and SMSW, RDMSR and WRMSR. It works on a copy of the vCPU's
// state and says what the instruction did, in the form in which the kernel takes it. Invariant: unless it
// is done, or has gone on by whole elements of a string, no device was touched; nothing is written but what
// the instruction may write at the vCPU's privilege.

#pragma once

#include "emulator/decode.h"

#include <basalt/domain.h>
#include <basalt/request.h>

struct guest_memory;

/// The devices. `context` comes from the caller; `bytes` is 1, 2, 4 or 8.
struct emulator_bus {
    u64 (*read)(void *context, bool memory, u64 address, unsigned bytes);
    void (*write)(void *context, bool memory, u64 address, unsigned bytes, u64 data);
};

enum emulator_result {
    EMULATOR_COMPLETE, ///< `completion` says what it did
    EMULATOR_AGAIN,    ///< nothing was done: what was to be emulated is no longer there
    EMULATOR_CANNOT, ///< nothing was done: unknown instruction, or no memory where there should be
};

struct emulator {
    // Given by the caller.
    struct basalt_vcpu_state state;
    struct guest_memory *memory;
    const struct emulator_bus *bus;
    void *context;
    struct basalt_request request; ///< what the kernel knows of the exit
    // The emulator's.
    struct insn insn;
    struct basalt_completion completion; ///< of EMULATOR_COMPLETE
    enum emulator_result failure;        ///< why a function returned false
};

/// Carries out the instruction at RIP.
must_check enum emulator_result emulator_run(struct emulator *e);

// ---- What the parts share ----

enum { ELEMENTS_MAX = 64 }; ///< of a string, for one request

/// The mode of the code that runs, and its privilege.
enum cpu_mode emulator_mode(const struct emulator *e);
bool emulator_user(const struct emulator *e);

/// Notes an exception that the instruction raises. Always false.
bool emulator_raise(struct emulator *e, unsigned vector, u32 error);
/// Notes that the instruction can't be carried out. Always false.
bool emulator_fail(struct emulator *e, enum emulator_result why);

/// Linear address of `bytes` bytes at `offset` of a segment (enum segment). False: #GP or #SS was
/// noted.
must_check bool emulator_linear(struct emulator *e, unsigned segment, u64 offset, unsigned bytes,
                                bool write, u64 *linear);
/// Translates a linear address for an access (PF_WRITE, PF_FETCH) and sets accessed and dirty bits as
/// a processor does. False: a page fault was noted, or that there is no memory for a table.
must_check bool emulator_translate(struct emulator *e, u64 linear, unsigned access, u64 *gpa);
/// Copies from or (PF_WRITE) to the guest's RAM. False: as above.
must_check bool emulator_copy(struct emulator *e, u64 linear, void *buffer, unsigned bytes,
                              unsigned access);
/// Decodes the instruction at RIP into e->insn. False: an exception was noted, or it is unknown.
must_check bool emulator_decode(struct emulator *e);
/// Whether there is RAM at `gpa`.
bool emulator_is_ram(struct emulator *e, u64 gpa);
