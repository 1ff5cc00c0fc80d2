/*
 * intent_branch.c - branches: create at head or in the past, rename, default, delete
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "base/text.h"
#include "meta/image.h"
#include "scheduler/moment.h"

#include <inttypes.h>
#include <string.h>

#define FORK_WAIT_MS 8000 /* some clients give a create call 10 s */

static int check_spec(const struct branch_spec *spec, struct err *err)
{
    if (spec->name && intent_check_name(spec->name, 256, "/branch/name", "a branch name", err) < 0)
        return -1;
    if (spec->name && id_looks_like_branch(spec->name))
        return err_field(err, ERR_INVALID, "/branch/name", "a branch name may not look like a branch id");
    if (spec->parent_lsn != 0 && spec->parent_timestamp != 0)
        return err_field(err, ERR_INVALID, "/branch/parent_timestamp",
                         "parent_lsn and parent_timestamp exclude each other");
    if (spec->init_source && strcmp(spec->init_source, "parent-data") != 0)
        return err_field(err, strcmp(spec->init_source, "schema-only") == 0 ? ERR_NOT_SUPPORTED : ERR_INVALID,
                         "/branch/init_source", "init_source must be parent-data");
    if (spec->durability && strcmp(spec->durability, "full") != 0 && strcmp(spec->durability, "relaxed") != 0)
        return err_field(err, ERR_INVALID, "/branch/durability", "durability must be full or relaxed");
    if (spec->n_endpoints > 1)
        return err_field(err, ERR_CONFLICT, "/endpoints/1", "a branch has one read_write endpoint");
    return 0;
}

/* Where the parent's history ends, when that can be said without doing anything: it was never started, or is
 * cleanly suspended with an image. */
static int standing_head(struct dbc *c, struct arena *a, const struct branch *parent, struct moment *ret,
                         bool *ret_found, struct err *err)
{
    struct image image;
    *ret_found = false;
    *ret = (struct moment){ .time_us = clock_wall_us() };
    if (strcmp(parent->state, "init") == 0)
        return 0;
    if (strcmp(parent->volume, "ready") != 0) {
        /* Being materialised right now or not: until its first start is verified nobody can have written to
         * it. */
        *ret_found = strcmp(parent->volume, "none") == 0;
        if (*ret_found && image_get(c, a, parent->image_id, &image, err) < 0)
            return -1;
        ret->lsn = parent->parent_id || !*ret_found ? parent->parent_lsn : image.lsn;
        ret->image_id = parent->image_id;
        return 0;
    }
    if (parent->head_lsn == 0)
        return 0;
    if (image_find_at(c, a, parent->id, parent->head_lsn, &image, ret_found, err) < 0)
        return -1;
    *ret_found = *ret_found && strcmp(image.state, "ready") == 0;
    ret->lsn = *ret_found ? image.lsn : parent->head_lsn; /* nobody did anything between the two */
    ret->image_id = *ret_found ? image.id : NULL;
    return 0;
}

/* The moment was resolved outside the transaction: what it begins with must still be there. */
static int hold_moment(struct dbc *c, struct arena *a, const struct branch *parent, const struct moment *at,
                       struct err *err)
{
    struct image image;
    int rc = image_get(c, a, at->image_id, &image, err);
    if (strcmp(at->branch_id, parent->id) != 0 || (rc < 0 && err->code == ERR_NOT_FOUND) ||
        (rc == 0 && strcmp(image.state, "ready") != 0))
        return err_set(err, ERR_UNAVAILABLE, "the history moved meanwhile; nothing was changed, try again");
    return rc;
}

int intent_reseal(void *arg, struct arena *a, const struct role *from, struct role *to, struct err *err)
{
    const char *plain;
    if (!from->sealed)
        return 0;
    if (secret_open(arg, a, from, &plain, err) < 0)
        return -1;
    return secret_seal(arg, a, to->branch_id, to->name, plain, to, err);
}

int intent_insert_child(struct sched *s, struct dbc *c, struct arena *a, const struct branch *parent,
                        const struct branch_spec *spec, const struct moment *past, struct outcome *out,
                        bool *ret_wait, struct err *err)
{
    struct moment at;
    bool standing = past != NULL;
    int64_t now = clock_wall_us();
    struct branch *b = &out->branch;
    if (past)
        at = *past;
    if ((past ? hold_moment(c, a, parent, past, err) : standing_head(c, a, parent, &at, &standing, err)) < 0)
        return -1;
    *b = (struct branch){ .id = id_branch(a),
                          .project_id = parent->project_id,
                          .kind = spec->kind ? spec->kind : "user",
                          .state = standing ? "ready" : "init",
                          .parent_id = parent->id,
                          .parent_lsn = standing ? at.lsn : 0,
                          .parent_timestamp = standing ? at.time_us : 0,
                          .is_protected = spec->is_protected == 1,
                          .durability = spec->durability ? spec->durability : "full",
                          .image_id = standing ? at.image_id : NULL,
                          .volume = "none",
                          .annotations = spec->annotations,
                          .state_changed_at = now,
                          .created_at = now,
                          .updated_at = now };
    b->name = spec->name ? spec->name : b->id;
    *ret_wait = !standing;
    if (branch_insert(c, b, err) < 0 ||
        role_copy_all(c, a, parent->id, b->id, past != NULL, now, intent_reseal, s, err) < 0)
        return -1;
    for (size_t i = 0; i < spec->n_endpoints; i++)
        if (intent_add_endpoint(s, c, a, out, &out->project, b->id, &spec->endpoints[i], "/endpoints/0",
                                err) < 0)
            return -1;
    const char *endpoint_id = out->n_endpoints ? out->endpoints[0].id : NULL;
    if (intent_add_operation(c, a, out, "create_branch", standing ? "finished" : "scheduling", b->id,
                             endpoint_id, NULL, err) < 0)
        return -1;
    return spec->start
               ? intent_add_operation(c, a, out, "start_compute", "scheduling", b->id, endpoint_id, NULL, err)
               : 0;
}

int intent_load_parent(struct dbc *c, struct arena *a, const char *project_id, const struct branch_spec *spec,
                       struct branch *ret, struct err *err)
{
    const char *ref = spec->parent;
    int rc = spec->hidden_parent ? branch_get_id(c, a, ref, ret, err)
             : ref               ? branch_get(c, a, project_id, ref, ret, err)
                                 : branch_get_default(c, a, project_id, ret, err);
    if (rc < 0 && err->code == ERR_NOT_FOUND && ref)
        return err_field(err, ERR_NOT_FOUND, "/branch/parent_id", "branch not found: the parent \"%.80s\"",
                         ref);
    if (rc == 0 && strcmp(ret->state, "damaged") == 0)
        return err_field(err, ERR_DAMAGED, "/branch/parent_id",
                         "branch \"%s\" is damaged and cannot be branched", ret->name);
    return rc;
}

static int look_at_fork(struct sched *s, struct arena *a, struct outcome *out, struct err *err)
{
    struct operation o;
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 || operation_get_id(c, a, out->operations[0].id, &o, err) < 0)
        return -1;
    if (strcmp(o.status, "failed") == 0 || strcmp(o.status, "cancelled") == 0)
        return err_set(err, ERR_UNAVAILABLE, "the branch could not be made and nothing is left of it: %s",
                       o.error ? o.error : "unknown");
    out->operations[0] = o;
    return branch_get_id(c, a, out->branch.id, &out->branch, err);
}

/* The fork of a running parent is fixed by a job: wait until it has said where. */
static int wait_for_fork(struct sched *s, struct arena *a, struct outcome *out, struct err *err)
{
    int64_t deadline = clock_mono_ms() + FORK_WAIT_MS;
    for (bool more = true; more;) {
        uint64_t seen = sched_seen(s);
        if (look_at_fork(s, a, out, err) < 0)
            return -1;
        more = strcmp(out->branch.state, "init") == 0 && sched_wait_change(s, seen, deadline);
    }
    return 0;
}

static int find_past(struct sched *s, struct arena *a, const char *project_id, const struct branch_spec *spec,
                     struct moment *ret, struct err *err)
{
    struct branch parent;
    struct outcome out = { 0 };
    {
        auto_dbc *c = NULL;
        if (db_read(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, NULL, &out, err) < 0 ||
            intent_load_parent(c, a, project_id, spec, &parent, err) < 0)
            return -1;
    }
    return moment_resolve(s, a, &parent, spec->parent_lsn, spec->parent_timestamp,
                          spec->parent_lsn != 0 ? "/branch/parent_lsn" : "/branch/parent_timestamp", ret,
                          err);
}

int intent_branch_create(struct sched *s, struct arena *a, const char *project_id,
                         const struct branch_spec *spec, struct outcome *ret, struct err *err)
{
    struct branch parent;
    struct moment moment;
    bool past = spec->parent_lsn != 0 || spec->parent_timestamp != 0, wait;
    auto_moment *hold UNUSED = past ? moment_hold(s) : NULL; /* one in the past never waits */
    *ret = (struct outcome){ 0 };
    if (check_spec(spec, err) < 0 || sched_space(s, err) < 0 ||
        (past && find_past(s, a, project_id, spec, &moment, err) < 0))
        return -1;
    {
        auto_dbc *c = NULL;
        if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, NULL, ret, err) < 0 ||
            intent_load_parent(c, a, project_id, spec, &parent, err) < 0 ||
            intent_insert_child(s, c, a, &parent, spec, past ? &moment : NULL, ret, &wait, err) < 0 ||
            intent_fill(s, c, a, ret, ret->project.store_passwords, err) < 0 || db_commit(c, err) < 0)
            return -1;
    }
    CRASH_POINT("branch.inserted");
    if (wait || spec->start)
        sched_kick(s);
    return wait ? wait_for_fork(s, a, ret, err) : 0;
}

int intent_branch_update(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                         const struct branch_spec *spec, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    if (check_spec(spec, err) < 0)
        return -1;
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, ret, err) < 0)
        return -1;
    struct branch *b = &ret->branch;
    if (spec->durability && strcmp(spec->durability, b->durability) != 0)
        return err_field(err, ERR_INVALID, "/branch/durability",
                         "durability is chosen when a branch is created");
    b->name = spec->name ? spec->name : b->name;
    b->is_protected = spec->is_protected >= 0 ? spec->is_protected == 1 : b->is_protected;
    b->annotations = spec->annotations ? spec->annotations : b->annotations;
    b->updated_at = clock_wall_us();
    if (branch_update(c, b, err) < 0)
        return -1;
    return db_commit(c, err);
}

int intent_branch_set_default(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                              struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, ret, err) < 0)
        return -1;
    int64_t now = clock_wall_us();
    if (branch_set_default(c, project_id, ret->branch.id, now, err) < 0)
        return -1;
    ret->branch.is_default = true;
    ret->branch.updated_at = now;
    return db_commit(c, err);
}

static int may_delete(struct dbc *c, const struct branch *b, struct err *err)
{
    int64_t children;
    if (branch_count_children(c, b->id, &children, err) < 0)
        return -1;
    if (b->is_default)
        return err_set(err, ERR_INVALID,
                       "branch \"%s\" is the default branch and cannot be deleted; make another one the "
                       "default, or delete the project",
                       b->name);
    if (b->is_protected)
        return err_set(err, ERR_INVALID,
                       "branch \"%s\" is protected and cannot be deleted; take the protection off first",
                       b->name);
    if (!b->parent_id || b->is_root)
        return err_set(err, ERR_INVALID,
                       "branch \"%s\" is a root branch and cannot be deleted; delete the project", b->name);
    if (children > 0)
        return err_set(err, ERR_INVALID,
                       "branch \"%s\" has %" PRId64
                       " child branch%s and cannot be deleted; delete them first",
                       b->name, children, children == 1 ? "" : "es");
    return 0;
}

/* ret->project and ret->branch are there: the rows and operations of its end. */
static int insert_end(struct dbc *c, struct arena *a, struct outcome *ret, struct err *err)
{
    int64_t now = clock_wall_us();
    if (branch_set_state(c, ret->branch.id, NULL, "deleting", now, err) < 0 ||
        endpoint_list(c, a, NULL, ret->branch.id, false, &ret->endpoints, &ret->n_endpoints, err) < 0)
        return -1;
    for (size_t i = 0; i < ret->n_endpoints; i++) {
        if (endpoint_set_desired(c, ret->endpoints[i].id, "deleted", now, err) < 0)
            return -1;
        if (strcmp(ret->endpoints[i].observed, "STOPPED") != 0 &&
            intent_add_operation(c, a, ret, "suspend_compute", "scheduling", ret->branch.id,
                                 ret->endpoints[i].id, NULL, err) < 0)
            return -1;
    }
    return intent_add_operation(c, a, ret, "delete_timeline", "scheduling", ret->branch.id, NULL, NULL, err);
}

int intent_branch_delete(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                         struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, ret, err) < 0 ||
        may_delete(c, &ret->branch, err) < 0 || insert_end(c, a, ret, err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("branch.deleting");
    sched_kick(s);
    return 0;
}

int intent_branch_discard(struct sched *s, struct arena *a, const char *id, struct err *err)
{
    struct outcome out = { 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0)
        return -1;
    if (branch_get_id(c, a, id, &out.branch, err) < 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    if (strcmp(out.branch.state, "deleting") == 0)
        return 0;
    if (project_get_any(c, a, out.branch.project_id, &out.project, err) < 0 ||
        insert_end(c, a, &out, err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("branch.discarded");
    sched_kick(s);
    return 0;
}
