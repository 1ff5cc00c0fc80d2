#include "branch/measure.h"

#include "base/clock.h"
#include "base/fs.h"
#include "meta/image.h"
#include "meta/size.h"
#include "meta/usage.h"

#include <string.h>

#define AGAIN_US ((int64_t)300 * 1000000) /* of a branch that runs */

static int find_work(const struct env *env, struct arena *a, struct branch_size *ret,
                     struct branch *ret_branch, struct image **ret_images, size_t *ret_n, bool *ret_found,
                     struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(env->db, &c, err) < 0 ||
        size_find_due(c, a, clock_wall_us() - AGAIN_US, ret, ret_found, err) < 0)
        return -1;
    if (!*ret_found)
        return 0;
    if (branch_get_id(c, a, ret->branch_id, ret_branch, err) < 0)
        return -1;
    return image_list(c, a, ret->branch_id, ret_images, ret_n, err);
}

static int add_images(const struct env *env, const struct image *images, size_t n, struct branch_size *size,
                      struct err *err)
{
    uint64_t bytes;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(images[i].state, "ready") != 0 || !store_exists(env->store, images[i].id))
            continue;
        if (store_usage(env->store, images[i].id, &bytes, err) < 0)
            return -1;
        size->history_bytes += (int64_t)bytes;
        size->n_images++;
    }
    return 0;
}

int measure_next(const struct env *env, struct arena *a, bool *ret_found, struct err *err)
{
    struct branch_size size;
    struct branch b;
    struct image *images;
    size_t n;
    uint64_t logical, own, archive;
    if (find_work(env, a, &size, &b, &images, &n, ret_found, err) < 0 || !*ret_found)
        return *ret_found ? -1 : 0;
    if (fs_usage(env_pgdata(env, a, b.volume_id), &logical, err) < 0 ||
        store_usage(env->store, b.volume_id, &own, err) < 0 ||
        fs_usage(env_archive(env, a, b.volume_id), &archive, err) < 0)
        return -1;
    size.logical_bytes = (int64_t)logical;
    size.own_bytes = (int64_t)own;
    size.history_bytes = (int64_t)archive;
    size.measured_at = clock_wall_us();
    if (add_images(env, images, n, &size, err) < 0)
        return -1;
    auto_dbc *c = NULL;
    if (db_write(env->db, &c, err) < 0 || size_put(c, &size, err) < 0 ||
        usage_note_space(c, size.branch_id, size.measured_at, err) < 0)
        return -1;
    return db_commit(c, err);
}
