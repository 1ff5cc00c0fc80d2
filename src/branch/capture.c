#include "branch/capture.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "branch/history.h"
#include "branch/volume.h"
#include "pg/control.h"
#include "pg/walseg.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>

/* Behind an image that is the state of so much WAL another is taken: what lies between must be read by who
 * asks for a place in it. */
#define QUIET_MAX_BYTES ((uint64_t)256 << 20)

#define CHECKPOINT_MAX_MS  600000 /* one that must have been */
#define CHECKPOINT_WAIT_MS 5000   /* one that would be good; the answer of a POST has 8 s */
#define REPLAY_CHEAP_BYTES ((uint64_t)32 << 20)

static int insert_taking(const struct env *env, struct arena *a, const struct branch *b, const char *method,
                         uint32_t tli, uint64_t redo, struct image *ret, struct err *err)
{
    auto_dbc *c = NULL;
    *ret = (struct image){ .id = id_image(a),
                           .branch_id = b->id,
                           .method = method,
                           .state = "taking",
                           .tli = tli,
                           .redo_lsn = redo,
                           .stamp_us = IMAGE_STAMP_UNREAD,
                           .created_at = clock_wall_us() };
    struct image seed;
    if (db_write(env->db, &c, err) < 0 || image_get(c, a, b->image_id, &seed, err) < 0)
        return -1;
    ret->pg_version = seed.pg_version;
    if (image_insert(c, ret, err) < 0)
        return -1;
    return db_commit(c, err);
}

/* Its place is known, so that what is committed from now on lies behind it. */
static void set_lsn(struct image *image, uint64_t lsn)
{
    image->lsn = image->until_lsn = lsn;
    image->created_at = clock_wall_us();
}

int capture_head(const struct env *env, const char *volume_id, uint64_t *ret_redo, uint64_t *ret_head,
                 uint32_t *ret_tli, uint64_t *ret_system_id, struct err *err)
{
    auto_arena *a = arena_new(0);
    struct pg_control control;
    if (pg_control_read(env_pgdata(env, a, volume_id), &control, err) < 0)
        return -1;
    if (control.state != PG_STATE_SHUT_DOWN)
        return err_set(err, ERR_PRECONDITION, "the compute of this branch was not shut down cleanly");
    *ret_redo = control.redo;
    *ret_tli = control.tli;
    *ret_system_id = control.system_id;
    return walseg_record_end(env_pg_wal(env, a, volume_id), control.tli, control.checkpoint, ret_head, err);
}

static int sync_image(const struct env *env, struct arena *a, const char *image_id, struct err *err)
{
    return fs_syncfs(store_path(env->store, a, image_id), err);
}

/* Into the image, whatever an earlier try has left there. */
static int gather_wal(const struct env *env, struct arena *a, const struct branch *b, const char *image_id,
                      uint32_t tli, uint64_t redo, uint64_t to, uint64_t system_id, struct err *err)
{
    const char *dir = env_image_wal(env, a, image_id);
    if (fs_mkdir(dir, 0700, env->uid, env->gid, err) < 0 || fs_remove_tree(dir, true, err) < 0)
        return -1;
    return volume_gather_wal(env, b->volume_id, tli, redo, to, system_id, dir, err);
}

static int commit_cold(const struct env *env, const struct branch *b, const struct image *image,
                       uint64_t head, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_write(env->db, &c, err) < 0)
        return -1;
    if (image_update(c, image, err) < 0 || branch_set_head(c, b->id, head, err) < 0)
        return -1;
    return db_commit(c, err);
}

/* The image that is the state of the branch at its head, and the line from the newest one up to there. */
static int find_cold(const struct env *env, struct arena *a, const struct branch *b, uint64_t head,
                     struct image *ret, bool *ret_found, struct history *ret_history, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(env->db, &c, err) < 0 || image_find_at(c, a, b->id, head, ret, ret_found, err) < 0)
        return -1;
    *ret_found = *ret_found && strcmp(ret->state, "ready") == 0;
    return history_find(env, c, a, b, head, NULL, ret_history, err);
}

/* Nobody did anything since the newest image of this branch.  What cannot be read is not known to be quiet.
 */
static bool is_quiet(const struct history *h, const struct branch *b)
{
    struct err why = ERR_INIT;
    bool quiet = false;
    if (!h->image.branch_id || strcmp(h->image.branch_id, b->id) != 0 ||
        h->lsn - h->image.lsn > QUIET_MAX_BYTES)
        return false;
    if (history_is_quiet(h, h->image.until_lsn, &quiet, &why) == 0)
        return quiet;
    log_event(LOG_WARN, "capture", "cannot read what was done since the last image", "br", b->id, "error",
              why.msg, "detail", why.detail, NULL);
    return false;
}

int capture_cold(const struct env *env, struct arena *a, const struct branch *b, struct image *ret,
                 struct err *err)
{
    uint64_t redo, head, system_id;
    uint32_t tli;
    bool found;
    struct history h;
    if (capture_head(env, b->volume_id, &redo, &head, &tli, &system_id, err) < 0)
        return -1;
    if (find_cold(env, a, b, head, ret, &found, &h, err) < 0)
        return -1;
    if (!found && is_quiet(&h, b)) {
        *ret = h.image;
        ret->until_lsn = head;
        found = true;
    }
    CRASH_POINT("capture.looked");
    if (found)
        return commit_cold(env, b, ret, head, err);
    if (insert_taking(env, a, b, "cold", tli, redo, ret, err) < 0)
        return -1;
    CRASH_POINT("capture.taking");
    int rc = store_clone(env->store, b->volume_id, ret->id, false, err);
    CRASH_POINT("capture.cloned");
    if (rc == 0)
        rc = volume_strip(env, env_pgdata(env, a, ret->id), err);
    if (rc == 0)
        rc = gather_wal(env, a, b, ret->id, tli, redo, head, system_id, err);
    if (rc == 0)
        rc = sync_image(env, a, ret->id, err);
    CRASH_POINT("capture.synced");
    if (rc == 0) {
        ret->state = "ready";
        set_lsn(ret, head);
        rc = commit_cold(env, b, ret, head, err);
    }
    if (rc < 0) {
        struct err ignored = ERR_INIT;
        (void)!capture_discard(env, ret->id, &ignored);
    }
    return rc;
}

static int write_label(const struct env *env, struct arena *a, const char *image_id, const char *label,
                       struct err *err)
{
    const char *path = arena_printf(a, "%s/backup_label", env_pgdata(env, a, image_id));
    if (fs_write_plain(path, label, strlen(label), 0600, env->uid, env->gid, err) < 0)
        return -1;
    return sync_image(env, a, image_id, err);
}

/* One that was promoted has its redo point in its parent's history until its first checkpoint. */
static int leave_parent(const struct env *env, struct arena *a, const struct branch *b,
                        struct pg_admin *admin, struct err *err)
{
    struct pg_control control;
    if (pg_control_read(env_pgdata(env, a, b->volume_id), &control, err) < 0)
        return -1;
    return control.tli != (uint32_t)b->tli ? pg_admin_checkpoint(admin, CHECKPOINT_MAX_MS, err) : 0;
}

/*
 * Whoever starts a branch of a busy one copies and replays what the parent wrote since its last checkpoint,
 * beside the parent that goes on writing.  Of much WAL that takes longer than a checkpoint, which writes each
 * page once (under pgbench -c 4, POST until a session has written: 2.0 s instead of 2.1 with 400 MB of
 * data, 2.7 instead of 6.1 with 5 GB; on another machine 1.5 instead of 2.9).
 */
static int shorten_replay(struct pg_admin *admin, struct err *err)
{
    uint64_t redo, flushed;
    if (pg_admin_redo_lsn(admin, &redo, err) < 0 || pg_admin_flush_lsn(admin, &flushed, err) < 0)
        return -1;
    if (flushed - redo <= REPLAY_CHEAP_BYTES || pg_admin_checkpoint(admin, CHECKPOINT_WAIT_MS, err) == 0)
        return 0;
    if (err->code != ERR_TIMEOUT)
        return -1;
    *err = (struct err)ERR_INIT;
    return 0;
}

static int take_snapshot(const struct env *env, struct arena *a, const struct branch *b,
                         struct pg_admin *admin, struct image *ret, struct err *err)
{
    struct pg_control control;
    uint64_t redo, lsn;
    if (leave_parent(env, a, b, admin, err) < 0 || pg_admin_redo_lsn(admin, &redo, err) < 0)
        return -1;
    if (insert_taking(env, a, b, "snapshot", (uint32_t)b->tli, redo, ret, err) < 0)
        return -1;
    CRASH_POINT("capture.taking");
    if (store_clone(env->store, b->volume_id, ret->id, false, err) < 0)
        return -1;
    CRASH_POINT("capture.cloned");
    /* After the snapshot, never before: a page in it may carry WAL up to its very instant. */
    if (pg_admin_mark(admin, ret->id, &lsn, err) < 0)
        return -1;
    set_lsn(ret, lsn);
    if (pg_control_read(env_pgdata(env, a, ret->id), &control, err) < 0)
        return -1;
    if (control.redo < redo || control.tli != (uint32_t)b->tli)
        return err_set(
            err, ERR_INTERNAL,
            "the snapshot's control file is older than the hold taken before it; nothing was made of it");
    ret->redo_lsn = control.redo;
    return 0;
}

static int take_backup(const struct env *env, struct arena *a, const struct branch *b, struct pg_admin *admin,
                       struct image *ret, struct err *err)
{
    const char *label;
    uint64_t redo, lsn;
    if (pg_admin_redo_lsn(admin, &redo, err) < 0)
        return -1;
    if (insert_taking(env, a, b, "backup", (uint32_t)b->tli, redo, ret, err) < 0)
        return -1;
    CRASH_POINT("capture.taking");
    if (pg_admin_backup_start(admin, ret->id, &ret->redo_lsn, err) < 0)
        return -1;
    /* Files of dropped tables may vanish while they are copied: their end is in the WAL. */
    int rc = store_clone(env->store, b->volume_id, ret->id, true, err);
    struct err stop_err = ERR_INIT;
    if (pg_admin_backup_stop(admin, a, &label, rc < 0 ? &stop_err : err) < 0 || rc < 0)
        return -1;
    CRASH_POINT("capture.cloned");
    if (write_label(env, a, ret->id, label, err) < 0)
        return -1;
    if (pg_admin_mark(admin, ret->id, &lsn, err) < 0)
        return -1;
    set_lsn(ret, lsn);
    return 0;
}

/* A snapshot keeps the order of synced writes only, and a relaxed branch syncs nothing: its checkpoint may be
 * there without its pages. */
static bool is_atomic(const struct env *env, const struct branch *b)
{
    return (store_features(env->store) & STORE_ATOMIC_SNAPSHOT) && strcmp(b->durability, "full") == 0;
}

static int take(const struct env *env, struct arena *a, const struct branch *b, struct pg_admin *admin,
                struct image *ret, struct err *err)
{
    *ret = (struct image){ 0 };
    int rc = is_atomic(env, b) ? take_snapshot(env, a, b, admin, ret, err)
                               : take_backup(env, a, b, admin, ret, err);
    if (rc < 0 && ret->id) {
        struct err ignored = ERR_INIT;
        (void)!capture_discard(env, ret->id, &ignored);
    }
    return rc;
}

int capture_running(const struct env *env, struct arena *a, const struct branch *b, struct pg_admin *admin,
                    struct image *ret, struct err *err)
{
    /* A backup begins with a checkpoint anyway. */
    if (is_atomic(env, b) && shorten_replay(admin, err) < 0)
        return -1;
    return take(env, a, b, admin, ret, err);
}

int capture_background(const struct env *env, struct arena *a, const struct branch *b, struct pg_admin *admin,
                       struct image *ret, struct err *err)
{
    if (take(env, a, b, admin, ret, err) < 0)
        return -1;
    auto_dbc *c = NULL;
    if (db_write(env->db, &c, err) == 0 && image_update(c, ret, err) == 0 && db_commit(c, err) == 0)
        return 0;
    db_end(&c);
    struct err ignored = ERR_INIT;
    (void)!capture_discard(env, ret->id, &ignored);
    return -1;
}

/* One at a time for each image: the directory itself is the lock. */
static int lock_image(const struct env *env, struct arena *a, const char *image_id, int *ret_fd,
                      struct err *err)
{
    const char *path = store_path(env->store, a, image_id);
    *ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*ret_fd < 0 || flock(*ret_fd, LOCK_EX) < 0)
        return err_sys(err, "lock %s", path);
    return 0;
}

/* ret_branch: whose it is; a template has none, and is never incomplete. */
static int read_image(const struct env *env, struct arena *a, const char *image_id, struct image *ret,
                      struct branch *ret_branch, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(env->db, &c, err) < 0 || image_get(c, a, image_id, ret, err) < 0)
        return -1;
    return ret->branch_id ? branch_get_id(c, a, ret->branch_id, ret_branch, err) : 0;
}

/* One that is `taking` is known to who takes it alone. */
static bool is_incomplete(const struct image *image)
{
    return strcmp(image->state, "snapped") == 0 || strcmp(image->state, "taking") == 0;
}

int capture_complete(const struct env *env, struct arena *a, const char *image_id, struct err *err)
{
    struct pg_control control;
    struct branch b;
    struct image image;
    const char *pgdata = env_pgdata(env, a, image_id);
    auto_fd lock_fd = -1;
    if (read_image(env, a, image_id, &image, &b, err) < 0)
        return -1;
    if (!is_incomplete(&image))
        return 0;
    if (lock_image(env, a, image_id, &lock_fd, err) < 0 || read_image(env, a, image_id, &image, &b, err) < 0)
        return -1;
    if (!is_incomplete(&image))
        return 0;
    if (pg_control_read(pgdata, &control, err) < 0 || volume_strip(env, pgdata, err) < 0)
        return -1;
    if (gather_wal(env, a, &b, image_id, (uint32_t)image.tli, image.redo_lsn, image.lsn, control.system_id,
                   err) < 0)
        return -1;
    if (sync_image(env, a, image_id, err) < 0)
        return -1;
    CRASH_POINT("capture.completed");
    auto_dbc *c = NULL;
    if (db_write(env->db, &c, err) < 0 || image_set_state(c, image_id, "ready", err) < 0)
        return -1;
    return db_commit(c, err);
}

int capture_carries_wal(const struct env *env, struct arena *a, const char *image_id, bool *ret,
                        struct err *err)
{
    struct branch b;
    struct image image;
    if (read_image(env, a, image_id, &image, &b, err) < 0)
        return -1;
    *ret = !is_incomplete(&image);
    return 0;
}

int capture_place_wal(const struct env *env, struct arena *a, const char *image_id, const char *dir,
                      struct err *err)
{
    struct pg_control control;
    struct branch b;
    struct image image;
    if (read_image(env, a, image_id, &image, &b, err) < 0 ||
        pg_control_read(env_pgdata(env, a, image_id), &control, err) < 0)
        return -1;
    return volume_gather_wal(env, b.volume_id, (uint32_t)image.tli, image.redo_lsn, image.lsn,
                             control.system_id, dir, err);
}

int capture_discard(const struct env *env, const char *image_id, struct err *err)
{
    if (store_remove(env->store, image_id, err) < 0)
        return -1;
    auto_dbc *c = NULL;
    if (db_write(env->db, &c, err) < 0 || image_delete(c, image_id, err) < 0)
        return -1;
    return db_commit(c, err);
}
