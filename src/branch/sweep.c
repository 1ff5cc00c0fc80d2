#include "branch/sweep.h"

#include "base/clock.h"
#include "branch/capture.h"
#include "pg/walseg.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Between two images of a branch at least this much WAL is replayed rather than kept as data. */
#define IMAGE_SPACING_BYTES ((uint64_t)64 << 20)

/* ---- the rows as retain.h wants them ---- */

static int compare_line(const void *key, const void *line)
{
    return strcmp(key, ((const struct branch_line *)line)->id);
}

static size_t find_line(const struct sweep_plan *p, const char *id)
{
    const struct branch_line *found =
        id ? bsearch(id, p->lines, p->rows.n_lines, sizeof(*p->lines), compare_line) : NULL;
    return found ? (size_t)(found - p->lines) : RETAIN_NONE;
}

static int compare_image(const void *key, const void *image)
{
    return strcmp(key, ((const struct image *)image)->id);
}

static size_t find_image(const struct sweep_plan *p, const char *id)
{
    const struct image *found =
        id ? bsearch(id, p->images, p->rows.n_images, sizeof(*p->images), compare_image) : NULL;
    return found ? (size_t)(found - p->images) : RETAIN_NONE;
}

static struct retain_line line_of(const struct sweep_plan *p, const struct branch_line *b, int64_t now_us)
{
    return (struct retain_line){ .parent = find_line(p, b->parent_id),
                                 .parent_lsn = b->parent_lsn,
                                 .image = find_image(p, b->image_id),
                                 .fork_lsn = b->tli != 0 ? b->fork_lsn : 0,
                                 .made = strcmp(b->volume, "ready") == 0,
                                 .history_from = b->history_from,
                                 .window_us = now_us - b->retention_seconds * 1000000 };
}

static struct retain_image image_of(const struct sweep_plan *p, const struct image *i)
{
    struct retain_image r = { .line = find_line(p, i->branch_id), .lsn = i->lsn, .taken_us = i->created_at };
    r.state = strcmp(i->state, "ready") == 0     ? RETAIN_READY
              : strcmp(i->state, "snapped") == 0 ? RETAIN_HALF
              : strcmp(i->state, "trash") == 0   ? RETAIN_TRASH
                                                 : RETAIN_UNSURE;
    return r;
}

static int read_rows(struct dbc *c, struct arena *a, struct sweep_plan *p, struct err *err)
{
    int64_t now_us = clock_wall_us();
    if (branch_list_lines(c, a, now_us, &p->lines, &p->rows.n_lines, err) < 0 ||
        image_list_standing(c, a, &p->images, &p->rows.n_images, err) < 0)
        return -1;
    struct retain_line *lines = arena_alloc(a, (p->rows.n_lines + 1) * sizeof(*lines));
    struct retain_image *images = arena_alloc(a, (p->rows.n_images + 1) * sizeof(*images));
    for (size_t i = 0; i < p->rows.n_lines; i++)
        lines[i] = line_of(p, &p->lines[i], now_us);
    for (size_t i = 0; i < p->rows.n_images; i++)
        images[i] = image_of(p, &p->images[i]);
    p->rows.lines = lines;
    p->rows.images = images;
    p->rows.spacing = IMAGE_SPACING_BYTES;
    return 0;
}

/* ---- the decision ---- */

static int write_decision(struct dbc *c, const struct sweep_plan *p, struct err *err)
{
    const struct retain_decision *d = &p->decision;
    for (size_t i = 0; i < p->rows.n_lines; i++)
        if (d->from[i] != p->lines[i].history_from &&
            branch_set_history(c, p->lines[i].id, d->from[i], p->images[d->image[i]].id, err) < 0)
            return -1;
    if (branch_let_parents_go(c, clock_wall_us(), err) < 0)
        return -1;
    for (size_t i = 0; i < p->rows.n_images; i++)
        if (!d->keep_image[i] && image_set_state(c, p->images[i].id, "trash", err) < 0)
            return -1;
    return 0;
}

int sweep_decide(const struct env *env, struct arena *a, struct sweep_plan *ret, struct err *err)
{
    auto_dbc *c = NULL;
    size_t line;
    *ret = (struct sweep_plan){ 0 };
    if (db_write(env->db, &c, err) < 0 || read_rows(c, a, ret, err) < 0)
        return -1;
    retain_decide(a, &ret->rows, &ret->decision);
    if (retain_check(&ret->rows, &ret->decision, &line) < 0)
        return err_set(err, ERR_INTERNAL,
                       "the history of branch %s could not be reached any more; nothing was removed",
                       ret->lines[line].id);
    return write_decision(c, ret, err) < 0 ? -1 : db_commit(c, err);
}

/* ---- the files ---- */

/* Histories are small and say where lines come from.  What an earlier timeline left unfinished nobody reads.
 */
static bool is_needed(const struct sweep_plan *p, size_t line, const char *name)
{
    uint32_t tli;
    uint64_t segno;
    switch (walseg_parse(name, &tli, &segno)) {
    case WALSEG_SEGMENT:
    case WALSEG_BACKUP:
        return tli != (uint32_t)p->lines[line].tli ||
               retain_segment(&p->decision, line, segno * WALSEG_SIZE, WALSEG_SIZE);
    case WALSEG_PARTIAL:
        return tli == (uint32_t)p->lines[line].tli;
    case WALSEG_HISTORY:
    case WALSEG_OTHER:
        break;
    }
    return true;
}

/* The directory belongs to the computes' user: nothing is followed out of it. */
static int prune(const struct env *env, struct arena *a, const struct sweep_plan *p, size_t line,
                 struct err *err)
{
    const char *path = env_archive(env, a, p->lines[line].volume_id);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(err, "open %s", path);
    DIR *dir = fdopendir(fd);
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;) {
        if (is_needed(p, line, e->d_name))
            continue;
        CRASH_POINT("sweep.segment");
        if (unlinkat(fd, e->d_name, 0) < 0 && errno != ENOENT)
            rc = err_sys(err, "remove %s/%s", path, e->d_name);
    }
    closedir(dir);
    return rc;
}

int sweep_carry_out(const struct env *env, struct arena *a, const struct sweep_plan *p, struct err *err)
{
    CRASH_POINT("sweep.decided");
    for (size_t i = 0; i < p->rows.n_images; i++) {
        if (p->decision.keep_image[i])
            continue;
        CRASH_POINT("sweep.image");
        if (capture_discard(env, p->images[i].id, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < p->rows.n_lines; i++)
        if (p->rows.lines[i].fork_lsn != 0 && prune(env, a, p, i, err) < 0)
            return -1;
    return store_empty_trash(env->store, err);
}
