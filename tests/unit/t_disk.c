/*
 * t_disk.c - the disk file: made, mounted again, taken over, enlarged, and what can go wrong on the way
 *
 * Each test in a mount namespace of its own, so that nothing stays mounted however it ends.
 */
#include <check.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/text.h"
#include "store/disk.h"
#include "store/driver.h"

#define MIB  (1024ull * 1024ull)
#define SIZE (300 * MIB)

Suite *t_disk_suite(void);

static char *top;  /* of all tests */
static char *data; /* the data directory */
static char *file; /* data/disk.btrfs */
static char *volumes;
static struct store *S;
static struct arena *A;
static struct err E;
static const char *covered; /* by cover(), until teardown */

#define OK(expr)                                                                                             \
    do {                                                                                                     \
        E = (struct err)ERR_INIT;                                                                            \
        ck_assert_msg((expr) == 0, "%s: %s (%s)", #expr, E.msg, E.detail);                                   \
    } while (0)

#define FAILS(expr, want)                                                                                    \
    do {                                                                                                     \
        E = (struct err)ERR_INIT;                                                                            \
        ck_assert_msg((expr) < 0, "%s did not fail", #expr);                                                 \
        ck_assert_msg(E.code == (want), "%s: %s, not %s: %s (%s)", #expr, err_name(E.code), err_name(want),  \
                      E.msg, E.detail);                                                                      \
    } while (0)

static void case_setup(void)
{
    top = xasprintf("/tmp/mere-t-disk-%d", (int)getpid());
    if (mkdir(top, 0755) < 0)
        abort();
}

static void case_teardown(void)
{
    struct err err = ERR_INIT;

    if (fs_remove_tree(top, false, &err) < 0)
        fprintf(stderr, "t_disk: %s is left behind: %s\n", top, err.detail);
    ptr_free(&top);
}

static void setup(void)
{
    A = arena_new(0);
    data = xasprintf("%s/data", top);
    file = xasprintf("%s/disk.btrfs", data);
    volumes = xasprintf("%s/volumes", data);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        abort();
    OK(fs_remove_tree(data, false, &E)); /* of a test that failed */
    ck_assert_int_eq(mkdir(data, 0700), 0);
}

/* Something mounted over what the test wants to be missing. */
static void cover(const char *path, const char *source, const char *type, unsigned long flags)
{
    ck_assert_int_eq(mount(source, path, type, flags, NULL), 0);
    covered = path;
}

static void uncover(void)
{
    if (covered != NULL)
        umount2(covered, MNT_DETACH);
    covered = NULL;
}

/* A /dev without loop devices. */
static void cover_dev(void)
{
    cover("/dev", "none", "tmpfs", 0);
    ck_assert_int_eq(mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)), 0);
}

static void teardown(void)
{
    struct err err = ERR_INIT;

    uncover();
    store_close(TAKE(S), false);
    if (fs_remove_tree(data, false, &err) < 0)
        fprintf(stderr, "t_disk: %s is left behind: %s\n", data, err.detail);
    ptr_free(&volumes);
    ptr_free(&file);
    ptr_free(&data);
    arena_free(TAKE(A));
}

/* --- looking on
 * ----------------------------------------------------------------------------------------------------- */

static int open_as(const char *driver)
{
    struct store_options opt = { .dir = data, .driver = driver };

    return store_open(&opt, &S, &E);
}

static bool is_mounted(void)
{
    struct stat in, out;

    ck_assert_int_eq(stat(volumes, &in), 0);
    ck_assert_int_eq(stat(data, &out), 0);
    return in.st_dev != out.st_dev;
}

/* How many lines of the mount table name the directory. */
static int n_mounts(void)
{
    auto_free char *line = NULL;
    FILE *f = fopen("/proc/self/mounts", "re");
    auto_free char *want = xasprintf(" %s ", volumes);
    size_t cap = 0;
    int n = 0;

    ck_assert_ptr_nonnull(f);
    while (getline(&line, &cap, f) > 0)
        n += strstr(line, want) != NULL;
    fclose(f);
    return n;
}

static void mount_is_as_it_must_be(void)
{
    auto_free char *want = xasprintf(" %s btrfs rw,nosuid,nodev,noatime,", volumes);
    char *text = NULL, *line;

    OK(fs_read(A, "/proc/self/mounts", MIB, &text, NULL, &E));
    line = strstr(text, want);
    ck_assert_msg(line != NULL, "%s is not in %s", want, text);
    line[strcspn(line, "\n")] = '\0';
    ck_assert_ptr_null(strstr(line, "discard"));
}

static char *loop_fact(const char *loop, const char *name)
{
    struct err err = ERR_INIT;
    char *text = NULL;

    if (fs_read(A, arena_printf(A, "/sys/block/%s/loop/%s", loop, name), 4096, &text, NULL, &err) < 0)
        return arena_strdup(A, "");
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* How many loop devices are on a file below the data directory, and one of them. */
static int n_loops(const char **ret_name)
{
    const char **names = NULL;
    int n = 0;

    OK(fs_list(A, "/sys/block", &names, NULL, &E));
    for (size_t i = 0; names[i] != NULL; i++) {
        if (!text_starts_with(names[i], "loop") ||
            !text_starts_with(loop_fact(names[i], "backing_file"), data))
            continue;
        n++;
        if (ret_name != NULL)
            *ret_name = names[i];
    }
    return n;
}

static void nothing_is_left(void)
{
    ck_assert_int_eq(n_loops(NULL), 0);
    ck_assert(!fs_exists(file));
    ck_assert(!fs_exists(arena_printf(A, "%s.new", file)));
    ck_assert(!fs_exists(volumes) || !is_mounted());
}

static const char *in_volume(const char *id, const char *name)
{
    return arena_printf(A, "%s/%s", store_path(S, A, id), name);
}

static void put(const char *id, const char *name, const char *text)
{
    OK(fs_write_plain(in_volume(id, name), text, strlen(text), 0600, (uid_t)-1, (gid_t)-1, &E));
}

static const char *get(const char *id, const char *name)
{
    char *text = NULL;

    OK(fs_read(A, in_volume(id, name), 4096, &text, NULL, &E));
    return text;
}

static uint64_t total(void)
{
    uint64_t bytes = 0;

    OK(store_space(S, &bytes, NULL, &E));
    return bytes;
}

/* --- made, closed, opened
 * ------------------------------------------------------------------------------------------- */

START_TEST(made_and_opened_again)
{
    const char *loop = NULL;
    struct stat st;

    OK(open_as("disk:300MiB"));
    ck_assert_str_eq(store_driver(S), "btrfs");
    ck_assert_uint_eq(store_features(S), STORE_SHARES_BLOCKS | STORE_ATOMIC_SNAPSHOT | STORE_GROWS);
    ck_assert_ptr_nonnull(strstr(store_notice(S), "disk file of 0.3 GiB"));
    ck_assert_int_eq(n_mounts(), 1);
    ck_assert_int_eq(n_loops(&loop), 1);
    ck_assert_str_eq(loop_fact(loop, "autoclear"), "1");
    ck_assert_str_eq(loop_fact(loop, "dio"), "1");
    ck_assert_int_eq(stat(file, &st), 0);
    ck_assert_int_eq(st.st_size, SIZE);
    ck_assert_int_ge(st.st_blocks * 512, st.st_size);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_int_eq(stat(volumes, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0711);
    OK(store_create(S, "v", &E));
    put("v", "f", "here");
    OK(store_clone(S, "v", "w", false, &E));
    store_close(TAKE(S), false);
    ck_assert(!is_mounted());
    ck_assert_int_eq(n_loops(NULL), 0);

    OK(open_as("auto"));
    ck_assert_str_eq(store_driver(S), "btrfs");
    ck_assert_ptr_null(store_notice(S));
    mount_is_as_it_must_be();
    ck_assert_str_eq(get("w", "f"), "here");
    OK(store_remove(S, "w", &E));
    OK(store_empty_trash(S, &E));
    OK(store_sync(S, &E));
    store_close(TAKE(S), false);
    ck_assert_int_eq(stat(file, &st), 0);
    ck_assert_int_ge(st.st_blocks * 512, st.st_size); /* nothing was given back by discarding */

    OK(open_as("btrfs"));
    ck_assert_str_eq(get("v", "f"), "here");
    store_close(TAKE(S), false);
    OK(open_as("copy")); /* another way of cloning, the same volumes */
    ck_assert_str_eq(store_driver(S), "copy");
    ck_assert_str_eq(get("v", "f"), "here");
}
END_TEST

START_TEST(kept_mounted_when_asked)
{
    OK(open_as("disk:300MiB"));
    store_close(TAKE(S), true);
    ck_assert(is_mounted());
    OK(open_as("auto"));
    ck_assert_int_eq(n_mounts(), 1);
    store_close(TAKE(S), false);
    ck_assert(!is_mounted());
}
END_TEST

static void open_and_die(void)
{
    pid_t pid = fork();
    int status = 0;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (open_as("disk:300MiB") < 0 || store_create(S, "v", &E) < 0)
            _exit(1);
        put("v", "f", "written before the kill");
        kill(getpid(), SIGKILL);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status));
}

START_TEST(taken_over_after_kill)
{
    const char *before = NULL, *after = NULL;

    open_and_die();
    ck_assert_int_eq(n_loops(&before), 1);
    ck_assert_int_eq(n_mounts(), 1);
    OK(open_as("auto"));
    ck_assert_int_eq(n_loops(&after), 1);
    ck_assert_str_eq(before, after);
    ck_assert_int_eq(n_mounts(), 1);
    ck_assert_str_eq(get("v", "f"), "written before the kill");
    store_close(TAKE(S), false);
    ck_assert(!is_mounted());
    ck_assert_int_eq(n_loops(NULL), 0);
}
END_TEST

START_TEST(busy_mount_is_taken_over)
{
    auto_fd fd = -1;

    OK(open_as("disk:300MiB"));
    OK(store_create(S, "v", &E));
    put("v", "f", "in use");
    fd = open(in_volume("v", "f"), O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    store_close(TAKE(S), false);
    ck_assert(is_mounted());
    OK(open_as("auto"));
    ck_assert_int_eq(n_mounts(), 1);
    fd_close(&fd);
}
END_TEST

/* A mount that lives on where we cannot see it, as in a compute's own namespace, still holds the loop device.
 */
START_TEST(hidden_mount_shares_the_device)
{
    int ready[2], done[2], status = 0;
    char byte = 0;
    pid_t pid;

    OK(open_as("disk:300MiB"));
    OK(store_create(S, "v", &E));
    ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(done, O_CLOEXEC), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        close(done[1]);
        _exit(read(done[0], &byte, 1) == 0 && fs_exists(in_volume("v", "later")) ? 0 : 2);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    store_close(TAKE(S), false);
    ck_assert(!is_mounted());
    ck_assert_int_eq(n_loops(NULL), 1);
    OK(open_as("auto"));
    ck_assert_int_eq(n_loops(NULL), 1);
    put("v", "later", "seen by both");
    close(done[0]);
    close(done[1]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* The kernel follows the rename of the file behind a device, and so do we. */
START_TEST(moved_data_directory)
{
    auto_free char *moved = xasprintf("%s-moved", data);
    struct store_options opt = { .dir = moved, .driver = "auto" };

    OK(open_as("disk:300MiB"));
    OK(store_create(S, "v", &E));
    store_close(TAKE(S), true);
    ck_assert_int_eq(rename(data, moved), 0);
    OK(store_open(&opt, &S, &E));
    ck_assert(store_exists(S, "v"));
    ck_assert_int_eq(n_loops(NULL), 1);
    store_close(TAKE(S), false);
    ck_assert_int_eq(n_loops(NULL), 0);
    ck_assert_int_eq(rename(moved, data), 0);
}
END_TEST

/* --- growing
 * -------------------------------------------------------------------------------------------------------- */

static void fill_disk(const char *id)
{
    auto_free char *block = xmalloc(MIB);
    auto_fd fd = open(in_volume(id, "big"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    uint64_t all = 0, free_bytes = 0;

    ck_assert_int_ge(fd, 0);
    memset(block, 'b', MIB);
    do {
        ck_assert_int_eq(write(fd, block, MIB), MIB);
        ck_assert_int_eq(fsync(fd), 0);
        OK(store_space(S, &all, &free_bytes, &E));
    } while (free_bytes >= all / 5);
}

START_TEST(grows_when_nearly_full)
{
    uint64_t before, host_free = 0;
    bool grown = true;
    struct stat st;

    OK(open_as("disk:300MiB"));
    OK(store_create(S, "v", &E));
    put("v", "f", "kept");
    before = total();
    OK(store_grow(S, 0, &grown, &E));
    ck_assert(!grown); /* it is empty */
    fill_disk("v");
    OK(fs_space(data, NULL, &host_free, &E));
    OK(store_grow(S, host_free, &grown, &E));
    ck_assert(!grown); /* the host would not keep its reserve */
    OK(store_grow(S, MIB, &grown, &E));
    ck_assert(grown);
    ck_assert_uint_eq(total(), before + 1024 * MIB);
    ck_assert_int_eq(stat(file, &st), 0);
    ck_assert_int_eq(st.st_size, SIZE + 1024 * MIB);
    ck_assert_int_ge(st.st_blocks * 512, st.st_size);
    OK(store_grow(S, 0, &grown, &E));
    ck_assert(!grown); /* enough now */
    ck_assert_str_eq(get("v", "f"), "kept");
    store_close(TAKE(S), false);
    OK(open_as("auto"));
    ck_assert_uint_eq(total(), before + 1024 * MIB);
    ck_assert_str_eq(get("v", "f"), "kept");
}
END_TEST

/* Afterwards the driver cannot be tried. */
static void fill_it(const char *id)
{
    static const char block[MIB] = "f";

    for (size_t size = MIB; size >= 1024; size /= 32)
        for (int i = 0;; i++) {
            const char *name = arena_printf(A, "%zu.%d", size, i);
            auto_fd fd = open(in_volume(id, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

            if (fd < 0 || write(fd, block, size) < 0 || fsync(fd) < 0)
                break;
        }
    FAILS(STORE_BTRFS.probe(volumes, &E), ERR_DISK_FULL);
}

START_TEST(opened_when_full)
{
    struct store_options opt = { .dir = data, .driver = "auto", .reserve_bytes = 1ull << 60 };

    OK(open_as("disk:256MiB"));
    OK(store_create(S, "v", &E));
    put("v", "f", "kept");
    OK(store_create(S, "w", &E));
    fill_it("w");
    store_close(TAKE(S), false);

    OK(store_open(&opt, &S, &E)); /* the host has no room for more */
    ck_assert_uint_eq(total(), 256 * MIB);
    ck_assert_str_eq(store_driver(S), "btrfs");
    ck_assert_str_eq(get("v", "f"), "kept");
    store_close(TAKE(S), false);

    opt.reserve_bytes = MIB;
    OK(store_open(&opt, &S, &E));
    ck_assert_uint_eq(total(), 1280 * MIB);
    OK(store_create(S, "x", &E));
    ck_assert_str_eq(get("v", "f"), "kept");
    store_close(TAKE(S), false);
}
END_TEST

START_TEST(room_is_made_by_deleting)
{
    struct store_options opt = { .dir = data, .driver = "btrfs", .reserve_bytes = 1ull << 60 };

    OK(open_as("disk:256MiB"));
    OK(store_create(S, "v", &E));
    OK(store_create(S, "w", &E));
    fill_it("w");
    store_close(TAKE(S), false);
    OK(store_open(&opt, &S, &E));
    OK(store_remove(S, "w", &E));
    OK(store_empty_trash(S, &E));
    OK(store_sync(S, &E));
    OK(store_clone(S, "v", "x", false, &E));
}
END_TEST

START_TEST(asked_larger_at_start)
{
    OK(open_as("disk:300MiB"));
    ck_assert_uint_eq(total(), SIZE);
    store_close(TAKE(S), false);
    OK(open_as("disk:400MiB"));
    ck_assert_uint_eq(total(), 400 * MIB);
    store_close(TAKE(S), false);
    OK(open_as("disk:300MiB")); /* never smaller */
    ck_assert_uint_eq(total(), 400 * MIB);
}
END_TEST

START_TEST(interrupted_growth_is_finished)
{
    OK(open_as("disk:300MiB"));
    store_close(TAKE(S), true);
    ck_assert_int_eq(truncate(file, SIZE + 100 * MIB),
                     0); /* the first step and no more, and even that not in full */
    OK(open_as("auto"));
    ck_assert_uint_eq(total(), SIZE + 100 * MIB);
}
END_TEST

START_TEST(holes_are_allocated_again)
{
    struct stat st;
    auto_fd fd = -1;

    OK(open_as("disk:300MiB"));
    OK(store_create(S, "v", &E));
    put("v", "f", "kept");
    store_close(TAKE(S), false);
    fd = open(file, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SIZE - 8 * MIB, 8 * MIB), 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_lt(st.st_blocks * 512, st.st_size);
    OK(open_as("auto"));
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_ge(st.st_blocks * 512, st.st_size);
    ck_assert_str_eq(get("v", "f"), "kept");
}
END_TEST

/* --- crashes
 * -------------------------------------------------------------------------------------------------------- */

#ifdef MERE_CRASH_POINTS
static void dies_opening(const char *driver, const char *at)
{
    pid_t pid = fork();
    int status = 0;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        setenv("CRASH_AT", at, 1);
        (void)!open_as(driver);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 137, "%s is not on the way", at);
}

START_TEST(crash_while_made)
{
    static const char *const POINTS[] = { "store.disk.allocated:1", "store.disk.attached:1",
                                          "store.disk.mounted:1",   "store.disk.formatted:1",
                                          "store.disk.attached:2",  "store.disk.mounted:2",
                                          "store.disk.capacity:1" };

    dies_opening("disk:300MiB", POINTS[_i]);
    OK(open_as("disk:300MiB"));
    ck_assert_int_eq(n_mounts(), 1);
    ck_assert_int_eq(n_loops(NULL), 1);
    ck_assert(!fs_exists(arena_printf(A, "%s.new", file)));
    ck_assert_uint_eq(total(), SIZE);
    OK(store_create(S, "v", &E));
    OK(store_clone(S, "v", "w", false, &E));
    store_close(TAKE(S), false);
    ck_assert_int_eq(n_loops(NULL), 0);
}
END_TEST

START_TEST(crash_while_growing)
{
    OK(open_as("disk:300MiB"));
    store_close(TAKE(S), false);
    dies_opening("disk:400MiB", _i == 0 ? "store.disk.grown:1" : "store.disk.capacity:2");
    OK(open_as("auto"));
    ck_assert_uint_eq(total(), 400 * MIB);
    ck_assert_int_eq(n_mounts(), 1);
}
END_TEST
#endif

/* --- what does not work
 * --------------------------------------------------------------------------------------------- */

START_TEST(bad_words)
{
    static const char *const BAD[] = { "",        "zfs",         "disk", "disk:",  "disk:x",
                                       "disk:-1", "disk:1.5GiB", "Auto", "btrfs ", "disk:10G " };

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        FAILS(open_as(BAD[i]), ERR_INVALID);
        ck_assert_ptr_nonnull(strstr(E.msg, "disk:SIZE"));
    }
    nothing_is_left();
}
END_TEST

START_TEST(size_that_cannot_be)
{
    FAILS(open_as("disk:1MiB"), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(E.msg, "256 MiB"));
    FAILS(open_as("disk:900TiB"), ERR_DISK_FULL);
    ck_assert_ptr_nonnull(strstr(E.msg, "MiB are free"));
    nothing_is_left();
}
END_TEST

START_TEST(missing_data_directory)
{
    struct store_options opt = { .dir = "/nonexistent/mere", .driver = "auto" };

    FAILS(store_open(&opt, &S, &E), ERR_NOT_FOUND);
}
END_TEST

START_TEST(named_driver_that_does_not_probe)
{
    const char *where = arena_printf(A, "%s/ram", data);

    ck_assert_int_eq(mkdir(where, 0700), 0);
    ck_assert_int_eq(mount("none", where, "tmpfs", 0, "size=64m"), 0);
    ptr_free(&volumes);
    ptr_free(&data);
    data = xstrdup(where);
    volumes = xasprintf("%s/volumes", where);
    FAILS(open_as("btrfs"), ERR_NOT_SUPPORTED);
    ck_assert_ptr_nonnull(strstr(E.msg, "--store btrfs cannot be used: the data directory is not on btrfs"));
    FAILS(open_as("reflink"), ERR_NOT_SUPPORTED);
    ck_assert_ptr_nonnull(strstr(E.msg, "cannot share blocks"));
    OK(open_as("auto")); /* a fifth of 64 MB is no disk file */
    ck_assert_str_eq(store_driver(S), "copy");
    ck_assert_ptr_nonnull(strstr(store_notice(S), "full copy"));
    store_close(TAKE(S), false);
    ck_assert_int_eq(umount2(where, 0), 0);
    data[strlen(data) - strlen("/ram")] = '\0';
    ck_assert_int_eq(rmdir(where), 0);
}
END_TEST

/* auto falls to the next driver and says why; asked for by name it is an error that says why; nothing is left
 * of it. */
static void disk_is_not_possible(const char *why)
{
    FAILS(open_as("disk:300MiB"), ERR_NOT_SUPPORTED);
    ck_assert_ptr_nonnull(strstr(E.msg, "--store disk cannot be used"));
    ck_assert_msg(strstr(E.msg, why) != NULL, "\"%s\" is not in: %s", why, E.msg);
    nothing_is_left();
    OK(open_as("auto"));
    ck_assert_ptr_null(strstr(store_driver(S), "btrfs"));
    ck_assert_msg(strstr(store_notice(S), why) != NULL, "\"%s\" is not in: %s", why, store_notice(S));
    nothing_is_left();
    OK(store_create(S, "v", &E));
}

START_TEST(no_loop_devices)
{
    cover_dev();
    disk_is_not_possible("/dev/loop-control");
}
END_TEST

/* A container may have the control device and none of the others. */
START_TEST(no_loop_nodes)
{
    cover_dev();
    ck_assert_int_eq(mknod("/dev/loop-control", S_IFCHR | 0600, makedev(10, 237)), 0);
    disk_is_not_possible("/dev/loop");
}
END_TEST

START_TEST(no_mkfs)
{
    cover("/usr/sbin/mkfs.btrfs", "/dev/null", NULL, MS_BIND);
    disk_is_not_possible("btrfs-progs");
}
END_TEST

START_TEST(existing_disk_that_cannot_be_mounted)
{
    OK(open_as("disk:300MiB"));
    OK(store_create(S, "v", &E));
    store_close(TAKE(S), false);
    cover_dev();
    /* Not another driver: the volumes would seem to be lost. */
    FAILS(open_as("auto"), ERR_NOT_SUPPORTED);
    FAILS(open_as("copy"), ERR_NOT_SUPPORTED);
    uncover();
    OK(open_as("auto"));
    ck_assert(store_exists(S, "v"));
}
END_TEST

START_TEST(garbage_in_the_file)
{
    OK(fs_write_plain(file, "garbage", 7, 0600, (uid_t)-1, (gid_t)-1, &E));
    ck_assert_int_eq(truncate(file, SIZE), 0);
    FAILS(open_as("auto"), ERR_INTERNAL);
    ck_assert_ptr_nonnull(strstr(E.msg, "cannot be mounted"));
    ck_assert_int_eq(n_loops(NULL), 0);
    ck_assert(fs_exists(file)); /* it is somebody's data for all we know */
}
END_TEST

START_TEST(volumes_are_not_hidden)
{
    OK(open_as("copy"));
    OK(store_create(S, "v", &E));
    put("v", "f", "here");
    store_close(TAKE(S), false);
    FAILS(open_as("disk:300MiB"), ERR_CONFLICT);
    ck_assert_ptr_nonnull(strstr(E.msg, "already holds volumes"));
    nothing_is_left();
    OK(open_as("auto"));
    nothing_is_left();
    ck_assert_str_eq(get("v", "f"), "here");
    OK(store_remove(S, "v", &E));
    store_close(TAKE(S), false);
    FAILS(open_as("disk:300MiB"), ERR_CONFLICT); /* what is in the trash counts: nobody could empty it */
    OK(open_as("auto"));
    OK(store_empty_trash(S, &E));
    store_close(TAKE(S), false);
    OK(open_as("disk:300MiB"));
    ck_assert_str_eq(store_driver(S), "btrfs");
}
END_TEST

START_TEST(foreign_mount_in_its_place)
{
    OK(open_as("disk:300MiB"));
    store_close(TAKE(S), false);
    ck_assert_int_eq(mount("none", volumes, "tmpfs", 0, "size=1m"), 0);
    FAILS(open_as("auto"), ERR_CONFLICT);
    ck_assert_ptr_nonnull(strstr(E.msg, "not the disk file"));
    ck_assert_int_eq(n_loops(NULL), 0);
    ck_assert_int_eq(n_mounts(), 1);
    ck_assert_int_eq(umount2(volumes, 0), 0);
    OK(open_as("auto"));
}
END_TEST

START_TEST(allocation_fails_half_way)
{
    struct rlimit before, small;

    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){ .rlim_cur = 100 * MIB, .rlim_max = before.rlim_max };
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    FAILS(open_as("disk:300MiB"), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(E.msg, "cannot hold a file of this size"));
    nothing_is_left();
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    /* The same while growing: it stays as it was, and works. */
    OK(open_as("disk:300MiB"));
    OK(store_create(S, "v", &E));
    store_close(TAKE(S), false);
    small.rlim_cur = 350 * MIB;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    FAILS(open_as("disk:400MiB"), ERR_INVALID);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    OK(open_as("auto"));
    ck_assert_uint_eq(total(), SIZE);
    ck_assert(store_exists(S, "v"));
}
END_TEST

/* --- the suite
 * ------------------------------------------------------------------------------------------------------ */

START_TEST(skipped)
{
    printf("SKIP t_disk: it needs root, loop devices and /usr/sbin/mkfs.btrfs\n");
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, made_and_opened_again);
    tcase_add_test(tc, kept_mounted_when_asked);
    tcase_add_test(tc, taken_over_after_kill);
    tcase_add_test(tc, busy_mount_is_taken_over);
    tcase_add_test(tc, hidden_mount_shares_the_device);
    tcase_add_test(tc, moved_data_directory);
    tcase_add_test(tc, grows_when_nearly_full);
    tcase_add_test(tc, opened_when_full);
    tcase_add_test(tc, room_is_made_by_deleting);
    tcase_add_test(tc, asked_larger_at_start);
    tcase_add_test(tc, interrupted_growth_is_finished);
    tcase_add_test(tc, holes_are_allocated_again);
#ifdef MERE_CRASH_POINTS
    tcase_add_loop_test(tc, crash_while_made, 0, 7);
    tcase_add_loop_test(tc, crash_while_growing, 0, 2);
#endif
    tcase_add_test(tc, bad_words);
    tcase_add_test(tc, size_that_cannot_be);
    tcase_add_test(tc, missing_data_directory);
    tcase_add_test(tc, named_driver_that_does_not_probe);
    tcase_add_test(tc, no_loop_devices);
    tcase_add_test(tc, no_loop_nodes);
    tcase_add_test(tc, no_mkfs);
    tcase_add_test(tc, existing_disk_that_cannot_be_mounted);
    tcase_add_test(tc, garbage_in_the_file);
    tcase_add_test(tc, volumes_are_not_hidden);
    tcase_add_test(tc, foreign_mount_in_its_place);
    tcase_add_test(tc, allocation_fails_half_way);
}

Suite *t_disk_suite(void)
{
    Suite *suite = suite_create("disk");
    TCase *tc = tcase_create("disk");
    struct err why = ERR_INIT;

    tcase_set_timeout(tc, 120);
    suite_add_tcase(suite, tc);
    if (disk_supported(&why) < 0) {
        tcase_add_test(tc, skipped);
        return suite;
    }
    tcase_add_unchecked_fixture(tc, case_setup, case_teardown);
    tcase_add_checked_fixture(tc, setup, teardown);
    add_tests(tc);
    return suite;
}
