/*
 * t_migrate.c - the schema: applied step by step, equal to the golden one, refused when newer; and what
 * generates it
 *
 * MERE_GOLDEN_WRITE=1 writes tests/golden/schema.sql anew instead of comparing.
 */
#include "meta/migrate.h"

#include <check.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/proc.h"
#include "meta/db.h"

#define GOLDEN "tests/golden/schema.sql"

Suite *t_migrate_suite(void);

static char dir[] = "/tmp/mere-t-migrate-XXXXXX";
static const char *path;
static struct arena *A;
static struct err E;

#define OK(call) ck_assert_msg((call) == 0, "%s: %s (%s)", #call, E.msg, E.detail)

static void setup(void)
{
    E = (struct err)ERR_INIT;
    A = arena_new(0);
    memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    path = arena_printf(A, "%s/meta.db", dir);
}

static void teardown(void)
{
    OK(fs_remove_tree(dir, false, &E));
    arena_free(A);
}

static sqlite3 *open_raw(void)
{
    sqlite3 *h;

    ck_assert_int_eq(sqlite3_open(path, &h), SQLITE_OK);
    return h;
}

static int64_t number(sqlite3 *h, const char *sql)
{
    sqlite3_stmt *st;
    int64_t n;

    ck_assert_msg(sqlite3_prepare_v2(h, sql, -1, &st, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(h));
    ck_assert_int_eq(sqlite3_step(st), SQLITE_ROW);
    n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

static void schema(sqlite3 *h, struct buf *out)
{
    sqlite3_stmt *st;

    ck_assert_int_eq(
        sqlite3_prepare_v2(h,
                           "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE "
                           "'sqlite\\_%' ESCAPE '\\' ORDER BY tbl_name, type DESC, name",
                           -1, &st, NULL),
        SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW)
        buf_addf(out, "%s;\n", (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
}

START_TEST(schema_is_the_golden_one)
{
    auto_buf got = { 0 };
    struct db *db;
    sqlite3 *h;
    char *want;

    OK(db_open(path, &db, &E));
    db_close(db);
    h = open_raw();
    schema(h, &got);
    ck_assert_int_eq(number(h, "PRAGMA user_version"), 1);
    ck_assert_int_eq(
        number(h, "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND NOT strict AND name "
                  "NOT LIKE 'sqlite%'"),
        0);
    sqlite3_close(h);
    if (getenv("MERE_GOLDEN_WRITE") != NULL)
        OK(fs_write_atomic(GOLDEN, got.data, got.len, 0644, &E));
    OK(fs_read(A, GOLDEN, 1 << 20, &want, NULL, &E));
    ck_assert_str_eq(buf_str(&got), want);
}
END_TEST

/* Each foreign key is the first column of some whole index: a delete of the parent must not read the table.
 */
START_TEST(foreign_keys_have_indexes)
{
    struct db *db;
    sqlite3 *h;

    OK(db_open(path, &db, &E));
    db_close(db);
    h = open_raw();
    ck_assert_int_gt(number(h, "SELECT count(*) FROM sqlite_schema t, pragma_foreign_key_list(t.name)"), 5);
    ck_assert_int_eq(
        number(h, "SELECT count(*) FROM sqlite_schema t, pragma_foreign_key_list(t.name) f WHERE NOT "
                  "EXISTS (SELECT 1 FROM pragma_index_list(t.name) i, pragma_index_info(i.name) c "
                  "WHERE NOT i.partial AND c.seqno = 0 AND c.name = f.\"from\")"),
        0);
    sqlite3_close(h);
}
END_TEST

START_TEST(steps_are_applied_once_and_in_order)
{
    static const char *const LIST[] = { "CREATE TABLE a (x); INSERT INTO a VALUES (1);",
                                        "ALTER TABLE a ADD COLUMN y; UPDATE a SET y = x + 1;",
                                        "INSERT INTO a (x, y) SELECT y, 9 FROM a;" };
    sqlite3 *h = open_raw();

    OK(migrate_with(h, LIST, 1, &E));
    ck_assert_int_eq(number(h, "PRAGMA user_version"), 1);
    OK(migrate_with(h, LIST, 3, &E));
    OK(migrate_with(h, LIST, 3, &E));
    ck_assert_int_eq(number(h, "PRAGMA user_version"), 3);
    ck_assert_int_eq(number(h, "SELECT sum(x * 10 + y) FROM a"), 12 + 29);
    sqlite3_close(h);
}
END_TEST

START_TEST(a_failing_step_leaves_everything_as_it_was)
{
    static const char *const LIST[] = {
        "CREATE TABLE a (x); INSERT INTO a VALUES (1);",
        "CREATE TABLE b (y); UPDATE a SET x = 2; INSERT INTO nowhere VALUES (1);"
    };
    sqlite3 *h = open_raw();

    ck_assert_int_lt(migrate_with(h, LIST, 2, &E), 0);
    ck_assert_int_eq(E.code, ERR_INTERNAL);
    ck_assert_ptr_nonnull(strstr(E.msg, "from schema 1 to 2"));
    ck_assert_ptr_null(strstr(E.msg, "nowhere"));
    ck_assert_ptr_nonnull(strstr(E.detail, "nowhere"));
    ck_assert(sqlite3_get_autocommit(h));
    ck_assert_int_eq(number(h, "PRAGMA user_version"), 1);
    ck_assert_int_eq(number(h, "SELECT x FROM a"), 1);
    ck_assert_int_eq(number(h, "SELECT count(*) FROM sqlite_schema WHERE name = 'b'"), 0);
    sqlite3_close(h);
}
END_TEST

START_TEST(newer_and_foreign_files_are_refused)
{
    struct db *db = NULL;
    sqlite3 *h = open_raw();
    char *text;

    number(h, "SELECT 1");
    ck_assert_int_eq(sqlite3_exec(h, "CREATE TABLE t (x); PRAGMA user_version=9999", NULL, NULL, NULL),
                     SQLITE_OK);
    ck_assert_int_lt(db_open(path, &db, &E), 0);
    ck_assert_int_eq(E.code, ERR_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(E.msg, "9999"));
    ck_assert_ptr_null(db);
    ck_assert_int_eq(number(h, "SELECT count(*) FROM sqlite_schema"), 1);
    ck_assert_int_eq(sqlite3_exec(h, "PRAGMA user_version=-1", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_lt(db_open(path, &db, &E), 0);
    ck_assert_int_eq(E.code, ERR_INTERNAL);
    sqlite3_close(h);

    path = arena_printf(A, "%s/text.db", dir);
    text = arena_printf(A, "%0500d", 7);
    OK(fs_write_plain(path, text, 500, 0600, (uid_t)-1, (gid_t)-1, &E));
    ck_assert_int_lt(db_open(path, &db, &E), 0);
    ck_assert_int_eq(E.code, ERR_INTERNAL);
    ck_assert_ptr_nonnull(strstr(E.detail, "not a database"));
    ck_assert_ptr_null(strstr(E.msg, dir));
    OK(fs_read(A, path, 1000, &text, NULL, &E));
    ck_assert_str_eq(text, arena_printf(A, "%0500d", 7));

    path = dir;
    ck_assert_int_lt(db_open(path, &db, &E), 0);
    path = arena_printf(A, "%s/no/such.db", dir);
    ck_assert_int_lt(db_open(path, &db, &E), 0);
    ck_assert_ptr_null(db);
}
END_TEST

/* --- the generator, on a tree of its own --- */

static void put(const char *name, const char *text)
{
    OK(fs_write_plain(arena_printf(A, "%s/%s", dir, name), text, strlen(text), 0644, (uid_t)-1, (gid_t)-1,
                      &E));
}

static int generate(void)
{
    const char *argv[] = { "/usr/bin/python3", arena_printf(A, "%s/tools/gen_migrations.py", dir), NULL };

    return proc_run(A, argv, 20000, NULL, &E);
}

static const char *generated(void)
{
    char *text;

    OK(fs_read(A, arena_printf(A, "%s/src/meta/migrations.gen.h", dir), 1 << 20, &text, NULL, &E));
    return text;
}

START_TEST(generator)
{
    static const char *const DIRS[] = { "tools", "migrations", "src", "src/meta" };
    char *script;

    OK(fs_read(A, "tools/gen_migrations.py", 1 << 20, &script, NULL, &E));
    for (size_t i = 0; i < N_ELEMENTS(DIRS); i++)
        OK(fs_mkdir(arena_printf(A, "%s/%s", dir, DIRS[i]), 0755, (uid_t)-1, (gid_t)-1, &E));
    put("tools/gen_migrations.py", script);
    ck_assert_int_lt(generate(), 0); /* none at all */

    put("migrations/0001_init.sql", "-- why\nCREATE TABLE a (x TEXT DEFAULT '--\"\\');\n\n");
    OK(generate());
    ck_assert_ptr_nonnull(strstr(generated(), "\"CREATE TABLE a (x TEXT DEFAULT '--\\\"\\\\');\\n\",\n};"));
    ck_assert_ptr_null(strstr(generated(), "why"));

    put("migrations/0003_gap.sql", "SELECT 1;\n");
    ck_assert_int_lt(generate(), 0);
    ck_assert_ptr_null(strstr(generated(), "gap"));
    put("migrations/0002_two.sql", "SELECT 2;\n");
    OK(generate());
    ck_assert_ptr_nonnull(strstr(generated(), "0003_gap.sql"));
    put("migrations/0002_twice.sql", "SELECT 2;\n");
    ck_assert_int_lt(generate(), 0);
    ck_assert_int_eq(unlink(arena_printf(A, "%s/migrations/0002_twice.sql", dir)), 0);

    put("migrations/0004_tx.sql", "BEGIN;\nSELECT 1;\nCOMMIT;\n");
    ck_assert_int_lt(generate(), 0);
    put("migrations/0004_tx.sql", "-- nothing\n\n");
    ck_assert_int_lt(generate(), 0);
    put("migrations/0004_tx.sql", "SELECT 4;\n");
    OK(generate());
    put("migrations/5_short.sql", "SELECT 5;\n");
    ck_assert_int_lt(generate(), 0);
}
END_TEST

START_TEST(checked_in_file_is_generated)
{
    static const char *const DIRS[] = { "tools", "migrations", "src", "src/meta" };
    const char **names;
    char *text;
    size_t n;

    for (size_t i = 0; i < N_ELEMENTS(DIRS); i++)
        OK(fs_mkdir(arena_printf(A, "%s/%s", dir, DIRS[i]), 0755, (uid_t)-1, (gid_t)-1, &E));
    OK(fs_read(A, "tools/gen_migrations.py", 1 << 20, &text, NULL, &E));
    put("tools/gen_migrations.py", text);
    OK(fs_list(A, "migrations", &names, &n, &E));
    for (size_t i = 0; i < n; i++) {
        OK(fs_read(A, arena_printf(A, "migrations/%s", names[i]), 1 << 20, &text, NULL, &E));
        put(arena_printf(A, "migrations/%s", names[i]), text);
    }
    OK(generate());
    OK(fs_read(A, "src/meta/migrations.gen.h", 1 << 20, &text, NULL, &E));
    ck_assert_str_eq(generated(), text);
}
END_TEST

Suite *t_migrate_suite(void)
{
    Suite *s = suite_create("migrate");
    TCase *t = tcase_create("migrate");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, schema_is_the_golden_one);
    tcase_add_test(t, foreign_keys_have_indexes);
    tcase_add_test(t, steps_are_applied_once_and_in_order);
    tcase_add_test(t, a_failing_step_leaves_everything_as_it_was);
    tcase_add_test(t, newer_and_foreign_files_are_refused);
    tcase_add_test(t, generator);
    tcase_add_test(t, checked_in_file_is_generated);
    suite_add_tcase(s, t);
    return s;
}
