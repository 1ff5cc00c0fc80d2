/*
 * intent_endpoint.c - endpoints: create, change, delete, start, suspend, restart
 */
#include "scheduler/intent_internal.h"

#include "base/cgroup.h"
#include "base/clock.h"
#include "scheduler/given.h"

#include <string.h>

void intent_give_endpoint(struct arena *a, struct outcome *out, const struct endpoint *e)
{
    out->endpoints = arena_alloc(a, sizeof(*out->endpoints));
    out->endpoints[0] = *e;
    out->n_endpoints = 1;
}

static int load_endpoint(struct dbc *c, struct arena *a, const char *project_id, const char *endpoint_id,
                         struct outcome *out, struct err *err)
{
    struct endpoint e;
    if (intent_load(c, a, project_id, NULL, out, err) < 0 ||
        endpoint_get(c, a, project_id, endpoint_id, &e, err) < 0)
        return -1;
    intent_give_endpoint(a, out, &e);
    return 0;
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

int intent_endpoint_make(struct sched *s, struct dbc *c, struct arena *a, const struct endpoint_spec *spec,
                         struct outcome *out, struct err *err)
{
    if (branch_get(c, a, out->project.id, spec->branch_id, &out->branch, err) < 0)
        return err->code == ERR_NOT_FOUND ? err_field(err, ERR_NOT_FOUND, "/endpoint/branch_id",
                                                      "branch not found: \"%.80s\"", spec->branch_id)
                                          : -1;
    if (intent_add_endpoint(s, c, a, out, &out->project, out->branch.id, spec, "/endpoint", err) < 0)
        return -1;
    return db_commit(c, err);
}

int intent_endpoint_create(struct sched *s, struct arena *a, const char *project_id,
                           const struct endpoint_spec *spec, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, NULL, ret, err) < 0)
        return -1;
    return intent_endpoint_make(s, c, a, spec, ret, err);
}

/* What a running Postgres only takes in at a start. */
static bool needs_restart(const struct endpoint *e, const struct endpoint *wanted)
{
    bool settings = !given_equal(wanted->pg_settings, e->pg_settings) ||
                    !given_equal(wanted->preload_libraries, e->preload_libraries);
    bool size = wanted->max_cu != e->max_cu || wanted->min_cu != e->min_cu;
    return (settings || (size && cgroup_has_limits())) && !is_stopped(e);
}

static bool differs(const struct endpoint *e, const struct endpoint *wanted)
{
    return !given_equal(wanted->pg_settings, e->pg_settings) ||
           !given_equal(wanted->preload_libraries, e->preload_libraries) || wanted->max_cu != e->max_cu ||
           wanted->min_cu != e->min_cu || wanted->suspend_timeout_seconds != e->suspend_timeout_seconds ||
           wanted->park_sessions != e->park_sessions || wanted->disabled != e->disabled ||
           strcmp(wanted->name ? wanted->name : "", e->name ? e->name : "") != 0;
}

int intent_endpoint_change(struct sched *s, struct dbc *c, struct arena *a, struct outcome *out,
                           const struct endpoint *wanted, struct err *err)
{
    struct endpoint *e = &out->endpoints[0];
    if (wanted->min_cu > wanted->max_cu)
        return err_field(err, ERR_INVALID, "/endpoint/autoscaling_limit_min_cu",
                         "the minimum of compute units is above the maximum");
    if (!differs(e, wanted) && given_equal(e->spec, wanted->spec))
        return 0;
    bool restart = needs_restart(e, wanted), stop = wanted->disabled && !e->disabled && !is_stopped(e);
    bool take_in = differs(e, wanted) && !restart && !stop && !is_stopped(e);
    int64_t updated_at = differs(e, wanted) ? clock_wall_us() : e->updated_at;
    *e = *wanted;
    e->updated_at = updated_at;
    if (endpoint_update(c, e, err) < 0 || (take_in && add_op(c, a, out, "apply_config", err) < 0) ||
        ((restart || stop) && add_op(c, a, out, "suspend_compute", err) < 0) ||
        (restart && !stop && add_op(c, a, out, "start_compute", err) < 0) || db_commit(c, err) < 0)
        return -1;
    sched_kick(s);
    return 0;
}

int intent_endpoint_update(struct sched *s, struct arena *a, const char *project_id, const char *endpoint_id,
                           const struct endpoint_spec *spec, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || load_endpoint(c, a, project_id, endpoint_id, ret, err) < 0 ||
        intent_check_endpoint(s, spec, ret->project.pg_version, "/endpoint", err) < 0)
        return -1;
    struct endpoint wanted = ret->endpoints[0];
    if (spec->branch_id && !intent_is_branch(c, a, project_id, spec->branch_id, wanted.branch_id))
        return err_field(err, ERR_NOT_SUPPORTED, "/endpoint/branch_id",
                         "an endpoint cannot move to another branch; create one there");
    wanted.name = spec->name ? spec->name : wanted.name;
    wanted.min_cu = spec->min_cu != 0 ? spec->min_cu : wanted.min_cu;
    wanted.max_cu = spec->max_cu != 0 ? spec->max_cu : wanted.max_cu;
    if (spec->suspend_timeout_seconds != INTENT_UNSET)
        wanted.suspend_timeout_seconds = spec->suspend_timeout_seconds;
    wanted.pg_settings = spec->pg_settings ? spec->pg_settings : wanted.pg_settings;
    wanted.preload_libraries = spec->preload_libraries ? spec->preload_libraries : wanted.preload_libraries;
    wanted.park_sessions = spec->park_sessions >= 0 ? spec->park_sessions == 1 : wanted.park_sessions;
    wanted.disabled = spec->disabled >= 0 ? spec->disabled == 1 : wanted.disabled;
    wanted.spec = given_merge(a, wanted.spec, spec->given);
    return intent_endpoint_change(s, c, a, ret, &wanted, err);
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
    if (endpoint_set_desired(c, ret->endpoints[0].id, "deleted", clock_wall_us(), err) < 0 ||
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
        return err_set(err, ERR_INVALID, "endpoint %s is disabled; enable it first", ret->endpoints[0].id);
    if (verb != ENDPOINT_SUSPEND && sched_space(s, err) < 0)
        return -1;
    if ((verb != ENDPOINT_START && add_op(c, a, ret, "suspend_compute", err) < 0) ||
        (verb != ENDPOINT_SUSPEND && add_op(c, a, ret, "start_compute", err) < 0) || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("endpoint.acted");
    sched_kick(s);
    return 0;
}
