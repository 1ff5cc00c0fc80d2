/*
 * intent_moment.c - reading a branch as it was: a hidden branch at that LSN, with an endpoint that only reads
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"

#include <string.h>

#define SUSPEND_MAX_SECONDS 60 /* nobody comes back to it as to an address of his own */
#define TRIES               3

/* Like the branch's own endpoint, where it has one, except that it goes soon. */
static int make_spec(struct sched *s, struct dbc *c, struct arena *a, const struct branch *b,
                     struct endpoint_spec *ret, struct err *err)
{
    struct endpoint writer;
    bool found;
    if (endpoint_find_writer(c, a, b->id, &writer, &found, err) < 0)
        return -1;
    int64_t suspend = found ? writer.suspend_timeout_seconds : 0;
    suspend = suspend == 0 ? s->suspend_default_seconds : suspend;
    *ret = (struct endpoint_spec){
        .type = "read_only",
        .min_cu = found ? writer.min_cu : 0,
        .max_cu = found ? writer.max_cu : 0,
        .suspend_timeout_seconds =
            suspend < 0 || suspend > SUSPEND_MAX_SECONDS ? SUSPEND_MAX_SECONDS : suspend,
        .pg_settings = found ? writer.pg_settings : NULL,
        .disabled = -1,
        .park_sessions = -1,
    };
    return 0;
}

static int find_endpoint(struct dbc *c, struct arena *a, const struct branch *b, struct endpoint *ret,
                         struct err *err)
{
    struct endpoint *list;
    size_t n;
    if (endpoint_list(c, a, NULL, b->id, false, &list, &n, err) < 0)
        return -1;
    if (n == 0)
        return err_set(err, ERR_INTERNAL, "what reads branch %s has no endpoint", b->id);
    *ret = list[0];
    if (strcmp(ret->observed, compute_state_name(COMPUTE_FAILED)) == 0)
        return err_set(err, ERR_UNAVAILABLE, "the compute of this moment could not be started: %s",
                       ret->last_error ? ret->last_error : "unknown");
    return 0;
}

static int add_branch(struct sched *s, struct dbc *c, struct arena *a, const struct branch *b,
                      const struct moment *at, struct outcome *out, struct err *err)
{
    struct endpoint_spec endpoint;
    bool wait;
    if (sched_space(s, err) < 0 || make_spec(s, c, a, b, &endpoint, err) < 0)
        return -1;
    const struct branch_spec spec = {
        .kind = "temporary", .is_protected = -1, .endpoints = &endpoint, .n_endpoints = 1
    };
    return intent_insert_child(s, c, a, b, &spec, at, out, &wait, err);
}

/*
 * The order to start it is part of the transaction: as long as it is open the branch is not left over, and it
 * is closed when the compute runs.
 */
static int take_branch(struct sched *s, struct arena *a, const char *branch_id, const struct moment *at,
                       struct endpoint *ret, struct err *err)
{
    struct outcome out = { 0 };
    struct branch b, reader;
    bool found;
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || branch_get_id(c, a, branch_id, &b, err) < 0 ||
        project_get(c, a, b.project_id, &out.project, err) < 0 ||
        branch_find_moment(c, a, b.id, at->lsn, &reader, &found, err) < 0)
        return -1;
    if (!found) {
        if (add_branch(s, c, a, &b, at, &out, err) < 0)
            return -1;
        reader = out.branch;
    }
    if (find_endpoint(c, a, &reader, ret, err) < 0 ||
        intent_add_operation(c, a, &out, "start_compute", "scheduling", reader.id, ret->id, NULL, err) < 0)
        return -1;
    return db_commit(c, err);
}

static int read_branch(struct sched *s, struct arena *a, const char *id, struct branch *ret, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 || branch_get_id(c, a, id, ret, err) < 0)
        return -1;
    if (!branch_is_seen(ret))
        return err_set(err, ERR_NOT_FOUND, "the branch was deleted");
    if (strcmp(ret->state, "damaged") == 0)
        return err_set(err, ERR_DAMAGED, "branch \"%s\" is damaged and cannot be read", ret->name);
    if (branch_awaits_emptying(ret))
        return err_set(
            err, ERR_INVALID,
            "branch \"%s\" has no past yet: it gets its schema when its endpoint is started for the "
            "first time",
            ret->name);
    return 0;
}

int intent_moment_read(struct sched *s, struct arena *a, const char *branch_id, uint64_t lsn, int64_t time_us,
                       struct endpoint *ret, struct err *err)
{
    struct branch b;
    struct moment at;
    int rc = -1;
    /* What it begins with may go between the look and the transaction; then there is another. */
    for (int i = 0; i < TRIES && rc < 0; i++) {
        *err = (struct err)ERR_INIT;
        if (read_branch(s, a, branch_id, &b, err) < 0 ||
            moment_resolve(s, a, &b, lsn, time_us, lsn != 0 ? "/lsn" : "/timestamp", &at, err) < 0)
            return -1;
        rc = take_branch(s, a, branch_id, &at, ret, err);
        if (rc < 0 && err->code != ERR_UNAVAILABLE)
            return -1;
    }
    if (rc < 0)
        return -1;
    CRASH_POINT("moment.taken");
    sched_kick(s);
    return 0;
}
