/*
 * intent_restore.c - a branch becomes what some branch was at a moment
 *
 * What it is to become is made like any child: a hidden branch of the source, whose row holds the history
 * from here on.  An operation of the target then stops its computes and exchanges the two (job_restore.c).
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "base/text.h"

#include <inttypes.h>
#include <string.h>

#define RESTORE_WAIT_MS 8000 /* as of a fork */
#define NAME_POINTER    "/preserve_under_name"

/* Where the state comes from.  A reset names nobody. */
static int find_source(struct dbc *c, struct arena *a, const struct branch *target,
                       const struct restore_spec *spec, struct branch *ret, struct err *err)
{
    if (spec->source) {
        if (branch_get(c, a, target->project_id, spec->source, ret, err) == 0)
            return 0;
        return err->code != ERR_NOT_FOUND ? -1
                                          : err_field(err, ERR_NOT_FOUND, "/source_branch_id",
                                                      "branch not found: the source \"%.80s\"", spec->source);
    }
    if (!target->parent_id || target->is_root)
        return err_set(err, ERR_INVALID,
                       "branch \"%s\" is a root branch and has no parent to be reset to; nothing was changed",
                       target->name);
    if (branch_get_id(c, a, target->parent_id, ret, err) < 0)
        return -1;
    return branch_is_seen(ret)
               ? 0
               : err_set(err, ERR_INVALID, "the parent of branch \"%s\" was deleted; nothing was changed",
                         target->name);
}

static int check_target(struct dbc *c, const struct branch *target, const struct branch *source,
                        const struct restore_spec *spec, struct err *err)
{
    int64_t children, held = 0;
    bool itself = strcmp(source->id, target->id) == 0, head = spec->lsn == 0 && spec->time_us == 0;
    if (target->is_protected)
        return err_set(err, ERR_INVALID,
                       "branch \"%s\" is protected and cannot be restored or reset; take the protection off "
                       "first",
                       target->name);
    if (itself && head)
        return err_field(err, ERR_INVALID, "/source_lsn",
                         "a branch is restored to a moment of its own past: give source_lsn or "
                         "source_timestamp; nothing was changed");
    if (itself && !spec->preserve_name)
        return err_field(err, ERR_INVALID, NAME_POINTER,
                         "a branch that is restored to its own past keeps its present under another name: "
                         "give preserve_under_name; nothing was changed");
    if ((spec->expires_at != INTENT_UNSET || spec->ttl_seconds != INTENT_UNSET) &&
        (target->is_default || !target->parent_id || target->is_root))
        return err_field(err, ERR_INVALID, spec->expires_at != INTENT_UNSET ? "/expires_at" : "/ttl_seconds",
                         "the default branch and a root cannot expire; nothing was changed");
    if (branch_count_children(c, target->id, &children, err) < 0)
        return -1;
    if (children > 0 && !spec->preserve_name)
        return err_field(err, ERR_INVALID, NAME_POINTER,
                         "branch \"%s\" has %" PRId64 " child branch%s, which stand on its present state: "
                         "give preserve_under_name to keep it for them; nothing was changed",
                         target->name, children, children == 1 ? "" : "es");
    if (!spec->preserve_name &&
        bookmark_count_held(c, target->id, target->parent_id ? target->parent_lsn : 0, &held, err) < 0)
        return -1;
    if (held > 0)
        return err_field(err, ERR_INVALID, NAME_POINTER,
                         "branch \"%s\" has %" PRId64 " bookmark%s that hold a place of its own history: "
                         "give preserve_under_name to keep it for them; nothing was changed",
                         target->name, held, held == 1 ? "" : "s");
    if (strcmp(source->state, "damaged") == 0)
        return err_field(err, ERR_DAMAGED, "/source_branch_id",
                         "branch \"%s\" is damaged and cannot be restored from", source->name);
    return 0;
}

static int load(struct dbc *c, struct arena *a, const char *project_id, const char *branch,
                const struct restore_spec *spec, struct outcome *out, struct branch *ret_source,
                struct err *err)
{
    if (intent_load(c, a, project_id, branch, out, err) < 0 ||
        find_source(c, a, &out->branch, spec, ret_source, err) < 0 ||
        check_target(c, &out->branch, ret_source, spec, err) < 0)
        return -1;
    return intent_check_branch_name_free(c, project_id, spec->preserve_name, NAME_POINTER, err);
}

static int find_moment(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                       const struct restore_spec *spec, struct moment *ret, struct err *err)
{
    struct outcome out = { 0 };
    struct branch source;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || load(c, a, project_id, branch, spec, &out, &source, err) < 0)
            return -1;
    }
    if (spec->lsn == 0 && spec->time_us == 0)
        return 0;
    return moment_resolve(s, a, &source, spec->lsn, spec->time_us,
                          spec->lsn != 0 ? "/source_lsn" : "/source_timestamp", ret, err);
}

/* The hidden branch carries what the operation needs to know: the name for the old state, if it has another
 * than its id, and when the branch is to expire. */
static int insert_rows(struct sched *s, struct dbc *c, struct arena *a, const struct branch *source,
                       const struct restore_spec *spec, const struct moment *moment, struct outcome *out,
                       struct err *err)
{
    struct branch_spec child = { .name = spec->preserve_name,
                                 .expires_at = spec->expires_at,
                                 .ttl_seconds = spec->ttl_seconds,
                                 .kind = "temporary",
                                 .durability = out->branch.durability,
                                 .is_protected = -1 };
    struct branch target = out->branch;
    bool wait;
    static const struct intent_pointer HERE[] = { { "/branch/name", NAME_POINTER } };
    if (intent_insert_child(s, c, a, source, &child, moment, out, &wait, err) < 0)
        return intent_point_here(err, "/branch", HERE, N_ELEMENTS(HERE));
    const char *made = out->branch.id;
    out->branch = target;
    return intent_add_operation(c, a, out, "restore_branch", "scheduling", target.id, NULL, made, err);
}

static int look(struct sched *s, struct arena *a, struct outcome *out, bool *ret_done, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0)
        return -1;
    for (size_t i = 0; i < out->n_operations; i++)
        if (operation_get_id(c, a, out->operations[i].id, &out->operations[i], err) < 0)
            return -1;
    const struct operation *o = &out->operations[out->n_operations - 1];
    *ret_done = strcmp(o->status, "finished") == 0;
    if (strcmp(o->status, "failed") == 0 || strcmp(o->status, "cancelled") == 0)
        return err_set(err, ERR_CONFLICT, "the branch was not restored and is as it was: %s",
                       o->error ? o->error : "unknown");
    return branch_get_id(c, a, out->branch.id, &out->branch, err);
}

static int wait_for_restore(struct sched *s, struct arena *a, struct outcome *out, struct err *err)
{
    int64_t deadline = clock_mono_ms() + RESTORE_WAIT_MS;
    for (bool more = true, done; more;) {
        uint64_t seen = sched_seen(s);
        if (look(s, a, out, &done, err) < 0)
            return -1;
        more = !done && sched_wait_change(s, seen, deadline);
    }
    return 0;
}

static int begin_restore(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                         const struct restore_spec *spec, struct outcome *ret, struct err *err)
{
    struct branch source;
    struct moment moment;
    bool past = spec->lsn != 0 || spec->time_us != 0;
    auto_moment *hold UNUSED = moment_hold(s);
    if (find_moment(s, a, project_id, branch, spec, &moment, err) < 0)
        return -1;
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || load(c, a, project_id, branch, spec, ret, &source, err) < 0 ||
        insert_rows(s, c, a, &source, spec, past ? &moment : NULL, ret, err) < 0)
        return -1;
    return db_commit(c, err);
}

int intent_branch_restore(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                          const struct restore_spec *spec, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    if (spec->lsn != 0 && spec->time_us != 0)
        return err_field(err, ERR_INVALID, "/source_timestamp",
                         "source_lsn and source_timestamp exclude each other");
    if (intent_check_branch_name(spec->preserve_name, NAME_POINTER, err) < 0 || sched_space(s, err) < 0 ||
        begin_restore(s, a, project_id, branch, spec, ret, err) < 0)
        return -1;
    CRASH_POINT("restore.inserted");
    sched_kick(s);
    return wait_for_restore(s, a, ret, err);
}
