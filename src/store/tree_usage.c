/*
 * tree_usage.c - how much of a tree belongs to it alone
 *
 * Any thread.  Reads the extent map of each file; what is not yet on disk counts as the file's own.
 */
#include "store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#define EXTENTS_AT_ONCE 256

struct usage {
    struct fiemap *map;
    uint64_t bytes;
};

static void usage_fini(struct usage *u)
{
    free(u->map);
}

/*
 * Data that lies inside metadata (small files on btrfs) is passed over: it shares its block with others, and
 * is never flagged as shared, so a fresh snapshot would seem to own it.
 */
static void add_extent(struct usage *u, const struct fiemap_extent *e)
{
    if (!(e->fe_flags & (FIEMAP_EXTENT_SHARED | FIEMAP_EXTENT_DATA_INLINE)))
        u->bytes += e->fe_length;
}

/* 0, or -1 with errno. */
static int add_extents(struct usage *u, int fd)
{
    uint64_t at = 0;

    for (;;) {
        const struct fiemap_extent *last;

        memset(u->map, 0, sizeof(*u->map));
        u->map->fm_start = at;
        u->map->fm_length = FIEMAP_MAX_OFFSET - at;
        u->map->fm_extent_count = EXTENTS_AT_ONCE;
        if (ioctl(fd, FS_IOC_FIEMAP, u->map) < 0)
            return -1;
        if (u->map->fm_mapped_extents == 0)
            return 0;
        for (uint32_t i = 0; i < u->map->fm_mapped_extents; i++)
            add_extent(u, &u->map->fm_extents[i]);
        last = &u->map->fm_extents[u->map->fm_mapped_extents - 1];
        if (last->fe_flags & FIEMAP_EXTENT_LAST)
            return 0;
        at = last->fe_logical + last->fe_length;
    }
}

static int usage_file(struct tree_walk *w, int dirfd, const char *name, struct err *err)
{
    struct usage *u = w->arg;
    auto_fd fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return tree_gone_or_err(w, "open", name, err);
    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat %s", name);
    if (!S_ISREG(st.st_mode))
        return 0;
    return add_extents(u, fd) < 0 ? tree_gone_or_err(w, "map extents of", name, err) : 0;
}

int tree_private_bytes(const char *root, uint64_t *ret_bytes, struct err *err)
{
    static const struct tree_visitor USAGE = { .skip_others = true, .file = usage_file };
    size_t size = sizeof(struct fiemap) + EXTENTS_AT_ONCE * sizeof(struct fiemap_extent);
    CLEANUP(usage_fini) struct usage u = { .map = xcalloc(1, size) };

    if (tree_walk(root, &USAGE, &u, true, err) < 0)
        return -1;
    *ret_bytes = u.bytes;
    return 0;
}
