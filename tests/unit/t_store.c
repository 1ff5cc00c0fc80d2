/*
 * t_store.c - the conformance suite of the storage drivers: what a volume is
 *
 * The same tests on every driver that works on this machine.
 */
#include "store_bed.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "store/driver.h"

Suite *t_store_suite(void);

/* --- create, list, remove
 * ------------------------------------------------------------------------------------------- */

START_TEST(driver_is_named)
{
    ck_assert_str_eq(store_driver(S), bed->driver);
    ck_assert_int_eq((store_features(S) & STORE_SHARES_BLOCKS) != 0, strcmp(bed->driver, "copy") != 0);
    ck_assert_int_eq((store_features(S) & STORE_ATOMIC_SNAPSHOT) != 0, strcmp(bed->driver, "btrfs") == 0);
    ck_assert_int_eq(store_features(S) & STORE_GROWS, 0);
    ck_assert_ptr_null(store_notice(S));
}
END_TEST

START_TEST(create_list_remove)
{
    const char **ids = NULL;
    struct stat st;
    size_t n = 9;

    OK(store_list(S, A, &ids, &n, &E));
    ck_assert_uint_eq(n, 0);
    ck_assert(!store_exists(S, "b-2"));
    OK(store_create(S, "b-2", &E));
    OK(store_create(S, "a-1", &E));
    put("b-2", "f", "kept");
    OK(store_create(S, "b-2", &E)); /* again: nothing happens to it */
    ck_assert_str_eq(get("b-2", "f"), "kept");
    ck_assert(store_exists(S, "b-2"));
    ck_assert_int_eq(stat(store_path(S, A, "a-1"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0755);
    ck_assert_uint_eq(st.st_uid, geteuid());
    OK(store_list(S, A, &ids, &n, &E));
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(ids[0], "a-1");
    ck_assert_str_eq(ids[1], "b-2");
    ck_assert_ptr_null(ids[2]);
    OK(store_remove(S, "a-1", &E));
    OK(store_remove(S, "a-1", &E));
    OK(store_remove(S, "never-was", &E));
    ck_assert(!store_exists(S, "a-1"));
    ck_assert_uint_eq(n_volumes(), 1);
    ck_assert_uint_eq(n_tmp(), 0);
    OK(store_sync(S, &E));
}
END_TEST

START_TEST(strangers_are_not_volumes)
{
    OK(fs_write_plain(arena_printf(A, "%s/volumes/a-file", data), "x", 1, 0600, (uid_t)-1, (gid_t)-1, &E));
    OK(fs_mkdir(arena_printf(A, "%s/volumes/Not_An_Id", data), 0700, (uid_t)-1, (gid_t)-1, &E));
    ck_assert_int_eq(symlink("/", arena_printf(A, "%s/volumes/link", data)), 0);
    ck_assert_uint_eq(n_volumes(), 0);
    ck_assert(!store_exists(S, "a-file"));
    ck_assert(!store_exists(S, "link"));
    OK(store_create(S, "v", &E));
    FAILS(store_clone(S, "v", "link", false, &E), ERR_CONFLICT);
    FAILS(store_clone(S, "link", "w", false, &E), ERR_NOT_FOUND);
    ck_assert_uint_eq(n_volumes(), 1);
}
END_TEST

START_TEST(invalid_ids)
{
    static const char *const BAD[] = { "",
                                       "A",
                                       "a/b",
                                       "..",
                                       ".",
                                       ".tmp",
                                       "a_b",
                                       "a b",
                                       "a\n",
                                       "\xc3\xa4",
                                       "a.b",
                                       "/",
                                       "0123456789012345678901234567890123456789012345678901234567890" };
    uint64_t bytes = 0;

    OK(store_create(S, "good", &E));
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        FAILS(store_create(S, BAD[i], &E), ERR_INVALID);
        FAILS(store_clone(S, BAD[i], "x", false, &E), ERR_INVALID);
        FAILS(store_clone(S, "good", BAD[i], false, &E), ERR_INVALID);
        FAILS(store_remove(S, BAD[i], &E), ERR_INVALID);
        FAILS(store_usage(S, BAD[i], &bytes, &E), ERR_INVALID);
        ck_assert(!store_exists(S, BAD[i]));
        ck_assert_ptr_null(store_path(S, A, BAD[i]));
    }
    OK(store_create(S, "012345678901234567890123456789012345678901234567890123456789", &E));
    ck_assert_uint_eq(n_volumes(), 2);
}
END_TEST

/* --- clone
 * ----------------------------------------------------------------------------------------------------------
 */

START_TEST(clone_is_a_twin)
{
    make_sample("src");
    OK(store_clone(S, "src", "dst", false, &E));
    ck_assert_uint_eq(compare("src", "dst"), SAMPLE_ENTRIES);
    OK(store_clone(S, "dst", "third", false, &E));
    ck_assert_uint_eq(compare("src", "third"), SAMPLE_ENTRIES);
    ck_assert_uint_eq(n_volumes(), 3);
    ck_assert_uint_eq(n_tmp(), 0);
}
END_TEST

START_TEST(clone_keeps_holes)
{
    struct stat st;

    make_sample("src");
    OK(store_sync(S, &E));
    OK(store_clone(S, "src", "dst", false, &E));
    OK(store_sync(S, &E));
    ck_assert_int_eq(stat(in_volume("dst", "data/sparse"), &st), 0);
    ck_assert_int_lt(st.st_blocks * 512, 256 * 1024);
}
END_TEST

START_TEST(twins_are_independent)
{
    OK(store_create(S, "one", &E));
    put("one", "f", "first");
    put("one", "gone", "x");
    put_bytes("one", "large", MIB, 2);
    OK(store_clone(S, "one", "two", false, &E));
    put("one", "f", "changed in one");
    put("two", "g", "only in two");
    ck_assert_int_eq(unlink(in_volume("two", "gone")), 0);
    ck_assert_int_eq(truncate(in_volume("one", "large"), 10), 0);
    ck_assert_str_eq(get("one", "f"), "changed in one");
    ck_assert_str_eq(get("two", "f"), "first");
    ck_assert(has("one", "gone") && !has("two", "gone"));
    ck_assert(!has("one", "g") && has("two", "g"));
    /* In place, both ways: blocks that are shared must part. */
    OK(store_clone(S, "two", "three", false, &E));
    for (int i = 0; i < 2; i++) {
        auto_fd fd = open(in_volume(i == 0 ? "two" : "three", "large"), O_RDWR | O_CLOEXEC);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(pwrite(fd, i == 0 ? "22" : "33", 2, 500000), 2);
    }
    ck_assert_int_eq(memcmp(get("two", "large") + 500000, "22", 2), 0);
    ck_assert_int_eq(memcmp(get("three", "large") + 500000, "33", 2), 0);
    /* A child outlives its parent. */
    OK(store_remove(S, "one", &E));
    OK(store_remove(S, "two", &E));
    OK(store_empty_trash(S, &E));
    ck_assert_str_eq(get("three", "f"), "first");
}
END_TEST

START_TEST(clone_of_nothing_and_onto_something)
{
    OK(store_create(S, "one", &E));
    put("one", "f", "1");
    OK(store_create(S, "two", &E));
    put("two", "f", "2");
    FAILS(store_clone(S, "none", "three", false, &E), ERR_NOT_FOUND);
    FAILS(store_clone(S, "one", "two", false, &E), ERR_CONFLICT);
    FAILS(store_clone(S, "one", "one", false, &E), ERR_CONFLICT);
    FAILS(store_clone(S, "none", "none", false, &E), ERR_NOT_FOUND);
    ck_assert_str_eq(get("two", "f"), "2");
    ck_assert_uint_eq(n_volumes(), 2);
    ck_assert_uint_eq(n_tmp(), 0);
}
END_TEST

START_TEST(clone_of_many_files)
{
    OK(store_create(S, "src", &E));
    for (int d = 0; d < 10; d++) {
        make_dir("src", arena_printf(A, "d%d", d), 0700);
        for (int f = 0; f < 50; f++)
            put("src", arena_printf(A, "d%d/f%d", d, f), arena_printf(A, "%d of %d", f, d));
    }
    OK(store_clone(S, "src", "dst", false, &E));
    ck_assert_uint_eq(compare("src", "dst"), 511);
}
END_TEST

/* --- what is refused
 * ------------------------------------------------------------------------------------------------ */

/* Refused by its name, and nothing is made; fine again when it is gone. */
static void refused(const char *name)
{
    FAILS(store_clone(S, "src", "dst", false, &E), ERR_INVALID);
    ck_assert_msg(strstr(E.msg, name) != NULL, "\"%s\" is not named in: %s", name, E.msg);
    ck_assert(!store_exists(S, "dst"));
    ck_assert_uint_eq(n_tmp(), 0);
    ck_assert_uint_eq(n_trash(), 0);
}

START_TEST(fifo_socket_link_device_are_refused)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    OK(store_create(S, "src", &E));
    make_dir("src", "sub", 0700);
    put("src", "sub/file", "x");
    ck_assert_int_eq(mkfifo(in_volume("src", "sub/pipe"), 0600), 0);
    refused("\"sub/pipe\" in the data directory is a fifo");
    ck_assert_int_eq(unlink(in_volume("src", "sub/pipe")), 0);

    ck_assert_int_lt(snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", in_volume("src", "sock")),
                     (int)sizeof(sa.sun_path));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    refused("\"sock\" in the data directory is a socket");
    ck_assert_int_eq(unlink(sa.sun_path), 0);

    ck_assert_int_eq(symlink("file", in_volume("src", "sub/link")), 0);
    refused("\"sub/link\" in the data directory is a symbolic link");
    ck_assert_int_eq(unlink(in_volume("src", "sub/link")), 0);

    if (geteuid() == 0) {
        ck_assert_int_eq(mknod(in_volume("src", "sub/null"), S_IFCHR | 0666, makedev(1, 3)), 0);
        refused("\"sub/null\" in the data directory is a device");
        ck_assert_int_eq(unlink(in_volume("src", "sub/null")), 0);
    }
    OK(store_clone(S, "src", "dst", false, &E));
    ck_assert_uint_eq(compare("src", "dst"), 3);
}
END_TEST

START_TEST(hostile_names_do_not_reach_messages)
{
    OK(store_create(S, "src", &E));
    ck_assert_int_eq(mkfifo(in_volume("src", "a\x1b[31m\n\xff"), 0600), 0);
    refused("\"a?[31m??\"");
}
END_TEST

START_TEST(depth_is_bounded)
{
    const char *path = "d";

    OK(store_create(S, "src", &E));
    for (int i = 0; i < 80; i++) {
        make_dir("src", path, 0700);
        path = arena_printf(A, "%s/d", path);
    }
    refused("nested too deeply");
    OK(store_remove(S, "src", &E));
    OK(store_empty_trash(S, &E));
    ck_assert_uint_eq(n_trash(), 0);
}
END_TEST

START_TEST(mount_inside_is_refused)
{
    const char *at;

    OK(store_create(S, "src", &E));
    make_dir("src", "sub", 0700);
    make_dir("src", "sub/mnt", 0700);
    at = in_volume("src", "sub/mnt");
    ck_assert_int_eq(mount("none", at, "tmpfs", 0, "size=64k"), 0);
    refused("\"sub/mnt/\" in the data directory is a mount point");
    ck_assert_int_eq(umount2(at, 0), 0);
    OK(store_clone(S, "src", "dst", false, &E));
}
END_TEST

START_TEST(nested_subvolume_is_refused)
{
    struct btrfs_ioctl_vol_args_v2 args = { .name = "lossy" };
    auto_fd root = -1;

    OK(store_create(S, "src", &E));
    make_dir("src", "sub", 0700);
    OK(STORE_BTRFS.create(in_volume("src", "sub/inner"), &E));
    put("src", "sub/inner/f", "would be lost");
    refused("\"sub/inner/\" in the data directory is a mount point or a nested subvolume");
    ck_assert_str_eq(get("src", "sub/inner/f"), "would be lost");
    /* What a snapshot leaves of it is seen too, for it may appear after the first look. */
    args.fd = open(store_path(S, A, "src"), O_RDONLY | O_CLOEXEC);
    root = open(arena_printf(A, "%s/volumes", data), O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(ioctl(root, BTRFS_IOC_SNAP_CREATE_V2, &args), 0);
    close((int)args.fd);
    ck_assert(!has("lossy", "sub/inner/f"));
    FAILS(store_clone(S, "lossy", "dst", false, &E), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(E.msg, "nested subvolume"));
    ck_assert(!store_exists(S, "dst"));
    OK(store_remove(S, "src", &E));
    OK(store_empty_trash(S, &E));
    ck_assert_uint_eq(n_trash(), 0);
}
END_TEST

/* --- leftovers, trash
 * ----------------------------------------------------------------------------------------------- */

START_TEST(leftovers_are_swept)
{
    const char *left = arena_printf(A, "%s/volumes/.tmp/half", data);

    make_sample("src");
    OK(store_clone(S, "src", "half", false, &E));
    ck_assert_int_eq(rename(store_path(S, A, "half"), left), 0);
    /* In the way of the same call repeated: */
    OK(store_clone(S, "src", "half", false, &E));
    ck_assert_uint_eq(compare("src", "half"), SAMPLE_ENTRIES);
    OK(store_remove(S, "half", &E));
    OK(store_empty_trash(S, &E));
    if (!fs_exists(left)) {
        OK(store_clone(S, "src", "half", false, &E));
        ck_assert_int_eq(rename(store_path(S, A, "half"), left), 0);
    }
    /* At the next start: */
    store_close(TAKE(S), false);
    bed_open();
    ck_assert_uint_eq(n_tmp(), 0);
    ck_assert(!store_exists(S, "half"));
    ck_assert(store_exists(S, "src"));
    OK(store_empty_trash(S, &E));
    ck_assert_uint_eq(n_trash(), 0);
}
END_TEST

START_TEST(trash_is_emptied)
{
    make_sample("v");
    OK(store_remove(S, "v", &E));
    ck_assert_uint_eq(n_trash(), 1);
    OK(store_create(S, "v", &E));
    OK(store_remove(S, "v", &E));
    OK(store_create(S, "v", &E));
    put("v", "f", "the living one");
    ck_assert_uint_eq(n_trash(), 2);
    ck_assert_uint_eq(n_volumes(), 1);
    OK(store_empty_trash(S, &E));
    ck_assert_uint_eq(n_trash(), 0);
    ck_assert_str_eq(get("v", "f"), "the living one");
    OK(store_empty_trash(S, &E));
}
END_TEST

START_TEST(trash_goes_on_after_what_it_cannot_delete)
{
    const char *at = arena_printf(A, "%s/volumes/.trash/aaa", data);

    OK(fs_mkdir(at, 0700, (uid_t)-1, (gid_t)-1, &E));
    ck_assert_int_eq(mount("none", at, "tmpfs", 0, "size=64k"), 0);
    OK(store_create(S, "v", &E));
    OK(store_remove(S, "v", &E));
    FAILS(store_empty_trash(S, &E), ERR_INTERNAL);
    ck_assert_uint_eq(n_trash(), 1);
    ck_assert_int_eq(umount2(at, 0), 0);
    OK(store_empty_trash(S, &E));
    ck_assert_uint_eq(n_trash(), 0);
}
END_TEST

#ifdef MERE_CRASH_POINTS
/* In a process of its own that dies at the point; whether it got there. */
static bool dies_at(const char *point, void (*work)(void))
{
    int status = 0;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        setenv("CRASH_AT", arena_printf(A, "%s:1", point), 1);
        work();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 137;
}

static void clone_it(void)
{
    (void)!store_clone(S, "src", "dst", false, &E);
}

static void remove_it(void)
{
    (void)!store_remove(S, "src", &E);
}

START_TEST(crash_at_any_point)
{
    static const char *const FILE_POINTS[] = { "store.cloned", "store.synced", "store.renamed", NULL };
    static const char *const SNAPSHOT_POINTS[] = { "store.btrfs.snapshot", NULL };
    const char *const *points = strcmp(bed->driver, "btrfs") == 0 ? SNAPSHOT_POINTS : FILE_POINTS;

    make_sample("src");
    for (; *points != NULL; points++) {
        ck_assert_msg(dies_at(*points, clone_it), "%s is not on the way", *points);
        store_close(TAKE(S), false);
        bed_open();
        ck_assert_uint_eq(n_tmp(), 0);
        if (!store_exists(S, "dst"))
            OK(store_clone(S, "src", "dst", false, &E));
        ck_assert_uint_eq(compare("src", "dst"), SAMPLE_ENTRIES);
        OK(store_remove(S, "dst", &E));
        OK(store_empty_trash(S, &E));
        ck_assert_uint_eq(n_trash(), 0);
    }
    ck_assert(dies_at("store.trashed", remove_it));
    ck_assert(!store_exists(S, "src"));
    OK(store_remove(S, "src", &E));
    ck_assert_uint_eq(n_trash(), 1);
}
END_TEST
#endif

/* --- the suite
 * ------------------------------------------------------------------------------------------------------ */

static void add_tests(TCase *tc, const struct bed *b)
{
    tcase_add_test(tc, driver_is_named);
    tcase_add_test(tc, create_list_remove);
    tcase_add_test(tc, strangers_are_not_volumes);
    tcase_add_test(tc, invalid_ids);
    tcase_add_test(tc, clone_is_a_twin);
    tcase_add_test(tc, clone_keeps_holes);
    tcase_add_test(tc, twins_are_independent);
    tcase_add_test(tc, clone_of_nothing_and_onto_something);
    tcase_add_test(tc, clone_of_many_files);
    tcase_add_test(tc, fifo_socket_link_device_are_refused);
    tcase_add_test(tc, hostile_names_do_not_reach_messages);
    tcase_add_test(tc, depth_is_bounded);
    tcase_add_test(tc, leftovers_are_swept);
    tcase_add_test(tc, trash_is_emptied);
#ifdef MERE_CRASH_POINTS
    tcase_add_test(tc, crash_at_any_point);
#endif
    if (strcmp(b->driver, "btrfs") == 0)
        tcase_add_test(tc, nested_subvolume_is_refused);
    if (b->mkfs[0] != NULL) { /* where the mount namespace is our own */
        tcase_add_test(tc, mount_inside_is_refused);
        tcase_add_test(tc, trash_goes_on_after_what_it_cannot_delete);
    }
}

Suite *t_store_suite(void)
{
    Suite *suite = suite_create("store");

    for (int i = 0; i < N_BEDS; i++) {
        TCase *tc = bed_case(suite, i);

        if (tc != NULL)
            add_tests(tc, &BEDS[i]);
    }
    return suite;
}
