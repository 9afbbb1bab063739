// SPDX-License-Identifier: Apache-2.0
//
// The CMOS real-time clock, taken to be in UTC. A reading counts when two in a row, neither during
// an update, agree.

#include "drivers/rtc.h"

#include "arch/acpi.h"
#include "arch/string.h"
#include "arch/x86.h"
#include "kernel/log.h"

#define PORT_INDEX 0x70 // bit 7: NMI off; stays clear
#define PORT_DATA  0x71
#define REG_A      0x0au
#define REG_B      0x0bu
#define A_UPDATING 0x80u
#define B_BINARY   0x04u
#define B_24H      0x02u
#define PM_BIT     0x80u // of the hour, in 12-hour format
#define TRIES      100000u

enum { SECOND, MINUTE, HOUR, DAY, MONTH, YEAR, CENTURY, FIELDS };

static u8 cmos(unsigned reg) {
    outb(PORT_INDEX, (u8)reg);
    return inb(PORT_DATA);
}

static void read_once(u8 fields[FIELDS]) {
    const u8 registers[FIELDS] = {0, 2, 4, 7, 8, 9, acpi.century};
    for (unsigned i = 0; i < TRIES && cmos(REG_A) & A_UPDATING; i++)
        cpu_pause();
    for (unsigned i = 0; i < FIELDS; i++)
        fields[i] = cmos(registers[i]);
}

u64 rtc_seconds(unsigned year, unsigned month, unsigned day, unsigned hour, unsigned minute,
                unsigned second) {
    // Years begin in March, so that the leap day is the last one: days before a month then follow
    // one formula.
    u64 y = month <= 2 ? year - 1 : year, m = month <= 2 ? month + 9 : month - 3;
    u64 days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    return (days - 719468) * 86400 + hour * 3600ull + minute * 60 + second;
}

u64 rtc_read_ns(void) {
    u8 raw[FIELDS], again[FIELDS];
    unsigned v[FIELDS], tries = 5;
    do {
        read_once(raw);
        read_once(again);
    } while (memcmp(raw, again, FIELDS) != 0 && --tries);
    u8 mode = cmos(REG_B);
    bool pm = !(mode & B_24H) && raw[HOUR] & PM_BIT;
    raw[HOUR] = pm ? raw[HOUR] & (u8)~PM_BIT : raw[HOUR];
    for (unsigned i = 0; i < FIELDS; i++)
        v[i] = mode & B_BINARY ? raw[i] : (raw[i] >> 4) * 10u + (raw[i] & 15);
    v[HOUR] = mode & B_24H ? v[HOUR] : v[HOUR] % 12 + (pm ? 12 : 0);
    v[YEAR] += acpi.century && v[CENTURY] >= 19 && v[CENTURY] <= 29 ? v[CENTURY] * 100 : 2000;
    if (v[MONTH] - 1 < 12 && v[DAY] - 1 < 31 && v[HOUR] < 24 && v[MINUTE] < 60 && v[SECOND] < 60)
        return rtc_seconds(v[YEAR], v[MONTH], v[DAY], v[HOUR], v[MINUTE], v[SECOND]) * 1000000000;
    log_warn("basalt: clock: the real-time clock shows nonsense");
    return 0;
}
