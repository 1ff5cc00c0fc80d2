/*
 * t_clock.c - the clocks and their test override
 */
#include "base/clock.h"

#include <check.h>
#include <time.h>

Suite *t_clock_suite(void);

START_TEST(real)
{
    int64_t a = clock_mono_us(), b = clock_mono_us(), wall = clock_wall_us();

    ck_assert_int_ge(b, a);
    ck_assert_int_le(clock_mono_ms() - b / 1000, 1000);
    ck_assert_int_le(llabs((long long)(wall / 1000000 - (int64_t)time(NULL))), 1);
}
END_TEST

START_TEST(frozen)
{
    clock_test_set(5999, 77);
    ck_assert_int_eq(clock_mono_us(), 5999);
    ck_assert_int_eq(clock_mono_ms(), 5);
    ck_assert_int_eq(clock_wall_us(), 77);
    clock_test_reset();
    ck_assert_int_gt(clock_wall_us(), INT64_C(1700000000000000));
}
END_TEST

Suite *t_clock_suite(void)
{
    Suite *s = suite_create("clock");
    TCase *c = tcase_create("clock");

    tcase_add_test(c, real);
    tcase_add_test(c, frozen);
    suite_add_tcase(s, c);
    return s;
}
