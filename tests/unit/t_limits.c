/*
 * t_limits.c - who is let in: rates, those who have not proved themselves, and floods of names
 */
#include "proxy/limits.h"

#include <check.h>

Suite *t_limits_suite(void);

#define NOW ((int64_t)5000000)

static struct limits *limits;

static void make(const char *per_address, const char *per_endpoint, size_t all, size_t each)
{
    struct limits_config cfg = { .max_unproved = all, .max_unproved_per_address = each };

    ck_assert(rate_parse(per_address, &cfg.per_address) && rate_parse(per_endpoint, &cfg.per_endpoint));
    limits = limits_new(&cfg);
}

static void teardown(void)
{
    limits_free(limits);
}

static enum limits_verdict enter(struct limits_guest *guest, const char *address)
{
    return limits_enter(limits, guest, address, strlen(address), NOW);
}

START_TEST(a_rate_for_each_address)
{
    struct limits_guest g;

    make("5,5,5", "off", 1000, 1000);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(enter(&g, "near"), LIMITS_PASS);
    ck_assert_int_eq(enter(&g, "near"), LIMITS_RATE);
    ck_assert(!g.unproved);
    ck_assert_int_eq(enter(&g, "far"), LIMITS_PASS);
    ck_assert_int_eq(limits_enter(limits, &g, "near", 4, NOW + 1000000), LIMITS_PASS);
}
END_TEST

START_TEST(this_machine_has_no_rate)
{
    struct limits_guest g;

    make("1,1,1", "off", 100, 1);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(limits_enter(limits, &g, "x", 0, NOW), LIMITS_PASS);
    ck_assert_int_eq(limits_enter(limits, &g, "x", 0, NOW), LIMITS_ALL);
}
END_TEST

START_TEST(those_who_have_not_proved_themselves)
{
    struct limits_guest a[3], b[3], c;

    make("off", "off", 5, 3);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(enter(&a[i], "a"), LIMITS_PASS);
    ck_assert_int_eq(enter(&c, "a"), LIMITS_ADDRESS);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(enter(&b[i], "b"), LIMITS_PASS);
    ck_assert_int_eq(enter(&c, "b"), LIMITS_ALL);
    limits_proved(limits, &c); /* was refused: holds nothing */
    ck_assert_int_eq(enter(&c, "b"), LIMITS_ALL);
    limits_proved(limits, &a[0]);
    limits_proved(limits, &a[0]); /* again, as at its end */
    ck_assert_int_eq(enter(&c, "a"), LIMITS_PASS);
    ck_assert_int_eq(enter(&b[2], "b"), LIMITS_ALL);
}
END_TEST

START_TEST(endpoints)
{
    make("off", "3,3,3", 1, 1);
    for (int i = 0; i < 3; i++)
        ck_assert(limits_endpoint(limits, "ep-a", NOW));
    ck_assert(!limits_endpoint(limits, "ep-a", NOW));
    ck_assert(limits_endpoint(limits, "ep-b", NOW));
    ck_assert(limits_endpoint(limits, "ep-a", NOW + 400000));
}
END_TEST

/* Invented names push out nobody who comes all the time, and are let through themselves. */
START_TEST(a_flood_of_names)
{
    char name[32];

    make("off", "50,50,50", 1, 1);
    for (int i = 0; i < 50; i++)
        ck_assert(limits_endpoint(limits, "ep-known", NOW));
    for (int i = 0; i < 40000; i++) {
        snprintf(name, sizeof(name), "ep-%d", i);
        ck_assert(limits_endpoint(limits, name, NOW + i / 1000));
        if (i % 1000 == 0)
            ck_assert_msg(!limits_endpoint(limits, "ep-known", NOW + i / 1000), "after %d", i);
    }
}
END_TEST

/* While somebody from an address has not proved himself, its meter stays, however many addresses come. */
START_TEST(a_flood_of_addresses)
{
    static struct limits_guest held[1000];
    struct limits_guest g;
    char name[32];

    make("off", "off", 100000, 1);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "held-%d", i);
        ck_assert_int_eq(enter(&held[i], name), LIMITS_PASS);
    }
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof(name), "a-%d", i);
        if (limits_enter(limits, &g, name, strlen(name), NOW + i) == LIMITS_PASS)
            limits_proved(limits, &g);
    }
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "held-%d", i);
        ck_assert_int_eq(enter(&g, name), LIMITS_ADDRESS);
        limits_proved(limits, &held[i]);
        ck_assert_int_eq(enter(&g, name), LIMITS_PASS);
    }
}
END_TEST

/* More addresses with somebody unproved than there are meters: refused, not forgotten. */
START_TEST(no_meter_is_left)
{
    static struct limits_guest held[20000];
    size_t passed = 0, refused = 0;
    char name[32];

    make("off", "off", 100000, 10);
    for (size_t i = 0; i < N_ELEMENTS(held); i++) {
        snprintf(name, sizeof(name), "%zu", i);
        if (enter(&held[i], name) == LIMITS_PASS)
            passed++;
        else
            refused++;
    }
    ck_assert_uint_le(passed, 8192);
    ck_assert_uint_gt(refused, 0);
    for (size_t i = 0; i < N_ELEMENTS(held); i++)
        limits_proved(limits, &held[i]);
    ck_assert_int_eq(enter(&held[0], "again"), LIMITS_PASS);
}
END_TEST

/* Of those that are refused a few come to hear why: so many at once, and so many a second. */
START_TEST(a_few_hear_why)
{
    struct limits_guest told[33] = { 0 };
    int n = 0;

    make("off", "off", 1, 1);
    for (int i = 0; i < 32; i++)
        ck_assert(limits_tell(limits, &told[i], NOW));
    ck_assert(!limits_tell(limits, &told[32], NOW));
    limits_proved(limits, &told[0]);
    limits_proved(limits, &told[0]);
    ck_assert(limits_tell(limits, &told[0], NOW));
    ck_assert(!limits_tell(limits, &told[32], NOW));
    for (int i = 0; i < 1000; i++) {
        limits_proved(limits, &told[0]);
        n += limits_tell(limits, &told[0], NOW);
    }
    ck_assert_int_eq(n, 50 - 33);
    ck_assert_int_eq(enter(&told[32], "a"), LIMITS_PASS); /* they take nobody's place */
}
END_TEST

Suite *t_limits_suite(void)
{
    Suite *s = suite_create("limits");
    TCase *tc = tcase_create("limits");

    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_add_test(tc, a_rate_for_each_address);
    tcase_add_test(tc, this_machine_has_no_rate);
    tcase_add_test(tc, those_who_have_not_proved_themselves);
    tcase_add_test(tc, endpoints);
    tcase_add_test(tc, a_flood_of_names);
    tcase_add_test(tc, a_flood_of_addresses);
    tcase_add_test(tc, no_meter_is_left);
    tcase_add_test(tc, a_few_hear_why);
    suite_add_tcase(s, tc);
    return s;
}
