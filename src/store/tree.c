/*
 * tree.c - walking a volume
 *
 * Any thread.  The two uses that are more than a look (cloning, measuring) are in tree_clone.c and
 * tree_usage.c.
 */
#include "store/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "store/store.h"

static void dir_close(DIR **d)
{
    if (*d != NULL)
        closedir(*d);
}

#define auto_dir CLEANUP(dir_close) DIR

char *tree_name(const struct tree_walk *w, const char *name)
{
    char *text = xasprintf("%.*s%s", (int)w->where.len, w->where.len > 0 ? w->where.data : "", name);

    /* Names are chosen by whoever owns the tree, and messages end in logs and JSON. */
    for (char *p = text; *p != '\0'; p++)
        if (*p < 0x20 || *p > 0x7e)
            *p = '?';
    return text;
}

int tree_gone_or_err(const struct tree_walk *w, const char *verb, const char *name, struct err *err)
{
    int saved = errno;
    auto_free char *text = NULL;

    if (saved == ENOENT && w->tolerate_vanishing)
        return 0;
    text = tree_name(w, name);
    errno = saved;
    return err_sys(err, "%s %s", verb, text);
}

static const char *kind_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFLNK:
        return "a symbolic link";
    case S_IFSOCK:
        return "a socket";
    case S_IFIFO:
        return "a fifo";
    case S_IFBLK:
    case S_IFCHR:
        return "a device";
    default:
        return "of an unknown kind";
    }
}

static int refuse(const struct tree_walk *w, const char *name, const char *what, struct err *err)
{
    auto_free char *text = NULL;

    if (w->visitor->skip_others)
        return 0;
    text = tree_name(w, name);
    return err_set(
        err, ERR_INVALID,
        "\"%s\" in the data directory is %s; only directories and regular files can be copied; nothing was "
        "changed; remove it and try again",
        text, what);
}

static bool is_the_link(const struct tree_walk *w, const char *name)
{
    auto_free char *path =
        xasprintf("%.*s%s", (int)w->where.len, w->where.len > 0 ? w->where.data : "", name);
    return strcmp(path, STORE_LINK) == 0;
}

static int walk_dir(struct tree_walk *w, int fd, const char *name, struct err *err);

static int walk_subdir(struct tree_walk *w, int dirfd, const char *name, struct err *err)
{
    auto_fd fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    size_t len = w->where.len;
    int rc;

    if (fd < 0)
        return tree_gone_or_err(w, "open directory", name, err);
    if (w->depth + 1 >= TREE_DEPTH_MAX)
        return refuse(w, name, "nested too deeply", err);
    buf_addf(&w->where, "%s/", name);
    w->depth++;
    rc = walk_dir(w, fd, name, err);
    w->depth--;
    w->where.len = len;
    return rc;
}

static mode_t entry_mode(int dirfd, const struct dirent *e)
{
    struct stat st;

    if (e->d_type != DT_UNKNOWN)
        return DTTOIF(e->d_type);
    return fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static int walk_entry(struct tree_walk *w, int dirfd, const struct dirent *e, struct err *err)
{
    const struct tree_visitor *v = w->visitor;
    mode_t mode = entry_mode(dirfd, e);

    if (mode == 0)
        return tree_gone_or_err(w, "stat", e->d_name, err);
    if (S_ISDIR(mode))
        return walk_subdir(w, dirfd, e->d_name, err);
    if (S_ISREG(mode))
        return v->file != NULL ? v->file(w, dirfd, e->d_name, err) : 0;
    if (S_ISLNK(mode) && is_the_link(w, e->d_name))
        return v->symlink != NULL ? v->symlink(w, dirfd, e->d_name, err) : 0;
    return refuse(w, e->d_name, kind_name(mode), err);
}

/* fd stays the caller's. */
static int walk_dir(struct tree_walk *w, int fd, const char *name, struct err *err)
{
    const struct tree_visitor *v = w->visitor;
    struct stat st;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    auto_dir *d = own >= 0 ? fdopendir(own) : NULL;
    struct dirent *e;

    if (d == NULL) {
        err_sys(err, "open directory %s", name);
        fd_close(&own);
        return -1;
    }
    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat %s", name);
    if (w->depth == 0)
        w->dev = st.st_dev;
    if (st.st_dev != w->dev)
        return refuse(w, "", "a mount point or a nested subvolume", err);
    if (v->enter != NULL && v->enter(w, fd, &st, err) < 0)
        return -1;
    while ((errno = 0, e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (walk_entry(w, fd, e, err) < 0)
            return -1;
    }
    if (errno != 0 && tree_gone_or_err(w, "read directory", "", err) < 0)
        return -1;
    return v->leave != NULL ? v->leave(w, fd, &st, err) : 0;
}

static void walk_fini(struct tree_walk *w)
{
    buf_fini(&w->where);
}

int tree_walk(const char *root, const struct tree_visitor *visitor, void *arg, bool tolerate_vanishing,
              struct err *err)
{
    CLEANUP(walk_fini)
    struct tree_walk w = { .visitor = visitor, .arg = arg, .tolerate_vanishing = tolerate_vanishing };
    auto_fd fd = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, "open %s", root);
    return walk_dir(&w, fd, root, err);
}
