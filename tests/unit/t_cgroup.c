/*
 * t_cgroup.c - control groups as the machine has them, v2 in a private mount namespace, and none at all
 *
 * Groups are named after the test's pid and removed again.
 */
#include "base/cgroup.h"

#include <check.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/proc.h"

Suite *t_cgroup_suite(void);

static struct arena *arena;
static struct err err;
static const char *instance;

static void setup(void)
{
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
    instance = arena_printf(arena, "test-%d", (int)getpid());
}

static void teardown(void)
{
    cgroup_fini();
    arena_free(arena);
}

/* A process inside the group: joins as the exec shim does, then becomes the program. */
static pid_t spawn_inside(const char *const *procs, int *ret_pidfd)
{
    static const char SCRIPT[] =
        "for f in \"$@\"; do echo 0 > \"$f\" || exit 1; done; sleep 60 & exec sleep 61";
    const char *argv[8] = { "/bin/sh", "-c", SCRIPT, "sh", NULL };
    struct proc_spec spec = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .keep_fd = -1 };
    struct proc_identity id;

    for (int i = 0; i < 3 && procs[i] != NULL; i++)
        argv[4 + i] = procs[i];
    ck_assert_int_eq(proc_spawn(&spec, &id, ret_pidfd, &err), 0);
    return (pid_t)id.pid;
}

static void wait_until_inside(const char *name, int pidfd)
{
    for (int i = 0; i < 500 && cgroup_is_empty(name); i++)
        ck_assert_msg(!proc_wait_exit(pidfd, 10), "the process could not join its group");
    ck_assert(!cgroup_is_empty(name));
}

/* The whole life of a group, whatever kind there is. */
static void live_and_die(void)
{
    const char *const *procs = NULL;
    int pidfd = -1, status;

    ck_assert(cgroup_is_empty("ep-x")); /* no such group */
    ck_assert_int_eq(cgroup_kill("ep-x", 100, &err), 0);
    cgroup_remove("ep-x");
    ck_assert_msg(cgroup_create(arena, "ep-x", 64 << 20, 500, &procs, &err) == 0, "%s", err.detail);
    ck_assert_ptr_nonnull(procs[0]);
    ck_assert_int_eq(cgroup_create(arena, "ep-x", 0, 0, &procs, &err), 0); /* again, with other limits */
    ck_assert(cgroup_is_empty("ep-x"));
    spawn_inside(procs, &pidfd);
    wait_until_inside("ep-x", pidfd);
    cgroup_remove("ep-x"); /* not while somebody is in it */
    ck_assert(!cgroup_is_empty("ep-x"));
    ck_assert_msg(cgroup_kill("ep-x", 5000, &err) == 0, "%s", err.detail);
    ck_assert(cgroup_is_empty("ep-x")); /* the process and the child it had */
    ck_assert(proc_wait_exit(pidfd, 1000));
    status = proc_reap(pidfd);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(pidfd);
    cgroup_remove("ep-x");
    ck_assert(!fs_exists(procs[0]));
}

static void check_names_are_refused(void)
{
    static const char *const BAD[] = { "", ".", "..", "../x", "a/b", ".hidden" };
    const char *const *procs;

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(cgroup_create(arena, BAD[i], 0, 0, &procs, &err) == -1, "accepted \"%s\"", BAD[i]);
}

START_TEST(as_the_machine_is)
{
    enum cgroup_kind kind = cgroup_init(instance);

    if (kind == CGROUP_NONE) {
        printf("SKIP cgroup as_the_machine_is: no control groups that this user may write\n");
        return;
    }
    live_and_die();
    check_names_are_refused();
}
END_TEST

/* Moves this process: into the groups of these files, or back up to where the instance's group lies. */
static void move_self(const char *const *procs, bool back)
{
    for (int i = 0; procs[i] != NULL; i++) {
        const char *group = arena_strndup(arena, procs[i], strlen(procs[i]) - strlen("/cgroup.procs"));
        const char *path = back ? arena_printf(arena, "%s/../../cgroup.procs", group) : procs[i];
        auto_fd fd = open(path, O_WRONLY | O_CLOEXEC);

        ck_assert_int_eq(write(fd, "0", 1), 1);
    }
}

/* After a restart in another place, the group of the same instance is found again with its processes. */
START_TEST(found_again)
{
    const char *const *procs = NULL, *const *elsewhere = NULL, *const *again = NULL;
    int pidfd = -1;

    if (cgroup_init(instance) == CGROUP_NONE) {
        printf("SKIP cgroup found_again: no control groups that this user may write\n");
        return;
    }
    ck_assert_int_eq(cgroup_create(arena, "ep-x", 0, 0, &procs, &err), 0);
    ck_assert_int_eq(cgroup_create(arena, "place", 0, 0, &elsewhere, &err), 0);
    spawn_inside(procs, &pidfd);
    wait_until_inside("ep-x", pidfd);
    cgroup_fini(); /* must leave what is in use */
    move_self(elsewhere, false);
    cgroup_init(instance);
    move_self(elsewhere, true);
    ck_assert(!cgroup_is_empty("ep-x"));
    ck_assert_int_eq(cgroup_create(arena, "ep-x", 0, 0, &again, &err), 0);
    for (int i = 0; procs[i] != NULL; i++)
        ck_assert_str_eq(procs[i], again[i]);
    ck_assert_int_eq(cgroup_kill("ep-x", 5000, &err), 0);
    proc_reap(pidfd);
    close(pidfd);
    cgroup_remove("ep-x");
    cgroup_remove("place");
}
END_TEST

START_TEST(limits_are_written)
{
    const char *const *procs = NULL;
    enum cgroup_kind kind = cgroup_init(instance);
    char *memory = NULL, *cpu = NULL;

    if (kind != CGROUP_V1 || !cgroup_has_limits()) {
        printf(
            "SKIP cgroup limits_are_written: this machine has no v1 memory and cpu hierarchies (kind %s)\n",
            cgroup_kind_name(kind));
        return;
    }
    ck_assert_int_eq(cgroup_create(arena, "ep-x", 64 << 20, 1500, &procs, &err), 0);
    for (int i = 0; procs[i] != NULL; i++) {
        const char *group = arena_strndup(arena, procs[i], strlen(procs[i]) - strlen("cgroup.procs"));
        const char *m = arena_printf(arena, "%smemory.limit_in_bytes", group);
        const char *c = arena_printf(arena, "%scpu.cfs_quota_us", group);

        if (fs_exists(m))
            ck_assert_int_eq(fs_read(arena, m, 100, &memory, NULL, &err), 0);
        if (fs_exists(c))
            ck_assert_int_eq(fs_read(arena, c, 100, &cpu, NULL, &err), 0);
    }
    ck_assert_ptr_nonnull(memory);
    ck_assert_ptr_nonnull(cpu);
    ck_assert_str_eq(memory, "67108864\n");
    ck_assert_str_eq(cpu, "150000\n");
    cgroup_remove("ep-x");
}
END_TEST

static bool private_mounts(const char *test)
{
    if (geteuid() == 0 && unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
        return true;
    printf("SKIP cgroup %s: needs root and a mount namespace\n", test);
    return false;
}

/* A v2 hierarchy where v2 machines have it, without controllers: members and killing work, limits do not. */
START_TEST(version_two)
{
    if (!private_mounts("version_two"))
        return;
    if (mount("none", "/sys/fs/cgroup", "cgroup2", 0, NULL) < 0) {
        printf("SKIP cgroup version_two: cgroup2 cannot be mounted here\n");
        return;
    }
    ck_assert_int_eq(cgroup_init(instance), CGROUP_V2);
    live_and_die();
    check_names_are_refused();
}
END_TEST

START_TEST(none_at_all)
{
    const char *const *procs = NULL;

    if (!private_mounts("none_at_all"))
        return;
    ck_assert_int_eq(mount("none", "/sys/fs/cgroup", "tmpfs", 0, NULL), 0);
    ck_assert_int_eq(cgroup_init(instance), CGROUP_NONE);
    ck_assert(!cgroup_has_limits());
    ck_assert_int_eq(cgroup_create(arena, "ep-x", 1 << 20, 100, &procs, &err), 0);
    ck_assert_ptr_null(procs[0]);
    ck_assert(cgroup_is_empty("ep-x"));
    ck_assert_int_eq(cgroup_kill("ep-x", 100, &err), 0);
    cgroup_remove("ep-x");
}
END_TEST

START_TEST(an_ordinary_user_gets_none)
{
    if (geteuid() != 0) {
        printf("SKIP cgroup an_ordinary_user_gets_none: starts as root\n");
        return;
    }
    ck_assert_int_eq(setgid(65534) | setuid(65534), 0);
    ck_assert_int_eq(cgroup_init(instance), CGROUP_NONE);
}
END_TEST

START_TEST(names)
{
    ck_assert_str_eq(cgroup_kind_name(CGROUP_V2), "v2");
    ck_assert_str_eq(cgroup_kind_name(CGROUP_V1), "v1");
    ck_assert_str_eq(cgroup_kind_name(CGROUP_NONE), "none");
    ck_assert_int_eq(cgroup_init("../up"), CGROUP_NONE);
}
END_TEST

Suite *t_cgroup_suite(void)
{
    Suite *s = suite_create("cgroup");
    TCase *c = tcase_create("cgroup");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 30);
    tcase_add_test(c, as_the_machine_is);
    tcase_add_test(c, found_again);
    tcase_add_test(c, limits_are_written);
    tcase_add_test(c, version_two);
    tcase_add_test(c, none_at_all);
    tcase_add_test(c, an_ordinary_user_gets_none);
    tcase_add_test(c, names);
    suite_add_tcase(s, c);
    return s;
}
