/*
 * t_pooler.c - what PgBouncer is told, and which one is there
 */
#include "pg/pooler.h"

#include "base/fs.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *t_pooler_suite(void);

static char dir[64];
static struct err err;

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/mere-t-pooler-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    err = (struct err)ERR_INIT;
}

static void teardown(void)
{
    ck_assert_int_eq(fs_remove_tree(dir, false, &err), 0);
}

/* A program that answers any question so. */
static void write_program(const char *path, const char *answer, mode_t mode)
{
    auto_free char *text = xasprintf("#!/bin/sh\n%s\n", answer);

    ck_assert_int_eq(fs_write_plain(path, text, strlen(text), mode, (uid_t)-1, (gid_t)-1, &err), 0);
}

START_TEST(versions)
{
    static const struct {
        const char *answer;
        int64_t version;
    } CASES[] = {
        { "echo PgBouncer 1.18.0; echo libevent 2.1.12-stable", 11800 },
        { "echo PgBouncer 1.21", 12100 },
        { "echo PgBouncer 1.24.1", 12401 },
        { "echo PgBouncer 1.18.0; exit 1", 0 },
        { "echo PgBouncer one", 0 },
        { "echo something else 1.18.0", 0 },
        { "", 0 },
    };
    auto_free char *path = xasprintf("%s/pgbouncer", dir);
    struct pg_pooler_program *p = pg_pooler_program_new(path);

    ck_assert_int_eq(pg_pooler_version(NULL), 0);
    ck_assert_int_eq(pg_pooler_version(p), 0);
    ck_assert(!pg_pooler_is_there(p));
    /* each is another file under the same name: what was known of the last one does not count */
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        write_program(path, CASES[i].answer, 0755);
        ck_assert_msg(pg_pooler_version(p) == CASES[i].version, "%s", CASES[i].answer);
        ck_assert_int_eq(pg_pooler_version(p), CASES[i].version);
        ck_assert(pg_pooler_is_there(p));
    }
    write_program(path, "echo PgBouncer 1.18.0", 0644);
    if (geteuid() != 0) /* root may execute what anybody may */
        ck_assert(!pg_pooler_is_there(p));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(pg_pooler_version(p), 0);
    pg_pooler_program_free(p);
}
END_TEST

/* It is run once, not for each question. */
START_TEST(asked_once)
{
    auto_free char *path = xasprintf("%s/pgbouncer", dir);
    auto_free char *count = xasprintf("%s/count", dir);
    auto_free char *answer = xasprintf("echo x >>%s\necho PgBouncer 1.18.0", count);
    struct pg_pooler_program *p = pg_pooler_program_new(path);
    struct stat st;

    write_program(path, answer, 0755);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(pg_pooler_version(p), 11800);
    ck_assert_int_eq(stat(count, &st), 0);
    ck_assert_int_eq(st.st_size, 2);
    pg_pooler_program_free(p);
}
END_TEST

static bool has_line(const struct buf *text, const char *line)
{
    auto_free char *all = xasprintf("\n%.*s", (int)text->len, text->data);
    auto_free char *wanted = xasprintf("\n%s\n", line);

    return strstr(all, wanted) != NULL;
}

static void make_conf(int64_t max_connections, int64_t version, struct buf *ret)
{
    const struct pg_pooler_conf conf = { .socket_dir = "/run/it's here",
                                         .conf_dir = "/run/pool",
                                         .max_connections = max_connections,
                                         .version = version };

    buf_clear(ret);
    pg_pooler_conf_text(&conf, ret);
}

START_TEST(configuration)
{
    auto_buf text = { 0 };

    make_conf(96, 11800, &text);
    ck_assert(has_line(&text, "* = host='/run/it''s here' port=5432"));
    ck_assert(has_line(&text, "unix_socket_dir = /run/it's here"));
    ck_assert(has_line(&text, "auth_file = /run/pool/users.txt"));
    ck_assert(has_line(&text, "auth_type = scram-sha-256"));
    ck_assert(has_line(&text, "pool_mode = transaction"));
    ck_assert(has_line(&text, "max_client_conn = 10000"));
    ck_assert(has_line(&text, "query_wait_timeout = 120"));
    /* nobody comes by TCP, and nobody has its console */
    ck_assert_ptr_null(strstr(buf_str(&text), "listen_addr"));
    ck_assert_ptr_null(strstr(buf_str(&text), "admin_users"));
    ck_assert_ptr_null(strstr(buf_str(&text), "stats_users"));
}
END_TEST

/* 0.9 of all connections, but never more than clients may have, and never none. */
START_TEST(pool_sizes)
{
    static const struct {
        int64_t clients;
        const char *line;
    } CASES[] = {
        { 96, "default_pool_size = 90" },
        { 16, "default_pool_size = 15" },
        { 1, "default_pool_size = 1" },
        { 996, "default_pool_size = 900" },
    };
    auto_buf text = { 0 };

    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        make_conf(CASES[i].clients, 11800, &text);
        ck_assert_msg(has_line(&text, CASES[i].line), "%s:\n%s", CASES[i].line, buf_str(&text));
    }
}
END_TEST

START_TEST(prepared_statements)
{
    auto_buf text = { 0 };

    make_conf(96, PG_POOLER_PREPARES - 1, &text);
    ck_assert_ptr_null(strstr(buf_str(&text), "prepared"));
    make_conf(96, PG_POOLER_PREPARES, &text);
    ck_assert(has_line(&text, "max_prepared_statements = 1000"));
}
END_TEST

START_TEST(users)
{
    auto_buf text = { 0 };

    pg_pooler_user_add(&text, "ann", "SCRAM-SHA-256$4096:a$b:c");
    pg_pooler_user_add(&text, "q\"u o", "x");
    ck_assert_str_eq(buf_str(&text), "\"ann\" \"SCRAM-SHA-256$4096:a$b:c\"\n\"q\"\"u o\" \"x\"\n");
}
END_TEST

Suite *t_pooler_suite(void)
{
    Suite *s = suite_create("pooler");
    TCase *t = tcase_create("pooler");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, versions);
    tcase_add_test(t, asked_once);
    tcase_add_test(t, configuration);
    tcase_add_test(t, pool_sizes);
    tcase_add_test(t, prepared_statements);
    tcase_add_test(t, users);
    suite_add_tcase(s, t);
    return s;
}
