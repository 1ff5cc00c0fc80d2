/*
 * t_config.c - settings: precedence, types, files, and errors that say where the fault is
 */
#include "base/config.h"

#include <check.h>

#include "base/fs.h"

Suite *t_config_suite(void);

struct settings {
    const char *pg_listen, *config;
    int64_t port, any;
    uint64_t reserve;
    bool keep;
};

#define KEY(name_, member, type_, ...)                                                                       \
    {                                                                                                        \
        .name = name_, .type = type_, .offset = offsetof(struct settings, member), __VA_ARGS__               \
    }

static const struct config_key KEYS[] = {
    KEY("pg-listen", pg_listen, CONFIG_STR, .def = "127.0.0.1:7433", .arg = "HOST:PORT",
        .help = "where clients connect"),
    KEY("config", config, CONFIG_STR, .arg = "FILE", .help = "a file with settings"),
    KEY("port", port, CONFIG_INT, .def = "5", .min = 0, .max = 100, .arg = "N", .help = "a number"),
    KEY("any", any, CONFIG_INT, .arg = "N", .help = NULL),
    KEY("reserve", reserve, CONFIG_SIZE, .def = "1GB", .arg = "SIZE", .help = "free space"),
    KEY("keep-computes", keep, CONFIG_BOOL, .def = "off", .help = "leave computes running"),
};

static struct arena *arena;
static struct err err;
static char file[64];

static void setup(void)
{
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
    snprintf(file, sizeof(file), "/tmp/t_config.XXXXXX");
    close(mkstemp(file));
}

static void teardown(void)
{
    unlink(file);
    arena_free(arena);
}

/* Loads from up to four words after the program's name. */
static int load(struct settings *s, const char *a, const char *b, const char *c, const char *d)
{
    const char *argv[] = { "mered", a, b, c, d, NULL };
    int argc = 1;

    while (argv[argc] != NULL)
        argc++;
    *s = (struct settings){ 0 };
    return config_load(
        arena, &(struct config_source){ KEYS, N_ELEMENTS(KEYS), "config", argc, (char **)argv }, s, &err);
}

static void write_config(const char *text)
{
    ck_assert_int_eq(fs_write_plain(file, text, strlen(text), 0600, (uid_t)-1, (gid_t)-1, &err), 0);
}

static void check_refused(const char *a, const char *b, const char *text)
{
    struct settings s;

    ck_assert_int_eq(load(&s, a, b, NULL, NULL), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    ck_assert_msg(strstr(err.msg, text) != NULL, "\"%s\" not in \"%s\"", text, err.msg);
}

START_TEST(defaults)
{
    struct settings s;

    ck_assert_int_eq(load(&s, NULL, NULL, NULL, NULL), 0);
    ck_assert_str_eq(s.pg_listen, "127.0.0.1:7433");
    ck_assert_ptr_null(s.config);
    ck_assert_int_eq(s.port, 5);
    ck_assert_int_eq(s.any, 0);
    ck_assert_uint_eq(s.reserve, 1u << 30);
    ck_assert(!s.keep);
}
END_TEST

START_TEST(flags)
{
    struct settings s;

    ck_assert_int_eq(load(&s, "--port", "7", "--pg-listen=[::1]:0", "--keep-computes"), 0);
    ck_assert_int_eq(s.port, 7);
    ck_assert_str_eq(s.pg_listen, "[::1]:0");
    ck_assert(s.keep);
    ck_assert_int_eq(load(&s, "--any", "-9223372036854775808", "--pg-listen", "--odd"), 0);
    ck_assert_int_eq(s.any, INT64_MIN); /* a value may look like an option */
    ck_assert_str_eq(s.pg_listen, "--odd");
    ck_assert_int_eq(load(&s, "--keep-computes=off", "--port=1", "--port=2", NULL), 0);
    ck_assert(!s.keep);
    ck_assert_int_eq(s.port, 2); /* the last one */
    ck_assert_int_eq(load(&s, "--pg-listen=", NULL, NULL, NULL), 0);
    ck_assert_str_eq(s.pg_listen, "");
}
END_TEST

START_TEST(precedence)
{
    struct settings s;

    write_config("# a comment\n\n port = 1 \nreserve=2MB\r\nkeep_computes = on\npg_listen = a=b # c\n");
    ck_assert_msg(load(&s, "--config", file, NULL, NULL) == 0, "%s", err.msg);
    ck_assert_int_eq(s.port, 1);
    ck_assert_uint_eq(s.reserve, 2u << 20);
    ck_assert(s.keep);
    ck_assert_str_eq(s.pg_listen, "a=b # c"); /* a comment is a whole line: values may hold a # */
    setenv("MERE_PORT", "2", 1);
    setenv("MERE_KEEP_COMPUTES", "0", 1);
    ck_assert_int_eq(load(&s, "--config", file, NULL, NULL), 0);
    ck_assert_int_eq(s.port, 2);
    ck_assert(!s.keep);
    ck_assert_int_eq(load(&s, "--config", file, "--port", "3"), 0);
    ck_assert_int_eq(s.port, 3);
    setenv("MERE_CONFIG", file, 1);
    ck_assert_int_eq(load(&s, NULL, NULL, NULL, NULL), 0);
    ck_assert_uint_eq(s.reserve, 2u << 20);
}
END_TEST

START_TEST(bad_flags)
{
    check_refused("--prot", "1", "unknown option --prot (see --help)");
    check_refused("--prot=1", NULL, "unknown option --prot (see --help)");
    check_refused("--help", NULL, "unknown option --help");
    check_refused("port", NULL, "unexpected argument \"port\"");
    check_refused("-p", NULL, "unexpected argument");
    check_refused("--", NULL, "unexpected argument");
    check_refused("--port", NULL, "option --port needs a value (N)");
    check_refused("--port", "101", "option --port: \"101\"");
    check_refused("--port", "x", "whole number from 0 to 100");
    check_refused("--any", "1.5", "a whole number");
    check_refused("--reserve", "much", "a size such as");
    check_refused("--keep-computes=maybe", NULL, "true, false");
    check_refused("--pg-listen", "\xff", "UTF-8");
}
END_TEST

START_TEST(bad_environment)
{
    setenv("MERE_PORT", "many", 1);
    check_refused(NULL, NULL, "environment variable MERE_PORT: \"many\"");
}
END_TEST

START_TEST(bad_files)
{
    struct settings s;

    check_refused("--config", "/nowhere/mere.conf", "/nowhere/mere.conf cannot be read: it does not exist");
    write_config("port = 1\nnope\n");
    check_refused("--config", file, "line 2: \"name = value\" is expected");
    write_config("\n\nprot = 1\n");
    check_refused("--config", file, "line 3: unknown setting \"prot\"");
    write_config("port = 1\nport = 2\n");
    check_refused("--config", file, "line 2: port was already set at");
    write_config("port = 1000\n");
    check_refused("--config", file, "line 1: \"1000\"");
    write_config("config = other\n");
    check_refused("--config", file, "unknown setting \"config\""); /* no file names another */
    ck_assert_int_eq(fs_write_plain(file, "port = 1\n\0x", 11, 0600, (uid_t)-1, (gid_t)-1, &err), 0);
    check_refused("--config", file, "not a text file");
    write_config("port = 1");
    ck_assert_int_eq(load(&s, "--config", file, NULL, NULL), 0); /* no newline at the end */
    ck_assert_int_eq(s.port, 1);
}
END_TEST

START_TEST(a_default_file_may_be_absent)
{
    struct config_key keys[N_ELEMENTS(KEYS)];
    char *argv[] = { (char *)"mered", NULL };
    struct config_source src = { keys, N_ELEMENTS(keys), "config", 1, argv };
    struct settings s = { 0 };

    memcpy(keys, KEYS, sizeof(keys));
    keys[1].def = "/nowhere/mere.conf";
    ck_assert_int_eq(config_load(arena, &src, &s, &err), 0);
    ck_assert_int_eq(err.code, ERR_NONE);
    keys[1].def = file;
    write_config("port = 9\n");
    ck_assert_int_eq(config_load(arena, &src, &s, &err), 0);
    ck_assert_int_eq(s.port, 9);
    src.file_key = NULL;
    ck_assert_int_eq(config_load(arena, &src, &s, &err), 0);
    ck_assert_int_eq(s.port, 5); /* no file at all */
}
END_TEST

START_TEST(only_a_file)
{
    struct settings s = { .pg_listen = "as it was", .port = 7 };

    setenv("MERE_PORT", "9", 1);
    write_config("# mine\nport = 8\nkeep_computes=on\n");
    ck_assert_int_eq(config_read(arena, KEYS, N_ELEMENTS(KEYS), file, &s, &err), 0);
    unsetenv("MERE_PORT");
    ck_assert_int_eq(s.port, 8);
    ck_assert(s.keep);
    ck_assert_str_eq(s.pg_listen, "as it was");
    ck_assert_ptr_null(s.config);

    write_config("port = 8\nport = 9\n");
    ck_assert_int_eq(config_read(arena, KEYS, N_ELEMENTS(KEYS), file, &s, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "already set"));
    write_config("port = 101\n");
    ck_assert_int_eq(config_read(arena, KEYS, N_ELEMENTS(KEYS), file, &s, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "line 1"));
    ck_assert_int_eq(config_read(arena, KEYS, N_ELEMENTS(KEYS), "/nonexistent/file", &s, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "does not exist"));
}
END_TEST

START_TEST(values_in_files)
{
    struct settings s;

    write_config("7\n");
    setenv("MERE_PORT_FILE", file, 1);
    ck_assert_msg(load(&s, NULL, NULL, NULL, NULL) == 0, "%s", err.msg);
    ck_assert_int_eq(s.port, 7);
    setenv("MERE_PORT", "8", 1);
    check_refused(NULL, NULL, "MERE_PORT and MERE_PORT_FILE are both in the environment");
    unsetenv("MERE_PORT");
    write_config("1000");
    check_refused(NULL, NULL, "environment variable MERE_PORT_FILE: \"1000\" is not a good value for port");
    write_config("7\n\n");
    check_refused(NULL, NULL, "must hold the value of port in one line");
    setenv("MERE_PORT_FILE", "/nowhere/port", 1);
    check_refused(NULL, NULL, "MERE_PORT_FILE: /nowhere/port cannot be read: it does not exist");
}
END_TEST

START_TEST(credentials)
{
    struct config_key keys[N_ELEMENTS(KEYS)];
    char *argv[] = { (char *)"mered", (char *)"--pg-listen", (char *)"given", NULL };
    struct config_source src = { keys, N_ELEMENTS(keys), NULL, 1, argv };
    char dir[] = "/tmp/t_config_dir.XXXXXX", path[64];
    struct settings s = { 0 };

    memcpy(keys, KEYS, sizeof(keys));
    keys[0].credential = true; /* pg-listen, which has a default */
    ck_assert_ptr_nonnull(mkdtemp(dir));
    setenv("CREDENTIALS_DIRECTORY", dir, 1);
    ck_assert_int_eq(config_load(arena, &src, &s, &err), 0);
    ck_assert_str_eq(s.pg_listen, "127.0.0.1:7433"); /* it did not come */
    snprintf(path, sizeof(path), "%s/pg-listen", dir);
    ck_assert_int_eq(fs_write_plain(path, "", 0, 0600, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(config_load(arena, &src, &s, &err), 0);
    ck_assert_str_eq(s.pg_listen, path);
    src.argc = 3;
    ck_assert_int_eq(config_load(arena, &src, &s, &err), 0);
    ck_assert_str_eq(s.pg_listen, "given");
    ck_assert_int_eq(fs_remove_tree(dir, false, &err), 0);
}
END_TEST

START_TEST(what_may_not_change)
{
    struct config_key keys[N_ELEMENTS(KEYS)];
    struct config_source src = { .keys = keys, .n = N_ELEMENTS(keys) };
    struct settings was = { .pg_listen = "a", .port = 1, .reserve = 2 }, now = was;
    char copy[] = "a";

    memcpy(keys, KEYS, sizeof(keys));
    now.pg_listen = copy;
    ck_assert_ptr_null(config_fixed(arena, &src, &was, &now));
    now.port = 2;
    now.reserve = 3;
    now.keep = true;
    now.config = "x";
    ck_assert_str_eq(config_fixed(arena, &src, &was, &now), "config, port, reserve, keep-computes");
    for (size_t i = 0; i < N_ELEMENTS(keys); i++)
        keys[i].live = strcmp(keys[i].name, "port") != 0;
    ck_assert_str_eq(config_fixed(arena, &src, &was, &now), "port");
    now.port = 1;
    ck_assert_ptr_null(config_fixed(arena, &src, &was, &now));
}
END_TEST

START_TEST(help)
{
    char *text;

    fflush(stdout);
    ck_assert_ptr_nonnull(freopen(file, "w", stdout));
    config_help(KEYS, N_ELEMENTS(KEYS));
    fflush(stdout);
    ck_assert_int_eq(fs_read(arena, file, 10000, &text, NULL, &err), 0);
    ck_assert_ptr_nonnull(
        strstr(text, "  --pg-listen HOST:PORT       where clients connect (default 127.0.0.1:7433)\n"));
    ck_assert_ptr_nonnull(strstr(text, "  --keep-computes             leave computes running\n"));
    ck_assert_ptr_null(strstr(text, "--any")); /* hidden */
}
END_TEST

START_TEST(addresses)
{
    static const char *const BAD[] = {
        "",        "localhost", ":80",     "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80", "[::1]",
        "[::1]80", "[]:80",     "[::1:80", "a b:80",     "h:80x",           "h:80:90",      "[h]x:80"
    };
    const char *host = NULL;
    int port = -1;

    ck_assert_int_eq(config_host_port(arena, "127.0.0.1:7432", &host, &port, &err), 0);
    ck_assert_str_eq(host, "127.0.0.1");
    ck_assert_int_eq(port, 7432);
    ck_assert_int_eq(config_host_port(arena, "[::1]:0", &host, &port, &err), 0);
    ck_assert_str_eq(host, "::1");
    ck_assert_int_eq(port, 0);
    ck_assert_int_eq(config_host_port(arena, "my-host.example:65535", &host, &port, &err), 0);
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(config_host_port(arena, BAD[i], &host, &port, &err) == -1, "accepted %s", BAD[i]);
    ck_assert_int_eq(err.code, ERR_INVALID);
}
END_TEST

Suite *t_config_suite(void)
{
    Suite *s = suite_create("config");
    TCase *c = tcase_create("config");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, defaults);
    tcase_add_test(c, flags);
    tcase_add_test(c, precedence);
    tcase_add_test(c, bad_flags);
    tcase_add_test(c, bad_environment);
    tcase_add_test(c, bad_files);
    tcase_add_test(c, a_default_file_may_be_absent);
    tcase_add_test(c, only_a_file);
    tcase_add_test(c, values_in_files);
    tcase_add_test(c, credentials);
    tcase_add_test(c, what_may_not_change);
    tcase_add_test(c, help);
    tcase_add_test(c, addresses);
    suite_add_tcase(s, c);
    return s;
}
