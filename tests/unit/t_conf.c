/*
 * t_conf.c - which paths may stand in a compute's configuration
 */
#include "pg/conf.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/text.h"

#include <check.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *t_conf_suite(void);

static struct arena *arena;
static struct err err;

static void setup(void)
{
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
}

static void teardown(void)
{
    arena_free(arena);
}

START_TEST(paths_that_are_refused)
{
    static const char *const CASES[] = {
        "/d/a\"b", "/d/$HOME", "/d/`id`", "/d/a\\b", "/d/a\nb",
        "/d/a\rb", "/d/a\tb",  "/d/100%", "/d/a,b",  "/d/\x7f",
    };
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        ck_assert_msg(pg_conf_check_path(CASES[i], &err) == -1, "%s", CASES[i]);
        ck_assert_int_eq(err.code, ERR_INVALID);
        ck_assert_msg(strlen(err.msg) > 40 && strchr(err.msg, '\n') == NULL, "%s", err.msg);
    }
    ck_assert_int_eq(pg_conf_check_path("/d/$x", &err), -1);
    ck_assert_msg(strstr(err.msg, "\"/d/$x\" has $") != NULL, "%s", err.msg);
}
END_TEST

START_TEST(paths_that_pass)
{
    static const char *const CASES[] = {
        "/var/lib/mere",
        "/d/it's a (strange) dir; really & truly #1 ~*?[x]!",
        "/d/d\xc3\xbcsseldorf",
        "/d/-x",
        "rel/x",
        "/",
    };
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++)
        ck_assert_msg(pg_conf_check_path(CASES[i], &err) == 0, "%s: %s", CASES[i], err.msg);
}
END_TEST

static const char *setting(const char *const *argv, const char *name)
{
    for (size_t i = 0; argv[i]; i++)
        if (text_starts_with(argv[i], name) && argv[i][strlen(name)] == '=')
            return argv[i] + strlen(name) + 1;
    ck_abort_msg("no %s", name);
    return NULL;
}

/* What the tool was called with. */
static const char *said(const char *command, const char *place)
{
    const char *const argv[] = { "/bin/sh", "-c", command, NULL };
    char *text = NULL;
    ck_assert_msg(proc_run(arena, argv, 10000, NULL, &err) == 0, "%s %s", err.msg, err.detail);
    ck_assert_int_eq(fs_read(arena, arena_printf(arena, "%s/out", place), 10000, &text, NULL, &err), 0);
    return text;
}

/* Every byte a path may have comes through the shell as it is. */
START_TEST(commands_come_through_the_shell)
{
    char dir[] = "/tmp/t_conf.XXXXXX", odd[300] = "";
    static const char TOOL[] = "#!/bin/sh\nprintf '%s|' \"$0\" \"$@\" >\"${0%/*}/out\"\n";
    size_t n = 0;
    for (int c = 1; c < 256; c++) {
        char one[2] = { (char)c, '\0' };
        if (c != '/' && pg_conf_check_path(one, &err) == 0)
            odd[n++] = (char)c;
    }
    ck_assert_uint_gt(n, 200);
    odd[200] = '\0'; /* a name has at most 255 bytes; the rest is plain bytes above 0x7f */
    ck_assert_ptr_nonnull(mkdtemp(dir));
    const char *place = arena_printf(arena, "%s/%s", dir, odd), *tool = arena_printf(arena, "%s/tool", place);
    ck_assert_int_eq(mkdir(place, 0700), 0);
    ck_assert_int_eq(fs_write_plain(tool, TOOL, sizeof(TOOL) - 1, 0700, (uid_t)-1, (gid_t)-1, &err), 0);
    struct pg_conf conf = { .bindir = "/b",
                            .preload = "pg_stat_statements",
                            .data_dir = "/d",
                            .archive_dir = place,
                            .wal_tool = tool,
                            .socket_dir = "/s",
                            .conf_dir = "/c",
                            .os_user = "me" };
    const char *const *argv = pg_conf_argv(arena, &conf);
    ck_assert_str_eq(said(setting(argv, "archive_command"), place),
                     arena_printf(arena, "%s|push|%s|%%p|", tool, place));
    ck_assert_str_eq(said(setting(argv, "restore_command"), place),
                     arena_printf(arena, "%s|fetch|%s|%%f|%%p|", tool, place));
    conf.standby = true;
    conf.followed = place;
    ck_assert_str_eq(said(setting(pg_conf_argv(arena, &conf), "restore_command"), place),
                     arena_printf(arena, "%s|follow|%s/archive|%s/pg_wal|%%f|%%p|", tool, place, place));
    ck_assert_int_eq(fs_remove_tree(dir, false, &err), 0);
}
END_TEST

START_TEST(whom_a_follower_receives_from)
{
    auto_free char *dir = xstrdup("/tmp/mere-conf-XXXXXX");
    char *text;
    size_t len;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    const char *path = arena_printf(arena, "%s/primary.conf", dir);
    const struct {
        const char *socket_dir, *passfile, *want;
    } CASES[] = {
        { NULL, NULL, "''\n" },
        { "/s", "/p", "'port=5432 user=mere_replica host=\\'/s\\' passfile=\\'/p\\''\n" },
        { "/it's", "/p", "'port=5432 user=mere_replica host=\\'/it\\\\\\'s\\' passfile=\\'/p\\''\n" },
    };
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        ck_assert_int_eq(pg_conf_write_primary(dir, CASES[i].socket_dir, CASES[i].passfile, &err), 0);
        ck_assert_int_eq(fs_read(arena, path, 4096, &text, &len, &err), 0);
        const char *value = strstr(text, "primary_conninfo = ");
        ck_assert_ptr_nonnull(value);
        ck_assert_str_eq(value + strlen("primary_conninfo = "), CASES[i].want);
    }
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

/* Postgres does not let readers in, or stops replaying, where a standby has less than its primary had. */
START_TEST(a_standby_has_what_it_needs)
{
    json_auto_t *settings = json_pack("{s:s, s:s, s:s}", "max_connections", "30", "max_worker_processes",
                                      "40", "default_transaction_isolation", "serializable");
    struct pg_conf conf = { .bindir = "/b",
                            .data_dir = "/d",
                            .archive_dir = "/a",
                            .wal_tool = "/w",
                            .socket_dir = "/s",
                            .conf_dir = "/c",
                            .os_user = "me",
                            .settings = settings,
                            .fork_tli = 7 };
    conf.needs = (struct pg_needs){ .max_connections = 200,
                                    .max_worker_processes = 8,
                                    .max_wal_senders = 12,
                                    .max_locks_per_transaction = 65 };
    ck_assert_int_eq(pg_conf_max_connections(&conf), 30);
    conf.standby = true;
    ck_assert_int_eq(pg_conf_max_connections(&conf), 200);
    const char *const *argv = pg_conf_argv(arena, &conf);
    ck_assert_str_eq(setting(argv, "max_connections"), "200");
    ck_assert_str_eq(setting(argv, "max_worker_processes"), "40");
    ck_assert_str_eq(setting(argv, "max_wal_senders"), "12");
    ck_assert_str_eq(setting(argv, "max_locks_per_transaction"), "65");
    ck_assert_str_eq(setting(argv, "default_transaction_isolation"), "repeatable read");
    ck_assert_str_eq(setting(argv, "hot_standby"), "on");
    ck_assert_str_eq(setting(argv, "restore_command"), "");
    struct pg_conf first = conf;
    first.standby = false;
    first.first_start = true;
    ck_assert_str_eq(setting(pg_conf_argv(arena, &first), "restore_command"), "exit 1");
    first.promoted = true;
    ck_assert_str_eq(setting(pg_conf_argv(arena, &first), "restore_command"), "");
    ck_assert_str_eq(setting(argv, "recovery_target_timeline"), "7");
    conf.followed = "/f";
    ck_assert_str_eq(setting(pg_conf_argv(arena, &conf), "recovery_target_timeline"), "latest");
}
END_TEST

Suite *t_conf_suite(void)
{
    Suite *s = suite_create("conf");
    TCase *t = tcase_create("conf");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, paths_that_are_refused);
    tcase_add_test(t, paths_that_pass);
    tcase_add_test(t, commands_come_through_the_shell);
    tcase_add_test(t, whom_a_follower_receives_from);
    tcase_add_test(t, a_standby_has_what_it_needs);
    suite_add_tcase(s, t);
    return s;
}
