/*
 * archiver.c - whether the WAL of running branches is kept: told in the log once, and in the endpoint's row
 *
 * On the loop thread, from the looks at a compute's activity.
 */
#include "scheduler/internal.h"

#include "base/log.h"

#include <string.h>

static void tell(const struct compute *c, const struct pg_archiver *now)
{
    if (now->failing && !c->archiver.failing)
        log_event(
            LOG_WARN, "archiver",
            "the WAL of a branch cannot be kept, and piles up in its own directory; the log of the endpoint "
            "says why",
            "br", c->branch_id, "ep", c->id, "wal", now->failed_wal, NULL);
    else if (!now->failing && c->archiver.failing)
        log_event(LOG_INFO, "archiver", "the WAL of a branch is kept again", "br", c->branch_id, "ep", c->id,
                  NULL);
}

static int record(const struct compute *c, const struct pg_archiver *now, int64_t backlog, struct err *err)
{
    auto_dbc *db = NULL;
    struct endpoint e = { .id = c->id };
    if (now->failing)
        e = (struct endpoint){ .id = c->id,
                               .archive_failed_wal = now->failed_wal,
                               .archive_failed_at = now->failed_at_us,
                               .archive_failed_count = now->failed_count,
                               .archive_backlog = backlog };
    if (db_write(c->s->env.db, &db, err) < 0 || endpoint_set_archiver(db, &e, err) < 0)
        return -1;
    return db_commit(db, err);
}

void archiver_seen(struct compute *c, const struct pg_archiver *now, int64_t backlog)
{
    struct err err = ERR_INIT;
    bool same =
        now->failing == c->archiver.failing &&
        (!now->failing || (now->failed_count == c->archiver.failed_count && backlog == c->archive_backlog));
    if (same)
        return;
    if (record(c, now, backlog, &err) < 0) {
        log_event(LOG_ERROR, "archiver", "cannot record what is kept", "ep", c->id, "error", err.msg,
                  "detail", err.detail, NULL);
        return; /* told and recorded at the next look */
    }
    tell(c, now);
    c->archiver = *now;
    c->archive_backlog = backlog;
}
