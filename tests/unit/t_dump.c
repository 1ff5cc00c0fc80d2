/*
 * t_dump.c - what is taken out of a dump, and what is not
 *
 * What pg_dump itself writes is for the end-to-end tests.
 */
#include "pg/dump.h"

#include <check.h>

Suite *t_dump_suite(void);

static void check(const char *dump, const char *want)
{
    auto_buf b = { 0 };
    buf_adds(&b, dump);
    pg_schema_settle(&b);
    ck_assert_str_eq(buf_str(&b), want);
}

#define BEGIN "--\n-- PostgreSQL database dump\n--\n\n"
#define END   "--\n-- PostgreSQL database dump complete\n--\n\n"

START_TEST(versions_and_keys_go)
{
    check(BEGIN
          "\\restrict a1B2\n\n-- Dumped from database version 15.18\n-- Dumped by pg_dump version 15.18\n\n"
          "SET x = 0;\n\n" END "\\unrestrict a1B2\n\n",
          BEGIN "SET x = 0;\n\n" END);
    check(BEGIN
          "-- Dumped from database version 15.1\n-- Dumped by pg_dump version 15.1\n\nSET x = 0;\n\n" END,
          BEGIN "SET x = 0;\n\n" END);
}
END_TEST

START_TEST(what_users_wrote_stays)
{
    static const char *const SAME[] = {
        "",
        "\n",
        "--",
        BEGIN "SET x = 0;\n\\restrict k\n-- Dumped by\n\\unrestrict k\n" END,
        BEGIN "SELECT 1;\n\\unrestrict k\n",
        "no line break",
    };
    for (size_t i = 0; i < N_ELEMENTS(SAME); i++)
        check(SAME[i], SAME[i]);
    /* The key of the end is that of the beginning, and it is the last line. */
    check("\\restrict k\nA\n\\unrestrict j\n", "A\n\\unrestrict j\n");
    check("\\restrict k\nA\n\\unrestrict k\nB\n", "A\n\\unrestrict k\nB\n");
    check("\\restrict k\nA\n\\unrestrict k\nB\n\\unrestrict k\n", "A\n\\unrestrict k\nB\n");
    check("\\restrict k", "");
    check("\\restrict \nA\n", "A\n");
}
END_TEST

Suite *t_dump_suite(void)
{
    Suite *s = suite_create("dump");
    TCase *tc = tcase_create("dump");
    tcase_add_test(tc, versions_and_keys_go);
    tcase_add_test(tc, what_users_wrote_stays);
    suite_add_tcase(s, tc);
    return s;
}
