/*
 * disk.c - the disk file
 *
 * At start and stop one thread; disk_grow from job workers, one at a time (store.c sees to it).
 *
 * Steps of making it: fallocate, mkfs, fsync and a trial mount of disk.btrfs.new, then the rename.  So a file
 * called disk.btrfs is always whole and good for this machine, and a crash before leaves only a .new to throw
 * away.  Steps of enlarging it: fallocate, device, file system; each just catches up with the one before and
 * all are repeated at every start.
 */
#include "store/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/text.h"
#include "store/loopdev.h"

#define DISK_NAME   "disk.btrfs"
#define ROUND_BYTES (1ULL << 20)
#define MKFS_MS     120000

struct disk {
    char *mountpoint;
    int file_fd;
    int loop_number;
    bool direct;
    uint64_t size_bytes;
};

static char *file_path(const char *dir)
{
    return xasprintf("%s/" DISK_NAME, dir);
}

static char *new_path(const char *dir)
{
    return xasprintf("%s/" DISK_NAME ".new", dir);
}

bool disk_exists(const char *dir)
{
    auto_free char *path = file_path(dir);

    return fs_exists(path);
}

static const char *find_mkfs(void)
{
    static const char *const PLACES[] = { "/usr/sbin/mkfs.btrfs", "/sbin/mkfs.btrfs", "/usr/bin/mkfs.btrfs",
                                          "/usr/local/sbin/mkfs.btrfs" };

    for (size_t i = 0; i < N_ELEMENTS(PLACES); i++)
        if (access(PLACES[i], X_OK) == 0)
            return PLACES[i];
    return NULL;
}

int disk_supported(struct err *err)
{
    if (geteuid() != 0)
        return err_set(err, ERR_NOT_SUPPORTED, "only root can mount a disk file");
    if (find_mkfs() == NULL)
        return err_set(err, ERR_NOT_SUPPORTED, "mkfs.btrfs was not found; install the package btrfs-progs");
    return loopdev_supported(err);
}

/* Really allocates; ERR_NOT_SUPPORTED where the file system below cannot. */
static int allocate(int fd, uint64_t from, uint64_t to, struct err *err)
{
    int rc;

    do
        rc = fallocate(fd, 0, (off_t)from, (off_t)(to - from));
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (errno == EOPNOTSUPP)
        return err_set(err, ERR_NOT_SUPPORTED,
                       "the file system of the data directory cannot allocate files in advance");
    if (errno == EFBIG)
        return err_set(err, ERR_INVALID,
                       "the file system of the data directory cannot hold a file of this size");
    return err_sys(err, "allocate the disk file");
}

/*
 * -K: no discard of what was just allocated.  This mkfs does not discard in plain files anyway; on the loop
 * device discarding punches holes, so the mount says nodiscard.
 */
static int run_mkfs(const char *path, struct err *err)
{
    const char *mkfs = find_mkfs();
    const char *argv[] = { mkfs, "-q", "-f", "-K", "-L", "mere", path, NULL };
    auto_arena *a = arena_new(0);

    if (mkfs == NULL)
        return err_set(err, ERR_NOT_SUPPORTED, "mkfs.btrfs was not found; install the package btrfs-progs");
    return proc_run(a, argv, MKFS_MS, NULL, err) < 0 ? err_wrap(err, "mkfs.btrfs") : 0;
}

static int fill_new(const char *path, uint64_t size, struct err *err)
{
    auto_fd fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_sys(err, "create %s", path);
    if (allocate(fd, 0, size, err) < 0)
        return -1;
    CRASH_POINT("store.disk.allocated");
    if (run_mkfs(path, err) < 0)
        return -1;
    return fsync(fd) < 0 ? err_sys(err, "fsync %s", path) : 0;
}

static int check_room(const char *dir, uint64_t size, struct err *err)
{
    uint64_t free_bytes = 0;

    if (size < DISK_MIN_BYTES)
        return err_set(err, ERR_INVALID, "a disk file needs at least %llu MiB; nothing was changed",
                       DISK_MIN_BYTES >> 20);
    if (fs_space(dir, NULL, &free_bytes, err) < 0)
        return -1;
    if (size > free_bytes)
        return err_set(err, ERR_DISK_FULL,
                       "a disk file of %llu MiB does not fit: %llu MiB are free; nothing was changed; ask "
                       "for less or free "
                       "some space",
                       (unsigned long long)(size >> 20), (unsigned long long)(free_bytes >> 20));
    return 0;
}

/* The loop device under the btrfs that is mounted at the directory, or -1. */
static int mounted_loop(const char *mountpoint)
{
    auto_fd fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct btrfs_ioctl_dev_info_args info = { .devid = 1 };
    struct statfs fs;
    int64_t number;

    if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != BTRFS_SUPER_MAGIC ||
        ioctl(fd, BTRFS_IOC_DEV_INFO, &info) < 0)
        return -1;
    info.path[sizeof(info.path) - 1] = '\0';
    if (!text_starts_with((const char *)info.path, "/dev/loop") ||
        !text_to_i64((const char *)info.path + strlen("/dev/loop"), 0, 1 << 20, &number))
        return -1;
    return (int)number;
}

static bool is_mountpoint(const char *path)
{
    struct statx st;

    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st) == 0 &&
           (st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static int explain_mount(int number, struct err *err)
{
    int saved = errno;

    switch (saved) {
    case ENODEV:
        err_set(err, ERR_NOT_SUPPORTED, "the kernel has no btrfs");
        break;
    case EPERM:
    case EACCES:
        err_set(err, ERR_NOT_SUPPORTED, "this process may not mount, as in most containers");
        break;
    case EEXIST:
        err_set(err, ERR_CONFLICT,
                "the disk file cannot be mounted because a copy of it is mounted elsewhere; stop the server "
                "that uses the other "
                "copy, or remove this one");
        break;
    default:
        err_set(err, ERR_INTERNAL,
                "the disk file cannot be mounted; the kernel's log (dmesg) says why; nothing was changed");
        break;
    }
    return err_detail(err, "mount /dev/loop%d: %s", number, strerrordesc_np(saved));
}

static int mount_fresh(struct disk *d, const char *file, struct err *err)
{
    auto_free char *device = NULL;
    auto_fd loop = -1;

    if (loopdev_attach(d->file_fd, file, &loop, &d->loop_number, err) < 0)
        return -1;
    CRASH_POINT("store.disk.attached");
    device = xasprintf("/dev/loop%d", d->loop_number);
    if (mount(device, d->mountpoint, "btrfs", MS_NOATIME | MS_NODEV | MS_NOSUID, "nodiscard") < 0)
        return explain_mount(d->loop_number, err);
    CRASH_POINT("store.disk.mounted");
    return 0;
}

/* Whether this machine lets us mount it at all. */
static int try_mount(const char *file, const char *mountpoint, struct err *err)
{
    auto_free char *at = xstrdup(mountpoint);
    auto_fd fd = open(file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    struct disk trial = { .mountpoint = at, .file_fd = fd };

    if (fd < 0)
        return err_sys(err, "open %s", file);
    if (mount_fresh(&trial, file, err) < 0)
        return -1;
    return umount2(mountpoint, UMOUNT_NOFOLLOW) < 0 ? err_sys(err, "unmount %s", mountpoint) : 0;
}

int disk_sweep(const char *dir, const char *mountpoint, struct err *err)
{
    auto_free char *path = new_path(dir);
    auto_fd fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd >= 0 && is_mountpoint(mountpoint) && loopdev_is_on(mounted_loop(mountpoint), fd) &&
        umount2(mountpoint, UMOUNT_NOFOLLOW) < 0)
        return err_sys(err, "unmount the half-made disk file at %s", mountpoint);
    return unlink(path) < 0 ? err_sys(err, "remove %s", path) : 0;
}

int disk_make(const char *dir, const char *mountpoint, uint64_t size_bytes, struct err *err)
{
    auto_free char *path = file_path(dir), *fresh = new_path(dir);

    size_bytes -= size_bytes % ROUND_BYTES;
    if (fs_exists(path))
        return 0;
    if (check_room(dir, size_bytes, err) < 0)
        return -1;
    if (fill_new(fresh, size_bytes, err) < 0 || try_mount(fresh, mountpoint, err) < 0) {
        (void)unlink(fresh);
        return -1;
    }
    CRASH_POINT("store.disk.formatted");
    if (rename(fresh, path) < 0) {
        err_sys(err, "rename %s", fresh);
        (void)unlink(fresh);
        return -1;
    }
    return fs_sync_dir(dir, err);
}

static int take_over(struct disk *d, struct err *err)
{
    d->loop_number = mounted_loop(d->mountpoint);
    if (d->loop_number >= 0 && loopdev_is_on(d->loop_number, d->file_fd))
        return 0;
    return err_set(err, ERR_CONFLICT,
                   "something that is not the disk file is mounted at %s; nothing was changed; unmount it or "
                   "move %s away",
                   d->mountpoint, DISK_NAME);
}

static int resize_btrfs(const char *mountpoint, struct err *err)
{
    auto_fd fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct btrfs_ioctl_vol_args args = { .name = "max" };
    int rc;

    if (fd < 0)
        return err_sys(err, "open %s", mountpoint);
    rc = ioctl(fd, BTRFS_IOC_RESIZE, &args);
    if (rc < 0)
        return err_sys(err, "enlarge the file system in the disk file");
    if (rc > 0) /* another exclusive operation, such as a balance, is at work */
        return err_set(err, ERR_UNAVAILABLE,
                       "the disk file is being reorganised and cannot grow now; try again later");
    return 0;
}

/* Device and file system catch up with the file. */
static int catch_up(struct disk *d, struct err *err)
{
    auto_fd loop = loopdev_open(d->loop_number, err);
    struct stat st;

    if (loop < 0)
        return -1;
    if (fstat(d->file_fd, &st) < 0)
        return err_sys(err, "stat the disk file");
    d->direct = loopdev_is_direct(loop);
    if (loopdev_resize(loop, err) < 0)
        return -1;
    CRASH_POINT("store.disk.capacity");
    if (resize_btrfs(d->mountpoint, err) < 0)
        return -1;
    d->size_bytes = (uint64_t)st.st_size;
    return 0;
}

static void disk_free(struct disk *d)
{
    fd_close(&d->file_fd);
    free(d->mountpoint);
    free(d);
}

/* Failing to allocate holes again costs speed and not safety, so it is said in the log and no more. */
static void refill(const struct disk *d)
{
    struct err err = ERR_INIT;
    struct stat st;

    if (fstat(d->file_fd, &st) < 0 || st.st_blocks * 512 >= st.st_size)
        return;
    if (allocate(d->file_fd, 0, (uint64_t)st.st_size, &err) < 0)
        log_event(LOG_WARN, "store",
                  "the disk file is sparse and cannot be allocated in full; commits in it are slow", "why",
                  err.msg, "detail", err.detail, NULL);
}

int disk_attach(const char *dir, const char *mountpoint, struct disk **ret, struct err *err)
{
    auto_free char *file = file_path(dir);
    struct disk *d = xcalloc(1, sizeof(*d));
    bool taken = is_mountpoint(mountpoint);

    d->mountpoint = xstrdup(mountpoint);
    d->file_fd = open(file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (d->file_fd < 0) {
        err_sys(err, "open %s", file);
        disk_free(d);
        return -1;
    }
    refill(d);
    if ((taken ? take_over(d, err) : mount_fresh(d, file, err)) < 0) {
        disk_free(d);
        return -1;
    }
    if (catch_up(d, err) < 0) {
        disk_close(d, taken);
        return -1;
    }
    *ret = d;
    return 0;
}

void disk_close(struct disk *d, bool keep_mounted)
{
    if (d == NULL)
        return;
    if (!keep_mounted && umount2(d->mountpoint, UMOUNT_NOFOLLOW) < 0)
        log_event(LOG_WARN, "store", "the disk file stays mounted; the next start takes it over", "at",
                  d->mountpoint, "why", strerrordesc_np(errno), NULL);
    disk_free(d);
}

uint64_t disk_size(const struct disk *d)
{
    return d->size_bytes;
}

bool disk_is_direct(const struct disk *d)
{
    return d->direct;
}

int disk_grow(struct disk *d, uint64_t size_bytes, struct err *err)
{
    struct stat st;

    size_bytes -= size_bytes % ROUND_BYTES;
    if (fstat(d->file_fd, &st) < 0)
        return err_sys(err, "stat the disk file");
    if (size_bytes <= (uint64_t)st.st_size)
        return 0;
    if (allocate(d->file_fd, (uint64_t)st.st_size, size_bytes, err) < 0) {
        (void)!ftruncate(d->file_fd, st.st_size); /* the device does not know of the new part yet */
        return -1;
    }
    if (fsync(d->file_fd) < 0)
        return err_sys(err, "fsync the disk file");
    CRASH_POINT("store.disk.grown");
    return catch_up(d, err);
}
