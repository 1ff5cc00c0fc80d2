#include "branch/materialise.h"

#include "base/fs.h"
#include "base/text.h"
#include "branch/capture.h"
#include "branch/history.h"
#include "branch/volume.h"
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

static int place_wal(const struct env *env, struct arena *a, const struct branch *b, const char *image_wal,
                     struct err *err)
{
    const char **names;
    size_t n;
    const char *pg_wal = env_pg_wal(env, a, b->volume_id);
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
static int sync_wal(const struct env *env, struct arena *a, const struct branch *b, struct err *err)
{
    const char **names;
    size_t n;
    const char *pg_wal = env_pg_wal(env, a, b->volume_id);
    if (fs_list(a, pg_wal, &names, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], "archive_status") != 0 &&
            fs_sync_file(arena_printf(a, "%s/%s", pg_wal, names[i]), err) < 0)
            return -1;
    if (fs_sync_dir(pg_wal, err) < 0 || fs_sync_dir(env_wal(env, a, b->volume_id), err) < 0)
        return -1;
    return fs_sync_dir(arena_printf(a, "%s/wal", env->data_dir), err);
}

static int make_volume(const struct env *env, struct arena *a, struct branch *b, struct err *err)
{
    struct history past;
    struct history_place place;
    if (capture_complete(env, a, b->image_id, err) < 0 || find_past(env, a, b, &past, err) < 0 ||
        write_begin(env, b, history_tli(&past), past.lsn, err) < 0)
        return -1;
    if (store_remove(env->store, b->volume_id, err) < 0 || volume_make_wal(env, b->volume_id, true, err) < 0)
        return -1;
    CRASH_POINT("materialise.cleared");
    if (store_clone(env->store, b->image_id, b->volume_id, false, err) < 0)
        return err_wrap(err, "clone of image %s", b->image_id);
    CRASH_POINT("materialise.cloned");
    const char *carried = env_image_wal(env, a, b->volume_id);
    if (place_wal(env, a, b, carried, err) < 0 ||
        history_gather(&past, env_pg_wal(env, a, b->volume_id), &place, err) < 0 ||
        sync_wal(env, a, b, err) < 0)
        return -1;
    if (place.lsn != past.lsn && write_begin(env, b, history_tli(&past), place.lsn, err) < 0)
        return -1;
    CRASH_POINT("materialise.placed");
    return fs_remove_tree(carried, false, err);
}

int materialise(const struct env *env, struct arena *a, struct branch *b, bool *ret_first, struct err *err)
{
    struct env_view view;
    *ret_first = strcmp(b->volume, "ready") != 0;
    if (*ret_first) {
        if (!b->image_id)
            return err_set(err, ERR_INTERNAL, "branch %s has nothing to be made from yet", b->id);
        if (make_volume(env, a, b, err) < 0)
            return -1;
    } else if (!store_exists(env->store, b->volume_id) || !fs_exists(env_pg_wal(env, a, b->volume_id))) {
        /* Never made anew in silence: what it held is gone. */
        return err_set(err, ERR_DAMAGED, "the data of this branch is missing on disk; it is not started");
    }
    env_view(env, a, b->volume_id, b->volume_id, &view);
    return volume_link_wal(env_pgdata(env, a, b->volume_id), view.pg_wal, err);
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
    if (control.state != PG_STATE_PRODUCTION || control.tli <= (uint32_t)b->fork_tli)
        return err_set(
            err, ERR_INTERNAL,
            "the branch did not begin a history of its own (timeline %u, it came from %u); it is not served",
            (unsigned)control.tli, (unsigned)b->fork_tli);
    if (pg_history_read(env_pg_wal(env, a, b->volume_id), control.tli, &parent, &left, err) < 0)
        return -1;
    if (parent != (uint32_t)b->fork_tli || (left != b->fork_lsn && left != walseg_record_start(b->fork_lsn)))
        return err_set(
            err, ERR_INTERNAL,
            "the branch reached LSN %s of timeline %u instead of %s of timeline %u; it is not served",
            text_lsn(left, got), (unsigned)parent, text_lsn(b->fork_lsn, want), (unsigned)b->fork_tli);
    *ret_tli = control.tli;
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
