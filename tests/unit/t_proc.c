/*
 * t_proc.c - processes: what a child inherits, who it is, how it ends; programs with deadlines
 */
#include "base/proc.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fs.h"

Suite *t_proc_suite(void);

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

static const char **sh(const char *script)
{
    static const char *argv[4];

    argv[0] = "/bin/sh";
    argv[1] = "-c";
    argv[2] = script;
    argv[3] = NULL;
    return argv;
}

static int spawn_sh(const char *script, struct proc_identity *id)
{
    struct proc_spec spec = {
        .argv = sh(script), .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .keep_fd = -1
    };
    int pidfd = -1;

    ck_assert_msg(proc_spawn(&spec, id, &pidfd, &err) == 0, "%s", err.detail);
    return pidfd;
}

START_TEST(exit_statuses)
{
    struct proc_identity id;
    auto_fd a = spawn_sh("exit 7", &id);
    auto_fd b = spawn_sh("kill -9 $$", &id);
    int status;

    ck_assert(proc_wait_exit(a, 5000));
    status = proc_reap(a);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 7);
    ck_assert_int_eq(proc_reap(a), -1); /* only once */
    ck_assert(proc_wait_exit(b, 5000));
    status = proc_reap(b);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGKILL);
}
END_TEST

START_TEST(waiting_has_an_end)
{
    struct proc_identity id;
    auto_fd pidfd = spawn_sh("exec sleep 60", &id);
    int64_t start = clock_mono_ms();

    ck_assert(!proc_wait_exit(pidfd, 50));
    ck_assert_int_ge(clock_mono_ms() - start, 49);
    ck_assert(!proc_wait_exit(pidfd, 0));
    ck_assert_int_eq(proc_reap(pidfd), -1);
    ck_assert_int_eq(proc_signal(pidfd, SIGTERM), 0);
    ck_assert(proc_wait_exit(pidfd, 5000));
    ck_assert_int_eq(WTERMSIG(proc_reap(pidfd)), SIGTERM);
    ck_assert_int_eq(proc_signal(pidfd, SIGTERM), -1);
    ck_assert_int_eq(errno, ESRCH);
}
END_TEST

START_TEST(a_missing_program_is_an_error_at_once)
{
    static const char *const NOWHERE[] = { "/nowhere/at/all", NULL };
    static const char *const RELATIVE[] = { "sh", NULL };
    struct proc_spec spec = {
        .argv = NOWHERE, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .keep_fd = -1
    };
    int pidfd = -1;

    ck_assert_int_eq(proc_spawn(&spec, NULL, &pidfd, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.detail, "/nowhere/at/all: No such file"));
    spec.argv = RELATIVE;
    ck_assert_int_eq(proc_spawn(&spec, NULL, &pidfd, &err), -1);
    ck_assert_int_eq(pidfd, -1);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* and no child was left */
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

/* What the child finds: session, signals, descriptors, environment. */
START_TEST(a_clean_start)
{
    sigset_t all;
    uint64_t ignored;
    const char *out;
    int leak = open("/dev/zero", O_RDONLY); /* without CLOEXEC, on purpose */

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    setenv("SECRET_OF_PARENT", "x", 1);
    ck_assert_int_eq(dup2(leak, 200), 200);
    ck_assert_int_eq(
        proc_run(arena,
                 sh("ls /proc/self/fd | sort -n | tr '\\n' ' '; env | sort | cut -c1-5 | tr '\\n' ' ';"
                    "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\n\\t';"
                    "test $(cut -d' ' -f6 /proc/$$/stat) = $$ && echo leader"),
                 5000, &out, &err),
        0);
    /* 3 is ls's own directory */
    ck_assert_msg(strstr(out, "0 1 2 3 LANG= ") == out, "%s", out);
    ck_assert_ptr_null(strstr(out, "SECRE"));
    ck_assert_ptr_nonnull(strstr(out, "leader\n"));
    ck_assert_ptr_nonnull(strstr(out, "SigBlk:0000000000000000SigIgn:"));
    ignored = strtoull(strstr(out, "SigIgn:") + 7, NULL, 16);
    ck_assert_uint_eq(ignored & ~(UINT64_C(3) << 31),
                      0); /* 32 and 33 are the C library's own, ignored by its spawn */
}
END_TEST

/* Standard descriptors in any order and the kept one, also when their numbers overlap with those of the
 * child. */
START_TEST(descriptors_arrive)
{
    int in[2], out[2], keep, pidfd = -1;
    char path[] = "/tmp/t_proc.XXXXXX", text[64] = "";
    struct proc_spec spec;
    ssize_t n;

    keep = mkstemp(path);
    ck_assert_int_eq(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    ck_assert_int_eq(write(in[1], "hello\n", 6), 6);
    close(in[1]);
    /* the worst case: each sits where another one has to go */
    dup2(out[1], 0);
    dup2(keep, 1);
    dup2(in[0], 3);
    close(in[0]);
    spec = (struct proc_spec){ .argv = sh("cat; echo kept >&3; ls /proc/self/fd | wc -l"),
                               .stdin_fd = 3,
                               .stdout_fd = 0,
                               .stderr_fd = -1,
                               .keep_fd = 1 };
    ck_assert_msg(proc_spawn(&spec, NULL, &pidfd, &err) == 0, "%s", err.detail);
    ck_assert(proc_wait_exit(pidfd, 5000));
    ck_assert_int_eq(proc_reap(pidfd), 0);
    n = read(out[0], text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    ck_assert_str_eq(text, "hello\n5\n"); /* 0 1 2 3 and the directory itself */
    n = pread(keep, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    ck_assert_str_eq(text, "kept\n");
    close(pidfd);
    unlink(path);
}
END_TEST

START_TEST(a_kept_lock_is_held_by_the_child)
{
    char path[] = "/tmp/t_proc.XXXXXX";
    struct proc_spec spec = { .argv = sh("exec sleep 60"), .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
    int pidfd = -1, lock = -1, other = -1;

    close(mkstemp(path));
    ck_assert_int_eq(fs_lock(path, true, &lock, &err), 1);
    spec.keep_fd = lock;
    ck_assert_int_eq(proc_spawn(&spec, NULL, &pidfd, &err), 0);
    close(lock); /* ours goes; the child's copy of the same lock stays */
    ck_assert_int_eq(fs_lock(path, true, &other, &err), 0);
    proc_signal(pidfd, SIGKILL);
    ck_assert(proc_wait_exit(pidfd, 5000));
    ck_assert_int_eq(fs_lock(path, true, &other, &err), 1);
    close(other);
    close(pidfd);
    unlink(path);
}
END_TEST

START_TEST(identity_and_adoption)
{
    struct proc_identity id = { 0 }, other;
    auto_fd pidfd = spawn_sh("exec sleep 60", &id);
    auto_fd adopted = -1;

    ck_assert_int_gt(id.pid, 1);
    ck_assert_int_gt(id.start_time, 0);
    ck_assert_uint_eq(strlen(id.boot_id), 36);
    ck_assert_str_eq(id.boot_id, proc_boot_id());
    ck_assert_int_eq(proc_adopt(&id, &adopted, &err), 1);
    ck_assert(!proc_wait_exit(adopted, 0));
    other = id;
    other.start_time++; /* the pid was given to another process */
    ck_assert_int_eq(proc_adopt(&other, &(int){ -1 }, &err), 0);
    other = id;
    other.boot_id[0] = other.boot_id[0] == 'a' ? 'b' : 'a'; /* the machine was restarted */
    ck_assert_int_eq(proc_adopt(&other, &(int){ -1 }, &err), 0);
    ck_assert_int_eq(proc_adopt(&(struct proc_identity){ 0 }, &(int){ -1 }, &err), 0);
    proc_signal(pidfd, SIGKILL);
    ck_assert(proc_wait_exit(adopted, 5000));
    ck_assert_int_eq(proc_adopt(&id, &(int){ -1 }, &err), 0); /* a zombie is not alive */
    proc_reap(pidfd);
    ck_assert_int_eq(proc_adopt(&id, &(int){ -1 }, &err), 0);
}
END_TEST

START_TEST(not_our_child)
{
    auto_fd pidfd = -1;
    char text[32] = "";
    struct proc_identity id = { 0 };
    int fds[2];

    /* a grandchild, whose start time is read as an adopter would have it recorded */
    ck_assert_int_eq(pipe(fds), 0);
    {
        struct proc_spec spec = { .argv = sh("sleep 60 >/dev/null & echo $!; cut -d' ' -f22 /proc/$!/stat"),
                                  .stdin_fd = -1,
                                  .stdout_fd = fds[1],
                                  .stderr_fd = -1,
                                  .keep_fd = -1 };
        auto_fd parent = -1;

        ck_assert_int_eq(proc_spawn(&spec, NULL, &parent, &err), 0);
        ck_assert(proc_wait_exit(parent, 5000));
        proc_reap(parent);
    }
    ck_assert_int_gt(read(fds[0], text, sizeof(text) - 1), 0);
    ck_assert_int_eq(sscanf(text, "%" SCNd64 "%" SCNd64, &id.pid, &id.start_time), 2);
    snprintf(id.boot_id, sizeof(id.boot_id), "%s", proc_boot_id());
    ck_assert_int_eq(proc_adopt(&id, &pidfd, &err), 1);
    ck_assert_int_eq(proc_signal(pidfd, SIGKILL), 0);
    ck_assert(proc_wait_exit(pidfd, 5000)); /* watched, though its status is not ours to take */
    ck_assert_int_eq(proc_reap(pidfd), -1);
}
END_TEST

/* A process may choose its name; that must not move the fields of its stat line. */
START_TEST(a_hostile_process_name)
{
    struct proc_identity id = { 0 };
    auto_fd pidfd =
        spawn_sh("exec 4</dev/null; printf 'a) R 1 1' > /proc/$$/comm; read x < /proc/$$/comm; exec 0<&-;"
                 "while :; do :; done",
                 &id);
    auto_fd adopted = -1;

    ck_assert(!proc_wait_exit(pidfd, 100));
    ck_assert_int_eq(proc_adopt(&id, &adopted, &err), 1);
    proc_signal(pidfd, SIGKILL);
    ck_assert(proc_wait_exit(pidfd, 5000));
    proc_reap(pidfd);
}
END_TEST

START_TEST(running_to_the_end)
{
    const char *out = NULL;

    ck_assert_int_eq(proc_run(arena, sh("echo one; echo two >&2"), 5000, &out, &err), 0);
    ck_assert_str_eq(out, "one\ntwo\n");
    ck_assert_int_eq(proc_run(arena, sh("true"), 5000, NULL, &err), 0);
    ck_assert_int_eq(proc_run(arena, sh("echo because >&2; exit 3"), 5000, &out, &err), -1);
    ck_assert_int_eq(err.code, ERR_INTERNAL);
    ck_assert_str_eq(err.detail, "/bin/sh: exit status 3: because");
    ck_assert_str_eq(out, "because\n");
    ck_assert_int_eq(proc_run(arena, sh("kill -TERM $$"), 5000, NULL, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.detail, "signal 15"));
}
END_TEST

START_TEST(much_output_keeps_its_tail)
{
    const char *out = NULL;

    ck_assert_int_eq(proc_run(arena, sh("seq 1 200000; echo the end"), 20000, &out, &err), 0);
    ck_assert_uint_eq(strlen(out), 65536);
    ck_assert_str_eq(out + 65536 - 15, "200000\nthe end\n");
    ck_assert_int_eq(proc_run(arena, sh("printf 'a\\033[2Jb\\377\\000c'"), 5000, &out, &err), 0);
    ck_assert_str_eq(out, "a?[2Jb??c");
}
END_TEST

START_TEST(deadline)
{
    int64_t start = clock_mono_ms();

    /* the child of the child holds the pipe, and goes too */
    ck_assert_int_eq(proc_run(arena, sh("sleep 61 & sleep 62"), 100, NULL, &err), -1);
    ck_assert_int_eq(err.code, ERR_TIMEOUT);
    ck_assert_int_lt(clock_mono_ms() - start, 3000);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(a_daemon_that_keeps_the_pipe_is_not_waited_for)
{
    const char *out = NULL;
    int64_t start = clock_mono_ms(), pid = 0;

    ck_assert_int_eq(proc_run(arena, sh("sleep 60 & echo $!"), 10000, &out, &err), 0);
    ck_assert_int_lt(clock_mono_ms() - start, 5000);
    ck_assert_int_eq(sscanf(out, "%" SCNd64, &pid), 1);
    kill((pid_t)pid, SIGKILL);
}
END_TEST

START_TEST(the_whole_output)
{
    auto_buf out = { 0 };

    ck_assert_int_eq(
        proc_output(sh("seq 1 200000; printf 'a\\000\\377'; echo no >&2"), 20000, 2 << 20, NULL, &out, &err),
        0);
    ck_assert_uint_eq(out.len, 1288895 + 3);
    ck_assert_int_eq(memcmp(out.data, "1\n2\n3\n", 6), 0);
    ck_assert_int_eq(memcmp(out.data + 1288895, "a\0\377", 3), 0);
    buf_fini(&out);
    ck_assert_int_eq(proc_output(sh("printf 1234"), 5000, 4, NULL, &out, &err), 0);
    ck_assert_uint_eq(out.len, 4);
    buf_fini(&out);
    ck_assert_int_eq(proc_output(sh("true"), 5000, 4, NULL, &out, &err), 0);
    ck_assert_uint_eq(out.len, 0);
    ck_assert_int_eq(proc_output(sh("echo yes; echo because >&2; exit 3"), 5000, 100, NULL, &out, &err), -1);
    ck_assert_str_eq(err.detail, "/bin/sh: exit status 3: because");
    ck_assert_uint_eq(out.len, 0);
    ck_assert_int_eq(proc_output(sh("(echo because; seq 1 1000) >&2; exit 3"), 5000, 100, NULL, &out, &err),
                     -1);
    ck_assert_ptr_nonnull(strstr(err.detail, "exit status 3: because\n1\n2\n"));
}
END_TEST

START_TEST(output_has_limits)
{
    auto_buf out = { 0 };
    atomic_bool stop = true;
    int64_t start = clock_mono_ms();

    ck_assert_int_eq(proc_output(sh("printf 12345"), 5000, 4, NULL, &out, &err), -1);
    ck_assert_int_eq(err.code, ERR_TOO_LARGE);
    ck_assert_int_eq(proc_output(sh("yes; sleep 60"), 50000, 1 << 20, NULL, &out, &err), -1);
    ck_assert_int_eq(err.code, ERR_TOO_LARGE);
    ck_assert_int_eq(proc_output(sh("sleep 60"), 100, 4, NULL, &out, &err), -1);
    ck_assert_int_eq(err.code, ERR_TIMEOUT);
    ck_assert_int_eq(proc_output(sh("sleep 60"), 50000, 4, &stop, &out, &err), -1);
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    ck_assert_int_lt(clock_mono_ms() - start, 20000);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

static void *run_many(void *arg)
{
    auto_arena *a = arena_new(0);
    struct err e = ERR_INIT;
    static const char *const TRUE[] = { "/bin/true", NULL }, *const FALSE[] = { "/bin/false", NULL };
    intptr_t wrong = 0;

    (void)arg;
    for (int i = 0; i < 50; i++) {
        wrong += proc_run(a, TRUE, 10000, NULL, &e) != 0;
        wrong += proc_run(a, FALSE, 10000, NULL, &e) != -1 || strstr(e.detail, "exit status 1") == NULL;
    }
    return (void *)wrong;
}

START_TEST(threads_do_not_take_each_others_status)
{
    pthread_t t[4];
    void *wrong;

    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, run_many, NULL);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], &wrong);
        ck_assert_int_eq((intptr_t)wrong, 0);
    }
}
END_TEST

START_TEST(holders)
{
    char path[] = "/tmp/t_proc.XXXXXX";
    auto_fd own = mkstemp(path);
    struct proc_identity id;
    auto_free char *script = xasprintf("exec sleep 60 <%s", path);
    auto_fd pidfd = spawn_sh(script, &id);
    int64_t *pids;
    size_t n = 0;

    for (int i = 0; i < 100 && n == 0; i++) { /* the shell may not have opened it yet */
        ck_assert_int_eq(proc_holders(arena, path, &pids, &n, &err), 0);
        poll(NULL, 0, 10);
    }
    ck_assert_int_ge(own, 0); /* open in this process too, which is not named */
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(pids[0], id.pid);
    proc_signal(pidfd, SIGKILL);
    ck_assert(proc_wait_exit(pidfd, 5000));
    proc_reap(pidfd);
    ck_assert_int_eq(proc_holders(arena, path, &pids, &n, &err), 0);
    ck_assert_uint_eq(n, 0);
    unlink(path);
    ck_assert_int_eq(proc_holders(arena, path, &pids, &n, &err), 0);
    ck_assert_uint_eq(n, 0);
}
END_TEST

Suite *t_proc_suite(void)
{
    Suite *s = suite_create("proc");
    TCase *c = tcase_create("proc");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, exit_statuses);
    tcase_add_test(c, waiting_has_an_end);
    tcase_add_test(c, a_missing_program_is_an_error_at_once);
    tcase_add_test(c, a_clean_start);
    tcase_add_test(c, descriptors_arrive);
    tcase_add_test(c, a_kept_lock_is_held_by_the_child);
    tcase_add_test(c, identity_and_adoption);
    tcase_add_test(c, not_our_child);
    tcase_add_test(c, a_hostile_process_name);
    tcase_add_test(c, running_to_the_end);
    tcase_add_test(c, much_output_keeps_its_tail);
    tcase_add_test(c, the_whole_output);
    tcase_add_test(c, output_has_limits);
    tcase_add_test(c, deadline);
    tcase_add_test(c, a_daemon_that_keeps_the_pipe_is_not_waited_for);
    tcase_add_test(c, threads_do_not_take_each_others_status);
    tcase_add_test(c, holders);
    suite_add_tcase(s, c);
    return s;
}
