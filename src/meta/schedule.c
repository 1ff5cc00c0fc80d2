/*
 * schedule.c - statements on backup schedules, and what an entry may say
 *
 * Runs on the thread that borrowed the connection.
 */
#include "meta/schedule.h"

#include "meta/row.h"

#include <stdio.h>

#define ENTRIES_MAX     16
#define RETENTION_MIN_S 3600
#define RETENTION_MAX_S ((int64_t)3650 * 86400)

/* ---- entries ---- */

static const struct field ENTRY[] = {
    FIELD(schedule_entry, frequency, F_STR, F_REQUIRED, 16),
    FIELD_RANGE(schedule_entry, hour, F_I64, F_OPTVAL, 0, 23),
    FIELD_RANGE(schedule_entry, day, F_I64, F_OPTVAL, 1, 31),
    FIELD_RANGE(schedule_entry, month, F_I64, F_OPTVAL, 1, 12),
    FIELD_RANGE(schedule_entry, retention_seconds, F_I64, F_OPTVAL, RETENTION_MIN_S, RETENTION_MAX_S),
};

static const struct frequency {
    const char *name;
    bool hour, day, month; /* what it may say */
} FREQUENCIES[] = {
    { "hourly", false, false, false }, { "daily", true, false, false }, { "weekly", true, true, false },
    { "monthly", true, true, false },  { "yearly", true, true, true },
};

static int bad_entry(const char *pointer, const char *member, const char *what, struct err *err)
{
    char where[128];
    snprintf(where, sizeof(where), "%s/%s", pointer, member);
    return err_field(err, ERR_INVALID, where, "%s %s", member, what);
}

static int check_entry(const struct schedule_entry *e, const char *pointer, struct err *err)
{
    const struct frequency *f = NULL;
    for (size_t i = 0; i < N_ELEMENTS(FREQUENCIES); i++)
        if (strcmp(FREQUENCIES[i].name, e->frequency) == 0)
            f = &FREQUENCIES[i];
    if (!f)
        return bad_entry(pointer, "frequency", "must be hourly, daily, weekly, monthly or yearly", err);
    if (e->hour != SCHEDULE_UNSET && !f->hour)
        return bad_entry(pointer, "hour", "has no meaning for this frequency", err);
    if (e->day != SCHEDULE_UNSET && !f->day)
        return bad_entry(pointer, "day", "has no meaning for this frequency", err);
    if (e->month != SCHEDULE_UNSET && !f->month)
        return bad_entry(pointer, "month", "has no meaning for this frequency", err);
    if (strcmp(f->name, "weekly") == 0 && e->day > 7)
        return bad_entry(pointer, "day", "must be 1 (Monday) to 7 for weekly", err);
    return 0;
}

int schedule_parse(struct arena *a, json_t *entries, const char *pointer, struct schedule_entry **ret,
                   size_t *ret_n, struct err *err)
{
    json_t *one;
    size_t i;
    if (!json_is_array(entries) || json_array_size(entries) > ENTRIES_MAX)
        return err_field(err, ERR_INVALID, pointer, "a schedule must be an array of at most %d entries",
                         ENTRIES_MAX);
    *ret_n = json_array_size(entries);
    *ret = arena_alloc(a, (*ret_n + 1) * sizeof(**ret));
    json_array_foreach(entries, i, one)
    {
        char where[96];
        snprintf(where, sizeof(where), "%s/%zu", pointer, i);
        (*ret)[i] = (struct schedule_entry){ .hour = SCHEDULE_UNSET,
                                             .day = SCHEDULE_UNSET,
                                             .month = SCHEDULE_UNSET,
                                             .retention_seconds = SCHEDULE_UNSET };
        if (!json_is_object(one))
            return err_field(err, ERR_INVALID, where, "an entry of a schedule must be an object");
        if (fields_from_json(ENTRY, N_ELEMENTS(ENTRY), one, where, a, &(*ret)[i], NULL, err) < 0 ||
            check_entry(&(*ret)[i], where, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- rows ---- */

static const struct field SCHEDULE[] = {
    FIELD(schedule, branch_id, F_STR, 0, 0),
    FIELD(schedule, entries, F_JSON, 0, 0),
    FIELD(schedule, done_until, F_TIME, 0, 0),
};
#define COLUMNS "branch_id, entries, done_until"

static const struct noun SCHEDULE_NOUN = {
    .name = "backup schedule",
    .fields = SCHEDULE,
    .n_fields = N_ELEMENTS(SCHEDULE),
    .size = sizeof(struct schedule),
};

static const char SQL_SCHEDULE_FIND[] = "SELECT " COLUMNS " FROM backup_schedule WHERE branch_id = :branch";

int schedule_find(struct dbc *c, struct arena *a, const char *branch_id, struct schedule *ret,
                  bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_SCHEDULE_FIND, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    int rc = row_find(c, st, &SCHEDULE_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_SCHEDULE_LIST[] =
    "SELECT " COLUMNS " FROM backup_schedule WHERE branch_id IN (SELECT id FROM branch WHERE " BRANCH_SEEN
    " AND state = 'ready') ORDER BY branch_id";

int schedule_list(struct dbc *c, struct arena *a, struct schedule **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_SCHEDULE_LIST, &st, err) < 0)
        return -1;
    *ret = row_list(c, st, &SCHEDULE_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_SCHEDULE_PUT[] =
    "INSERT INTO backup_schedule (" COLUMNS ") VALUES (:branch_id, :entries, :done_until)"
    " ON CONFLICT (branch_id) DO UPDATE SET entries = :entries, done_until = :done_until";

int schedule_put(struct dbc *c, const struct schedule *s, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_SCHEDULE_PUT, &st, err) < 0)
        return -1;
    bind_struct(st, &SCHEDULE_NOUN, s);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_SCHEDULE_SET_DONE[] =
    "UPDATE backup_schedule SET done_until = :until WHERE branch_id = :branch";

int schedule_set_done(struct dbc *c, const char *branch_id, int64_t done_until, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_SCHEDULE_SET_DONE, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    bind_i64(st, ":until", done_until);
    return stmt_change(c, st, &SCHEDULE_NOUN, err);
}

static const char SQL_SCHEDULE_DELETE[] = "DELETE FROM backup_schedule WHERE branch_id = :branch";

int schedule_delete(struct dbc *c, const char *branch_id, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_SCHEDULE_DELETE, &st, err) < 0)
        return -1;
    bind_text(st, ":branch", branch_id);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_SCHEDULE_MOVE[] =
    "UPDATE backup_schedule SET branch_id = :to WHERE branch_id = :from AND NOT EXISTS"
    " (SELECT 1 FROM backup_schedule WHERE branch_id = :to)";

int schedule_move(struct dbc *c, const char *from_branch, const char *to_branch, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_SCHEDULE_MOVE, &st, err) < 0)
        return -1;
    bind_text(st, ":from", from_branch);
    bind_text(st, ":to", to_branch);
    return stmt_run(c, st, NULL, err);
}
