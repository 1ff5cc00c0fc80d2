/*
 * t_loop.c - the event loop: order, deletion inside callbacks, hangups, timers, signals, other threads
 */
#include "base/loop.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/clock.h"

Suite *t_loop_suite(void);

static struct loop *loop;
static struct err err;
static int calls;
static unsigned last_events;

static void setup(void)
{
    loop = loop_new(&err);
    ck_assert_ptr_nonnull(loop);
    calls = 0;
    last_events = 0;
}

static void teardown(void)
{
    loop_free(loop);
}

static void stop(void *arg)
{
    loop_stop(arg);
}

/* Runs the loop for some time at most. */
static void run_for(int64_t ms)
{
    struct loop_timer *t = loop_timer_new(loop, stop, loop);

    loop_timer_set(t, ms);
    loop_run(loop);
    loop_timer_del(t);
}

static void on_event(void *arg, int fd, unsigned events)
{
    char drop[64];

    (void)arg;
    calls++;
    last_events = events;
    if (events & LOOP_READ)
        (void)!read(fd, drop, sizeof(drop));
}

static void on_event_stop(void *arg, int fd, unsigned events)
{
    on_event(arg, fd, events);
    loop_stop(loop);
}

START_TEST(reading)
{
    int fds[2];
    struct loop_fd *f;

    ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
    f = loop_fd_add(loop, fds[0], LOOP_READ, on_event_stop, NULL);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    loop_run(loop);
    ck_assert_int_eq(calls, 1);
    ck_assert_uint_eq(last_events, LOOP_READ);
    run_for(20);
    ck_assert_int_eq(calls, 1); /* nothing there, nothing told */
    close(fds[1]);
    loop_run(loop);
    ck_assert_uint_eq(last_events, LOOP_READ | LOOP_HANGUP); /* a reader sees the end by reading */
    loop_fd_del(f);
    close(fds[0]);
}
END_TEST

START_TEST(a_file_cannot_be_watched)
{
    auto_fd fd = open("/proc/self/exe", O_RDONLY);

    ck_assert_ptr_null(loop_fd_add(loop, fd, LOOP_READ, on_event, NULL));
}
END_TEST

/* A peer that goes away must be noticed by who watches nothing, once, and without a spinning loop. */
START_TEST(hangup_while_nothing_is_watched)
{
    int fds[2];
    struct loop_fd *f;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    f = loop_fd_add(loop, fds[0], 0, on_event, NULL);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    run_for(20);
    ck_assert_int_eq(calls, 0); /* bytes alone are not asked for */
    shutdown(fds[1], SHUT_WR);
    run_for(20);
    ck_assert_int_eq(calls, 1);
    ck_assert_uint_eq(last_events, LOOP_HANGUP);
    close(fds[1]);
    run_for(20);
    ck_assert_int_le(calls, 2);
    loop_fd_set(f, LOOP_READ); /* what was sent before is still there */
    run_for(20);
    ck_assert_int_gt(calls, 2);
    ck_assert(last_events & LOOP_READ);
    loop_fd_del(f);
    close(fds[0]);
}
END_TEST

START_TEST(writing_and_switching)
{
    int fds[2];
    struct loop_fd *f;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    f = loop_fd_add(loop, fds[0], LOOP_WRITE, on_event_stop, NULL);
    loop_run(loop);
    ck_assert_uint_eq(last_events, LOOP_WRITE);
    loop_fd_set(f, LOOP_READ);
    run_for(20);
    ck_assert_int_eq(calls, 1);
    loop_fd_set(f, 0);
    loop_fd_set(f, LOOP_READ | LOOP_WRITE);
    loop_run(loop);
    ck_assert_int_eq(calls, 2);
    loop_fd_del(f);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static struct loop_fd *pair[2];

static void delete_both(void *arg, int fd, unsigned events)
{
    (void)arg;
    (void)fd;
    (void)events;
    calls++;
    loop_fd_del(pair[0]);
    loop_fd_del(pair[1]);
}

START_TEST(no_event_after_deletion)
{
    int fds[4];

    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(pipe(fds + 2), 0);
    pair[0] = loop_fd_add(loop, fds[0], LOOP_READ, delete_both, NULL);
    pair[1] = loop_fd_add(loop, fds[2], LOOP_READ, delete_both, NULL);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    ck_assert_int_eq(write(fds[3], "x", 1), 1); /* both ready in one turn */
    run_for(20);
    ck_assert_int_eq(calls, 1);
    loop_fd_del(NULL);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
}
END_TEST

static int order[8], n_order;

struct numbered {
    int n;
    struct loop_timer *t;
};

static void note(void *arg)
{
    order[n_order++] = ((struct numbered *)arg)->n;
}

START_TEST(timers_fire_in_order)
{
    struct numbered all[4];
    static const int64_t AFTER_MS[] = { 30, 10, 20, 10 };

    n_order = 0;
    for (int i = 0; i < 4; i++) {
        all[i] = (struct numbered){ .n = i };
        all[i].t = loop_timer_new(loop, note, &all[i]);
        ck_assert(!loop_timer_armed(all[i].t));
        loop_timer_set(all[i].t, AFTER_MS[i]);
        ck_assert(loop_timer_armed(all[i].t));
    }
    loop_timer_clear(all[2].t);
    run_for(60);
    ck_assert_int_eq(n_order, 3);
    ck_assert_int_eq(order[0], 1);
    ck_assert_int_eq(order[1], 3); /* equal times: as they were set */
    ck_assert_int_eq(order[2], 0);
    ck_assert(!loop_timer_armed(all[0].t));
    for (int i = 0; i < 4; i++)
        loop_timer_del(all[i].t);
    loop_timer_del(NULL);
}
END_TEST

START_TEST(a_timer_is_never_early)
{
    struct loop_timer *t = loop_timer_new(loop, stop, loop);

    for (int i = 0; i < 20; i++) {
        int64_t start = clock_mono_us();

        loop_timer_set(t, 3);
        loop_run(loop);
        ck_assert_int_ge(clock_mono_us() - start, 3000);
    }
    loop_timer_del(t);
}
END_TEST

struct repeated {
    int n, calls_seen, write_fd;
    struct loop_timer *t;
};

static void again(void *arg)
{
    struct repeated *r = arg;

    if (++r->n == 1)
        ck_assert_int_eq(write(r->write_fd, "x", 1), 1);
    if (r->n == 3)
        r->calls_seen = calls;
    if (r->n == 100)
        loop_stop(loop);
    loop_timer_set(r->t, 0);
}

/* A timer that sets itself to 0 takes turns with descriptors, also when no time passes at all. */
START_TEST(zero_is_the_next_turn)
{
    struct repeated r = { .n = 0 };
    struct loop_fd *f;
    int fds[2];

    clock_test_set(1000000, 0);
    ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
    f = loop_fd_add(loop, fds[0], LOOP_READ, on_event, NULL);
    r.write_fd = fds[1];
    r.t = loop_timer_new(loop, again, &r);
    loop_timer_set(r.t, 0);
    loop_run(loop);
    clock_test_reset();
    ck_assert_int_eq(r.n, 100);
    ck_assert_int_eq(r.calls_seen, 1);
    loop_timer_del(r.t);
    loop_fd_del(f);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static void count(void *arg)
{
    ++*(int *)arg;
}

/* The heap against a plain count: random setting, clearing and re-arming, with a clock that the test moves.
 */
START_TEST(many_timers)
{
    enum { N = 500 };
    struct loop_timer *t[N], *last;
    int fired[N] = { 0 };
    int64_t due[N];
    unsigned seed = 7;

    clock_test_set(1000000, 0);
    for (int i = 0; i < N; i++) {
        t[i] = loop_timer_new(loop, count, &fired[i]);
        due[i] = -1;
    }
    for (int i = 0; i < 5000; i++) {
        int k = rand_r(&seed) % N;
        int64_t ms = rand_r(&seed) % 1000;

        if (rand_r(&seed) % 4 == 0) {
            loop_timer_clear(t[k]);
            due[k] = -1;
        } else {
            loop_timer_set(t[k], ms);
            due[k] = ms;
        }
    }
    clock_test_set(1000000 + 500 * 1000, 0);
    last = loop_timer_new(loop, stop, loop);
    loop_timer_set(last, 0); /* due now, but set after all others: runs behind them */
    loop_run(loop);
    loop_timer_del(last);
    clock_test_reset();
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(fired[i], due[i] >= 0 && due[i] <= 500);
        ck_assert_int_eq(loop_timer_armed(t[i]), due[i] > 500);
        loop_timer_del(t[i]);
    }
}
END_TEST

static int got_signal;

static void on_signal(void *arg, int signo)
{
    got_signal = signo;
    loop_stop(arg);
}

START_TEST(signals)
{
    static const int SIGNALS[] = { SIGTERM, SIGHUP };

    loop_block_signals(SIGNALS, N_ELEMENTS(SIGNALS));
    ck_assert_int_eq(loop_signals(loop, SIGNALS, N_ELEMENTS(SIGNALS), on_signal, loop, &err), 0);
    raise(SIGHUP);
    loop_run(loop);
    ck_assert_int_eq(got_signal, SIGHUP);
    raise(SIGTERM);
    loop_run(loop);
    ck_assert_int_eq(got_signal, SIGTERM);
}
END_TEST

static void on_kick(void *arg)
{
    calls++;
    if (atomic_load((atomic_bool *)arg))
        loop_stop(loop);
}

static atomic_bool kicked_last;

static void *kicker(void *arg)
{
    for (int i = 0; i < 1000; i++)
        loop_kick(arg);
    atomic_store(&kicked_last, true);
    loop_kick(arg);
    return NULL;
}

START_TEST(kicks_from_another_thread)
{
    pthread_t t;

    loop_on_kick(loop, on_kick, &kicked_last);
    pthread_create(&t, NULL, kicker, loop);
    loop_run(loop);
    pthread_join(t, NULL);
    ck_assert_int_ge(calls, 1);
    ck_assert_int_le(calls, 1001);
}
END_TEST

static void *stopper(void *arg)
{
    loop_stop(arg);
    return NULL;
}

START_TEST(stop_before_run_is_not_lost)
{
    pthread_t t;

    pthread_create(&t, NULL, stopper, loop);
    pthread_join(t, NULL);
    loop_run(loop); /* returns */
    run_for(5);     /* and the loop can run again */
}
END_TEST

Suite *t_loop_suite(void)
{
    Suite *s = suite_create("loop");
    TCase *c = tcase_create("loop");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, reading);
    tcase_add_test(c, a_file_cannot_be_watched);
    tcase_add_test(c, hangup_while_nothing_is_watched);
    tcase_add_test(c, writing_and_switching);
    tcase_add_test(c, no_event_after_deletion);
    tcase_add_test(c, timers_fire_in_order);
    tcase_add_test(c, a_timer_is_never_early);
    tcase_add_test(c, zero_is_the_next_turn);
    tcase_add_test(c, many_timers);
    tcase_add_test(c, signals);
    tcase_add_test(c, kicks_from_another_thread);
    tcase_add_test(c, stop_before_run_is_not_lost);
    suite_add_tcase(s, c);
    return s;
}
