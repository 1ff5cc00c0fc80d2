/*
 * fs.c - single files: read, write, copy, lock, sync
 *
 * Any thread.  Trees are in fs_tree.c.
 */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/buf.h"

#define COPY_CHUNK 131072
#define PAGE       4096 /* the granularity of holes */

/* Sets mode and owner where they differ: an ordinary user may not chown, and need not. */
static int set_owner(int fd, const char *path, mode_t mode, uid_t uid, gid_t gid, struct err *err)
{
    struct stat st;
    bool other;

    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat %s", path);
    other = (uid != (uid_t)-1 && st.st_uid != uid) || (gid != (gid_t)-1 && st.st_gid != gid);
    if (other && fchown(fd, uid, gid) < 0)
        return err_sys(err, "chown %s", path);
    if ((st.st_mode & 07777) != mode && fchmod(fd, mode) < 0)
        return err_sys(err, "chmod %s", path);
    return 0;
}

int fs_mkdir(const char *path, mode_t mode, uid_t uid, gid_t gid, struct err *err)
{
    auto_fd fd = -1;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(err, "mkdir %s", path);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "open directory %s", path);
    return set_owner(fd, path, mode, uid, gid, err);
}

/* O_NONBLOCK: opening a fifo would wait for its writer, and some devices wait likewise. */
static int open_regular(const char *path, int flags, struct err *err)
{
    auto_fd fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
    struct stat st;

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        err_set(err, ERR_NOT_FOUND, "a file is missing on the server");
        return err_detail(err, "%s does not exist", path);
    }
    if (fd < 0)
        return err_sys(err, "open %s", path);
    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat %s", path);
    if (!S_ISREG(st.st_mode)) {
        err_set(err, ERR_INTERNAL, "a file on the server is not a regular file");
        return err_detail(err, "%s has mode %06o", path, (unsigned)st.st_mode);
    }
    return TAKE_FD(fd);
}

static int read_regular(struct arena *a, const char *path, int flags, size_t max, char **ret, size_t *ret_len,
                        struct err *err)
{
    auto_fd fd = open_regular(path, flags, err);
    auto_buf b = { 0 };
    char *text;

    if (fd < 0)
        return -1;
    for (;;) { /* to its end, not to its size: files under /proc have none */
        ssize_t n;

        buf_reserve(&b, 4096);
        n = read(fd, b.data + b.len, b.cap - b.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "read %s", path);
        if (n == 0)
            break;
        b.len += (size_t)n;
        if (b.len > max) {
            err_set(err, ERR_TOO_LARGE, "a file on the server is larger than it may be");
            return err_detail(err, "%s has more than %zu bytes", path, max);
        }
    }
    text = arena_alloc(a, b.len + 1);
    if (text == NULL)
        return err_memory(err);
    if (b.len > 0)
        memcpy(text, b.data, b.len);
    *ret = text;
    if (ret_len != NULL)
        *ret_len = b.len;
    return 0;
}

int fs_read(struct arena *a, const char *path, size_t max, char **ret, size_t *ret_len, struct err *err)
{
    return read_regular(a, path, 0, max, ret, ret_len, err);
}

int fs_read_nofollow(struct arena *a, const char *path, size_t max, char **ret, size_t *ret_len,
                     struct err *err)
{
    return read_regular(a, path, O_NOFOLLOW, max, ret, ret_len, err);
}

static int write_all(int fd, const char *path, const void *data, size_t len, struct err *err)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "write %s", path);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static bool same_file(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/*
 * Opens the temporary file of path for us alone.  Its name is fixed, so that what a crash leaves is taken
 * over by the next writer instead of piling up; the lock keeps two writers of one path apart.
 */
static int open_temporary(const char *tmp, struct err *err)
{
    for (;;) {
        auto_fd fd = open(tmp, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0)
            return err_sys(err, "create %s", tmp);
        if (flock(fd, LOCK_EX) < 0) {
            if (errno == EINTR)
                continue;
            return err_sys(err, "lock %s", tmp);
        }
        if (!same_file(fd, tmp))
            continue; /* another writer has just renamed it into place */
        if (ftruncate(fd, 0) < 0)
            return err_sys(err, "truncate %s", tmp);
        return TAKE_FD(fd);
    }
}

static int sync_parent(const char *path, struct err *err)
{
    const char *slash = strrchr(path, '/');
    auto_free char *dir = slash == NULL   ? xstrdup(".")
                          : slash == path ? xstrdup("/")
                                          : strndup(path, (size_t)(slash - path));

    if (dir == NULL)
        abort();
    return fs_sync_dir(dir, err);
}

static int write_file(const char *path, const void *data, size_t len, mode_t mode, uid_t uid, gid_t gid,
                      bool durable, struct err *err)
{
    auto_free char *tmp = xasprintf("%s.tmp", path);
    auto_fd fd = open_temporary(tmp, err);

    if (fd < 0)
        return -1;
    if (set_owner(fd, tmp, mode, uid, gid, err) < 0 || write_all(fd, tmp, data, len, err) < 0)
        goto failed;
    if (durable && fsync(fd) < 0) {
        err_sys(err, "fsync %s", tmp);
        goto failed;
    }
    if (rename(tmp, path) < 0) {
        err_sys(err, "rename %s", tmp);
        goto failed;
    }
    return durable ? sync_parent(path, err) : 0;
failed:
    unlink(tmp);
    return -1;
}

int fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
    return write_file(path, data, len, mode, (uid_t)-1, (gid_t)-1, true, err);
}

int fs_write_plain(const char *path, const void *data, size_t len, mode_t mode, uid_t uid, gid_t gid,
                   struct err *err)
{
    return write_file(path, data, len, mode, uid, gid, false, err);
}

int fs_sync_dir(const char *path, struct err *err)
{
    auto_fd fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, "open directory %s", path);
    return fsync(fd) < 0 ? err_sys(err, "fsync %s", path) : 0;
}

int fs_sync_file(const char *path, struct err *err)
{
    auto_fd fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, "open %s", path);
    return fsync(fd) < 0 ? err_sys(err, "fsync %s", path) : 0;
}

int fs_syncfs(const char *path, struct err *err)
{
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, "open %s", path);
    return syncfs(fd) < 0 ? err_sys(err, "syncfs %s", path) : 0;
}

static bool is_zero(const char *p, size_t n)
{
    return n > 0 && p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Writes a chunk page by page at its offset, leaving zero pages out. */
static int write_sparse(int fd, const char *path, const char *data, size_t len, off_t at, struct err *err)
{
    for (size_t done = 0; done < len;) {
        size_t n = len - done < PAGE ? len - done : PAGE, run = 0;
        ssize_t w;

        if (is_zero(data + done, n)) {
            done += n;
            continue;
        }
        while (done + run < len &&
               !is_zero(data + done + run, len - done - run < PAGE ? len - done - run : PAGE))
            run += len - done - run < PAGE ? len - done - run : PAGE;
        w = pwrite(fd, data + done, run, at + (off_t)done);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return err_sys(err, "write %s", path);
        done += (size_t)w; /* a short write goes on in the middle of a page, which is only less sparse */
    }
    return 0;
}

static int copy_content(int from_fd, const char *from, int to_fd, const char *to, struct err *err)
{
    auto_free char *chunk = xmalloc(COPY_CHUNK);
    off_t at = 0;

    for (;;) {
        ssize_t n = read(from_fd, chunk, COPY_CHUNK);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "read %s", from);
        if (n == 0)
            break;
        if (write_sparse(to_fd, to, chunk, (size_t)n, at, err) < 0)
            return -1;
        at += n;
    }
    return ftruncate(to_fd, at) < 0 ? err_sys(err, "truncate %s", to) : 0;
}

int fs_copy_sparse(const char *from, const char *to, mode_t mode, uid_t uid, gid_t gid, struct err *err)
{
    auto_fd from_fd = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    auto_fd to_fd = -1;

    if (from_fd < 0)
        return err_sys(err, "open %s", from);
    to_fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to_fd < 0)
        return err_sys(err, "create %s", to);
    if (copy_content(from_fd, from, to_fd, to, err) < 0 || set_owner(to_fd, to, mode, uid, gid, err) < 0) {
        unlink(to);
        return -1;
    }
    return 0;
}

int fs_space(const char *path, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
    struct statvfs st;

    if (statvfs(path, &st) < 0)
        return err_sys(err, "statvfs %s", path);
    if (ret_total != NULL)
        *ret_total = (uint64_t)st.f_blocks * st.f_frsize;
    if (ret_free != NULL)
        *ret_free = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

bool fs_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

int fs_realpath(struct arena *a, const char *path, const char **ret, struct err *err)
{
    auto_free char *real = realpath(path, NULL);

    if (real == NULL && (errno == ENOENT || errno == ENOTDIR)) {
        err_set(err, ERR_NOT_FOUND, "a file is missing on the server");
        return err_detail(err, "%s does not exist", path);
    }
    if (real == NULL)
        return err_sys(err, "resolve %s", path);
    *ret = arena_strdup(a, real);
    return *ret != NULL ? 0 : err_memory(err);
}

int fs_lock(const char *path, bool cloexec, int *ret_fd, struct err *err)
{
    for (;;) {
        auto_fd fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0)
            return err_sys(err, "open lock %s", path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            if (errno == EWOULDBLOCK)
                return 0;
            if (errno == EINTR)
                continue;
            return err_sys(err, "lock %s", path);
        }
        if (!same_file(fd, path))
            continue; /* removed between open and lock: a lock on a nameless file excludes nobody */
        if (!cloexec && fcntl(fd, F_SETFD, 0) < 0)
            return err_sys(err, "lock %s", path);
        *ret_fd = TAKE_FD(fd);
        return 1;
    }
}
