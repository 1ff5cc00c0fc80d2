/*
 * store_copy.c - driver: every clone is a full copy; works anywhere
 *
 * Any thread.  Bytes go through us on purpose: copy_file_range shares blocks where it can, and the first
 * write to a shared block of a full disk fails where a write to an own one would not.
 */
#include "store/driver.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "store/tree.h"

#define CHUNK     (256 * 1024)
#define HOLE_UNIT 4096

static bool is_zero(const char *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Up to n bytes at offset at; less only at the end of the file. */
static ssize_t read_full(int fd, char *p, size_t n, off_t at)
{
    size_t done = 0;

    while (done < n) {
        ssize_t r = pread(fd, p + done, n - done, at + (off_t)done);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        done += (size_t)r;
    }
    return (ssize_t)done;
}

static int write_full(int fd, const char *p, size_t n, off_t at)
{
    while (n > 0) {
        ssize_t w = pwrite(fd, p, n, at);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -1;
        p += w;
        n -= (size_t)w;
        at += w;
    }
    return 0;
}

/* Writes the chunk in runs of units that are not all zero; the rest stays a hole. */
static int write_sparse(int fd, const char *p, size_t n, off_t at)
{
    size_t start = 0, end = 0;

    while (end < n) {
        size_t unit = n - end < HOLE_UNIT ? n - end : HOLE_UNIT;

        if (!is_zero(p + end, unit)) {
            end += unit;
            continue;
        }
        if (write_full(fd, p + start, end - start, at + (off_t)start) < 0)
            return -1;
        end += unit;
        start = end;
    }
    return write_full(fd, p + start, end - start, at + (off_t)start);
}

/* No further than the size at the start: a file that grows as fast as it is read would never end. */
static int copy_bytes(int from, int to, const struct stat *st)
{
    auto_free char *chunk = NULL;
    off_t at = 0;

    if (st->st_size == 0)
        return 0;
    chunk = xmalloc(CHUNK);
    while (at < st->st_size) {
        size_t want = st->st_size - at < CHUNK ? (size_t)(st->st_size - at) : CHUNK;
        ssize_t n = read_full(from, chunk, want, at);

        if (n < 0 || write_sparse(to, chunk, (size_t)n, at) < 0)
            return -1;
        at += n;
        if ((size_t)n < want)
            break; /* cut off meanwhile */
    }
    return ftruncate(to, at);
}

static int copy_create(const char *path, struct err *err)
{
    return mkdir(path, 0755) < 0 ? err_sys(err, "mkdir %s", path) : 0;
}

static int copy_clone(const char *src, const char *path, bool tolerate_vanishing, struct err *err)
{
    return tree_clone(src, path, copy_bytes, tolerate_vanishing, err);
}

static int copy_destroy(const char *path, struct err *err)
{
    return fs_remove_tree(path, false, err);
}

static int probe_in(const char *scratch, struct err *err)
{
    auto_free char *one = xasprintf("%s/one", scratch), *two = xasprintf("%s/two", scratch);
    auto_free char *file = xasprintf("%s/one/file", scratch);

    if (copy_create(one, err) < 0 || fs_write_plain(file, "x", 1, 0600, (uid_t)-1, (gid_t)-1, err) < 0)
        return -1;
    return copy_clone(one, two, false, err);
}

static int copy_probe(const char *dir, struct err *err)
{
    return driver_try(dir, probe_in, err);
}

const struct store_driver STORE_COPY = {
    .name = "copy",
    .features = 0,
    .probe = copy_probe,
    .create = copy_create,
    .clone = copy_clone,
    .destroy = copy_destroy,
    .usage = fs_usage,
};
