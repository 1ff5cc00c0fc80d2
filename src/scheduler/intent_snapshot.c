/*
 * intent_snapshot.c - snapshots: take, change, delete, restore, finalize, and by schedule
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "scheduler/backup.h"

#include <stdio.h>
#include <string.h>

static const struct intent_pointer HERE[] = {
    { "/branch/parent_lsn", "/lsn" },
    { "/branch/parent_timestamp", "/timestamp" },
    { "/branch/parent_id", "" },
};

static const char *name_at(struct arena *a, const char *branch, const char *word, int64_t now)
{
    char when[TIME_TEXT_SIZE];
    return arena_printf(a, "%.200s%s%s", branch, word, text_time(now, when));
}

static const struct branch_spec PLAIN = { .is_protected = -1,
                                          .expires_at = INTENT_UNSET,
                                          .ttl_seconds = INTENT_UNSET };

int intent_snapshot_take(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                         const struct branch_spec *spec, struct outcome *ret, struct err *err)
{
    struct branch_spec own = *spec;
    {
        auto_dbc *c = NULL;
        *ret = (struct outcome){ 0 };
        if (db_read(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, ret, err) < 0)
            return -1;
    }
    own.parent = ret->branch.id;
    own.kind = "snapshot";
    own.restored_as = ret->branch.id;
    own.made_by = spec->made_by ? spec->made_by : "user";
    own.name = spec->name ? spec->name : name_at(a, ret->branch.name, " ", clock_wall_us());
    return intent_branch_create(s, a, project_id, &own, ret, err) < 0
               ? intent_point_here(err, "/branch", HERE, N_ELEMENTS(HERE))
               : 0;
}

static int load_snapshot(struct dbc *c, struct arena *a, const char *project_id, const char *id,
                         struct outcome *out, struct err *err)
{
    if (intent_load(c, a, project_id, NULL, out, err) < 0)
        return -1;
    return branch_get_snapshot(c, a, project_id, id, &out->branch, err);
}

int intent_snapshot_update(struct sched *s, struct arena *a, const char *project_id, const char *id,
                           const struct branch_spec *spec, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (spec->name && intent_check_name(spec->name, 256, "/snapshot/name", "a snapshot's name", err) < 0)
        return -1;
    if (db_write(s->env.db, &c, err) < 0 || load_snapshot(c, a, project_id, id, ret, err) < 0)
        return -1;
    struct branch *b = &ret->branch;
    b->updated_at = clock_wall_us();
    b->name = spec->name ? spec->name : b->name;
    if (intent_set_expiry(spec, b->updated_at, b, err) < 0) {
        snprintf(err->pointer, sizeof(err->pointer), "/snapshot/expires_at");
        return -1;
    }
    return branch_update(c, b, err) < 0 ? -1 : db_commit(c, err);
}

int intent_snapshot_delete(struct sched *s, struct arena *a, const char *project_id, const char *id,
                           struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || load_snapshot(c, a, project_id, id, ret, err) < 0 ||
        intent_end_branch(c, a, ret, 0, "user", err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("snapshot.deleting");
    sched_kick(s);
    return 0;
}

/* ---- restore ---- */

/* target: what out->branch is to replace. */
static int may_replace(struct dbc *c, struct arena *a, const struct branch *b, struct branch *ret_target,
                       struct err *err)
{
    struct err ignored = ERR_INIT;
    if (!b->restored_as || branch_get(c, a, b->project_id, b->restored_as, ret_target, &ignored) < 0)
        return err_set(err, ERR_INVALID,
                       "the branch that \"%s\" is to replace does not exist any more; nothing was changed",
                       b->name);
    if (ret_target->is_protected)
        return err_set(err, ERR_INVALID,
                       "branch \"%s\" is protected and cannot be replaced; take the protection off first",
                       ret_target->name);
    if (b->expires_at != 0 && ret_target->is_default)
        return err_set(
            err, ERR_INVALID,
            "branch \"%s\" expires and cannot replace the default branch; clear its expires_at first",
            b->name);
    return 0;
}

static int add_finalize(struct dbc *c, struct arena *a, const char *old_name, struct outcome *out,
                        struct err *err)
{
    struct branch target;
    if (may_replace(c, a, &out->branch, &target, err) < 0)
        return -1;
    const char *name = old_name ? old_name : name_at(a, target.name, "_old_", clock_wall_us());
    if (intent_check_branch_name_free(c, out->project.id, name, "/name", err) < 0)
        return -1;
    return intent_add_operation(c, a, out, "finalize_restore", "scheduling", out->branch.id, NULL, name, err);
}

static int find_target(struct dbc *c, struct arena *a, const struct branch *snapshot,
                       const struct snapshot_spec *spec, const char **ret_id, struct err *err)
{
    struct branch target;
    *ret_id = snapshot->shown_parent_id;
    if (spec->target) {
        if (branch_get(c, a, snapshot->project_id, spec->target, &target, err) < 0)
            return err_field(err, ERR_NOT_FOUND, "/target_branch_id", "branch not found: \"%.80s\"",
                             spec->target);
        *ret_id = target.id;
    }
    if (!*ret_id && spec->finalize)
        return err_field(err, ERR_INVALID, "/target_branch_id",
                         "the branch of this snapshot does not exist any more; say which one is to be "
                         "replaced");
    return 0;
}

int intent_snapshot_restore(struct sched *s, struct arena *a, const char *project_id, const char *id,
                            const struct snapshot_spec *spec, struct outcome *ret, struct err *err)
{
    struct branch snapshot;
    struct branch_spec child = PLAIN;
    bool wait;
    *ret = (struct outcome){ 0 };
    if (intent_check_branch_name(spec->name, "/name", err) < 0 || sched_space(s, err) < 0)
        return -1;
    {
        auto_dbc *c = NULL;
        if (db_write(s->env.db, &c, err) < 0 || load_snapshot(c, a, project_id, id, ret, err) < 0)
            return -1;
        snapshot = ret->branch;
        child.name = spec->name;
        child.restored_from = snapshot.id;
        if (intent_check_branch_name_free(c, project_id, spec->name, "/name", err) < 0 ||
            find_target(c, a, &snapshot, spec, &child.restored_as, err) < 0 ||
            intent_insert_child(s, c, a, &snapshot, &child, NULL, ret, &wait, err) < 0 ||
            (spec->finalize && add_finalize(c, a, NULL, ret, err) < 0) || db_commit(c, err) < 0)
            return -1;
    }
    CRASH_POINT("snapshot.restored");
    sched_kick(s);
    return wait ? intent_wait_for_fork(s, a, ret, err) : 0;
}

int intent_restore_finalize(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                            const char *old_name, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (intent_check_branch_name(old_name, "/name", err) < 0 || db_write(s->env.db, &c, err) < 0 ||
        intent_load(c, a, project_id, branch, ret, err) < 0)
        return -1;
    if (!ret->branch.restore_status || strcmp(ret->branch.restore_status, "restored") != 0)
        return err_set(err, ERR_INVALID, "branch \"%s\" %s; nothing was changed", ret->branch.name,
                       ret->branch.restore_status ? "has been finalized already"
                                                  : "was not restored from a snapshot");
    if (add_finalize(c, a, old_name, ret, err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("restore.finalizing");
    sched_kick(s);
    return 0;
}

/* ---- schedules ---- */

int intent_schedule_set(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                        const char *entries, struct err *err)
{
    struct outcome out = { 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, &out, err) < 0)
        return -1;
    struct schedule schedule = { .branch_id = out.branch.id,
                                 .entries = entries,
                                 .done_until = clock_wall_us() };
    int rc =
        strcmp(entries, "[]") == 0 ? schedule_delete(c, out.branch.id, err) : schedule_put(c, &schedule, err);
    return rc < 0 ? -1 : db_commit(c, err);
}

static int is_due(struct arena *a, const struct schedule *schedule, int64_t now, bool *ret_due,
                  int64_t *ret_keep_s, struct err *err)
{
    struct schedule_entry *list;
    size_t n;
    json_auto_t *entries = json_loads(schedule->entries, 0, NULL);
    if (schedule_parse(a, entries, "/schedule", &list, &n, err) < 0)
        return -1;
    *ret_due = backup_is_due(list, n, schedule->done_until, now, ret_keep_s);
    return 0;
}

/* The snapshot and that it was taken are one transaction: never twice, whatever dies. */
static int take_scheduled(struct sched *s, struct arena *a, const char *branch_id, int64_t now,
                          int64_t keep_s, struct err *err)
{
    struct outcome out = { 0 };
    struct branch parent;
    struct branch_spec spec = PLAIN;
    bool wait;
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || branch_get_id(c, a, branch_id, &parent, err) < 0 ||
        intent_load(c, a, parent.project_id, NULL, &out, err) < 0)
        return -1;
    if (!branch_is_seen(&parent) || strcmp(parent.state, "ready") != 0)
        return 0;
    spec.kind = "snapshot";
    spec.restored_as = parent.id;
    spec.made_by = "schedule";
    spec.name = name_at(a, parent.name, " ", now);
    spec.ttl_seconds = keep_s;
    if (intent_insert_child(s, c, a, &parent, &spec, NULL, &out, &wait, err) < 0 ||
        schedule_set_done(c, branch_id, now, err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("schedule.taken");
    log_event(LOG_INFO, "sched", "a scheduled snapshot is taken", "br", branch_id, "snapshot", out.branch.id,
              NULL);
    sched_kick(s);
    return 0;
}

int intent_sweep_schedules(struct sched *s, struct err *err)
{
    auto_arena *a = arena_new(0);
    struct schedule *list;
    size_t n;
    int64_t now = clock_wall_us(), keep_s;
    bool due;
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || schedule_list(c, a, &list, &n, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++)
        if (is_due(a, &list[i], now, &due, &keep_s, err) < 0 ||
            (due &&
             (sched_space(s, err) < 0 || take_scheduled(s, a, list[i].branch_id, now, keep_s, err) < 0)))
            return -1;
    return 0;
}
