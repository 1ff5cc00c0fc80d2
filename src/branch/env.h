/*
 * env.h - where the things of a branch lie, and how a compute sees them
 *
 *   <data>/volumes/<id>/pgdata     data files of a branch (id = branch id) or an image (id = image id)
 *   <data>/volumes/<image>/wal     the WAL an image carries
 *   <data>/wal/<branch>/pg_wal     the branch's own WAL, on the host file system
 *   <data>/wal/<branch>/archive    what mere-wal kept of it
 *   <data>/locks/<branch>.lock     held by every process of the branch's compute
 *   <data>/logs/<endpoint>.log
 *   <run>/s/<endpoint>/            its socket directory;  <run>/conf/<endpoint>/  its configuration
 *   <run>/pool/<endpoint>/         what its pooler is told, verifiers among it, and the lock it holds
 *
 * <data> is 0700 and may lie in a home that the compute's uid cannot enter.  As root every compute therefore
 * gets a mount namespace of its own in which <run>/mnt/{data,wal,mere-wal} are bound to its directories;
 * nothing is mounted on the host.  Its pooler has one, too: <run>/pool is closed to the uid that all computes
 * share, and <run>/mnt/pool is the pooler's own.  As an ordinary user the compute has our uid and sees the
 * real paths.
 */
#ifndef MERE_BRANCH_ENV_H
#define MERE_BRANCH_ENV_H

#include "base/arena.h"
#include "base/err.h"
#include "meta/db.h"
#include "pg/install.h"
#include "store/store.h"

struct env {
    struct db *db;
    struct store *store;
    const char *data_dir; /* canonical */
    const char *run_dir;  /* short; see env_run_dir */
    const char *bin_dir;  /* where mere-exec and mere-wal lie */
    const char *os_user;  /* the name mered runs under */
    bool as_root;
    uid_t uid; /* of computes; ours when not root */
    gid_t gid;
    gid_t proxy_gid; /* may enter the socket directories */
    const struct pg_install *installs;
    size_t n_installs;
};

/*
 * The directory for sockets and the like: /run/mere/<hash of data_dir> as root, $XDG_RUNTIME_DIR/mere/<hash>
 * or /tmp/mere-<uid>/<hash> otherwise; so socket paths stay below 108 bytes whatever data_dir is.  Made with
 * owner and mode checked.
 */
int env_run_dir(struct arena *a, const char *data_dir, const char **ret, struct err *err) MUST_CHECK;
/* Makes <run>/{s,conf,mnt,pool} and <data>/{wal,locks,logs}. */
int env_prepare(const struct env *env, struct err *err) MUST_CHECK;

/* Some compute of this data directory runs (its lock is held). */
bool env_any_running(const struct env *env);
/* Takes <run> away; nothing of ours may be running. */
void env_cleanup(const struct env *env);

const struct pg_install *env_install(const struct env *env, int64_t major); /* NULL when not installed */

const char *env_pgdata(const struct env *env, struct arena *a, const char *volume);
const char *env_image_wal(const struct env *env, struct arena *a, const char *image);
const char *env_wal(const struct env *env, struct arena *a, const char *branch);    /* wal/<branch> */
const char *env_pg_wal(const struct env *env, struct arena *a, const char *branch); /* wal/<branch>/pg_wal */
const char *env_archive(const struct env *env, struct arena *a,
                        const char *branch); /* wal/<branch>/archive */
const char *env_lock(const struct env *env, struct arena *a, const char *branch);
const char *env_log(const struct env *env, struct arena *a, const char *endpoint);
const char *env_socket_dir(const struct env *env, struct arena *a, const char *endpoint);
const char *env_conf_dir(const struct env *env, struct arena *a, const char *endpoint);
const char *env_pool_dir(const struct env *env, struct arena *a, const char *endpoint);
const char *env_pool_lock(const struct env *env, struct arena *a, const char *endpoint);

/* Paths as the compute of this branch sees them. */
struct env_view {
    const char *data_dir;
    const char *pg_wal;
    const char *archive;
    const char *wal_tool;
    const char *followed; /* the WAL directory of who is followed */
};
void env_view(const struct env *env, struct arena *a, const char *volume, const char *branch,
              const char *followed, struct env_view *ret);
/*
 * The argv that runs argv as the compute's user inside its view, through mere-exec.  branch NULL: no WAL
 * directory (initdb). procs: cgroup files to join, or NULL.  keep_lock: the child keeps descriptor
 * PROC_KEEP_FD.  followed: whose WAL directory it may read, or NULL.
 */
const char *const *env_exec_argv(const struct env *env, struct arena *a, const char *volume,
                                 const char *branch, const char *followed, bool keep_lock,
                                 const char *const *argv);
/* Likewise for the pooler of an endpoint, which sees its directory as env_pool_view() and keeps its lock. */
const char *env_pool_view(const struct env *env, struct arena *a, const char *endpoint);
const char *const *env_pool_exec_argv(const struct env *env, struct arena *a, const char *endpoint,
                                      const char *const *argv);

#endif
