/*
 * loopdev.c - loop devices
 *
 * Any thread.  Needs root.  Never detaches anything: our devices carry AUTOCLEAR.
 */
#include "store/loopdev.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/text.h"

#define CONTROL      "/dev/loop-control"
#define BLOCK_SIZE   4096 /* of a page: direct I/O then fits any disk below */
#define ATTEMPTS_MAX 64   /* others may take the free device we were told of */

static int open_control(struct err *err)
{
    int fd = open(CONTROL, O_RDWR | O_CLOEXEC);

    if (fd >= 0)
        return fd;
    err_set(err, ERR_NOT_SUPPORTED,
            "there are no loop devices here (%s cannot be opened), as in most containers", CONTROL);
    return err_detail(err, "open %s: %s", CONTROL, strerrordesc_np(errno));
}

int loopdev_supported(struct err *err)
{
    auto_fd fd = open_control(err);

    return fd < 0 ? -1 : 0;
}

int loopdev_open(int number, struct err *err)
{
    auto_free char *path = xasprintf("/dev/loop%d", number);
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd >= 0)
        return fd;
    err_set(err, ERR_NOT_SUPPORTED, "the loop device %s cannot be opened", path);
    return err_detail(err, "open %s: %s", path, strerrordesc_np(errno));
}

/* The kernel keeps the name behind a device up to date through renames; the name is looked up again to be
 * sure of the file. */
bool loopdev_is_on(int number, int file_fd)
{
    auto_free char *path = xasprintf("/sys/block/loop%d/loop/backing_file", number);
    auto_arena *a = arena_new(0);
    struct err ignored = ERR_INIT;
    struct stat mine, theirs;
    char *backing = NULL;

    if (fs_read(a, path, 65536, &backing, NULL, &ignored) < 0)
        return false;
    backing[strcspn(backing, "\n")] = '\0';
    return fstat(file_fd, &mine) == 0 && stat(backing, &theirs) == 0 && mine.st_dev == theirs.st_dev &&
           mine.st_ino == theirs.st_ino;
}

/* The number of the device on the file, or -1. */
static int find(int file_fd)
{
    auto_arena *a = arena_new(0);
    struct err ignored = ERR_INIT;
    const char **names = NULL;
    int64_t number;

    if (fs_list(a, "/sys/block", &names, NULL, &ignored) < 0)
        return -1;
    for (size_t i = 0; names[i] != NULL; i++)
        if (text_starts_with(names[i], "loop") && text_to_i64(names[i] + 4, 0, 1 << 20, &number) &&
            loopdev_is_on((int)number, file_fd))
            return (int)number;
    return -1;
}

static int configure(int fd, int file_fd, const char *file)
{
    struct loop_config config = { .fd = (uint32_t)file_fd, .block_size = BLOCK_SIZE };

    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    snprintf((char *)config.info.lo_file_name, sizeof(config.info.lo_file_name), "%s",
             file); /* for losetup to show */
    return ioctl(fd, LOOP_CONFIGURE, &config);
}

static int attach_free(int file_fd, const char *file, int *ret_fd, int *ret_number, struct err *err)
{
    auto_fd control = open_control(err);

    if (control < 0)
        return -1;
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        auto_fd fd = -1;

        if (number < 0)
            return err_sys(err, "get a free loop device");
        fd = loopdev_open(number, err);
        if (fd < 0)
            return -1;
        if (configure(fd, file_fd, file) == 0) {
            *ret_fd = TAKE_FD(fd);
            *ret_number = number;
            return 0;
        }
        if (errno != EBUSY)
            return err_sys(err, "put /dev/loop%d on %s", number, file);
    }
    err_set(err, ERR_UNAVAILABLE, "no loop device could be had; others take them as fast as they are freed");
    return -1;
}

int loopdev_attach(int file_fd, const char *file, int *ret_fd, int *ret_number, struct err *err)
{
    int number = find(file_fd);
    auto_fd fd = -1;

    if (number >= 0)
        fd = loopdev_open(number, err);
    /* Looked at again now that it is open: with its last user gone it may have vanished in between. */
    if (fd >= 0 && loopdev_is_on(number, file_fd)) {
        *ret_fd = TAKE_FD(fd);
        *ret_number = number;
        return 0;
    }
    return attach_free(file_fd, file, ret_fd, ret_number, err);
}

int loopdev_resize(int fd, struct err *err)
{
    return ioctl(fd, LOOP_SET_CAPACITY, 0) < 0 ? err_sys(err, "enlarge the loop device") : 0;
}

bool loopdev_is_direct(int fd)
{
    struct loop_info64 info = { 0 };

    return ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && (info.lo_flags & LO_FLAGS_DIRECT_IO);
}
