/*
 * shm.c - makes the -shm file before SQLite does
 *
 * The thread that opens the metadata, before it does.  The database and its log stay as they are: they are
 * written by system calls, which say when the disk is full, and there the checksums of the file system are
 * worth having.
 *
 * Measured on a full btrfs with Linux 6.18: mapped pages of an ordinary file could not be written, those of a
 * file with this attribute could.
 */
#include "meta/shm.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

/* Part of SQLite's file format: each user of the database has a shared lock on this byte, and who could have
 * it alone empties the file. */
#define USERS_BYTE 128

void shm_write_in_place(const char *database)
{
    struct flock alone = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = USERS_BYTE, .l_len = 1 };
    auto_free char *path = xasprintf("%s-shm", database);
    struct statfs fs;
    auto_fd fd = -1;
    int flags = 0;

    if (statfs(database, &fs) < 0 || fs.f_type != BTRFS_SUPER_MAGIC)
        return;
    fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || fcntl(fd, F_OFD_SETLK, &alone) < 0)
        return;
    /* only an empty file can be changed; what a crash left in it is worth nothing */
    if (ftruncate(fd, 0) < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
        return;
    flags |= FS_NOCOW_FL;
    (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
}
