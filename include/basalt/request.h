// SPDX-License-Identifier: Apache-2.0
//
// I/O requests: an access of a guest to an emulated device, answered by the request server to which its address is
// routed. One slot per vCPU; the vCPU sleeps until BASALT_HC_REQUEST_ANSWER names the request's number. The kernel
// keeps its own copy: what the server writes here has no effect. Doorbells tie a plain write to an event port.

#pragma once

#include <stdint.h>

struct basalt_request {
    uint64_t number;  // counts up by one for each request of this vCPU, from 1
    uint64_t address; // port number or guest-physical address
    uint64_t data;    // of a write; low `bytes` bytes
    uint8_t space;    // enum basalt_space
    uint8_t write;    // 0: a read, 1: a write
    uint8_t bytes;    // 1, 2, 4 or 8
    uint8_t reserved0;
    uint32_t vcpu;
    uint64_t reserved1[4];
};
_Static_assert(sizeof(struct basalt_request) == 64, "ABI");

#define BASALT_REQUEST_SLOTS 63

struct basalt_request_page {
    uint64_t pending; // bit n: slot n has a new request; the server clears it by atomic exchange
    uint64_t reserved[7];
    struct basalt_request slots[BASALT_REQUEST_SLOTS];
};
_Static_assert(sizeof(struct basalt_request_page) == 4096, "ABI");

#define BASALT_DOORBELL_MATCH 0x1u // only writes of `value` ring

struct basalt_doorbell {
    uint64_t address;
    uint64_t value;
    uint32_t space; // enum basalt_space
    uint32_t bytes; // 1, 2, 4, 8
    uint32_t flags; // BASALT_DOORBELL_*
    uint32_t port;  // of the caller
};
_Static_assert(sizeof(struct basalt_doorbell) == 32, "ABI");
