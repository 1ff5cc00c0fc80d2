/*
 * fs.h - files and directories, durably and without following links out of place
 */
#ifndef MERE_FS_H
#define MERE_FS_H

#include "base/arena.h"
#include "base/err.h"

/* mkdir -p of the last component only; existing directory is fine; sets mode and owner (uid (uid_t)-1 =
 * leave). */
int fs_mkdir(const char *path, mode_t mode, uid_t uid, gid_t gid, struct err *err) MUST_CHECK;
/* Whole file into the arena, NUL-terminated; at most max bytes, else ERR_TOO_LARGE.  ERR_NOT_FOUND when
 * absent.  Never waits: what is not a regular file (a fifo, a device, a directory) is ERR_INTERNAL. */
int fs_read(struct arena *a, const char *path, size_t max, char **ret, size_t *ret_len,
            struct err *err) MUST_CHECK;
/* The same for a file that lies where others than us may write: a link there is refused, too. */
int fs_read_nofollow(struct arena *a, const char *path, size_t max, char **ret, size_t *ret_len,
                     struct err *err) MUST_CHECK;
/* Temporary file, fsync, rename, fsync of the directory. */
int fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct err *err) MUST_CHECK;
/* The same without the syncs, for files made anew at each start. */
int fs_write_plain(const char *path, const void *data, size_t len, mode_t mode, uid_t uid, gid_t gid,
                   struct err *err) MUST_CHECK;
int fs_sync_dir(const char *path, struct err *err) MUST_CHECK;
int fs_sync_file(const char *path, struct err *err) MUST_CHECK;
int fs_syncfs(const char *path, struct err *err) MUST_CHECK; /* the file system that holds path */
/* Copies bytes (never reflink: a reflinked WAL segment can hit ENOSPC), leaving holes for zero pages; target
 * must not exist. Not synced: the caller says when.  A failed copy leaves no target. */
int fs_copy_sparse(const char *from, const char *to, mode_t mode, uid_t uid, gid_t gid,
                   struct err *err) MUST_CHECK;
/* Removes a tree by descriptor (openat, no symlink followed); absent is fine.  keep_root leaves the emptied
 * directory. */
int fs_remove_tree(const char *path, bool keep_root, struct err *err) MUST_CHECK;
/* Bytes allocated on disk below path (st_blocks). */
int fs_usage(const char *path, uint64_t *ret_bytes, struct err *err) MUST_CHECK;
int fs_space(const char *path, uint64_t *ret_total, uint64_t *ret_free,
             struct err *err) MUST_CHECK; /* f_bavail */
bool fs_exists(const char *path);         /* lstat */
/* Names in a directory ("." and ".." left out), sorted, NULL-terminated. */
int fs_list(struct arena *a, const char *path, const char ***ret_names, size_t *ret_n,
            struct err *err) MUST_CHECK;
/* Canonical absolute path, in the arena; the path must exist. */
int fs_realpath(struct arena *a, const char *path, const char **ret, struct err *err) MUST_CHECK;
/*
 * flock(LOCK_EX|LOCK_NB) on path, created when absent (mode 0600).  1: taken, *ret_fd is open (CLOEXEC as
 * asked); 0: somebody holds it; -1: error.
 */
int fs_lock(const char *path, bool cloexec, int *ret_fd, struct err *err) MUST_CHECK;

#endif
