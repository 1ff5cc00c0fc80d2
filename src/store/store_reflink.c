/*
 * store_reflink.c - driver: a tree of its own, whose files share their blocks with the source (FICLONE)
 *
 * Any thread.  A file that cannot share blocks is an error, never quietly a copy: the caller counts on clones
 * that cost little.  The time of a clone grows with the number of files and of extents, not of bytes.
 */
#include "store/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "store/tree.h"

static int share_blocks(int from, int to, const struct stat *st)
{
    (void)st;
    return ioctl(to, FICLONE, from) < 0 ? -1 : 0;
}

static int reflink_create(const char *path, struct err *err)
{
    return mkdir(path, 0755) < 0 ? err_sys(err, "mkdir %s", path) : 0;
}

static int reflink_clone(const char *src, const char *path, bool tolerate_vanishing, struct err *err)
{
    return tree_clone(src, path, share_blocks, tolerate_vanishing, err);
}

static int reflink_destroy(const char *path, struct err *err)
{
    return fs_remove_tree(path, false, err);
}

static int probe_in(const char *scratch, struct err *err)
{
    static const char block[4096] = "x"; /* a whole block: an empty file can be "shared" anywhere */
    auto_free char *one = xasprintf("%s/one", scratch), *two = xasprintf("%s/two", scratch);
    auto_free char *file = xasprintf("%s/one/file", scratch);

    if (reflink_create(one, err) < 0 ||
        fs_write_plain(file, block, sizeof(block), 0600, (uid_t)-1, (gid_t)-1, err) < 0)
        return -1;
    if (reflink_clone(one, two, false, err) < 0 && err->code != ERR_DISK_FULL)
        err->code = ERR_NOT_SUPPORTED;
    return err->code == ERR_NONE ? 0 : -1;
}

static int reflink_probe(const char *dir, struct err *err)
{
    struct err why = ERR_INIT;

    if (driver_try(dir, probe_in, &why) == 0)
        return 0;
    if (why.code != ERR_NOT_SUPPORTED) {
        *err = why;
        return -1;
    }
    err_set(err, ERR_NOT_SUPPORTED,
            "files in the data directory cannot share blocks (that needs XFS with reflink=1)");
    return err_detail(err, "%s", why.detail);
}

const struct store_driver STORE_REFLINK = {
    .name = "reflink",
    .features = STORE_SHARES_BLOCKS,
    .probe = reflink_probe,
    .create = reflink_create,
    .clone = reflink_clone,
    .destroy = reflink_destroy,
    .usage = tree_private_bytes,
};
