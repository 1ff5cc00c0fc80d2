/*
 * tree.h - the content of a volume, walked by descriptor (for store.c and the drivers only)
 *
 * A tree belongs to somebody less trusted than we are and may change under the walk: nothing is opened
 * through a symbolic link, nothing but directories, regular files and STORE_LINK is accepted, depth is
 * bounded, and what belongs to another file system (a mount, a nested subvolume) is refused.
 */
#ifndef MERE_TREE_H
#define MERE_TREE_H

#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"

#define TREE_DEPTH_MAX 64

struct tree_walk;

/* What to do at each entry; any member may be NULL.  The root is entered first and left last. */
struct tree_visitor {
    bool skip_others; /* what is not accepted is passed over instead of refused */
    int (*enter)(struct tree_walk *w, int fd, const struct stat *st, struct err *err);
    int (*leave)(struct tree_walk *w, int fd, const struct stat *st, struct err *err);
    int (*file)(struct tree_walk *w, int dirfd, const char *name, struct err *err);
    int (*symlink)(struct tree_walk *w, int dirfd, const char *name, struct err *err);
};

struct tree_walk {
    const struct tree_visitor *visitor;
    void *arg;
    bool tolerate_vanishing; /* an entry that is gone when it is opened is passed over */
    int depth;               /* 0 inside the root */
    dev_t dev;
    struct buf where; /* "base/5/", of the directory being walked */
};

int tree_walk(const char *root, const struct tree_visitor *visitor, void *arg, bool tolerate_vanishing,
              struct err *err) MUST_CHECK;
/* The entry's path inside the tree, fit for a message; malloc'd. */
char *tree_name(const struct tree_walk *w, const char *name);
/* 0 when errno says that the entry has gone and that is tolerated, else -1 with err "verb <entry>". */
int tree_gone_or_err(const struct tree_walk *w, const char *verb, const char *name, struct err *err);

/* Makes to's content that of from, a regular file of st's size or longer; errno on failure. */
typedef int (*tree_copy_fn)(int from, int to, const struct stat *st);

/*
 * Makes dst, which must not exist, from src: owners, modes and times kept, content by copy.  Hard links
 * become separate files; extended attributes are not taken along.  A failure leaves nothing at dst.  Nothing
 * is synced.
 */
int tree_clone(const char *src, const char *dst, tree_copy_fn copy, bool tolerate_vanishing,
               struct err *err) MUST_CHECK;

/* Bytes in extents that no other file shares, as the file system tells (FIEMAP); slow on many or shared
 * extents. */
int tree_private_bytes(const char *root, uint64_t *ret_bytes, struct err *err) MUST_CHECK;

#endif
