/*
 * intent_endpoint.c - endpoints: create, change, delete, start, suspend, restart
 */
#include "scheduler/intent_internal.h"

#include "base/cgroup.h"
#include "base/clock.h"

#include <string.h>

static int load_endpoint(struct dbc *c, struct arena *a, const char *project_id, const char *endpoint_id,
                         struct outcome *out, struct err *err)
{
    if (intent_load(c, a, project_id, NULL, out, err) < 0)
        return -1;
    out->endpoints = arena_alloc(a, sizeof(*out->endpoints));
    out->n_endpoints = 1;
    return endpoint_get(c, a, project_id, endpoint_id, &out->endpoints[0], err);
}

static bool is_stopped(const struct endpoint *e)
{
    return strcmp(e->observed, "STOPPED") == 0 || strcmp(e->observed, "FAILED") == 0;
}

static int add_op(struct dbc *c, struct arena *a, struct outcome *out, const char *action, struct err *err)
{
    const struct endpoint *e = &out->endpoints[0];
    return intent_add_operation(c, a, out, action, "scheduling", e->branch_id, e->id, NULL, err);
}

int intent_endpoint_create(struct sched *s, struct arena *a, const char *project_id,
                           const struct endpoint_spec *spec, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0)
        return -1;
    if (intent_load(c, a, project_id, spec->branch_id, ret, err) < 0) {
        if (err->code == ERR_NOT_FOUND && ret->project.id)
            return err_field(err, ERR_NOT_FOUND, "/endpoint/branch_id", "branch not found: \"%.80s\"",
                             spec->branch_id);
        return -1;
    }
    if (intent_add_endpoint(s, c, a, ret, &ret->project, ret->branch.id, spec, "/endpoint", err) < 0)
        return -1;
    return db_commit(c, err);
}

static bool differs(const char *wanted, const char *is)
{
    return wanted && (!is || strcmp(wanted, is) != 0);
}

/* What a running Postgres only takes in at a start. */
static bool needs_restart(const struct endpoint *e, const struct endpoint_spec *spec)
{
    bool settings =
        differs(spec->pg_settings, e->pg_settings) || differs(spec->preload_libraries, e->preload_libraries);
    bool size =
        (spec->max_cu != 0 && spec->max_cu != e->max_cu) || (spec->min_cu != 0 && spec->min_cu != e->min_cu);
    return (settings || (size && cgroup_has_limits())) && !is_stopped(e);
}

/* Its own branch, by id or name, is no move. */
static int check_move(struct dbc *c, struct arena *a, const struct endpoint *e, const char *wanted,
                      struct err *err)
{
    struct branch b;
    if (!wanted || strcmp(wanted, e->branch_id) == 0)
        return 0;
    if (branch_get(c, a, e->project_id, wanted, &b, err) == 0 && strcmp(b.id, e->branch_id) == 0)
        return 0;
    if (err->code != ERR_NONE && err->code != ERR_NOT_FOUND)
        return -1;
    return err_field(err, ERR_NOT_SUPPORTED, "/endpoint/branch_id",
                     "an endpoint cannot move to another branch; create one there");
}

int intent_endpoint_update(struct sched *s, struct arena *a, const char *project_id, const char *endpoint_id,
                           const struct endpoint_spec *spec, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || load_endpoint(c, a, project_id, endpoint_id, ret, err) < 0 ||
        intent_check_endpoint(s, spec, ret->project.pg_version, "/endpoint", err) < 0)
        return -1;
    struct endpoint *e = &ret->endpoints[0];
    if (check_move(c, a, e, spec->branch_id, err) < 0)
        return -1;
    bool restart = needs_restart(e, spec), stop = spec->disabled == 1 && !e->disabled && !is_stopped(e);
    e->name = spec->name ? spec->name : e->name;
    e->min_cu = spec->min_cu != 0 ? spec->min_cu : e->min_cu;
    e->max_cu = spec->max_cu != 0 ? spec->max_cu : e->max_cu;
    if (e->min_cu > e->max_cu)
        return err_field(err, ERR_INVALID, "/endpoint/autoscaling_limit_min_cu",
                         "the minimum of compute units is above the maximum");
    if (spec->suspend_timeout_seconds != INTENT_UNSET)
        e->suspend_timeout_seconds = spec->suspend_timeout_seconds;
    e->pg_settings = spec->pg_settings ? spec->pg_settings : e->pg_settings;
    e->preload_libraries = spec->preload_libraries ? spec->preload_libraries : e->preload_libraries;
    e->park_sessions = spec->park_sessions >= 0 ? spec->park_sessions == 1 : e->park_sessions;
    e->disabled = spec->disabled >= 0 ? spec->disabled == 1 : e->disabled;
    e->updated_at = clock_wall_us();
    bool take_in = !restart && !stop && !is_stopped(e);
    if (endpoint_update(c, e, err) < 0 || (take_in && add_op(c, a, ret, "apply_config", err) < 0) ||
        ((restart || stop) && add_op(c, a, ret, "suspend_compute", err) < 0) ||
        (restart && !stop && add_op(c, a, ret, "start_compute", err) < 0) || db_commit(c, err) < 0)
        return -1;
    sched_kick(s);
    return 0;
}

int intent_endpoint_delete(struct sched *s, struct arena *a, const char *project_id, const char *endpoint_id,
                           struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || load_endpoint(c, a, project_id, endpoint_id, ret, err) < 0)
        return -1;
    if (branch_get_id(c, a, ret->endpoints[0].branch_id, &ret->branch, err) < 0)
        return -1;
    if (ret->branch.is_protected)
        return err_set(
            err, ERR_INVALID,
            "branch \"%s\" is protected, so its endpoints cannot be deleted; take the protection off "
            "first",
            ret->branch.name);
    if (endpoint_set_desired(c, endpoint_id, "deleted", clock_wall_us(), err) < 0 ||
        add_op(c, a, ret, "suspend_compute", err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("endpoint.deleting");
    sched_kick(s);
    return 0;
}

int intent_endpoint_act(struct sched *s, struct arena *a, const char *project_id, const char *endpoint_id,
                        enum endpoint_verb verb, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || load_endpoint(c, a, project_id, endpoint_id, ret, err) < 0)
        return -1;
    if (verb != ENDPOINT_SUSPEND && ret->endpoints[0].disabled)
        return err_set(err, ERR_INVALID, "endpoint %s is disabled; enable it first", endpoint_id);
    if (verb != ENDPOINT_SUSPEND && sched_space(s, err) < 0)
        return -1;
    if ((verb != ENDPOINT_START && add_op(c, a, ret, "suspend_compute", err) < 0) ||
        (verb != ENDPOINT_SUSPEND && add_op(c, a, ret, "start_compute", err) < 0) || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("endpoint.acted");
    sched_kick(s);
    return 0;
}
