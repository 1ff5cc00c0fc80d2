/*
 * t_meta_keep.c - statements on what was deleted, expires, or is kept
 */
#include "meta_bed.h"

#include "base/clock.h"
#include "meta/bookmark.h"

Suite *t_meta_keep_suite(void);

static void family(struct dbc *c)
{
    add_project(c, "p", "p", 1);
    add_branch(c, "root", "main", NULL, 1);
    add_branch(c, "a", "a", "root", 2);
    add_branch(c, "b", "bee", "a", 3);
}

static struct branch get(struct dbc *c, const char *id)
{
    struct branch b;

    OK(branch_get_id(c, A, id, &b, &E));
    return b;
}

START_TEST(deleted_and_recovered)
{
    struct branch b;
    struct page page = { 0 };
    size_t n;
    struct branch *list;
    WRITE();

    family(c);
    OK(branch_set_deleted(c, "b", clock_wall_us() + 1000000000, "user", 10, &E));
    FAILS(ERR_NOT_FOUND, branch_get(c, A, "p", "b", &b, &E));
    FAILS(ERR_NOT_FOUND, branch_get_deleted(c, A, "p", "a", 20, &b, &E));
    FAILS(ERR_NOT_FOUND, branch_get_deleted(c, A, "q", "b", 20, &b, &E));
    FAILS(ERR_NOT_FOUND, branch_get_deleted(c, A, "p", "b", INT64_MAX, &b, &E));
    OK(branch_get_deleted(c, A, "p", "bee", 20, &b, &E));
    ck_assert_str_eq(b.deletion_method, "user");
    ck_assert_int_eq(b.deleted_at, 10);
    OK(branch_list(c, A, "p", &page, &list, &n, &E));
    ck_assert_uint_eq(n, 2);
    page.deleted = true;
    OK(branch_list(c, A, "p", &page, &list, &n, &E));
    ck_assert_uint_eq(n, 3);

    /* Its name is free, and taken by the time it shall come back. */
    add_branch(c, "b2", "bee", "a", 4);
    FAILS(ERR_CONFLICT, branch_set_recovered(c, &b, 30, &E));
    ck_assert_ptr_nonnull(strstr(E.msg, "\"bee\""));
    OK(branch_set_deleted(c, "b2", INT64_MAX, "user", 40, &E));
    FAILS(ERR_CONFLICT, branch_get_deleted(c, A, "p", "bee", 50, &b, &E));
    OK(branch_get_deleted(c, A, "p", "b2", 50, &b, &E)); /* an id is never ambiguous */
    OK(branch_set_recovered(c, &b, 60, &E));
    FAILS(ERR_NOT_FOUND, branch_set_recovered(c, &b, 60, &E));
    b = get(c, "b2");
    ck_assert_str_eq(b.state, "ready");
    ck_assert_int_eq(b.deleted_at, 0);
    ck_assert_int_eq(b.recoverable_until, 0);
    ck_assert_ptr_null(b.deletion_method);
}
END_TEST

static size_t n_purgeable(struct dbc *c, int64_t now)
{
    struct branch *list;
    size_t n;

    OK(branch_list_purgeable(c, A, now, 10, &list, &n, &E));
    return n;
}

START_TEST(purged_when_nothing_stands_on_it)
{
    bool stood_on;
    WRITE();

    family(c);
    OK(branch_set_deleted(c, "a", 100, "user", 10, &E));
    OK(branch_is_stood_on(c, "a", &stood_on, &E));
    ck_assert(stood_on);
    ck_assert_uint_eq(n_purgeable(c, 100), 0);
    OK(branch_set_deleted(c, "b", 200, "user", 10, &E));
    ck_assert_uint_eq(n_purgeable(c, 199), 0);
    ck_assert_uint_eq(n_purgeable(c, 200), 1); /* the parent still has a child */
    OK(branch_set_state(c, "b", NULL, "deleting", 210, &E));
    ck_assert_uint_eq(n_purgeable(c, 220), 0);
    OK(branch_delete(c, "b", &E));
    ck_assert_uint_eq(n_purgeable(c, 99), 0);
    ck_assert_uint_eq(n_purgeable(c, 220), 1);
    OK(branch_is_stood_on(c, "a", &stood_on, &E));
    ck_assert(!stood_on);
}
END_TEST

static size_t n_expired(struct dbc *c, int64_t now)
{
    struct branch *list;
    size_t n;

    OK(branch_list_expired(c, A, now, 10, &list, &n, &E));
    return n;
}

START_TEST(expires)
{
    struct branch b;
    WRITE();

    family(c);
    b = get(c, "b");
    ck_assert(!branch_has_expired(&b, INT64_MAX));
    b.expires_at = 1000;
    b.ttl_seconds = 7;
    OK(branch_update(c, &b, &E));
    b = get(c, "b");
    ck_assert_int_eq(b.expires_at, 1000);
    ck_assert_int_eq(b.ttl_seconds, 7);
    ck_assert(branch_has_expired(&b, 1000));
    ck_assert(!branch_has_expired(&b, 999));
    FAILS(ERR_NOT_FOUND, branch_get(c, A, "p", "b", &b, &E));
    ck_assert_ptr_nonnull(strstr(E.msg, "expired"));
    ck_assert_uint_eq(n_expired(c, 999), 0);
    ck_assert_uint_eq(n_expired(c, 1000), 1);
    /* What holds something up does not go by itself, however that came about. */
    b = get(c, "a");
    b.expires_at = 1000;
    OK(branch_update(c, &b, &E));
    ck_assert_uint_eq(n_expired(c, 1000), 1);
    b = get(c, "b");
    b.is_protected = true;
    OK(branch_update(c, &b, &E));
    ck_assert_uint_eq(n_expired(c, 1000), 0);
}
END_TEST

START_TEST(the_parent_that_users_know)
{
    struct branch snap = a_branch("snap", "s", 4), child = a_branch("c", "c", 5);
    WRITE();

    family(c);
    snap.kind = "snapshot";
    snap.made_by = "user";
    snap.parent_id = "b";
    snap.restored_as = "b";
    child.parent_id = "snap";
    child.restored_from = "snap";
    child.restored_as = "a";
    child.restore_status = "restored";
    OK(branch_insert(c, &snap, &E));
    OK(branch_insert(c, &child, &E));
    ck_assert_ptr_null(get(c, "root").shown_parent_id);
    ck_assert_str_eq(get(c, "b").shown_parent_id, "a");
    ck_assert_str_eq(get(c, "c").shown_parent_id, "b");
    ck_assert_str_eq(get(c, "c").parent_id, "snap");
    ck_assert_str_eq(get(c, "c").restore_status, "restored");
    ck_assert_str_eq(get(c, "snap").shown_parent_id, "b");
    OK(branch_set_deleted(c, "b", 100, "user", 10, &E));
    ck_assert_ptr_null(get(c, "c").shown_parent_id);
    ck_assert_ptr_null(get(c, "snap").shown_parent_id);
}
END_TEST

START_TEST(bookmarks)
{
    struct bookmark b = { .branch_id = "b", .name = "here", .lsn = 7, .created_at = 1, .updated_at = 1 }, got;
    struct bookmark *list;
    struct branch *unheld, hold = a_branch("hold", "here", 4);
    size_t n;
    int64_t removed;
    WRITE();

    family(c);
    hold.kind = "snapshot";
    hold.made_by = "bookmark";
    hold.parent_id = "b";
    OK(branch_insert(c, &hold, &E));
    OK(branch_list_unheld(c, A, 100, 10, &unheld, &n, &E));
    ck_assert_uint_eq(n, 1);
    FAILS(ERR_NOT_FOUND, bookmark_get(c, A, "b", "here", &got, &E));
    b.hold_id = "hold";
    OK(bookmark_put(c, &b, &E));
    OK(branch_list_unheld(c, A, 100, 10, &unheld, &n, &E));
    ck_assert_uint_eq(n, 0);
    b.lsn = 9;
    b.updated_at = 5;
    OK(bookmark_put(c, &b, &E));
    OK(bookmark_get(c, A, "b", "here", &got, &E));
    ck_assert_uint_eq(got.lsn, 9);
    ck_assert_str_eq(got.hold_id, "hold");
    FAILS(ERR_NOT_FOUND, bookmark_get(c, A, "a", "here", &got, &E));
    OK(bookmark_prune(c, INT64_MAX, &removed, &E));
    ck_assert_int_eq(removed, 0);
    b.expires_at = 50;
    OK(bookmark_put(c, &b, &E));
    OK(bookmark_list(c, A, "b", &list, &n, &E)); /* past its time: not there, though its row still is */
    ck_assert_uint_eq(n, 0);
    OK(bookmark_prune(c, 49, &removed, &E));
    ck_assert_int_eq(removed, 0);
    OK(bookmark_prune(c, 50, &removed, &E));
    ck_assert_int_eq(removed, 1);
    b.expires_at = 0;
    OK(bookmark_put(c, &b, &E));
    OK(branch_set_deleted(c, "b", 100, "user", 60, &E));
    OK(bookmark_prune(c, 99, &removed, &E));
    ck_assert_int_eq(removed, 0);
    OK(bookmark_prune(c, 100, &removed, &E));
    ck_assert_int_eq(removed, 1);
    OK(bookmark_delete(c, "b", "here", &E));
}
END_TEST

Suite *t_meta_keep_suite(void)
{
    Suite *s = suite_create("meta_keep");
    TCase *t = tcase_create("meta_keep");

    tcase_add_checked_fixture(t, meta_setup, meta_teardown);
    TESTS(t, deleted_and_recovered, purged_when_nothing_stands_on_it, expires, the_parent_that_users_know,
          bookmarks);
    suite_add_tcase(s, t);
    return s;
}
