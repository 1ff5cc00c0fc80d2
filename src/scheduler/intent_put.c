/*
 * intent_put.c - what is to be there by its name: made where it is missing, changed where it differs
 *
 * Found and changed in one transaction.  Making is the other intents' business; who comes second finds what
 * the first one made.
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "scheduler/given.h"

#include <stdio.h>
#include <string.h>

#define TRIES 4 /* made and deleted by others each time: somebody else is at it */

struct put {
    struct sched *s;
    struct arena *a;
    const char *project_id, *branch, *name;
    const void *spec;
    struct outcome *out;
    struct err *err;
};

/* find: 1 = it is there, and as it shall be; 0 = it is not there; -1 = error.  make: 0, or -1 = error. */
static int put(const struct put *p, int (*find)(const struct put *p), int (*make)(const struct put *p),
               bool *ret_created)
{
    for (int i = 0; i < TRIES; i++) {
        *p->out = (struct outcome){ 0 };
        int rc = find(p);
        *ret_created = rc == 0;
        if (rc != 0)
            return rc < 0 ? -1 : 0;
        if (make(p) == 0)
            return 0;
        if (p->err->code != ERR_CONFLICT) /* else somebody was faster */
            return -1;
        *p->err = (struct err)ERR_INIT;
    }
    return err_set(p->err, ERR_UNAVAILABLE,
                   "\"%.80s\" comes and goes, or is just being deleted; nothing was changed, try again",
                   p->name);
}

/* What is still being done for it, or for the branch it is of: who waits for it waits for that. */
static int add_open(const struct put *p, struct dbc *c, const char *branch_id, const char *endpoint_id)
{
    struct operation *open;
    size_t n, kept = 0;
    if (operation_list_open(c, p->a, &open, &n, p->err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (endpoint_id ? open[i].endpoint_id && strcmp(open[i].endpoint_id, endpoint_id) == 0
                        : open[i].branch_id && strcmp(open[i].branch_id, branch_id) == 0)
            open[kept++] = open[i];
    p->out->operations = open;
    p->out->n_operations = kept;
    return 0;
}

static int not_there(struct err *err)
{
    if (err->code != ERR_NOT_FOUND)
        return -1;
    *err = (struct err)ERR_INIT;
    return 0;
}

static int for_life(struct err *err, const char *pointer, const char *what, const char *name,
                    const char *member)
{
    return err_field(
        err, ERR_CONFLICT, pointer,
        "%s \"%.80s\" keeps its %s for life; nothing was changed: delete it first, or use another "
        "name",
        what, name, member);
}

/* ---- branches ---- */

static const struct intent_pointer BRANCH_POINTERS[] = { { "/branch/parent_id", "/parent" } };

/* What a branch is made with.  Given as it was given before is fine, whatever has become of it. */
static int check_for_life(struct dbc *c, struct arena *a, const struct branch *b,
                          const struct branch_spec *spec, struct err *err)
{
    const struct {
        const char *name;
        bool is_so;
    } MEMBERS[] = {
        { "parent",
          !spec->parent || (b->shown_parent_id &&
                            intent_is_branch(c, a, b->project_id, spec->parent, b->shown_parent_id)) },
        { "parent_lsn", spec->parent_lsn == 0 || spec->parent_lsn == b->parent_lsn },
        { "parent_timestamp", spec->parent_timestamp == 0 || spec->parent_timestamp == b->parent_timestamp },
        { "parent_bookmark", !spec->parent_bookmark },
        { "init_source", !spec->init_source || strcmp(spec->init_source,
                                                      b->init_source ? b->init_source : "parent-data") == 0 },
        { "durability", !spec->durability || strcmp(spec->durability, b->durability) == 0 },
    };
    for (size_t i = 0; i < N_ELEMENTS(MEMBERS); i++) {
        char pointer[32];
        snprintf(pointer, sizeof(pointer), "/%s", MEMBERS[i].name);
        if (!MEMBERS[i].is_so && !given_again(b->spec, spec->given, MEMBERS[i].name))
            return for_life(err, pointer, "branch", b->name, MEMBERS[i].name);
    }
    return 0;
}

/* A lifetime counts from when it was given first. */
static int put_expiry(const struct branch_spec *spec, int64_t now, struct branch *b, struct err *err)
{
    bool has_time = given_has(spec->given, "expires_at"), has_ttl = given_has(spec->given, "ttl_seconds");
    if ((!has_time || given_again(b->spec, spec->given, "expires_at")) &&
        (!has_ttl || given_again(b->spec, spec->given, "ttl_seconds")) && (has_time || has_ttl))
        return 0;
    if (has_time || has_ttl)
        return intent_set_expiry(spec, now, b, err);
    b->expires_at = 0;
    b->ttl_seconds = 0;
    return 0;
}

static int write_branch(struct dbc *c, const struct branch *was, struct branch *b,
                        const struct branch_spec *spec, struct err *err)
{
    bool differs = b->is_protected != was->is_protected || b->expires_at != was->expires_at ||
                   b->ttl_seconds != was->ttl_seconds || !given_equal(b->annotations, was->annotations);
    if (!differs && given_equal(b->spec, was->spec))
        return 0;
    if (differs)
        b->updated_at = clock_wall_us();
    if (intent_check_expiry(c, b, spec, err) < 0 || branch_update(c, b, err) < 0)
        return -1;
    return db_commit(c, err);
}

static int find_branch(const struct put *p)
{
    const struct branch_spec *spec = p->spec;
    struct outcome *out = p->out;
    struct branch *b = &out->branch, was;
    auto_dbc *c = NULL;
    if (db_write(p->s->env.db, &c, p->err) < 0 || intent_load(c, p->a, p->project_id, NULL, out, p->err) < 0)
        return -1;
    if (branch_get(c, p->a, p->project_id, p->name, b, p->err) < 0)
        return not_there(p->err);
    was = *b;
    if (check_for_life(c, p->a, b, spec, p->err) < 0 || put_expiry(spec, clock_wall_us(), b, p->err) < 0)
        return -1;
    b->is_protected = spec->is_protected == 1;
    b->annotations = spec->annotations;
    b->spec = given_merge(p->a, NULL, spec->given);
    if (intent_fill(p->s, c, p->a, out, out->project.store_passwords, p->err) < 0 ||
        add_open(p, c, b->id, NULL) < 0 || write_branch(c, &was, b, spec, p->err) < 0)
        return -1;
    return 1;
}

static int make_branch(const struct put *p)
{
    const struct branch_spec *spec = p->spec;
    if (!intent_is_plain_name(spec->name))
        return err_field(
            p->err, ERR_INVALID, "/name",
            "the name of a branch that PUT makes is 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter "
            "or digit first; nothing was made");
    return intent_branch_create(p->s, p->a, p->project_id, spec, p->out, p->err);
}

int intent_branch_put(struct sched *s, struct arena *a, const char *project_id, const char *name,
                      const struct branch_spec *spec, struct outcome *ret, bool *ret_created, struct err *err)
{
    struct put p = { s, a, project_id, NULL, name, spec, ret, err };
    struct branch_spec addressed = *spec;
    if (id_looks_like_branch(name))
        addressed.name = NULL; /* one that is there may be meant by its id */
    if (intent_check_branch_spec(&addressed, err) < 0 || put(&p, find_branch, make_branch, ret_created) < 0)
        return intent_point_here(err, "/branch", BRANCH_POINTERS, N_ELEMENTS(BRANCH_POINTERS));
    return 0;
}

/* ---- endpoints ---- */

static const struct intent_pointer ENDPOINT_POINTERS[] = { { "/endpoint/branch_id", "/branch" } };

static int check_place(struct dbc *c, const struct put *p, const struct endpoint *e)
{
    const struct endpoint_spec *spec = p->spec;
    bool here = !spec->branch_id || intent_is_branch(c, p->a, p->project_id, spec->branch_id, e->branch_id);
    if (!here && !given_again(e->spec, spec->given, "branch"))
        return for_life(p->err, "/branch", "endpoint", p->name, "branch");
    if (spec->type && strcmp(spec->type, e->type) != 0)
        return for_life(p->err, "/type", "endpoint", p->name, "type");
    return 0;
}

/* In the same transaction: nothing but this makes the name one's own. */
static int make_endpoint(const struct put *p, struct dbc *c)
{
    const struct endpoint_spec *spec = p->spec;
    if (id_looks_like_endpoint(p->name))
        return err_set(p->err, ERR_NOT_FOUND, "endpoint not found: \"%.80s\"; nothing was made", p->name);
    if (!spec->branch_id)
        return err_field(p->err, ERR_INVALID, "/endpoint/branch_id",
                         "branch is required: no endpoint is called \"%.80s\"; nothing was made", p->name);
    return intent_endpoint_make(p->s, c, p->a, spec, p->out, p->err);
}

static int put_endpoint(const struct put *p, bool *ret_created)
{
    const struct endpoint_spec *spec = p->spec;
    struct outcome *out = p->out;
    struct endpoint e;
    auto_dbc *c = NULL;
    *out = (struct outcome){ 0 };
    if (db_write(p->s->env.db, &c, p->err) < 0 ||
        intent_load(c, p->a, p->project_id, NULL, out, p->err) < 0 ||
        intent_check_endpoint(p->s, spec, out->project.pg_version, "/endpoint", p->err) < 0)
        return -1;
    *ret_created = endpoint_get(c, p->a, p->project_id, p->name, &e, p->err) < 0;
    if (*ret_created)
        return not_there(p->err) < 0 ? -1 : make_endpoint(p, c);
    if (check_place(c, p, &e) < 0 || add_open(p, c, e.branch_id, e.id) < 0)
        return -1;
    struct endpoint wanted = e;
    intent_give_endpoint(p->a, out, &e);
    /* What was given before is given again: what the project's defaults have become since is no matter of
     * its. */
    if (given_equal(e.spec, spec->given))
        return 0;
    intent_endpoint_defaults(p->s, p->a, &out->project, &wanted);
    intent_endpoint_apply(spec, &wanted);
    if (strcmp(e.id, p->name) == 0)
        wanted.name = e.name; /* meant by its id, it keeps its name */
    wanted.spec = given_merge(p->a, NULL, spec->given);
    return intent_endpoint_change(p->s, c, p->a, out, &wanted, p->err);
}

int intent_endpoint_put(struct sched *s, struct arena *a, const char *project_id, const char *name,
                        const struct endpoint_spec *spec, struct outcome *ret, bool *ret_created,
                        struct err *err)
{
    struct put p = { s, a, project_id, NULL, name, spec, ret, err };
    if (put_endpoint(&p, ret_created) < 0)
        return intent_point_here(err, "/endpoint", ENDPOINT_POINTERS, N_ELEMENTS(ENDPOINT_POINTERS));
    return 0;
}

/* ---- roles ---- */

static int find_role(const struct put *p)
{
    const struct role_spec *spec = p->spec;
    struct role r;
    auto_dbc *c = NULL;
    if (db_write(p->s->env.db, &c, p->err) < 0 ||
        intent_load(c, p->a, p->project_id, p->branch, p->out, p->err) < 0)
        return -1;
    if (role_get(c, p->a, p->out->branch.id, p->name, &r, p->err) < 0)
        return not_there(p->err);
    if (r.no_login != spec->no_login)
        return for_life(p->err, "/no_login", "role", r.name, "no_login");
    if (add_open(p, c, r.branch_id, NULL) < 0)
        return -1;
    intent_give_role(p->a, p->out, &r, NULL);
    const char *was = r.spec;
    r.spec = given_merge(p->a, NULL, spec->given);
    if (!given_equal(r.spec, was) && (role_set_spec(c, &r, p->err) < 0 || db_commit(c, p->err) < 0))
        return -1;
    return 1;
}

static int make_role(const struct put *p)
{
    return intent_role_create(p->s, p->a, p->project_id, p->branch, p->spec, p->out, p->err);
}

int intent_role_put(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                    const struct role_spec *spec, struct outcome *ret, bool *ret_created, struct err *err)
{
    struct put p = { s, a, project_id, branch, spec->name, spec, ret, err };
    return put(&p, find_role, make_role, ret_created) < 0 ? intent_point_here(err, "/role", NULL, 0) : 0;
}

/* ---- databases ---- */

static int find_database(const struct put *p)
{
    struct database d;
    auto_dbc *c = NULL;
    if (db_write(p->s->env.db, &c, p->err) < 0 ||
        intent_load(c, p->a, p->project_id, p->branch, p->out, p->err) < 0)
        return -1;
    if (database_get(c, p->a, p->out->branch.id, p->name, &d, p->err) < 0)
        return not_there(p->err);
    if (add_open(p, c, p->out->branch.id, NULL) < 0 ||
        intent_database_change(p->s, c, p->a, p->out, &d, p->spec, p->err) < 0)
        return -1;
    intent_give_database(p->a, p->out, &d);
    return 1;
}

/* The only role there is owns a database whose owner nobody names. */
static int find_owner(const struct put *p, struct database_spec *spec)
{
    struct role *roles;
    size_t n;
    auto_dbc *c = NULL;
    if (spec->owner_name)
        return 0;
    if (db_read(p->s->env.db, &c, p->err) < 0 ||
        intent_load(c, p->a, p->project_id, p->branch, p->out, p->err) < 0 ||
        role_list(c, p->a, p->out->branch.id, false, &roles, &n, p->err) < 0)
        return -1;
    if (n != 1)
        return err_field(p->err, ERR_INVALID, "/owner_name",
                         "owner_name is required: branch \"%.80s\" has %zu roles; nothing was made",
                         p->out->branch.name, n);
    spec->owner_name = roles[0].name;
    return 0;
}

static int make_database(const struct put *p)
{
    struct database_spec spec = *(const struct database_spec *)p->spec;
    if (find_owner(p, &spec) < 0)
        return -1;
    return intent_database_create(p->s, p->a, p->project_id, p->branch, &spec, p->out, p->err);
}

int intent_database_put(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                        const struct database_spec *spec, struct outcome *ret, bool *ret_created,
                        struct err *err)
{
    struct put p = { s, a, project_id, branch, spec->name, spec, ret, err };
    return put(&p, find_database, make_database, ret_created) < 0
               ? intent_point_here(err, "/database", NULL, 0)
               : 0;
}
