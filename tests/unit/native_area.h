// SPDX-License-Identifier: Apache-2.0
//
// Where the tests of what emulates instructions have their code and data, the guest's and their own at the same linear
// addresses; and the flags' names.

#pragma once

#define DEVICE     0x10000000ull // linear, two pages
#define CODE       0x10002000ull // one page
#define RAM        0x10003000ull // three pages, whose frames are not neighbours
#define AREA_PAGES 6u
#define DEVICE_GPA 0xd0000000ull
#define PAGES(n)   ((n)*PAGE_SIZE)
#define F_CF       0x1u
#define F_PF       0x4u
#define F_AF       0x10u
#define F_ZF       0x40u
#define F_SF       0x80u
#define F_OF       0x800u
#define ARITHMETIC (F_CF | F_PF | F_AF | F_ZF | F_SF | F_OF)
#define DF         BIT(10)
