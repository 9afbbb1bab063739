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
#define REG_SECOND 0x00u
#define REG_MINUTE 0x02u
#define REG_HOUR   0x04u
#define REG_DAY    0x07u
#define REG_MONTH  0x08u
#define REG_YEAR   0x09u
#define REG_A      0x0au
#define REG_B      0x0bu
#define A_UPDATING 0x80u
#define B_BINARY   0x04u
#define B_24H      0x02u
#define PM_BIT     0x80u // of the hour, in 12-hour format
#define TRIES      100000u

struct reading {
    u8 second, minute, hour, day, month, year, century;
};

static u8 cmos(unsigned reg)
{
    outb(PORT_INDEX, (u8)reg);
    return inb(PORT_DATA);
}

static struct reading read_once(void)
{
    for (unsigned i = 0; i < TRIES && cmos(REG_A) & A_UPDATING; i++)
        cpu_pause();
    return (struct reading){
        .second = cmos(REG_SECOND),
        .minute = cmos(REG_MINUTE),
        .hour = cmos(REG_HOUR),
        .day = cmos(REG_DAY),
        .month = cmos(REG_MONTH),
        .year = cmos(REG_YEAR),
        .century = acpi.century ? cmos(acpi.century) : 0,
    };
}

u64 rtc_seconds(unsigned year, unsigned month, unsigned day, unsigned hour, unsigned minute,
                unsigned second)
{
    // Years begin in March, so that the leap day is the last one: days before a month then follow
    // one formula.
    u64 y = month <= 2 ? year - 1 : year, m = month <= 2 ? month + 9 : month - 3;
    u64 days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    return (days - 719468) * 86400 + hour * 3600ull + minute * 60 + second;
}

static unsigned decode(u8 value, u8 mode)
{
    return mode & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static unsigned decode_hour(u8 value, u8 mode)
{
    unsigned hour = decode(value & (mode & B_24H ? 0xff : 0x7f), mode);
    if (mode & B_24H)
        return hour;
    return hour % 12 + (value & PM_BIT ? 12 : 0);
}

u64 rtc_read_ns(void)
{
    struct reading r = read_once(), again = read_once();
    for (unsigned i = 0; i < 5 && memcmp(&r, &again, sizeof(r)) != 0; i++) {
        r = again;
        again = read_once();
    }
    u8 mode = cmos(REG_B);
    unsigned century = decode(r.century, mode);
    unsigned year = (century >= 19 && century <= 29 ? century : 20) * 100 + decode(r.year, mode);
    unsigned month = decode(r.month, mode), day = decode(r.day, mode),
             hour = decode_hour(r.hour, mode);
    unsigned minute = decode(r.minute, mode), second = decode(r.second, mode);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 ||
        second > 59) {
        log_warn("basalt: clock: the real-time clock shows nonsense");
        return 0;
    }
    return rtc_seconds(year, month, day, hour, minute, second) * 1000000000;
}
