/*
 * t_pass.c - descriptors over unix sockets
 */
#include "base/pass.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *t_pass_suite(void);

static int pair[2];

static void setup(void)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static void teardown(void)
{
    fd_close(&pair[0]);
    fd_close(&pair[1]);
}

static ino_t inode(int fd)
{
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    return st.st_ino;
}

START_TEST(copies_arrive_closed_on_exec)
{
    int sent[PASS_MAX], got[PASS_MAX];
    char bytes[16];
    size_t n;

    for (size_t i = 0; i < PASS_MAX; i++)
        ck_assert_int_ge(sent[i] = memfd_create("t", 0), 0);
    ck_assert_int_eq(pass_send(pair[0], "line\n", 5, sent, PASS_MAX), 5);
    ck_assert_int_eq(pass_receive(pair[1], bytes, sizeof(bytes), got, &n), 5);
    ck_assert_uint_eq(n, PASS_MAX);
    for (size_t i = 0; i < PASS_MAX; i++) {
        ck_assert_int_ne(sent[i], got[i]);
        ck_assert_uint_eq(inode(sent[i]), inode(got[i]));
        ck_assert(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
        close(sent[i]);
        close(got[i]);
    }
}
END_TEST

START_TEST(bytes_alone_bring_none)
{
    int got[PASS_MAX];
    char bytes[16];
    size_t n = 7;

    ck_assert_int_eq(send(pair[0], "x", 1, 0), 1);
    ck_assert_int_eq(pass_receive(pair[1], bytes, sizeof(bytes), got, &n), 1);
    ck_assert_uint_eq(n, 0);
    fd_close(&pair[0]);
    n = 7;
    ck_assert_int_eq(pass_receive(pair[1], bytes, sizeof(bytes), got, &n), 0);
    ck_assert_uint_eq(n, 0);
}
END_TEST

/* What comes before and behind is read apart from it or with it, but never two sendings at once. */
START_TEST(two_sendings_are_two)
{
    int fds[2] = { memfd_create("a", 0), memfd_create("b", 0) }, got[PASS_MAX];
    char bytes[16];
    size_t n;

    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pass_send(pair[0], "x", 1, &fds[i], 1), 1);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pass_receive(pair[1], bytes, sizeof(bytes), got, &n), 1);
        ck_assert_uint_eq(n, 1);
        ck_assert_uint_eq(inode(got[0]), inode(fds[i]));
        close(got[0]);
    }
    close(fds[0]);
    close(fds[1]);
}
END_TEST

START_TEST(nobody_there)
{
    int fd = memfd_create("t", 0);

    fd_close(&pair[1]);
    ck_assert_int_eq(pass_send(pair[0], "x", 1, &fd, 1), -1);
    ck_assert_int_eq(errno, EPIPE);
    close(fd);
}
END_TEST

Suite *t_pass_suite(void)
{
    Suite *s = suite_create("pass");
    TCase *t = tcase_create("pass");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, copies_arrive_closed_on_exec);
    tcase_add_test(t, bytes_alone_bring_none);
    tcase_add_test(t, two_sendings_are_two);
    tcase_add_test(t, nobody_there);
    suite_add_tcase(s, t);
    return s;
}
