/*
 * t_given.c - what a client has set: merged, compared
 */
#include "scheduler/given.h"

#include <check.h>
#include <string.h>

Suite *t_given_suite(void);

START_TEST(merged)
{
    static const struct {
        const char *given, *more, *want; /* want NULL: nothing is left */
    } CASES[] = {
        { NULL, NULL, NULL },
        { NULL, "{}", NULL },
        { NULL, "{\"a\":1}", "{\"a\":1}" },
        { "{\"a\":1}", NULL, "{\"a\":1}" },
        { "{\"a\":1}", "{\"a\":2,\"b\":{\"c\":null}}", "{\"a\":2,\"b\":{\"c\":null}}" },
        { "{\"a\":1,\"b\":2}", "{\"a\":null}", "{\"b\":2}" },
        { "{\"a\":1}", "{\"a\":null,\"x\":null}", NULL },
        { NULL, "{\"t\":\"2090-01-01T00:00:00.000Z\",\"x\":0.25}",
          "{\"t\":\"2090-01-01T00:00:00.000Z\",\"x\":0.25}" },
    };
    auto_arena *a = arena_new(0);
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        const char *got = given_merge(a, CASES[i].given, CASES[i].more);
        ck_assert_pstr_eq(got, CASES[i].want);
    }
}
END_TEST

START_TEST(compared)
{
    ck_assert(given_equal(NULL, NULL));
    ck_assert(given_equal(NULL, "{}"));
    ck_assert(given_equal("{\"a\":1,\"b\":2}", "{\"b\":2, \"a\":1}"));
    ck_assert(!given_equal("{\"a\":1}", "{\"a\":\"1\"}"));
    ck_assert(!given_equal("{\"a\":1}", NULL));
    ck_assert(given_again("{\"a\":1,\"b\":2}", "{\"a\":1}", "a"));
    ck_assert(!given_again("{\"a\":1}", "{\"a\":2}", "a"));
    ck_assert(!given_again("{\"a\":1}", "{}", "a"));
    ck_assert(!given_again(NULL, NULL, "a"));
    ck_assert(given_has("{\"a\":false}", "a"));
    ck_assert(!given_has("{\"a\":null}", "a"));
    ck_assert(!given_has("{}", "a"));
    ck_assert(!given_has(NULL, "a"));
}
END_TEST

Suite *t_given_suite(void)
{
    Suite *s = suite_create("given");
    TCase *t = tcase_create("given");
    tcase_add_test(t, merged);
    tcase_add_test(t, compared);
    suite_add_tcase(s, t);
    return s;
}
