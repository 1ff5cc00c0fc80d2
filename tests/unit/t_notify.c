/*
 * t_notify.c - what a service manager hears
 */
#include "base/notify.h"

#include <check.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"

Suite *t_notify_suite(void);

static char path[64], text[512];
static int manager;

/* name as in NOTIFY_SOCKET. */
static void listen_at(const char *name)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    size_t len = strlen(name);

    memcpy(at.sun_path, name, len);
    if (name[0] == '@')
        at.sun_path[0] = '\0';
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(manager, (struct sockaddr *)&at,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] == '/'))),
                     0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static void setup(void)
{
    snprintf(path, sizeof(path), "/tmp/t_notify.%d", (int)getpid());
    unlink(path);
    listen_at(path);
    clock_test_set(1234567, 0);
}

static void teardown(void)
{
    notify_close();
    fd_close(&manager);
    unlink(path);
    clock_test_reset();
}

static const char *heard(void)
{
    ssize_t n = recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

START_TEST(messages)
{
    notify_open();
    notify_status("opening");
    ck_assert_str_eq(heard(), "STATUS=opening\n");
    notify_reloading();
    notify_reloaded();
    ck_assert_str_eq(heard(), "");
    notify_ready("serving");
    ck_assert_str_eq(heard(), "READY=1\nSTATUS=serving\n");
    notify_reloading();
    ck_assert_str_eq(heard(), "RELOADING=1\nMONOTONIC_USEC=1234567\n");
    notify_reloaded();
    ck_assert_str_eq(heard(), "READY=1\n");
    notify_stopping("ending");
    ck_assert_str_eq(heard(), "STOPPING=1\nSTATUS=ending\n");
    notify_alive();
    ck_assert_str_eq(heard(), "WATCHDOG=1\n");
    ck_assert_str_eq(heard(), "");
}
END_TEST

START_TEST(a_name_without_a_file)
{
    fd_close(&manager);
    listen_at("@mere/t_notify");
    notify_open();
    notify_ready("x");
    ck_assert_str_eq(heard(), "READY=1\nSTATUS=x\n");
}
END_TEST

START_TEST(the_environment_is_for_us_alone)
{
    setenv("WATCHDOG_USEC", "3000000", 1);
    notify_open();
    ck_assert_int_eq(notify_alive_ms(), 1500);
    ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
    ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
    ck_assert_ptr_null(getenv("WATCHDOG_PID"));
}
END_TEST

static int64_t alive_ms(const char *usec, const char *pid)
{
    setenv("NOTIFY_SOCKET", path, 1);
    setenv("WATCHDOG_USEC", usec, 1);
    if (pid != NULL)
        setenv("WATCHDOG_PID", pid, 1);
    notify_open();
    return notify_alive_ms();
}

START_TEST(a_watchdog_that_is_not_ours)
{
    char mine[24];

    snprintf(mine, sizeof(mine), "%d", (int)getpid());
    ck_assert_int_eq(alive_ms("10000000", mine), 5000);
    ck_assert_int_eq(alive_ms("10000000", "1"), 0);
    ck_assert_int_eq(alive_ms("10000000", "me"), 0);
    ck_assert_int_eq(alive_ms("0", NULL), 0);
    ck_assert_int_eq(alive_ms("soon", NULL), 0);
    ck_assert_int_eq(alive_ms("99999999999999999999", NULL), 0);
    ck_assert_int_eq(alive_ms("1", NULL), 1);
}
END_TEST

/* Nobody there, a name that is none, one that is too long: nothing is told, nothing is waited for. */
START_TEST(nobody_listens)
{
    char longer[200];
    const char *const names[] = { "/nonexistent/socket", "relative", "", "@", "/", longer };

    memset(longer, 'x', sizeof(longer));
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    for (size_t i = 0; i < N_ELEMENTS(names); i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        notify_open();
        notify_ready("x");
        notify_alive();
        ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
    }
    notify_open();
    notify_ready("x");
    ck_assert_int_eq(notify_alive_ms(), 0);
    ck_assert_str_eq(heard(), "");
}
END_TEST

/* A manager that reads nothing: alive is not waited for, however full its queue. */
START_TEST(a_full_queue_is_not_waited_for)
{
    int64_t begun;

    clock_test_reset();
    begun = clock_mono_ms();
    notify_open();
    for (int i = 0; i < 10000; i++)
        notify_alive();
    ck_assert_int_lt(clock_mono_ms() - begun, 1500);
}
END_TEST

Suite *t_notify_suite(void)
{
    Suite *s = suite_create("notify");
    TCase *c = tcase_create("notify");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, messages);
    tcase_add_test(c, a_name_without_a_file);
    tcase_add_test(c, the_environment_is_for_us_alone);
    tcase_add_test(c, a_watchdog_that_is_not_ours);
    tcase_add_test(c, nobody_listens);
    tcase_add_test(c, a_full_queue_is_not_waited_for);
    suite_add_tcase(s, c);
    return s;
}
