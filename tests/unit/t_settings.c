/*
 * t_settings.c - the allow-list of Postgres settings
 */
#include "pg/settings.h"

#include <check.h>
#include <string.h>

Suite *t_settings_suite(void);

static int check_one(const char *name, const char *value, struct err *err)
{
    json_auto_t *obj = json_pack("{s:s}", name, value);
    *err = (struct err)ERR_INIT;
    return pg_settings_check(obj, "/endpoint/settings/pg_settings", err);
}

START_TEST(allowed_values_pass)
{
    static const char *const CASES[][2] = {
        { "work_mem", "64MB" },
        { "work_mem", "65536" },
        { "statement_timeout", "30s" },
        { "statement_timeout", "0" },
        { "max_connections", "200" },
        { "autovacuum", "off" },
        { "random_page_cost", "1.1" },
        { "timezone", "Europe/Berlin" },
        { "synchronous_commit", "off" },
        { "bytea_output", "escape" },
        { "log_min_duration_statement", "-1" },
        { "temp_file_limit", "-1" },
        { "maintenance_work_mem", "1GB" },
    };
    struct err err;
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++)
        ck_assert_msg(check_one(CASES[i][0], CASES[i][1], &err) == 0, "%s = %s: %s", CASES[i][0], CASES[i][1],
                      err.msg);
}
END_TEST

START_TEST(everything_else_is_refused)
{
    static const char *const CASES[][2] = {
        { "archive_command", "true" },
        { "shared_preload_libraries", "x" },
        { "listen_addresses", "*" },
        { "fsync", "off" },
        { "full_page_writes", "off" },
        { "WORK_MEM", "64MB" },
        { "work_mem", "" },
        { "work_mem", "64 XB" },
        { "work_mem", "1" },
        { "work_mem", "100GB" },
        { "work_mem", "nan" },
        { "work_mem", "64MB'\nfsync = off" },
        { "max_connections", "5" },
        { "max_connections", "100000" },
        { "max_connections", "10.5" },
        { "statement_timeout", "-1" },
        { "timezone", "UTC'" },
        { "timezone", "UTC\\" },
        { "timezone", "UTC\n" },
        { "bytea_output", "hex escape" },
        { "bytea_output", "he" },
        { "autovacuum", "maybe" },
    };
    struct err err;
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        ck_assert_msg(check_one(CASES[i][0], CASES[i][1], &err) == -1, "%s = %s", CASES[i][0], CASES[i][1]);
        ck_assert_int_eq(err.code, ERR_INVALID);
        ck_assert_msg(strncmp(err.pointer, "/endpoint/settings/pg_settings/", 31) == 0, "%s", err.pointer);
    }
}
END_TEST

START_TEST(a_value_must_be_a_string)
{
    struct err err = ERR_INIT;
    json_auto_t *obj = json_pack("{s:i}", "work_mem", 65536);
    ck_assert_int_eq(pg_settings_check(obj, "", &err), -1);
}
END_TEST

START_TEST(they_are_rendered_as_lines)
{
    auto_buf out = { 0 };
    json_auto_t *obj = json_pack("{s:s}", "default_transaction_isolation", "repeatable_read");
    pg_settings_render(obj, &out);
    ck_assert_str_eq(buf_str(&out), "default_transaction_isolation = 'repeatable read'\n");
    pg_settings_render(NULL, &out);
    ck_assert_int_eq(pg_settings_max_connections(NULL), PG_MAX_CONNECTIONS_DEFAULT);
}
END_TEST

Suite *t_settings_suite(void)
{
    Suite *s = suite_create("settings");
    TCase *t = tcase_create("settings");
    tcase_add_test(t, allowed_values_pass);
    tcase_add_test(t, everything_else_is_refused);
    tcase_add_test(t, a_value_must_be_a_string);
    tcase_add_test(t, they_are_rendered_as_lines);
    suite_add_tcase(s, t);
    return s;
}
