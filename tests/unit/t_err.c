/*
 * t_err.c - errors: codes, truncation, system reasons; and the guards and crash points of base.h
 */
#include "base/err.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "base/text.h"

Suite *t_err_suite(void);

START_TEST(codes)
{
    ck_assert_int_eq(err_http(ERR_NOT_FOUND), 404);
    ck_assert_int_eq(err_http(ERR_DISK_FULL), 507);
    ck_assert_str_eq(err_name(ERR_DAMAGED), "branch_damaged");
    ck_assert(err_retryable(ERR_TIMEOUT));
    ck_assert(!err_retryable(ERR_CONFLICT));
    ck_assert_int_eq(err_http((enum err_code)999), 500); /* a code from nowhere is still an answer */
    ck_assert_str_eq(err_name((enum err_code)999), "internal");
}
END_TEST

START_TEST(set_clears_what_was)
{
    struct err err = ERR_INIT;

    ck_assert_int_eq(err_field(&err, ERR_INVALID, "/branch/name", "name %s", "bad"), -1);
    ck_assert_str_eq(err.pointer, "/branch/name");
    err_detail(&err, "d");
    ck_assert_int_eq(err_set(&err, ERR_CONFLICT, "x %d", 7), -1);
    ck_assert_int_eq(err.code, ERR_CONFLICT);
    ck_assert_str_eq(err.msg, "x 7");
    ck_assert_str_eq(err.detail, "");
    ck_assert_str_eq(err.pointer, "");
}
END_TEST

START_TEST(long_texts_are_cut_between_characters)
{
    struct err err = ERR_INIT;
    char text[1200];

    for (int shift = 0; shift < 3; shift++) {
        memset(text, 'x', sizeof(text));
        for (size_t i = (size_t)shift; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "\xE2\x82\xAC", 3);
        text[sizeof(text) - 1] = '\0';
        err_set(&err, ERR_INTERNAL, "%s", text);
        ck_assert_uint_ge(strlen(err.msg), sizeof(err.msg) - 4);
        ck_assert(text_is_utf8(err.msg, strlen(err.msg)));
        err_field(&err, ERR_INVALID, text, "m");
        ck_assert(text_is_utf8(err.pointer, strlen(err.pointer)));
    }
}
END_TEST

START_TEST(system_reasons)
{
    struct err err = ERR_INIT;

    errno = ENOENT;
    ck_assert_int_eq(err_sys(&err, "open %s", "/secret/place"), -1);
    ck_assert_int_eq(err.code, ERR_INTERNAL);
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_str_eq(err.detail, "open /secret/place: No such file or directory");
    ck_assert_ptr_null(strstr(err.msg, "secret"));
    errno = ENOSPC;
    err_sys(&err, "write");
    ck_assert_int_eq(err.code, ERR_DISK_FULL);
    errno = EDQUOT;
    err_sys(&err, "write");
    ck_assert_int_eq(err.code, ERR_DISK_FULL);
    errno = 99999;
    err_sys(&err, "odd");
    ck_assert_str_eq(err.detail, "odd: unknown error");
}
END_TEST

START_TEST(wrapping)
{
    struct err err = ERR_INIT;
    char text[600];

    err_set(&err, ERR_TIMEOUT, "m");
    ck_assert_int_eq(err_wrap(&err, "start %s", "ep-x"), -1);
    ck_assert_str_eq(err.detail, "start ep-x");
    err_detail(&err, "why");
    err_wrap(&err, "inner");
    err_wrap(&err, "outer");
    ck_assert_str_eq(err.detail, "outer: inner: why");
    ck_assert_str_eq(err.msg, "m");
    memset(text, 'y', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    err_wrap(&err, "%s", text);
    ck_assert_uint_eq(strlen(err.detail), sizeof(err.detail) - 1);
}
END_TEST

START_TEST(guards)
{
    int fds[2], copy;
    char *p = xstrdup("x"), *q = TAKE(p);

    ck_assert_ptr_null(p);
    free(q);
    ck_assert_int_eq(pipe(fds), 0);
    copy = fds[0];
    {
        auto_fd fd = fds[0];

        errno = EBADMSG;
        ck_assert_int_ge(fd, 0);
    }
    ck_assert_int_eq(errno, EBADMSG);
    ck_assert_int_eq(fcntl(copy, F_GETFD), -1);
    copy = fds[1];
    {
        auto_fd fd = fds[1];

        ck_assert_int_eq(TAKE_FD(fd), copy);
    }
    ck_assert_int_ge(fcntl(copy, F_GETFD), 0);
    close(copy);
}
END_TEST

#ifdef MERE_CRASH_POINTS
/* Runs the points a, b, b, b in a child; its exit status. */
static int crash_run(const char *at, const char *list)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        setenv("CRASH_AT", at, 1);
        if (list != NULL)
            setenv("CRASH_LIST", list, 1);
        CRASH_POINT("t.a");
        for (int i = 0; i < 3; i++)
            CRASH_POINT("t.ab");
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

START_TEST(crash_points)
{
    char list[] = "/tmp/t_err.XXXXXX", text[64] = "";
    int fd = mkstemp(list);

    ck_assert_int_eq(crash_run("t.ab:3", NULL), 137);
    ck_assert_int_eq(crash_run("t.ab:4", NULL), 0);
    ck_assert_int_eq(crash_run("t.a:2", NULL),
                     0); /* a longer name with the same beginning is another point */
    ck_assert_int_eq(crash_run("nonsense", NULL), 0);
    ck_assert_int_eq(crash_run("t.ab:2", list), 137);
    ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
    ck_assert_str_eq(text, "t.a\nt.ab\nt.ab\n");
    close(fd);
    unlink(list);
}
END_TEST
#endif

Suite *t_err_suite(void)
{
    Suite *s = suite_create("err");
    TCase *c = tcase_create("err");

    tcase_add_test(c, codes);
    tcase_add_test(c, set_clears_what_was);
    tcase_add_test(c, long_texts_are_cut_between_characters);
    tcase_add_test(c, system_reasons);
    tcase_add_test(c, wrapping);
    tcase_add_test(c, guards);
#ifdef MERE_CRASH_POINTS
    tcase_add_test(c, crash_points);
#endif
    suite_add_tcase(s, c);
    return s;
}
