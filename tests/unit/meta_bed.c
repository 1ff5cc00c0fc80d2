/*
 * meta_bed.c - what the tests of the metadata share
 */
#include "meta_bed.h"

#include "base/fs.h"

static char dir[] = "/tmp/mere-t-meta-XXXXXX";
const char *meta_path;
struct db *meta_db;
struct arena *meta_arena;
struct err meta_err;

void meta_setup(void)
{
    E = (struct err)ERR_INIT;
    A = arena_new(0);
    memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    meta_path = arena_printf(A, "%s/meta.db", dir);
    OK(db_open(meta_path, &meta_db, &E));
}

void meta_teardown(void)
{
    db_close(meta_db);
    OK(fs_remove_tree(dir, false, &E));
    arena_free(A);
}

void meta_add_tests(TCase *t, const TTest *const *tests, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tcase_add_test(t, tests[i]);
}

struct project a_project(const char *id, const char *name, int64_t created_at)
{
    return (struct project){
        .id = id,
        .name = name,
        .state = "ready",
        .pg_version = 15,
        .region_id = "local",
        .store_passwords = true,
        .history_retention_seconds = 86400,
        .settings = "{\"a\":\"'; DROP TABLE project; --\"}",
        .created_at = created_at,
        .updated_at = created_at + 1,
    };
}

void add_project(struct dbc *c, const char *id, const char *name, int64_t created_at)
{
    struct project p = a_project(id, name, created_at);

    OK(project_insert(c, &p, &E));
}

struct branch a_branch(const char *id, const char *name, int64_t at)
{
    return (struct branch){ .id = id,
                            .project_id = "p",
                            .name = name,
                            .state = "ready",
                            .durability = "full",
                            .volume = "none",
                            .state_changed_at = at,
                            .created_at = at,
                            .updated_at = at };
}

void add_branch(struct dbc *c, const char *id, const char *name, const char *parent_id, int64_t at)
{
    struct branch b = a_branch(id, name, at);

    b.parent_id = parent_id;
    OK(branch_insert(c, &b, &E));
}

void add_image(struct dbc *c, const char *id, const char *branch_id, const char *state, uint64_t lsn,
               int64_t at)
{
    struct image i = { .id = id,
                       .branch_id = branch_id,
                       .pg_version = 15,
                       .method = "cold",
                       .state = state,
                       .tli = 3,
                       .redo_lsn = lsn ? lsn - 1 : 0,
                       .lsn = lsn,
                       .created_at = at };

    OK(image_insert(c, &i, &E));
}
