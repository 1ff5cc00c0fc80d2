/*
 * t_log.c - log lines: shape, quoting, limits, one write each
 */
#include "base/log.h"

#include <check.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>

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
    log_set_format(LOG_TEXT);
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

/* The next line as JSON; the caller's. */
static json_t *next_json(void)
{
    json_error_t why;
    const char *line = next_line();
    json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, &why);

    ck_assert_msg(json_is_object(o), "%s: %s", why.text, line);
    ck_assert_int_eq(line[strlen(line) - 1], '\n');
    return o;
}

static const char *member(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

START_TEST(json)
{
    static const char *const ODD[] = {
        "plain", "", "say \"hi\" c:\\x", "one\ntwo\r\t\x01\x7f", "gr\xc3\xbc\xc3\x9f", "{\"a\":[1]}"
    };
    json_t *o;

    log_set_format(LOG_JSON);
    log_set_request("r-1");
    log_event(LOG_WARN, "sched", "compute ready", "ep", "ep-x", "none", (const char *)NULL, NULL);
    ck_assert_str_eq(next_line(),
                     "{\"ts\":\"2025-11-25T18:30:59.123Z\",\"level\":\"warn\",\"module\":\"sched\","
                     "\"msg\":\"compute ready\",\"req\":\"r-1\",\"ep\":\"ep-x\"}\n");
    for (size_t i = 0; i < N_ELEMENTS(ODD); i++) {
        log_event(LOG_INFO, "m", ODD[i], "k", ODD[i], NULL);
        o = next_json();
        ck_assert_str_eq(member(o, "msg"), ODD[i]);
        ck_assert_str_eq(member(o, "k"), ODD[i]);
        json_decref(o);
    }
    log_event(LOG_INFO, "m", "x", "k", "a\xff", NULL);
    o = next_json();
    ck_assert_str_eq(member(o, "k"), "a\xef\xbf\xbd");
    json_decref(o);
}
END_TEST

/* Whatever is left out of it, a line is JSON. */
START_TEST(long_json_is_json)
{
    static const char FILL[] = { 'v', '\n', '"', '\xff' };
    char *text = xmalloc(5001);

    log_set_format(LOG_JSON);
    for (size_t f = 0; f < sizeof(FILL); f++) {
        for (size_t len = 0; len <= 5000; len += 7) {
            json_t *o;

            memset(text, FILL[f], len);
            text[len] = '\0';
            log_event(LOG_INFO, "m", "x", "a", text, "b", text, "c", text, "d", text, "last", "1", NULL);
            o = next_json();
            ck_assert_str_eq(member(o, "msg"), "x");
            ck_assert(member(o, "cut") != NULL || member(o, "d") != NULL);
            ck_assert(member(o, "last") != NULL || member(o, "cut") != NULL);
            json_decref(o);
        }
    }
    free(text);
}
END_TEST

START_TEST(passwords_are_not_shown)
{
    static const enum log_format FORMATS[] = { LOG_TEXT, LOG_JSON };
    char *text = xmalloc(3001);

    for (size_t i = 0; i < N_ELEMENTS(FORMATS); i++) {
        log_set_format(FORMATS[i]);
        log_event(LOG_INFO, "m", "from postgres://u:qqqq@h", "uri", "postgresql://bob:qqqq@h/db", "detail",
                  "password=qqqq", NULL);
        ck_assert_ptr_nonnull(strstr(next_line(), "bob:***@h"));
        for (int len = 0; len < 3000; len++) { /* the cut is nowhere inside */
            const char *line;

            snprintf(text, 3001, "%*s postgresql://bob:qqqqqq@host/db", len, "");
            log_event(LOG_INFO, "m", "x", "k", text, NULL);
            line = next_line();
            ck_assert_ptr_null(strstr(line, "qq"));
        }
    }
    free(text);
}
END_TEST

START_TEST(the_journal_is_told_the_priority)
{
    struct stat st;
    char stream[64];

    ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_find_journal();
    log_event(LOG_WARN, "m", "x", NULL);
    ck_assert_str_eq(next_line(), "<4>2025-11-25T18:30:59.123Z warn m msg=x\n");
    log_set_format(LOG_JSON);
    log_event(LOG_ERROR, "m", "x", NULL);
    ck_assert_int_eq(strncmp(next_line(), "<3>{\"ts\":", 9), 0);
    log_set_format(LOG_TEXT);
    for (const char *const *other = (const char *const[]){ "1:2", "x", "", NULL }; *other != NULL; other++) {
        setenv("JOURNAL_STREAM", *other, 1);
        log_find_journal();
        log_event(LOG_WARN, "m", "x", NULL);
        ck_assert_int_eq(next_line()[0], '2');
    }
    unsetenv("JOURNAL_STREAM");
    log_find_journal();
    log_event(LOG_WARN, "m", "x", NULL);
    ck_assert_int_eq(next_line()[0], '2');
}
END_TEST

START_TEST(names)
{
    enum log_level level;
    enum log_format format;

    ck_assert(log_level_named("warn", &level) && level == LOG_WARN);
    ck_assert(!log_level_named("loud", &level) && !log_level_named("", &level));
    ck_assert(log_format_named("json", &format) && format == LOG_JSON);
    ck_assert(!log_format_named("JSON", &format));
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
    tcase_add_test(c, json);
    tcase_add_test(c, long_json_is_json);
    tcase_add_test(c, passwords_are_not_shown);
    tcase_add_test(c, the_journal_is_told_the_priority);
    tcase_add_test(c, names);
    suite_add_tcase(s, c);
    return s;
}
