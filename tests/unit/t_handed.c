/*
 * t_handed.c - sockets from the service manager: what is taken, and what is refused
 *
 * Each case runs in a process of its own, which may have its descriptor 3 and up as it likes.
 */
#include "base/handed.h"

#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

Suite *t_handed_suite(void);

static struct arena *arena;
static struct handed all[HANDED_MAX];
static size_t n;
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

/* A socket becomes descriptor `as`; its port. */
static int open_as(int as, int type, bool listens)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, type, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    ck_assert(!listens || listen(fd, 5) == 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    if (fd != as) {
        dup2(fd, as);
        close(fd);
    }
    return ntohs(at.sin_port);
}

static int take(const char *pid, const char *count, const char *names)
{
    char own[24];

    snprintf(own, sizeof(own), "%d", (int)getpid());
    setenv("LISTEN_PID", pid != NULL ? pid : own, 1);
    setenv("LISTEN_FDS", count, 1);
    if (names != NULL)
        setenv("LISTEN_FDNAMES", names, 1);
    else
        unsetenv("LISTEN_FDNAMES");
    return handed_take(arena, all, &n, &err);
}

START_TEST(two)
{
    int first = open_as(3, SOCK_STREAM, true), second = open_as(4, SOCK_STREAM, true);

    ck_assert_msg(take(NULL, "2", "api:postgres") == 0, "%s", err.msg);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(all[0].name, "api");
    ck_assert_str_eq(all[1].name, "postgres");
    ck_assert_str_eq(all[1].host, "127.0.0.1");
    ck_assert_int_eq(all[0].port, first);
    ck_assert_int_eq(all[1].port, second);
    ck_assert_int_eq(all[1].fd, 4);
    ck_assert(fcntl(4, F_GETFD) & FD_CLOEXEC);
    ck_assert(fcntl(4, F_GETFL) & O_NONBLOCK);
    ck_assert_ptr_null(getenv("LISTEN_FDS"));
    ck_assert_ptr_null(getenv("LISTEN_PID"));
    ck_assert_ptr_null(getenv("LISTEN_FDNAMES"));
}
END_TEST

START_TEST(names)
{
    open_as(3, SOCK_STREAM, true);
    open_as(4, SOCK_STREAM, true);
    ck_assert_int_eq(take(NULL, "2", NULL), 0);
    ck_assert_str_eq(all[0].name, "unknown");
    ck_assert_int_eq(take(NULL, "2", "api"), 0);
    ck_assert_str_eq(all[0].name, "api");
    ck_assert_str_eq(all[1].name, "unknown");
    ck_assert_int_eq(take(NULL, "2", ":b:c"), 0);
    ck_assert_str_eq(all[0].name, "");
    ck_assert_str_eq(all[1].name, "b");
}
END_TEST

START_TEST(none_of_ours)
{
    open_as(3, SOCK_STREAM, true);
    ck_assert_int_eq(take("1", "1", "api"), 0);
    ck_assert_uint_eq(n, 0);
    ck_assert_ptr_null(getenv("LISTEN_FDS"));
    ck_assert_int_eq(take("x", "1", "api"), 0);
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(take(NULL, "-1", "api"), 0);
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(take(NULL, "many", "api"), 0);
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(handed_take(arena, all, &n, &err), 0); /* nothing in the environment */
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(refused)
{
    open_as(3, SOCK_STREAM, false);
    ck_assert_int_eq(take(NULL, "1", "api"), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "descriptor 3 (\"api\"), which is no TCP socket that listens"));
    close(3);
    ck_assert_int_eq(take(NULL, "1", "api"), -1); /* there is none */
    open_as(3, SOCK_DGRAM, false);
    ck_assert_int_eq(take(NULL, "1", "api"), -1);
    ck_assert_int_eq(dup2(open("/dev/null", O_RDONLY), 3), 3);
    ck_assert_int_eq(take(NULL, "1", "api"), -1);
    ck_assert_int_eq(take(NULL, "17", "api"), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "hands over 17 sockets; 16 are the most"));
}
END_TEST

Suite *t_handed_suite(void)
{
    Suite *s = suite_create("handed");
    TCase *c = tcase_create("handed");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, two);
    tcase_add_test(c, names);
    tcase_add_test(c, none_of_ours);
    tcase_add_test(c, refused);
    suite_add_tcase(s, c);
    return s;
}
