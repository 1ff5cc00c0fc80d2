/*
 * keep.c - snapshots, their schedules, and bookmarks
 */
#include "body.h"

static const struct cli_column SNAPSHOT[] = {
    { "ID", "id" },         { "NAME", "name" },          { "BRANCH", "source_branch_id" },
    { "LSN", "lsn" },       { "CREATED", "created_at" }, { "EXPIRES", "expires_at" },
    { "MANUAL", "manual" },
};

static const struct cli_column BOOKMARK[] = {
    { "NAME", "name" }, { "LSN", "lsn" },         { "TIME", "timestamp" },
    { "HELD", "hold" }, { "EXPIRED", "expired" }, { "EXPIRES", "expires_at" },
};

static const struct cli_column SCHEDULE[] = {
    { "EVERY", "frequency" },
    { "HOUR", "hour" },
    { "DAY", "day" },
    { "MONTH", "month" },
    { "KEPT FOR (S)", "retention_seconds" },
};

static const struct cli_column RESTORED[] = {
    { "ID", "id" },
    { "NAME", "name" },
    { "STATE", "current_state" },
    { "FROM", "restored_from" },
};

/* ---- snapshots ---- */

static int snapshots_path(struct cli *c, const char **ret_project, const char **ret_path)
{
    int rc = cli_project(c, NULL, ret_project);

    if (rc == CLI_OK)
        *ret_path = arena_printf(c->arena, "/projects/%s/snapshots", cli_enc(c, *ret_project));
    return rc;
}

int cli_snapshots_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = snapshots_path(c, &project, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "GET", path, NULL, &answer);
    return rc != CLI_OK ? rc : cli_show_list(c, answer, "snapshots", COLUMNS(SNAPSHOT));
}

/* "?name=...&lsn=...", as far as given. */
static const char *snapshot_query(struct cli *c)
{
    const char *at = c->opt[OPT_AT];
    const struct {
        const char *name, *value;
    } ALL[] = {
        { "name", c->opt[OPT_NAME] },
        { at != NULL && strchr(at, '/') != NULL ? "lsn" : "timestamp", at },
        { "expires_at", c->opt[OPT_EXPIRES_AT] },
    };
    const char *query = "";

    for (size_t i = 0; i < N_ELEMENTS(ALL); i++)
        if (ALL[i].value != NULL)
            query = arena_printf(c->arena, "%s%c%s=%s", query, query[0] == '\0' ? '?' : '&', ALL[i].name,
                                 cli_enc(c, ALL[i].value));
    return query;
}

int cli_snapshots_create(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path, *name;
    int rc = cli_project(c, NULL, &project);

    if (rc == CLI_OK)
        rc = cli_branch_path(c, project, c->n_args > 0 ? c->args[0] : NULL, &path, &name);
    if (rc == CLI_OK)
        rc = cli_call(c, "POST", arena_printf(c->arena, "%s/snapshot%s", path, snapshot_query(c)), NULL,
                      &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "snapshot", COLUMNS(SNAPSHOT));
}

int cli_snapshots_restore(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = snapshots_path(c, &project, &path);

    if (c->opt[OPT_NAME] != NULL)
        json_object_set_new(body, "name", json_string(c->opt[OPT_NAME]));
    if (c->opt[OPT_FINALIZE] != NULL)
        json_object_set_new(body, "finalize_restore", json_true());
    if (rc == CLI_OK)
        rc = cli_call(c, "POST", arena_printf(c->arena, "%s/%s/restore", path, cli_enc(c, c->args[0])), body,
                      &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "branch", COLUMNS(RESTORED));
}

int cli_snapshots_delete(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *project, *path;
    int rc = snapshots_path(c, &project, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "DELETE", arena_printf(c->arena, "%s/%s", path, cli_enc(c, c->args[0])), NULL,
                      &answer);
    if (rc == CLI_OK)
        rc = cli_wait(c, project, answer);
    return rc != CLI_OK ? rc : cli_show_deleted(c, answer, "snapshot", c->args[0]);
}

int cli_snapshots_update(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    json_t *snapshot = cli_nested(body, "snapshot");
    const char *project, *path;
    int rc = cli_put_expiry(c, snapshot);

    cli_put(snapshot, "name", c->opt[OPT_NAME]);
    if (rc == CLI_OK && json_object_size(snapshot) == 0)
        rc = cli_fail(CLI_USAGE, "what shall be changed? --name or --expires-at");
    if (rc == CLI_OK)
        rc = snapshots_path(c, &project, &path);
    if (rc == CLI_OK)
        rc = cli_call(c, "PATCH", arena_printf(c->arena, "%s/%s", path, cli_enc(c, c->args[0])), body,
                      &answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "snapshot", COLUMNS(SNAPSHOT));
}

/* ---- schedules of snapshots ---- */

static int schedule_path(struct cli *c, const char **ret)
{
    const char *project, *path, *name;
    int rc = cli_project(c, NULL, &project);

    if (rc == CLI_OK)
        rc = cli_branch_path(c, project, c->n_args > 0 ? c->args[0] : NULL, &path, &name);
    if (rc == CLI_OK)
        *ret = arena_printf(c->arena, "%s/backup_schedule", path);
    return rc;
}

static int show_schedule(struct cli *c, const char *path)
{
    json_auto_t *answer = NULL;
    int rc = cli_call(c, "GET", path, NULL, &answer);

    return rc != CLI_OK ? rc : cli_show_list(c, answer, "schedule", COLUMNS(SCHEDULE));
}

int cli_schedule_get(struct cli *c)
{
    const char *path;
    int rc = schedule_path(c, &path);

    return rc != CLI_OK ? rc : show_schedule(c, path);
}

/* The entry of --every, --hour, --day, --month and --keep. */
static int schedule_entry(struct cli *c, json_t *entry)
{
    int64_t seconds;
    int rc = cli_put_number(entry, "hour", "hour", c->opt[OPT_HOUR], 0, 23);

    if (rc == CLI_OK)
        rc = cli_put_number(entry, "day", "day", c->opt[OPT_DAY], 1, 31);
    if (rc == CLI_OK)
        rc = cli_put_number(entry, "month", "month", c->opt[OPT_MONTH], 1, 12);
    if (rc != CLI_OK)
        return rc;
    cli_put(entry, "frequency", c->opt[OPT_EVERY]);
    if (c->opt[OPT_KEEP] == NULL)
        return CLI_OK;
    if (!cli_duration(c, c->opt[OPT_KEEP], &seconds))
        return cli_fail(CLI_USAGE, "--keep must be a duration like 12h or 7d");
    json_object_set_new(entry, "retention_seconds", json_integer(seconds));
    return CLI_OK;
}

int cli_schedule_set(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *now = NULL;
    json_auto_t *answer = NULL;
    json_auto_t *entry = json_object();
    json_t *schedule = json_array();
    const char *path;
    int rc;

    json_object_set_new(body, "schedule", schedule);
    if (c->opt[OPT_EVERY] == NULL)
        return cli_fail(CLI_USAGE, "how often? --every hourly, daily, weekly, monthly or yearly; or never");
    rc = schedule_entry(c, entry);
    if (rc == CLI_OK)
        rc = schedule_path(c, &path);
    if (rc == CLI_OK && c->opt[OPT_ADD] != NULL)
        rc = cli_call(c, "GET", path, NULL, &now);
    if (rc != CLI_OK)
        return rc;
    if (now != NULL)
        json_array_extend(schedule, json_object_get(now, "schedule"));
    if (strcmp(c->opt[OPT_EVERY], "never") != 0)
        json_array_append(schedule, entry);
    rc = cli_call(c, "PUT", path, body, &answer);
    return rc != CLI_OK ? rc : show_schedule(c, path);
}

/* ---- bookmarks ---- */

static int bookmarks_path(struct cli *c, const char **ret_path)
{
    const char *project, *path, *name;
    int rc = cli_project(c, NULL, &project);

    if (rc == CLI_OK)
        rc = cli_branch_path(c, project, c->opt[OPT_BRANCH], &path, &name);
    if (rc == CLI_OK)
        *ret_path = arena_printf(c->arena, "%s/bookmarks%s%s", path, c->n_args > 0 ? "/" : "",
                                 c->n_args > 0 ? cli_enc(c, c->args[0]) : "");
    return rc;
}

int cli_bookmarks_list(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *path;
    int rc = bookmarks_path(c, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "GET", path, NULL, &answer);
    return rc != CLI_OK ? rc : cli_show_list(c, answer, "bookmarks", COLUMNS(BOOKMARK));
}

int cli_bookmarks_get(struct cli *c)
{
    const char *path;
    int rc = bookmarks_path(c, &path);

    return rc != CLI_OK ? rc : cli_show_now(c, path, "bookmark", COLUMNS(BOOKMARK));
}

int cli_bookmarks_set(struct cli *c)
{
    json_auto_t *body = json_object();
    json_auto_t *answer = NULL;
    const char *path, *at = c->opt[OPT_AT];
    int rc = cli_put_expiry(c, body);

    if (rc == CLI_OK)
        rc = bookmarks_path(c, &path);
    if (at != NULL)
        json_object_set_new(body, strchr(at, '/') != NULL ? "lsn" : "timestamp", json_string(at));
    if (c->opt[OPT_HOLD] != NULL)
        json_object_set_new(body, "hold", json_true());
    if (rc == CLI_OK)
        rc = cli_call(c, "PUT", path, body, &answer);
    return rc != CLI_OK ? rc : cli_show_one(c, answer, "bookmark", COLUMNS(BOOKMARK));
}

int cli_bookmarks_delete(struct cli *c)
{
    json_auto_t *answer = NULL;
    const char *path;
    int rc = bookmarks_path(c, &path);

    if (rc == CLI_OK)
        rc = cli_call(c, "DELETE", path, NULL, &answer);
    return rc != CLI_OK ? rc : cli_show_deleted(c, answer, "bookmark", c->args[0]);
}
