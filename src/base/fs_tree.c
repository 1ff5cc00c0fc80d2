/*
 * fs_tree.c - directories: list, measure, remove
 *
 * Any thread.  Works by descriptor and never follows a symbolic link: trees may hold what a tenant put there.
 * Depth is bounded, so that a tree built to be deep exhausts neither the stack nor the descriptors.
 */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define DEPTH_MAX  64
#define PASSES_MAX 1000

static void dir_close(DIR **d)
{
    if (*d != NULL)
        closedir(*d);
}

#define auto_dir CLEANUP(dir_close) DIR

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Opens name below dirfd as a directory stream; NULL with errno. */
static DIR *dir_open_at(int dirfd, const char *name)
{
    auto_fd fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

    if (d != NULL)
        TAKE_FD(fd);
    return d;
}

/* The next entry, or NULL at the end (errno 0) or on an error (errno set). */
static struct dirent *dir_next(DIR *d)
{
    struct dirent *e;

    do {
        errno = 0;
        e = readdir(d);
    } while (e != NULL && is_dots(e->d_name));
    return e;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int fs_list(struct arena *a, const char *path, const char ***ret_names, size_t *ret_n, struct err *err)
{
    auto_dir *d = opendir(path);
    auto_free const char **names = NULL;
    const char **copy;
    size_t n = 0, cap = 0;
    struct dirent *e;

    if (d == NULL && errno == ENOENT) {
        err_set(err, ERR_NOT_FOUND, "a directory is missing on the server");
        return err_detail(err, "%s does not exist", path);
    }
    if (d == NULL)
        return err_sys(err, "open directory %s", path);
    while ((e = dir_next(d)) != NULL) {
        if (n == cap) {
            cap = cap ? cap * 2 : 16;
            names = xrealloc(names, cap * sizeof(*names));
        }
        names[n] = arena_strdup(a, e->d_name);
        if (names[n++] == NULL)
            return err_memory(err);
    }
    if (errno != 0)
        return err_sys(err, "read directory %s", path);
    copy = arena_alloc(a, (n + 1) * sizeof(*copy)); /* zeroed: ends with NULL */
    if (copy == NULL)
        return err_memory(err);
    if (n > 0) {
        memcpy(copy, names, n * sizeof(*copy));
        qsort(copy, n, sizeof(*copy), compare_names);
    }
    *ret_names = copy;
    if (ret_n != NULL)
        *ret_n = n;
    return 0;
}

/* Adds up what lies below d; what vanishes meanwhile counts nothing. */
static int usage_below(DIR *d, int depth, uint64_t *bytes, struct err *err)
{
    struct dirent *e;
    struct stat st;

    while ((e = dir_next(d)) != NULL) {
        auto_dir *sub = NULL;

        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno == ENOENT)
                continue;
            return err_sys(err, "stat %s", e->d_name);
        }
        *bytes += (uint64_t)st.st_blocks * 512;
        if (!S_ISDIR(st.st_mode) || depth >= DEPTH_MAX)
            continue;
        sub = dir_open_at(dirfd(d), e->d_name);
        if (sub == NULL && errno == ENOENT)
            continue;
        if (sub == NULL)
            return err_sys(err, "open directory %s", e->d_name);
        if (usage_below(sub, depth + 1, bytes, err) < 0)
            return -1;
    }
    return errno != 0 && errno != ENOENT ? err_sys(err, "read directory") : 0;
}

int fs_usage(const char *path, uint64_t *ret_bytes, struct err *err)
{
    uint64_t bytes = 0;
    auto_dir *d = NULL;
    struct stat st;

    if (lstat(path, &st) < 0)
        return err_sys(err, "stat %s", path);
    bytes = (uint64_t)st.st_blocks * 512;
    if (S_ISDIR(st.st_mode)) {
        d = dir_open_at(AT_FDCWD, path);
        if (d == NULL)
            return err_sys(err, "open directory %s", path);
        if (usage_below(d, 0, &bytes, err) < 0)
            return err_wrap(err, "usage of %s", path);
    }
    *ret_bytes = bytes;
    return 0;
}

/* A mount inside a tree belongs to somebody else: deleting through it would not be undone by anything. */
static int refuse_mount(int fd, const char *name, struct err *err)
{
    struct statx st;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0)
        return err_sys(err, "stat %s", name);
    if (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) {
        err_set(err, ERR_INTERNAL, "a directory could not be removed; the server's log says why");
        return err_detail(err, "%s is a mount point", name);
    }
    return 0;
}

static int remove_entry(DIR *root, int dir, const char *name, int depth, struct err *err);

/* Empties d.  root is where too deep directories are moved to. */
static int empty_dir(DIR *root, DIR *d, int depth, struct err *err)
{
    struct dirent *e;

    while ((e = dir_next(d)) != NULL) {
        if (remove_entry(root, dirfd(d), e->d_name, depth, err) < 0)
            return err_wrap(err, "%s", e->d_name);
    }
    return errno != 0 ? err_sys(err, "read directory") : 0;
}

/* Moves a directory that lies too deep up to the root of the removal, where the next pass finds it. */
static int lift(DIR *root, int dir, const char *name, struct err *err)
{
    struct stat st;
    char up[64];

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_sys(err, "stat");
    snprintf(up, sizeof(up), ".deep-%llx-%llx", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    return renameat(dir, name, dirfd(root), up) < 0 ? err_sys(err, "rename") : 0;
}

static int remove_subdir(DIR *root, int dir, const char *name, int depth, struct err *err)
{
    auto_dir *sub = NULL;

    if (depth >= DEPTH_MAX)
        return lift(root, dir, name, err);
    sub = dir_open_at(dir, name);
    if (sub == NULL && errno == EACCES && fchmodat(dir, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
        sub = dir_open_at(dir, name); /* ours, but closed by its owner */
    if (sub == NULL)
        return errno == ENOENT ? 0 : err_sys(err, "open directory");
    if (refuse_mount(dirfd(sub), name, err) < 0)
        return -1;
    if (fchmod(dirfd(sub), 0700) < 0 && errno != EPERM && errno != EROFS)
        return err_sys(err, "chmod");
    if (empty_dir(root, sub, depth + 1, err) < 0)
        return -1;
    if (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_sys(err, "rmdir");
    return 0;
}

static int remove_entry(DIR *root, int dir, const char *name, int depth, struct err *err)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM) /* EPERM is POSIX's word for a directory */
        return err_sys(err, "unlink");
    return remove_subdir(root, dir, name, depth, err);
}

static int remove_below(DIR *root, struct err *err)
{
    for (int pass = 0; pass < PASSES_MAX; pass++) {
        struct dirent *e;

        rewinddir(root);
        e = dir_next(root);
        if (e == NULL)
            return errno != 0 ? err_sys(err, "read directory") : 0;
        rewinddir(root);
        if (empty_dir(root, root, 0, err) < 0)
            return -1;
    }
    err_set(err, ERR_INTERNAL, "a directory could not be removed; the server's log says why");
    return err_detail(err, "it is filled as fast as it is emptied");
}

int fs_remove_tree(const char *path, bool keep_root, struct err *err)
{
    auto_dir *root = dir_open_at(AT_FDCWD, path);

    if (root == NULL && errno == ENOENT)
        return 0;
    if (root == NULL && (errno == ENOTDIR || errno == ELOOP) && !keep_root)
        return unlink(path) < 0 && errno != ENOENT ? err_sys(err, "unlink %s", path) : 0;
    if (root == NULL)
        return err_sys(err, "open directory %s", path);
    if (!keep_root && refuse_mount(dirfd(root), path, err) < 0)
        return -1;
    if (remove_below(root, err) < 0)
        return err_wrap(err, "remove %s", path);
    if (!keep_root && rmdir(path) < 0 && errno != ENOENT)
        return err_sys(err, "rmdir %s", path);
    return 0;
}
