/*
 * intent_bookmark.c - bookmarks: names for places in a branch's history
 *
 * A place is resolved once and kept.  What holds it is a hidden branch, made in the transaction that writes
 * the bookmark; one that no bookmark names any more is swept.
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "base/text.h"

#include <string.h>

#define TTL_MAX_S ((int64_t)7000 * 365 * 86400)

static int check_spec(const char *name, const struct bookmark_spec *spec, struct err *err)
{
    if (!intent_is_plain_name(name))
        return err_set(err, ERR_INVALID,
                       "a bookmark's name is 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first");
    if (spec->lsn != 0 && spec->time_us != 0)
        return err_field(err, ERR_INVALID, "/timestamp", "lsn and timestamp exclude each other");
    if (spec->ttl_seconds != INTENT_UNSET && (spec->ttl_seconds < 0 || spec->ttl_seconds > TTL_MAX_S))
        return err_field(err, ERR_INVALID, "/ttl_seconds",
                         "ttl_seconds must be at least 1, or null for never, and end before the year 9000");
    return 0;
}

/* What is there already: *ret_moves when its place is not the one that is asked for. */
static int look(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                const char *name, const struct bookmark_spec *spec, struct outcome *out, struct bookmark *ret,
                bool *ret_found, bool *ret_moves, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, out, err) < 0)
        return -1;
    *ret_found = bookmark_get(c, a, out->branch.id, name, ret, err) == 0;
    if (!*ret_found && err->code != ERR_NOT_FOUND)
        return -1;
    *ret_moves = !*ret_found || (spec->lsn != 0 && spec->lsn != ret->lsn) ||
                 (spec->time_us != 0 && spec->time_us != ret->timestamp);
    return 0;
}

static int resolve(struct sched *s, struct arena *a, const struct outcome *out,
                   const struct bookmark_spec *spec, struct moment *ret, struct err *err)
{
    if (spec->lsn != 0 || spec->time_us != 0)
        return moment_resolve(s, a, &out->branch, spec->lsn, spec->time_us,
                              spec->lsn != 0 ? "/lsn" : "/timestamp", ret, err);
    return moment_head(s, a, &out->branch, ret, err);
}

static int hold(struct sched *s, struct dbc *c, struct arena *a, const struct moment *at, struct outcome *out,
                const char *name, const char **ret_id, struct err *err)
{
    struct branch parent = out->branch;
    struct branch_spec spec = { .kind = "snapshot",
                                .made_by = "bookmark",
                                .name = name,
                                .restored_as = parent.id,
                                .is_protected = -1,
                                .expires_at = INTENT_UNSET,
                                .ttl_seconds = INTENT_UNSET };
    bool wait;
    if (intent_insert_child(s, c, a, &parent, &spec, at, out, &wait, err) < 0)
        return -1;
    *ret_id = out->branch.id;
    out->branch = parent;
    return 0;
}

int intent_bookmark_put(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                        const char *name, const struct bookmark_spec *spec, struct bookmark *ret,
                        bool *ret_created, struct err *err)
{
    struct outcome out = { 0 };
    struct bookmark was = { 0 };
    struct moment at;
    bool found, moves;
    int64_t now = clock_wall_us();
    auto_moment *keep UNUSED = moment_hold(s); /* what was resolved stays until it is written */
    if (check_spec(name, spec, err) < 0 ||
        look(s, a, project_id, branch, name, spec, &out, &was, &found, &moves, err) < 0)
        return -1;
    struct bookmark_spec place = *spec;
    bool take = spec->hold == 1 && (moves || !was.hold_id);
    if (!moves)
        place = (struct bookmark_spec){ .lsn = was.lsn };
    if ((moves || take) && (sched_space(s, err) < 0 || resolve(s, a, &out, &place, &at, err) < 0))
        return -1;
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, out.branch.id, &out, err) < 0)
        return -1;
    *ret_created = !found;
    *ret = (struct bookmark){ .branch_id = out.branch.id,
                              .name = name,
                              .lsn = moves ? at.lsn : was.lsn,
                              .timestamp = moves ? at.time_us : was.timestamp,
                              .hold_id = moves || spec->hold == 0 ? NULL : was.hold_id,
                              .expires_at = was.expires_at,
                              .created_at = found ? was.created_at : now,
                              .updated_at = now };
    if (spec->ttl_seconds != INTENT_UNSET)
        ret->expires_at = spec->ttl_seconds ? now + spec->ttl_seconds * 1000000 : 0;
    if ((take && hold(s, c, a, &at, &out, name, &ret->hold_id, err) < 0) || bookmark_put(c, ret, err) < 0 ||
        db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("bookmark.put");
    return 0;
}

int intent_bookmark_delete(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                           const char *name, struct bookmark *ret, struct err *err)
{
    struct outcome out = { 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, branch, &out, err) < 0 ||
        bookmark_get(c, a, out.branch.id, name, ret, err) < 0 ||
        bookmark_delete(c, out.branch.id, name, err) < 0 || db_commit(c, err) < 0)
        return -1;
    CRASH_POINT("bookmark.deleted");
    return 0;
}
