/*
 * job_finalize.c - a restored branch takes the place of another one
 *
 * Rows only: nothing on disk moves.  Both branches stand still; then names, endpoints, schedule and the place
 * as default change hands in one transaction, on the loop thread, which owns the computes.
 */
#include "scheduler/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "meta/schedule.h"

#include <stdio.h>
#include <string.h>

static int swap(struct dbc *c, const struct op *op, struct branch *b, struct branch *target, struct err *err)
{
    int64_t now = clock_wall_us();
    const char *name = target->name;
    bool was_default = target->is_default;
    target->name = op->row.args;
    b->name = name;
    b->restore_status = "finalized";
    b->updated_at = target->updated_at = now;
    /* An endpoint is unique on its branch at every moment: the snapshot between the two is a place to wait.
     */
    if (branch_update(c, target, err) < 0 || branch_update(c, b, err) < 0 ||
        endpoint_move_all(c, b->id, b->parent_id, now, err) < 0 ||
        endpoint_move_all(c, target->id, b->id, now, err) < 0 ||
        endpoint_move_all(c, b->parent_id, target->id, now, err) < 0 ||
        schedule_move(c, target->id, b->id, err) < 0)
        return -1;
    return was_default ? branch_set_default(c, b->project_id, b->id, now, err) : 0;
}

/* Computes in memory learn where they belong now. */
static void tell_computes(struct op *op, struct arena *a, const char *branch_id)
{
    struct err err = ERR_INIT;
    auto_dbc *db = NULL;
    struct endpoint *list;
    size_t n;
    if (db_read(op->s->env.db, &db, &err) < 0 ||
        endpoint_list(db, a, NULL, branch_id, true, &list, &n, &err) < 0) {
        log_event(LOG_ERROR, "ops", "cannot read endpoints", "br", branch_id, "error", err.msg, NULL);
        return;
    }
    db_end(&db);
    for (size_t i = 0; i < n; i++) {
        struct compute *c = compute_find(op->s, list[i].id);
        if (c)
            snprintf(c->branch_id, sizeof(c->branch_id), "%s", branch_id);
    }
}

static int read_pair(struct dbc *c, struct op *op, struct branch *b, struct branch *target, struct err *err)
{
    if (branch_get_id(c, op->a, op->row.branch_id, b, err) < 0)
        return -1;
    if (!branch_is_seen(b) || !b->restored_as || !b->parent_id)
        return err_set(err, ERR_NOT_FOUND, "the restored branch is gone");
    if (branch_get_id(c, op->a, b->restored_as, target, err) < 0 || !branch_is_seen(target))
        return err_set(err, ERR_NOT_FOUND, "the branch to be replaced is gone; nothing was changed");
    if (target->is_protected)
        return err_set(err, ERR_INVALID, "the branch to be replaced is protected; nothing was changed");
    return 0;
}

static bool is_worked_on(const struct op *op, const char *branch_id)
{
    for (const struct op *o = op->s->ops; o; o = o->next)
        if (o != op && o->tasked && o->row.branch_id && strcmp(o->row.branch_id, branch_id) == 0)
            return true;
    return false;
}

bool job_finalize(struct op *op, struct err *err)
{
    auto_dbc *c = NULL;
    struct branch b, target;
    if (db_read(op->s->env.db, &c, err) < 0 || read_pair(c, op, &b, &target, err) < 0)
        return err->code == ERR_NOT_FOUND || err->code == ERR_INVALID;
    db_end(&c);
    if (b.restore_status && strcmp(b.restore_status, "finalized") == 0)
        return true;
    snprintf(op->parent_id, sizeof(op->parent_id), "%s", target.id);
    op->running = true; /* from here on nobody starts either */
    /* A client that waits is served by what comes after; nobody is refused. */
    bool first = ops_stop_branch(op->s, b.id, NULL), second = ops_stop_branch(op->s, target.id, NULL);
    if (!first || !second || is_worked_on(op, target.id))
        return false;
    if (db_write(op->s->env.db, &c, err) < 0 || read_pair(c, op, &b, &target, err) < 0 ||
        swap(c, op, &b, &target, err) < 0 || db_commit(c, err) < 0)
        return true;
    db_end(&c);
    CRASH_POINT("restore.swapped");
    tell_computes(op, op->a, b.id);
    tell_computes(op, op->a, target.id);
    return true;
}
