/*
 * t_log.c - log lines: shape, quoting, limits, one write each
 */
#include "base/log.h"

#include <check.h>
#include <limits.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/text.h"

Suite *t_log_suite(void);

static int lines_fd, saved_stderr;

/* Standard error becomes a datagram socket: each write(2) is one message. */
static void setup(void)
{
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    lines_fd = fds[0];
    clock_test_set(0, INT64_C(1764095459123999)); /* 2025-11-25T18:30:59.123999Z */
    log_set_level(LOG_INFO);
}

static void teardown(void)
{
    log_set_request(NULL);
    clock_test_reset();
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(lines_fd);
}

static const char *next_line(void)
{
    static char text[PIPE_BUF + 1];
    ssize_t n = recv(lines_fd, text, sizeof(text) - 1, MSG_DONTWAIT);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

START_TEST(shape)
{
    log_event(LOG_INFO, "sched", "compute ready", "ep", "ep-x", "none", (const char *)NULL, "ms", "71", NULL);
    ck_assert_str_eq(next_line(),
                     "2025-11-25T18:30:59.123Z info sched msg=\"compute ready\" ep=ep-x ms=71\n");
    log_set_request("r-1");
    log_event(LOG_ERROR, "api", "failed", NULL);
    ck_assert_str_eq(next_line(), "2025-11-25T18:30:59.123Z error api msg=failed req=r-1\n");
}
END_TEST

START_TEST(levels)
{
    log_event(LOG_DEBUG, "m", "quiet", NULL);
    ck_assert_str_eq(next_line(), "");
    log_set_level(LOG_DEBUG);
    log_event(LOG_DEBUG, "m", "loud", NULL);
    ck_assert_ptr_nonnull(strstr(next_line(), "debug m msg=loud"));
    log_set_level(LOG_ERROR);
    log_event(LOG_WARN, "m", "quiet", NULL);
    ck_assert_str_eq(next_line(), "");
}
END_TEST

static void check_value(const char *value, const char *shown)
{
    char want[256];
    const char *line;

    log_event(LOG_INFO, "m", "x", "k", value, NULL);
    line = next_line();
    snprintf(want, sizeof(want), " msg=x k=%s\n", shown);
    ck_assert_msg(strstr(line, want) != NULL, "%s not in %s", want, line);
}

START_TEST(quoting)
{
    check_value("plain-1/2.3", "plain-1/2.3");
    check_value("", "\"\"");
    check_value("a b", "\"a b\"");
    check_value("a=b", "\"a=b\"");
    check_value("say \"hi\"", "\"say \\\"hi\\\"\"");
    check_value("c:\\x", "\"c:\\\\x\"");
    check_value("one\ntwo\r\t", "\"one\\ntwo\\r\\t\"");
    check_value("\x1b[2J", "\"\\x1b[2J\"");
    check_value("\xff\xfe", "\"\\xff\\xfe\"");
    check_value("\xc2\x9b"
                "1m",
                "\"\\xc2\\x9b1m\"");
    check_value("gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"");
    check_value("\xc2", "\"\\xc2\"");
}
END_TEST

START_TEST(long_values_are_cut)
{
    char *text = xmalloc(100001);
    const char *line;

    memset(text, 'v', 100000);
    text[100000] = '\0';
    log_event(LOG_INFO, "m", "x", "a", text, "last", "1", NULL);
    line = next_line();
    ck_assert_ptr_nonnull(strstr(line, "vvv...\" last=1\n"));
    memset(text, '\n', 100000); /* every byte doubles: the line itself is the limit */
    log_event(LOG_INFO, "m", "x", "a", text, "b", text, "c", text, NULL);
    line = next_line();
    ck_assert_uint_eq(strlen(line), PIPE_BUF);
    ck_assert_int_eq(line[PIPE_BUF - 1], '\n');
    ck_assert_ptr_eq(strchr(line, '\n'), line + PIPE_BUF - 1);
    for (size_t i = 0; i + 1 < 99999; i += 2)
        memcpy(text + i, "\xc3\xbc", 2);
    text[99998] = '\0';
    log_event(LOG_INFO, "m", "x", "a", text, NULL);
    line = next_line();
    ck_assert(text_is_utf8(line, strlen(line)));
    free(text);
}
END_TEST

static void *talk(void *arg)
{
    log_set_request(arg);
    for (int i = 0; i < 20; i++)
        log_event(LOG_INFO, "m", "from a thread", NULL);
    return NULL;
}

START_TEST(request_is_per_thread)
{
    pthread_t threads[2];
    int a = 0, b = 0;
    const char *line;

    pthread_create(&threads[0], NULL, talk, "ra");
    pthread_create(&threads[1], NULL, talk, "rb");
    for (int i = 0; i < 40; i++) {
        static char text[PIPE_BUF + 1];
        ssize_t n = recv(lines_fd, text, PIPE_BUF, 0);

        ck_assert_int_gt(n, 0);
        text[n] = '\0';
        line = text;
        a += strstr(line, "req=ra\n") != NULL;
        b += strstr(line, "req=rb\n") != NULL;
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    ck_assert_int_eq(a, 20);
    ck_assert_int_eq(b, 20);
}
END_TEST

Suite *t_log_suite(void)
{
    Suite *s = suite_create("log");
    TCase *c = tcase_create("log");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, shape);
    tcase_add_test(c, levels);
    tcase_add_test(c, quoting);
    tcase_add_test(c, long_values_are_cut);
    tcase_add_test(c, request_is_per_thread);
    suite_add_tcase(s, c);
    return s;
}
