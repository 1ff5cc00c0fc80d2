/*
 * tree_clone.c - a second tree like the first, file by file
 *
 * Any thread.  How bytes are shared or copied is the driver's; this is the rest: names, owners, modes, times.
 */
#include "store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "base/fs.h"

struct clone {
    const char *dst;
    tree_copy_fn copy;
    int dirs[TREE_DEPTH_MAX]; /* the target of each directory between the root and where the walk is */
    int depth;                /* how many of them are open */
};

static void clone_fini(struct clone *c)
{
    while (c->depth > 0)
        fd_close(&c->dirs[--c->depth]);
}

/* Owner first: changing it clears the set-id bits of the mode. */
static int keep_attributes(int fd, const struct stat *st)
{
    struct timespec times[2] = { st->st_atim, st->st_mtim };
    struct stat now;

    if (fstat(fd, &now) < 0)
        return -1;
    if ((now.st_uid != st->st_uid || now.st_gid != st->st_gid) && fchown(fd, st->st_uid, st->st_gid) < 0)
        return -1;
    if (fchmod(fd, st->st_mode & 07777) < 0)
        return -1;
    return futimens(fd, times);
}

/* The last component of the directory being entered, out of "a/b/". */
static char *entered_name(const struct tree_walk *w)
{
    size_t end = w->where.len - 1, start = end;

    while (start > 0 && w->where.data[start - 1] != '/')
        start--;
    return xasprintf("%.*s", (int)(end - start), w->where.data + start);
}

static int clone_enter(struct tree_walk *w, int fd, const struct stat *st, struct err *err)
{
    struct clone *c = w->arg;
    auto_free char *name = w->depth == 0 ? xstrdup(c->dst) : entered_name(w);
    int parent = w->depth == 0 ? AT_FDCWD : c->dirs[c->depth - 1];

    (void)fd;
    (void)st;
    if (mkdirat(parent, name, 0700) < 0)
        return err_sys(err, "make directory %s", name);
    c->dirs[c->depth] = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (c->dirs[c->depth] < 0)
        return err_sys(err, "open new directory %s", name);
    c->depth++;
    return 0;
}

static int clone_leave(struct tree_walk *w, int fd, const struct stat *st, struct err *err)
{
    struct clone *c = w->arg;

    (void)fd;
    if (keep_attributes(c->dirs[c->depth - 1], st) < 0)
        return err_sys(err, "keep owner and mode of a directory");
    fd_close(&c->dirs[--c->depth]);
    return 0;
}

static int clone_file(struct tree_walk *w, int dirfd, const char *name, struct err *err)
{
    struct clone *c = w->arg;
    /* O_NONBLOCK: what was a file a moment ago may be a fifo by now. */
    auto_fd from = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    auto_fd to = -1;
    struct stat st;

    if (from < 0)
        return tree_gone_or_err(w, "open", name, err);
    if (fstat(from, &st) < 0)
        return err_sys(err, "stat %s", name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID,
                       "the data directory changed while it was copied; nothing was changed");
    to = openat(c->dirs[c->depth - 1], name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0 || c->copy(from, to, &st) < 0 || keep_attributes(to, &st) < 0) {
        int saved = errno;
        auto_free char *text = tree_name(w, name);

        errno = saved;
        return err_sys(err, "clone %s", text);
    }
    return 0;
}

static int clone_symlink(struct tree_walk *w, int dirfd, const char *name, struct err *err)
{
    struct clone *c = w->arg;
    int to = c->dirs[c->depth - 1];
    auto_free char *target = xcalloc(1, PATH_MAX);
    ssize_t n = readlinkat(dirfd, name, target, PATH_MAX - 1);
    struct timespec times[2];
    struct stat st, now;

    if (n < 0 || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return tree_gone_or_err(w, "read link", name, err);
    times[0] = st.st_atim;
    times[1] = st.st_mtim;
    if (symlinkat(target, to, name) < 0 || fstatat(to, name, &now, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, "make link %s", name);
    if ((now.st_uid != st.st_uid || now.st_gid != st.st_gid) &&
        fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, "keep owner of link %s", name);
    return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? err_sys(err, "keep times of link %s", name)
                                                               : 0;
}

int tree_clone(const char *src, const char *dst, tree_copy_fn copy, bool tolerate_vanishing, struct err *err)
{
    static const struct tree_visitor CLONE = {
        .enter = clone_enter, .leave = clone_leave, .file = clone_file, .symlink = clone_symlink
    };
    CLEANUP(clone_fini) struct clone c = { .dst = dst, .copy = copy };
    struct err ignored = ERR_INIT;

    if (tree_walk(src, &CLONE, &c, tolerate_vanishing, err) == 0)
        return 0;
    clone_fini(&c);
    /* The first error is the one that tells; what cannot be removed now is removed by the next attempt or the
     * next start. */
    (void)!fs_remove_tree(dst, false, &ignored);
    return -1;
}
