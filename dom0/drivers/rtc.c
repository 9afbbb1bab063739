// SPDX-License-Identifier: Apache-2.0
//
// The CMOS real-time clock. A reading counts when two in a row, neither during an update, agree. Two digits tell the
// year: 1970 to 2069. Follows the data sheet of the MC146818.

#include "drivers/rtc.h"

#include "lib/log.h"
#include "lib/ports.h"
#include "lib/timer.h"

#include <string.h>

#define PORT_INDEX 0x70 // bit 7: NMI off; stays clear
#define PORT_DATA  0x71
#define REG_A      0x0au
#define REG_B      0x0bu
#define A_UPDATING 0x80u
#define B_BINARY   0x04u
#define B_24H      0x02u
#define PM_BIT     0x80u            // of the hour, in 12-hour format
#define UPDATE_NS  (10 * NS_PER_MS) // an update takes less
#define READINGS   6u

enum { SECOND, MINUTE, HOUR, DAY, MONTH, YEAR, FIELDS };

static u8 cmos(unsigned reg) {
    out8(PORT_INDEX, (u8)reg);
    return in8(PORT_DATA);
}

static void read_once(u8 fields[FIELDS]) {
    static const u8 registers[FIELDS] = {0, 2, 4, 7, 8, 9};
    u64 end = time_ns() + UPDATE_NS;
    while (cmos(REG_A) & A_UPDATING && time_ns() < end)
        continue;
    for (unsigned i = 0; i < FIELDS; i++)
        fields[i] = cmos(registers[i]);
}

static void read_stable(u8 fields[FIELDS]) {
    u8 before[FIELDS];
    read_once(fields);
    for (unsigned i = 0; i < READINGS; i++) {
        memcpy(before, fields, FIELDS);
        read_once(fields);
        if (memcmp(before, fields, FIELDS) == 0)
            return;
    }
}

u64 clock_seconds(unsigned year, unsigned month, unsigned day, unsigned hour, unsigned minute,
                  unsigned second) {
    // Years begin in March, so that the leap day is the last one: days before a month then follow one formula.
    u64 y = month <= 2 ? year - 1 : year, m = month <= 2 ? month + 9 : month - 3;
    u64 days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    return (days - 719468) * 86400 + hour * 3600ull + minute * 60 + second;
}

// Seconds since 1970, 0 for nonsense.
static u64 seconds_of(const u8 raw[FIELDS], u8 mode) {
    bool pm = !(mode & B_24H) && raw[HOUR] & PM_BIT;
    unsigned v[FIELDS];
    for (unsigned i = 0; i < FIELDS; i++) {
        unsigned value = i == HOUR && !(mode & B_24H) ? raw[i] & ~PM_BIT : raw[i];
        v[i] = mode & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
    }
    v[HOUR] = mode & B_24H ? v[HOUR] : v[HOUR] % 12 + (pm ? 12 : 0);
    v[YEAR] += v[YEAR] < 70 ? 2000 : 1900;
    bool sense = v[MONTH] - 1 < 12 && v[DAY] - 1 < 31 && v[HOUR] < 24 && v[MINUTE] < 60 &&
                 v[SECOND] < 60;
    return sense ? clock_seconds(v[YEAR], v[MONTH], v[DAY], v[HOUR], v[MINUTE], v[SECOND]) : 0;
}

void clock_init(void) {
    u8 fields[FIELDS];
    read_stable(fields);
    u64 seconds = seconds_of(fields, cmos(REG_B));
    if (!seconds)
        log_warning("clock", "the real-time clock shows nonsense: it is 1970 now");
    time_set_wall(seconds * NS_PER_S);
}
