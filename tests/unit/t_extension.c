/*
 * t_extension.c - which extensions and libraries may be had, against the installed Postgres
 */
#include "pg/extension.h"

#include <check.h>
#include <string.h>

Suite *t_extension_suite(void);

static struct arena *arena;
static struct err err;
static struct pg_install *installs;

static void setup(void)
{
    size_t n;
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
    ck_assert_msg(pg_install_scan(arena, &installs, &n, &err) == 0, "%s", err.msg);
}

static void teardown(void)
{
    arena_free(arena);
}

START_TEST(those_that_may_be_had)
{
    struct pg_extension *list;
    size_t n;
    ck_assert_int_eq(pg_extension_list(&installs[0], arena, &list, &n, &err), 0);
    ck_assert_uint_gt(n, 10);
    for (size_t i = 0; i < n; i++) {
        ck_assert(pg_extension_is_allowed(list[i].name));
        ck_assert_msg(pg_extension_has_version(&list[i], list[i].default_version), "%s %s", list[i].name,
                      list[i].default_version);
        ck_assert_msg(list[i].comment[0] != '\0', "%s", list[i].name);
        ck_assert(!pg_extension_has_version(&list[i], "") && !pg_extension_has_version(&list[i], "0.0"));
        if (i > 0)
            ck_assert_int_lt(strcmp(list[i - 1].name, list[i].name), 0);
    }
}
END_TEST

/* Whoever may call these has files, programs, the network or others' pages. */
START_TEST(those_that_may_not)
{
    static const char *const NAMES[] = { "adminpack",  "dblink",      "file_fdw",   "postgres_fdw",
                                         "plpython3u", "pageinspect", "pg_surgery", "plpgsql",
                                         "",           "../hstore" };
    struct pg_extension e;
    for (size_t i = 0; i < N_ELEMENTS(NAMES); i++) {
        ck_assert(!pg_extension_is_allowed(NAMES[i]));
        ck_assert_int_eq(pg_extension_get(&installs[0], arena, NAMES[i], &e, &err), -1);
        ck_assert_int_eq(err.code, ERR_INVALID);
    }
}
END_TEST

START_TEST(one_whose_files_are_not_there)
{
    struct pg_install none = { .major = 98, .bindir = "/nosuch/bin" };
    struct pg_extension e, *list;
    json_auto_t *names = json_pack("[s]", "pg_stat_statements");
    size_t n;
    ck_assert_int_eq(pg_extension_list(&none, arena, &list, &n, &err), 0);
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(pg_extension_get(&none, arena, "hstore", &e, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "not on this machine"));
    ck_assert_int_eq(pg_preload_check(&none, names, "/x", &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "not on this machine"));
}
END_TEST

START_TEST(libraries)
{
    json_auto_t *both = json_pack("[s, s]", "pg_stat_statements", "pg_prewarm");
    json_auto_t *bad = json_pack("[s, s]", "pg_prewarm", "auth_delay"), *odd = json_pack("[i]", 1);
    ck_assert_int_eq(pg_preload_check(&installs[0], both, "/x", &err), 0);
    ck_assert_str_eq(pg_preload_text(arena, both), "pg_stat_statements,pg_prewarm");
    ck_assert_int_eq(pg_preload_check(&installs[0], NULL, "/x", &err), 0);
    ck_assert_str_eq(pg_preload_text(arena, NULL), "");
    ck_assert_int_eq(pg_preload_check(&installs[0], bad, "/x", &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    ck_assert_str_eq(err.pointer, "/x");
    ck_assert_int_eq(pg_preload_check(&installs[0], odd, "/x", &err), -1);
}
END_TEST

Suite *t_extension_suite(void)
{
    Suite *s = suite_create("extension");
    TCase *t = tcase_create("extension");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, those_that_may_be_had);
    tcase_add_test(t, those_that_may_not);
    tcase_add_test(t, one_whose_files_are_not_there);
    tcase_add_test(t, libraries);
    suite_add_tcase(s, t);
    return s;
}
