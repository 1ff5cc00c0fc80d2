/*
 * t_wal.c - mere-wal, the program beside this one: keeps and hands back, also where a rename can replace
 */
#include "base/proc.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <poll.h>
#include <stddef.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "pg/walseg.h"

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

/* A push of dir/name, begun; a call of this number (0 = none) fails so. */
static pid_t begin_push(const char *name, int mishaps, const char *crash_at, int number, int error)
{
    const char *archive = in("archive"), *path = in(name);
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (chdir(dir) < 0) /* where global/pg_control is, if anywhere */
            _exit(97);
        if (mishaps & OLD_RENAME)
            filter(SYS_renameat2, EINVAL);
        if (mishaps & TOO_LATE)
            filter(SYS_faccessat2, ENOENT);
        if (number != 0)
            filter(number, error);
        if (crash_at != NULL)
            setenv("CRASH_AT", crash_at, 1);
        execl(helper, "mere-wal", "push", archive, path, NULL);
        _exit(98);
    }
    return pid;
}

static int end_push(pid_t pid)
{
    int status = 0;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* How a push of dir/NAME ends. */
static int push(int mishaps, const char *crash_at)
{
    return end_push(begin_push(NAME, mishaps, crash_at, 0, 0));
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

/* ---- segments ---- */

#define SEGMENT   "000000020000000000000007"
#define SEGNO     7
#define SYSTEM_ID UINT64_C(7123456789012345678)

static uint8_t segment[WALSEG_SIZE];

/* What a server would have written: page headers that say where they are, and something between them. */
static void make_segment(uint64_t segno, uint64_t system_id)
{
    uint32_t size = WALSEG_SIZE, page_size = WALSEG_PAGE;
    for (uint64_t at = 0; at < WALSEG_SIZE; at += WALSEG_PAGE) {
        uint64_t address = segno * WALSEG_SIZE + at;
        uint16_t magic = 0xD110, info = at == 0 ? 2 : 0;
        memset(segment + at, (int)(at / WALSEG_PAGE), WALSEG_PAGE);
        memcpy(segment + at, &magic, 2);
        memcpy(segment + at + 2, &info, 2);
        memcpy(segment + at + 8, &address, 8);
    }
    memcpy(segment + 24, &system_id, 8);
    memcpy(segment + 32, &size, 4);
    memcpy(segment + 36, &page_size, 4);
}

static void put_segment(const char *name, size_t bytes)
{
    ck_assert_int_eq(fs_write_plain(in(name), (const char *)segment, bytes, 0600, (uid_t)-1, (gid_t)-1, &err),
                     0);
}

static void put_cluster(void)
{
    uint64_t id = SYSTEM_ID;
    ck_assert_int_eq(mkdir(in("global"), 0700), 0);
    ck_assert_int_eq(fs_write_plain(in("global/pg_control"), (const char *)&id, sizeof(id), 0600, (uid_t)-1,
                                    (gid_t)-1, &err),
                     0);
}

static size_t kept(void)
{
    const char **names = NULL;
    size_t n = 0;
    ck_assert_int_eq(fs_list(arena, in("archive"), &names, &n, &err), 0);
    return n;
}

static void the_segment_is_kept(void)
{
    char *bytes = NULL;
    size_t n = 0;
    ck_assert_int_eq(fs_read(arena, in("archive/" SEGMENT), WALSEG_SIZE + 1, &bytes, &n, &err), 0);
    ck_assert(n == WALSEG_SIZE && memcmp(bytes, segment, n) == 0);
    ck_assert_uint_eq(kept(), 1);
}

START_TEST(a_segment_is_kept_once)
{
    put_cluster();
    make_segment(SEGNO, SYSTEM_ID);
    put_segment(SEGMENT, WALSEG_SIZE);
    ck_assert_int_eq(end_push(begin_push(SEGMENT, 0, NULL, 0, 0)), 0);
    the_segment_is_kept();
    ck_assert_int_eq(end_push(begin_push(SEGMENT, 0, NULL, 0, 0)), 0);
    the_segment_is_kept();
    segment[WALSEG_SIZE - 1] ^= 1;
    put_segment(SEGMENT, WALSEG_SIZE);
    ck_assert_int_eq(end_push(begin_push(SEGMENT, 0, NULL, 0, 0)), 2);
    segment[WALSEG_SIZE - 1] ^= 1;
    the_segment_is_kept();
}
END_TEST

START_TEST(what_is_not_what_its_name_says_is_refused)
{
    static const struct {
        const char *name;
        size_t bytes;
        uint64_t segno, system_id;
        size_t spoilt_at; /* a byte of it that is wrong; 0 = none */
    } CASES[] = {
        { SEGMENT, 0, SEGNO, SYSTEM_ID, 0 },
        { SEGMENT, WALSEG_SIZE - WALSEG_PAGE, SEGNO, SYSTEM_ID, 0 },
        { SEGMENT, WALSEG_SIZE, SEGNO, SYSTEM_ID + 1, 0 },
        { SEGMENT, WALSEG_SIZE, SEGNO + 1, SYSTEM_ID, 0 }, /* recycled under us */
        { SEGMENT, WALSEG_SIZE, SEGNO, SYSTEM_ID, 1 },     /* its magic */
        { SEGMENT, WALSEG_SIZE, SEGNO, SYSTEM_ID, 34 },    /* the size of segments */
        { SEGMENT ".partial", WALSEG_SIZE - 1, SEGNO, SYSTEM_ID, 0 },
        { "postgresql.auto.conf", 10, SEGNO, SYSTEM_ID, 0 },
        { "000000020000000000001000", WALSEG_SIZE, SEGNO, SYSTEM_ID, 0 }, /* no such segment */
        { "0000000200000000000000", WALSEG_SIZE, SEGNO, SYSTEM_ID, 0 },
    };
    put_cluster();
    make_segment(CASES[_i].segno, CASES[_i].system_id);
    if (CASES[_i].spoilt_at != 0)
        segment[CASES[_i].spoilt_at] ^= 0x40;
    put_segment(CASES[_i].name, CASES[_i].bytes);
    ck_assert_int_eq(end_push(begin_push(CASES[_i].name, 0, NULL, 0, 0)), 2);
    ck_assert_uint_eq(kept(), 0);
}
END_TEST

/* Whatever fails: not 0, nothing under the name and nothing beside it; and the next time it is kept. */
START_TEST(a_disk_that_is_full_or_broken)
{
    static const struct {
        int number, error;
    } CASES[] = {
        { SYS_pwrite64, ENOSPC }, { SYS_pwrite64, EIO },     { SYS_ftruncate, ENOSPC },
        { SYS_fsync, EIO },       { SYS_renameat2, ENOSPC },
    };
    put_cluster();
    make_segment(SEGNO, SYSTEM_ID);
    put_segment(SEGMENT, WALSEG_SIZE);
    ck_assert_int_eq(end_push(begin_push(SEGMENT, 0, NULL, CASES[_i].number, CASES[_i].error)), 2);
    ck_assert_uint_eq(kept(), 0);
    ck_assert_int_eq(end_push(begin_push(SEGMENT, 0, NULL, 0, 0)), 0);
    the_segment_is_kept();
}
END_TEST

/* Killed anywhere, it leaves the whole segment under its name or none. */
START_TEST(killed_at_any_moment)
{
    size_t done = 0;
    const char *given = getenv("MERE_WAL_KILLS"); /* 1000, when there is time */
    long kills = given ? strtol(given, NULL, 10) : 150;
    put_cluster();
    make_segment(SEGNO, SYSTEM_ID);
    put_segment(SEGMENT, WALSEG_SIZE);
    for (long i = 0; i < kills; i++) {
        pid_t pid = begin_push(SEGMENT, 0, NULL, 0, 0);
        auto_fd pidfd = pidfd_open(pid, 0);
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        struct timespec wait = { .tv_nsec =
                                     i * 137 % 9000 * 1000 }; /* a push takes some of these microseconds */
        (void)ppoll(&p, 1, &wait, NULL);
        (void)kill(pid, SIGKILL);
        int status = end_push(pid);
        bool there = fs_exists(in("archive/" SEGMENT));
        ck_assert(status == 0 || status == 128 + SIGKILL);
        ck_assert(status != 0 || there);
        done += status == 0;
        if (there) {
            auto_arena *a = arena_new(0);
            char *bytes = NULL;
            size_t n = 0;
            ck_assert_int_eq(fs_read(a, in("archive/" SEGMENT), WALSEG_SIZE + 1, &bytes, &n, &err), 0);
            ck_assert(n == WALSEG_SIZE && memcmp(bytes, segment, n) == 0);
            ck_assert_int_eq(unlink(in("archive/" SEGMENT)), 0);
        }
    }
    ck_assert_int_eq(end_push(begin_push(SEGMENT, 0, NULL, 0, 0)), 0);
    the_segment_is_kept();
    ck_assert_uint_lt(done, (size_t)kills);
}
END_TEST

/* How mere-wal follow ends, for what lands at dir/got. */
static int follow(const char *name)
{
    const char *const argv[] = { helper, "follow", in("archive"), in("live"), name, in("got"), NULL };
    int status = 0;
    pid_t pid;

    (void)unlink(in("got"));
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        execv(helper, (char *const *)argv);
        _exit(98);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Kept files first, then what is being written; 1, the end of the WAL, only for what is not there. */
START_TEST(what_is_followed)
{
    ck_assert_int_eq(mkdir(in("live"), 0700), 0);
    ck_assert_int_eq(follow(NAME), 1);
    ck_assert_int_eq(follow("backup_label"), 1);
    put("live/" NAME, "live\n");
    ck_assert_int_eq(follow(NAME), 0);
    ck_assert_str_eq(get("got"), "live\n");
    put("archive/" NAME, "kept\n");
    ck_assert_int_eq(follow(NAME), 0);
    ck_assert_str_eq(get("got"), "kept\n");
    put(arena_printf(arena, "live/%s", "000000010000000000000003"),
        "a recycled file, with other pages or none\n");
    ck_assert_int_eq(follow("000000010000000000000003"), 1);
    ck_assert_int_eq(rmdir(in("live")) < 0 && errno == ENOTEMPTY, 1);
    ck_assert_int_eq(fs_remove_tree(in("live"), false, &err), 0);
    ck_assert_int_eq(symlink("/etc/passwd", in("archive/00000009.history")), 0);
    ck_assert_int_gt(follow("00000009.history"), 125);
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
    tcase_add_test(c, a_segment_is_kept_once);
    tcase_add_loop_test(c, what_is_not_what_its_name_says_is_refused, 0, 10);
    tcase_add_loop_test(c, a_disk_that_is_full_or_broken, 0, 5);
    tcase_add_test(c, killed_at_any_moment);
    tcase_add_test(c, what_is_followed);
    suite_add_tcase(s, c);
    return s;
}
