/*
 * t_wal.c - mere-wal, the program beside this one: keeps and hands back, also where a rename can replace
 */
#include "base/proc.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fs.h"

Suite *t_wal_suite(void);

#define NAME "00000002.history"

static struct arena *arena;
static struct err err;
static char helper[512], dir[64];

static const char *in(const char *name)
{
    return arena_printf(arena, "%s/%s", dir, name);
}

static void setup(void)
{
    ssize_t n = readlink("/proc/self/exe", helper, sizeof(helper) - 32);

    ck_assert_int_gt(n, 0);
    helper[n] = '\0';
    snprintf(strrchr(helper, '/'), 32, "/mere-wal");
    ck_assert_msg(access(helper, X_OK) == 0, "%s is not built", helper);
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
    snprintf(dir, sizeof(dir), "/tmp/t_wal.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(mkdir(in("archive"), 0700), 0);
}

static void teardown(void)
{
    ck_assert_msg(fs_remove_tree(dir, false, &err) == 0, "%s", err.detail);
    arena_free(arena);
}

static void put(const char *name, const char *text)
{
    ck_assert_int_eq(fs_write_plain(in(name), text, strlen(text), 0600, (uid_t)-1, (gid_t)-1, &err), 0);
}

static const char *get(const char *name)
{
    char *text = NULL;

    ck_assert_int_eq(fs_read(arena, in(name), 4096, &text, NULL, &err), 0);
    return text;
}

enum mishap {
    OLD_RENAME = 1, /* renameat2 is what it is on NFS */
    TOO_LATE = 2,   /* a look for the name finds nothing, as if the file had come right after it */
};

static void filter(int number, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = N_ELEMENTS(code), .filter = code };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(99);
}

/* How a push of dir/NAME ends. */
static int push(int mishaps, const char *crash_at)
{
    const char *archive = in("archive"), *path = in(NAME);
    int status = 0;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (mishaps & OLD_RENAME)
            filter(SYS_renameat2, EINVAL);
        if (mishaps & TOO_LATE)
            filter(SYS_faccessat2, ENOENT);
        if (crash_at != NULL)
            setenv("CRASH_AT", crash_at, 1);
        execl(helper, "mere-wal", "push", archive, path, NULL);
        _exit(98);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void only_the_file_is_kept(const char *text)
{
    const char **names = NULL;
    size_t n = 0;
    struct stat st;

    ck_assert_str_eq(get("archive/" NAME), text);
    ck_assert_int_eq(stat(in("archive/" NAME), &st), 0);
    ck_assert_uint_eq(st.st_nlink, 1);
    ck_assert_int_eq(fs_list(arena, in("archive"), &names, &n, &err), 0);
    ck_assert_uint_eq(n, 1);
}

START_TEST(a_file_is_kept_once)
{
    int old_rename = _i == 1 ? OLD_RENAME : 0;

    put(NAME, "first\n");
    ck_assert_int_eq(push(old_rename, NULL), 0);
    only_the_file_is_kept("first\n");
    ck_assert_int_eq(push(old_rename, NULL), 0); /* the same again */
    only_the_file_is_kept("first\n");
    put(NAME, "second\n");
    ck_assert_int_eq(push(old_rename, NULL), 2);
    only_the_file_is_kept("first\n");
}
END_TEST

#ifdef MERE_CRASH_POINTS
START_TEST(a_killed_push_is_repeated)
{
    static const struct {
        int old_rename;
        const char *at;
    } CASES[] = { { 0, "wal.pushed:1" }, { OLD_RENAME, "wal.pushed:1" }, { OLD_RENAME, "wal.linked:1" } };

    put(NAME, "first\n");
    ck_assert_int_eq(push(CASES[_i].old_rename, CASES[_i].at), 137);
    ck_assert(fs_exists(in("archive/." NAME ".tmp")));
    ck_assert_int_eq(push(CASES[_i].old_rename, NULL), 0);
    only_the_file_is_kept("first\n");
}
END_TEST
#endif

START_TEST(nothing_is_replaced)
{
    int old_rename = _i == 1 ? OLD_RENAME : 0;

    put(NAME, "first\n");
    ck_assert_int_eq(push(old_rename, NULL), 0);
    put(NAME, "second\n");
    ck_assert_int_eq(push(old_rename | TOO_LATE, NULL), 2);
    only_the_file_is_kept("first\n");
}
END_TEST

Suite *t_wal_suite(void)
{
    Suite *s = suite_create("wal");
    TCase *c = tcase_create("wal");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, a_file_is_kept_once, 0, 2);
#ifdef MERE_CRASH_POINTS
    tcase_add_loop_test(c, a_killed_push_is_repeated, 0, 3);
#endif
    tcase_add_loop_test(c, nothing_is_replaced, 0, 2);
    suite_add_tcase(s, c);
    return s;
}
