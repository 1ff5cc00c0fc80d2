/*
 * t_meta_use.c - statements on endpoints, roles, databases, operations and API keys
 */
#include "meta_bed.h"

#include "meta/apikey.h"
#include "meta/endpoint.h"
#include "meta/operation.h"
#include "meta/role.h"

Suite *t_meta_use_suite(void);

/* --- endpoints ---------------------------------------------------------------------------------------------
 */

static struct endpoint an_endpoint(const char *id, const char *branch_id, const char *type, int64_t at)
{
    return (struct endpoint){ .id = id,
                              .project_id = "p",
                              .branch_id = branch_id,
                              .type = type,
                              .desired = "stopped",
                              .observed = "STOPPED",
                              .min_cu = 0.25,
                              .max_cu = 2,
                              .created_at = at,
                              .updated_at = at };
}

static void seed_branches(struct dbc *c)
{
    add_project(c, "p", "p", 1);
    add_project(c, "q", "q", 1);
    add_branch(c, "br-1", "one", NULL, 1);
    add_branch(c, "br-2", "two", NULL, 2);
}

START_TEST(endpoint_round_trip)
{
    struct endpoint e = an_endpoint("ep-1", "br-1", "read_write", 5), got;
    WRITE();

    seed_branches(c);
    FAILS(ERR_NOT_FOUND, endpoint_get_id(c, A, "ep-1", &got, &E));
    FAILS(ERR_NOT_FOUND, endpoint_update(c, &e, &E));
    FAILS(ERR_NOT_FOUND, endpoint_set_observed(c, &e, &E));
    e.name = "n";
    e.disabled = true;
    e.suspend_timeout_seconds = -1;
    e.park_sessions = true;
    e.pg_settings = "{\"work_mem\":\"8MB\"}";
    e.generation = 3;
    e.process = (struct proc_identity){ .pid = 10,
                                        .start_time = 20,
                                        .boot_id = "5a2c3c1e-0000-4000-8000-123456789abc" };
    e.last_error = "boom";
    e.last_active = 6;
    e.started_at = 7;
    e.suspended_at = 8;
    e.updated_at = 9;
    OK(endpoint_insert(c, &e, &E));
    OK(endpoint_get(c, A, "p", "ep-1", &got, &E));
    ck_assert_str_eq(got.project_id, "p");
    ck_assert_str_eq(got.branch_id, "br-1");
    ck_assert_str_eq(got.type, "read_write");
    ck_assert_str_eq(got.name, "n");
    ck_assert_str_eq(got.desired, "stopped");
    ck_assert_str_eq(got.observed, "STOPPED");
    ck_assert(got.disabled);
    ck_assert_int_eq(got.suspend_timeout_seconds, -1);
    ck_assert(got.park_sessions);
    ck_assert_double_eq(got.min_cu, 0.25);
    ck_assert_double_eq(got.max_cu, 2);
    ck_assert_str_eq(got.pg_settings, e.pg_settings);
    ck_assert_int_eq(got.generation, 3);
    ck_assert_int_eq(got.process.pid, 10);
    ck_assert_int_eq(got.process.start_time, 20);
    ck_assert_str_eq(got.process.boot_id, e.process.boot_id);
    ck_assert_str_eq(got.last_error, "boom");
    ck_assert(got.last_active == 6 && got.started_at == 7 && got.suspended_at == 8);
    ck_assert(got.created_at == 5 && got.updated_at == 9);

    e = got; /* two writers, each with its own columns */
    e.name = NULL;
    e.disabled = false;
    e.suspend_timeout_seconds = 60;
    e.park_sessions = false;
    e.min_cu = 1;
    e.max_cu = 1.5;
    e.pg_settings = NULL;
    e.updated_at = 30;
    e.observed = "RUNNING";
    e.generation = 99;
    OK(endpoint_update(c, &e, &E));
    OK(endpoint_get_id(c, A, "ep-1", &got, &E));
    ck_assert(got.name == NULL && !got.disabled && got.suspend_timeout_seconds == 60 && !got.park_sessions &&
              got.pg_settings == NULL);
    ck_assert_double_eq(got.min_cu, 1);
    ck_assert_double_eq(got.max_cu, 1.5);
    ck_assert_int_eq(got.updated_at, 30);
    ck_assert_str_eq(got.observed, "STOPPED");
    ck_assert_int_eq(got.generation, 3);
    e.name = "not set by observing";
    e.process = (struct proc_identity){ 0 };
    e.last_error = NULL;
    e.last_active = 40;
    e.started_at = 41;
    e.suspended_at = 0;
    OK(endpoint_set_observed(c, &e, &E));
    OK(endpoint_get_id(c, A, "ep-1", &got, &E));
    ck_assert_str_eq(got.observed, "RUNNING");
    ck_assert_int_eq(got.generation, 99);
    ck_assert(got.process.pid == 0 && got.process.start_time == 0 && got.process.boot_id[0] == '\0');
    ck_assert(got.last_error == NULL && got.name == NULL);
    ck_assert(got.last_active == 40 && got.started_at == 41 && got.suspended_at == 0);
}
END_TEST

static const char *ids_of_endpoints(struct dbc *c, const char *project_id, const char *branch_id,
                                    bool with_deleted)
{
    const char *ids = "";
    struct endpoint *list;
    size_t n;

    OK(endpoint_list(c, A, project_id, branch_id, with_deleted, &list, &n, &E));
    for (size_t i = 0; i < n; i++)
        ids = arena_printf(A, "%s%s ", ids, list[i].id);
    return ids;
}

START_TEST(endpoint_life)
{
    struct endpoint w = an_endpoint("ep-1", "br-1", "read_write", 3),
                    w2 = an_endpoint("ep-2", "br-1", "read_write", 2),
                    r = an_endpoint("ep-3", "br-1", "read_only", 1),
                    o = an_endpoint("ep-4", "br-2", "read_write", 4), got;
    bool found = true;
    WRITE();

    seed_branches(c);
    OK(endpoint_find_writer(c, A, "br-1", &got, &found, &E));
    ck_assert(!found);
    OK(endpoint_insert(c, &w, &E));
    FAILS(ERR_CONFLICT, endpoint_insert(c, &w2, &E));
    ck_assert_ptr_nonnull(strstr(E.msg, "read-write endpoint already exists; branch_id:\"br-1\""));
    OK(endpoint_insert(c, &r, &E));
    FAILS(ERR_CONFLICT, endpoint_insert(c, &r, &E)); /* the id */
    ck_assert_ptr_null(strstr(E.msg, "read-write"));
    OK(endpoint_insert(c, &o, &E));
    OK(endpoint_find_writer(c, A, "br-1", &got, &found, &E));
    ck_assert(found);
    ck_assert_str_eq(got.id, "ep-1");
    FAILS(ERR_NOT_FOUND, endpoint_get(c, A, "q", "ep-1", &got, &E));
    FAILS(ERR_NOT_FOUND, endpoint_get(c, A, "q", "n", &got, &E));
    ck_assert_str_eq(ids_of_endpoints(c, NULL, NULL, false), "ep-3 ep-1 ep-4 ");
    ck_assert_str_eq(ids_of_endpoints(c, "p", NULL, false), "ep-3 ep-1 ep-4 ");
    ck_assert_str_eq(ids_of_endpoints(c, "q", NULL, true), "");
    ck_assert_str_eq(ids_of_endpoints(c, NULL, "br-2", false), "ep-4 ");

    OK(endpoint_set_desired(c, "ep-1", "deleted", 50, &E));
    OK(endpoint_set_desired(c, "ep-1", "running", 51, &E)); /* too late: deleted is final */
    FAILS(ERR_NOT_FOUND, endpoint_get(c, A, "p", "ep-1", &got, &E));
    OK(endpoint_get_id(c, A, "ep-1", &got, &E));
    ck_assert_str_eq(got.desired, "deleted");
    ck_assert_int_eq(got.updated_at, 50);
    OK(endpoint_find_writer(c, A, "br-1", &got, &found, &E));
    ck_assert(!found);
    ck_assert_str_eq(ids_of_endpoints(c, NULL, "br-1", false), "ep-3 ");
    ck_assert_str_eq(ids_of_endpoints(c, NULL, "br-1", true), "ep-3 ep-1 ");
    OK(endpoint_insert(c, &w2, &E)); /* its place is free */
    OK(endpoint_set_desired(c, "ep-2", "running", 60, &E));
    FAILS(ERR_INTERNAL, endpoint_set_desired(c, "ep-2", "perhaps", 60, &E));
    OK(endpoint_get_id(c, A, "ep-2", &got, &E));
    ck_assert_str_eq(got.desired, "running");
    FAILS(ERR_INTERNAL, branch_delete(c, "br-2", &E)); /* ep-4 */
    OK(endpoint_delete(c, "ep-4", &E));
    OK(endpoint_delete(c, "ep-4", &E));
    OK(branch_delete(c, "br-2", &E));
}
END_TEST

/* --- roles and databases -----------------------------------------------------------------------------------
 */

START_TEST(role_life)
{
    static const uint8_t SECRET[] = { 0, 1, 0, 255, 7 }, VERIFIER[] = { 0, 9 };
    struct role r = { .branch_id = "br-1",
                      .name = "own\"er",
                      .sealed = SECRET,
                      .sealed_len = sizeof(SECRET),
                      .verifier = VERIFIER,
                      .verifier_len = sizeof(VERIFIER),
                      .valid_until = 8,
                      .no_login = true,
                      .state = "creating",
                      .created_at = 1,
                      .updated_at = 2 },
                got;
    bool pending;
    WRITE();

    seed_branches(c);
    OK(role_any_pending(c, "br-1", &pending, &E));
    ck_assert(!pending);
    FAILS(ERR_NOT_FOUND, role_get(c, A, "br-1", r.name, &got, &E));
    ck_assert_str_eq(E.msg, "role not found");
    FAILS(ERR_NOT_FOUND, role_update(c, &r, &E));
    OK(role_insert(c, &r, &E));
    FAILS(ERR_CONFLICT, role_insert(c, &r, &E));
    ck_assert_ptr_nonnull(strstr(E.msg, "role already exists"));
    OK(role_get(c, A, "br-1", r.name, &got, &E));
    ck_assert_uint_eq(got.sealed_len, sizeof(SECRET));
    ck_assert_mem_eq(got.sealed, SECRET, sizeof(SECRET));
    ck_assert_uint_eq(got.verifier_len, sizeof(VERIFIER));
    ck_assert_mem_eq(got.verifier, VERIFIER, sizeof(VERIFIER));
    ck_assert_int_eq(got.valid_until, 8);
    ck_assert(got.no_login);
    ck_assert_str_eq(got.state, "creating");
    ck_assert(got.created_at == 1 && got.updated_at == 2);
    OK(role_any_pending(c, "br-1", &pending, &E));
    ck_assert(pending);
    r.sealed = NULL;
    r.sealed_len = 0;
    r.valid_until = 0;
    r.state = "ready";
    r.updated_at = 9;
    OK(role_update(c, &r, &E));
    OK(role_get(c, A, "br-1", r.name, &got, &E));
    ck_assert(got.sealed == NULL && got.sealed_len == 0 && got.updated_at == 9);
    ck_assert(got.verifier_len == sizeof(VERIFIER) && got.valid_until == 0);
    OK(role_any_pending(c, "br-1", &pending, &E));
    ck_assert(!pending);
    r.name = arena_printf(A, "%064d", 1);
    FAILS(ERR_INTERNAL, role_insert(c, &r, &E));
    r.name = "x";
    r.branch_id = "nowhere";
    FAILS(ERR_INTERNAL, role_insert(c, &r, &E));
}
END_TEST

START_TEST(role_wishes)
{
    struct role r = { .branch_id = "br-1",
                      .name = "b",
                      .state = "creating",
                      .created_at = 1,
                      .updated_at = 9 },
                got, *list;
    size_t n;
    WRITE();

    seed_branches(c);
    OK(role_insert(c, &r, &E));
    OK(role_get(c, A, "br-1", "b", &got, &E));
    /* What was done for an older wish does not settle a newer one. */
    struct role seen = got;
    r.state = "creating";
    OK(role_update(c, &r, &E));
    seen.state = "creating";
    OK(role_settle(c, &seen, 20, &E));
    OK(role_get(c, A, "br-1", r.name, &got, &E));
    ck_assert_str_eq(got.state, "creating");
    ck_assert_int_gt(got.updated_at, seen.updated_at);
    OK(role_settle(c, &got, 20, &E));
    OK(role_get(c, A, "br-1", r.name, &got, &E));
    ck_assert_str_eq(got.state, "ready");
    r.name = "a";
    r.state = "ready";
    OK(role_insert(c, &r, &E));
    OK(role_begin_drop(c, &r, 30, &E));
    FAILS(ERR_NOT_FOUND, role_get(c, A, "br-1", "a", &got, &E));
    OK(role_list(c, A, "br-1", false, &list, &n, &E));
    ck_assert_uint_eq(n, 1);
    OK(role_list(c, A, "br-1", true, &list, &n, &E));
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(list[0].made_name, "a");
    OK(role_undo_drop(c, &list[0], 31, &E));
    OK(role_get(c, A, "br-1", "a", &got, &E));
    ck_assert(got.made_name == NULL && strcmp(got.state, "ready") == 0);
    OK(role_begin_drop(c, &got, 32, &E));
    OK(role_insert(c, &r, &E)); /* the name is free */
    OK(role_list(c, A, "br-1", true, &list, &n, &E));
    ck_assert_uint_eq(n, 3);
    OK(role_undo_drop(c, &list[0], 33, &E)); /* and stays with who has it now */
    OK(role_list(c, A, "br-1", true, &list, &n, &E));
    ck_assert_uint_eq(n, 2);
    OK(role_begin_drop(c, &r, 34, &E));
    OK(role_list(c, A, "br-1", true, &list, &n, &E));
    OK(role_settle(c, &list[0], 35, &E));
    OK(role_settle(c, &list[0], 35, &E));
    OK(role_list(c, A, "br-1", true, &list, &n, &E));
    ck_assert_uint_eq(n, 1);
}
END_TEST

START_TEST(database_life)
{
    struct database d = { .branch_id = "br-1",
                          .name = "neondb",
                          .owner_name = "owner",
                          .state = "creating",
                          .created_at = 1,
                          .updated_at = 2 },
                    e, got, *list;
    bool pending;
    int64_t first;
    size_t n;
    WRITE();

    seed_branches(c);
    FAILS(ERR_NOT_FOUND, database_update(c, &d, &E));
    OK(database_insert(c, &d, &E));
    ck_assert_int_eq(d.id, 10000001);
    first = d.id;
    e = d;
    FAILS(ERR_CONFLICT, database_insert(c, &e, &E));
    ck_assert_ptr_nonnull(strstr(E.msg, "database already exists"));
    OK(role_any_pending(c, "br-1", &pending, &E));
    ck_assert(pending);
    OK(database_get(c, A, "br-1", "neondb", &got, &E));
    ck_assert_int_eq(got.id, first);
    ck_assert_str_eq(got.owner_name, "owner");
    ck_assert_str_eq(got.state, "creating");
    ck_assert(got.created_at == 1 && got.updated_at == 2);
    e.name = "b";
    OK(database_insert(c, &e, &E));
    ck_assert_int_gt(e.id, first);
    e.name = "neondb";
    FAILS(ERR_CONFLICT, database_update(c, &e, &E));
    e.name = "c";
    e.made_name = "b";
    e.owner_name = "other";
    e.updated_at = 7;
    OK(database_update(c, &e, &E));
    OK(database_get(c, A, "br-1", "c", &got, &E));
    ck_assert_str_eq(got.made_name, "b");
    ck_assert_str_eq(got.owner_name, "other");
    ck_assert_int_eq(got.updated_at, 7);
    OK(database_begin_drop(c, &got, 8, &E));
    FAILS(ERR_NOT_FOUND, database_get(c, A, "br-1", "c", &got, &E));
    OK(database_list(c, A, "br-1", false, &list, &n, &E));
    ck_assert_uint_eq(n, 1);
    OK(database_list(c, A, "br-1", true, &list, &n, &E));
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(list[0].made_name, "b"); /* as Postgres knows it */
    first = e.id;
    OK(database_settle(c, &list[0], 9, &E)); /* the newest: its id is not given again */
    OK(database_settle(c, &list[0], 9, &E));
    OK(database_insert(c, &e, &E));
    ck_assert_int_gt(e.id, first);
}
END_TEST

static int reseal(void *arg, struct arena *a, const struct role *from, struct role *to, struct err *err)
{
    if (arg != NULL)
        return err_set(err, ERR_INTERNAL, "no key");
    if (from->sealed == NULL)
        return 0;
    to->sealed = (const uint8_t *)arena_printf(a, "%s:%.*s", to->branch_id, (int)from->sealed_len,
                                               (const char *)from->sealed);
    to->sealed_len = strlen((const char *)to->sealed);
    return 0;
}

START_TEST(roles_and_databases_are_copied)
{
    struct role r = { .branch_id = "br-1",
                      .name = "r1",
                      .sealed = (const uint8_t *)"pw",
                      .sealed_len = 2,
                      .state = "ready",
                      .created_at = 1,
                      .updated_at = 1 },
                *roles;
    struct database d = { .branch_id = "br-1",
                          .name = "d1",
                          .owner_name = "r1",
                          .state = "creating",
                          .created_at = 1,
                          .updated_at = 1 },
                    *databases;
    size_t n;
    WRITE();

    seed_branches(c);
    OK(role_insert(c, &r, &E));
    r = (struct role){ .branch_id = "br-1",
                       .name = "r2",
                       .no_login = true,
                       .state = "dropping",
                       .created_at = 1,
                       .updated_at = 1 };
    OK(role_insert(c, &r, &E));
    OK(database_insert(c, &d, &E));
    OK(role_copy_all(c, A, "br-1", "br-2", false, 77, reseal, NULL, &E));
    OK(role_list(c, A, "br-2", true, &roles, &n, &E));
    ck_assert_uint_eq(n, 2);
    ck_assert_uint_eq(roles[0].sealed_len, 7);
    ck_assert_mem_eq(roles[0].sealed, "br-2:pw", 7);
    ck_assert_str_eq(roles[0].branch_id, "br-2");
    ck_assert_int_eq(roles[0].created_at, 77);
    ck_assert(roles[1].sealed == NULL && roles[1].no_login);
    ck_assert_str_eq(roles[1].state, "dropping");
    OK(database_list(c, A, "br-2", true, &databases, &n, &E));
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(databases[0].state, "creating");
    ck_assert_str_eq(databases[0].owner_name, "r1");
    ck_assert_int_ne(databases[0].id, d.id);
    ck_assert_int_eq(databases[0].updated_at, 77);
    FAILS(ERR_CONFLICT, role_copy_all(c, A, "br-1", "br-2", false, 78, reseal, NULL, &E));
    FAILS(ERR_INTERNAL, role_copy_all(c, A, "br-1", "br-3", false, 78, reseal, &n, &E));
    ck_assert_str_eq(E.msg, "no key");
}
END_TEST

/* What was wished for now was not wished for then, but a role that waits for a password may be old. */
START_TEST(a_copy_for_the_past_inherits)
{
    static const struct {
        const char *state, *role, *database;
    } ROWS[] = {
        { "ready", "inherited", "inherited" },
        { "inherited", "inherited", "inherited" },
        { "creating", "inherited", NULL },
        { "dropping", NULL, NULL },
    };
    struct role *roles, got;
    struct database *databases;
    size_t n;
    bool pending;
    WRITE();

    seed_branches(c);
    for (size_t i = 0; i < N_ELEMENTS(ROWS); i++) {
        struct role r = { .branch_id = "br-1",
                          .name = ROWS[i].state,
                          .state = ROWS[i].state,
                          .created_at = 1,
                          .updated_at = 1 };
        struct database d = { .branch_id = "br-1",
                              .name = ROWS[i].state,
                              .owner_name = "x",
                              .state = ROWS[i].state,
                              .created_at = 1,
                              .updated_at = 1 };
        r.sealed = (const uint8_t *)"pw";
        r.sealed_len = 2;
        OK(role_insert(c, &r, &E));
        OK(database_insert(c, &d, &E));
    }
    OK(role_copy_all(c, A, "br-1", "br-2", true, 77, reseal, NULL, &E));
    OK(role_list(c, A, "br-2", true, &roles, &n, &E));
    ck_assert_uint_eq(n, 3);
    for (size_t i = 0; i < n; i++) {
        ck_assert_str_eq(roles[i].state, "inherited");
        ck_assert_mem_eq(roles[i].sealed, "br-2:pw", 7);
    }
    OK(database_list(c, A, "br-2", true, &databases, &n, &E));
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(databases[0].state, "inherited");
    OK(role_any_pending(c, "br-2", &pending, &E));
    ck_assert(pending);

    OK(role_settle(c, &roles[0], 80, &E));
    OK(role_get(c, A, "br-2", roles[0].name, &got, &E));
    ck_assert_str_eq(got.state, "ready");
    ck_assert_mem_eq(got.sealed, "br-2:pw", 7);
    OK(role_delete(c, &got, &E));
    FAILS(ERR_NOT_FOUND, role_get(c, A, "br-2", roles[0].name, &got, &E));
    OK(database_delete(c, &databases[0], &E));
    OK(database_list(c, A, "br-2", true, &databases, &n, &E));
    ck_assert_uint_eq(n, 1);
}
END_TEST

/* --- operations --------------------------------------------------------------------------------------------
 */

static struct operation an_operation(const char *id, const char *project_id, const char *status, int64_t at)
{
    return (struct operation){ .id = id,
                               .project_id = project_id,
                               .action = "create_branch",
                               .status = status,
                               .created_at = at,
                               .updated_at = at };
}

START_TEST(operation_life)
{
    struct operation o = an_operation("op-1", "gone", "scheduling", 1000000), p, got, *list;
    size_t n;
    WRITE();

    FAILS(ERR_NOT_FOUND, operation_update(c, &o, 5, &E));
    o.branch_id = "br-x"; /* operations outlive what they worked on */
    o.endpoint_id = "ep-x";
    o.args = "{\"a\":1}";
    OK(operation_insert(c, &o, &E));
    ck_assert_int_gt(o.seq, 0);
    FAILS(ERR_CONFLICT, operation_insert(c, &o, &E));
    OK(operation_get(c, A, "gone", "op-1", &got, &E));
    ck_assert_int_eq(got.seq, o.seq);
    ck_assert_str_eq(got.branch_id, "br-x");
    ck_assert_str_eq(got.endpoint_id, "ep-x");
    ck_assert_str_eq(got.action, "create_branch");
    ck_assert_str_eq(got.status, "scheduling");
    ck_assert_str_eq(got.args, o.args);
    ck_assert(got.error == NULL && got.failures_count == 0 && got.retry_at == 0 &&
              got.total_duration_ms == 0);
    FAILS(ERR_NOT_FOUND, operation_get(c, A, "other", "op-1", &got, &E));
    FAILS(ERR_NOT_FOUND, operation_get_id(c, A, "op-2", &got, &E));
    o.status = "running";
    o.error = "first try";
    o.failures_count = 1;
    o.retry_at = 4000000;
    OK(operation_update(c, &o, 3500000, &E));
    ck_assert_int_eq(o.total_duration_ms, 2500);
    p = an_operation("op-2", "gone", "finished", 2000000);
    OK(operation_insert(c, &p, &E));
    ck_assert_int_gt(p.seq, o.seq);
    OK(operation_list_open(c, A, &list, &n, &E));
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(list[0].error, "first try");
    ck_assert_int_eq(list[0].failures_count, 1);
    ck_assert_int_eq(list[0].retry_at, 4000000);
    ck_assert_int_eq(list[0].total_duration_ms, 2500);
    ck_assert_int_eq(list[0].updated_at, 3500000);
    o.status = "unheard-of";
    FAILS(ERR_INTERNAL, operation_update(c, &o, 5, &E));
    o.status = "failed";
    OK(operation_update(c, &o, 5, &E)); /* the clock went back */
    ck_assert_int_eq(o.total_duration_ms, 0);
    OK(operation_list_open(c, A, &list, &n, &E));
    ck_assert_uint_eq(n, 0);
}
END_TEST

static const char *ids_of_operations(struct dbc *c, struct page *page)
{
    const char *ids = "";
    struct operation *list;
    size_t n;

    OK(operation_list(c, A, "p", page, &list, &n, &E));
    for (size_t i = 0; i < n; i++)
        ids = arena_printf(A, "%s%s ", ids, list[i].id);
    return ids;
}

START_TEST(operation_pages)
{
    static const char *const BAD[] = {
        "", "x", "5", "2025-01-01", "created_at!1!op", "2025-13-01T00:00:00Z"
    };
    struct page page = { .limit = 2 };
    struct operation o, *list;
    size_t n;
    WRITE();

    for (int i = 1; i <= 5; i++) { /* all at one instant, and the last after the clock went back */
        o = an_operation(arena_printf(A, "op-%d", i), "p", "finished", i == 5 ? 500000 : 1000000);
        OK(operation_insert(c, &o, &E));
        ck_assert_int_eq(o.created_at, 1000000 + i - 1);
    }
    o = an_operation("op-q", "q", "finished", 1000000);
    OK(operation_insert(c, &o, &E));
    ck_assert_int_eq(o.created_at, 1000000);
    ck_assert_str_eq(ids_of_operations(c, &page), "op-5 op-4 ");
    ck_assert_str_eq(page.next, "1970-01-01T00:00:01.000003Z");
    page.cursor = page.next;
    ck_assert_str_eq(ids_of_operations(c, &page), "op-3 op-2 ");
    page.cursor = page.next;
    ck_assert_str_eq(ids_of_operations(c, &page), "op-1 ");
    page.cursor = page.next;
    ck_assert_str_eq(ids_of_operations(c, &page), "");
    ck_assert_ptr_null(page.next);
    page.cursor = "1970-01-01T00:00:00Z"; /* before everything: empty, not the start again */
    ck_assert_str_eq(ids_of_operations(c, &page), "");
    page.cursor = "1970-01-01T01:00:01.000001+01:00";
    ck_assert_str_eq(ids_of_operations(c, &page), "op-1 ");
    ck_assert_str_eq(ids_of_operations(c, &(struct page){ 0 }), "op-5 op-4 op-3 op-2 op-1 ");
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        page.cursor = BAD[i];
        FAILS(ERR_BAD_REQUEST, operation_list(c, A, "p", &page, &list, &n, &E));
    }
}
END_TEST

START_TEST(operation_prune_leaves_the_open_and_the_young)
{
    static const char *const STATUS[] = { "finished",  "running", "failed",  "scheduling",
                                          "cancelled", "skipped", "finished" };
    struct operation o;
    WRITE();

    for (size_t i = 0; i < N_ELEMENTS(STATUS); i++) {
        o = an_operation(arena_printf(A, "op-%zu", i), "p", STATUS[i], 100 + (int64_t)i);
        OK(operation_insert(c, &o, &E));
    }
    OK(operation_prune(c, 106, 1, &E));
    ck_assert_str_eq(ids_of_operations(c, &(struct page){ 0 }), "op-6 op-5 op-4 op-3 op-2 op-1 ");
    OK(operation_prune(c, 106, 100, &E));
    ck_assert_str_eq(ids_of_operations(c, &(struct page){ 0 }), "op-6 op-3 op-1 ");
}
END_TEST

/* --- API keys ----------------------------------------------------------------------------------------------
 */

START_TEST(apikey_life)
{
    uint8_t one[32] = { 1 }, two[32] = { 2 };
    struct apikey got, *list;
    int64_t id1, id2;
    bool found = true;
    size_t n;
    WRITE();

    OK(apikey_find(c, A, one, &got, &found, &E));
    ck_assert(!found);
    OK(apikey_insert(c, "first", one, 10, &id1, &E));
    FAILS(ERR_CONFLICT, apikey_insert(c, "again", one, 10, &id2, &E));
    OK(apikey_insert(c, "second", two, 11, &id2, &E));
    ck_assert_int_ne(id1, id2);
    OK(apikey_find(c, A, one, &got, &found, &E));
    ck_assert(found);
    ck_assert_int_eq(got.id, id1);
    ck_assert_str_eq(got.name, "first");
    ck_assert(got.created_at == 10 && got.last_used_at == 0 && got.last_used_addr == NULL &&
              got.revoked_at == 0);
    OK(apikey_touch(c, id1, 20, "127.0.0.1", &E));
    FAILS(ERR_NOT_FOUND, apikey_touch(c, 99, 20, "127.0.0.1", &E));
    OK(apikey_list(c, A, &list, &n, &E));
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(list[0].last_used_at, 20);
    ck_assert_str_eq(list[0].last_used_addr, "127.0.0.1");
    OK(apikey_revoke(c, A, id1, 30, &got, &E));
    ck_assert_str_eq(got.name, "first");
    ck_assert_int_eq(got.revoked_at, 30);
    FAILS(ERR_NOT_FOUND, apikey_revoke(c, A, id1, 31, &got, &E));
    FAILS(ERR_NOT_FOUND, apikey_revoke(c, A, 99, 31, &got, &E));
    OK(apikey_find(c, A, one, &got, &found, &E));
    ck_assert(!found);
    OK(apikey_list(c, A, &list, &n, &E));
    ck_assert_uint_eq(n, 1);
    FAILS(ERR_CONFLICT, apikey_insert(c, "revoked stays taken", one, 40, &id1, &E));
    FAILS(ERR_INTERNAL, apikey_insert(c, "", (uint8_t[32]){ 3 }, 40, &id1, &E));
}
END_TEST

Suite *t_meta_use_suite(void)
{
    Suite *s = suite_create("meta_use");
    TCase *t = tcase_create("meta_use");

    tcase_add_checked_fixture(t, meta_setup, meta_teardown);
    TESTS(t, endpoint_round_trip, endpoint_life, role_life, role_wishes, database_life,
          roles_and_databases_are_copied, a_copy_for_the_past_inherits, operation_life, operation_pages,
          operation_prune_leaves_the_open_and_the_young, apikey_life);
    suite_add_tcase(s, t);
    return s;
}
