/*
 * intent_delete.c - the end of branches: delete, recover, expire, purge
 *
 * Two ways out.  deleted: a row that nobody sees; its computes stop, all else stays.  deleting: nothing
 * stands on it and nobody gets it back; what it has on disk goes, and the row with it.  Whatever is stood on
 * goes the first way, even when it cannot be recovered: the sweep takes it once it is alone.
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <string.h>

#define RECOVER_MAX_SECONDS ((int64_t)7 * 86400)
#define SWEEP_LIMIT         100 /* rows at a time */

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
    if (children > 0)
        return err_set(err, ERR_INVALID,
                       "branch \"%s\" has %" PRId64
                       " child branch%s and cannot be deleted; delete them first",
                       b->name, children, children == 1 ? "" : "es");
    return 0;
}

/* Its computes are wanted stopped; those of a branch that goes for good never come back. */
static int stop_computes(struct dbc *c, struct arena *a, struct outcome *ret, bool for_good, struct err *err)
{
    int64_t now = clock_wall_us();
    if (endpoint_list(c, a, NULL, ret->branch.id, false, &ret->endpoints, &ret->n_endpoints, err) < 0)
        return -1;
    for (size_t i = 0; i < ret->n_endpoints; i++) {
        const struct endpoint *e = &ret->endpoints[i];
        if (endpoint_set_desired(c, e->id, for_good ? "deleted" : "stopped", now, err) < 0)
            return -1;
        if (for_good && strcmp(e->observed, "STOPPED") != 0 &&
            intent_add_operation(c, a, ret, "suspend_compute", "scheduling", ret->branch.id, e->id, NULL,
                                 err) < 0)
            return -1;
    }
    return 0;
}

int intent_end_branch(struct dbc *c, struct arena *a, struct outcome *ret, int64_t recoverable_until,
                      const char *method, struct err *err)
{
    int64_t now = clock_wall_us();
    bool stood_on;
    if (branch_is_stood_on(c, ret->branch.id, &stood_on, err) < 0)
        return -1;
    if (stood_on && strcmp(ret->branch.state, "init") == 0)
        return err_set(err, ERR_UNAVAILABLE,
                       "\"%s\" is still being made, and something is made of it; nothing was changed, try "
                       "again in a moment",
                       ret->branch.name);
    bool stays = stood_on || recoverable_until > now;
    if ((stays ? branch_set_deleted(c, ret->branch.id, recoverable_until > now ? recoverable_until : now,
                                    method, now, err)
               : branch_set_state(c, ret->branch.id, NULL, "deleting", now, err)) < 0 ||
        stop_computes(c, a, ret, !stays, err) < 0 ||
        intent_add_operation(c, a, ret, "delete_timeline", "scheduling", ret->branch.id, NULL, NULL, err) < 0)
        return -1;
    return branch_get_id(c, a, ret->branch.id, &ret->branch, err);
}

/* A branch that was never made has nothing to recover; one with a TTL not beyond that. */
static int64_t recoverable_until(const struct project *p, const struct branch *b)
{
    int64_t seconds = p->history_retention_seconds;
    if (seconds == 0 || strcmp(b->state, "init") == 0)
        return 0;
    int64_t until =
        clock_wall_us() + (seconds < RECOVER_MAX_SECONDS ? seconds : RECOVER_MAX_SECONDS) * 1000000;
    return b->expires_at != 0 && b->expires_at < until ? b->expires_at : until;
}

/* Who reads its past has to do with it, and would hold up its end for as long as he likes. */
static int end_readers(struct dbc *c, struct arena *a, const struct outcome *of, struct err *err)
{
    struct branch *list;
    size_t n;
    if (branch_list_moments(c, a, of->branch.id, &list, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        struct outcome out = { .project = of->project, .branch = list[i] };
        if (intent_end_branch(c, a, &out, 0, NULL, err) < 0)
            return -1;
    }
    return 0;
}

int intent_branch_delete(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                         bool hard, struct outcome *ret, struct err *err)
{
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, ret, err) < 0 ||
        may_delete(c, &ret->branch, err) < 0 || end_readers(c, a, ret, err) < 0 ||
        intent_end_branch(c, a, ret, hard ? 0 : recoverable_until(&ret->project, &ret->branch), "user", err) <
            0 ||
        db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("branch.deleting");
    sched_kick(s);
    return 0;
}

/* An id that is there already: asked for twice. */
static bool is_there(struct dbc *c, struct arena *a, const char *project_id, const char *ref,
                     struct outcome *ret)
{
    struct err ignored = ERR_INIT;
    return branch_get(c, a, project_id, ref, &ret->branch, &ignored) == 0 && strcmp(ret->branch.id, ref) == 0;
}

int intent_branch_recover(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                          struct outcome *ret, struct err *err)
{
    int64_t now = clock_wall_us();
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, NULL, ret, err) < 0)
        return -1;
    if (is_there(c, a, project_id, branch, ret))
        return 0;
    if (branch_get_deleted(c, a, project_id, branch, now, &ret->branch, err) < 0 ||
        branch_set_recovered(c, &ret->branch, now, err) < 0 ||
        branch_get_id(c, a, ret->branch.id, &ret->branch, err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("branch.recovered");
    sched_kick(s);
    return 0;
}

static int end_hidden(struct dbc *c, struct arena *a, struct outcome *out, const char *method,
                      struct err *err)
{
    if (project_get_any(c, a, out->branch.project_id, &out->project, err) < 0)
        return -1;
    return intent_end_branch(c, a, out, 0, method, err);
}

int intent_branch_discard(struct sched *s, struct arena *a, const char *id, struct err *err)
{
    struct outcome out = { 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0)
        return -1;
    if (branch_get_id(c, a, id, &out.branch, err) < 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    if (strcmp(out.branch.state, "deleting") == 0 || strcmp(out.branch.state, "deleted") == 0)
        return 0;
    if (end_hidden(c, a, &out, NULL, err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("branch.discarded");
    sched_kick(s);
    return 0;
}

int intent_branch_discard_left_over(struct sched *s, struct arena *a, const char *id, struct err *err)
{
    struct outcome out = { 0 };
    struct branch *list;
    size_t n;
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || branch_list_left_over(c, a, id, &list, &n, err) < 0)
        return -1;
    if (n == 0)
        return 0;
    out.branch = list[0];
    if (end_hidden(c, a, &out, NULL, err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("branch.discarded");
    sched_kick(s);
    return 0;
}

/* ---- the sweep ---- */

typedef int (*list_fn)(struct dbc *c, struct arena *a, int64_t now_us, int64_t limit, struct branch **ret,
                       size_t *ret_n, struct err *err);

/* Found and ended in one transaction: nobody changes one in between. */
static int sweep_some(struct sched *s, list_fn find, const char *method, const char *why, size_t *ret_n,
                      struct err *err)
{
    auto_arena *a = arena_new(0);
    auto_dbc *c = NULL;
    struct branch *list;
    if (db_read(s->env.db, &c, err) < 0 || find(c, a, clock_wall_us(), 1, &list, ret_n, err) < 0)
        return -1;
    db_end(&c);
    if (*ret_n == 0)
        return 0;
    if (db_write(s->env.db, &c, err) < 0 || find(c, a, clock_wall_us(), SWEEP_LIMIT, &list, ret_n, err) < 0)
        return -1;
    for (size_t i = 0; i < *ret_n; i++) {
        struct outcome out = { .branch = list[i] };
        if (end_hidden(c, a, &out, method, err) < 0)
            return -1;
    }
    if (db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("branch.swept");
    for (size_t i = 0; i < *ret_n; i++)
        log_event(LOG_INFO, "sched", why, "br", list[i].id, NULL);
    sched_kick(s);
    return 0;
}

static int prune_bookmarks(struct sched *s, struct err *err)
{
    auto_dbc *c = NULL;
    int64_t removed;
    if (db_write(s->env.db, &c, err) < 0 || bookmark_prune(c, clock_wall_us(), &removed, err) < 0)
        return -1;
    return removed > 0 ? db_commit(c, err) : 0;
}

int intent_sweep_ended(struct sched *s, struct err *err)
{
    static const struct {
        list_fn find;
        const char *method, *why;
    } SWEEPS[] = {
        { branch_list_expired, "ttl", "a branch has expired" },
        { branch_list_unheld, NULL, "a place that no bookmark holds any more" },
        { branch_list_purgeable, NULL, "a deleted branch goes for good" },
    };
    if (prune_bookmarks(s, err) < 0)
        return -1;
    for (size_t i = 0; i < N_ELEMENTS(SWEEPS); i++)
        for (size_t n = SWEEP_LIMIT; n == SWEEP_LIMIT;)
            if (sweep_some(s, SWEEPS[i].find, SWEEPS[i].method, SWEEPS[i].why, &n, err) < 0)
                return -1;
    return 0;
}
