/*
 * t_fs.c - files and trees: durability calls, links, holes, locks, hostile trees
 */
#include "base/fs.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

Suite *t_fs_suite(void);

#define NOBODY 65534

static char dir[64];
static struct arena *arena;
static struct err err;

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/t_fs.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
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

static void put(const char *name, const char *text)
{
    ck_assert_int_eq(fs_write_plain(in(name), text, strlen(text), 0644, (uid_t)-1, (gid_t)-1, &err), 0);
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    ck_assert_int_eq(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

START_TEST(directories)
{
    umask(077);
    ck_assert_int_eq(fs_mkdir(in("d"), 0755, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_uint_eq(mode_of(in("d")), 0755); /* whatever the umask */
    ck_assert_int_eq(fs_mkdir(in("d"), 0700, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_uint_eq(mode_of(in("d")), 0700);
    ck_assert_int_eq(fs_mkdir(in("no/such"), 0700, (uid_t)-1, (gid_t)-1, &err), -1);
    put("f", "x");
    ck_assert_int_eq(fs_mkdir(in("f"), 0700, (uid_t)-1, (gid_t)-1, &err), -1);
    ck_assert_int_eq(symlink("/tmp", in("link")), 0);
    ck_assert_int_eq(fs_mkdir(in("link"), 0700, (uid_t)-1, (gid_t)-1, &err), -1); /* not through a link */
}
END_TEST

START_TEST(owner)
{
    struct stat st;

    if (geteuid() != 0) {
        printf("SKIP fs owner: needs root\n");
        return;
    }
    ck_assert_int_eq(fs_mkdir(in("d"), 0700, NOBODY, NOBODY, &err), 0);
    ck_assert_int_eq(lstat(in("d"), &st), 0);
    ck_assert_uint_eq(st.st_uid, NOBODY);
    ck_assert_int_eq(fs_write_plain(in("f"), "x", 1, 0600, NOBODY, NOBODY, &err), 0);
    ck_assert_int_eq(lstat(in("f"), &st), 0);
    ck_assert_uint_eq(st.st_gid, NOBODY);
}
END_TEST

START_TEST(reading)
{
    char *text = NULL;
    size_t len = 0;

    put("f", "hello");
    ck_assert_int_eq(fs_read(arena, in("f"), 5, &text, &len, &err), 0);
    ck_assert_str_eq(text, "hello");
    ck_assert_uint_eq(len, 5);
    ck_assert_int_eq(fs_read(arena, in("f"), 4, &text, &len, &err), -1);
    ck_assert_int_eq(err.code, ERR_TOO_LARGE);
    ck_assert_int_eq(fs_read(arena, in("none"), 5, &text, &len, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
    put("empty", "");
    ck_assert_int_eq(fs_read(arena, in("empty"), 0, &text, NULL, &err), 0);
    ck_assert_str_eq(text, "");
    ck_assert_int_eq(fs_read(arena, "/proc/self/status", 100000, &text, &len, &err),
                     0); /* no size of its own */
    ck_assert_uint_gt(len, 100);
    ck_assert_int_eq(fs_read(arena, dir, 100, &text, &len, &err), -1);
    ck_assert_int_eq(err.code, ERR_INTERNAL);
}
END_TEST

/* What a compute may put where we read: neither may wait, and only a file of its own is read. */
START_TEST(reading_only_regular_files)
{
    char *text = NULL;

    put("f", "hello");
    ck_assert_int_eq(mkfifo(in("fifo"), 0600), 0);
    ck_assert_int_eq(symlink(in("f"), in("link")), 0);
    ck_assert_int_eq(symlink(in("fifo"), in("to-fifo")), 0);
    ck_assert_int_eq(symlink(in("none"), in("dangling")), 0);
    static const char *const NEVER[] = { "fifo", "to-fifo", ".", "/dev/null", "/dev/tty" };
    for (size_t i = 0; i < N_ELEMENTS(NEVER); i++) {
        const char *path = NEVER[i][0] == '/' ? NEVER[i] : in(NEVER[i]);
        ck_assert_msg(fs_read(arena, path, 100, &text, NULL, &err) == -1, "%s", path);
        ck_assert_int_eq(err.code, ERR_INTERNAL);
        ck_assert_msg(fs_read_nofollow(arena, path, 100, &text, NULL, &err) == -1, "%s", path);
        ck_assert_int_eq(err.code, ERR_INTERNAL);
    }
    ck_assert_int_eq(fs_read(arena, in("link"), 100, &text, NULL, &err), 0);
    ck_assert_str_eq(text, "hello");
    ck_assert_int_eq(fs_read_nofollow(arena, in("link"), 100, &text, NULL, &err), -1);
    ck_assert_int_eq(err.code, ERR_INTERNAL);
    ck_assert_int_eq(fs_read(arena, in("dangling"), 100, &text, NULL, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
    ck_assert_int_eq(fs_read_nofollow(arena, in("f"), 100, &text, NULL, &err), 0);
    ck_assert_str_eq(text, "hello");
    ck_assert_int_eq(fs_read_nofollow(arena, in("f"), 4, &text, NULL, &err), -1);
    ck_assert_int_eq(err.code, ERR_TOO_LARGE);
    ck_assert_int_eq(fs_read_nofollow(arena, in("none"), 4, &text, NULL, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
}
END_TEST

START_TEST(writing)
{
    char *text;
    const char **names;
    size_t n;

    umask(077);
    ck_assert_int_eq(fs_write_atomic(in("f"), "one", 3, 0640, &err), 0);
    ck_assert_uint_eq(mode_of(in("f")), 0640);
    ck_assert_int_eq(fs_write_atomic(in("f"), "2", 1, 0600, &err), 0);
    ck_assert_int_eq(fs_read(arena, in("f"), 10, &text, NULL, &err), 0);
    ck_assert_str_eq(text, "2");
    put("f.tmp", "what a crash left, and longer than the new content");
    ck_assert_int_eq(fs_write_atomic(in("f"), "new", 3, 0600, &err), 0);
    ck_assert_int_eq(fs_read(arena, in("f"), 10, &text, NULL, &err), 0);
    ck_assert_str_eq(text, "new");
    ck_assert_int_eq(mkdir(in("d"), 0700), 0);
    ck_assert_int_eq(fs_write_atomic(in("d"), "x", 1, 0600, &err), -1); /* a directory is in the way */
    ck_assert_int_eq(fs_write_atomic(in("no/f"), "x", 1, 0600, &err), -1);
    ck_assert_int_eq(fs_list(arena, dir, &names, &n, &err), 0);
    ck_assert_uint_eq(n, 2); /* d and f: no temporary file stays */
}
END_TEST

/* A link at the target is replaced, one at the temporary name is refused: nothing is written elsewhere. */
START_TEST(writing_does_not_follow_links)
{
    char *text;

    put("victim", "untouched");
    ck_assert_int_eq(symlink(in("victim"), in("f")), 0);
    ck_assert_int_eq(fs_write_atomic(in("f"), "x", 1, 0600, &err), 0);
    ck_assert_int_eq(symlink(in("victim"), in("g.tmp")), 0);
    ck_assert_int_eq(fs_write_atomic(in("g"), "x", 1, 0600, &err), -1);
    ck_assert_int_eq(fs_read(arena, in("victim"), 10, &text, NULL, &err), 0);
    ck_assert_str_eq(text, "untouched");
}
END_TEST

static const char *shared_path; /* made before the threads: the arena belongs to one */

static void *write_much(void *arg)
{
    struct err e = ERR_INIT;
    char block[5000];
    intptr_t wrong = 0;

    memset(block, *(char *)arg, sizeof(block));
    for (int i = 0; i < 200; i++)
        wrong += fs_write_plain(shared_path, block, sizeof(block), 0600, (uid_t)-1, (gid_t)-1, &e) != 0;
    return (void *)wrong;
}

START_TEST(two_writers_never_mix)
{
    static char a = 'a', b = 'b';
    auto_arena *own = arena_new(0);
    pthread_t t[2];
    char *text;
    size_t len;
    void *wrong;

    put("shared", "");
    shared_path = in("shared");
    pthread_create(&t[0], NULL, write_much, &a);
    pthread_create(&t[1], NULL, write_much, &b);
    for (int i = 0; i < 300; i++) {
        ck_assert_int_eq(fs_read(own, shared_path, 10000, &text, &len, &err), 0);
        ck_assert(len == 0 || len == 5000);
        for (size_t k = 1; k < len; k++)
            ck_assert_int_eq(text[k], text[0]);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(t[i], &wrong);
        ck_assert_int_eq((intptr_t)wrong, 0);
    }
}
END_TEST

START_TEST(syncing)
{
    put("f", "x");
    ck_assert_int_eq(fs_sync_file(in("f"), &err), 0);
    ck_assert_int_eq(fs_sync_dir(dir, &err), 0);
    ck_assert_int_eq(fs_syncfs(dir, &err), 0);
    ck_assert_int_eq(fs_sync_file(in("none"), &err), -1);
    ck_assert_int_eq(fs_sync_dir(in("f"), &err), -1);
    ck_assert_int_eq(fs_syncfs(in("none"), &err), -1);
}
END_TEST

START_TEST(sparse_copies)
{
    enum { SIZE = 1048576 + 777 };
    auto_free char *data = xcalloc(1, SIZE);
    struct stat st;
    char *copy;
    size_t len;

    memset(data, 'x', 5000); /* two pages, the second one partly */
    data[500000] = 'y';      /* one byte in the middle of zeros */
    data[SIZE - 1] = 'z';    /* in the last, short page */
    ck_assert_int_eq(fs_write_plain(in("a"), data, SIZE, 0600, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(fs_copy_sparse(in("a"), in("b"), 0640, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(fs_read(arena, in("b"), SIZE, &copy, &len, &err), 0);
    ck_assert_uint_eq(len, SIZE);
    ck_assert_int_eq(memcmp(copy, data, SIZE), 0);
    ck_assert_uint_eq(mode_of(in("b")), 0640);
    ck_assert_int_eq(stat(in("b"), &st), 0);
    ck_assert_int_lt(st.st_blocks * 512, 100000); /* of a megabyte */
    memset(data, 0, SIZE);
    ck_assert_int_eq(fs_write_plain(in("z"), data, SIZE, 0600, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(fs_copy_sparse(in("z"), in("zz"), 0600, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(stat(in("zz"), &st), 0);
    ck_assert_int_eq(st.st_size, SIZE); /* a tail of zeros keeps its length */
}
END_TEST

START_TEST(copies_that_are_refused)
{
    char *text;

    put("a", "aaa");
    put("b", "bbb");
    ck_assert_int_eq(fs_copy_sparse(in("a"), in("b"), 0600, (uid_t)-1, (gid_t)-1, &err), -1);
    ck_assert_int_eq(fs_read(arena, in("b"), 10, &text, NULL, &err), 0);
    ck_assert_str_eq(text, "bbb");
    ck_assert_int_eq(fs_copy_sparse(in("none"), in("c"), 0600, (uid_t)-1, (gid_t)-1, &err), -1);
    ck_assert(!fs_exists(in("c")));
    ck_assert_int_eq(symlink(in("a"), in("l")), 0);
    ck_assert_int_eq(fs_copy_sparse(in("l"), in("c"), 0600, (uid_t)-1, (gid_t)-1, &err), -1);
    ck_assert_int_eq(fs_copy_sparse(dir, in("c"), 0600, (uid_t)-1, (gid_t)-1, &err), -1);
    ck_assert(!fs_exists(in("c"))); /* a failed copy leaves nothing */
}
END_TEST

START_TEST(a_full_disk)
{
    char *block;

    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        printf("SKIP fs full disk: needs root and a mount namespace\n");
        return;
    }
    ck_assert_int_eq(mkdir(in("small"), 0700), 0);
    ck_assert_int_eq(mount("none", in("small"), "tmpfs", 0, "size=64k"), 0);
    block = xcalloc(1, 200000);
    memset(block, 'x', 200000);
    ck_assert_int_eq(fs_write_atomic(in("small/f"), block, 200000, 0600, &err), -1);
    ck_assert_int_eq(err.code, ERR_DISK_FULL);
    ck_assert(!fs_exists(in("small/f.tmp")));
    ck_assert_int_eq(fs_write_plain(in("big"), block, 200000, 0600, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(fs_copy_sparse(in("big"), in("small/c"), 0600, (uid_t)-1, (gid_t)-1, &err), -1);
    ck_assert_int_eq(err.code, ERR_DISK_FULL);
    ck_assert(!fs_exists(in("small/c")));
    free(block);
    ck_assert_int_eq(umount(in("small")), 0);
}
END_TEST

START_TEST(removing)
{
    ck_assert_int_eq(fs_remove_tree(in("none"), false, &err), 0);
    put("f", "x");
    ck_assert_int_eq(fs_remove_tree(in("f"), false, &err), 0);
    ck_assert(!fs_exists(in("f")));
    ck_assert_int_eq(mkdir(in("t"), 0700) | mkdir(in("t/a"), 0700) | mkdir(in("t/a/b"), 0700), 0);
    put("t/a/b/f", "x");
    put("t/f", "x");
    ck_assert_int_eq(mkfifo(in("t/fifo"), 0600), 0);
    ck_assert_int_eq(fs_remove_tree(in("t"), true, &err), 0);
    ck_assert(fs_exists(in("t")));
    ck_assert_int_eq(rmdir(in("t")), 0); /* it was empty */
}
END_TEST

START_TEST(removing_does_not_follow_links)
{
    ck_assert_int_eq(mkdir(in("keep"), 0700) | mkdir(in("t"), 0700), 0);
    put("keep/f", "x");
    ck_assert_int_eq(symlink(in("keep"), in("t/link")), 0);
    ck_assert_int_eq(symlink(in("keep"), in("top")), 0);
    ck_assert_int_eq(fs_remove_tree(in("t"), false, &err), 0);
    ck_assert_int_eq(fs_remove_tree(in("top"), true, &err), -1); /* not a directory of ours to empty */
    ck_assert_int_eq(fs_remove_tree(in("top"), false, &err), 0); /* the link goes, not what it names */
    ck_assert(!fs_exists(in("top")));
    ck_assert(fs_exists(in("keep/f")));
}
END_TEST

/* A tenant can build this; neither descriptors nor the stack may run out, nor may a closed directory stop it.
 */
START_TEST(removing_hostile_trees)
{
    struct rlimit few = { 256, 256 };

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    ck_assert_int_eq(mkdir(in("deep"), 0700), 0);
    ck_assert_int_eq(chdir(in("deep")), 0);
    for (int i = 0; i < 3000; i++) {
        ck_assert_int_eq(mkdir("d", 0700), 0);
        if (i % 500 == 0)
            close(open("file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        ck_assert_int_eq(chdir("d"), 0);
    }
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(mkdir(in("deep/closed"), 0700), 0);
    put("deep/closed/f", "x");
    ck_assert_int_eq(chmod(in("deep/closed"), 0), 0);
    ck_assert_msg(fs_remove_tree(in("deep"), false, &err) == 0, "%s", err.detail);
    ck_assert(!fs_exists(in("deep")));
}
END_TEST

START_TEST(removing_stops_at_a_mount)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        printf("SKIP fs mount: needs root and a mount namespace\n");
        return;
    }
    ck_assert_int_eq(mkdir(in("keep"), 0700) | mkdir(in("t"), 0700) | mkdir(in("t/m"), 0700), 0);
    put("keep/f", "x");
    ck_assert_int_eq(mount(in("keep"), in("t/m"), NULL, MS_BIND, NULL),
                     0); /* the same device: only the mount tells */
    ck_assert_int_eq(fs_remove_tree(in("t"), false, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.detail, "mount point"));
    ck_assert(fs_exists(in("keep/f")));
    ck_assert_int_eq(umount(in("t/m")), 0);
}
END_TEST

START_TEST(measuring)
{
    auto_free char *block = xcalloc(1, 100000);
    uint64_t bytes = 0, total = 0, avail = 0;

    memset(block, 'x', 100000);
    ck_assert_int_eq(mkdir(in("t"), 0700) | mkdir(in("t/a"), 0700), 0);
    ck_assert_int_eq(fs_write_plain(in("t/a/f"), block, 100000, 0600, (uid_t)-1, (gid_t)-1, &err), 0);
    ck_assert_int_eq(symlink("/", in("t/root")), 0); /* not followed */
    ck_assert_int_eq(fs_sync_file(in("t/a/f"), &err), 0);
    ck_assert_int_eq(fs_usage(in("t"), &bytes, &err), 0);
    ck_assert_uint_ge(bytes, 100000);
    ck_assert_uint_le(bytes, 300000);
    ck_assert_int_eq(fs_usage(in("none"), &bytes, &err), -1);
    ck_assert_int_eq(fs_space(dir, &total, &avail, &err), 0);
    ck_assert_uint_gt(total, avail);
    ck_assert_uint_gt(avail, 0);
    ck_assert_int_eq(fs_space(in("none"), &total, &avail, &err), -1);
}
END_TEST

START_TEST(listing)
{
    const char **names = NULL, *real = NULL;
    size_t n = 99;

    ck_assert_int_eq(mkdir(in("l"), 0700), 0);
    ck_assert_int_eq(fs_list(arena, in("l"), &names, &n, &err), 0);
    ck_assert_uint_eq(n, 0);
    ck_assert_ptr_null(names[0]);
    put("l/b", "");
    put("l/.hidden", "");
    put("l/a", "");
    ck_assert_int_eq(fs_list(arena, in("l"), &names, NULL, &err), 0);
    ck_assert_str_eq(names[0], ".hidden");
    ck_assert_str_eq(names[1], "a");
    ck_assert_str_eq(names[2], "b");
    ck_assert_ptr_null(names[3]);
    ck_assert_int_eq(fs_list(arena, in("none"), &names, &n, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
    ck_assert_int_eq(symlink("l", in("link")), 0);
    ck_assert_int_eq(fs_realpath(arena, in("link/../link/a"), &real, &err), 0);
    ck_assert_str_eq(real, in("l/a"));
    ck_assert_int_eq(fs_realpath(arena, in("none"), &real, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
    ck_assert_int_eq(symlink("/nowhere", in("dangling")), 0);
    ck_assert(fs_exists(in("dangling")));
    ck_assert(!fs_exists(in("none")));
}
END_TEST

START_TEST(locking)
{
    int a = -1, b = -1;

    ck_assert_int_eq(fs_lock(in("lock"), true, &a, &err), 1);
    ck_assert_uint_eq(mode_of(in("lock")), 0600);
    ck_assert_int_eq(fcntl(a, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fs_lock(in("lock"), true, &b, &err), 0);
    ck_assert_int_eq(b, -1);
    close(a);
    ck_assert_int_eq(fs_lock(in("lock"), false, &b, &err), 1);
    ck_assert_int_eq(fcntl(b, F_GETFD), 0);
    close(b);
    ck_assert_int_eq(fs_lock(in("no/lock"), true, &a, &err), -1);
    ck_assert_int_eq(symlink(in("lock"), in("ll")), 0);
    ck_assert_int_eq(fs_lock(in("ll"), true, &a, &err), -1);
}
END_TEST

Suite *t_fs_suite(void)
{
    Suite *s = suite_create("fs");
    TCase *c = tcase_create("fs");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 30);
    tcase_add_test(c, directories);
    tcase_add_test(c, owner);
    tcase_add_test(c, reading);
    tcase_add_test(c, reading_only_regular_files);
    tcase_add_test(c, writing);
    tcase_add_test(c, writing_does_not_follow_links);
    tcase_add_test(c, two_writers_never_mix);
    tcase_add_test(c, syncing);
    tcase_add_test(c, sparse_copies);
    tcase_add_test(c, copies_that_are_refused);
    tcase_add_test(c, a_full_disk);
    tcase_add_test(c, removing);
    tcase_add_test(c, removing_does_not_follow_links);
    tcase_add_test(c, removing_hostile_trees);
    tcase_add_test(c, removing_stops_at_a_mount);
    tcase_add_test(c, measuring);
    tcase_add_test(c, listing);
    tcase_add_test(c, locking);
    suite_add_tcase(s, c);
    return s;
}
