/*
 * intent_project_end.c - the end of projects: delete, recover, purge
 *
 * A deleted project is a row that nobody sees, and so are its branches: each of them is deleted at the very
 * time that its project is, which tells them from those that were deleted before and stay so.
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

#define RECOVER_MAX_SECONDS ((int64_t)7 * 86400) /* as of a branch */

static bool is_in(const struct branch *b, const char *state)
{
    return strcmp(b->state, state) == 0;
}

/* What was never made has nothing to recover, and nothing stands on what serves one reader; what is stood on
 * stays, seen or not. */
static int goes_for_good(struct dbc *c, const struct branch *b, bool *ret, struct err *err)
{
    bool stood_on = false;
    *ret = is_in(b, "init");
    if (strcmp(b->kind, "temporary") != 0)
        return 0;
    if (branch_is_stood_on(c, b->id, &stood_on, err) < 0)
        return -1;
    *ret = !stood_on;
    return 0;
}

static int stop_computes(struct dbc *c, struct arena *a, const char *branch_id, const char *desired,
                         int64_t now, struct err *err)
{
    struct endpoint *list;
    size_t n;
    if (endpoint_list(c, a, NULL, branch_id, false, &list, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (endpoint_set_desired(c, list[i].id, desired, now, err) < 0)
            return -1;
    return 0;
}

/* until 0: for good. */
static int end_branch(struct dbc *c, struct arena *a, struct outcome *out, const struct branch *b,
                      int64_t until, int64_t now, struct err *err)
{
    bool for_good = until == 0;
    if (is_in(b, "deleting") || (!for_good && is_in(b, "deleted")))
        return 0;
    if (!for_good && goes_for_good(c, b, &for_good, err) < 0)
        return -1;
    if (!for_good && strcmp(b->kind, "temporary") == 0)
        return 0; /* the housekeeping takes it once it is alone */
    if ((for_good ? branch_set_state(c, b->id, NULL, "deleting", now, err)
                  : branch_set_deleted(c, b->id, until, "user", now, err)) < 0 ||
        stop_computes(c, a, b->id, for_good ? "deleted" : "stopped", now, err) < 0)
        return -1;
    return intent_add_operation(c, a, out, "delete_timeline", "scheduling", b->id, NULL, NULL, err);
}

/* Of the project in the outcome. */
static int end_project(struct dbc *c, struct arena *a, struct outcome *out, const struct branch *list,
                       size_t n, int64_t until, struct err *err)
{
    int64_t now = clock_wall_us();
    const char *id = out->project.id;
    if (until == 0 && n == 0)
        return project_delete(c, id, err);
    if ((until == 0 ? project_set_state(c, id, "deleting", now, err)
                    : project_set_deleted(c, id, until, now, err)) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (end_branch(c, a, out, &list[i], until, now, err) < 0)
            return -1;
    return project_get_any(c, a, id, &out->project, err);
}

static int refuse_protected(const struct branch *list, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].is_protected && !is_in(&list[i], "deleting"))
            return err_set(err, ERR_INVALID,
                           "branch \"%s\" is protected; a project with a protected branch cannot be deleted",
                           list[i].name);
    return 0;
}

static int64_t recoverable_until(const struct project *p)
{
    int64_t seconds = p->history_retention_seconds;
    if (seconds == 0)
        return 0;
    return clock_wall_us() + (seconds < RECOVER_MAX_SECONDS ? seconds : RECOVER_MAX_SECONDS) * 1000000;
}

int intent_project_delete(struct sched *s, struct arena *a, const char *project_id, bool hard,
                          struct outcome *ret, struct err *err)
{
    struct branch *list;
    size_t n;
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, NULL, ret, err) < 0 ||
        branch_list_all(c, a, project_id, &list, &n, err) < 0 || refuse_protected(list, n, err) < 0 ||
        end_project(c, a, ret, list, n, hard ? 0 : recoverable_until(&ret->project), err) < 0 ||
        db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("project.deleting");
    sched_kick(s);
    return 0;
}

int intent_project_recover(struct sched *s, struct arena *a, const char *project_id, struct outcome *ret,
                           struct err *err)
{
    int64_t now = clock_wall_us();
    struct err ignored = ERR_INIT;
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0)
        return -1;
    if (project_get(c, a, project_id, &ret->project, &ignored) == 0) /* asked for twice */
        return 0;
    if (project_get_deleted(c, a, project_id, now, &ret->project, err) < 0 ||
        project_set_recovered(c, project_id, now, err) < 0 ||
        branch_recover_all(c, project_id, ret->project.deleted_at, now, err) < 0 ||
        project_get(c, a, project_id, &ret->project, err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("project.recovered");
    sched_kick(s);
    return 0;
}

static int purge_one(struct sched *s, bool *ret_found, struct err *err)
{
    auto_arena *a = arena_new(0);
    struct outcome out = { 0 };
    struct branch *list;
    size_t n;
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 ||
        project_find_purgeable(c, a, clock_wall_us(), &out.project, ret_found, err) < 0)
        return -1;
    db_end(&c);
    if (!*ret_found)
        return 0;
    if (db_write(s->env.db, &c, err) < 0 ||
        project_find_purgeable(c, a, clock_wall_us(), &out.project, ret_found, err) < 0)
        return -1;
    if (!*ret_found)
        return 0;
    if (branch_list_all(c, a, out.project.id, &list, &n, err) < 0 ||
        end_project(c, a, &out, list, n, 0, err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("project.purged");
    log_event(LOG_INFO, "sched", "a deleted project goes for good", "project", out.project.id, NULL);
    sched_kick(s);
    return 0;
}

int intent_sweep_projects(struct sched *s, struct err *err)
{
    for (bool found = true; found;)
        if (purge_one(s, &found, err) < 0)
            return -1;
    return 0;
}
