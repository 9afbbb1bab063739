// SPDX-License-Identifier: Apache-2.0
//
// I/O requests: an access of a guest to an emulated device, answered by the request server to which its address is
// routed. One slot per vCPU; the vCPU sleeps until BASALT_HC_REQUEST_ANSWER names the request's number. The kernel
// keeps its own copy: what the server writes into a slot has no effect. A register whose reading changes nothing can be
// published: then its readers don't wait. Doorbells tie a plain write to an event port. An instruction that the kernel does
// not carry out itself is a request, too: its server reads the vCPU's state, does what the instruction does, and answers
// with a completion.

#pragma once

#include <stdint.h>

struct basalt_request {
    uint64_t number; // counts up by one for each request of this vCPU, from 1
    // Port number or guest-physical address; of an instruction also the number of its MSR, or 0 for a control register
    uint64_t address;
    // Of a write; low `bytes` bytes. Of an instruction: its exit (enum basalt_exit_kind)
    uint64_t data;
    uint8_t space; // enum basalt_space
    uint8_t write; // 0: a read, 1: a write
    uint8_t
        bytes; // 1, 2, 4 or 8; of an instruction: of its port, the instruction's own of RDMSR and WRMSR, else 0
    uint8_t reserved0;
    uint32_t vcpu;
    uint64_t reserved1[4];
};
_Static_assert(sizeof(struct basalt_request) == 64, "ABI");

#define BASALT_REQUEST_SLOTS 63

// A published register: the kernel answers reads of one byte from I/O port `port`, routed to the server, with `value`.
#define BASALT_REGISTERS      8u // the one of `port` stands at index port % 8
#define BASALT_REGISTER_VALID 0x80000000u
#define BASALT_REGISTER_VALUE 0x00ff0000u // the port in bits 15:0; all other bits are 0

struct basalt_request_page {
    uint64_t pending; // bit n: slot n has a new request; the server clears it by atomic exchange
    uint32_t registers[BASALT_REGISTERS]; // BASALT_REGISTER_*, written by the server at any time
    uint64_t reserved[3];
    struct basalt_request slots[BASALT_REQUEST_SLOTS];
};
_Static_assert(sizeof(struct basalt_request_page) == 4096, "ABI");

// Plain answers to the request for an instruction.
enum basalt_instruction {
    BASALT_INSTRUCTION_AGAIN = 0,  // nothing was done: the guest shall try it again
    BASALT_INSTRUCTION_CANNOT = 1, // it can't be carried out: the domain ends, BASALT_END_EMULATION
};

enum basalt_complete {
    BASALT_COMPLETE_DONE = 0,
    BASALT_COMPLETE_EXCEPTION = 1, // #UD, #SS, #GP or #PF is to be delivered
    BASALT_COMPLETE_LMSW = 2,      // done when the low bits of CR0 are loaded with `operand`
};

// What an instruction did to its vCPU.
struct basalt_completion {
    uint64_t gprs[16];
    uint64_t rflags;  // CF, PF, AF, ZF, SF, OF; the others stay
    uint64_t operand; // of LMSW; CR2 of a page fault
    uint32_t error;   // of an exception that has an error code
    uint8_t action;   // enum basalt_complete
    uint8_t vector;   // of an exception
    uint8_t length;   // by which RIP moves; 0: the instruction is not done, or raises an exception
    uint8_t reserved;
};
_Static_assert(sizeof(struct basalt_completion) == 152, "ABI");
