#include "scheduler/doctor.h"

#include "base/clock.h"
#include "base/fs.h"
#include "branch/history.h"
#include "meta/bookmark.h"
#include "meta/project.h"
#include "pg/walseg.h"
#include "scheduler/internal.h"
#include "scheduler/moment.h"

#include <string.h>

struct doctor {
    struct sched *s;
    struct arena *a;
    struct doctor_report *report;
    size_t room;
};

static void find(struct doctor *d, const struct branch *b, const char *of, const char *name, const char *what)
{
    struct doctor_report *r = d->report;
    if (r->n_findings == d->room) {
        d->room = d->room ? d->room * 2 : 16;
        struct doctor_finding *bigger = arena_alloc(d->a, d->room * sizeof(*bigger));
        if (r->n_findings > 0)
            memcpy(bigger, r->findings, r->n_findings * sizeof(*bigger));
        r->findings = bigger;
    }
    r->findings[r->n_findings++] = (struct doctor_finding){
        .branch_id = b->id, .of = of, .name = name, .what = arena_strdup(d->a, what)
    };
}

static void found(struct doctor *d, const struct branch *b, const char *what)
{
    find(d, b, strcmp(b->kind, "user") == 0 ? "branch" : b->kind, b->name, what);
}

/* ---- what is asked ---- */

static int rows_of(struct doctor *d, const struct branch *b, struct branch *ret_parent, struct image **ret,
                   size_t *ret_n, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(d->s->env.db, &c, err) < 0 || image_list(c, d->a, b->id, ret, ret_n, err) < 0)
        return -1;
    return b->parent_id ? branch_get_id(c, d->a, b->parent_id, ret_parent, err) : 0;
}

/* From the image it begins with to where it leaves its parent, if that is still needed. */
static int read_past(struct doctor *d, const struct branch *b, const struct branch *parent, struct err *err)
{
    struct history h;
    struct history_place place;
    {
        auto_dbc *c = NULL;
        if (db_read(d->s->env.db, &c, err) < 0 ||
            history_find(&d->s->env, c, d->a, parent, b->parent_lsn, b->image_id, &h, err) < 0)
            return -1;
    }
    return history_locate(&h, &place, err);
}

static bool has_segment(struct doctor *d, const struct branch *b, uint64_t segno)
{
    char name[WALSEG_NAME_SIZE];
    walseg_name((uint32_t)b->tli, segno, name);
    return fs_exists(arena_printf(d->a, "%s/%s", env_archive(&d->s->env, d->a, b->volume_id), name)) ||
           fs_exists(arena_printf(d->a, "%s/%s", env_pg_wal(&d->s->env, d->a, b->volume_id), name));
}

/* Where its WAL ends is known while it is suspended. */
static void look_at_window(struct doctor *d, const struct branch *b)
{
    uint64_t from = b->history_from ? b->history_from : b->fork_lsn;
    for (uint64_t segno = walseg_no(from); b->head_lsn != 0 && segno <= walseg_no(b->head_lsn - 1); segno++)
        if (!has_segment(d, b, segno)) {
            char name[WALSEG_NAME_SIZE];
            walseg_name((uint32_t)b->tli, segno, name);
            found(d, b, arena_printf(d->a, "its history has a hole: WAL segment %s is missing", name));
            return;
        }
}

static void look_at_images(struct doctor *d, const struct branch *b, const struct image *images, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        d->report->n_images++;
        if (strcmp(images[i].state, "ready") == 0 && !store_exists(d->s->env.store, images[i].id))
            found(d, b, arena_printf(d->a, "the data of image %s is missing on disk", images[i].id));
    }
}

static int look_at_bookmarks(struct doctor *d, const struct branch *b, struct err *err)
{
    struct bookmark *list;
    size_t n;
    {
        auto_dbc *c = NULL;
        if (db_read(d->s->env.db, &c, err) < 0 || bookmark_list(c, d->a, b->id, &list, &n, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++) {
        struct moment m;
        struct err why = ERR_INIT;
        d->report->n_bookmarks++;
        /* One beyond the window shows that it has expired, and one that is held is looked at as what holds
         * it. */
        if (moment_of_bookmark(d->s, d->a, b, list[i].name, "", &m, &why) < 0 && why.code != ERR_INVALID)
            find(d, b, "bookmark", list[i].name, why.msg);
    }
    return 0;
}

static int look_at(struct doctor *d, const struct branch *b, struct err *err)
{
    const struct env *env = &d->s->env;
    struct branch parent;
    struct image *images;
    struct err why = ERR_INIT;
    size_t n;
    bool made = strcmp(b->volume, "ready") == 0;
    if (rows_of(d, b, &parent, &images, &n, err) < 0)
        return -1;
    d->report->n_branches += strcmp(b->kind, "user") == 0;
    d->report->n_snapshots += strcmp(b->kind, "snapshot") == 0;
    if (strcmp(b->state, "damaged") == 0)
        found(d, b, "it is damaged: its data did not survive");
    if (made && (!store_exists(env->store, b->volume_id) || !fs_exists(env_pg_wal(env, d->a, b->volume_id))))
        found(d, b, "its data is missing on disk");
    if (b->history_from == 0 && b->parent_id && read_past(d, b, &parent, &why) < 0)
        found(d, b, why.msg);
    if (made)
        look_at_window(d, b);
    look_at_images(d, b, images, n);
    return look_at_bookmarks(d, b, err);
}

static int show(struct doctor *d, const struct branch *b, struct err *err)
{
    struct doctor_report *r = d->report;
    auto_dbc *c = NULL;
    bool measured;
    struct branch_size size = { .branch_id = b->id };
    if (!branch_is_seen(b))
        return 0;
    if (db_read(d->s->env.db, &c, err) < 0 || size_get(c, d->a, b->id, &size, &measured, err) < 0)
        return -1;
    r->branches[r->n_shown] = *b;
    r->sizes[r->n_shown++] = measured ? size : (struct branch_size){ .branch_id = b->id };
    return 0;
}

int doctor_look(struct sched *s, struct arena *a, const char *project_id, const atomic_bool *stopping,
                struct doctor_report *ret, struct err *err)
{
    struct doctor d = { .s = s, .a = a, .report = ret };
    struct project project;
    struct branch *list;
    size_t n;
    auto_moment *hold UNUSED = moment_hold(s);
    *ret = (struct doctor_report){ 0 };
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || project_get(c, a, project_id, &project, err) < 0 ||
            branch_list_all(c, a, project_id, &list, &n, err) < 0)
            return -1;
    }
    ret->branches = arena_alloc(a, (n + 1) * sizeof(*ret->branches));
    ret->sizes = arena_alloc(a, (n + 1) * sizeof(*ret->sizes));
    for (size_t i = 0; i < n; i++) {
        if (stopping && atomic_load(stopping))
            return err_set(err, ERR_UNAVAILABLE, "the server is about to stop; try again");
        if (strcmp(list[i].state, "deleting") == 0 || !list[i].image_id)
            continue;
        if (look_at(&d, &list[i], err) < 0 || show(&d, &list[i], err) < 0)
            return -1;
    }
    return fs_space(s->env.data_dir, &ret->data_total, &ret->data_free, err) < 0
               ? -1
               : store_space(s->env.store, &ret->store_total, &ret->store_free, err);
}
