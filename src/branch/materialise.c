#include "branch/materialise.h"

#include "base/fs.h"
#include "base/text.h"
#include "branch/capture.h"
#include "branch/history.h"
#include "branch/volume.h"
#include "meta/operation.h"
#include "pg/control.h"
#include "pg/walseg.h"

#include <string.h>
#include <unistd.h>

/* What is missing between the image and the place where the branch leaves its parent. */
static int find_past(const struct env *env, struct arena *a, const struct branch *b, struct history *ret,
                     struct err *err)
{
    auto_dbc *c = NULL;
    struct branch parent;
    if (db_read(env->db, &c, err) < 0)
        return -1;
    if (b->parent_id)
        return branch_get_id(c, a, b->parent_id, &parent, err) < 0
                   ? -1
                   : history_find(env, c, a, &parent, b->parent_lsn, b->image_id, ret, err);
    *ret = (struct history){ .env = env };
    if (image_get(c, a, b->image_id, &ret->image, err) < 0)
        return -1;
    ret->lsn = ret->image.lsn;
    return 0;
}

/* Before anything is on disk, and again when the place turns out to be inside a record. */
static int write_begin(const struct env *env, struct branch *b, uint32_t tli, uint64_t lsn, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_write(env->db, &c, err) < 0 || branch_set_volume(c, b->id, "making", err) < 0 ||
        branch_set_begin(c, b->id, tli, lsn, err) < 0 || db_commit(c, err) < 0)
        return -1;
    b->volume = "making";
    b->fork_tli = tli;
    b->fork_lsn = lsn;
    return 0;
}

static int place_wal(const struct env *env, struct arena *a, const char *volume_id, const char *image_wal,
                     struct err *err)
{
    const char **names;
    size_t n;
    const char *pg_wal = env_pg_wal(env, a, volume_id);
    if (fs_list(a, image_wal, &names, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        const char *to = arena_printf(a, "%s/%s", pg_wal, names[i]);
        if (fs_copy_sparse(arena_printf(a, "%s/%s", image_wal, names[i]), to, 0600, env->uid, env->gid, err) <
            0)
            return -1;
    }
    return 0;
}

/* All that is in pg_wal, and its name up to the data directory. */
static int sync_wal(const struct env *env, struct arena *a, const char *volume_id, struct err *err)
{
    const char **names;
    size_t n;
    const char *pg_wal = env_pg_wal(env, a, volume_id);
    if (fs_list(a, pg_wal, &names, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], "archive_status") != 0 &&
            fs_sync_file(arena_printf(a, "%s/%s", pg_wal, names[i]), err) < 0)
            return -1;
    if (fs_sync_dir(pg_wal, err) < 0 || fs_sync_dir(env_wal(env, a, volume_id), err) < 0)
        return -1;
    return fs_sync_dir(arena_printf(a, "%s/wal", env->data_dir), err);
}

/* What completing the image would have done, on the clone. */
static int strip_and_place(const struct env *env, struct arena *a, const char *volume_id,
                           const char *image_id, struct err *err)
{
    if (volume_strip(env, env_pgdata(env, a, volume_id), err) < 0)
        return -1;
    return capture_place_wal(env, a, image_id, env_pg_wal(env, a, volume_id), err);
}

/* The operation that made the branch is at it just now: its clients do not wait for that, where the image can
 * be cloned in the middle of it. */
static int is_being_completed(const struct env *env, struct arena *a, const struct branch *b, bool *ret,
                              struct err *err)
{
    auto_dbc *c = NULL;
    struct operation *open;
    size_t n;
    *ret = false;
    if (!(store_features(env->store) & STORE_ATOMIC_SNAPSHOT))
        return 0;
    if (db_read(env->db, &c, err) < 0 || operation_list_open(c, a, &open, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        *ret |= strcmp(open[i].action, "create_branch") == 0 && open[i].branch_id &&
                strcmp(open[i].branch_id, b->id) == 0;
    return 0;
}

/* A volume and a WAL directory of this name, whatever was there: the image, and the WAL from it to past->lsn.
 */
static int fill_volume(const struct env *env, struct arena *a, const char *volume_id,
                       const struct history *past, struct history_place *ret, struct err *err)
{
    *ret = (struct history_place){ .lsn = past->lsn };
    if (store_remove(env->store, volume_id, err) < 0 || volume_make_wal(env, volume_id, true, err) < 0)
        return -1;
    CRASH_POINT("materialise.cleared");
    bool carries; /* asked before the clone, which may be made of an image that is completed meanwhile */
    if (capture_carries_wal(env, a, past->image.id, &carries, err) < 0)
        return -1;
    if (store_clone(env->store, past->image.id, volume_id, false, err) < 0)
        return err_wrap(err, "clone of image %s", past->image.id);
    CRASH_POINT("materialise.cloned");
    const char *carried = env_image_wal(env, a, volume_id);
    int rc = carries ? place_wal(env, a, volume_id, carried, err)
                     : strip_and_place(env, a, volume_id, past->image.id, err);
    /* Where the image is of a running server Postgres syncs all of it before it replays (SyncDataDirectory).
     */
    if (rc < 0 || history_gather(past, env_pg_wal(env, a, volume_id), ret, err) < 0 ||
        (carries && sync_wal(env, a, volume_id, err) < 0))
        return -1;
    CRASH_POINT("materialise.placed");
    return fs_remove_tree(carried, false, err);
}

/*
 * Recovery that has come to its end writes all it has changed to the data files before anybody is let in.  Of
 * so much WAL that takes seconds (4 of 12, measured with 160 MB); a standby that is promoted does it later.
 * Of less, the promotion costs more than it saves.
 */
#define PROMOTE_MIN_BYTES ((uint64_t)16 << 20)

static int choose_recovery(const struct env *env, struct arena *a, const struct branch *b, uint64_t lsn,
                           struct err *err)
{
    struct pg_control control;
    const char *pgdata = env_pgdata(env, a, b->volume_id);
    if (pg_control_read(pgdata, &control, err) < 0)
        return -1;
    return lsn - control.redo < PROMOTE_MIN_BYTES
               ? 0
               : volume_await_promotion(env, pgdata, env_pg_wal(env, a, b->volume_id), err);
}

/* ret_needs: of who replays it. */
static int make_volume(const struct env *env, struct arena *a, struct branch *b, struct pg_needs *ret_needs,
                       struct err *err)
{
    struct history past;
    struct history_place place;
    bool being_completed;
    if (is_being_completed(env, a, b, &being_completed, err) < 0 ||
        (!being_completed && capture_complete(env, a, b->image_id, err) < 0) ||
        find_past(env, a, b, &past, err) < 0 || write_begin(env, b, history_tli(&past), past.lsn, err) < 0 ||
        fill_volume(env, a, b->volume_id, &past, &place, err) < 0)
        return -1;
    *ret_needs = place.needs;
    return place.lsn != past.lsn ? write_begin(env, b, history_tli(&past), place.lsn, err) : 0;
}

static int link_wal(const struct env *env, struct arena *a, const char *volume_id, struct err *err)
{
    struct env_view view;
    env_view(env, a, volume_id, volume_id, NULL, &view);
    return volume_link_wal(env_pgdata(env, a, volume_id), view.pg_wal, err);
}

int materialise(const struct env *env, struct arena *a, struct branch *b, bool *ret_first, struct err *err)
{
    struct pg_needs needs;
    *ret_first = strcmp(b->volume, "ready") != 0;
    if (*ret_first) {
        if (!b->image_id)
            return err_set(err, ERR_INTERNAL, "branch %s has nothing to be made from yet", b->id);
        if (make_volume(env, a, b, &needs, err) < 0 || choose_recovery(env, a, b, b->fork_lsn, err) < 0)
            return -1;
    } else if (!store_exists(env->store, b->volume_id) || !fs_exists(env_pg_wal(env, a, b->volume_id))) {
        /* Never made anew in silence: what it held is gone. */
        return err_set(err, ERR_DAMAGED, "the data of this branch is missing on disk; it is not started");
    }
    return link_wal(env, a, b->volume_id, err);
}

static int make_standby(const struct env *env, struct arena *a, const char *volume_id, struct pg_needs *needs,
                        struct err *err)
{
    struct pg_control control;
    const char *pgdata = env_pgdata(env, a, volume_id);
    if (pg_control_read(pgdata, &control, err) < 0 || volume_make_standby(env, pgdata, err) < 0)
        return -1;
    pg_needs_raise(needs, &control.needs);
    return link_wal(env, a, volume_id, err);
}

int materialise_moment(const struct env *env, struct arena *a, struct branch *b, struct pg_needs *ret_needs,
                       struct err *err)
{
    return make_volume(env, a, b, ret_needs, err) < 0 ? -1
                                                      : make_standby(env, a, b->volume_id, ret_needs, err);
}

/* The newest image of the branch's own, from which on it is followed; or what the branch itself begins with.
 */
static int find_seed(const struct env *env, struct arena *a, const struct branch *b, struct history *ret,
                     struct err *err)
{
    {
        auto_dbc *c = NULL;
        if (db_read(env->db, &c, err) < 0 || history_find(env, c, a, b, INT64_MAX, NULL, ret, err) < 0)
            return -1;
    }
    if (!ret->image.branch_id || strcmp(ret->image.branch_id, b->id) != 0)
        return capture_complete(env, a, b->image_id, err) < 0 ? -1 : find_past(env, a, b, ret, err);
    ret->n = 0;
    ret->lsn = ret->image.lsn;
    return 0;
}

int materialise_follower(const struct env *env, struct arena *a, const struct branch *b,
                         const char *volume_id, struct pg_needs *ret_needs, uint64_t *ret_least,
                         struct err *err)
{
    struct history seed;
    struct history_place place;
    if (!b->image_id)
        return err_set(err, ERR_UNAVAILABLE, "branch %s is still being made", b->id);
    if (find_seed(env, a, b, &seed, err) < 0 || volume_make_wal(env, b->volume_id, false, err) < 0 ||
        fill_volume(env, a, volume_id, &seed, &place, err) < 0)
        return -1;
    *ret_needs = place.needs;
    *ret_least = place.lsn > b->head_lsn ? place.lsn : b->head_lsn;
    return make_standby(env, a, volume_id, ret_needs, err);
}

int materialise_verify(const struct env *env, struct arena *a, const struct branch *b, uint32_t *ret_tli,
                       struct err *err)
{
    struct pg_control control;
    uint32_t parent;
    uint64_t left;
    char want[LSN_TEXT_SIZE], got[LSN_TEXT_SIZE];
    if (pg_control_read(env_pgdata(env, a, b->volume_id), &control, err) < 0)
        return -1;
    uint32_t tli = control.min_recovery_tli > control.tli ? control.min_recovery_tli : control.tli;
    if (control.state != PG_STATE_PRODUCTION || tli <= (uint32_t)b->fork_tli)
        return err_set(
            err, ERR_INTERNAL,
            "the branch did not begin a history of its own (timeline %u, it came from %u); it is not served",
            (unsigned)tli, (unsigned)b->fork_tli);
    if (pg_history_read(env_pg_wal(env, a, b->volume_id), tli, &parent, &left, err) < 0)
        return -1;
    if (parent != (uint32_t)b->fork_tli || (left != b->fork_lsn && left != walseg_record_start(b->fork_lsn)))
        return err_set(
            err, ERR_INTERNAL,
            "the branch reached LSN %s of timeline %u instead of %s of timeline %u; it is not served",
            text_lsn(left, got), (unsigned)parent, text_lsn(b->fork_lsn, want), (unsigned)b->fork_tli);
    *ret_tli = tli;
    return 0;
}

int materialise_verify_moment(const struct branch *b, struct pg_admin *admin, int timeout_ms, struct err *err)
{
    uint64_t at;
    char want[LSN_TEXT_SIZE], got[LSN_TEXT_SIZE];
    if (pg_admin_wait_replayed(admin, b->fork_lsn, timeout_ms, &at, err) < 0)
        return -1;
    if (walseg_record_start(at) != walseg_record_start(b->fork_lsn))
        return err_set(err, ERR_INTERNAL, "the branch was brought to LSN %s instead of %s; it is not served",
                       text_lsn(at, got), text_lsn(b->fork_lsn, want));
    return 0;
}

int materialise_verify_follower(uint64_t least, struct pg_admin *admin, int timeout_ms, struct err *err)
{
    uint64_t at;
    char want[LSN_TEXT_SIZE], got[LSN_TEXT_SIZE];
    if (pg_admin_wait_replayed(admin, UINT64_MAX, timeout_ms, &at, err) < 0)
        return -1;
    if (walseg_record_start(at) < walseg_record_start(least))
        return err_set(err, ERR_INTERNAL,
                       "the endpoint could follow its branch to LSN %s only, not to %s; it is not served",
                       text_lsn(at, got), text_lsn(least, want));
    return 0;
}

int materialise_remove(const struct env *env, const char *volume_id, struct err *err)
{
    auto_arena *a = arena_new(0);
    if (store_remove(env->store, volume_id, err) < 0)
        return -1;
    CRASH_POINT("remove.volume");
    if (fs_remove_tree(env_wal(env, a, volume_id), false, err) < 0)
        return -1;
    CRASH_POINT("remove.wal");
    (void)unlink(env_lock(env, a, volume_id));
    return 0;
}
