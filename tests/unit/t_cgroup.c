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

/* A process that has a child already, moved into the group with it. */
static pid_t spawn_inside(const char *name, int *ret_pidfd)
{
    static const char SCRIPT[] = "sleep 60 & exec sleep 61";
    const char *const argv[] = { "/bin/sh", "-c", SCRIPT, NULL };
    struct proc_spec spec = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .keep_fd = -1 };
    struct proc_identity id;

    ck_assert_int_eq(proc_spawn(&spec, &id, ret_pidfd, &err), 0);
    auto_free char *path = xasprintf("/proc/%d/task/%d/children", (int)id.pid, (int)id.pid);
    for (int i = 0; i < 500; i++) { /* until it has its child: a file of /proc announces nothing */
        char *text;
        size_t len;
        if (fs_read(arena, path, 4096, &text, &len, &err) == 0 && len > 0)
            break;
        ck_assert(!proc_wait_exit(*ret_pidfd, 10));
    }
    ck_assert_msg(cgroup_join(name, id.pid, &err) == 0, "%s", err.detail);
    ck_assert(!cgroup_is_empty(name));
    return (pid_t)id.pid;
}

/* The whole life of a group, whatever kind there is. */
static void live_and_die(void)
{
    int pidfd = -1, status;

    ck_assert(cgroup_is_empty("ep-x")); /* no such group */
    ck_assert_int_eq(cgroup_kill("ep-x", 100, &err), 0);
    cgroup_remove("ep-x");
    ck_assert_msg(cgroup_create("ep-x", 64 << 20, 500, &err) == 0, "%s", err.detail);
    ck_assert_int_eq(cgroup_create("ep-x", 0, 0, &err), 0); /* again, with other limits */
    ck_assert(cgroup_is_empty("ep-x"));
    spawn_inside("ep-x", &pidfd);
    cgroup_remove("ep-x"); /* not while somebody is in it */
    ck_assert(!cgroup_is_empty("ep-x"));
    ck_assert_msg(cgroup_kill("ep-x", 5000, &err) == 0, "%s", err.detail);
    ck_assert(cgroup_is_empty("ep-x")); /* the process and the child it had */
    ck_assert(proc_wait_exit(pidfd, 1000));
    status = proc_reap(pidfd);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(pidfd);
    cgroup_remove("ep-x");
    ck_assert_int_eq(cgroup_join("ep-x", 0x7fffffff, &err), -1); /* no such group any more */
}

static void check_names_are_refused(void)
{
    static const char *const BAD[] = { "", ".", "..", "../x", "a/b", ".hidden" };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(cgroup_create(BAD[i], 0, 0, &err) == -1, "accepted \"%s\"", BAD[i]);
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

/* This process goes back to the groups that /proc/self/cgroup named before. */
static void move_back(char *before)
{
    char *save = NULL;

    for (char *line = strtok_r(before, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *controller = strchr(line, ':') + 1, *where = strchr(controller, ':');
        *where++ = '\0';
        const char *path = arena_printf(arena, "/sys/fs/cgroup/%s%s/cgroup.procs", controller, where);
        auto_fd fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
            ck_assert_int_eq(write(fd, "0", 1), 1);
    }
}

/* After a restart in another place, the group of the same instance is found again with its processes. */
START_TEST(found_again)
{
    char *before;
    size_t len;
    int pidfd = -1;

    if (cgroup_init(instance) == CGROUP_NONE) {
        printf("SKIP cgroup found_again: no control groups that this user may write\n");
        return;
    }
    ck_assert_int_eq(cgroup_create("ep-x", 0, 0, &err), 0);
    ck_assert_int_eq(cgroup_create("place", 0, 0, &err), 0);
    ck_assert_int_eq(fs_read(arena, "/proc/self/cgroup", 65536, &before, &len, &err), 0);
    ck_assert_int_eq(cgroup_join("place", getpid(), &err), 0);
    spawn_inside("ep-x", &pidfd);
    cgroup_fini(); /* must leave what is in use */
    cgroup_init(instance);
    move_back(before);
    ck_assert(!cgroup_is_empty("ep-x"));
    ck_assert_int_eq(cgroup_create("ep-x", 0, 0, &err), 0);
    ck_assert_int_eq(cgroup_kill("ep-x", 5000, &err), 0);
    proc_reap(pidfd);
    close(pidfd);
    cgroup_remove("ep-x");
    cgroup_remove("place");
}
END_TEST

START_TEST(limits_are_written)
{
    enum cgroup_kind kind = cgroup_init(instance);
    char *groups, *memory = NULL, *cpu = NULL, *save = NULL;
    size_t len;
    int pidfd = -1;

    if (kind != CGROUP_V1 || !cgroup_has_limits()) {
        printf(
            "SKIP cgroup limits_are_written: this machine has no v1 memory and cpu hierarchies (kind %s)\n",
            cgroup_kind_name(kind));
        return;
    }
    ck_assert_int_eq(cgroup_create("ep-x", 64 << 20, 1500, &err), 0);
    const char *of = arena_printf(arena, "/proc/%d/cgroup", (int)spawn_inside("ep-x", &pidfd));
    ck_assert_int_eq(fs_read(arena, of, 65536, &groups, &len, &err), 0);
    for (char *line = strtok_r(groups, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *controller = strchr(line, ':') + 1, *where = strchr(controller, ':');
        *where++ = '\0';
        const char *group = arena_printf(arena, "/sys/fs/cgroup/%s%s", controller, where);
        const char *m = arena_printf(arena, "%s/memory.limit_in_bytes", group);
        const char *c = arena_printf(arena, "%s/cpu.cfs_quota_us", group);

        if (fs_exists(m))
            ck_assert_int_eq(fs_read(arena, m, 100, &memory, NULL, &err), 0);
        if (fs_exists(c))
            ck_assert_int_eq(fs_read(arena, c, 100, &cpu, NULL, &err), 0);
    }
    ck_assert_ptr_nonnull(memory);
    ck_assert_ptr_nonnull(cpu);
    ck_assert_str_eq(memory, "67108864\n");
    ck_assert_str_eq(cpu, "150000\n");
    ck_assert_int_eq(cgroup_kill("ep-x", 5000, &err), 0);
    proc_reap(pidfd);
    close(pidfd);
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

    if (!private_mounts("none_at_all"))
        return;
    ck_assert_int_eq(mount("none", "/sys/fs/cgroup", "tmpfs", 0, NULL), 0);
    ck_assert_int_eq(cgroup_init(instance), CGROUP_NONE);
    ck_assert(!cgroup_has_limits());
    ck_assert_int_eq(cgroup_create("ep-x", 1 << 20, 100, &err), 0);
    ck_assert_int_eq(cgroup_join("ep-x", getpid(), &err), 0);
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
