/*
 * intent_branch.c - branches: create at head or in the past, change, default
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "base/text.h"
#include "meta/image.h"
#include "scheduler/given.h"

#include <stdlib.h>
#include <string.h>

#define FORK_WAIT_MS 8000 /* some clients give a create call 10 s */
#define TTL_SLACK_US 60000000
#define SCHEMA_ONLY  "schema-only"
#define TIME_MAX_US  253402300799000000 /* the last second that RFC 3339 can say */

static int check_endpoints(const struct branch_spec *spec, struct err *err)
{
    size_t writers = 0;
    for (size_t i = 0; i < spec->n_endpoints; i++) {
        auto_free char *pointer = xasprintf("/endpoints/%zu", i);
        writers += !spec->endpoints[i].type || strcmp(spec->endpoints[i].type, "read_only") != 0;
        if (writers > 1)
            return err_field(err, ERR_CONFLICT, pointer, "a branch has one read_write endpoint");
    }
    return 0;
}

int intent_check_branch_spec(const struct branch_spec *spec, struct err *err)
{
    if (intent_check_branch_name(spec->name, "/branch/name", err) < 0)
        return -1;
    if (spec->parent_lsn != 0 && spec->parent_timestamp != 0)
        return err_field(err, ERR_INVALID, "/branch/parent_timestamp",
                         "parent_lsn and parent_timestamp exclude each other");
    if (spec->parent_bookmark && (spec->parent_lsn != 0 || spec->parent_timestamp != 0))
        return err_field(err, ERR_INVALID, "/branch/parent_bookmark",
                         "parent_bookmark, parent_lsn and parent_timestamp exclude each other");
    if (spec->init_source && strcmp(spec->init_source, "parent-data") != 0 &&
        strcmp(spec->init_source, SCHEMA_ONLY) != 0)
        return err_field(err, ERR_INVALID, "/branch/init_source",
                         "init_source must be parent-data or schema-only");
    if (spec->durability && strcmp(spec->durability, "full") != 0 && strcmp(spec->durability, "relaxed") != 0)
        return err_field(err, ERR_INVALID, "/branch/durability", "durability must be full or relaxed");
    return check_endpoints(spec, err);
}

int intent_set_expiry(const struct branch_spec *spec, int64_t now, struct branch *b, struct err *err)
{
    bool has_time = spec->expires_at != INTENT_UNSET, has_ttl = spec->ttl_seconds != INTENT_UNSET;
    if (has_ttl && spec->ttl_seconds > (TIME_MAX_US - now) / 1000000)
        return err_field(err, ERR_INVALID, "/branch/ttl_seconds",
                         "ttl_seconds leads beyond the year 9999; nothing was changed");
    int64_t by_ttl = has_ttl && spec->ttl_seconds != 0 ? now + spec->ttl_seconds * 1000000 : 0;
    int64_t at = has_time ? spec->expires_at : by_ttl;
    if (has_time && has_ttl && ((at == 0) != (by_ttl == 0) || llabs(at - by_ttl) > TTL_SLACK_US))
        return err_field(err, ERR_INVALID, "/branch/ttl_seconds",
                         "ttl_seconds and expires_at disagree by more than a minute; give one of them");
    if (at != 0 && at <= now)
        return err_field(err, ERR_INVALID, "/branch/expires_at",
                         "expires_at lies in the past; nothing was changed");
    if (!has_time && !has_ttl)
        return 0;
    b->expires_at = (at + 999999) / 1000000 * 1000000; /* whole seconds, and never earlier than asked */
    b->ttl_seconds = at == 0 ? 0 : has_ttl ? spec->ttl_seconds : (b->expires_at - now) / 1000000;
    return 0;
}

static const char *expiry_pointer(const struct branch_spec *spec)
{
    return spec->expires_at != INTENT_UNSET    ? "/branch/expires_at"
           : spec->ttl_seconds != INTENT_UNSET ? "/branch/ttl_seconds"
                                               : "/branch/protected";
}

/* What expires may hold nothing up. */
int intent_check_expiry(struct dbc *c, const struct branch *b, const struct branch_spec *spec,
                        struct err *err)
{
    const char *pointer = expiry_pointer(spec);
    int64_t children = 0;
    if (b->expires_at == 0)
        return 0;
    if (b->is_protected)
        return err_field(err, ERR_INVALID, pointer, "a protected branch cannot expire; nothing was changed");
    if (b->is_default)
        return err_field(err, ERR_INVALID, pointer, "the default branch cannot expire; nothing was changed");
    if (!b->parent_id || (b->is_root && !b->init_source))
        return err_field(err, ERR_INVALID, pointer, "a root branch cannot expire; nothing was changed");
    if (branch_count_children(c, b->id, &children, err) < 0)
        return -1;
    if (children > 0)
        return err_field(err, ERR_INVALID, pointer,
                         "a branch with children cannot expire; nothing was changed");
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
    const char *plain, *verifier;
    if (secret_open_verifier(arg, a, from, &verifier, err) < 0 ||
        (verifier && secret_seal_verifier(arg, a, to->branch_id, to->name, verifier, to, err) < 0))
        return -1;
    if (!from->sealed)
        return 0;
    if (secret_open(arg, a, from, &plain, err) < 0)
        return -1;
    return secret_seal(arg, a, to->branch_id, to->name, plain, to, err);
}

/* Passwords made for the roles of a protected branch's child. */
struct renewal {
    struct sched *s;
    const struct project *project;
    struct renewed {
        struct renewed *next;
        const char *role, *plain;
    } * list;
};

static int renew(void *arg, struct arena *a, const struct role *from, struct role *to, struct err *err)
{
    struct renewal *r = arg;
    struct role fresh;
    struct renewed *one = arena_alloc(a, sizeof(*one));
    if (from->no_login)
        return 0;
    if (intent_new_role(r->s, a, r->project, to->branch_id, to->name, false, &fresh, &one->plain, err) < 0)
        return -1;
    to->state = fresh.state;
    to->sealed = fresh.sealed;
    to->sealed_len = fresh.sealed_len;
    to->verifier = fresh.verifier;
    to->verifier_len = fresh.verifier_len;
    one->role = to->name;
    one->next = r->list;
    r->list = one;
    return 0;
}

static void show_renewed(const struct renewal *r, struct outcome *out)
{
    out->new_passwords = r->list != NULL;
    for (const struct renewed *one = r->list; one; one = one->next)
        for (size_t i = 0; i < out->n_roles; i++)
            if (strcmp(out->roles[i].name, one->role) == 0)
                out->passwords[i] = one->plain;
}

/* A schema-only branch is a root to users: it begins with what its parent's schema was, and no row of it. */
static void choose_rows(const struct branch *parent, const struct branch_spec *spec, struct branch *b)
{
    bool empty = spec->init_source && strcmp(spec->init_source, SCHEMA_ONLY) == 0;
    b->is_root = empty;
    b->init_source =
        empty || (b->parent_lsn != 0 && !branch_keeps_rows(parent, b->parent_lsn)) ? SCHEMA_ONLY : NULL;
}

static void new_child(struct arena *a, const struct branch *parent, const struct branch_spec *spec,
                      const struct moment *at, struct branch *ret)
{
    int64_t now = clock_wall_us();
    bool snapshot = spec->kind && strcmp(spec->kind, "snapshot") == 0;
    *ret = (struct branch){ .id = snapshot ? id_snapshot(a) : id_branch(a),
                            .project_id = parent->project_id,
                            .kind = spec->kind ? spec->kind : "user",
                            .state = at ? "ready" : "init",
                            .parent_id = parent->id,
                            .parent_lsn = at ? at->lsn : 0,
                            .parent_timestamp = at ? at->time_us : 0,
                            .is_protected = spec->is_protected == 1,
                            .durability = spec->durability ? spec->durability : "full",
                            .image_id = at ? at->image_id : NULL,
                            .volume = "none",
                            .annotations = spec->annotations,
                            .spec = given_merge(a, NULL, spec->given),
                            .made_by = spec->made_by,
                            .restored_from = spec->restored_from,
                            .restored_as = spec->restored_as,
                            .restore_status = spec->restored_from ? "restored" : NULL,
                            .state_changed_at = now,
                            .created_at = now,
                            .updated_at = now };
    ret->name = spec->name ? spec->name : ret->id;
    choose_rows(parent, spec, ret);
}

int intent_insert_child(struct sched *s, struct dbc *c, struct arena *a, const struct branch *parent,
                        const struct branch_spec *spec, const struct moment *past, struct outcome *out,
                        bool *ret_wait, struct err *err)
{
    struct moment at;
    bool standing = past != NULL, fresh = parent->is_protected && !spec->kind;
    struct branch *b = &out->branch;
    struct renewal renewal = { .s = s, .project = &out->project };
    if (past)
        at = *past;
    if ((past ? hold_moment(c, a, parent, past, err) : standing_head(c, a, parent, &at, &standing, err)) < 0)
        return -1;
    new_child(a, parent, spec, standing ? &at : NULL, b);
    *ret_wait = !standing;
    if (intent_set_expiry(spec, b->created_at, b, err) < 0 || intent_check_expiry(c, b, spec, err) < 0 ||
        branch_insert(c, b, err) < 0 ||
        role_copy_all(c, a, parent->id, b->id, past != NULL, b->created_at, fresh ? renew : intent_reseal,
                      fresh ? (void *)&renewal : s, err) < 0)
        return -1;
    for (size_t i = 0; i < spec->n_endpoints; i++) {
        const char *pointer = arena_printf(a, "/endpoints/%zu", i);
        if (intent_add_endpoint(s, c, a, out, &out->project, b->id, &spec->endpoints[i], pointer, err) < 0)
            return -1;
    }
    const char *endpoint_id = out->n_endpoints ? out->endpoints[0].id : NULL;
    if (intent_add_operation(c, a, out, "create_branch", standing ? "finished" : "scheduling", b->id,
                             endpoint_id, NULL, err) < 0 ||
        (spec->start &&
         intent_add_operation(c, a, out, "start_compute", "scheduling", b->id, endpoint_id, NULL, err) < 0) ||
        branch_get_id(c, a, b->id, b, err) < 0 ||
        intent_fill(s, c, a, out, out->project.store_passwords, err) < 0)
        return -1;
    show_renewed(&renewal, out);
    return 0;
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
    if (rc == 0 && ret->expires_at != 0 && !spec->kind && !spec->hidden_parent)
        return err_field(err, ERR_INVALID, "/branch/parent_id",
                         "branch \"%s\" expires, so it can have no children; clear its expires_at first",
                         ret->name);
    return rc;
}

static int look_at_fork(struct sched *s, struct arena *a, struct outcome *out, struct err *err)
{
    struct operation o;
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 || operation_get_id(c, a, out->operations[0].id, &o, err) < 0)
        return -1;
    if (strcmp(o.status, "failed") == 0 || strcmp(o.status, "cancelled") == 0)
        return err_set(err, ERR_CONFLICT, "the branch could not be made and nothing is left of it: %s",
                       o.error ? o.error : "unknown");
    out->operations[0] = o;
    return branch_get_id(c, a, out->branch.id, &out->branch, err);
}

/* The fork of a running parent is fixed by a job: wait until it has said where. */
int intent_wait_for_fork(struct sched *s, struct arena *a, struct outcome *out, struct err *err)
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
    if (spec->parent_bookmark)
        return moment_of_bookmark(s, a, &parent, spec->parent_bookmark, "/branch/parent_bookmark", ret, err);
    return moment_resolve(s, a, &parent, spec->parent_lsn, spec->parent_timestamp,
                          spec->parent_lsn != 0 ? "/branch/parent_lsn" : "/branch/parent_timestamp", ret,
                          err);
}

int intent_branch_create(struct sched *s, struct arena *a, const char *project_id,
                         const struct branch_spec *spec, struct outcome *ret, struct err *err)
{
    struct branch parent;
    struct moment moment;
    bool past = spec->parent_lsn != 0 || spec->parent_timestamp != 0 || spec->parent_bookmark, wait;
    auto_moment *hold UNUSED = past ? moment_hold(s) : NULL; /* one in the past never waits */
    *ret = (struct outcome){ 0 };
    if (intent_check_branch_spec(spec, err) < 0 || sched_space(s, err) < 0 ||
        (past && find_past(s, a, project_id, spec, &moment, err) < 0))
        return -1;
    {
        auto_dbc *c = NULL;
        if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, NULL, ret, err) < 0 ||
            intent_load_parent(c, a, project_id, spec, &parent, err) < 0 ||
            intent_insert_child(s, c, a, &parent, spec, past ? &moment : NULL, ret, &wait, err) < 0 ||
            db_commit(c, err) < 0)
            return -1;
    }
    CRASH_POINT("branch.inserted");
    if (wait || spec->start)
        sched_kick(s);
    return wait ? intent_wait_for_fork(s, a, ret, err) : 0;
}

int intent_branch_update(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                         const struct branch_spec *spec, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    if (intent_check_branch_spec(spec, err) < 0)
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
    b->spec = given_merge(a, b->spec, spec->given);
    b->updated_at = clock_wall_us();
    if (intent_set_expiry(spec, b->updated_at, b, err) < 0 || intent_check_expiry(c, b, spec, err) < 0 ||
        branch_update(c, b, err) < 0)
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
    if (ret->branch.expires_at != 0)
        return err_set(
            err, ERR_INVALID,
            "branch \"%s\" expires, so it cannot be the default branch; clear its expires_at first",
            ret->branch.name);
    if (branch_set_default(c, project_id, ret->branch.id, now, err) < 0)
        return -1;
    ret->branch.is_default = true;
    ret->branch.updated_at = now;
    return db_commit(c, err);
}
