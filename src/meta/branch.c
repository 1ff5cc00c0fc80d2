/*
 * branch.c - statements on branches
 *
 * Runs on the thread that borrowed the connection.
 */
#include "meta/branch.h"

#include "base/clock.h"
#include "meta/row.h"

static const struct field BRANCH[] = {
    FIELD(branch, id, F_STR, 0, 0),
    FIELD(branch, project_id, F_STR, 0, 0),
    FIELD(branch, name, F_STR, 0, 0),
    FIELD(branch, kind, F_STR, 0, 0),
    FIELD(branch, state, F_STR, 0, 0),
    FIELD(branch, parent_id, F_STR, 0, 0),
    FIELD(branch, parent_lsn, F_LSN, 0, 0),
    FIELD(branch, parent_timestamp, F_TIME, 0, 0),
    FIELD(branch, is_default, F_BOOL, 0, 0),
    FIELD(branch, is_protected, F_BOOL, 0, 0),
    FIELD(branch, is_root, F_BOOL, 0, 0),
    FIELD(branch, init_source, F_STR, 0, 0),
    FIELD(branch, durability, F_STR, 0, 0),
    FIELD(branch, image_id, F_STR, 0, 0),
    FIELD(branch, volume, F_STR, 0, 0),
    FIELD(branch, volume_id, F_STR, 0, 0),
    FIELD(branch, fork_tli, F_I64, 0, 0),
    FIELD(branch, fork_lsn, F_LSN, 0, 0),
    FIELD(branch, tli, F_I64, 0, 0),
    FIELD(branch, head_lsn, F_LSN, 0, 0),
    FIELD(branch, history_from, F_LSN, 0, 0),
    FIELD(branch, begins_lsn, F_LSN, 0, 0),
    FIELD(branch, boot_id, F_STR, 0, 0),
    FIELD(branch, annotations, F_JSON, 0, 0),
    FIELD(branch, spec, F_JSON, 0, 0),
    FIELD(branch, expires_at, F_TIME, 0, 0),
    FIELD(branch, ttl_seconds, F_I64, 0, 0),
    FIELD(branch, last_reset_at, F_TIME, 0, 0),
    FIELD(branch, deleted_at, F_TIME, 0, 0),
    FIELD(branch, recoverable_until, F_TIME, 0, 0),
    FIELD(branch, deletion_method, F_STR, 0, 0),
    FIELD(branch, made_by, F_STR, 0, 0),
    FIELD(branch, restored_from, F_STR, 0, 0),
    FIELD(branch, restored_as, F_STR, 0, 0),
    FIELD(branch, restore_status, F_STR, 0, 0),
    FIELD(branch, state_changed_at, F_TIME, 0, 0),
    FIELD(branch, created_at, F_TIME, 0, 0),
    FIELD(branch, updated_at, F_TIME, 0, 0),
    FIELD(branch, shown_parent_id, F_STR, 0, 0),
};
#define STORED                                                                                               \
    "id, project_id, name, kind, state, parent_id, parent_lsn, parent_timestamp, is_default, is_protected, " \
    "is_root, init_source, durability, image_id, volume, volume_id, fork_tli, fork_lsn, tli, head_lsn, "     \
    "history_from, begins_lsn, boot_id, annotations, spec, expires_at, ttl_seconds, last_reset_at, "         \
    "deleted_at, recoverable_until, "                                                                        \
    "deletion_method, made_by, restored_from, restored_as, restore_status, state_changed_at, created_at, "   \
    "updated_at"
/* A snapshot stands between a branch and what users know as its parent: that which it is of. */
#define COLUMNS                                                                                              \
    STORED ", (SELECT p.id FROM branch AS p WHERE p.id = CASE branch.kind WHEN 'snapshot'"                   \
           " THEN branch.restored_as ELSE coalesce((SELECT h.restored_as FROM branch AS h WHERE h.id ="      \
           " branch.parent_id AND h.kind = 'snapshot'), branch.parent_id) END"                               \
           " AND p.kind = 'user' AND p.state NOT IN ('deleted', 'deleting') AND NOT branch.is_root)"         \
           " AS shown_parent_id"

static const struct noun BRANCH_NOUN = {
    .name = "branch",
    .fields = BRANCH,
    .n_fields = N_ELEMENTS(BRANCH),
    .size = sizeof(struct branch),
};

bool branch_is_seen(const struct branch *b)
{
    return strcmp(b->kind, "user") == 0 && strcmp(b->state, "deleted") != 0 &&
           strcmp(b->state, "deleting") != 0;
}

bool branch_has_expired(const struct branch *b, int64_t now_us)
{
    return b->expires_at != 0 && b->expires_at <= now_us;
}

bool branch_awaits_emptying(const struct branch *b)
{
    return b->init_source && b->begins_lsn == 0;
}

bool branch_keeps_rows(const struct branch *parent, uint64_t lsn)
{
    return !parent->init_source || (parent->begins_lsn != 0 && lsn >= parent->begins_lsn);
}

/* An id wins over a name.  Two lookups: with OR, SQLite reads all branches of the project. */
static const char SQL_BRANCH_GET[] =
    "SELECT " COLUMNS " FROM branch WHERE id = coalesce("
    "(SELECT id FROM branch WHERE id = :ref AND project_id = :project AND " BRANCH_SEEN "),"
    " (SELECT id FROM branch WHERE name = :ref AND project_id = :project AND " BRANCH_SEEN "))";

int branch_get(struct dbc *c, struct arena *a, const char *project_id, const char *ref, struct branch *ret,
               struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_text(st, ":ref", ref);
    int rc = row_find(c, st, &BRANCH_NOUN, a, ret, err);
    if (rc == 0)
        return err_set(err, ERR_NOT_FOUND, "branch not found: \"%.256s\"", ref);
    if (rc == 1 && branch_has_expired(ret, clock_wall_us()))
        return err_set(err, ERR_NOT_FOUND, "branch not found: \"%.256s\" has expired and is being deleted",
                       ref);
    return rc < 0 ? -1 : 0;
}

static const char SQL_BRANCH_NAME_IS_TAKEN[] =
    "SELECT 1 FROM branch WHERE name = :name AND project_id = :project AND " BRANCH_SEEN;

int branch_name_is_taken(struct dbc *c, const char *project_id, const char *name, bool *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_NAME_IS_TAKEN, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_text(st, ":name", name);
    int rc = stmt_step(c, st, err);
    *ret = rc > 0;
    return rc < 0 ? -1 : 0;
}

/* Of a name, the latest comes first. */
static const char SQL_BRANCH_GET_DELETED[] =
    "SELECT " COLUMNS " FROM branch WHERE project_id = :project AND (id = :ref OR name = :ref)"
    " AND kind = 'user' AND state = 'deleted' AND recoverable_until > :now"
    " ORDER BY id = :ref DESC, deleted_at DESC LIMIT 2";

int branch_get_deleted(struct dbc *c, struct arena *a, const char *project_id, const char *ref,
                       int64_t now_us, struct branch *ret, struct err *err)
{
    auto_stmt *st = NULL;
    size_t n;
    if (stmt_get(c, SQL_BRANCH_GET_DELETED, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_text(st, ":ref", ref);
    bind_i64(st, ":now", now_us);
    struct branch *list = row_list(c, st, &BRANCH_NOUN, a, &n, err);
    if (!list)
        return -1;
    if (n == 0)
        return err_set(err, ERR_NOT_FOUND, "branch not found: no deleted branch \"%.256s\" can be recovered",
                       ref);
    if (n > 1 && strcmp(list[0].id, ref) != 0)
        return err_set(err, ERR_CONFLICT,
                       "several deleted branches were called \"%.256s\"; recover one by its id "
                       "(include_deleted=true lists them)",
                       ref);
    *ret = list[0];
    return 0;
}

static const char SQL_BRANCH_GET_ID[] = "SELECT " COLUMNS " FROM branch WHERE id = :id";

int branch_get_id(struct dbc *c, struct arena *a, const char *id, struct branch *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_GET_ID, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return row_get(c, st, &BRANCH_NOUN, a, ret, err);
}

static const char SQL_BRANCH_GET_DEFAULT[] =
    "SELECT " COLUMNS " FROM branch WHERE project_id = :project AND is_default = 1 AND " BRANCH_SEEN;

int branch_get_default(struct dbc *c, struct arena *a, const char *project_id, struct branch *ret,
                       struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_GET_DEFAULT, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    return row_get(c, st, &BRANCH_NOUN, a, ret, err);
}

static const char SQL_BRANCH_FIND_NAME[] =
    "SELECT " COLUMNS " FROM branch WHERE name = :name AND " BRANCH_SEEN
    " AND (expires_at IS NULL OR expires_at > :now) ORDER BY project_id";

int branch_find_name(struct dbc *c, struct arena *a, const char *name, struct branch **ret, size_t *ret_n,
                     struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_FIND_NAME, &st, err) < 0)
        return -1;
    bind_text(st, ":name", name);
    bind_i64(st, ":now", clock_wall_us());
    *ret = row_list(c, st, &BRANCH_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

#define LIST_WHERE                                                                                           \
    " FROM branch WHERE project_id = :project AND (" BRANCH_SEEN                                             \
    " OR (:deleted_at > 0 AND kind = 'user' AND state = 'deleted' AND recoverable_until > :deleted_at))"     \
    " AND (:search IS NULL OR id = :search OR instr(lower(name), lower(:search)) > 0) AND (:name IS NULL "   \
    "OR name = :name) AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(branch.annotations) AS label"   \
    " WHERE label.key = :label AND label.value = :label_value))"

#define LIST_BY(column, after, direction)                                                                    \
    "SELECT " COLUMNS LIST_WHERE " AND (:after IS NULL OR (" column ", id) " after                           \
    " (:key, :after)) ORDER BY " column " " direction ", id " direction " LIMIT :limit"

struct order {
    const char *sort_by;
    bool ascending;
    bool by_text;
    const char *cursor; /* what its cursors begin with: the order, too, is part of the place */
    const char *sql;
};

static const struct order ORDERS[] = {
    { "updated_at", false, false, "-updated_at", LIST_BY("updated_at", "<", "DESC") },
    { "updated_at", true, false, "updated_at", LIST_BY("updated_at", ">", "ASC") },
    { "created_at", false, false, "-created_at", LIST_BY("created_at", "<", "DESC") },
    { "created_at", true, false, "created_at", LIST_BY("created_at", ">", "ASC") },
    { "name", false, true, "-name", LIST_BY("name", "<", "DESC") },
    { "name", true, true, "name", LIST_BY("name", ">", "ASC") },
};

static const struct order *find_order(const struct page *page)
{
    const char *sort_by = page->sort_by ? page->sort_by : "updated_at";
    for (size_t i = 0; i < N_ELEMENTS(ORDERS); i++)
        if (strcmp(ORDERS[i].sort_by, sort_by) == 0 && ORDERS[i].ascending == page->ascending)
            return &ORDERS[i];
    return NULL;
}

static int cursor_after(struct arena *a, const struct order *o, const struct branch *b, const char **ret,
                        struct err *err)
{
    if (o->by_text)
        return cursor_make(a, o->cursor, b->name, b->id, ret, err);
    return cursor_make_i64(
        a, o->cursor, strcmp(o->sort_by, "created_at") == 0 ? b->created_at : b->updated_at, b->id, ret, err);
}

/* Begins after the cursor, or at the start. */
static int bind_place(sqlite3_stmt *st, struct arena *a, const struct order *o, const char *cursor,
                      struct err *err)
{
    const char *id = NULL, *text = NULL;
    int64_t key = 0;
    if (cursor && o->by_text && cursor_parse(a, cursor, o->cursor, &text, &id, err) < 0)
        return -1;
    if (cursor && !o->by_text && cursor_parse_i64(a, cursor, o->cursor, &key, &id, err) < 0)
        return -1;
    if (o->by_text)
        bind_text(st, ":key", text);
    else
        bind_i64(st, ":key", key);
    bind_text(st, ":after", id);
    return 0;
}

int branch_list(struct dbc *c, struct arena *a, const char *project_id, struct page *page,
                struct branch **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    const struct order *o = find_order(page);
    if (!o)
        return err_set(err, ERR_BAD_REQUEST, "sort_by must be name, created_at or updated_at");
    if (stmt_get(c, o->sql, &st, err) < 0 || bind_place(st, a, o, page->cursor, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_i64(st, ":deleted_at", page->deleted ? clock_wall_us() : 0);
    bind_text(st, ":search", page->search);
    bind_text(st, ":name", page->name);
    bind_text(st, ":label", page->label);
    bind_text(st, ":label_value", page->label_value);
    bind_i64(st, ":limit", page->limit > 0 ? page->limit : -1);
    *ret = row_list(c, st, &BRANCH_NOUN, a, ret_n, err);
    page->next = NULL;
    if (*ret == NULL || *ret_n == 0)
        return *ret != NULL ? 0 : -1;
    return cursor_after(a, o, &(*ret)[*ret_n - 1], &page->next, err);
}

#define SNAPSHOTS                                                                                            \
    "SELECT " COLUMNS " FROM branch WHERE kind = 'snapshot' AND made_by <> 'bookmark' AND project_id = "     \
    ":project AND state NOT IN ('deleted', 'deleting') AND (expires_at IS NULL OR expires_at > :now)"
static const char SQL_BRANCH_GET_SNAPSHOT[] = SNAPSHOTS " AND id = :id";
static const char SQL_BRANCH_LIST_SNAPSHOTS[] = SNAPSHOTS " ORDER BY created_at DESC, id";

int branch_get_snapshot(struct dbc *c, struct arena *a, const char *project_id, const char *id,
                        struct branch *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_GET_SNAPSHOT, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_text(st, ":id", id);
    bind_i64(st, ":now", clock_wall_us());
    int rc = row_find(c, st, &BRANCH_NOUN, a, ret, err);
    if (rc == 0)
        return err_set(err, ERR_NOT_FOUND, "snapshot not found: \"%.80s\"", id);
    return rc < 0 ? -1 : 0;
}

int branch_list_snapshots(struct dbc *c, struct arena *a, const char *project_id, struct branch **ret,
                          size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_LIST_SNAPSHOTS, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_i64(st, ":now", clock_wall_us());
    *ret = row_list(c, st, &BRANCH_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_BRANCH_LIST_ALL[] =
    "SELECT " COLUMNS " FROM branch WHERE project_id = :project ORDER BY created_at, id";

int branch_list_all(struct dbc *c, struct arena *a, const char *project_id, struct branch **ret,
                    size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_LIST_ALL, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    *ret = row_list(c, st, &BRANCH_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_BRANCH_LEFT_OVER[] =
    "SELECT " COLUMNS
    " FROM branch WHERE kind = 'temporary' AND state <> 'deleting' AND (:id IS NULL OR id = :id)"
    " AND NOT EXISTS (SELECT 1 FROM operation AS o WHERE o.status IN ('scheduling', 'running')"
    "  AND (o.branch_id = branch.id OR o.args = branch.id))"
    " AND NOT EXISTS (SELECT 1 FROM branch AS child WHERE child.parent_id = branch.id)"
    " AND NOT EXISTS (SELECT 1 FROM endpoint AS e WHERE e.branch_id = branch.id"
    "  AND (e.desired = 'running' OR e.observed NOT IN ('STOPPED', 'FAILED')))";

int branch_list_left_over(struct dbc *c, struct arena *a, const char *id, struct branch **ret, size_t *ret_n,
                          struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_LEFT_OVER, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    *ret = row_list(c, st, &BRANCH_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const struct field LINE[] = {
    FIELD(branch_line, id, F_STR, 0, 0),           FIELD(branch_line, volume_id, F_STR, 0, 0),
    FIELD(branch_line, parent_id, F_STR, 0, 0),    FIELD(branch_line, parent_lsn, F_LSN, 0, 0),
    FIELD(branch_line, image_id, F_STR, 0, 0),     FIELD(branch_line, volume, F_STR, 0, 0),
    FIELD(branch_line, fork_lsn, F_LSN, 0, 0),     FIELD(branch_line, tli, F_I64, 0, 0),
    FIELD(branch_line, history_from, F_LSN, 0, 0), FIELD(branch_line, retention_seconds, F_I64, 0, 0),
};
static const struct noun LINE_NOUN = {
    .name = "branch",
    .fields = LINE,
    .n_fields = N_ELEMENTS(LINE),
    .size = sizeof(struct branch_line),
};
static const char SQL_BRANCH_LINES[] =
    "SELECT b.id, b.volume_id, b.parent_id, b.parent_lsn, b.image_id, b.volume, b.fork_lsn, b.tli,"
    " b.history_from, CASE WHEN b.state = 'deleted' AND b.recoverable_until <= :now THEN 0"
    "  ELSE p.history_retention_seconds END AS retention_seconds"
    " FROM branch AS b JOIN project AS p ON p.id = b.project_id"
    " WHERE b.state <> 'deleting' ORDER BY b.id";

int branch_list_lines(struct dbc *c, struct arena *a, int64_t now_us, struct branch_line **ret, size_t *ret_n,
                      struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_LINES, &st, err) < 0)
        return -1;
    bind_i64(st, ":now", now_us);
    *ret = row_list(c, st, &LINE_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static int list_due(struct dbc *c, struct arena *a, const char *sql, int64_t now_us, int64_t limit,
                    struct branch **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, sql, &st, err) < 0)
        return -1;
    bind_i64(st, ":now", now_us);
    bind_i64(st, ":limit", limit);
    *ret = row_list(c, st, &BRANCH_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_BRANCH_EXPIRED[] =
    "SELECT " COLUMNS " FROM branch WHERE expires_at <= :now AND state IN ('ready', 'damaged')"
    " AND kind <> 'temporary' AND NOT is_default AND NOT is_protected AND (kind <> 'user' OR NOT EXISTS"
    " (SELECT 1 FROM branch AS child WHERE child.parent_id = branch.id AND child.kind = 'user'"
    "  AND child.state NOT IN ('deleted', 'deleting'))) ORDER BY expires_at, id LIMIT :limit";

int branch_list_expired(struct dbc *c, struct arena *a, int64_t now_us, int64_t limit, struct branch **ret,
                        size_t *ret_n, struct err *err)
{
    return list_due(c, a, SQL_BRANCH_EXPIRED, now_us, limit, ret, ret_n, err);
}

static const char SQL_BRANCH_PURGEABLE[] =
    "SELECT " COLUMNS " FROM branch WHERE state = 'deleted' AND recoverable_until <= :now"
    " AND NOT EXISTS (SELECT 1 FROM branch AS child WHERE child.parent_id = branch.id)"
    " AND NOT EXISTS (SELECT 1 FROM operation AS o WHERE o.status IN ('scheduling', 'running')"
    "  AND (o.branch_id = branch.id OR o.args = branch.id)) ORDER BY recoverable_until, id LIMIT :limit";

int branch_list_purgeable(struct dbc *c, struct arena *a, int64_t now_us, int64_t limit, struct branch **ret,
                          size_t *ret_n, struct err *err)
{
    return list_due(c, a, SQL_BRANCH_PURGEABLE, now_us, limit, ret, ret_n, err);
}

static const char SQL_BRANCH_UNHELD[] =
    "SELECT " COLUMNS " FROM branch WHERE kind = 'snapshot' AND made_by = 'bookmark' AND state = 'ready'"
    " AND NOT EXISTS (SELECT 1 FROM bookmark WHERE hold_id = branch.id) AND created_at <= :now"
    " ORDER BY created_at, id LIMIT :limit";

int branch_list_unheld(struct dbc *c, struct arena *a, int64_t now_us, int64_t limit, struct branch **ret,
                       size_t *ret_n, struct err *err)
{
    return list_due(c, a, SQL_BRANCH_UNHELD, now_us, limit, ret, ret_n, err);
}

#define MOMENT_OF                                                                                            \
    " FROM branch WHERE parent_id = :parent AND kind = 'temporary' AND state = 'ready'"                      \
    " AND EXISTS (SELECT 1 FROM endpoint AS e WHERE e.branch_id = branch.id AND e.type = 'read_only'"        \
    "  AND e.desired <> 'deleted')"
static const char SQL_BRANCH_LIST_MOMENTS[] = "SELECT " COLUMNS MOMENT_OF;

int branch_list_moments(struct dbc *c, struct arena *a, const char *parent_id, struct branch **ret,
                        size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_LIST_MOMENTS, &st, err) < 0)
        return -1;
    bind_text(st, ":parent", parent_id);
    *ret = row_list(c, st, &BRANCH_NOUN, a, ret_n, err);
    return *ret != NULL ? 0 : -1;
}

static const char SQL_BRANCH_FIND_MOMENT[] = "SELECT " COLUMNS MOMENT_OF " AND parent_lsn = :lsn";

int branch_find_moment(struct dbc *c, struct arena *a, const char *parent_id, uint64_t lsn,
                       struct branch *ret, bool *ret_found, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_FIND_MOMENT, &st, err) < 0)
        return -1;
    bind_text(st, ":parent", parent_id);
    bind_i64(st, ":lsn", (int64_t)lsn);
    int rc = row_find(c, st, &BRANCH_NOUN, a, ret, err);
    *ret_found = rc == 1;
    return rc < 0 ? -1 : 0;
}

static const char SQL_BRANCH_COUNT[] = "SELECT count(*)" LIST_WHERE;

int branch_count(struct dbc *c, const char *project_id, const char *search, int64_t *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_COUNT, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_text(st, ":search", search);
    bind_i64(st, ":deleted_at", 0);
    return stmt_number(c, st, ret, err);
}

/* A restored root is nobody's child, whatever its history stands on. */
static const char SQL_BRANCH_COUNT_CHILDREN[] =
    "SELECT count(*) FROM branch WHERE parent_id = :id AND NOT is_root AND " BRANCH_SEEN;

int branch_count_children(struct dbc *c, const char *id, int64_t *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_COUNT_CHILDREN, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return stmt_number(c, st, ret, err);
}

static const char SQL_BRANCH_STOOD_ON[] = "SELECT EXISTS (SELECT 1 FROM branch WHERE parent_id = :id)";

int branch_is_stood_on(struct dbc *c, const char *id, bool *ret, struct err *err)
{
    auto_stmt *st = NULL;
    int64_t n;
    if (stmt_get(c, SQL_BRANCH_STOOD_ON, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    if (stmt_number(c, st, &n, err) < 0)
        return -1;
    *ret = n != 0;
    return 0;
}

/* Unique are also the id and the default of a project: those are mistakes of ours, and keep the general text.
 */
static int name_taken(const struct branch *b, struct err *err)
{
    if (err->code == ERR_CONFLICT && strstr(err->detail, "branch.name"))
        return err_field(err, ERR_CONFLICT, "/branch/name", "branch already exists; branch_name:\"%s\"",
                         b->name);
    return -1;
}

static const char SQL_BRANCH_INSERT[] =
    "INSERT INTO branch (" STORED
    ") VALUES (:id, :project_id, :name, coalesce(:kind, 'user'), :state, :parent_id, :parent_lsn,"
    " :parent_timestamp, :is_default, :is_protected, :is_root, :init_source, :durability, :image_id, :volume,"
    " coalesce(:volume_id, :id), :fork_tli, :fork_lsn, :tli, :head_lsn, :history_from, :begins_lsn, :boot_id,"
    " :annotations, :spec, :expires_at, :ttl_seconds, :last_reset_at, :deleted_at, :recoverable_until,"
    " :deletion_method, :made_by, :restored_from, :restored_as, :restore_status, :state_changed_at,"
    " :created_at, :updated_at)";

int branch_insert(struct dbc *c, const struct branch *b, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, &BRANCH_NOUN, b);
    return stmt_run(c, st, NULL, err) < 0 ? name_taken(b, err) : 0;
}

static const char SQL_BRANCH_UPDATE[] =
    "UPDATE branch SET name = :name, is_protected = :is_protected, annotations = :annotations, spec = :spec,"
    " expires_at = :expires_at, ttl_seconds = :ttl_seconds, restored_as = :restored_as,"
    " restore_status = :restore_status, updated_at = :updated_at WHERE id = :id";

int branch_update(struct dbc *c, const struct branch *b, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, &BRANCH_NOUN, b);
    return stmt_change(c, st, &BRANCH_NOUN, err) < 0 ? name_taken(b, err) : 0;
}

static const char SQL_BRANCH_CLEAR_DEFAULT[] = "UPDATE branch SET is_default = 0, updated_at = :now WHERE "
                                               "project_id = :project AND is_default = 1 AND id <> :id";
static const char SQL_BRANCH_SET_DEFAULT[] = "UPDATE branch SET is_default = 1, updated_at = :now WHERE "
                                             "project_id = :project AND id = :id AND " BRANCH_SEEN;

int branch_set_default(struct dbc *c, const char *project_id, const char *id, int64_t now_us, struct err *err)
{
    auto_stmt *clear = NULL, *set = NULL;
    if (stmt_get(c, SQL_BRANCH_CLEAR_DEFAULT, &clear, err) < 0 ||
        stmt_get(c, SQL_BRANCH_SET_DEFAULT, &set, err) < 0)
        return -1;
    bind_text(clear, ":project", project_id);
    bind_text(clear, ":id", id);
    bind_i64(clear, ":now", now_us);
    bind_text(set, ":project", project_id);
    bind_text(set, ":id", id);
    bind_i64(set, ":now", now_us);
    return stmt_run(c, clear, NULL, err) < 0 ? -1 : stmt_change(c, set, &BRANCH_NOUN, err);
}

static const char SQL_BRANCH_SET_STATE[] =
    "UPDATE branch SET state = :to, state_changed_at = :now, updated_at = :now"
    " WHERE id = :id AND (:from IS NULL OR state = :from)";

int branch_set_state(struct dbc *c, const char *id, const char *from, const char *to, int64_t now_us,
                     struct err *err)
{
    auto_stmt *st = NULL;
    int64_t changes;
    if (stmt_get(c, SQL_BRANCH_SET_STATE, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_text(st, ":from", from);
    bind_text(st, ":to", to);
    bind_i64(st, ":now", now_us);
    if (stmt_run(c, st, &changes, err) < 0)
        return -1;
    if (changes == 1)
        return 0;
    return from ? err_set(err, ERR_PRECONDITION,
                          "the branch is not in state %s any more; nothing was changed", from)
                : err_set(err, ERR_NOT_FOUND, "branch not found");
}

static const char SQL_BRANCH_SET_DELETED[] =
    "UPDATE branch SET state = 'deleted', deleted_at = :now, recoverable_until = :until,"
    " deletion_method = :method, state_changed_at = :now, updated_at = :now WHERE id = :id";

int branch_set_deleted(struct dbc *c, const char *id, int64_t recoverable_until, const char *method,
                       int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_SET_DELETED, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_i64(st, ":until", recoverable_until);
    bind_text(st, ":method", method);
    bind_i64(st, ":now", now_us);
    return stmt_change(c, st, &BRANCH_NOUN, err);
}

static const char SQL_BRANCH_SET_RECOVERED[] =
    "UPDATE branch SET state = 'ready', deleted_at = NULL, recoverable_until = NULL, deletion_method = NULL,"
    " state_changed_at = :now, updated_at = :now WHERE id = :id AND state = 'deleted'";

int branch_set_recovered(struct dbc *c, const struct branch *b, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_SET_RECOVERED, &st, err) < 0)
        return -1;
    bind_text(st, ":id", b->id);
    bind_i64(st, ":now", now_us);
    if (stmt_change(c, st, &BRANCH_NOUN, err) == 0)
        return 0;
    if (err->code == ERR_CONFLICT)
        return err_set(err, ERR_CONFLICT,
                       "another branch is called \"%s\" by now; rename it, then recover this one by its id; "
                       "nothing was changed",
                       b->name);
    return -1;
}

static const char SQL_BRANCH_RECOVER_ALL[] =
    "UPDATE branch SET state = 'ready', deleted_at = NULL, recoverable_until = NULL, deletion_method = NULL,"
    " state_changed_at = :now, updated_at = :now WHERE project_id = :project AND state = 'deleted'"
    " AND deleted_at = :deleted_at";

int branch_recover_all(struct dbc *c, const char *project_id, int64_t deleted_at, int64_t now_us,
                       struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_RECOVER_ALL, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_i64(st, ":deleted_at", deleted_at);
    bind_i64(st, ":now", now_us);
    return stmt_run(c, st, NULL, err);
}

/* As branch_keeps_rows() has it. */
static const char SQL_BRANCH_SET_FORK[] =
    "UPDATE branch SET parent_lsn = :lsn, parent_timestamp = :time, init_source = coalesce(init_source,"
    " (SELECT p.init_source FROM branch AS p WHERE p.id = branch.parent_id AND :lsn < coalesce(p.begins_lsn,"
    "  9223372036854775807))), "
    "image_id = :image, state = 'ready', state_changed_at = :now,"
    " updated_at = :now WHERE id = :id AND state = 'init'"
    " AND EXISTS (SELECT 1 FROM image WHERE id = :image AND state IN ('snapped', 'ready'))";

int branch_set_fork(struct dbc *c, const char *id, uint64_t parent_lsn, int64_t parent_timestamp,
                    const char *image_id, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    int64_t changes;
    if (stmt_get(c, SQL_BRANCH_SET_FORK, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_opt(st, ":lsn", (int64_t)parent_lsn);
    bind_opt(st, ":time", parent_timestamp);
    bind_text(st, ":image", image_id);
    bind_i64(st, ":now", now_us);
    if (stmt_run(c, st, &changes, err) < 0)
        return -1;
    return changes == 1 ? 0
                        : err_set(err, ERR_PRECONDITION,
                                  "the branch is not waiting for its fork any more; nothing was changed");
}

/* What a branch that was never started has of its own: nothing. */
static const char SQL_BRANCH_REPLACE[] =
    "UPDATE branch SET state = 'ready', parent_id = :parent_id, parent_lsn = :parent_lsn,"
    " parent_timestamp = :parent_timestamp, is_root = :is_root, image_id = :image_id, volume = 'none',"
    " volume_id = :volume_id, fork_tli = NULL, fork_lsn = NULL, tli = NULL, head_lsn = NULL,"
    " history_from = NULL, init_source = :init_source, begins_lsn = NULL, boot_id = NULL, expires_at = "
    ":expires_at, ttl_seconds = :ttl_seconds,"
    " last_reset_at = :last_reset_at, state_changed_at = :updated_at, updated_at = :updated_at WHERE id = "
    ":id";
/* Also of target itself, when it was restored from its own past. */
static const char SQL_BRANCH_MOVE_CHILDREN[] =
    "UPDATE branch SET parent_id = :to WHERE parent_id = :from AND id <> :to";
static const char SQL_BRANCH_MOVE_IMAGES[] = "UPDATE image SET branch_id = :to WHERE branch_id = :from";

int branch_replace(struct dbc *c, struct branch *target, const struct branch *made, struct branch *old,
                   struct err *err)
{
    static const char *const MOVES[] = { SQL_BRANCH_MOVE_CHILDREN, SQL_BRANCH_MOVE_IMAGES };
    auto_stmt *st = NULL;
    target->parent_id = made->parent_id;
    target->parent_lsn = made->parent_lsn;
    target->parent_timestamp = made->parent_timestamp;
    target->image_id = made->image_id;
    target->volume_id = made->volume_id;
    target->init_source = made->init_source;
    if (branch_delete(c, made->id, err) < 0 || stmt_get(c, SQL_BRANCH_REPLACE, &st, err) < 0)
        return -1;
    bind_struct(st, &BRANCH_NOUN, target);
    if (stmt_change(c, st, &BRANCH_NOUN, err) < 0 || branch_insert(c, old, err) < 0)
        return -1;
    for (size_t i = 0; i < N_ELEMENTS(MOVES); i++) {
        auto_stmt *move = NULL;
        if (stmt_get(c, MOVES[i], &move, err) < 0)
            return -1;
        bind_text(move, ":from", target->id);
        bind_text(move, ":to", old->id);
        if (stmt_run(c, move, NULL, err) < 0)
            return -1;
    }
    return 0;
}

static int set_one(struct dbc *c, const char *sql, const char *id, int64_t value, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, sql, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_opt(st, ":value", value);
    return stmt_change(c, st, &BRANCH_NOUN, err);
}

static const char SQL_BRANCH_SET_VOLUME[] = "UPDATE branch SET volume = :volume WHERE id = :id";

int branch_set_volume(struct dbc *c, const char *id, const char *volume, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_SET_VOLUME, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_text(st, ":volume", volume);
    return stmt_change(c, st, &BRANCH_NOUN, err);
}

static const char SQL_BRANCH_SET_BOOT[] = "UPDATE branch SET boot_id = :boot WHERE id = :id";

int branch_set_boot(struct dbc *c, const char *id, const char *boot_id, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_SET_BOOT, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_text(st, ":boot", boot_id);
    return stmt_change(c, st, &BRANCH_NOUN, err);
}

static const char SQL_BRANCH_SET_BEGIN[] =
    "UPDATE branch SET fork_tli = :tli, fork_lsn = :lsn WHERE id = :id";

int branch_set_begin(struct dbc *c, const char *id, int64_t fork_tli, uint64_t fork_lsn, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_SET_BEGIN, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_i64(st, ":tli", fork_tli);
    bind_i64(st, ":lsn", (int64_t)fork_lsn);
    return stmt_change(c, st, &BRANCH_NOUN, err);
}

static const char SQL_BRANCH_LET_PARENTS_GO[] =
    "UPDATE branch SET parent_id = NULL WHERE history_from IS NOT NULL AND parent_id IN"
    " (SELECT id FROM branch WHERE state = 'deleted' AND recoverable_until <= :now)";

int branch_let_parents_go(struct dbc *c, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_LET_PARENTS_GO, &st, err) < 0)
        return -1;
    bind_i64(st, ":now", now_us);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_BRANCH_SET_HISTORY[] =
    "UPDATE branch SET history_from = :from, image_id = :image WHERE id = :id";

int branch_set_history(struct dbc *c, const char *id, uint64_t history_from, const char *image_id,
                       struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_SET_HISTORY, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_i64(st, ":from", (int64_t)history_from);
    bind_text(st, ":image", image_id);
    return stmt_change(c, st, &BRANCH_NOUN, err);
}

static const char SQL_BRANCH_SET_BEGINS[] = "UPDATE branch SET begins_lsn = :value WHERE id = :id";

int branch_set_begins(struct dbc *c, const char *id, uint64_t begins_lsn, struct err *err)
{
    return set_one(c, SQL_BRANCH_SET_BEGINS, id, (int64_t)begins_lsn, err);
}

static const char SQL_BRANCH_SET_TLI[] = "UPDATE branch SET tli = :value WHERE id = :id";

int branch_set_tli(struct dbc *c, const char *id, int64_t tli, struct err *err)
{
    return set_one(c, SQL_BRANCH_SET_TLI, id, tli, err);
}

static const char SQL_BRANCH_SET_HEAD[] = "UPDATE branch SET head_lsn = :value WHERE id = :id";

int branch_set_head(struct dbc *c, const char *id, uint64_t head_lsn, struct err *err)
{
    return set_one(c, SQL_BRANCH_SET_HEAD, id, (int64_t)head_lsn, err);
}

static const char SQL_BRANCH_DELETE_ROLES[] = "DELETE FROM role WHERE branch_id = :id";
static const char SQL_BRANCH_DELETE_DATABASES[] = "DELETE FROM database WHERE branch_id = :id";
static const char SQL_BRANCH_DELETE_SIZE[] = "DELETE FROM branch_size WHERE branch_id = :id";
static const char SQL_BRANCH_DELETE_BOOKMARKS[] = "DELETE FROM bookmark WHERE branch_id = :id";
static const char SQL_BRANCH_LET_GO[] = "UPDATE bookmark SET hold_id = NULL WHERE hold_id = :id";
static const char SQL_BRANCH_DELETE_SCHEDULE[] = "DELETE FROM backup_schedule WHERE branch_id = :id";
static const char SQL_BRANCH_UNLINK[] =
    "UPDATE branch SET parent_id = NULL WHERE parent_id = :id AND state = 'deleting'";
static const char SQL_BRANCH_DELETE[] = "DELETE FROM branch WHERE id = :id";

int branch_delete(struct dbc *c, const char *id, struct err *err)
{
    static const char *const STEPS[] = { SQL_BRANCH_DELETE_ROLES, SQL_BRANCH_DELETE_DATABASES,
                                         SQL_BRANCH_DELETE_SIZE,  SQL_BRANCH_DELETE_BOOKMARKS,
                                         SQL_BRANCH_LET_GO,       SQL_BRANCH_DELETE_SCHEDULE,
                                         SQL_BRANCH_UNLINK,       SQL_BRANCH_DELETE };
    for (size_t i = 0; i < N_ELEMENTS(STEPS); i++) {
        auto_stmt *st = NULL;
        if (stmt_get(c, STEPS[i], &st, err) < 0)
            return -1;
        bind_text(st, ":id", id);
        if (stmt_run(c, st, NULL, err) < 0)
            return -1;
    }
    return 0;
}
