// SPDX-License-Identifier: Apache-2.0
//
// Structures about domains and vCPUs that cross the hypercall interface.

#pragma once

#include <stdint.h>

#define BASALT_VCPUS_MAX         63u

#define BASALT_PHYSICAL_BITS_MAX 46u // of guests: their MAXPHYADDR is that of the machine, or this

// A row of a domain's CPUID. The first that fits counts; what none fits is all zeros. Of leaf 1 the kernel adds the initial
// APIC ID, OSXSAVE, and whether the APIC is on; of 0xb the subleaf and the x2APIC ID; of 0xd the size of what XCR0 has on
// where EBX of subleaf 0 or 1 is not 0.
struct basalt_cpuid {
    uint32_t leaf;
    uint32_t subleaf; // or BASALT_CPUID_ANY
    uint32_t eax, ebx, ecx, edx;
};
_Static_assert(sizeof(struct basalt_cpuid) == 24, "ABI");
#define BASALT_CPUID_ANY 0xffffffffu

enum basalt_domain_op { BASALT_OP_PAUSE = 0, BASALT_OP_RESUME = 1, BASALT_OP_END = 2 };

enum basalt_domain_status {
    BASALT_STATUS_PAUSED = 0,
    BASALT_STATUS_RUNNING = 1,
    BASALT_STATUS_ENDED = 2, // no vCPU runs any more; waits to be destroyed
};

enum basalt_end_reason {
    BASALT_END_NONE = 0,
    BASALT_END_CONTROL = 1,      // BASALT_OP_END
    BASALT_END_TRIPLE_FAULT = 2, // a vCPU's shutdown
    BASALT_END_BAD_STATE = 3,    // the processor refused the vCPU's state
    BASALT_END_EMULATION = 4,    // an instruction that the kernel can't emulate
    BASALT_END_MEMORY = 5,       // quota or machine out of memory in a lazily populated range
    BASALT_END_MACHINE_CHECK = 6,
};

struct basalt_domain_info {
    uint32_t id;         // unique in this boot
    uint32_t status;     // enum basalt_domain_status
    uint32_t end_reason; // enum basalt_end_reason
    uint32_t end_vcpu;
    uint64_t end_detail;   // emulation: faulting guest-physical address
    uint64_t memory_bytes; // frames held now, all charged
    uint64_t memory_quota;
    uint64_t tsc_offset; // its TSC is the machine's plus this
    uint32_t vcpus;
    uint32_t weight;
    uint32_t cap; // percent of one CPU, 0: none
    uint32_t reserved;
    uint8_t end_insn[16];     // the instruction at the end, if it could be fetched
    uint32_t end_insn_length; // valid bytes of end_insn
    uint32_t reserved2;
    uint64_t hidden; // guest-physical address of what was populated hidden first; 0: nothing was
};
_Static_assert(sizeof(struct basalt_domain_info) == 96, "ABI");

// Segment attributes are in the VMX format: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16.
struct basalt_segment {
    uint64_t base;
    uint32_t limit; // bytes, byte granular
    uint16_t selector;
    uint16_t reserved;
    uint32_t attributes;
    uint32_t reserved2;
};

enum basalt_gpr { // as instructions encode them
    BASALT_RAX,
    BASALT_RCX,
    BASALT_RDX,
    BASALT_RBX,
    BASALT_RSP,
    BASALT_RBP,
    BASALT_RSI,
    BASALT_RDI,
    BASALT_R8,
    BASALT_R9,
    BASALT_R10,
    BASALT_R11,
    BASALT_R12,
    BASALT_R13,
    BASALT_R14,
    BASALT_R15,
};
enum basalt_segment_index { // as instructions encode them
    BASALT_ES,
    BASALT_CS,
    BASALT_SS,
    BASALT_DS,
    BASALT_FS,
    BASALT_GS,
    BASALT_LDTR,
    BASALT_TR,
    BASALT_GDTR, // of these two only base and limit mean something
    BASALT_IDTR,
    BASALT_SEGMENTS
};

struct basalt_vcpu_state {
    uint64_t gprs[16];
    uint64_t rip, rflags;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer;
    uint64_t dr6, dr7;
    struct basalt_segment segments[BASALT_SEGMENTS];
    uint32_t activity; // 0: runs, 1: halted, 2: waits for INIT/SIPI
    uint32_t reserved[3];
};
_Static_assert(sizeof(struct basalt_vcpu_state) == 128 + 80 + 10 * 24 + 16, "ABI");

#define BASALT_EXIT_KINDS 48

struct basalt_vcpu_stats {
    uint64_t run_tsc;
    uint64_t exits[BASALT_EXIT_KINDS]; // by exit row (include/basalt/trace.h names them)
    uint64_t requests, doorbells, injections, wakeups;
};
_Static_assert(sizeof(struct basalt_vcpu_stats) == 8 * 53, "ABI");
