/*
 * t_meta_directory.c - which endpoints mere-proxy is told of, and that no change of what it is told goes
 * unnoticed
 */
#include "meta_bed.h"

#include "meta/directory.h"
#include "meta/endpoint.h"
#include "meta/role.h"

Suite *t_meta_directory_suite(void);

static int64_t seen; /* the latest change that a test has looked at */

static void add_endpoint(struct dbc *c, const char *id, const char *branch_id, const char *type)
{
    struct endpoint e = { .id = id,
                          .project_id = "p",
                          .branch_id = branch_id,
                          .type = type,
                          .desired = "stopped",
                          .observed = "STOPPED",
                          .min_cu = 1,
                          .max_cu = 1,
                          .created_at = 1,
                          .updated_at = 1 };
    OK(endpoint_insert(c, &e, &E));
}

static struct role add_role(struct dbc *c, const char *branch_id, const char *name)
{
    struct role r = { .branch_id = branch_id,
                      .name = name,
                      .verifier = (const uint8_t *)"v",
                      .verifier_len = 1,
                      .state = "ready",
                      .created_at = 1,
                      .updated_at = 1 };
    OK(role_insert(c, &r, &E));
    return r;
}

static void setup(void)
{
    meta_setup();
    WRITE();
    add_project(c, "p", "p", 1);
    add_branch(c, "br-1", "one", NULL, 1);
    add_branch(c, "br-2", "two", NULL, 2);
    add_endpoint(c, "ep-1", "br-1", "read_write");
    add_endpoint(c, "ep-1r", "br-1", "read_only");
    add_endpoint(c, "ep-2", "br-2", "read_write");
    COMMIT();
    OK(directory_last_change(c, &seen, &E));
    ck_assert_int_gt(seen, 0);
}

/* The changes since the last look, by the order they came in: "ep-1 ep-2". */
static const char *news(struct dbc *c)
{
    struct listed_change *list;
    size_t n;
    const char *text = "";
    OK(directory_changes(c, A, seen, 100, &list, &n, &E));
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_gt(list[i].seq, seen);
        seen = list[i].seq;
        text = arena_printf(A, "%s%s%s", text, i ? " " : "", list[i].endpoint_id);
    }
    return text;
}

START_TEST(changes_of_roles)
{
    WRITE();
    struct role r = add_role(c, "br-1", "ann");
    ck_assert_str_eq(news(c), "ep-1 ep-1r");
    r.verifier = (const uint8_t *)"w";
    OK(role_update(c, &r, &E));
    ck_assert_str_eq(news(c), "ep-1 ep-1r");
    r.verifier = NULL;
    r.verifier_len = 0;
    OK(role_update(c, &r, &E));
    ck_assert_str_eq(news(c), "ep-1 ep-1r");
    r.valid_until = 7;
    OK(role_update(c, &r, &E));
    ck_assert_str_eq(news(c), "ep-1 ep-1r");
    r.no_login = true;
    OK(role_update(c, &r, &E));
    ck_assert_str_eq(news(c), "ep-1 ep-1r");
    OK(role_begin_drop(c, &r, 9, &E));
    ck_assert_str_eq(news(c), "ep-1 ep-1r");
    r = add_role(c, "br-2", "bob");
    ck_assert_str_eq(news(c), "ep-2");
    OK(role_delete(c, &r, &E));
    ck_assert_str_eq(news(c), "ep-2");
}
END_TEST

START_TEST(changes_of_endpoints)
{
    struct branch b = a_branch("br-3", "three", 3);
    WRITE();
    OK(branch_insert(c, &b, &E));
    ck_assert_str_eq(news(c), "");
    add_endpoint(c, "ep-3", "br-3", "read_write");
    ck_assert_str_eq(news(c), "ep-3");
    OK(endpoint_set_desired(c, "ep-3", "deleted", 5, &E));
    ck_assert_str_eq(news(c), "ep-3");
    OK(endpoint_delete(c, "ep-3", &E));
    ck_assert_str_eq(news(c), "ep-3");
    OK(endpoint_move_all(c, "br-2", "br-3", 6, &E));
    ck_assert_str_eq(news(c), "ep-2");
}
END_TEST

START_TEST(changes_of_branches_and_projects)
{
    struct project p;
    struct branch b;
    WRITE();
    OK(branch_get_id(c, A, "br-1", &b, &E));
    b.is_protected = true;
    OK(branch_update(c, &b, &E));
    ck_assert_str_eq(news(c), "ep-1 ep-1r");
    b.expires_at = 99;
    OK(branch_update(c, &b, &E));
    ck_assert_str_eq(news(c), "ep-1 ep-1r");
    OK(branch_set_state(c, "br-2", NULL, "deleting", 5, &E));
    ck_assert_str_eq(news(c), "ep-2");
    OK(project_get(c, A, "p", &p, &E));
    p.settings = "{\"allowed_ips\":{\"ips\":[\"10.0.0.1\"]}}";
    OK(project_update(c, &p, &E));
    ck_assert_str_eq(news(c), "ep-1 ep-1r ep-2");
}
END_TEST

/* What a running compute writes all the time is no news. */
START_TEST(no_changes)
{
    struct endpoint e;
    struct project p;
    struct branch b;
    WRITE();
    struct role r = add_role(c, "br-1", "ann");
    (void)news(c);
    OK(endpoint_get_id(c, A, "ep-1", &e, &E));
    e.observed = "RUNNING";
    e.generation = 4;
    e.last_active = 77;
    OK(endpoint_set_observed(c, &e, &E));
    e.disabled = true;
    OK(endpoint_update(c, &e, &E));
    OK(endpoint_set_desired(c, "ep-1", "running", 5, &E));
    r.state = "creating";
    OK(role_update(c, &r, &E));
    OK(role_begin_anew(c, "br-1", 9, &E));
    OK(branch_get_id(c, A, "br-1", &b, &E));
    b.name = "another";
    OK(branch_update(c, &b, &E));
    OK(project_get(c, A, "p", &p, &E));
    p.name = "another";
    OK(project_update(c, &p, &E));
    ck_assert_str_eq(news(c), "");
}
END_TEST

START_TEST(only_the_latest_change_is_kept)
{
    struct listed_change *list;
    size_t n;
    WRITE();
    struct role r = add_role(c, "br-2", "ann");
    r.valid_until = 5;
    OK(role_update(c, &r, &E));
    OK(directory_changes(c, A, seen, 100, &list, &n, &E));
    ck_assert_uint_eq(n, 1);
    /* A reader that has seen the first change sees the second, however many were forgotten meanwhile. */
    int64_t before = list[0].seq;
    OK(directory_forget_changes(c, before, &E));
    r.valid_until = 6;
    OK(role_update(c, &r, &E));
    OK(directory_changes(c, A, before, 100, &list, &n, &E));
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(list[0].endpoint_id, "ep-2");
    OK(directory_forget_changes(c, before, &E)); /* not the new one */
    OK(directory_changes(c, A, 0, 100, &list, &n, &E));
    ck_assert_uint_eq(n, 1);
}
END_TEST

/* What happens to a branch or an endpoint, and whether anybody may see it. */
START_TEST(who_is_listed)
{
    struct listed *list, one;
    struct branch b;
    size_t n;
    bool found;
    WRITE();
    OK(directory_page(c, A, "", 100, 50, &list, &n, &E));
    ck_assert_uint_eq(n, 3);
    ck_assert_str_eq(list[0].endpoint_id, "ep-1");
    ck_assert_str_eq(list[0].branch_id, "br-1");
    ck_assert_str_eq(list[2].endpoint_id, "ep-2");
    OK(directory_page(c, A, "", 2, 50, &list, &n, &E));
    ck_assert_uint_eq(n, 2);
    OK(directory_page(c, A, list[1].endpoint_id, 2, 50, &list, &n, &E));
    ck_assert_uint_eq(n, 1);

    OK(branch_get_id(c, A, "br-1", &b, &E));
    b.expires_at = 50;
    b.is_protected = true;
    OK(branch_update(c, &b, &E));
    OK(directory_get(c, A, "ep-1", 49, &one, &found, &E));
    ck_assert(found && one.is_protected);
    OK(directory_get(c, A, "ep-1", 50, &one, &found, &E));
    ck_assert(!found);
    OK(directory_get(c, A, "ep-9", 50, &one, &found, &E));
    ck_assert(!found);
    OK(endpoint_set_desired(c, "ep-2", "deleted", 5, &E));
    OK(directory_page(c, A, "", 100, 50, &list, &n, &E));
    ck_assert_uint_eq(n, 0);

    b = a_branch("br-3", "hidden", 3);
    b.kind = "temporary";
    OK(branch_insert(c, &b, &E));
    add_endpoint(c, "ep-3", "br-3", "read_write");
    OK(directory_get(c, A, "ep-3", 1, &one, &found, &E));
    ck_assert(!found);
}
END_TEST

static int told;

static void on_insert(void *arg)
{
    ck_assert_ptr_eq(arg, &told);
    told++;
}

START_TEST(commits_are_told)
{
    db_on_insert(meta_db, DIRECTORY_CHANGES, on_insert, &told);
    {
        WRITE();
        (void)add_role(c, "br-1", "ann");
        (void)add_role(c, "br-2", "ann");
        ck_assert_int_eq(told, 0);
        COMMIT();
        ck_assert_int_eq(told, 1);
    }
    {
        WRITE(); /* given up */
        (void)add_role(c, "br-1", "bob");
    }
    {
        WRITE(); /* of another table */
        OK(endpoint_set_desired(c, "ep-1", "running", 5, &E));
        OK(directory_forget_changes(c, INT64_MAX, &E));
        COMMIT();
    }
    ck_assert_int_eq(told, 1);
    db_on_insert(meta_db, NULL, NULL, NULL);
    WRITE();
    (void)add_role(c, "br-1", "bob");
    COMMIT();
    ck_assert_int_eq(told, 1);
}
END_TEST

Suite *t_meta_directory_suite(void)
{
    Suite *s = suite_create("meta_directory");
    TCase *t = tcase_create("directory");

    tcase_add_checked_fixture(t, setup, meta_teardown);
    TESTS(t, changes_of_roles, changes_of_endpoints, changes_of_branches_and_projects, no_changes,
          only_the_latest_change_is_kept, who_is_listed, commits_are_told);
    suite_add_tcase(s, t);
    return s;
}
