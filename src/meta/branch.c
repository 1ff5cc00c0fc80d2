#include "meta/branch.h"

#include "base/text.h"
#include "meta/row.h"

#include <inttypes.h>
#include <string.h>

static const struct field BRANCH[] = {
    FIELD(branch, id, F_STR, 0, 0),
    FIELD(branch, project_id, F_STR, 0, 0),
    FIELD(branch, name, F_STR, 0, 0),
    FIELD(branch, state, F_STR, 0, 0),
    FIELD(branch, parent_id, F_STR, 0, 0),
    FIELD(branch, parent_lsn, F_LSN, 0, 0),
    FIELD(branch, parent_timestamp, F_TIME, 0, 0),
    FIELD(branch, is_default, F_BOOL, 0, 0),
    FIELD(branch, is_protected, F_BOOL, 0, 0),
    FIELD(branch, durability, F_STR, 0, 0),
    FIELD(branch, image_id, F_STR, 0, 0),
    FIELD(branch, volume, F_STR, 0, 0),
    FIELD(branch, tli, F_I64, 0, 0),
    FIELD(branch, head_lsn, F_LSN, 0, 0),
    FIELD(branch, annotations, F_JSON, 0, 0),
    FIELD(branch, state_changed_at, F_TIME, 0, 0),
    FIELD(branch, created_at, F_TIME, 0, 0),
    FIELD(branch, updated_at, F_TIME, 0, 0),
};
#define COLUMNS                                                                                              \
    "id, project_id, name, state, parent_id, parent_lsn, parent_timestamp, is_default, is_protected, "       \
    "durability, image_id, volume, tli, head_lsn, annotations, state_changed_at, created_at, updated_at"
#define N_COLUMNS N_ELEMENTS(BRANCH)

static int find(struct dbc *c, struct arena *a, sqlite3_stmt *st, struct branch *ret, struct err *err)
{
    int rc = row_find(c, st, BRANCH, N_COLUMNS, a, ret, err);
    if (rc == 0)
        return err_set(err, ERR_NOT_FOUND, "branch not found");
    return rc < 0 ? -1 : 0;
}

static int list(struct dbc *c, struct arena *a, sqlite3_stmt *st, struct branch **ret, size_t *ret_n,
                struct err *err)
{
    void *rows;
    if (row_list(c, st, BRANCH, N_COLUMNS, sizeof(struct branch), a, &rows, ret_n, err) < 0)
        return -1;
    *ret = rows;
    return 0;
}

/* An id wins over a name. */
static const char SQL_BRANCH_GET[] =
    "SELECT " COLUMNS " FROM branch WHERE project_id = :project AND state <> 'deleting'"
    " AND (id = :ref OR name = :ref) ORDER BY id = :ref DESC LIMIT 1";

int branch_get(struct dbc *c, struct arena *a, const char *project_id, const char *ref, struct branch *ret,
               struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_GET, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_text(st, ":ref", ref);
    return find(c, a, st, ret, err);
}

static const char SQL_BRANCH_GET_ID[] = "SELECT " COLUMNS " FROM branch WHERE id = :id";

int branch_get_id(struct dbc *c, struct arena *a, const char *id, struct branch *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_GET_ID, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return find(c, a, st, ret, err);
}

static const char SQL_BRANCH_GET_DEFAULT[] =
    "SELECT " COLUMNS " FROM branch WHERE project_id = :project AND is_default = 1 AND state <> 'deleting'";

int branch_get_default(struct dbc *c, struct arena *a, const char *project_id, struct branch *ret,
                       struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_GET_DEFAULT, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    return find(c, a, st, ret, err);
}

static const char SQL_BRANCH_FIND_NAME[] =
    "SELECT " COLUMNS " FROM branch WHERE name = :name AND state <> 'deleting'";

int branch_find_name(struct dbc *c, struct arena *a, const char *name, struct branch **ret, size_t *ret_n,
                     struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_FIND_NAME, &st, err) < 0)
        return -1;
    bind_text(st, ":name", name);
    return list(c, a, st, ret, ret_n, err);
}

#define LIST_WHERE                                                                                           \
    " FROM branch WHERE project_id = :project AND state <> 'deleting'"                                       \
    " AND (:search IS NULL OR id = :search OR instr(lower(name), lower(:search)) > 0) AND (:name IS NULL "   \
    "OR name = :name)"

struct order {
    const char *key;
    bool ascending;
    const char *sql;
};

static const struct order ORDERS[] = {
    { "updated_at", false,
      "SELECT " COLUMNS LIST_WHERE " AND (:id IS NULL OR (updated_at, id) < (CAST(:key AS INTEGER), :id)) "
                                   "ORDER BY updated_at DESC, id DESC LIMIT :limit" },
    { "updated_at", true,
      "SELECT " COLUMNS LIST_WHERE " AND (:id IS NULL OR (updated_at, id) > (CAST(:key AS INTEGER), :id)) "
                                   "ORDER BY updated_at, id LIMIT :limit" },
    { "created_at", false,
      "SELECT " COLUMNS LIST_WHERE " AND (:id IS NULL OR (created_at, id) < (CAST(:key AS INTEGER), :id)) "
                                   "ORDER BY created_at DESC, id DESC LIMIT :limit" },
    { "created_at", true,
      "SELECT " COLUMNS LIST_WHERE " AND (:id IS NULL OR (created_at, id) > (CAST(:key AS INTEGER), :id)) "
                                   "ORDER BY created_at, id LIMIT :limit" },
    { "name", false,
      "SELECT " COLUMNS LIST_WHERE
      " AND (:id IS NULL OR (name, id) < (:key, :id)) ORDER BY name DESC, id DESC LIMIT :limit" },
    { "name", true,
      "SELECT " COLUMNS LIST_WHERE
      " AND (:id IS NULL OR (name, id) > (:key, :id)) ORDER BY name, id LIMIT :limit" },
};

static const struct order *find_order(const struct page *page)
{
    const char *key = page->sort_by ? page->sort_by : "updated_at";
    for (size_t i = 0; i < N_ELEMENTS(ORDERS); i++)
        if (strcmp(ORDERS[i].key, key) == 0 && ORDERS[i].ascending == page->ascending)
            return &ORDERS[i];
    return NULL;
}

static const char *cursor_after(struct arena *a, const struct order *o, const struct branch *b)
{
    if (strcmp(o->key, "name") == 0)
        return cursor_make(a, b->name, b->id);
    return cursor_make(
        a, arena_printf(a, "%" PRId64, strcmp(o->key, "created_at") == 0 ? b->created_at : b->updated_at),
        b->id);
}

int branch_list(struct dbc *c, struct arena *a, const char *project_id, struct page *page,
                struct branch **ret, size_t *ret_n, struct err *err)
{
    auto_stmt *st = NULL;
    const char *key = NULL, *id = NULL;
    const struct order *o = find_order(page);
    if (!o)
        return err_set(err, ERR_BAD_REQUEST, "sort_by must be name, created_at or updated_at");
    if ((page->cursor && cursor_parse(a, page->cursor, &key, &id, err) < 0) ||
        stmt_get(c, o->sql, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_text(st, ":search", page->search);
    bind_text(st, ":name", page->name);
    bind_text(st, ":key", key);
    bind_text(st, ":id", id);
    bind_i64(st, ":limit", page->limit ? page->limit : -1);
    if (list(c, a, st, ret, ret_n, err) < 0)
        return -1;
    page->next = *ret_n ? cursor_after(a, o, &(*ret)[*ret_n - 1]) : NULL;
    return 0;
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
    return list(c, a, st, ret, ret_n, err);
}

static int count(struct dbc *c, sqlite3_stmt *st, int64_t *ret, struct err *err)
{
    if (stmt_step(c, st, err) < 0)
        return -1;
    *ret = sqlite3_column_int64(st, 0);
    return 0;
}

static const char SQL_BRANCH_COUNT[] = "SELECT count(*)" LIST_WHERE;

int branch_count(struct dbc *c, const char *project_id, const char *search, int64_t *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_COUNT, &st, err) < 0)
        return -1;
    bind_text(st, ":project", project_id);
    bind_text(st, ":search", search);
    return count(c, st, ret, err);
}

static const char SQL_BRANCH_COUNT_CHILDREN[] =
    "SELECT count(*) FROM branch WHERE parent_id = :id AND state <> 'deleting'";

int branch_count_children(struct dbc *c, const char *id, int64_t *ret, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_COUNT_CHILDREN, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    return count(c, st, ret, err);
}

static int name_taken(const struct branch *b, struct err *err)
{
    if (err->code == ERR_CONFLICT)
        return err_field(err, ERR_CONFLICT, "/branch/name", "branch already exists; branch_name:\"%s\"",
                         b->name);
    return -1;
}

static const char SQL_BRANCH_INSERT[] =
    "INSERT INTO branch (" COLUMNS
    ") VALUES (:id, :project_id, :name, :state, :parent_id, :parent_lsn, :parent_timestamp, :is_default,"
    " :is_protected, :durability, :image_id, :volume, :tli, :head_lsn, :annotations, :state_changed_at, "
    ":created_at, :updated_at)";

int branch_insert(struct dbc *c, const struct branch *b, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_INSERT, &st, err) < 0)
        return -1;
    bind_struct(st, BRANCH, N_COLUMNS, b);
    return stmt_run(c, st, NULL, err) < 0 ? name_taken(b, err) : 0;
}

static const char SQL_BRANCH_UPDATE[] =
    "UPDATE branch SET name = :name, is_protected = :is_protected, annotations = :annotations,"
    " updated_at = :updated_at WHERE id = :id";

int branch_update(struct dbc *c, const struct branch *b, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_UPDATE, &st, err) < 0)
        return -1;
    bind_struct(st, BRANCH, N_COLUMNS, b);
    return stmt_run(c, st, NULL, err) < 0 ? name_taken(b, err) : 0;
}

static const char SQL_BRANCH_CLEAR_DEFAULT[] =
    "UPDATE branch SET is_default = 0 WHERE project_id = :project AND is_default = 1 AND id <> :id";
static const char SQL_BRANCH_SET_DEFAULT[] =
    "UPDATE branch SET is_default = 1, updated_at = :now WHERE id = :id";

int branch_set_default(struct dbc *c, const char *project_id, const char *id, int64_t now_us, struct err *err)
{
    auto_stmt *clear = NULL, *set = NULL;
    if (stmt_get(c, SQL_BRANCH_CLEAR_DEFAULT, &clear, err) < 0 ||
        stmt_get(c, SQL_BRANCH_SET_DEFAULT, &set, err) < 0)
        return -1;
    bind_text(clear, ":project", project_id);
    bind_text(clear, ":id", id);
    bind_text(set, ":id", id);
    bind_i64(set, ":now", now_us);
    return stmt_run(c, clear, NULL, err) < 0 ? -1 : stmt_run(c, set, NULL, err);
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
    return changes == 1 ? 0
                        : err_set(err, ERR_PRECONDITION, "the branch is not in state %s any more",
                                  from ? from : "known");
}

static const char SQL_BRANCH_SET_FORK[] = "UPDATE branch SET parent_lsn = :lsn, parent_timestamp = :time, "
                                          "image_id = :image, state = 'ready', state_changed_at = :now,"
                                          " updated_at = :now WHERE id = :id AND state = 'init'";

int branch_set_fork(struct dbc *c, const char *id, uint64_t parent_lsn, int64_t parent_timestamp,
                    const char *image_id, int64_t now_us, struct err *err)
{
    auto_stmt *st = NULL;
    int64_t changes;
    if (stmt_get(c, SQL_BRANCH_SET_FORK, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_i64(st, ":lsn", (int64_t)parent_lsn);
    bind_opt(st, ":time", parent_timestamp);
    bind_text(st, ":image", image_id);
    bind_i64(st, ":now", now_us);
    if (stmt_run(c, st, &changes, err) < 0)
        return -1;
    return changes == 1 ? 0 : err_set(err, ERR_PRECONDITION, "the branch is being deleted");
}

static int set_one(struct dbc *c, const char *sql, const char *id, int64_t value, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, sql, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_opt(st, ":value", value);
    return stmt_run(c, st, NULL, err);
}

static const char SQL_BRANCH_SET_VOLUME[] = "UPDATE branch SET volume = :volume WHERE id = :id";

int branch_set_volume(struct dbc *c, const char *id, const char *volume, struct err *err)
{
    auto_stmt *st = NULL;
    if (stmt_get(c, SQL_BRANCH_SET_VOLUME, &st, err) < 0)
        return -1;
    bind_text(st, ":id", id);
    bind_text(st, ":volume", volume);
    return stmt_run(c, st, NULL, err);
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
static const char SQL_BRANCH_UNLINK[] =
    "UPDATE branch SET parent_id = NULL WHERE parent_id = :id AND state = 'deleting'";
static const char SQL_BRANCH_DELETE[] = "DELETE FROM branch WHERE id = :id";

int branch_delete(struct dbc *c, const char *id, struct err *err)
{
    static const char *const STEPS[] = { SQL_BRANCH_DELETE_ROLES, SQL_BRANCH_DELETE_DATABASES,
                                         SQL_BRANCH_UNLINK, SQL_BRANCH_DELETE };
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
