/*
 * t_shm.c - the metadata on a btrfs that is full: SQLite's mapped file must not end the process
 */
#include <check.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/proc.h"
#include "meta/db.h"

#define MIB (1024 * 1024)

Suite *t_shm_suite(void);

static struct arena *A;
static struct err E;
static char *top, *path; /* the file system, the database in it */
static struct db *D;

#define OK(expr)                                                                                             \
    do {                                                                                                     \
        E = (struct err)ERR_INIT;                                                                            \
        ck_assert_msg((expr) == 0, "%s: %s (%s)", #expr, E.msg, E.detail);                                   \
    } while (0)

/* A file system of our own, in a mount namespace that ends with this process. */
static void setup(void)
{
    const char *mkfs[] = { "/usr/sbin/mkfs.btrfs", "-q", "-K", NULL, NULL };
    const char *mnt[] = { "/usr/bin/mount", "-o", "loop", NULL, NULL, NULL };
    auto_free char *file = NULL;
    auto_fd fd = -1;

    A = arena_new(0);
    top = xasprintf("/tmp/mere-t-shm-%d", (int)getpid());
    path = xasprintf("%s/meta.db", top);
    file = xasprintf("%s.img", top);
    mkfs[3] = mnt[3] = file;
    mnt[4] = top;
    fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 200 * MIB) < 0 || mkdir(top, 0700) < 0 || unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        abort();
    OK(proc_run(A, mkfs, 60000, NULL, &E));
    OK(proc_run(A, mnt, 60000, NULL, &E));
    (void)unlink(file); /* the loop device keeps it as long as the mount lives */
}

static void teardown(void)
{
    db_close(TAKE(D));
    if (umount2(top, MNT_DETACH) < 0 || rmdir(top) < 0)
        fprintf(stderr, "t_shm: %s is left behind\n", top);
    ptr_free(&path);
    ptr_free(&top);
    arena_free(TAKE(A));
}

static bool is_written_in_place(const char *suffix)
{
    auto_fd fd = open(arena_printf(A, "%s%s", path, suffix), O_RDONLY | O_CLOEXEC);
    int flags = 0;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ioctl(fd, FS_IOC_GETFLAGS, &flags), 0);
    return flags & FS_NOCOW_FL;
}

static int set(const char *key, const char *value)
{
    auto_dbc *c = NULL;

    E = (struct err)ERR_INIT;
    return db_write(D, &c, &E) < 0 || instance_set(c, key, value, &E) < 0 || db_commit(c, &E) < 0 ? -1 : 0;
}

static const char *get(const char *key)
{
    auto_dbc *c = NULL;
    const char *value = NULL;

    OK(db_read(D, &c, &E));
    OK(instance_get(c, A, key, &value, &E));
    return value;
}

static void fill(void)
{
    static const char block[MIB] = "f";

    for (size_t size = MIB; size >= 1024; size /= 32)
        for (int i = 0;; i++) {
            auto_fd fd =
                open(arena_printf(A, "%s/%zu.%d", top, size, i), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

            if (fd < 0 || write(fd, block, size) < 0 || fsync(fd) < 0)
                break;
        }
    sync();
}

START_TEST(a_full_disk_is_an_error)
{
    int failed = 0;

    OK(db_open(path, &D, &E));
    ck_assert(is_written_in_place("-shm"));
    ck_assert(!is_written_in_place("")); /* its checksums are worth having */
    ck_assert_int_eq(set("k", "before"), 0);
    fill();
    for (int i = 0; i < 100; i++) {
        auto_free char *key = xasprintf("key %d", i), *value = xcalloc(1, 20000);

        memset(value, 'v', 19999);
        if (set(key, value) < 0) {
            ck_assert_msg(E.code == ERR_DISK_FULL, "%s (%s)", E.msg, E.detail);
            failed++;
        }
        sync(); /* each page has to be copied again */
    }
    ck_assert_int_gt(failed, 0);
    ck_assert_str_eq(get("k"), "before");
}
END_TEST

/* What a crash left was made by whoever: it is made anew. */
START_TEST(a_file_that_is_left_is_made_anew)
{
    static const char OLD[32768] = "old";

    OK(db_open(path, &D, &E));
    ck_assert_int_eq(set("k", "v"), 0);
    db_close(TAKE(D));
    OK(fs_write_plain(arena_printf(A, "%s-shm", path), OLD, sizeof(OLD), 0600, (uid_t)-1, (gid_t)-1, &E));
    ck_assert(!is_written_in_place("-shm"));
    OK(db_open(path, &D, &E));
    ck_assert(is_written_in_place("-shm"));
    ck_assert_str_eq(get("k"), "v");
}
END_TEST

/* Another program that reads the database at the time; never returns. */
static void read_along(int ready, int go_on)
{
    sqlite3 *h = NULL;
    char byte;
    int rc;

    rc = sqlite3_open_v2(path, &h, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(h, "BEGIN; SELECT count(*) FROM instance", NULL, NULL, NULL);
    if (rc != SQLITE_OK || write(ready, "x", 1) != 1 || read(go_on, &byte, 1) != 1)
        _exit(1);
    rc = sqlite3_exec(h, "SELECT count(*) FROM instance; COMMIT; SELECT count(*) FROM instance", NULL, NULL,
                      NULL);
    _exit(rc == SQLITE_OK ? 0 : 2);
}

START_TEST(a_file_in_use_is_left_alone)
{
    int ready[2], go_on[2], status = 0;
    char byte;
    pid_t pid;

    OK(db_open(path, &D, &E));
    ck_assert_int_eq(set("k", "v"), 0);
    db_close(TAKE(D));
    ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(go_on, O_CLOEXEC), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        read_along(ready[1], go_on[0]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert(!is_written_in_place("-shm"));
    OK(db_open(path, &D, &E));
    ck_assert(!is_written_in_place("-shm"));
    ck_assert_int_eq(set("k", "w"), 0);
    ck_assert_int_eq(write(go_on[1], "x", 1), 1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_str_eq(get("k"), "w");
}
END_TEST

START_TEST(skipped)
{
    printf("SKIP t_shm: it needs root, loop devices and /usr/sbin/mkfs.btrfs\n");
}
END_TEST

Suite *t_shm_suite(void)
{
    Suite *suite = suite_create("shm");
    TCase *tc = tcase_create("shm");

    suite_add_tcase(suite, tc);
    if (geteuid() != 0 || access("/dev/loop-control", F_OK) < 0 || access("/usr/sbin/mkfs.btrfs", X_OK) < 0) {
        tcase_add_test(tc, skipped);
        return suite;
    }
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_full_disk_is_an_error);
    tcase_add_test(tc, a_file_that_is_left_is_made_anew);
    tcase_add_test(tc, a_file_in_use_is_left_alone);
    return suite;
}
