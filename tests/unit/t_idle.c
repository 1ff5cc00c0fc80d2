/*
 * t_idle.c - when a compute counts as idle
 */
#include "scheduler/idle.h"

#include <check.h>

Suite *t_idle_suite(void);

#define S INT64_C(1000000)

START_TEST(nothing_going_on_makes_it_due)
{
    struct idle i;
    struct pg_activity quiet = { .sessions = 3, .active_time = 12.5 };
    idle_begin(&i, 100 * S);
    ck_assert(!idle_update(&i, &quiet, 101 * S));
    ck_assert_int_eq(idle_due_ms(&i, 5000, 101 * S), 4000);
    ck_assert(!idle_update(&i, &quiet, 105 * S));
    ck_assert_int_eq(idle_due_ms(&i, 5000, 105 * S), 0);
    ck_assert_int_eq(idle_due_ms(&i, -1, 1000 * S), INT64_MAX);
}
END_TEST

START_TEST(each_kind_of_activity_counts)
{
    const struct pg_activity quiet = { .sessions = 3, .active_time = 12.5 };
    struct pg_activity looks[6] = { quiet, quiet, quiet, quiet, quiet, quiet };
    looks[0].sessions++;
    looks[1].active_time += 0.1;
    looks[2].busy_backends = 1;
    looks[3].replication = 1;
    looks[4].autovacuum = 1;
    looks[5].last_change_us = 104 * S;
    for (size_t k = 0; k < N_ELEMENTS(looks); k++) {
        struct idle i;
        idle_begin(&i, 100 * S);
        ck_assert(!idle_update(&i, &quiet, 101 * S));
        ck_assert_msg(idle_update(&i, &looks[k], 105 * S), "look %zu", k);
        ck_assert_int_eq(i.active_us, k == 5 ? 104 * S : 105 * S);
    }
}
END_TEST

START_TEST(open_but_idle_connections_do_not_count)
{
    struct idle i;
    struct pg_activity open_session = { .sessions = 1, .last_change_us = 99 * S };
    idle_begin(&i, 100 * S);
    ck_assert(!idle_update(&i, &open_session, 101 * S));
    ck_assert(!idle_update(&i, &open_session, 106 * S));
    ck_assert_int_eq(idle_due_ms(&i, 5000, 106 * S), 0);
}
END_TEST

START_TEST(a_clock_ahead_does_not_keep_it_up)
{
    struct idle i;
    struct pg_activity future = { .last_change_us = 5000 * S };
    idle_begin(&i, 100 * S);
    (void)idle_update(&i, &future, 101 * S);
    ck_assert_int_eq(i.active_us, 101 * S);
}
END_TEST

START_TEST(looks_are_bounded)
{
    ck_assert_int_eq(idle_look_ms(1000, 1000), 200);
    ck_assert_int_eq(idle_look_ms(300000, 300000), 5000);
    ck_assert_int_eq(idle_look_ms(10000, 10000), 2000);
    ck_assert_int_eq(idle_look_ms(10000, 700), 700);
    ck_assert_int_eq(idle_look_ms(-1, INT64_MAX), 5000);
}
END_TEST

Suite *t_idle_suite(void)
{
    Suite *s = suite_create("idle");
    TCase *t = tcase_create("idle");
    tcase_add_test(t, nothing_going_on_makes_it_due);
    tcase_add_test(t, each_kind_of_activity_counts);
    tcase_add_test(t, open_but_idle_connections_do_not_count);
    tcase_add_test(t, a_clock_ahead_does_not_keep_it_up);
    tcase_add_test(t, looks_are_bounded);
    suite_add_tcase(s, t);
    return s;
}
