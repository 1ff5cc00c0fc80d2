/*
 * permission.c - statements on permissions
 *
 * Runs on the thread that borrowed the connection.
 */
#include "meta/permission.h"

#include "meta/row.h"

static const struct field PERMISSION[] = {
    FIELD(permission, id, F_STR, 0, 0),
    FIELD(permission, project_id, F_STR, 0, 0),
    FIELD(permission, granted_to_email, F_STR, 0, 0),
    FIELD(permission, granted_at, F_TIME, 0, 0),
};
#define COLUMNS "id, project_id, granted_to_email, granted_at"

static const struct noun PERMISSION_NOUN = {
    .name = "permission",
    .fields = PERMISSION,
    .n_fields = N_ELEMENTS(PERMISSION),
    .size = sizeof(struct permission),
};

static const char SQL_PERMISSION_LIST[] =
    "SELECT " COLUMNS " FROM project_permission WHERE project_id = :project ORDER BY granted_at, id";

int permission_list(struct dbc *c, struct arena *a, const char *project_id, struct permission **ret,
                    size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PERMISSION_LIST, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    *ret = row_list(c, st, &PERMISSION_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_PERMISSION_GET[] =
    "SELECT " COLUMNS " FROM project_permission WHERE project_id = :project AND id = :id";

int permission_get(struct dbc *c, struct arena *a, const char *project_id, const char *id,
                   struct permission *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PERMISSION_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_text(st, ":id", id);
    return row_get(c, st, &PERMISSION_NOUN, a, ret, err);
}

static const char SQL_PERMISSION_INSERT[] =
    "INSERT INTO project_permission (" COLUMNS ") VALUES (:id, :project_id, :granted_to_email, :granted_at)";

int permission_insert(struct dbc *c, const struct permission *p, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PERMISSION_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, &PERMISSION_NOUN, p);
    if (stmt_run(c, st, NULL, err) == 0)
        return 0;
    if (err->code != ERR_CONFLICT)
        return -1;
    return err_field(err, ERR_CONFLICT, "/email",
                     "permission already exists; granted_to_email:\"%s\"; nothing was changed",
                     p->granted_to_email);
}

static const char SQL_PERMISSION_DELETE[] = "DELETE FROM project_permission WHERE id = :id";

int permission_delete(struct dbc *c, const char *id, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PERMISSION_DELETE, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return stmt_change(c, st, &PERMISSION_NOUN, err);
}

static const char SQL_PERMISSION_DELETE_ALL[] = "DELETE FROM project_permission WHERE project_id = :project";

int permission_delete_all(struct dbc *c, const char *project_id, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_PERMISSION_DELETE_ALL, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    return stmt_run(c, st, NULL, err);
}
