/*
 * t_meta_replay.c - kept answers, and what is to be part of somebody else's transaction
 */
#include "meta_bed.h"

#include "meta/replay.h"

Suite *t_meta_replay_suite(void);

static struct replay kept(const char *account, const char *key, int64_t at)
{
    return (struct replay){ .account = account, .key = key, .digest = "d", .created_at = at };
}

START_TEST(life)
{
    struct replay r = kept("admin", "k", 10), other = kept("7", "k", 20), got;
    bool found;
    WRITE();
    OK(replay_insert(c, &r, &E));
    OK(replay_insert(c, &other, &E));
    FAILS(ERR_CONFLICT, replay_insert(c, &r, &E));
    OK(replay_find(c, A, "admin", "k", &got, &found, &E));
    ck_assert(found);
    ck_assert_int_eq(got.status, 0);
    ck_assert_ptr_null(got.answer);
    r.status = 201;
    r.answer = "sealed";
    OK(replay_update(c, &r, &E));
    OK(replay_find(c, A, "admin", "k", &got, &found, &E));
    ck_assert_int_eq(got.status, 201);
    ck_assert_str_eq(got.answer, "sealed");
    ck_assert_str_eq(got.digest, "d");
    OK(replay_find(c, A, "admin", "none", &got, &found, &E));
    ck_assert(!found);
    OK(replay_prune(c, 20, 100, &E));
    OK(replay_find(c, A, "admin", "k", &got, &found, &E));
    ck_assert(!found);
    OK(replay_find(c, A, "7", "k", &got, &found, &E));
    ck_assert(found);
    OK(replay_delete(c, "7", "k", &E));
    OK(replay_delete(c, "7", "k", &E));
    FAILS(ERR_NOT_FOUND, replay_update(c, &r, &E));
    COMMIT();
}
END_TEST

/* ---- hooks ---- */

static int calls;

static int count(struct dbc *c, void *arg, struct err *err)
{
    (void)c;
    (void)err;
    calls += *(int *)arg;
    return 0;
}

static int refuse(struct dbc *c, void *arg, struct err *err)
{
    (void)c;
    (void)arg;
    return err_set(err, ERR_PRECONDITION, "no");
}

static int keep(struct dbc *c, void *arg, struct err *err)
{
    return replay_insert(c, arg, err);
}

static void empty_transaction(void)
{
    WRITE();
    COMMIT();
}

START_TEST(hooks_run_once)
{
    int one = 1, hundred = 100;
    calls = 0;
    db_when_begun(count, &one);
    db_when_ending(count, &hundred);
    {
        READ();
    }
    ck_assert_int_eq(calls, 0);
    empty_transaction();
    ck_assert_int_eq(calls, 101);
    empty_transaction();
    ck_assert_int_eq(calls, 101);
    db_when_begun(count, &one);
    db_when_begun(NULL, NULL);
    empty_transaction();
    ck_assert_int_eq(calls, 101);
}
END_TEST

START_TEST(a_hook_that_refuses)
{
    struct dbc *refused = NULL;
    struct replay r = kept("admin", "k", 10), got;
    bool found;
    db_when_begun(refuse, NULL);
    FAILS(ERR_PRECONDITION, db_write(meta_db, &refused, &E));
    ck_assert_ptr_null(refused);
    empty_transaction(); /* the writer is free again */
    {
        WRITE();
        OK(replay_insert(c, &r, &E));
        db_when_ending(refuse, NULL);
        FAILS(ERR_PRECONDITION, db_commit(c, &E));
    }
    READ();
    OK(replay_find(c, A, "admin", "k", &got, &found, &E));
    ck_assert(!found);
}
END_TEST

START_TEST(a_hook_writes_into_the_transaction)
{
    struct replay r = kept("admin", "k", 10), got;
    bool found;
    db_when_ending(keep, &r);
    {
        WRITE(); /* rolled back: so is what the hook would have written, and it has not run */
    }
    {
        READ();
        OK(replay_find(c, A, "admin", "k", &got, &found, &E));
        ck_assert(!found);
    }
    empty_transaction();
    READ();
    OK(replay_find(c, A, "admin", "k", &got, &found, &E));
    ck_assert(found);
}
END_TEST

Suite *t_meta_replay_suite(void)
{
    Suite *s = suite_create("meta_replay");
    TCase *t = tcase_create("meta_replay");
    tcase_add_checked_fixture(t, meta_setup, meta_teardown);
    TESTS(t, life, hooks_run_once, a_hook_that_refuses, a_hook_writes_into_the_transaction);
    suite_add_tcase(s, t);
    return s;
}
