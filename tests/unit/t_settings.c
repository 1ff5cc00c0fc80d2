/*
 * t_settings.c - the allow-list of Postgres settings
 *
 * That its rows agree with a running server is for the end-to-end test of settings.
 */
#include "pg/settings.h"
#include "pg/settings_value.h"

#include <check.h>
#include <string.h>

Suite *t_settings_suite(void);

#define MAJOR 15

static int check_on(int64_t major, const char *name, const char *value, struct err *err)
{
    json_auto_t *obj = json_pack("{s:s}", name, value);
    *err = (struct err)ERR_INIT;
    return pg_settings_check(obj, major, "/endpoint/settings/pg_settings", err);
}

START_TEST(allowed_values_pass)
{
    static const char *const CASES[][2] = {
        { "work_mem", "64MB" },
        { "work_mem", "65536" },
        { "work_mem", "1.5GB" },
        { "work_mem", "65536 kB" },
        { "work_mem", "65536B" },
        { "statement_timeout", "30s" },
        { "statement_timeout", "0" },
        { "statement_timeout", "2147483647" },
        { "statement_timeout", "24d" },
        { "max_connections", "200" },
        { "max_connections", "2e2" },
        { "autovacuum", "off" },
        { "random_page_cost", "1.1" },
        { "random_page_cost", "1e-3" },
        { "timezone", "Europe/Berlin" },
        { "timezone", "UTC" },
        { "timezone", "Etc/GMT+5" },
        { "synchronous_commit", "off" },
        { "bytea_output", "escape" },
        { "log_min_duration_statement", "-1" },
        { "temp_file_limit", "-1" },
        { "maintenance_work_mem", "1GB" },
        { "default_transaction_isolation", "repeatable read" },
        { "default_transaction_isolation", "repeatable_read" },
        { "datestyle", "ISO, DMY" },
        { "datestyle", "german" },
        { "datestyle", "ymd ,Postgres" },
        { "lc_monetary", "C" },
        { "lc_time", "C.UTF-8" },
        { "autovacuum_vacuum_cost_delay", "0.5" },
        { "autovacuum_vacuum_cost_delay", "500us" },
    };
    struct err err;
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++)
        ck_assert_msg(check_on(MAJOR, CASES[i][0], CASES[i][1], &err) == 0, "%s = %s: %s", CASES[i][0],
                      CASES[i][1], err.msg);
}
END_TEST

/* A number alone counts in what Postgres counts it in. */
START_TEST(numbers_without_a_unit)
{
    static const struct {
        const char *name, *least, *most, *below, *above;
    } CASES[] = {
        { "max_wal_size", "32", "16384", "31", "16385" },                 /* MB */
        { "checkpoint_timeout", "30", "86400", "29", "100000" },          /* s */
        { "autovacuum_naptime", "1", "2147483", "0", "2147484" },         /* s */
        { "shared_buffers", "128", "4096", "127", "2097153" },            /* 8 kB */
        { "temp_buffers", "100", "131072", "99", "131073" },              /* 8 kB */
        { "effective_cache_size", "1", "2147483647", "0", "2147483648" }, /* 8 kB */
        { "work_mem", "64", "4194304", "63", "4194305" },                 /* kB */
        { "deadlock_timeout", "1", "2147483647", "0", "2147483648" },     /* ms */
        { "max_wal_size", "32MB", "16GB", "31MB", "17GB" },
        { "checkpoint_timeout", "30s", "1d", "29s", "25h" },
        { "shared_buffers", "1MB", "32MB", "1000kB", "16385MB" },
    };
    struct err err;
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        const char *name = CASES[i].name;
        ck_assert_msg(check_on(MAJOR, name, CASES[i].least, &err) == 0, "%s: %s", name, err.msg);
        ck_assert_msg(check_on(MAJOR, name, CASES[i].most, &err) == 0, "%s: %s", name, err.msg);
        ck_assert_msg(check_on(MAJOR, name, CASES[i].below, &err) < 0, "%s = %s", name, CASES[i].below);
        ck_assert_msg(check_on(MAJOR, name, CASES[i].above, &err) < 0, "%s = %s", name, CASES[i].above);
    }
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
        { "work_mem", "64mb" },
        { "work_mem", "1" },
        { "work_mem", "100GB" },
        { "work_mem", "nan" },
        { "work_mem", "inf" },
        { "work_mem", "0x10000" },
        { "work_mem", "064MB" },
        { "work_mem", "+64MB" },
        { "work_mem", " 64MB" },
        { "work_mem", "64MB " },
        { "work_mem", "64.MB" },
        { "work_mem", ".5GB" },
        { "work_mem", "64MB'\nfsync = off" },
        { "max_connections", "5" },
        { "max_connections", "010" },
        { "max_connections", "100000" },
        { "max_connections", "10.5" },
        { "max_connections", "100MB" },
        { "random_page_cost", "1e-999" },
        { "random_page_cost", "1e999" },
        { "statement_timeout", "-1" },
        { "statement_timeout", "10 minutes" },
        { "statement_timeout", "24.855134814d" }, /* Postgres makes it 597 h, which is too much */
        { "timezone", "" },
        { "timezone", "UTC'" },
        { "timezone", "UTC\\" },
        { "timezone", "UTC\n" },
        { "timezone", "Mars/Base" },
        { "timezone", "Europe" },
        { "timezone", "zone.tab" },
        { "timezone", "right/UTC" },
        { "timezone", "/etc/localtime" },
        { "timezone", "../zoneinfo/UTC" },
        { "datestyle", "foo" },
        { "datestyle", "" },
        { "datestyle", "iso," },
        { "datestyle", "iso mdy" },
        { "datestyle", "iso, sql" },
        { "datestyle", "dmy, mdy" },
        { "lc_monetary", "xx_YY" },
        { "lc_monetary", "" },
        { "lc_numeric", "../C" },
        { "lc_time", "LC_TIME=C;LC_ALL=C" },
        { "bytea_output", "hex,escape" },
        { "bytea_output", "he" },
        { "bytea_output", "" },
        { "autovacuum", "maybe" },
    };
    struct err err;
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        ck_assert_msg(check_on(MAJOR, CASES[i][0], CASES[i][1], &err) == -1, "%s = %s", CASES[i][0],
                      CASES[i][1]);
        ck_assert_int_eq(err.code, ERR_INVALID);
        ck_assert_msg(strncmp(err.pointer, "/endpoint/settings/pg_settings/", 31) == 0, "%s", err.pointer);
    }
}
END_TEST

START_TEST(a_refusal_says_what_may_be_chosen)
{
    static const char *const CASES[][3] = {
        { "checkpoint_timeout", "100000",
          "from 30s to 1d; units are us, ms, s, min, h, d, and without one it" },
        { "max_wal_size", "1", "from 32MB to 16GB" },
        { "temp_buffers", "1",
          "from 800kB to 1GB; units are B, kB, MB, GB, TB, and without one it counts pages" },
        { "max_connections", "5", "\"5\" is not a whole number from 10 to 1000" },
        { "bytea_output", "hax", "one of hex,escape" },
        { "timezone", "Mars/Base", "\"Mars/Base\" is not a time zone this machine knows" },
        { "datestyle", "foo", "DMY" },
        { "lc_time", "xx_YY", "a locale this machine has" },
        { "jit", "maybe", "on or off" },
    };
    struct err err;
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        ck_assert_int_eq(check_on(MAJOR, CASES[i][0], CASES[i][1], &err), -1);
        ck_assert_msg(strstr(err.msg, CASES[i][2]) != NULL, "%s", err.msg);
    }
}
END_TEST

START_TEST(a_setting_is_as_old_as_its_version)
{
    struct err err;
    ck_assert_int_eq(check_on(15, "transaction_timeout", "5s", &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    ck_assert_str_eq(err.pointer, "/endpoint/settings/pg_settings/transaction_timeout");
    ck_assert_msg(strstr(err.msg, "Postgres 17") != NULL, "%s", err.msg);
    ck_assert_int_eq(check_on(16, "transaction_timeout", "5s", &err), -1);
    ck_assert_int_eq(check_on(17, "transaction_timeout", "5s", &err), 0);
    ck_assert_int_eq(check_on(18, "transaction_timeout", "0", &err), 0);
    ck_assert_int_eq(check_on(17, "transaction_timeout", "1ms", &err), -1); /* nobody would get in */
    ck_assert_msg(strstr(err.msg, "not between 0 and 1s") != NULL, "%s", err.msg);
}
END_TEST

START_TEST(a_value_must_be_a_string)
{
    struct err err = ERR_INIT;
    json_auto_t *obj = json_pack("{s:i}", "work_mem", 65536);
    ck_assert_int_eq(pg_settings_check(obj, MAJOR, "", &err), -1);
}
END_TEST

/* Fractions of a unit become whole numbers of the next smaller one, halves go to the even number. */
START_TEST(rounding)
{
    static const struct {
        const char *text;
        enum setting_unit unit;
        double value;
    } CASES[] = {
        { "1.5GB", U_KB, 1572864 }, { "0.5", U_MS, 0.5 },  { "500us", U_MS, 0 },
        { "1500us", U_MS, 2 },      { "2500us", U_MS, 2 }, { "2501us", U_MS, 3 },
        { "1.7kB", U_8KB, 0 },      { "1min", U_S, 60 },   { "1024kB", U_MB, 1 },
        { "30.1GB", U_MB, 30822 },  { "-1", U_KB, -1 },    { "1d", U_MS, 86400000 },
    };
    double v;
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        bool whole = strcmp(CASES[i].text, "0.5") != 0;
        ck_assert_msg(setting_number(CASES[i].text, CASES[i].unit, whole, &v), "%s", CASES[i].text);
        ck_assert_msg(v >= CASES[i].value && v <= CASES[i].value, "%s is %g", CASES[i].text, v);
    }
    ck_assert(!setting_number("0.5", U_MS, true, &v));
    ck_assert(!setting_number("1s", U_KB, true, &v));
    ck_assert(!setting_number("1kB", U_S, true, &v));
    ck_assert(!setting_number("1kB", U_NONE, true, &v));
}
END_TEST

START_TEST(they_are_rendered_as_lines)
{
    auto_buf out = { 0 };
    json_auto_t *obj = json_pack("{s:s}", "default_transaction_isolation", "repeatable_read");
    pg_settings_render(obj, &out);
    ck_assert_str_eq(buf_str(&out), "default_transaction_isolation = 'repeatable read'\n");
    pg_settings_render(NULL, &out);
}
END_TEST

START_TEST(the_number_of_connections)
{
    json_auto_t *obj = json_pack("{s:s}", "max_connections", "2e2");
    ck_assert_int_eq(pg_settings_max_connections(obj), 200);
    ck_assert_int_eq(pg_settings_max_connections(NULL), PG_MAX_CONNECTIONS_DEFAULT);
    json_object_set_new(obj, "max_connections", json_string("x"));
    ck_assert_int_eq(pg_settings_max_connections(obj), PG_MAX_CONNECTIONS_DEFAULT);
}
END_TEST

Suite *t_settings_suite(void)
{
    Suite *s = suite_create("settings");
    TCase *t = tcase_create("settings");
    tcase_add_test(t, allowed_values_pass);
    tcase_add_test(t, numbers_without_a_unit);
    tcase_add_test(t, everything_else_is_refused);
    tcase_add_test(t, a_refusal_says_what_may_be_chosen);
    tcase_add_test(t, a_setting_is_as_old_as_its_version);
    tcase_add_test(t, a_value_must_be_a_string);
    tcase_add_test(t, rounding);
    tcase_add_test(t, they_are_rendered_as_lines);
    tcase_add_test(t, the_number_of_connections);
    suite_add_tcase(s, t);
    return s;
}
