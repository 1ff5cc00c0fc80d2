/*
 * job_restore.c - exchanges a stopped branch for what it is restored to
 *
 * One transaction on the loop thread: rows alone say which volume, WAL and images are whose.  Until it
 * commits the branch is as it was.
 */
#include "scheduler/internal.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "scheduler/intent_internal.h"

#include <string.h>

/* What the target was.  Without a name of its own it only stays for what stands on it, and is swept then. */
static struct branch old_state(struct op *op, const struct branch *target, const struct branch *made)
{
    struct branch old = *target;
    bool kept = strcmp(made->name, made->id) != 0;
    old.id = id_branch(op->a);
    old.name = kept ? made->name : old.id;
    old.kind = kept ? "user" : "temporary";
    old.is_default = old.is_protected = false;
    old.annotations = NULL;
    old.expires_at = old.ttl_seconds = 0;
    old.updated_at = old.state_changed_at = clock_wall_us();
    return old;
}

static struct branch new_state(const struct branch *target, const struct branch *made)
{
    struct branch b = *target;
    b.is_root = target->is_root || !target->parent_id;
    b.last_reset_at = b.updated_at = clock_wall_us();
    if (made->expires_at != 0) {
        b.expires_at = made->expires_at;
        b.ttl_seconds = made->ttl_seconds;
    } else if (b.ttl_seconds != 0) {
        b.expires_at = b.last_reset_at + b.ttl_seconds * 1000000;
    }
    return b;
}

/* Up to where the target's history is also that of what it is to become. */
static int common_until(struct dbc *c, struct arena *a, const struct branch *target,
                        const struct branch *made, uint64_t *ret, struct err *err)
{
    struct branch mine = *target;
    for (uint64_t upto = UINT64_MAX;;) {
        struct branch b = *made;
        for (uint64_t theirs = UINT64_MAX; b.parent_id;) {
            theirs = b.parent_lsn < theirs ? b.parent_lsn : theirs;
            if (strcmp(b.parent_id, mine.id) == 0) {
                *ret = theirs < upto ? theirs : upto;
                return 0;
            }
            if (branch_get_id(c, a, b.parent_id, &b, err) < 0)
                return -1;
        }
        *ret = 0;
        if (!mine.parent_id)
            return 0;
        upto = mine.parent_lsn < upto ? mine.parent_lsn : upto;
        if (branch_get_id(c, a, mine.parent_id, &mine, err) < 0)
            return -1;
    }
}

/* Of the old state's bookmarks the branch keeps those that its new history reaches. */
static int exchange_rows(struct op *op, struct dbc *c, struct branch *target, struct branch *made,
                         struct err *err)
{
    struct branch old = old_state(op, target, made), now = new_state(target, made);
    uint64_t shared;
    if (common_until(c, op->a, target, made, &shared, err) < 0 ||
        branch_replace(c, &now, made, &old, err) < 0 ||
        bookmark_move_beyond(c, target->id, shared, strcmp(old.kind, "user") == 0 ? old.id : NULL, err) < 0 ||
        role_copy_all(c, op->a, target->id, old.id, false, old.updated_at, intent_reseal, op->s, err) < 0)
        return -1;
    return role_begin_anew(c, target->id, old.updated_at, err);
}

/* volume_id: of the branch as it stands still. */
static int exchange(struct op *op, const char *volume_id, struct err *err)
{
    struct sched *s = op->s;
    struct branch target, made;
    auto_fd lock_fd = -1;
    int got = fs_lock(env_lock(&s->env, op->a, volume_id), true, &lock_fd, err);
    if (got <= 0)
        return got < 0 ? -1 : err_set(err, ERR_UNAVAILABLE, "processes of the branch are still there");
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || branch_get_id(c, op->a, op->row.branch_id, &target, err) < 0 ||
        branch_get_id(c, op->a, op->row.args, &made, err) < 0)
        return -1;
    if (target.is_protected) /* since it was asked for */
        return err_set(
            err, ERR_PRECONDITION,
            "the branch is protected now; nothing was changed: take the protection off and ask again");
    if (exchange_rows(op, c, &target, &made, err) < 0)
        return -1;
    CRASH_POINT("restore.exchanged");
    if (db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("restore.committed");
    return 0;
}

/* Also of an earlier life of ours: the rows tell what has happened. */
static int read_rows(struct op *op, struct branch *target, struct branch *made, bool *ret_made,
                     struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(op->s->env.db, &c, err) < 0 || branch_get_id(c, op->a, op->row.branch_id, target, err) < 0)
        return -1;
    *ret_made = branch_get_id(c, op->a, op->row.args, made, err) == 0;
    return *ret_made || err->code == ERR_NOT_FOUND ? 0 : -1;
}

static enum verdict end(struct op *op, const char *status, const char *error)
{
    char branch_id[ID_MAX + 1];
    struct sched *s = op->s;
    snprintf(branch_id, sizeof(branch_id), "%s", op->row.branch_id);
    ops_finish(op, status, error);
    ops_wake_branch(s, branch_id);
    return DONE;
}

enum verdict job_restore_look(struct op *op)
{
    struct branch target, made;
    struct err err = ERR_INIT;
    bool there;
    if (read_rows(op, &target, &made, &there, &err) < 0)
        return end(op, "failed", err.msg);
    if (strcmp(target.volume_id, op->row.args) == 0)
        return end(op, "finished", NULL);
    if (!there)
        return end(op, "failed", "the state to restore to could not be made");
    if (!branch_is_seen(&target))
        return end(op, "cancelled", "the branch is being deleted");
    if (strcmp(made.state, "init") == 0)
        return WAIT;
    op->running = true; /* from here on nobody starts it */
    if (!ops_stop_branch(op->s, target.id, NULL) || ops_forked_from(op->s, target.id))
        return WAIT;
    if (exchange(op, target.volume_id, &err) == 0)
        return end(op, "finished", NULL);
    log_event(LOG_WARN, "restore", "not restored", "br", target.id, "error", err.msg, "detail", err.detail,
              NULL);
    if (err_retryable(err.code)) {
        ops_retry(op, false);
        op->running = true;
        return WAIT;
    }
    return end(op, "failed", err.msg);
}
