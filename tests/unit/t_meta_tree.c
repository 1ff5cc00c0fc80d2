/*
 * t_meta_tree.c - statements on projects, their branches, and the images of those
 */
#include "meta_bed.h"

#include "base/clock.h"

#include "meta/role.h"

Suite *t_meta_tree_suite(void);

/* --- projects ----------------------------------------------------------------------------------------------
 */

START_TEST(project_round_trip)
{
    struct project p = a_project("p-1", "O'Brien \"%_\\ 木", 1000), got;
    WRITE();

    OK(project_insert(c, &p, &E));
    OK(project_get(c, A, "p-1", &got, &E));
    ck_assert_str_eq(got.id, p.id);
    ck_assert_str_eq(got.name, p.name);
    ck_assert_str_eq(got.state, "ready");
    ck_assert_int_eq(got.pg_version, 15);
    ck_assert_str_eq(got.region_id, "local");
    ck_assert(got.store_passwords);
    ck_assert_int_eq(got.history_retention_seconds, 86400);
    ck_assert_str_eq(got.settings, p.settings);
    ck_assert_ptr_null(got.default_endpoint_settings);
    ck_assert_int_eq(got.created_at, 1000);
    ck_assert_int_eq(got.updated_at, 1001);

    p.name = "new";
    p.history_retention_seconds = 7;
    p.settings = NULL;
    p.default_endpoint_settings = "{}";
    p.updated_at = 2000;
    p.region_id = "not updated";
    OK(project_update(c, &p, &E));
    OK(project_get(c, A, "p-1", &got, &E));
    ck_assert_str_eq(got.name, "new");
    ck_assert_int_eq(got.history_retention_seconds, 7);
    ck_assert_ptr_null(got.settings);
    ck_assert_str_eq(got.default_endpoint_settings, "{}");
    ck_assert_int_eq(got.updated_at, 2000);
    ck_assert_str_eq(got.region_id, "local");
}
END_TEST

START_TEST(project_life)
{
    struct project p = a_project("p-1", "one", 1), got;
    WRITE();

    FAILS(ERR_NOT_FOUND, project_get(c, A, "p-1", &got, &E));
    ck_assert_str_eq(E.msg, "project not found");
    FAILS(ERR_NOT_FOUND, project_update(c, &p, &E));
    FAILS(ERR_NOT_FOUND, project_set_state(c, "p-1", "deleting", 5, &E));
    OK(project_insert(c, &p, &E));
    FAILS(ERR_CONFLICT, project_insert(c, &p, &E));
    FAILS(ERR_INTERNAL, project_set_state(c, "p-1", "unheard-of", 5, &E));
    OK(project_set_state(c, "p-1", "deleting", 5, &E));
    FAILS(ERR_NOT_FOUND, project_get(c, A, "p-1", &got, &E));
    OK(project_get_any(c, A, "p-1", &got, &E));
    ck_assert_str_eq(got.state, "deleting");
    ck_assert_int_eq(got.updated_at, 5);
    OK(project_delete(c, "p-1", &E));
    OK(project_delete(c, "p-1", &E));
    FAILS(ERR_NOT_FOUND, project_get_any(c, A, "p-1", &got, &E));
    p.name = "";
    FAILS(ERR_INTERNAL, project_insert(c, &p, &E));
    p.name = NULL;
    FAILS(ERR_INTERNAL, project_insert(c, &p, &E));
}
END_TEST

START_TEST(project_deleted)
{
    struct project p = a_project("p-1", "one", 1), got;
    struct page page = { .deleted = true };
    struct project *list;
    int64_t future = clock_wall_us() + 60000000;
    bool found;
    size_t n;
    WRITE();

    FAILS(ERR_NOT_FOUND, project_set_deleted(c, "p-1", future, 5, &E));
    OK(project_insert(c, &p, &E));
    FAILS(ERR_NOT_FOUND, project_get_deleted(c, A, "p-1", 5, &got, &E));
    FAILS(ERR_NOT_FOUND, project_set_recovered(c, "p-1", 5, &E));
    OK(project_set_deleted(c, "p-1", future, 5, &E));
    FAILS(ERR_NOT_FOUND, project_get(c, A, "p-1", &got, &E));
    OK(project_get_deleted(c, A, "p-1", 5, &got, &E));
    ck_assert_int_eq(got.deleted_at, 5);
    FAILS(ERR_NOT_FOUND, project_get_deleted(c, A, "p-1", future, &got, &E));
    OK(project_list(c, A, &page, &list, &n, &E));
    ck_assert_int_eq(n, 1);
    OK(project_list(c, A, &(struct page){ 0 }, &list, &n, &E));
    ck_assert_int_eq(n, 0);
    OK(project_find_purgeable(c, A, future - 1, &got, &found, &E));
    ck_assert(!found);
    OK(project_find_purgeable(c, A, future, &got, &found, &E));
    ck_assert(found);
    OK(project_set_recovered(c, "p-1", 6, &E));
    OK(project_get(c, A, "p-1", &got, &E));
    ck_assert_int_eq(got.deleted_at, 0);
    OK(project_list(c, A, &page, &list, &n, &E));
    ck_assert_int_eq(n, 0);
}
END_TEST

static const char *ids_of_projects(struct dbc *c, struct page *page)
{
    const char *ids = "";
    struct project *list;
    size_t n;

    OK(project_list(c, A, page, &list, &n, &E));
    for (size_t i = 0; i < n; i++)
        ids = arena_printf(A, "%s%s ", ids, list[i].id);
    ck_assert_int_eq(n == 0, page->next == NULL);
    return ids;
}

START_TEST(project_pages)
{
    struct page page = { .limit = 2 };
    WRITE();

    ck_assert_str_eq(ids_of_projects(c, &page), "");
    add_project(c, "p-1", "Shop", 1);
    add_project(c, "p-2", "shop test", 10);
    add_project(c, "p-3", "100%", 10);
    add_project(c, "p-4", "a_b", 20);
    add_project(c, "p-5", "ab", 30);
    ck_assert_str_eq(ids_of_projects(c, &page), "p-5 p-4 ");
    add_project(c, "p-6", "later", 40); /* newer: not seen, and nothing moves */
    OK(project_delete(c, "p-4", &E));   /* the very row the cursor names */
    page.cursor = page.next;
    ck_assert_str_eq(ids_of_projects(c, &page), "p-3 p-2 ");
    page.cursor = page.next;
    ck_assert_str_eq(ids_of_projects(c, &page), "p-1 ");
    page.cursor = page.next;
    ck_assert_str_eq(ids_of_projects(c, &page), "");
    ck_assert_str_eq(ids_of_projects(c, &(struct page){ 0 }), "p-6 p-5 p-3 p-2 p-1 ");
    ck_assert_str_eq(ids_of_projects(c, &(struct page){ .search = "sHOP" }), "p-2 p-1 ");
    ck_assert_str_eq(ids_of_projects(c, &(struct page){ .search = "p-3" }), "p-3 ");
    ck_assert_str_eq(ids_of_projects(c, &(struct page){ .search = "%" }), "p-3 ");
    ck_assert_str_eq(ids_of_projects(c, &(struct page){ .search = "_" }), "");
    ck_assert_str_eq(ids_of_projects(c, &(struct page){ .name = "Shop" }), "p-1 ");
    ck_assert_str_eq(ids_of_projects(c, &(struct page){ .name = "shop" }), "");
}
END_TEST

START_TEST(bad_cursors)
{
    static const char *const BAD[] = { "",
                                       "!",
                                       "!!",
                                       "created_at",
                                       "created_at!",
                                       "created_at!1",
                                       "created_at!1!",
                                       "created_at!x!p",
                                       "created_at!1x!p",
                                       "created_at!!p",
                                       "created_at!1!%",
                                       "created_at!1!%00",
                                       "created_at!1!%ff",
                                       "created_at!1!a!b",
                                       "name!1!p",
                                       "created_at!99999999999999999999!p",
                                       "2025-01-01T00:00:00Z",
                                       "\xff\xfe" };
    struct project *list;
    struct branch *branches;
    size_t n;
    READ();

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        struct page page = { .cursor = BAD[i] };

        FAILS(ERR_BAD_REQUEST, project_list(c, A, &page, &list, &n, &E));
        FAILS(ERR_BAD_REQUEST, branch_list(c, A, "p", &page, &branches, &n, &E));
        page.sort_by = "created_at"; /* descending: other cursors */
        FAILS(ERR_BAD_REQUEST, branch_list(c, A, "p", &page, &branches, &n, &E));
    }
}
END_TEST

START_TEST(small_arenas)
{
    auto_arena *tiny = arena_new(256), *small = arena_new(2048);
    struct page page = { 0 };
    struct project *list, one;
    size_t n;
    WRITE();

    add_project(c, "p", arena_printf(A, "%0256d", 7), 1);
    for (int i = 0; i < 100; i++)
        add_project(c, arena_printf(A, "p-%d", i), "x", i + 1);
    FAILS(ERR_UNAVAILABLE, project_get(c, tiny, "p", &one, &E));
    FAILS(ERR_UNAVAILABLE, project_list(c, tiny, &page, &list, &n, &E));
    FAILS(ERR_UNAVAILABLE, project_list(c, small, &page, &list, &n, &E));
    OK(project_list(c, A, &page, &list, &n, &E));
    ck_assert_uint_eq(n, 101);
}
END_TEST

/* --- branches ----------------------------------------------------------------------------------------------
 */

START_TEST(branch_round_trip)
{
    struct branch b = a_branch("br-2", "feature/ü", 100), got;
    WRITE();

    add_project(c, "p", "p", 1);
    add_branch(c, "br-1", "main", NULL, 50);
    add_image(c, "im-1", "br-1", "ready", 7, 1);
    b.parent_id = "br-1";
    b.parent_lsn = UINT64_C(0xFFFFFFFF00000001);
    b.parent_timestamp = 99;
    b.is_default = true;
    b.is_protected = true;
    b.durability = "relaxed";
    b.image_id = "im-1";
    b.volume = "making";
    b.tli = 4;
    b.head_lsn = 12;
    b.annotations = "{\"k\":\"v\"}";
    b.state_changed_at = 101;
    b.updated_at = 102;
    OK(branch_insert(c, &b, &E));
    OK(branch_get_id(c, A, "br-2", &got, &E));
    ck_assert_str_eq(got.project_id, "p");
    ck_assert_str_eq(got.name, "feature/ü");
    ck_assert_str_eq(got.state, "ready");
    ck_assert_str_eq(got.parent_id, "br-1");
    ck_assert_uint_eq(got.parent_lsn, b.parent_lsn);
    ck_assert_int_eq(got.parent_timestamp, 99);
    ck_assert(got.is_default && got.is_protected);
    ck_assert_str_eq(got.durability, "relaxed");
    ck_assert_str_eq(got.image_id, "im-1");
    ck_assert_str_eq(got.volume, "making");
    ck_assert_int_eq(got.tli, 4);
    ck_assert_uint_eq(got.head_lsn, 12);
    ck_assert_str_eq(got.annotations, b.annotations);
    ck_assert_int_eq(got.state_changed_at, 101);
    ck_assert_int_eq(got.created_at, 100);
    ck_assert_int_eq(got.updated_at, 102);

    OK(branch_get_id(c, A, "br-1", &got, &E));
    ck_assert(got.parent_id == NULL && got.image_id == NULL && got.annotations == NULL);
    ck_assert(got.parent_lsn == 0 && got.head_lsn == 0 && got.tli == 0 && got.parent_timestamp == 0);
    ck_assert(!got.is_default && !got.is_protected);

    b.name = "renamed";
    b.is_protected = false;
    b.annotations = NULL;
    b.updated_at = 200;
    b.durability = "not updated";
    OK(branch_update(c, &b, &E));
    OK(branch_get_id(c, A, "br-2", &got, &E));
    ck_assert_str_eq(got.name, "renamed");
    ck_assert(!got.is_protected && got.annotations == NULL);
    ck_assert_int_eq(got.updated_at, 200);
    ck_assert_str_eq(got.durability, "relaxed");
}
END_TEST

START_TEST(branch_names)
{
    struct branch b = a_branch("br-x", "main", 9), got, *list;
    size_t n;
    WRITE();

    add_project(c, "p", "p", 1);
    add_project(c, "q", "q", 1);
    add_branch(c, "br-1", "main", NULL, 1);
    add_branch(c, "br-2", "br-1", NULL, 2); /* a name that is another's id: the id wins */
    OK(branch_get(c, A, "p", "br-1", &got, &E));
    ck_assert_str_eq(got.id, "br-1");
    OK(branch_get(c, A, "p", "main", &got, &E));
    ck_assert_str_eq(got.id, "br-1");
    FAILS(ERR_NOT_FOUND, branch_get(c, A, "q", "br-1", &got, &E));
    FAILS(ERR_NOT_FOUND, branch_get(c, A, "p", "MAIN", &got, &E));
    FAILS(ERR_NOT_FOUND, branch_get(c, A, "p", "", &got, &E));
    FAILS(ERR_NOT_FOUND, branch_get(c, A, "p", "' OR 1=1 --", &got, &E));
    ck_assert_str_eq(E.msg, "branch not found: \"' OR 1=1 --\"");

    FAILS(ERR_CONFLICT, branch_insert(c, &b, &E));
    ck_assert_str_eq(E.msg, "branch already exists; branch_name:\"main\"");
    b.id = "br-2";
    FAILS(ERR_CONFLICT, branch_update(c, &b, &E));
    b.name = "other"; /* the id is taken, not the name */
    FAILS(ERR_CONFLICT, branch_insert(c, &b, &E));
    ck_assert_ptr_null(strstr(E.msg, "branch_name"));
    b.id = "br-x";
    FAILS(ERR_NOT_FOUND, branch_update(c, &b, &E));
    b.project_id = "nowhere";
    FAILS(ERR_INTERNAL, branch_insert(c, &b, &E));

    b.project_id = "q";
    b.name = "main";
    OK(branch_insert(c, &b, &E));
    OK(branch_find_name(c, A, "main", &list, &n, &E));
    ck_assert_uint_eq(n, 2);
    OK(branch_set_state(c, "br-1", NULL, "deleting", 5, &E));
    OK(branch_find_name(c, A, "main", &list, &n, &E));
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(list[0].id, "br-x");
    FAILS(ERR_NOT_FOUND, branch_get(c, A, "p", "main", &got, &E));
    OK(branch_get(c, A, "p", "br-1", &got, &E)); /* now only a name */
    ck_assert_str_eq(got.id, "br-2");
    OK(branch_get_id(c, A, "br-1", &got, &E));
    add_branch(c, "br-3", "main", NULL, 3); /* the name is free again */
    OK(branch_find_name(c, A, "nobody", &list, &n, &E));
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(branch_steps)
{
    struct branch got;
    WRITE();

    add_project(c, "p", "p", 1);
    add_branch(c, "br-1", "main", NULL, 1);
    add_image(c, "im-1", NULL, "ready", 7, 1);
    FAILS(ERR_PRECONDITION, branch_set_state(c, "br-1", "init", "ready", 9, &E));
    FAILS(ERR_PRECONDITION, branch_set_fork(c, "br-1", 5, 6, "im-1", 9, &E));
    FAILS(ERR_NOT_FOUND, branch_set_state(c, "br-9", NULL, "init", 9, &E));
    FAILS(ERR_NOT_FOUND, branch_set_volume(c, "br-9", "ready", &E));
    FAILS(ERR_NOT_FOUND, branch_set_tli(c, "br-9", 1, &E));
    FAILS(ERR_NOT_FOUND, branch_set_head(c, "br-9", 1, &E));
    OK(branch_set_state(c, "br-1", "ready", "init", 10, &E));
    FAILS(ERR_PRECONDITION, branch_set_fork(c, "br-1", 5, 6, "no-image", 9, &E)); /* or it went meanwhile */
    OK(branch_set_fork(c, "br-1", 5, 6, "im-1", 11, &E));
    OK(branch_set_volume(c, "br-1", "ready", &E));
    FAILS(ERR_INTERNAL, branch_set_volume(c, "br-1", "half", &E));
    OK(branch_set_tli(c, "br-1", 2, &E));
    OK(branch_set_head(c, "br-1", 77, &E));
    OK(branch_get_id(c, A, "br-1", &got, &E));
    ck_assert_str_eq(got.state, "ready");
    ck_assert_int_eq(got.state_changed_at, 11);
    ck_assert_int_eq(got.updated_at, 11);
    ck_assert_uint_eq(got.parent_lsn, 5);
    ck_assert_int_eq(got.parent_timestamp, 6);
    ck_assert_str_eq(got.image_id, "im-1");
    ck_assert_str_eq(got.volume, "ready");
    ck_assert_int_eq(got.tli, 2);
    ck_assert_uint_eq(got.head_lsn, 77);
    OK(branch_set_head(c, "br-1", 0, &E));
    OK(branch_get_id(c, A, "br-1", &got, &E));
    ck_assert_uint_eq(got.head_lsn, 0);
}
END_TEST

START_TEST(branch_default)
{
    struct branch b = a_branch("br-3", "three", 1), got;
    WRITE();

    add_project(c, "p", "p", 1);
    add_project(c, "q", "q", 1);
    FAILS(ERR_NOT_FOUND, branch_get_default(c, A, "p", &got, &E));
    add_branch(c, "br-1", "one", NULL, 1);
    add_branch(c, "br-2", "two", NULL, 1);
    OK(branch_set_default(c, "p", "br-1", 5, &E));
    OK(branch_set_default(c, "p", "br-2", 6, &E));
    OK(branch_set_default(c, "p", "br-2", 7, &E));
    OK(branch_get_default(c, A, "p", &got, &E));
    ck_assert_str_eq(got.id, "br-2");
    ck_assert_int_eq(got.updated_at, 7);
    OK(branch_get_id(c, A, "br-1", &got, &E));
    ck_assert(!got.is_default);
    b.is_default = true;
    FAILS(ERR_CONFLICT, branch_insert(c, &b, &E));
    COMMIT();
    db_end(&c);

    OK(db_write(meta_db, &c, &E)); /* a branch of another project, or of none */
    FAILS(ERR_NOT_FOUND, branch_set_default(c, "q", "br-1", 8, &E));
    FAILS(ERR_NOT_FOUND, branch_set_default(c, "p", "br-9", 8, &E));
    db_end(&c);
    OK(db_read(meta_db, &c, &E));
    OK(branch_get_default(c, A, "p", &got, &E));
    ck_assert_str_eq(got.id, "br-2");
}
END_TEST

static const char *ids_of_branches(struct dbc *c, struct page *page)
{
    const char *ids = "";
    struct branch *list;
    size_t n;

    OK(branch_list(c, A, "p", page, &list, &n, &E));
    for (size_t i = 0; i < n; i++)
        ids = arena_printf(A, "%s%s ", ids, list[i].id);
    return ids;
}

static const char *all_pages(struct dbc *c, const char *sort_by, bool ascending)
{
    struct page page = { .limit = 2, .sort_by = sort_by, .ascending = ascending };
    const char *all = "", *ids;

    do {
        ids = ids_of_branches(c, &page);
        all = arena_printf(A, "%s%s", all, ids);
        page.cursor = page.next;
    } while (page.next != NULL);
    ck_assert_str_eq(ids, "");
    return all;
}

START_TEST(branch_pages)
{
    struct page page = { .limit = 2 };
    struct branch *list;
    int64_t count;
    size_t n;
    WRITE();

    add_project(c, "p", "p", 1);
    add_project(c, "q", "q", 1);
    add_branch(c, "b1", "zeta!%", NULL, 10);
    add_branch(c, "b2", "Main", NULL, 10);
    add_branch(c, "b3", "main", NULL, 20);
    add_branch(c, "b4", "ümlaut main", NULL, 5);
    add_branch(c, "b5", "gone", NULL, 30);
    OK(branch_set_state(c, "b5", NULL, "deleting", 31, &E));
    OK(branch_set_tli(c, "b1", 1, &E));
    ck_assert_str_eq(all_pages(c, NULL, false), "b3 b2 b1 b4 ");
    ck_assert_str_eq(all_pages(c, "updated_at", true), "b4 b1 b2 b3 ");
    ck_assert_str_eq(all_pages(c, "created_at", false), "b3 b2 b1 b4 ");
    ck_assert_str_eq(all_pages(c, "created_at", true), "b4 b1 b2 b3 ");
    ck_assert_str_eq(all_pages(c, "name", true), "b2 b3 b1 b4 ");
    ck_assert_str_eq(all_pages(c, "name", false), "b4 b1 b3 b2 ");
    page.sort_by = "size";
    FAILS(ERR_BAD_REQUEST, branch_list(c, A, "p", &page, &list, &n, &E));
    page.sort_by = "name"; /* a cursor belongs to its order and direction */
    ck_assert_str_eq(ids_of_branches(c, &page), "b4 b1 ");
    page.cursor = page.next;
    page.ascending = true;
    FAILS(ERR_BAD_REQUEST, branch_list(c, A, "p", &page, &list, &n, &E));
    page.sort_by = NULL;
    FAILS(ERR_BAD_REQUEST, branch_list(c, A, "p", &page, &list, &n, &E));

    ck_assert_str_eq(ids_of_branches(c, &(struct page){ .search = "MAIN" }), "b3 b2 b4 ");
    ck_assert_str_eq(ids_of_branches(c, &(struct page){ .name = "main" }), "b3 ");
    ck_assert_str_eq(ids_of_branches(c, &(struct page){ .search = "b1" }), "b1 ");
    OK(branch_count(c, "p", "main", &count, &E));
    ck_assert_int_eq(count, 3);
    OK(branch_count(c, "p", NULL, &count, &E));
    ck_assert_int_eq(count, 4);
    OK(branch_count(c, "q", NULL, &count, &E));
    ck_assert_int_eq(count, 0);
    OK(branch_list_all(c, A, "p", &list, &n, &E));
    ck_assert_uint_eq(n, 5);
}
END_TEST

START_TEST(branch_family_is_deleted)
{
    struct role r = { .branch_id = "br-1", .name = "r", .state = "ready", .created_at = 1, .updated_at = 1 };
    struct database d = { .branch_id = "br-1",
                          .name = "d",
                          .owner_name = "r",
                          .state = "ready",
                          .created_at = 1,
                          .updated_at = 1 };
    struct branch got;
    int64_t n;
    WRITE();

    add_project(c, "p", "p", 1);
    add_branch(c, "br-1", "main", NULL, 1);
    add_branch(c, "br-2", "kid", "br-1", 2);
    add_branch(c, "br-3", "kid 2", "br-1", 2);
    OK(role_insert(c, &r, &E));
    OK(database_insert(c, &d, &E));
    OK(branch_count_children(c, "br-1", &n, &E));
    ck_assert_int_eq(n, 2);
    OK(branch_set_state(c, "br-2", NULL, "deleting", 3, &E));
    OK(branch_count_children(c, "br-1", &n, &E));
    ck_assert_int_eq(n, 1);
    COMMIT();
    db_end(&c);

    OK(db_write(meta_db, &c, &E));
    FAILS(ERR_INTERNAL, branch_delete(c, "br-1", &E)); /* br-3 lives */
    db_end(&c);
    OK(db_write(meta_db, &c, &E));
    OK(branch_set_state(c, "br-3", NULL, "deleting", 3, &E));
    FAILS(ERR_INTERNAL, project_delete(c, "p", &E));
    OK(branch_delete(c, "br-1", &E));
    OK(branch_delete(c, "br-1", &E));
    FAILS(ERR_NOT_FOUND, branch_get_id(c, A, "br-1", &got, &E));
    OK(branch_get_id(c, A, "br-2", &got, &E));
    ck_assert_ptr_null(got.parent_id);
    OK(branch_delete(c, "br-2", &E));
    OK(branch_delete(c, "br-3", &E));
    OK(project_delete(c, "p", &E));
}
END_TEST

/* --- images ------------------------------------------------------------------------------------------------
 */

START_TEST(image_round_trip)
{
    struct image i = { .id = "im-1",
                       .pg_version = 15,
                       .method = "backup",
                       .state = "taking",
                       .tli = 2,
                       .redo_lsn = 8,
                       .lsn = 9,
                       .created_at = 4 },
                 got;
    bool found = true;
    WRITE();

    FAILS(ERR_NOT_FOUND, image_get(c, A, "im-1", &got, &E));
    FAILS(ERR_NOT_FOUND, image_update(c, &i, &E));
    FAILS(ERR_NOT_FOUND, image_set_state(c, "im-1", "ready", &E));
    OK(image_insert(c, &i, &E));
    FAILS(ERR_CONFLICT, image_insert(c, &i, &E));
    OK(image_get(c, A, "im-1", &got, &E));
    ck_assert_ptr_null(got.branch_id);
    ck_assert_int_eq(got.pg_version, 15);
    ck_assert_str_eq(got.method, "backup");
    ck_assert_str_eq(got.state, "taking");
    ck_assert(got.tli == 2 && got.redo_lsn == 8 && got.lsn == 9 && got.created_at == 4);
    OK(image_find_template(c, A, 15, &got, &found, &E));
    ck_assert(!found);
    i.state = "snapped";
    i.method = "snapshot";
    i.tli = 3;
    i.redo_lsn = 10;
    i.lsn = 11;
    i.created_at = 12;
    OK(image_update(c, &i, &E));
    OK(image_set_state(c, "im-1", "ready", &E));
    FAILS(ERR_INTERNAL, image_set_state(c, "im-1", "blurred", &E));
    OK(image_find_template(c, A, 15, &got, &found, &E));
    ck_assert(found);
    ck_assert_str_eq(got.id, "im-1");
    ck_assert_str_eq(got.method, "snapshot");
    ck_assert(got.tli == 3 && got.redo_lsn == 10 && got.lsn == 11 && got.created_at == 12);
    OK(image_find_template(c, A, 16, &got, &found, &E));
    ck_assert(!found);
    OK(image_delete(c, "im-1", &E));
    OK(image_delete(c, "im-1", &E));
}
END_TEST

static const char *ids_of_images(struct image *list, size_t n)
{
    const char *ids = "";

    for (size_t i = 0; i < n; i++)
        ids = arena_printf(A, "%s%s ", ids, list[i].id);
    return ids;
}

START_TEST(image_places_and_uses)
{
    struct branch b = a_branch("br-2", "kid", 1), got_branch;
    struct image got, *list;
    bool found;
    size_t n;
    WRITE();

    add_project(c, "p", "p", 1);
    add_branch(c, "br-1", "main", NULL, 1);
    add_image(c, "im-template", NULL, "ready", 50, 1);
    add_image(c, "im-trash-template", NULL, "trash", 50, 1);
    add_image(c, "im-old", "br-1", "ready", 100, 1);
    add_image(c, "im-used", "br-1", "ready", 200, 2);
    add_image(c, "im-new", "br-1", "ready", 300, 3);
    add_image(c, "im-taking", "br-1", "taking", 0, 4);
    add_image(c, "im-snapped", "br-1", "snapped", 250, 5);
    add_image(c, "im-trash", "br-1", "trash", 400, 6);
    b.image_id = "im-used";
    OK(branch_insert(c, &b, &E));
    add_image(c, "im-kid", "br-2", "ready", 90, 7); /* the newest of its branch */

    OK(image_find_at(c, A, "br-1", 250, &got, &found, &E));
    ck_assert(found);
    ck_assert_str_eq(got.id, "im-snapped");
    OK(image_find_at(c, A, "br-1", 400, &got, &found, &E));
    ck_assert(!found);
    OK(image_find_at(c, A, "br-1", 0, &got, &found, &E));
    ck_assert(!found);
    OK(image_find_at(c, A, "br-2", 250, &got, &found, &E));
    ck_assert(!found);
    OK(image_list(c, A, "br-2", &list, &n, &E));
    ck_assert_str_eq(ids_of_images(list, n), "im-kid ");
    OK(image_list(c, A, NULL, &list, &n, &E));
    ck_assert_uint_eq(n, 9);
    OK(branch_set_begin(c, "br-1", 1, 50, &E));
    OK(image_list_standing(c, A, &list, &n, &E));
    ck_assert_uint_eq(n, 9);
    OK(branch_set_history(c, "br-1", 300, "im-new", &E));
    OK(branch_get_id(c, A, "br-1", &b, &E));
    ck_assert_uint_eq(b.history_from, 300);
    ck_assert_str_eq(b.image_id, "im-new");
    struct branch_line *lines;
    OK(branch_list_lines(c, A, 1, &lines, &n, &E));
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(lines[0].id, "br-1");
    ck_assert_uint_eq(lines[0].history_from, 300);

    OK(branch_set_volume(c, "br-2", "ready", &E));
    COMMIT();
    db_end(&c);

    OK(db_write(meta_db, &c, &E));
    FAILS(ERR_INTERNAL, image_delete(c, "im-used", &E)); /* a living branch is cloned from it */
    db_end(&c);
    OK(db_write(meta_db, &c, &E));
    OK(branch_set_state(c, "br-2", NULL, "deleting", 9, &E));
    OK(image_delete(c, "im-used", &E)); /* one being deleted lets go */
    OK(branch_get_id(c, A, "br-2", &got_branch, &E));
    ck_assert_ptr_null(got_branch.image_id);
}
END_TEST

Suite *t_meta_tree_suite(void)
{
    Suite *s = suite_create("meta_tree");
    TCase *t = tcase_create("meta_tree");

    tcase_add_checked_fixture(t, meta_setup, meta_teardown);
    TESTS(t, project_round_trip, project_life, project_deleted, project_pages, bad_cursors, small_arenas,
          branch_round_trip, branch_names, branch_steps, branch_default, branch_pages,
          branch_family_is_deleted, image_round_trip, image_places_and_uses);
    suite_add_tcase(s, t);
    return s;
}
