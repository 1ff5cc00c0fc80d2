/*
 * t_backup.c - when snapshots are due: the edges of days, weeks, months and years
 */
#include "scheduler/backup.h"

#include "base/text.h"

#include <check.h>

Suite *t_backup_suite(void);

#define U SCHEDULE_UNSET

static int64_t at(const char *text)
{
    int64_t us;

    ck_assert_msg(text_to_time(text, &us), "%s", text);
    return us;
}

static const struct {
    struct schedule_entry e;
    const char *now, *due;
} LAST[] = {
    { { "hourly", U, U, U, U }, "2026-03-29T01:59:59.999999Z", "2026-03-29T01:00:00Z" },
    { { "hourly", U, U, U, U }, "2026-03-29T02:00:00Z", "2026-03-29T02:00:00Z" },
    { { "hourly", U, U, U, U }, "1969-12-31T23:59:59Z", "1969-12-31T23:00:00Z" },
    /* Where clocks are changed, in spring and in autumn: UTC knows nothing of it. */
    { { "daily", 2, U, U, U }, "2026-03-29T02:00:00Z", "2026-03-29T02:00:00Z" },
    { { "daily", 2, U, U, U }, "2026-03-29T01:59:59Z", "2026-03-28T02:00:00Z" },
    { { "daily", 1, U, U, U }, "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z" },
    { { "daily", U, U, U, U }, "2026-10-26T00:00:00Z", "2026-10-26T00:00:00Z" },
    { { "daily", 23, U, U, U }, "2026-01-01T00:00:00Z", "2025-12-31T23:00:00Z" },
    { { "weekly", U, U, U, U }, "2026-11-29T23:59:59Z", "2026-11-23T00:00:00Z" }, /* a Sunday, a Monday */
    { { "weekly", 5, 7, U, U }, "2026-11-29T05:00:00Z", "2026-11-29T05:00:00Z" },
    { { "weekly", 5, 7, U, U }, "2026-11-29T04:59:59Z", "2026-11-22T05:00:00Z" },
    { { "weekly", 0, 4, U, U }, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z" },
    { { "monthly", U, U, U, U }, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z" },
    { { "monthly", 6, 1, U, U }, "2026-01-01T05:00:00Z", "2025-12-01T06:00:00Z" },
    { { "monthly", 0, 31, U, U }, "2026-02-28T00:00:00Z", "2026-02-28T00:00:00Z" },
    { { "monthly", 0, 31, U, U }, "2026-02-27T23:59:59Z", "2026-01-31T00:00:00Z" },
    { { "monthly", 0, 30, U, U }, "2028-02-29T12:00:00Z", "2028-02-29T00:00:00Z" },
    { { "monthly", 12, 31, U, U }, "2026-05-01T00:00:00Z", "2026-04-30T12:00:00Z" },
    { { "yearly", U, U, U, U }, "2026-11-26T00:00:00Z", "2026-01-01T00:00:00Z" },
    { { "yearly", 3, 29, 2, U }, "2026-12-31T00:00:00Z", "2026-02-28T03:00:00Z" },
    { { "yearly", 3, 29, 2, U }, "2028-12-31T00:00:00Z", "2028-02-29T03:00:00Z" },
    { { "yearly", 3, 29, 2, U }, "2028-02-29T02:59:59Z", "2027-02-28T03:00:00Z" },
    { { "yearly", 0, 31, 12, U }, "2026-12-30T23:59:59Z", "2025-12-31T00:00:00Z" },
    { { "yearly", 0, 28, 2, U }, "2100-03-01T00:00:00Z", "2100-02-28T00:00:00Z" },
};

START_TEST(the_latest_time)
{
    for (size_t i = 0; i < N_ELEMENTS(LAST); i++) {
        char got[TIME_TEXT_SIZE];

        text_time(backup_last_due(&LAST[i].e, at(LAST[i].now)), got);
        ck_assert_msg(strcmp(got, LAST[i].due) == 0, "%s at %s: %s, not %s", LAST[i].e.frequency, LAST[i].now,
                      got, LAST[i].due);
    }
}
END_TEST

/* Whatever the moment: the time found is not after it, is due itself, and nothing is due between the two. */
START_TEST(every_time_is_its_own)
{
    for (size_t i = 0; i < N_ELEMENTS(LAST); i++)
        for (int64_t now = at("2027-12-20T00:30:00Z"); now < at("2028-03-05T00:00:00Z");
             now += (int64_t)5 * 3600 * 1000000) {
            int64_t due = backup_last_due(&LAST[i].e, now);

            ck_assert_int_le(due, now);
            ck_assert_int_eq(backup_last_due(&LAST[i].e, due), due);
            ck_assert_int_lt(backup_last_due(&LAST[i].e, due - 1), due);
        }
}
END_TEST

START_TEST(one_for_all_that_was_missed)
{
    const struct schedule_entry list[] = { { "hourly", U, U, U, 3600 }, { "daily", 0, U, U, 86400 } };
    const struct schedule_entry ever[] = { { "hourly", U, U, U, U }, { "daily", 0, U, U, 86400 } };
    int64_t keep, now = at("2026-11-26T07:10:00Z");

    ck_assert(!backup_is_due(list, 2, now, now, &keep));
    ck_assert(!backup_is_due(list, 2, at("2026-11-26T07:00:00Z"), now, &keep));
    ck_assert(!backup_is_due(list, 0, 0, now, &keep));
    ck_assert(backup_is_due(list, 2, at("2026-11-26T06:59:59Z"), now, &keep));
    ck_assert_int_eq(keep, 3600);
    ck_assert(backup_is_due(list, 2, at("2026-11-20T00:00:00Z"), now, &keep));
    ck_assert_int_eq(keep, 86400);
    ck_assert(backup_is_due(ever, 2, at("2026-11-20T00:00:00Z"), now, &keep));
    ck_assert_int_eq(keep, 0);
    /* A clock that was put back is no reason for another one. */
    ck_assert(!backup_is_due(list, 2, now, at("2026-11-26T05:00:00Z"), &keep));
}
END_TEST

static const struct {
    const char *json, *pointer;
} BAD[] = {
    { "{}", "/schedule" },
    { "[1]", "/schedule/0" },
    { "[{}]", "/schedule/0/frequency" },
    { "[{\"frequency\": \"often\"}]", "/schedule/0/frequency" },
    { "[{\"frequency\": \"daily\"}, {\"frequency\": \"hourly\", \"hour\": 1}]", "/schedule/1/hour" },
    { "[{\"frequency\": \"daily\", \"hour\": 24}]", "/schedule/0/hour" },
    { "[{\"frequency\": \"daily\", \"hour\": -1}]", "/schedule/0/hour" },
    { "[{\"frequency\": \"daily\", \"day\": 1}]", "/schedule/0/day" },
    { "[{\"frequency\": \"weekly\", \"day\": 8}]", "/schedule/0/day" },
    { "[{\"frequency\": \"monthly\", \"day\": 32}]", "/schedule/0/day" },
    { "[{\"frequency\": \"monthly\", \"day\": 0}]", "/schedule/0/day" },
    { "[{\"frequency\": \"monthly\", \"month\": 1}]", "/schedule/0/month" },
    { "[{\"frequency\": \"yearly\", \"month\": 13}]", "/schedule/0/month" },
    { "[{\"frequency\": \"daily\", \"retention_seconds\": 3599}]", "/schedule/0/retention_seconds" },
    { "[{\"frequency\": \"daily\", \"minute\": 1}]", "/schedule/0/minute" },
    { "[{\"frequency\": \"daily\", \"hour\": null}]", "/schedule/0/hour" },
};

START_TEST(what_an_entry_may_not_say)
{
    auto_arena *a = arena_new(0);
    struct schedule_entry *list;
    size_t n;

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        struct err err = ERR_INIT;
        json_auto_t *v = json_loads(BAD[i].json, 0, NULL);

        ck_assert_msg(schedule_parse(a, v, "/schedule", &list, &n, &err) < 0, "%s", BAD[i].json);
        ck_assert_int_eq(err.code, ERR_INVALID);
        ck_assert_msg(strcmp(err.pointer, BAD[i].pointer) == 0, "%s: %s", BAD[i].json, err.pointer);
    }
}
END_TEST

Suite *t_backup_suite(void)
{
    Suite *s = suite_create("backup");
    TCase *t = tcase_create("backup");

    tcase_add_test(t, the_latest_time);
    tcase_add_test(t, every_time_is_its_own);
    tcase_add_test(t, one_for_all_that_was_missed);
    tcase_add_test(t, what_an_entry_may_not_say);
    suite_add_tcase(s, t);
    return s;
}
