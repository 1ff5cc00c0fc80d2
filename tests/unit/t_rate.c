/*
 * t_rate.c - token buckets: what passes at once, what comes back, and what is no limit
 */
#include "base/rate.h"

#include <check.h>

Suite *t_rate_suite(void);

#define SECOND 1000000
#define START  ((int64_t)7777777)

static struct rate_limit limit_of(const char *text)
{
    struct rate_limit l;

    ck_assert_msg(rate_parse(text, &l), "%s", text);
    return l;
}

/* How many pass at one moment, of at most 10 million. */
static int64_t at_once(struct rate_bucket *b, const struct rate_limit *l, int64_t now)
{
    int64_t n = 0;

    while (n < 10 * SECOND && rate_take(b, l, now))
        n++;
    return n;
}

START_TEST(words)
{
    static const char *const BAD[] = {
        "",       "1",      "1,2",     "1,2,3,4",     "0,1,1",  "1,1,0",
        "-1,1,1", "1,2,x",  "1,,3",    "1,2,3,",      ",1,2,3", "on",
        "OFF",    "1 ,2,3", "1,2,3.5", "1000001,1,1", "1;2;3",  "99999999999999999999,1,1"
    };
    struct rate_limit l = limit_of("500,300,200");

    ck_assert(l.per_second[0] == 500 && l.per_second[1] == 300 && l.per_second[2] == 200);
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(!rate_parse(BAD[i], &l), "%s", BAD[i]);
    ck_assert_int_eq(l.per_second[0], 500); /* untouched */
    l = limit_of("off");
    ck_assert(l.per_second[0] == 0 && l.per_second[1] == 0 && l.per_second[2] == 0);
}
END_TEST

START_TEST(the_first_second)
{
    struct rate_limit l = limit_of("500,300,200");
    struct rate_bucket b = { { 0 } };

    ck_assert_int_eq(at_once(&b, &l, START), 500);
    ck_assert_int_eq(at_once(&b, &l, START), 0);
    ck_assert_int_eq(at_once(&b, &l, START + SECOND / 10), 50);
    ck_assert(!rate_is_full(&b, START + SECOND / 10));
    ck_assert_int_eq(at_once(&b, &l, START + 10 * (int64_t)SECOND), 500);
}
END_TEST

/* Whoever asks all the time gets the burst of a window once, and its average from then on. */
START_TEST(the_long_run)
{
    struct rate_limit l = limit_of("500,300,200");
    struct rate_bucket b = { { 0 } };
    int64_t n = 0, first = 0;

    for (int64_t t = 0; t < 3600; t++) {
        n += at_once(&b, &l, START + t * SECOND);
        if (t == 59)
            first = n;
    }
    ck_assert_int_le(first, 60 * 300 * 2);
    ck_assert_int_ge(first, 60 * 300);
    ck_assert_int_le(n, 3600 * 200 + 600 * 200 + 1000);
    ck_assert_int_ge(n, 3600 * 200);
    ck_assert_int_eq(at_once(&b, &l, START + 3600 * (int64_t)SECOND), 200);
}
END_TEST

START_TEST(a_refused_one_costs_nothing)
{
    struct rate_limit l = limit_of("1,1,1");
    struct rate_bucket b = { { 0 } };

    ck_assert(rate_take(&b, &l, START));
    for (int i = 0; i < 1000; i++)
        ck_assert(!rate_take(&b, &l, START + i));
    ck_assert(rate_take(&b, &l, START + SECOND));
}
END_TEST

START_TEST(no_limit)
{
    struct rate_limit l = limit_of("off");
    struct rate_bucket b = { { 0 } };

    ck_assert_int_eq(at_once(&b, &l, START), 10 * SECOND);
    ck_assert(rate_is_full(&b, START));
}
END_TEST

START_TEST(full_again)
{
    struct rate_limit l = limit_of("1,1,1");
    struct rate_bucket b = { { 0 } };

    ck_assert(rate_is_full(&b, START));
    ck_assert(rate_take(&b, &l, START));
    ck_assert(!rate_is_full(&b, START + SECOND - 1));
    ck_assert(rate_is_full(&b, START + SECOND));
}
END_TEST

Suite *t_rate_suite(void)
{
    Suite *s = suite_create("rate");
    TCase *tc = tcase_create("rate");

    tcase_add_test(tc, words);
    tcase_add_test(tc, the_first_second);
    tcase_add_test(tc, the_long_run);
    tcase_add_test(tc, a_refused_one_costs_nothing);
    tcase_add_test(tc, no_limit);
    tcase_add_test(tc, full_again);
    suite_add_tcase(s, tc);
    return s;
}
