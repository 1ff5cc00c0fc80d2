/*
 * t_exec.c - mere-exec, the program beside this one: refusals, and as root everything it takes away
 */
#include "base/proc.h"

#include <check.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fs.h"

Suite *t_exec_suite(void);

static struct arena *arena;
static struct err err;
static char helper[512], dir[64];

static void setup(void)
{
    ssize_t n = readlink("/proc/self/exe", helper, sizeof(helper) - 32);

    ck_assert_int_gt(n, 0);
    helper[n] = '\0';
    snprintf(strrchr(helper, '/'), 32, "/mere-exec");
    ck_assert_msg(access(helper, X_OK) == 0, "%s is not built", helper);
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
    snprintf(dir, sizeof(dir), "/tmp/t_exec.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chmod(dir, 0755), 0);
}

static void teardown(void)
{
    ck_assert_msg(fs_remove_tree(dir, false, &err) == 0, "%s", err.detail);
    arena_free(arena);
}

static const char *in(const char *name)
{
    return arena_printf(arena, "%s/%s", dir, name);
}

/* Runs mere-exec with these words; its exit status.  *ret_out: what came out. */
static int run(const char *const *words, const char **ret_out)
{
    const char *argv[32] = { helper };
    int rc, status = 0;

    for (int i = 0; words[i] != NULL; i++)
        argv[i + 1] = words[i];
    rc = proc_run(arena, argv, 10000, ret_out, &err);
    if (rc < 0)
        ck_assert_msg(sscanf(strstr(err.detail, "exit status "), "exit status %d", &status) == 1, "%s",
                      err.detail);
    return status;
}

#define RUN(ret_out, ...) run((const char *const[]){ __VA_ARGS__, NULL }, ret_out)
#define AS_NOBODY         "--uid", "65534", "--gid", "65534"

static bool need_root(const char *test)
{
    if (geteuid() == 0)
        return true;
    printf("SKIP exec %s: needs root\n", test);
    return false;
}

START_TEST(bad_arguments)
{
    const char *out;

    ck_assert_int_eq(RUN(&out, "--frobnicate", "x", "--", "/bin/true"), 126);
    ck_assert_str_eq(out, "mere-exec: option --frobnicate is unknown or lacks a value\n");
    ck_assert_int_eq(RUN(&out, "--uid", "x", "--", "/bin/true"), 126);
    ck_assert_int_eq(RUN(&out, "--uid", "4294967295", "--gid", "1", "--", "/bin/true"),
                     126); /* "leave as it is" */
    ck_assert_int_eq(RUN(&out, "--uid", "-1", "--gid", "1", "--", "/bin/true"), 126);
    ck_assert_int_eq(RUN(&out, "--uid", "65534", "--", "/bin/true"), 126);
    ck_assert_int_eq(RUN(&out, "--lock-fd", "2", "--", "/bin/true"), 126);
    ck_assert_int_eq(RUN(&out, "--bind", "/tmp", "--"), 126);
    ck_assert_int_eq(RUN(&out, AS_NOBODY), 126);
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--"), 126);
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--", "true"), 126);
    ck_assert_ptr_nonnull(strstr(out, "absolute path"));
}
END_TEST

START_TEST(never_as_root)
{
    const char *out;

    if (!need_root("never_as_root"))
        return;
    ck_assert_int_eq(RUN(&out, "--", "/bin/true"), 126);
    ck_assert_ptr_nonnull(strstr(out, "refused to run /bin/true as root"));
    ck_assert_int_eq(RUN(&out, "--uid", "0", "--gid", "0", "--", "/bin/true"), 126);
}
END_TEST

START_TEST(privileges_are_gone)
{
    static const char *const LINES[] = { "Uid:\t65534\t65534\t65534\t65534\n",
                                         "Gid:\t65534\t65534\t65534\t65534\n",
                                         "Groups:\t \n",
                                         "CapInh:\t0000000000000000\n",
                                         "CapPrm:\t0000000000000000\n",
                                         "CapEff:\t0000000000000000\n",
                                         "CapBnd:\t0000000000000000\n",
                                         "CapAmb:\t0000000000000000\n",
                                         "NoNewPrivs:\t1\n",
                                         "Umask:\t0077\n" };
    const char *out;

    if (!need_root("privileges_are_gone"))
        return;
    ck_assert_int_eq(setgroups(2, (gid_t[]){ 4, 27 }), 0);
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--", "/bin/cat", "/proc/self/status"), 0);
    for (size_t i = 0; i < N_ELEMENTS(LINES); i++)
        ck_assert_msg(strstr(out, LINES[i]) != NULL, "%s not in\n%s", LINES[i], out);
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--", "/bin/sh", "-c", "cat /etc/shadow"), 1);
}
END_TEST

START_TEST(program_and_status)
{
    const char *out;

    if (!need_root("program_and_status"))
        return;
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--", "/bin/sh", "-c", "echo $LANG $1; exit 9", "sh", "--uid"), 9);
    ck_assert_str_eq(out, "C.UTF-8 --uid\n");
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--", "/nowhere/at/all"), 127);
    ck_assert_str_eq(out, "mere-exec: execute /nowhere/at/all: No such file or directory\n");
}
END_TEST

START_TEST(failing_steps_stop_it)
{
    const char *out;

    if (!need_root("failing_steps_stop_it"))
        return;
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--bind", "/nowhere", "/tmp", "--", "/bin/echo", "ran"), 126);
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--lock-fd", "77", "--", "/bin/echo", "ran"), 126);
    ck_assert_ptr_null(strstr(out, "ran\n"));
}
END_TEST

/* What lies under a directory nobody else may enter is reachable by the program, and nothing shows outside.
 */
START_TEST(binds)
{
    const char *out, *view, *secret;
    char *mounts;

    if (!need_root("binds"))
        return;
    ck_assert_int_eq(mkdir(in("home"), 0700) | mkdir(in("home/data"), 0755) | mkdir(in("view"), 0755) |
                         mkdir(in("view2"), 0755),
                     0);
    secret = in("home/data/f");
    view = in("view");
    ck_assert_int_eq(fs_write_plain(secret, "reached\n", 8, 0644, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--", "/bin/cat", secret), 1);
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--bind", in("home/data"), view, "--bind", in("home/data"),
                         in("view2"), "--", "/bin/sh", "-c",
                         "cd $1 && cat f ../view2/f; grep t_exec /proc/self/mountinfo | cut -d' ' -f6", "sh",
                         view),
                     0);
    ck_assert_int_eq(strncmp(out, "reached\nreached\n", 16), 0);
    for (const char *p = out + 16; *p != '\0'; p = strchr(p, '\n') + 1)
        ck_assert_msg(strstr(p, "nosuid,nodev") != NULL, "%s", p);
    ck_assert_int_eq(fs_read(arena, "/proc/self/mountinfo", 1000000, &mounts, NULL, &err), 0);
    ck_assert_ptr_null(strstr(mounts, view));
    ck_assert_int_eq(rmdir(view), 0); /* neither busy nor filled */
}
END_TEST

START_TEST(binds_that_cannot_be_written)
{
    const char *out;

    if (!need_root("binds_that_cannot_be_written"))
        return;
    ck_assert_int_eq(mkdir(in("data"), 0777) | mkdir(in("view"), 0755), 0);
    ck_assert_int_eq(chmod(in("data"), 0777), 0);
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--bind-ro", in("data"), in("view"), "--", "/bin/sh", "-c",
                         "echo x >$0/f", in("view")),
                     2);
    ck_assert_msg(strstr(out, "Read-only") != NULL, "%s", out);
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--bind", in("data"), in("view"), "--", "/bin/sh", "-c",
                         "echo x >$0/f", in("view")),
                     0);
}
END_TEST

START_TEST(the_namespace_ends_with_the_process)
{
    const char *argv[] = { helper, AS_NOBODY, "--bind", in("a"), in("b"), "--", "/bin/sleep", "60", NULL };
    struct proc_spec spec = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .keep_fd = -1 };
    char ours[64] = "", theirs[64] = "";
    struct proc_identity id;
    auto_fd pidfd = -1;
    const char *link;

    if (!need_root("the_namespace_ends_with_the_process"))
        return;
    ck_assert_int_eq(mkdir(in("a"), 0755) | mkdir(in("b"), 0755), 0);
    ck_assert_int_eq(proc_spawn(&spec, &id, &pidfd, &err), 0);
    link = arena_printf(arena, "/proc/%lld/ns/mnt", (long long)id.pid);
    ck_assert_int_gt(readlink("/proc/self/ns/mnt", ours, sizeof(ours) - 1), 0);
    for (int i = 0; i < 500; i++) {
        ck_assert_int_gt(readlink(link, theirs, sizeof(theirs) - 1), 0);
        if (strcmp(ours, theirs) != 0)
            break;
        ck_assert(!proc_wait_exit(pidfd, 10));
    }
    ck_assert_str_ne(ours, theirs);
    proc_signal(pidfd, SIGKILL);
    ck_assert(proc_wait_exit(pidfd, 5000));
    proc_reap(pidfd);
    ck_assert_int_lt(readlink(link, theirs, sizeof(theirs) - 1), 0);
    ck_assert_int_eq(rmdir(in("b")), 0);
}
END_TEST

/* The one descriptor that survives, and its lock: held by the program and by what the program started. */
START_TEST(the_lock_is_held_to_the_last_process)
{
    const char *argv[] = { helper,      AS_NOBODY,
                           "--lock-fd", "3",
                           "--",        "/bin/sh",
                           "-c",        "ls /proc/self/fd | tr '\\n' ' '; sleep 60 & echo $!; exec sleep 61",
                           NULL };
    struct proc_spec spec = { .argv = argv, .stdin_fd = -1, .stderr_fd = -1 };
    int lock = -1, other = -1, fds[2], descriptors[5], child;
    auto_fd pidfd = -1;
    char text[128] = "";

    if (!need_root("the_lock_is_held_to_the_last_process"))
        return;
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_eq(fs_lock(in("lock"), true, &lock, &err), 1);
    spec.stdout_fd = fds[1];
    spec.keep_fd = lock;
    ck_assert_int_eq(proc_spawn(&spec, NULL, &pidfd, &err), 0);
    close(lock);
    for (size_t n = 0; strchr(text, '\n') == NULL;) {
        ssize_t got = read(fds[0], text + n, sizeof(text) - 1 - n);

        ck_assert_int_gt(got, 0);
        n += (size_t)got;
    }
    ck_assert_int_eq(sscanf(text, "%d %d %d %d %d %d", &descriptors[0], &descriptors[1], &descriptors[2],
                            &descriptors[3], &descriptors[4], &child),
                     6);
    ck_assert_int_eq(descriptors[3], 3);
    ck_assert_int_eq(descriptors[4], 4); /* the directory that ls reads */
    ck_assert_int_eq(fs_lock(in("lock"), true, &other, &err), 0);
    proc_signal(pidfd, SIGKILL);
    ck_assert(proc_wait_exit(pidfd, 5000));
    proc_reap(pidfd);
    ck_assert_int_eq(fs_lock(in("lock"), true, &other, &err), 0); /* an orphan still has it */
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    for (int i = 0; i < 500 && fs_lock(in("lock"), true, &other, &err) == 0; i++)
        poll(NULL, 0, 10);
    ck_assert_int_ge(other, 0); /* free with the last of them */
    close(fds[0]);
    close(fds[1]);
    fd_close(&other);
}
END_TEST

/* Started by somebody who leaks descriptors: none but the lock reaches the program. */
static void check_only(const char *const *argv, const char *want)
{
    int fds[2], status;
    char text[128] = "";
    ssize_t n;
    pid_t pid;

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], 1);
        for (int fd = 3; fd < 20; fd++)
            dup2(0, fd);
        dup2(0, 500);
        execv(helper, (char *const *)argv);
        _exit(99);
    }
    close(fds[1]);
    n = read(fds[0], text, sizeof(text) - 1);
    ck_assert_int_gt(n, 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_str_eq(text, want);
    close(fds[0]);
}

START_TEST(leaked_descriptors_are_closed)
{
    const char *const plain[] = {
        helper, AS_NOBODY, "--", "/bin/sh", "-c", "echo $(ls /proc/self/fd)", NULL
    };
    const char *const lock[] = { helper, AS_NOBODY, "--lock-fd", "9",
                                 "--",   "/bin/sh", "-c",        "echo $(ls /proc/self/fd)",
                                 NULL };

    if (!need_root("leaked_descriptors_are_closed"))
        return;
    check_only(plain, "0 1 2 3\n"); /* 3 is the directory that ls reads */
    check_only(lock, "0 1 2 3 9\n");
}
END_TEST

/* --- file systems on loop devices, in a mount namespace that ends with the test --- */

static bool need_loops(const char *test)
{
    if (geteuid() == 0 && access("/dev/loop-control", F_OK) == 0 && access("/usr/sbin/mkfs.btrfs", X_OK) == 0)
        return true;
    printf("SKIP exec %s: needs root, loop devices and /usr/sbin/mkfs.btrfs\n", test);
    return false;
}

static void own_mounts(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
}

static void mount_btrfs(const char *at)
{
    const char *file = arena_printf(arena, "%s.img", at);
    const char *mkfs[] = { "/usr/sbin/mkfs.btrfs", "-q", "-K", file, NULL };
    const char *mnt[] = { "/usr/bin/mount", "-o", "loop", file, at, NULL };

    ck_assert_int_eq(fs_write_plain(file, "", 0, 0600, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(truncate(file, 120 << 20), 0);
    ck_assert_msg(proc_run(arena, mkfs, 30000, NULL, &err) == 0, "%s", err.detail);
    ck_assert_int_eq(mkdir(at, 0755), 0);
    ck_assert_msg(proc_run(arena, mnt, 30000, NULL, &err) == 0, "%s", err.detail);
    ck_assert_int_eq(chmod(at, 0755), 0);
}

static bool names_mount(const char *mounts, const char *path)
{
    return strstr(mounts, arena_printf(arena, " %s ", path)) != NULL;
}

/* Of what is on loop devices, it leaves the disk files of servers and nothing else. */
START_TEST(disk_files_are_left)
{
    const char *const places[] = { in("volumes"), in("kept"), in("kept/volumes") }, *out;

    if (!need_loops("disk_files_are_left"))
        return;
    own_mounts();
    for (size_t i = 0; i < N_ELEMENTS(places); i++)
        mount_btrfs(places[i]);
    ck_assert_int_eq(
        mkdir(in("volumes/v"), 0755) | mkdir(in("kept/volumes/v"), 0755) | mkdir(in("view"), 0755), 0);
    ck_assert_int_eq(fs_write_plain(in("volumes/v/f"), "here\n", 5, 0644, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--bind", in("volumes/v"), in("view"), "--", "/bin/sh", "-c",
                         "cat $1/f /proc/self/mounts", "sh", in("view")),
                     0);
    ck_assert_int_eq(strncmp(out, "here\n", 5), 0);
    ck_assert(names_mount(out, in("view")));
    ck_assert(names_mount(out, in("kept")));
    ck_assert(!names_mount(out, in("volumes")));
    ck_assert(!names_mount(out, in("kept/volumes")));
    /* one that the program needs stays, whatever it is */
    ck_assert_int_eq(RUN(&out, AS_NOBODY, "--bind", in("volumes/v"), in("kept/volumes/v"), "--", "/bin/sh",
                         "-c", "cat $1/f /proc/self/mounts", "sh", in("kept/volumes/v")),
                     0);
    ck_assert_int_eq(strncmp(out, "here\n", 5), 0);
    ck_assert(names_mount(out, in("kept/volumes")));
    ck_assert(!names_mount(out, in("volumes")));
    for (size_t i = N_ELEMENTS(places); i-- > 0;)
        ck_assert_int_eq(umount2(places[i], MNT_DETACH), 0);
}
END_TEST

/* A small system in a file: what a container or a live system has for its root. */
static void enter_root_on_loop(const char *root)
{
    static const char *const SHARED[] = { "/usr", "/dev", "/proc" }, *const LINKS[] = { "bin", "lib",
                                                                                        "lib64" };

    mount_btrfs(root);
    for (size_t i = 0; i < N_ELEMENTS(SHARED); i++) {
        const char *at = arena_printf(arena, "%s%s", root, SHARED[i]);

        ck_assert_int_eq(mkdir(at, 0755), 0);
        ck_assert_int_eq(mount(SHARED[i], at, NULL, MS_BIND | MS_REC, NULL), 0);
    }
    for (size_t i = 0; i < N_ELEMENTS(LINKS); i++)
        ck_assert_int_eq(
            symlink(arena_printf(arena, "usr/%s", LINKS[i]), arena_printf(arena, "%s/%s", root, LINKS[i])),
            0);
    ck_assert_int_eq(
        fs_copy_sparse(helper, arena_printf(arena, "%s/mere-exec", root), 0755, (uid_t)-1, (gid_t)-1, &err),
        0);
    ck_assert_int_eq(chdir(root), 0);
    ck_assert_int_eq(mkdir("a", 0755) | mkdir("b", 0755), 0);
    ck_assert_int_eq(fs_write_plain("a/f", "here\n", 5, 0644, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(syscall(SYS_pivot_root, ".", "."), 0);
    ck_assert_int_eq(umount2(".", MNT_DETACH), 0);
    ck_assert_int_eq(chdir("/"), 0);
    snprintf(helper, sizeof(helper), "/mere-exec");
}

START_TEST(root_on_a_loop_device)
{
    const char *out;
    int status = 0;
    pid_t pid;

    if (!need_loops("root_on_a_loop_device"))
        return;
    pid = fork(); /* the test itself still needs its own root */
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        own_mounts();
        enter_root_on_loop(in("root"));
        status = RUN(&out, AS_NOBODY, "--bind", "/a", "/b", "--", "/bin/cat", "/b/f");
        if (status == 0 && strcmp(out, "here\n") != 0)
            status = 98;
        if (status != 0)
            fprintf(stderr, "t_exec: %d: %s\n", status, out);
        _exit(status);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(as_an_ordinary_user)
{
    const char *out;

    if (geteuid() == 0)
        ck_assert_int_eq(chown(dir, 65534, 65534) | setgid(65534) | setuid(65534), 0);
    if (access(helper, X_OK) != 0) {
        printf("SKIP exec as_an_ordinary_user: the build directory is closed to others\n");
        return;
    }
    ck_assert_int_eq(RUN(&out, "--", "/bin/grep", "NoNew", "/proc/self/status"), 0);
    ck_assert_str_eq(out, "NoNewPrivs:\t1\n");
    ck_assert_int_eq(RUN(&out, "--uid", "1", "--gid", "1", "--", "/bin/true"), 126);
    ck_assert_ptr_nonnull(strstr(out, "change the group: Operation not permitted"));
    ck_assert_int_eq(RUN(&out, "--uid", "0", "--gid", "0", "--", "/bin/true"), 126);
}
END_TEST

Suite *t_exec_suite(void)
{
    Suite *s = suite_create("exec");
    TCase *c = tcase_create("exec");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, bad_arguments);
    tcase_add_test(c, never_as_root);
    tcase_add_test(c, privileges_are_gone);
    tcase_add_test(c, program_and_status);
    tcase_add_test(c, failing_steps_stop_it);
    tcase_add_test(c, binds);
    tcase_add_test(c, binds_that_cannot_be_written);
    tcase_add_test(c, the_namespace_ends_with_the_process);
    tcase_add_test(c, the_lock_is_held_to_the_last_process);
    tcase_add_test(c, leaked_descriptors_are_closed);
    tcase_add_test(c, disk_files_are_left);
    tcase_add_test(c, root_on_a_loop_device);
    tcase_add_test(c, as_an_ordinary_user);
    suite_add_tcase(s, c);
    return s;
}
