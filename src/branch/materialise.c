#include "branch/materialise.h"

#include "base/fs.h"
#include "base/text.h"
#include "branch/capture.h"
#include "branch/volume.h"
#include "pg/control.h"
#include "pg/walseg.h"

#include <string.h>
#include <unistd.h>

static int set_volume(const struct env *env, struct branch *b, const char *volume, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_write(env->db, &c, err) < 0 || branch_set_volume(c, b->id, volume, err) < 0 ||
        db_commit(c, err) < 0)
        return -1;
    b->volume = volume;
    return 0;
}

static int place_wal(const struct env *env, struct arena *a, const struct branch *b, const char *image_wal,
                     struct err *err)
{
    const char **names;
    size_t n;
    const char *pg_wal = env_pg_wal(env, a, b->id);
    if (fs_list(a, image_wal, &names, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        const char *to = arena_printf(a, "%s/%s", pg_wal, names[i]);
        if (fs_copy_sparse(arena_printf(a, "%s/%s", image_wal, names[i]), to, 0600, env->uid, env->gid, err) <
                0 ||
            fs_sync_file(to, err) < 0)
            return -1;
    }
    if (fs_sync_dir(pg_wal, err) < 0 || fs_sync_dir(env_wal(env, a, b->id), err) < 0)
        return -1;
    return fs_sync_dir(arena_printf(a, "%s/wal", env->data_dir), err);
}

static int make_volume(const struct env *env, struct arena *a, struct branch *b, struct err *err)
{
    if (capture_complete(env, a, b->image_id, err) < 0 || set_volume(env, b, "making", err) < 0)
        return -1;
    if (store_remove(env->store, b->id, err) < 0 || volume_make_wal(env, b->id, true, err) < 0)
        return -1;
    CRASH_POINT("materialise.cleared");
    if (store_clone(env->store, b->image_id, b->id, false, err) < 0)
        return err_wrap(err, "clone of image %s", b->image_id);
    CRASH_POINT("materialise.cloned");
    const char *carried = env_image_wal(env, a, b->id);
    if (place_wal(env, a, b, carried, err) < 0)
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
    } else if (!store_exists(env->store, b->id) || !fs_exists(env_pg_wal(env, a, b->id))) {
        /* Never made anew in silence: what it held is gone. */
        return err_set(err, ERR_DAMAGED, "the data of this branch is missing on disk; it is not started");
    }
    env_view(env, a, b->id, b->id, &view);
    return volume_link_wal(env_pgdata(env, a, b->id), view.pg_wal, err);
}

int materialise_verify(const struct env *env, struct arena *a, const struct branch *b,
                       const struct image *image, uint32_t *ret_tli, struct err *err)
{
    struct pg_control control;
    uint32_t parent;
    uint64_t left;
    char want[LSN_TEXT_SIZE], got[LSN_TEXT_SIZE];
    if (pg_control_read(env_pgdata(env, a, b->id), &control, err) < 0)
        return -1;
    if (control.state != PG_STATE_PRODUCTION || control.tli <= (uint32_t)image->tli)
        return err_set(
            err, ERR_INTERNAL,
            "the branch did not begin a history of its own (timeline %u, image on %u); it is not served",
            (unsigned)control.tli, (unsigned)image->tli);
    if (pg_history_read(env_pg_wal(env, a, b->id), control.tli, &parent, &left, err) < 0)
        return -1;
    if (parent != (uint32_t)image->tli || (left != image->lsn && left != walseg_record_start(image->lsn)))
        return err_set(
            err, ERR_INTERNAL,
            "the branch reached LSN %s of timeline %u instead of %s of timeline %u; it is not served",
            text_lsn(left, got), (unsigned)parent, text_lsn(image->lsn, want), (unsigned)image->tli);
    *ret_tli = control.tli;
    return 0;
}

int materialise_remove(const struct env *env, const char *branch_id, struct err *err)
{
    auto_arena *a = arena_new(0);
    if (store_remove(env->store, branch_id, err) < 0)
        return -1;
    CRASH_POINT("remove.volume");
    if (fs_remove_tree(env_wal(env, a, branch_id), false, err) < 0)
        return -1;
    CRASH_POINT("remove.wal");
    (void)unlink(env_lock(env, a, branch_id));
    return 0;
}
