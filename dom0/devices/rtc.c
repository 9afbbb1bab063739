// SPDX-License-Identifier: Apache-2.0
//
// The MC146818: time registers are computed from the clock when they are read; a write of one of
// them sets the clock. While register B's SET bit is 1 they stand still and hold what is written,
// as the data sheet demands. Follows the data sheet of the MC146818; the century register is where
// the FADT says.

#include <string.h>

#include "rtc.h"

#define NS     1000000000ll
#define LATEST 9000000000ll // seconds: in the year 2255; nanoseconds since 1970 end in 2262

enum {
    SECONDS = 0,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    WEEKDAY,
    DAY,
    MONTH,
    YEAR,
    A,
    B,
    C,
    D
};

#define A_DIVIDER 0x26u // 32768 Hz, 1024 Hz periodic rate
#define B_24H     0x02u
#define B_BINARY  0x04u
#define B_UPDATE  0x10u
#define B_ALARM   0x20u
#define B_SET     0x80u
#define C_UPDATE  0x10u // the same bits as their enables in B
#define C_ALARM   0x20u
#define C_REQUEST 0x80u
#define D_VALID   0x80u
#define HOUR_PM   0x80u
#define ALARM_ANY 0xc0u

// The civil calendar (proleptic Gregorian), years beginning in March so that the leap day is the
// last.
static int64_t days_of(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_of(int64_t days, int64_t *year, unsigned *month, unsigned *day) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * years + years / 4 - years / 100);
    int64_t shifted = (5 * of_year + 2) / 153;
    *day = (unsigned)(of_year - (153 * shifted + 2) / 5 + 1);
    *month = (unsigned)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = years + era * 400 + (*month <= 2);
}

static int64_t clock_ns(const struct rtc_state *s) {
    if (s->cmos[B] & B_SET)
        return s->stopped_ns;
    return (int64_t)host_wall_ns() + s->offset_ns;
}

static uint8_t encode(const struct rtc_state *s, unsigned value) {
    return (uint8_t)(s->cmos[B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static unsigned decode(const struct rtc_state *s, uint8_t value) {
    return s->cmos[B] & B_BINARY ? value : (value >> 4) * 10u + (value & 15u);
}

static uint8_t encode_hour(const struct rtc_state *s, unsigned hour) {
    if (s->cmos[B] & B_24H)
        return encode(s, hour);
    return encode(s, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct rtc_state *s, uint8_t value) {
    if (s->cmos[B] & B_24H)
        return decode(s, value);
    return decode(s, value & 0x7f) % 12 + (value & HOUR_PM ? 12 : 0);
}

// Clock -> time registers.
static void registers_load(struct rtc_state *s) {
    int64_t seconds = clock_ns(s) / NS, year;
    unsigned month, day, second = (unsigned)(seconds % 86400);
    date_of(seconds / 86400, &year, &month, &day);
    s->cmos[SECONDS] = encode(s, second % 60);
    s->cmos[MINUTES] = encode(s, second / 60 % 60);
    s->cmos[HOURS] = encode_hour(s, second / 3600);
    s->cmos[WEEKDAY] =
        encode(s, (unsigned)((seconds / 86400 + 4) % 7) + 1); // 1970 began on a Thursday; 1: Sunday
    s->cmos[DAY] = encode(s, day);
    s->cmos[MONTH] = encode(s, month);
    s->cmos[YEAR] = encode(s, (unsigned)(year % 100));
    s->cmos[RTC_CENTURY] = encode(s, (unsigned)(year / 100 % 100));
}

// Time registers -> clock. Nonsense gives some date, never trouble.
static int64_t registers_ns(const struct rtc_state *s) {
    unsigned month = decode(s, s->cmos[MONTH]);
    int64_t year = decode(s, s->cmos[RTC_CENTURY]) * 100 + decode(s, s->cmos[YEAR]);
    int64_t days = days_of(year, month >= 1 && month <= 12 ? month : 1, decode(s, s->cmos[DAY]));
    int64_t seconds = days * 86400 + decode_hour(s, s->cmos[HOURS]) * 3600 +
                      decode(s, s->cmos[MINUTES]) * 60 + decode(s, s->cmos[SECONDS]);
    return seconds < 0 || seconds > LATEST ? 0 : seconds * NS;
}

static bool alarm_field(const struct rtc_state *s, unsigned alarm, unsigned value) {
    return (s->cmos[alarm] & ALARM_ANY) == ALARM_ANY || s->cmos[alarm] == s->cmos[value];
}

static void update_line(struct rtc *rtc) {
    struct rtc_state *s = rtc->state;
    bool level = s->cmos[C] & s->cmos[B] & (C_ALARM | C_UPDATE);
    s->cmos[C] = (uint8_t)((s->cmos[C] & ~C_REQUEST) | (level ? C_REQUEST : 0));
    if (level == s->line)
        return;
    s->line = level;
    rtc->line(rtc->context, level);
}

static void arm(struct rtc *rtc) {
    struct rtc_state *s = rtc->state;
    if ((s->cmos[B] & B_SET) || !(s->cmos[B] & (B_ALARM | B_UPDATE))) {
        host_timer_cancel(&rtc->tick);
        return;
    }
    uint64_t into = (uint64_t)clock_ns(s) % NS;
    host_timer_set(&rtc->tick, host_time_ns() + NS - into);
}

// Brings the flags of register C up to the present second.
static void catch_up(struct rtc *rtc) {
    struct rtc_state *s = rtc->state;
    uint64_t now = (uint64_t)(clock_ns(s) / NS);
    if ((s->cmos[B] & B_SET) || now == s->checked)
        return;
    s->checked = now;
    s->cmos[C] |= C_UPDATE;
    registers_load(s);
    if (alarm_field(s, SECONDS_ALARM, SECONDS) && alarm_field(s, MINUTES_ALARM, MINUTES) &&
        alarm_field(s, HOURS_ALARM, HOURS))
        s->cmos[C] |= C_ALARM;
    update_line(rtc);
}

static void tick(void *context) {
    struct rtc *rtc = context;
    catch_up(rtc);
    arm(rtc);
}

void rtc_init(struct rtc *rtc, bool fresh) {
    struct rtc_state *s = rtc->state;
    rtc->tick = (struct host_timer){.handler = tick, .context = rtc};
    if (fresh) {
        memset(s, 0, sizeof(*s));
        s->cmos[A] = A_DIVIDER;
        s->cmos[B] = B_24H;
        s->cmos[D] = D_VALID;
        s->checked = (uint64_t)(clock_ns(s) / NS);
    }
    arm(rtc);
}

void rtc_end(struct rtc *rtc) { host_timer_cancel(&rtc->tick); }

static bool is_time(unsigned index) {
    return index == SECONDS || index == MINUTES || index == HOURS ||
           (index >= WEEKDAY && index <= YEAR) || index == RTC_CENTURY;
}

uint8_t rtc_read(struct rtc *rtc, unsigned port) {
    struct rtc_state *s = rtc->state;
    if (port == 0)
        return 0xff; // the index is write-only
    if (is_time(s->index) && !(s->cmos[B] & B_SET))
        registers_load(s);
    if (s->index != C)
        return s->cmos[s->index];
    catch_up(rtc);
    uint8_t value = s->cmos[C];
    s->cmos[C] = 0;
    update_line(rtc);
    return value;
}

static void write_b(struct rtc *rtc, uint8_t value) {
    struct rtc_state *s = rtc->state;
    if ((value & B_SET) && !(s->cmos[B] & B_SET)) {
        s->stopped_ns = clock_ns(s);
        registers_load(s);
    }
    if (!(value & B_SET) && (s->cmos[B] & B_SET))
        s->offset_ns = registers_ns(s) - (int64_t)host_wall_ns();
    s->cmos[B] = value;
    update_line(rtc);
    arm(rtc);
}

static void write_time(struct rtc_state *s, uint8_t value) {
    bool running = !(s->cmos[B] & B_SET);
    if (running)
        registers_load(s);
    s->cmos[s->index] = value;
    if (running)
        s->offset_ns = registers_ns(s) - (int64_t)host_wall_ns();
}

void rtc_write(struct rtc *rtc, unsigned port, uint8_t value) {
    struct rtc_state *s = rtc->state;
    if (port == 0)
        s->index = value & 0x7f;
    else if (is_time(s->index))
        write_time(s, value);
    else if (s->index == A)
        s->cmos[A] = value & 0x7f; // an update is never in progress
    else if (s->index == B)
        write_b(rtc, value);
    else if (s->index != C && s->index != D)
        s->cmos[s->index] = value;
}
