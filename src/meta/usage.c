/*
 * usage.c - statements on usage
 *
 * Runs on the thread that borrowed the connection.
 */
#include "meta/usage.h"

#include "meta/row.h"

#define HOURS_KEEP_US (8 * USAGE_DAY_US)   /* 168 hours can be asked for by the hour */
#define DAYS_KEEP_US  (400 * USAGE_DAY_US) /* and a year by the month */

/* ---- time ---- */

static const char SQL_USAGE_BEGIN[] =
    "UPDATE endpoint SET metered_until = :now WHERE id = :id AND metered_until IS NULL";

int usage_begin(struct dbc *c, const char *endpoint_id, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_USAGE_BEGIN, &st, err) < 0)
        return -1;
    bind_text(st, ":id", endpoint_id);
    bind_i64(st, ":now", now_us);
    return stmt_run(c, st, NULL, err);
}

/* From metered_until to now, cut where hours begin. */
static const char SQL_USAGE_NOTE[] =
    "WITH RECURSIVE part (begins, ends) AS ("
    " SELECT metered_until, min(:now, metered_until - metered_until % 3600000000 + 3600000000) FROM endpoint"
    "  WHERE id = :id AND metered_until < :now"
    " UNION ALL SELECT ends, min(:now, ends + 3600000000) FROM part WHERE ends < :now)"
    " INSERT INTO usage (project_id, branch_id, begins_at, is_root, active_us, cu_us)"
    " SELECT e.project_id, shown.id, part.begins - part.begins % 3600000000,"
    "  shown.parent_id IS NULL OR shown.is_root, part.ends - part.begins,"
    "  CAST((part.ends - part.begins) * e.max_cu AS INTEGER)"
    " FROM part JOIN endpoint AS e ON e.id = :id JOIN branch AS b ON b.id = e.branch_id"
    " JOIN branch AS shown ON shown.id = CASE b.kind WHEN 'user' THEN b.id ELSE coalesce(b.parent_id, b.id) "
    "END"
    " WHERE true ON CONFLICT DO UPDATE SET active_us = active_us + excluded.active_us,"
    " cu_us = cu_us + excluded.cu_us";
static const char SQL_USAGE_NOTED[] =
    "UPDATE endpoint SET metered_until = CASE WHEN :ended THEN NULL ELSE :now END"
    " WHERE id = :id AND metered_until IS NOT NULL";

int usage_note(struct dbc *c, const char *endpoint_id, int64_t now_us, bool ended, struct err *err)
{
    auto_stmt *add = NULL, *noted = NULL;
    if (stmt_get(c, SQL_USAGE_NOTE, &add, err) < 0 || stmt_get(c, SQL_USAGE_NOTED, &noted, err) < 0)
        return -1;
    bind_text(add, ":id", endpoint_id);
    bind_i64(add, ":now", now_us);
    bind_text(noted, ":id", endpoint_id);
    bind_i64(noted, ":now", now_us);
    bind_i64(noted, ":ended", ended);
    return stmt_run(c, add, NULL, err) < 0 ? -1 : stmt_run(c, noted, NULL, err);
}

static const char SQL_USAGE_FORGET[] =
    "UPDATE endpoint SET metered_until = NULL WHERE id = :id AND metered_until IS NOT NULL";

int usage_forget(struct dbc *c, const char *endpoint_id, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_USAGE_FORGET, &st, err) < 0)
        return -1;
    bind_text(st, ":id", endpoint_id);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_USAGE_DUE[] =
    "SELECT id FROM endpoint WHERE metered_until < :before ORDER BY metered_until LIMIT 1";

int usage_find_due(struct dbc *c, struct arena *a, int64_t before_us, const char **ret, struct err *err)
{
    auto_stmt *st = NULL;
    *ret = NULL;
    if (stmt_get(c, SQL_USAGE_DUE, &st, err) < 0)
        return -1;
    bind_i64(st, ":before", before_us);
    int rc = stmt_step(c, st, err);
    if (rc == 1)
        *ret = arena_strdup(a, (const char *)sqlite3_column_text(st, 0));
    return rc < 0 ? -1 : 0;
}

/* ---- space ---- */

/* Of a root its data is its own; of a child what it does not share. */
static const char SQL_USAGE_SPACE[] =
    "INSERT INTO usage (project_id, branch_id, begins_at, is_root, data_bytes, history_bytes)"
    " SELECT b.project_id, b.id, :hour, b.parent_id IS NULL OR b.is_root,"
    "  CASE WHEN b.parent_id IS NULL OR b.is_root THEN s.logical_bytes ELSE s.own_bytes END, s.history_bytes"
    " FROM branch_size AS s JOIN branch AS b ON b.id = s.branch_id"
    " WHERE b.kind = 'user' AND (:branch IS NULL OR b.id = :branch)"
    " ON CONFLICT DO UPDATE SET data_bytes = excluded.data_bytes, history_bytes = excluded.history_bytes"
    " WHERE :branch IS NOT NULL OR (usage.data_bytes = 0 AND usage.history_bytes = 0)";

int usage_note_space(struct dbc *c, const char *branch_id, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_USAGE_SPACE, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":hour", now_us - now_us % USAGE_HOUR_US);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_USAGE_SPACE_DUE[] =
    "SELECT EXISTS (SELECT 1 FROM branch_size) AND NOT EXISTS"
    " (SELECT 1 FROM instance WHERE key = 'usage_hour' AND CAST(value AS INTEGER) >= :hour)";

int usage_space_is_due(struct dbc *c, int64_t now_us, bool *ret, struct err *err)
{
    auto_stmt *st = NULL;
    int64_t due;
    if (stmt_get(c, SQL_USAGE_SPACE_DUE, &st, err) < 0)
        return -1;
    bind_i64(st, ":hour", now_us - now_us % USAGE_HOUR_US);
    if (stmt_number(c, st, &due, err) < 0)
        return -1;
    *ret = due != 0;
    return 0;
}

/* ---- age ---- */

static const char SQL_USAGE_FOLD[] =
    "INSERT INTO usage (project_id, branch_id, begins_at, is_root, active_us, cu_us, data_bytes, "
    "history_bytes)"
    " SELECT project_id, branch_id, begins_at - begins_at % 86400000000, max(is_root), sum(active_us), "
    "sum(cu_us),"
    "  sum(data_bytes), sum(history_bytes) FROM usage"
    " WHERE begins_at < :before AND begins_at % 86400000000 <> 0 GROUP BY 1, 2, 3"
    " ON CONFLICT DO UPDATE SET active_us = active_us + excluded.active_us, cu_us = cu_us + excluded.cu_us,"
    " data_bytes = data_bytes + excluded.data_bytes, history_bytes = history_bytes + excluded.history_bytes";
static const char SQL_USAGE_FOLDED[] =
    "DELETE FROM usage WHERE begins_at < :before AND begins_at % 86400000000 <> 0";
static const char SQL_USAGE_PRUNE[] = "DELETE FROM usage WHERE begins_at < :before";

int usage_fold(struct dbc *c, int64_t now_us, struct err *err)
{
    static const struct {
        const char *sql;
        int64_t keep_us;
    } STEPS[] = {
        { SQL_USAGE_FOLD, HOURS_KEEP_US },
        { SQL_USAGE_FOLDED, HOURS_KEEP_US },
        { SQL_USAGE_PRUNE, DAYS_KEEP_US },
    };
    int64_t today = now_us - now_us % USAGE_DAY_US;
    for (size_t i = 0; i < N_ELEMENTS(STEPS); i++) {
        auto_stmt *st = NULL;
        if (stmt_get(c, STEPS[i].sql, &st, err) < 0)
            return -1;
        bind_i64(st, ":before", today - STEPS[i].keep_us); /* whole days */
        if (stmt_run(c, st, NULL, err) < 0)
            return -1;
    }
    auto_free char *hour = xasprintf("%lld", (long long)(now_us - now_us % USAGE_HOUR_US));
    return instance_set(c, "usage_hour", hour, err);
}

/* ---- reading ---- */

static const struct field USAGE[] = {
    FIELD(usage, project_id, F_STR, 0, 0),  FIELD(usage, branch_id, F_STR, 0, 0),
    FIELD(usage, begins_at, F_TIME, 0, 0),  FIELD(usage, active_us, F_I64, 0, 0),
    FIELD(usage, cu_us, F_I64, 0, 0),       FIELD(usage, root_bytes, F_I64, 0, 0),
    FIELD(usage, child_bytes, F_I64, 0, 0), FIELD(usage, history_bytes, F_I64, 0, 0),
};

static const struct noun USAGE_NOUN = {
    .name = "usage",
    .fields = USAGE,
    .n_fields = N_ELEMENTS(USAGE),
    .size = sizeof(struct usage),
};

#define IN_RANGE                                                                                             \
    "u.begins_at >= :from AND u.begins_at < :to"                                                             \
    " AND (:ids IS NULL OR u.project_id IN (SELECT value FROM json_each(:ids)))"
#define FRAME                                                                                                \
    "CASE :granularity WHEN 'hourly' THEN u.begins_at WHEN 'daily' THEN u.begins_at - u.begins_at % "        \
    "86400000000"                                                                                            \
    " ELSE CAST(strftime('%s', u.begins_at / 1000000, 'unixepoch', 'start of month') AS INTEGER) * 1000000 " \
    "END"
#define SUMS                                                                                                 \
    "sum(u.active_us) AS active_us, sum(u.cu_us) AS cu_us, sum(iif(u.is_root, u.data_bytes, 0)) AS "         \
    "root_bytes,"                                                                                            \
    " sum(iif(u.is_root, 0, u.data_bytes)) AS child_bytes, sum(u.history_bytes) AS history_bytes"
#define LIST(what, branch)                                                                                   \
    "SELECT u.project_id, " branch " AS branch_id, " FRAME " AS begins_at, " SUMS                            \
    " FROM usage AS u WHERE " IN_RANGE " AND u." what " IN (SELECT DISTINCT " what                           \
    " FROM usage AS u WHERE " IN_RANGE "  AND (:after IS NULL OR u." what " > :after) ORDER BY " what        \
    " LIMIT :limit)"                                                                                         \
    " GROUP BY u." what ", 3 ORDER BY u." what ", 3"

static const char SQL_USAGE_LIST[] = LIST("project_id", "NULL");
static const char SQL_USAGE_LIST_BRANCHES[] = LIST("branch_id", "u.branch_id");

int usage_list(struct dbc *c, struct arena *a, const struct usage_query *q, struct usage **ret, size_t *ret_n,
               const char **ret_last, struct err *err)
{
    auto_stmt *st = NULL;
    *ret_last = NULL;
    if (stmt_get(c, q->by_branch ? SQL_USAGE_LIST_BRANCHES : SQL_USAGE_LIST, &st, err) < 0)
        return -1;
    bind_i64(st, ":from", q->from_us);
    bind_i64(st, ":to", q->to_us);
    bind_text(st, ":granularity", q->granularity);
    bind_text(st, ":ids", q->project_ids);
    bind_text(st, ":after", q->after);
    bind_i64(st, ":limit", q->limit);
    *ret = row_list(c, st, &USAGE_NOUN, a, ret_n, err);
    if (*ret == NULL)
        return -1;
    if (*ret_n > 0)
        *ret_last = q->by_branch ? (*ret)[*ret_n - 1].branch_id : (*ret)[*ret_n - 1].project_id;
    return 0;
}
