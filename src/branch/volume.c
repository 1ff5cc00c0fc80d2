#include "branch/volume.h"

#include "base/fs.h"
#include "base/text.h"
#include "pg/control.h"
#include "pg/walseg.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Contents dropped, directory kept: the list of Postgres's own base backup (replication/basebackup.c). */
static const char *const EMPTIED[] = { "pg_replslot",  "pg_dynshmem", "pg_notify",  "pg_serial",
                                       "pg_snapshots", "pg_subtrans", "pg_stat_tmp" };
static const char *const REMOVED[] = { "postmaster.pid",   "postmaster.opts",      "postgresql.auto.conf.tmp",
                                       "current_logfiles", "current_logfiles.tmp", "tablespace_map",
                                       "backup_manifest",  "standby.signal",       "recovery.signal",
                                       PG_PROMOTE_FILE };

static int remove_file(const char *dir, const char *name, struct err *err)
{
    auto_free char *path = xasprintf("%s/%s", dir, name);
    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(err, "remove %s", path);
    return 0;
}

/* A copied tablespace link makes two branches write the same files. */
static int refuse_tablespaces(const char *pgdata, struct err *err)
{
    auto_arena *a = arena_new(0);
    const char **names;
    size_t n;
    if (fs_list(a, arena_printf(a, "%s/pg_tblspc", pgdata), &names, &n, err) < 0)
        return -1;
    if (n > 0)
        return err_set(err, ERR_INVALID, "this branch has a tablespace (%s), which a branch cannot share",
                       names[0]);
    return 0;
}

static int drop_wal_link(const char *pgdata, struct err *err)
{
    auto_free char *path = xasprintf("%s/pg_wal", pgdata);
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(err, "stat %s", path);
    if (S_ISLNK(st.st_mode))
        return unlink(path) < 0 ? err_sys(err, "remove %s", path) : 0;
    return fs_remove_tree(path, false, err);
}

int volume_strip(const struct env *env, const char *pgdata, struct err *err)
{
    if (refuse_tablespaces(pgdata, err) < 0 || drop_wal_link(pgdata, err) < 0)
        return -1;
    for (size_t i = 0; i < N_ELEMENTS(EMPTIED); i++) {
        auto_free char *path = xasprintf("%s/%s", pgdata, EMPTIED[i]);
        if (fs_remove_tree(path, true, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < N_ELEMENTS(REMOVED); i++)
        if (remove_file(pgdata, REMOVED[i], err) < 0)
            return -1;
    auto_free char *signal_path = xasprintf("%s/recovery.signal", pgdata);
    return fs_write_plain(signal_path, "", 0, 0600, env->uid, env->gid, err);
}

int volume_make_standby(const struct env *env, const char *pgdata, struct err *err)
{
    auto_free char *path = xasprintf("%s/standby.signal", pgdata);
    if (fs_write_plain(path, "", 0, 0600, env->uid, env->gid, err) < 0)
        return -1;
    return remove_file(pgdata, "recovery.signal", err);
}

int volume_await_promotion(const struct env *env, const char *pgdata, const char *pg_wal, struct err *err)
{
    auto_arena *a = arena_new(0);
    const char **names;
    size_t n;
    if (fs_list(a, pg_wal, &names, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        uint32_t tli;
        uint64_t segno;
        const char *done = arena_printf(a, "%s/archive_status/%s.done", pg_wal, names[i]);
        if (walseg_parse(names[i], &tli, &segno) == WALSEG_SEGMENT &&
            fs_write_plain(done, "", 0, 0600, env->uid, env->gid, err) < 0)
            return -1;
    }
    return volume_make_standby(env, pgdata, err);
}

bool volume_awaits_promotion(const char *pgdata)
{
    auto_free char *path = xasprintf("%s/standby.signal", pgdata);
    return fs_exists(path);
}

/* The last three components: ".../wal/<branch>/pg_wal", or ".../mnt/wal/pg_wal" inside a namespace. */
static const char *tail_of(const char *path)
{
    const char *p = path + strlen(path);
    for (int slashes = 0; p > path && slashes < 3; slashes += *p == '/')
        p--;
    return p;
}

int volume_link_wal(const char *pgdata, const char *target, struct err *err)
{
    auto_arena *a = arena_new(0);
    const char *path = arena_printf(a, "%s/pg_wal", pgdata);
    char *found = arena_alloc(a, 4096);
    ssize_t n = readlink(path, found, 4095);
    if (n < 0 && errno != ENOENT)
        return err_set(err, ERR_INTERNAL,
                       "pg_wal of this branch is not a link to its WAL directory; it is not started");
    if (n >= 0 && strcmp(found, target) == 0)
        return 0;
    /* Elsewhere is only right when the whole data directory was moved since. */
    if (n >= 0 && strcmp(tail_of(found), tail_of(target)) != 0)
        return err_set(err, ERR_INTERNAL,
                       "the WAL directory of this branch is not its own; it is not started");
    if ((n >= 0 && unlink(path) < 0) || symlink(target, path) < 0)
        return err_sys(err, "link %s", path);
    return 0;
}

int volume_make_wal(const struct env *env, const char *volume, bool fresh, struct err *err)
{
    auto_arena *a = arena_new(0);
    const char *const dirs[] = { env_wal(env, a, volume), env_pg_wal(env, a, volume),
                                 arena_printf(a, "%s/archive_status", env_pg_wal(env, a, volume)),
                                 env_archive(env, a, volume) };
    /* Emptied, not made anew: who follows a branch that is not started yet has these very directories. */
    for (size_t i = 0; fresh && i < N_ELEMENTS(dirs); i++)
        if (i > 0 && fs_exists(dirs[i]) && fs_remove_tree(dirs[i], true, err) < 0)
            return -1;
    for (size_t i = 0; i < N_ELEMENTS(dirs); i++)
        if (fs_mkdir(dirs[i], 0700, env->uid, env->gid, err) < 0)
            return -1;
    return 0;
}

/* 1: copied, and the first `bytes` of it checked; 0: not there, or recycled under us. */
static int try_copy(const struct env *env, const char *from, const char *to, uint64_t segno, uint64_t bytes,
                    uint64_t system_id, struct err *err)
{
    struct err why = ERR_INIT;
    (void)unlink(to);
    if (!fs_exists(from))
        return 0;
    if (fs_copy_sparse(from, to, 0600, env->uid, env->gid, &why) < 0) {
        if (!fs_exists(from))
            return 0;
        *err = why;
        return -1;
    }
    auto_fd fd = open(to, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "open %s", to);
    return walseg_check(fd, segno, system_id, &why) == 0 && walseg_check_pages(fd, segno, bytes, &why) == 0;
}

int volume_copy_segment(const struct env *env, const char *volume, uint32_t tli, uint64_t segno,
                        uint64_t bytes, uint64_t system_id, const char *dir, struct err *err)
{
    auto_arena *a = arena_new(0);
    char name[WALSEG_NAME_SIZE];
    walseg_name(tli, segno, name);
    const char *to = arena_printf(a, "%s/%s", dir, name);
    const char *archived = arena_printf(a, "%s/%s", env_archive(env, a, volume), name);
    const char *live = arena_printf(a, "%s/%s", env_pg_wal(env, a, volume), name);
    /* A live segment may be recycled while it is read; by then it has been archived. */
    const char *const tries[] = { archived, live, archived };
    for (size_t i = 0; i < N_ELEMENTS(tries); i++) {
        int rc = try_copy(env, tries[i], to, segno, bytes, system_id, err);
        if (rc != 0)
            return rc < 0 ? -1 : 0;
    }
    return err_set(err, ERR_INTERNAL, "WAL segment %s of %s is missing or damaged; nothing was made of it",
                   name, volume);
}

int volume_copy_history(const struct env *env, const char *volume, uint32_t tli, const char *dir,
                        struct err *err)
{
    auto_arena *a = arena_new(0);
    const char *from = arena_printf(a, "%s/%08X.history", env_pg_wal(env, a, volume), (unsigned)tli);
    const char *kept = arena_printf(a, "%s/%08X.history", env_archive(env, a, volume), (unsigned)tli);
    const char *to = arena_printf(a, "%s/%08X.history", dir, (unsigned)tli);
    if (tli <= 1)
        return 0;
    (void)unlink(to);
    return fs_copy_sparse(fs_exists(from) ? from : kept, to, 0600, env->uid, env->gid, err);
}

/* A range that ends on a segment boundary needs nothing of the next segment. */
static uint64_t last_segment(uint64_t from, uint64_t to)
{
    return to > from && to % WALSEG_SIZE == 0 ? walseg_no(to) - 1 : walseg_no(to);
}

int volume_end_wal(const char *dir, uint32_t tli, uint64_t from, uint64_t to, struct err *err)
{
    char name[WALSEG_NAME_SIZE];
    off_t keep = (off_t)(to % WALSEG_SIZE);
    if (keep == 0)
        return 0;
    walseg_name(tli, last_segment(from, to), name);
    auto_free char *path = xasprintf("%s/%s", dir, name);
    auto_fd fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || ftruncate(fd, keep) < 0 || ftruncate(fd, (off_t)WALSEG_SIZE) < 0)
        return err_sys(err, "end %s", path);
    return 0;
}

int volume_gather_wal(const struct env *env, const char *volume, uint32_t tli, uint64_t from, uint64_t to,
                      uint64_t system_id, const char *dir, struct err *err)
{
    for (uint64_t segno = walseg_no(from); segno <= last_segment(from, to); segno++)
        if (volume_copy_segment(env, volume, tli, segno,
                                segno == walseg_no(to) ? to % WALSEG_SIZE : WALSEG_SIZE, system_id, dir,
                                err) < 0)
            return -1;
    if (volume_end_wal(dir, tli, from, to, err) < 0)
        return -1;
    return volume_copy_history(env, volume, tli, dir, err);
}
