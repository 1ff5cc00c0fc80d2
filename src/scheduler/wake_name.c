/*
 * wake_name.c - what a client named: from a name to a branch and its endpoint
 *
 * Here, and only here: an unknown or ambiguous name is an error, never another branch.
 */
#include "scheduler/internal.h"

#include "base/clock.h"

#include <string.h>

static bool is_reachable(const struct branch *b)
{
    return branch_is_seen(b) && !branch_has_expired(b, clock_wall_us());
}

static int find_branch(struct dbc *db, struct arena *a, const char *name, struct branch *ret,
                       struct wake_error *why, struct err *err)
{
    struct branch *list;
    size_t n;
    if (id_looks_like_branch(name) && branch_get_id(db, a, name, ret, err) == 0 && is_reachable(ret))
        return 0;
    if (branch_find_name(db, a, name, &list, &n, err) < 0)
        return -1;
    if (n == 1)
        *ret = list[0];
    else
        *why = n == 0 ? (struct wake_error){ "3D000", arena_printf(a, "there is no branch \"%s\"", name),
                                             "Check the name, or name the endpoint: options=endpoint=ep-..." }
                      : (struct wake_error){ "3D000",
                                             arena_printf(a, "%zu projects have a branch \"%s\"", n, name),
                                             "Name the branch by its id (options=branch=br-...) or the "
                                             "endpoint (options=endpoint=ep-...)." };
    return 0;
}

static int find_writer(struct dbc *db, struct arena *a, const struct branch *b, const char *name,
                       struct endpoint *ret, struct wake_error *why, struct err *err)
{
    bool found;
    if (endpoint_find_writer(db, a, b->id, ret, &found, err) < 0)
        return -1;
    if (!found)
        *why = (struct wake_error){ "55000", arena_printf(a, "branch \"%s\" has no compute endpoint", name),
                                    "Add one: POST /api/v2/projects/{project_id}/endpoints" };
    return 0;
}

static void check_endpoint(struct arena *a, const struct endpoint *e, struct wake_error *why)
{
    if (strcmp(e->desired, "deleted") == 0)
        *why = (struct wake_error){ "3D000", arena_printf(a, "there is no endpoint \"%s\"", e->id),
                                    "It was deleted." };
    else if (e->disabled)
        *why =
            (struct wake_error){ "55000", arena_printf(a, "endpoint \"%s\" is disabled", e->id),
                                 "Enable it: PATCH /api/v2/projects/{project_id}/endpoints/{endpoint_id}" };
}

/* One of a branch that nobody sees is not there. */
static int find_endpoint(struct dbc *db, struct arena *a, const char *id, struct endpoint *ret,
                         struct branch *ret_branch, struct wake_error *why, struct err *err)
{
    int rc = endpoint_get_id(db, a, id, ret, err);
    if (rc == 0)
        rc = branch_get_id(db, a, ret->branch_id, ret_branch, err);
    if (rc < 0 && err->code != ERR_NOT_FOUND)
        return -1;
    if (rc < 0 || !is_reachable(ret_branch))
        *why = (struct wake_error){ "3D000", arena_printf(a, "there is no endpoint \"%s\"", id),
                                    "Check the endpoint id in the host name, or in options=endpoint=..." };
    else
        check_endpoint(a, ret, why);
    return 0;
}

int wake_resolve(struct sched *s, struct arena *a, const char *kind, const char *name, bool past,
                 struct wake_place *ret, struct wake_error *why, struct err *err)
{
    auto_dbc *db = NULL;
    if (db_read(s->env.db, &db, err) < 0)
        return -1;
    if (strcmp(kind, "branch") != 0)
        return find_endpoint(db, a, name, &ret->endpoint, &ret->branch, why, err);
    if (find_branch(db, a, name, &ret->branch, why, err) < 0)
        return -1;
    if (why->msg || past)
        return 0;
    if (find_writer(db, a, &ret->branch, name, &ret->endpoint, why, err) < 0)
        return -1;
    if (!why->msg)
        check_endpoint(a, &ret->endpoint, why);
    return 0;
}

int wake_find(struct sched *s, struct arena *a, const char *name, struct wake_found *ret,
              struct wake_error *why, struct err *err)
{
    struct branch b;
    struct project p;
    struct endpoint e;
    bool has_writer;
    auto_dbc *db = NULL;
    *ret = (struct wake_found){ 0 };
    if (db_read(s->env.db, &db, err) < 0 || find_branch(db, a, name, &b, why, err) < 0)
        return -1;
    if (why->msg)
        return 0;
    if (endpoint_find_writer(db, a, b.id, &e, &has_writer, err) < 0 ||
        project_get_any(db, a, b.project_id, &p, err) < 0)
        return -1;
    ret->listed = (struct listed){ .endpoint_id = has_writer ? e.id : b.id,
                                   .branch_id = b.id,
                                   .project_settings = p.settings,
                                   .is_protected = b.is_protected };
    return role_list(db, a, b.id, false, &ret->roles, &ret->n_roles, err);
}
