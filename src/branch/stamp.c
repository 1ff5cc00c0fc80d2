/*
 * stamp.c - the newest commit before each image, read once and kept
 */
#include "branch/stamp.h"

#include "branch/history.h"
#include "meta/branch.h"
#include "meta/image.h"

#include <string.h>

/* What the WAL must be read of: from the newest image that says when, to this one. */
static int find_work(const struct env *env, struct arena *a, struct image *ret, struct history *ret_history,
                     bool *ret_found, struct err *err)
{
    auto_dbc *c = NULL;
    struct branch b;
    if (db_read(env->db, &c, err) < 0 || image_find_unstamped(c, a, ret, ret_found, err) < 0)
        return -1;
    if (!*ret_found)
        return 0;
    if (branch_get_id(c, a, ret->branch_id, &b, err) < 0)
        return -1;
    return history_find_time(env, c, a, &b, ret->lsn, INT64_MAX, ret_history, err);
}

/* Whether it was still there to be noted: a branch that is being deleted takes its WAL along. */
static int note(const struct env *env, struct arena *a, const struct image *image, int64_t stamp_us,
                bool *ret_noted, struct err *err)
{
    auto_dbc *c = NULL;
    struct branch b;
    struct image now;
    *ret_noted = false;
    if (db_write(env->db, &c, err) < 0)
        return -1;
    if (image_get(c, a, image->id, &now, err) < 0 || branch_get_id(c, a, image->branch_id, &b, err) < 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    if (strcmp(b.state, "deleting") == 0)
        return 0;
    if (image_set_stamp(c, image->id, stamp_us, err) < 0 || db_commit(c, err) < 0)
        return -1;
    *ret_noted = true;
    return 0;
}

int stamp_next(const struct env *env, struct arena *a, bool *ret_found, struct err *err)
{
    struct image image;
    struct history h;
    struct history_place place;
    struct err why = ERR_INIT;
    bool noted;
    if (find_work(env, a, &image, &h, ret_found, err) < 0)
        return -1;
    if (!*ret_found)
        return 0;
    int rc = history_locate(&h, &place, &why);
    CRASH_POINT("stamp.read");
    if (note(env, a, &image, rc < 0 ? IMAGE_STAMP_LOST : place.stamp_us, &noted, err) < 0)
        return -1;
    if (rc < 0 && noted)
        *err = why;
    return rc < 0 && noted ? -1 : 0;
}
