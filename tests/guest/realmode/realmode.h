// SPDX-License-Identifier: Apache-2.0
//
// What switch.S and realmode.c share: where things are in the first MiB, and the registers that real-mode code begins and
// ends with. Segment numbers are addresses / 16.

#pragma once

#define REAL_PAGE    0x9000 // the way there and back
#define REAL_STATE   0xb000 // struct real_state
#define REAL_CODE    0x2000
#define REAL_DATA    0x3000 // followed by one that must not change
#define REAL_STACK   0x5000

#define STATE_IDT    28
#define STATE_GDT    36
#define STATE_ES     44
#define STATE_DS     46
#define STATE_IP     48
#define STATE_CS     50
#define STATE_FLAGS  52
#define STATE_VECTOR 54
