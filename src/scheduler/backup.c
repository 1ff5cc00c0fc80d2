#include "scheduler/backup.h"

#include <string.h>
#include <time.h>

#define HOUR_S 3600
#define DAY_S  86400

static int64_t or_default(int64_t value, int64_t def)
{
    return value == SCHEDULE_UNSET ? def : value;
}

static int64_t floor_to(int64_t t, int64_t unit)
{
    return t - ((t % unit) + unit) % unit;
}

/* month counts from 0 and may be -1: of the year before. */
static int64_t time_of(int year, int month, int64_t day, int64_t hour)
{
    struct tm first = { .tm_year = year - 1900, .tm_mon = month, .tm_mday = 1 };
    struct tm after = { .tm_year = year - 1900, .tm_mon = month + 1, .tm_mday = 1 };
    int64_t begin = timegm(&first), days = (timegm(&after) - begin) / DAY_S;
    return begin + ((day < days ? day : days) - 1) * DAY_S + hour * HOUR_S;
}

static int64_t last_hourly(const struct schedule_entry *e UNUSED, int64_t now)
{
    return floor_to(now, HOUR_S);
}

static int64_t last_daily(const struct schedule_entry *e, int64_t now)
{
    int64_t at = floor_to(now, DAY_S) + or_default(e->hour, 0) * HOUR_S;
    return at <= now ? at : at - DAY_S;
}

/* 1 January 1970 was a Thursday. */
static int64_t last_weekly(const struct schedule_entry *e, int64_t now)
{
    int64_t monday = floor_to(now + 3 * DAY_S, 7 * DAY_S) - 3 * DAY_S;
    int64_t at = monday + (or_default(e->day, 1) - 1) * DAY_S + or_default(e->hour, 0) * HOUR_S;
    return at <= now ? at : at - 7 * DAY_S;
}

static struct tm civil(int64_t now)
{
    struct tm tm;
    time_t t = (time_t)now;
    gmtime_r(&t, &tm);
    return tm;
}

static int64_t last_monthly(const struct schedule_entry *e, int64_t now)
{
    struct tm tm = civil(now);
    int64_t day = or_default(e->day, 1), hour = or_default(e->hour, 0);
    int64_t at = time_of(tm.tm_year + 1900, tm.tm_mon, day, hour);
    return at <= now ? at : time_of(tm.tm_year + 1900, tm.tm_mon - 1, day, hour);
}

static int64_t last_yearly(const struct schedule_entry *e, int64_t now)
{
    int year = civil(now).tm_year + 1900, month = (int)or_default(e->month, 1) - 1;
    int64_t day = or_default(e->day, 1), hour = or_default(e->hour, 0);
    int64_t at = time_of(year, month, day, hour);
    return at <= now ? at : time_of(year - 1, month, day, hour);
}

int64_t backup_last_due(const struct schedule_entry *e, int64_t now_us)
{
    static const struct {
        const char *frequency;
        int64_t (*last)(const struct schedule_entry *e, int64_t now);
    } KINDS[] = {
        { "hourly", last_hourly },   { "daily", last_daily },   { "weekly", last_weekly },
        { "monthly", last_monthly }, { "yearly", last_yearly },
    };
    for (size_t i = 0; i < N_ELEMENTS(KINDS); i++)
        if (strcmp(KINDS[i].frequency, e->frequency) == 0)
            return KINDS[i].last(e, floor_to(now_us, 1000000) / 1000000) * 1000000;
    return INT64_MIN;
}

bool backup_is_due(const struct schedule_entry *list, size_t n, int64_t done_until_us, int64_t now_us,
                   int64_t *ret_keep_s)
{
    bool due = false, for_ever = false;
    *ret_keep_s = 0;
    for (size_t i = 0; i < n; i++) {
        if (backup_last_due(&list[i], now_us) <= done_until_us)
            continue;
        due = true;
        for_ever = for_ever || list[i].retention_seconds == SCHEDULE_UNSET;
        if (list[i].retention_seconds > *ret_keep_s)
            *ret_keep_s = list[i].retention_seconds;
    }
    if (for_ever)
        *ret_keep_s = 0;
    return due;
}
