/*
 * store_bed.c - file systems to test the store on
 */
#include "store_bed.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "store/driver.h"

const struct bed BEDS[N_BEDS] = {
    [BED_BTRFS] = { "btrfs", "btrfs", { "/usr/sbin/mkfs.btrfs", "-q", "-K" }, 400 },
    [BED_XFS] = { "xfs", "reflink", { "/usr/sbin/mkfs.xfs", "-q", "-K", "-m", "reflink=1" }, 400 },
    [BED_EXT4] = { "ext4", "copy", { "/usr/sbin/mkfs.ext4", "-q", "-E", "nodiscard" }, 200 },
    [BED_HOST_BTRFS] = { "host-btrfs", "btrfs", { NULL }, 0 },
    [BED_HOST_REFLINK] = { "host-reflink", "reflink", { NULL }, 0 },
    [BED_HOST_COPY] = { "host-copy", "copy", { NULL }, 0 },
};

const struct bed *bed; /* of the test case at work */
char *bed_dir;         /* its file system */
char *data;            /* the data directory in it */
struct store *S;
struct arena *A;
struct err E;
/* --- beds
 * -----------------------------------------------------------------------------------------------------------
 */

static void run(const char *const *argv)
{
    const char *out = "";
    struct err err = ERR_INIT;

    if (proc_run(A, argv, 60000, &out, &err) < 0) {
        fprintf(stderr, "t_store: %s: %s (%s)\n", argv[0], err.msg, err.detail);
        abort();
    }
}

static void bed_mount(void)
{
    auto_free char *file = xasprintf("%s.img", bed_dir);
    const char *mkfs[10] = { 0 };
    const char *mnt[] = { "/usr/bin/mount", "-o", "loop,noatime", file, bed_dir, NULL };
    auto_fd fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t n = 0;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || fd < 0 ||
        ftruncate(fd, (off_t)bed->size_mib * MIB) < 0)
        abort();
    for (; bed->mkfs[n] != NULL; n++)
        mkfs[n] = bed->mkfs[n];
    mkfs[n] = file;
    run(mkfs);
    run(mnt);
    unlink(file); /* the loop device keeps it as long as the mount lives */
}

static void bed_setup(int which)
{
    A = arena_new(0);
    bed = &BEDS[which];
    bed_dir = xasprintf("/tmp/mere-t-store-%d-%s", (int)getpid(), bed->name);
    if (mkdir(bed_dir, 0755) < 0)
        abort();
    if (bed->mkfs[0] != NULL)
        bed_mount();
}

static void bed_teardown(void)
{
    struct err err = ERR_INIT;

    if (fs_remove_tree(arena_printf(A, "%s/data", bed_dir), false, &err) < 0)
        fprintf(stderr, "t_store: %s\n", err.detail);
    if (bed->mkfs[0] != NULL &&
        umount2(bed_dir, MNT_DETACH) < 0) /* a test that failed may have left a mount inside */
        fprintf(stderr, "t_store: %s stays mounted: %s\n", bed_dir, strerror(errno));
    if (rmdir(bed_dir) < 0)
        fprintf(stderr, "t_store: %s is left behind: %s\n", bed_dir, strerror(errno));
    ptr_free(&bed_dir);
    arena_free(TAKE(A));
}

void bed_open(void)
{
    struct store_options opt = { .dir = data, .driver = bed->driver };

    OK(store_open(&opt, &S, &E));
}

static void setup(void)
{
    data = xasprintf("%s/data", bed_dir);
    OK(fs_remove_tree(data, false, &E)); /* of a test that failed */
    ck_assert_int_eq(mkdir(data, 0755), 0);
    bed_open();
}

static void teardown(void)
{
    struct err err = ERR_INIT;

    store_close(TAKE(S), false);
    if (fs_remove_tree(data, false, &err) < 0)
        fprintf(stderr, "t_store: %s is left behind: %s\n", data, err.detail);
    ptr_free(&data);
}

/* --- files
 * ----------------------------------------------------------------------------------------------------------
 */

const char *in_volume(const char *id, const char *name)
{
    return arena_printf(A, "%s/%s", store_path(S, A, id), name);
}

void put(const char *id, const char *name, const char *text)
{
    OK(fs_write_plain(in_volume(id, name), text, strlen(text), 0600, (uid_t)-1, (gid_t)-1, &E));
}

const char *get(const char *id, const char *name)
{
    char *text = NULL;

    OK(fs_read(A, in_volume(id, name), 64 * MIB, &text, NULL, &E));
    return text;
}

bool has(const char *id, const char *name)
{
    return fs_exists(in_volume(id, name));
}

void make_dir(const char *id, const char *name, mode_t mode)
{
    OK(fs_mkdir(in_volume(id, name), mode, (uid_t)-1, (gid_t)-1, &E));
}

/* Not compressible, not all alike, the same for the same seed. */
void put_bytes(const char *id, const char *name, size_t n, unsigned seed)
{
    auto_free char *bytes = xmalloc(n);

    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        bytes[i] = (char)(seed >> 16);
    }
    OK(fs_write_plain(in_volume(id, name), bytes, n, 0600, (uid_t)-1, (gid_t)-1, &E));
}

static size_t count_in(const char *dir)
{
    const char **names = NULL;
    size_t n = 0;

    OK(fs_list(A, dir, &names, &n, &E));
    return n;
}

size_t n_tmp(void)
{
    return count_in(arena_printf(A, "%s/volumes/.tmp", data));
}

size_t n_trash(void)
{
    return count_in(arena_printf(A, "%s/volumes/.trash", data));
}

size_t n_volumes(void)
{
    const char **ids = NULL;
    size_t n = 0;

    OK(store_list(S, A, &ids, &n, &E));
    return n;
}

static void compare_entry(const char *a, const char *b, size_t *count);

static void compare_content(const char *a, const char *b, const struct stat *st)
{
    char *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;

    if (S_ISREG(st->st_mode)) {
        OK(fs_read(A, a, 64 * MIB, &x, &nx, &E));
        OK(fs_read(A, b, 64 * MIB, &y, &ny, &E));
    } else {
        x = arena_alloc(A, 4096);
        y = arena_alloc(A, 4096);
        ck_assert_int_gt(readlink(a, x, 4095), 0);
        ck_assert_int_gt(readlink(b, y, 4095), 0);
        nx = strlen(x);
        ny = strlen(y);
    }
    ck_assert_msg(nx == ny && memcmp(x, y, nx) == 0, "%s differs", b);
}

static void compare_dir(const char *a, const char *b, size_t *count)
{
    const char **x = NULL, **y = NULL;
    size_t nx = 0, ny = 0;

    OK(fs_list(A, a, &x, &nx, &E));
    OK(fs_list(A, b, &y, &ny, &E));
    ck_assert_msg(nx == ny, "%s has %zu entries, not %zu", b, ny, nx);
    for (size_t i = 0; i < nx; i++) {
        ck_assert_str_eq(x[i], y[i]);
        compare_entry(arena_printf(A, "%s/%s", a, x[i]), arena_printf(A, "%s/%s", b, x[i]), count);
    }
}

static void compare_entry(const char *a, const char *b, size_t *count)
{
    struct stat x, y;

    ck_assert_int_eq(lstat(a, &x), 0);
    ck_assert_int_eq(lstat(b, &y), 0);
    ck_assert_msg(x.st_mode == y.st_mode, "%s: mode %o, not %o", b, y.st_mode, x.st_mode);
    ck_assert_msg(x.st_uid == y.st_uid && x.st_gid == y.st_gid, "%s: owner %u:%u", b, y.st_uid, y.st_gid);
    ck_assert_msg(x.st_mtim.tv_sec == y.st_mtim.tv_sec && x.st_mtim.tv_nsec == y.st_mtim.tv_nsec, "%s: mtime",
                  b);
    (*count)++;
    if (S_ISDIR(x.st_mode)) {
        compare_dir(a, b, count);
        return;
    }
    ck_assert_int_eq(x.st_size, y.st_size);
    compare_content(a, b, &x);
}

/* Everything the same; how many entries, the root included. */
size_t compare(const char *id, const char *twin)
{
    size_t count = 0;

    compare_entry(store_path(S, A, id), store_path(S, A, twin), &count);
    return count;
}
static void set_times(const char *path, time_t sec, long nsec)
{
    struct timespec times[2] = { { sec, nsec }, { sec + 1, nsec } };

    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void make_sparse(const char *id, const char *name)
{
    auto_fd fd = open(in_volume(id, name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, "begin", 5, 0), 5);
    ck_assert_int_eq(pwrite(fd, "middle", 6, 3 * MIB + 4093), 6); /* across two pages */
    ck_assert_int_eq(ftruncate(fd, 5 * MIB + 123), 0);
}

void make_sample(const char *id)
{
    OK(store_create(S, id, &E));
    make_dir(id, "data", 0700);
    make_dir(id, "data/empty", 02750);
    make_dir(id, "data/closed", 0700);
    put(id, "data/closed/inside", "x");
    put(id, "data/small", "hello");
    put(id, "data/nothing", "");
    put_bytes(id, "data/large", 3 * MIB + 17, 1);
    make_sparse(id, "data/sparse");
    make_dir(id, "pgdata", 0700);
    ck_assert_int_eq(symlink("../no/such/place", in_volume(id, STORE_LINK)), 0);
    if (geteuid() == 0) {
        ck_assert_int_eq(lchown(in_volume(id, "data/small"), 1234, 2345), 0);
        ck_assert_int_eq(lchown(in_volume(id, STORE_LINK), 1234, 1234), 0);
        ck_assert_int_eq(lchown(in_volume(id, "data/empty"), 77, 88), 0);
        ck_assert_int_eq(chmod(in_volume(id, "data/empty"), 02750), 0);
    }
    ck_assert_int_eq(chmod(in_volume(id, "data/small"), 04751), 0);
    ck_assert_int_eq(chmod(in_volume(id, "data/nothing"), 0400), 0);
    ck_assert_int_eq(chmod(in_volume(id, "data/closed"), 0500), 0);
    set_times(in_volume(id, "data/small"), 1000000000, 123456789);
    set_times(in_volume(id, STORE_LINK), 1000000001, 23456789);
    set_times(in_volume(id, "data"), 1000000002, 3456789);
    ck_assert_int_eq(chmod(store_path(S, A, id), 0711), 0);
    set_times(store_path(S, A, id), 1000000003, 456789);
}

#define BED_SETUP(which)                                                                                     \
    static void setup_##which(void)                                                                          \
    {                                                                                                        \
        bed_setup(which);                                                                                    \
    }

BED_SETUP(BED_BTRFS)
BED_SETUP(BED_XFS)
BED_SETUP(BED_EXT4)
BED_SETUP(BED_HOST_BTRFS)
BED_SETUP(BED_HOST_REFLINK)
BED_SETUP(BED_HOST_COPY)

static void (*const SETUPS[N_BEDS])(void) = {
    [BED_BTRFS] = setup_BED_BTRFS,
    [BED_XFS] = setup_BED_XFS,
    [BED_EXT4] = setup_BED_EXT4,
    [BED_HOST_BTRFS] = setup_BED_HOST_BTRFS,
    [BED_HOST_REFLINK] = setup_BED_HOST_REFLINK,
    [BED_HOST_COPY] = setup_BED_HOST_COPY,
};

START_TEST(skipped)
{
    printf("SKIP t_store on %s: it needs root, loop devices and %s\n", BEDS[_i].name, BEDS[_i].mkfs[0]);
}
END_TEST

static bool probes_in_tmp(const char *driver)
{
    auto_free char *dir = xasprintf("/tmp/mere-t-store-%d-probe", (int)getpid());
    struct err err = ERR_INIT;
    bool yes;

    if (mkdir(dir, 0700) < 0)
        return false;
    yes = driver_find(driver)->probe(dir, &err) == 0;
    rmdir(dir);
    return yes;
}

TCase *bed_case(Suite *suite, int which)
{
    const struct bed *b = &BEDS[which];
    TCase *tc = tcase_create(b->name);
    bool own = b->mkfs[0] != NULL;

    tcase_set_timeout(tc, 120);
    suite_add_tcase(suite, tc);
    if (own ? geteuid() == 0 && access("/dev/loop-control", F_OK) == 0 && access(b->mkfs[0], X_OK) == 0
            : probes_in_tmp(b->driver)) {
        tcase_add_unchecked_fixture(tc, SETUPS[which], bed_teardown);
        tcase_add_checked_fixture(tc, setup, teardown);
        return tc;
    }
    if (own)
        tcase_add_loop_test(tc, skipped, which, which + 1);
    return NULL;
}
