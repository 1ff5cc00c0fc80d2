/*
 * t_meta.c - the metadata file: transactions, constraints, lists and cursors, what survives
 */
#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
#include "meta/apikey.h"
#include "meta/branch.h"
#include "meta/endpoint.h"
#include "meta/image.h"
#include "meta/operation.h"
#include "meta/project.h"
#include "meta/role.h"

#include <check.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *t_meta_suite(void);

static char dir[64];
static char *path;
static struct db *db;
static struct arena *a;
static struct err err;

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/t_meta.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    path = xasprintf("%s/mere.db", dir);
    a = arena_new(0);
    err = (struct err)ERR_INIT;
    ck_assert_msg(db_open(path, &db, &err) == 0, "%s %s", err.msg, err.detail);
}

static void teardown(void)
{
    db_close(db);
    arena_free(a);
    free(path);
    ck_assert_int_eq(fs_remove_tree(dir, false, &err), 0);
}

#define OK(call) ck_assert_msg((call) == 0, "%s: %s %s", #call, err.msg, err.detail)
#define FAILS(call, c)                                                                                       \
    do {                                                                                                     \
        ck_assert_int_eq((call), -1);                                                                        \
        ck_assert_msg(err.code == (c), "%s: %s %s", err_name(err.code), err.msg, err.detail);                \
    } while (0)

static struct project add_project(struct dbc *c, const char *name)
{
    struct project p = { .id = id_project(a),
                         .name = name,
                         .state = "ready",
                         .pg_version = 15,
                         .region_id = "local",
                         .store_passwords = true,
                         .history_retention_seconds = 86400,
                         .settings = "{\"x\":1}",
                         .created_at = clock_wall_us(),
                         .updated_at = 1 };
    OK(project_insert(c, &p, &err));
    return p;
}

static struct image add_image(struct dbc *c, const char *branch, const char *state, uint64_t lsn)
{
    struct image i = { .id = id_image(a),
                       .branch_id = branch,
                       .pg_version = 15,
                       .method = "cold",
                       .state = state,
                       .tli = 1,
                       .lsn = lsn,
                       .created_at = 1 };
    OK(image_insert(c, &i, &err));
    return i;
}

static struct branch add_branch(struct dbc *c, const struct project *p, const char *name, const char *parent)
{
    static int64_t now = 1000;
    now++;
    struct branch b = { .id = id_branch(a),
                        .project_id = p->id,
                        .name = name,
                        .state = "ready",
                        .parent_id = parent,
                        .durability = "full",
                        .volume = "none",
                        .state_changed_at = now,
                        .created_at = now,
                        .updated_at = now,
                        .is_default = !parent };
    OK(branch_insert(c, &b, &err));
    return b;
}

START_TEST(the_file_is_private_and_survives)
{
    struct stat st;
    const char *value;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    {
        auto_dbc *c = NULL;
        OK(db_write(db, &c, &err));
        OK(instance_set(c, "k", "v1", &err));
        OK(instance_set(c, "k", "v2", &err));
        OK(db_commit(c, &err));
    }
    db_close(db);
    OK(db_open(path, &db, &err));
    auto_dbc *c = NULL;
    OK(db_read(db, &c, &err));
    OK(instance_get(c, a, "k", &value, &err));
    ck_assert_str_eq(value, "v2");
    OK(instance_get(c, a, "none", &value, &err));
    ck_assert_ptr_null(value);
}
END_TEST

START_TEST(what_is_not_committed_is_gone)
{
    struct project p, got;
    {
        auto_dbc *c = NULL;
        OK(db_write(db, &c, &err));
        ck_assert(db_in_write());
        p = add_project(c, "one");
    }
    ck_assert(!db_in_write());
    auto_dbc *c = NULL;
    OK(db_read(db, &c, &err));
    FAILS(project_get(c, a, p.id, &got, &err), ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_reader_sees_one_moment)
{
    struct project p, got;
    auto_dbc *r = NULL;
    OK(db_read(db, &r, &err));
    FAILS(project_get(r, a, "none", &got, &err), ERR_NOT_FOUND); /* the moment is that of its first look */
    {
        auto_dbc *c = NULL;
        OK(db_write(db, &c, &err));
        p = add_project(c, "one");
        OK(db_commit(c, &err));
    }
    FAILS(project_get(r, a, p.id, &got, &err), ERR_NOT_FOUND);
    db_end(&r);
    OK(db_read(db, &r, &err));
    OK(project_get(r, a, p.id, &got, &err));
    ck_assert_str_eq(got.settings, "{\"x\":1}");
    ck_assert_ptr_null(got.default_endpoint_settings);
    ck_assert(got.store_passwords);
}
END_TEST

START_TEST(a_newer_schema_is_refused)
{
    sqlite3 *h;
    struct db *other = NULL;
    ck_assert_int_eq(sqlite3_open(path, &h), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(h, "PRAGMA user_version=9999", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(h);
    FAILS(db_open(path, &other, &err), ERR_PRECONDITION);
    ck_assert_ptr_null(other);
}
END_TEST

START_TEST(garbage_is_not_a_database)
{
    struct db *other = NULL;
    auto_free char *junk = xasprintf("%s/junk", dir);
    OK(fs_write_plain(junk, "this is not a database, it is a sentence that is long enough to be looked at",
                      75, 0600, (uid_t)-1, (gid_t)-1, &err));
    ck_assert_int_eq(db_open(junk, &other, &err), -1);
    ck_assert_str_ne(err.msg, "");
}
END_TEST

START_TEST(names_are_taken_until_the_branch_is_being_deleted)
{
    auto_dbc *c = NULL;
    struct branch got, *list;
    size_t n;
    int64_t count;
    OK(db_write(db, &c, &err));
    struct project p = add_project(c, "p"), q = add_project(c, "q");
    struct branch main_branch = add_branch(c, &p, "main", NULL),
                  dev = add_branch(c, &p, "dev", main_branch.id);
    struct branch twin = dev;
    twin.id = id_branch(a);
    FAILS(branch_insert(c, &twin, &err), ERR_CONFLICT);
    ck_assert_str_eq(err.msg, "branch already exists; branch_name:\"dev\"");
    (void)add_branch(c, &q, "main", NULL);
    OK(branch_find_name(c, a, "main", &list, &n, &err));
    ck_assert_uint_eq(n, 2);
    OK(branch_count_children(c, main_branch.id, &count, &err));
    ck_assert_int_eq(count, 1);
    OK(branch_set_state(c, dev.id, "ready", "deleting", 5, &err));
    FAILS(branch_set_state(c, dev.id, "ready", "deleting", 5, &err), ERR_PRECONDITION);
    OK(branch_count_children(c, main_branch.id, &count, &err));
    ck_assert_int_eq(count, 0);
    FAILS(branch_get(c, a, p.id, "dev", &got, &err), ERR_NOT_FOUND);
    FAILS(branch_get(c, a, p.id, dev.id, &got, &err), ERR_NOT_FOUND);
    OK(branch_get_id(c, a, dev.id, &got, &err));
    OK(branch_insert(c, &twin, &err));
    OK(branch_get(c, a, p.id, "dev", &got, &err));
    ck_assert_str_eq(got.id, twin.id);
    FAILS(branch_get(c, a, q.id, twin.id, &got, &err), ERR_NOT_FOUND); /* another project's */
}
END_TEST

START_TEST(an_id_wins_over_a_name)
{
    auto_dbc *c = NULL;
    struct branch got;
    OK(db_write(db, &c, &err));
    struct project p = add_project(c, "p");
    struct branch one = add_branch(c, &p, "one", NULL), two = add_branch(c, &p, one.id, one.id);
    OK(branch_get(c, a, p.id, one.id, &got, &err));
    ck_assert_str_eq(got.id, one.id);
    ck_assert_str_ne(got.id, two.id);
}
END_TEST

START_TEST(there_is_one_default)
{
    auto_dbc *c = NULL;
    struct branch got;
    OK(db_write(db, &c, &err));
    struct project p = add_project(c, "p");
    struct branch one = add_branch(c, &p, "one", NULL), two = add_branch(c, &p, "two", one.id);
    OK(branch_set_default(c, p.id, two.id, 9, &err));
    OK(branch_get_default(c, a, p.id, &got, &err));
    ck_assert_str_eq(got.id, two.id);
    OK(branch_get(c, a, p.id, one.id, &got, &err));
    ck_assert(!got.is_default);
    OK(branch_set_default(c, p.id, two.id, 9, &err)); /* again is fine */
}
END_TEST

START_TEST(lists_page_without_gaps_or_repeats)
{
    static const struct {
        const char *sort_by;
        bool ascending;
    } ORDERS[] = { { NULL, false },        { NULL, true },    { "created_at", false },
                   { "created_at", true }, { "name", false }, { "name", true } };
    auto_dbc *c = NULL;
    OK(db_write(db, &c, &err));
    struct project p = add_project(c, "p");
    struct branch root = add_branch(c, &p, "n0", NULL);
    for (int i = 1; i < 23; i++)
        (void)add_branch(c, &p, arena_printf(a, "n/%d!%%", i), root.id);
    for (size_t o = 0; o < N_ELEMENTS(ORDERS); o++) {
        size_t seen = 0, n;
        struct page page = { .limit = 5, .sort_by = ORDERS[o].sort_by, .ascending = ORDERS[o].ascending };
        struct branch *list, last = { 0 };
        do {
            OK(branch_list(c, a, p.id, &page, &list, &n, &err));
            for (size_t i = 0; i < n; i++) {
                ck_assert(!last.id || strcmp(last.id, list[i].id) != 0);
                last = list[i];
            }
            seen += n;
            page.cursor = page.next;
        } while (n > 0);
        ck_assert_uint_eq(seen, 23);
    }
    struct page bad = { .cursor = "nonsense" }, unknown = { .sort_by = "size" }, search = { .search = "N/1" };
    struct branch *list;
    size_t n;
    FAILS(branch_list(c, a, p.id, &bad, &list, &n, &err), ERR_BAD_REQUEST);
    FAILS(branch_list(c, a, p.id, &unknown, &list, &n, &err), ERR_BAD_REQUEST);
    OK(branch_list(c, a, p.id, &search, &list, &n, &err));
    ck_assert_uint_eq(n, 11); /* n/1!%, n/10!% ... n/19!% */
}
END_TEST

START_TEST(a_fork_is_fixed_once)
{
    auto_dbc *c = NULL;
    struct branch got;
    OK(db_write(db, &c, &err));
    struct project p = add_project(c, "p");
    struct branch root = add_branch(c, &p, "main", NULL);
    struct branch b = { .id = id_branch(a),
                        .project_id = p.id,
                        .name = "b",
                        .state = "init",
                        .parent_id = root.id,
                        .durability = "relaxed",
                        .volume = "none",
                        .state_changed_at = 1,
                        .created_at = 1,
                        .updated_at = 1 };
    OK(branch_insert(c, &b, &err));
    struct image i = add_image(c, root.id, "ready", 77);
    OK(branch_set_fork(c, b.id, 0xFFFFFFFFFFFF, 55, i.id, 66, &err));
    FAILS(branch_set_fork(c, b.id, 88, 55, i.id, 66, &err), ERR_PRECONDITION);
    OK(branch_get_id(c, a, b.id, &got, &err));
    ck_assert_uint_eq(got.parent_lsn, 0xFFFFFFFFFFFF);
    ck_assert_str_eq(got.state, "ready");
    ck_assert_str_eq(got.image_id, i.id);
    OK(branch_set_head(c, b.id, 5, &err));
    OK(branch_set_head(c, b.id, 0, &err));
    OK(branch_get_id(c, a, b.id, &got, &err));
    ck_assert_uint_eq(got.head_lsn, 0);
}
END_TEST

START_TEST(images_that_branches_stand_on)
{
    auto_dbc *c = NULL;
    struct image *list;
    size_t n;
    OK(db_write(db, &c, &err));
    struct project p = add_project(c, "p");
    struct branch root = add_branch(c, &p, "main", NULL);
    struct image template = { .id = "im-template-15",
                              .pg_version = 15,
                              .method = "cold",
                              .state = "ready",
                              .lsn = 1,
                              .created_at = 1 };
    OK(image_insert(c, &template, &err));
    struct image old = add_image(c, root.id, "ready", 10), forked = add_image(c, root.id, "ready", 20),
                 newest = add_image(c, root.id, "ready", 30);
    struct image half = add_image(c, root.id, "snapped", 5), begun = add_image(c, root.id, "taking", 0),
                 trash = add_image(c, root.id, "trash", 40);
    struct branch b = { .id = id_branch(a),
                        .project_id = p.id,
                        .name = "b",
                        .state = "ready",
                        .parent_id = root.id,
                        .durability = "full",
                        .volume = "ready",
                        .image_id = forked.id,
                        .state_changed_at = 1,
                        .created_at = 1,
                        .updated_at = 1 };
    OK(branch_insert(c, &b, &err));
    OK(branch_set_begin(c, root.id, 1, 1, &err));
    OK(image_list_standing(c, a, &list, &n, &err));
    ck_assert_uint_eq(n, 7);
    for (size_t i = 1; i < n; i++)
        ck_assert(strcmp(list[i - 1].id, list[i].id) < 0);
    (void)old, (void)newest, (void)begun, (void)half, (void)trash;
    struct image found;
    bool is_there;
    OK(image_find_template(c, a, 15, &found, &is_there, &err));
    ck_assert(is_there);
    OK(image_find_template(c, a, 99, &found, &is_there, &err));
    ck_assert(!is_there);
    OK(image_find_at(c, a, root.id, 20, &found, &is_there, &err));
    ck_assert(is_there);
    OK(image_find_at(c, a, root.id, 25, &found, &is_there, &err));
    ck_assert(!is_there);
    forked.until_lsn = 25;
    OK(image_update(c, &forked, &err));
    OK(image_find_at(c, a, root.id, 25, &found, &is_there, &err));
    ck_assert(is_there && found.lsn == 20 && found.until_lsn == 25);
    OK(image_find_at(c, a, root.id, 26, &found, &is_there, &err));
    ck_assert(!is_there);
    FAILS(image_delete(c, forked.id, &err), ERR_INTERNAL); /* a branch stands on it */
}
END_TEST

START_TEST(one_writer_endpoint_a_branch)
{
    auto_dbc *c = NULL;
    struct endpoint got;
    bool found;
    OK(db_write(db, &c, &err));
    struct project p = add_project(c, "p");
    struct branch b = add_branch(c, &p, "main", NULL);
    struct endpoint e = { .id = id_endpoint(a),
                          .project_id = p.id,
                          .branch_id = b.id,
                          .type = "read_write",
                          .desired = "stopped",
                          .observed = "STOPPED",
                          .min_cu = 0.25,
                          .max_cu = 2,
                          .pg_settings = "{}",
                          .created_at = 1,
                          .updated_at = 1 };
    OK(endpoint_insert(c, &e, &err));
    struct endpoint second = e;
    second.id = id_endpoint(a);
    FAILS(endpoint_insert(c, &second, &err), ERR_CONFLICT);
    e.generation = 7;
    e.observed = "RUNNING";
    e.process = (struct proc_identity){ .pid = 11, .start_time = 22, .boot_id = "boot" };
    OK(endpoint_set_observed(c, &e, &err));
    OK(endpoint_find_writer(c, a, b.id, &got, &found, &err));
    ck_assert(found);
    ck_assert_int_eq(got.process.pid, 11);
    ck_assert_str_eq(got.process.boot_id, "boot");
    ck_assert_int_eq(got.generation, 7);
    OK(endpoint_set_desired(c, e.id, "deleted", 3, &err));
    OK(endpoint_set_desired(c, e.id, "running", 4, &err)); /* deletion is final */
    FAILS(endpoint_get(c, a, p.id, e.id, &got, &err), ERR_NOT_FOUND);
    OK(endpoint_insert(c, &second, &err));
    struct endpoint *list;
    size_t n;
    OK(endpoint_list(c, a, NULL, b.id, false, &list, &n, &err));
    ck_assert_uint_eq(n, 1);
    OK(endpoint_list(c, a, NULL, NULL, true, &list, &n, &err));
    ck_assert_uint_eq(n, 2);
}
END_TEST

static int copy_sealed(void *arg, struct arena *mem, const struct role *from, struct role *to, struct err *e)
{
    (void)arg, (void)mem, (void)e;
    to->sealed = from->sealed;
    to->sealed_len = from->sealed_len;
    return 0;
}

START_TEST(roles_and_databases_follow_a_fork)
{
    auto_dbc *c = NULL;
    bool pending;
    OK(db_write(db, &c, &err));
    struct project p = add_project(c, "p");
    struct branch root = add_branch(c, &p, "main", NULL), child = add_branch(c, &p, "b", root.id);
    struct role r = { .branch_id = root.id,
                      .name = "r\"ol'e",
                      .sealed = (const uint8_t *)"a\0b",
                      .sealed_len = 3,
                      .state = "ready",
                      .created_at = 1,
                      .updated_at = 1 },
                got, *roles;
    struct database d = { .branch_id = root.id,
                          .name = "d",
                          .owner_name = r.name,
                          .state = "creating",
                          .created_at = 1,
                          .updated_at = 1 },
                    gone, *dbs;
    size_t n;
    OK(role_insert(c, &r, &err));
    FAILS(role_insert(c, &r, &err), ERR_CONFLICT);
    OK(database_insert(c, &d, &err));
    ck_assert_int_gt(d.id, 9999999);
    OK(role_copy_all(c, a, root.id, child.id, false, 9, copy_sealed, NULL, &err));
    OK(role_get(c, a, child.id, r.name, &got, &err));
    ck_assert_uint_eq(got.sealed_len, 3);
    ck_assert(memcmp(got.sealed, "a\0b", 3) == 0);
    OK(role_any_pending(c, child.id, &pending, &err));
    ck_assert(pending);
    OK(database_list(c, a, child.id, true, &dbs, &n, &err));
    ck_assert_uint_eq(n, 1);
    ck_assert_int_ne(dbs[0].id, d.id);
    OK(database_begin_drop(c, &dbs[0], 12, &err));
    FAILS(database_get(c, a, child.id, "d", &gone, &err), ERR_NOT_FOUND);
    OK(database_list(c, a, child.id, true, &dbs, &n, &err));
    OK(database_settle(c, &dbs[0], 13, &err));
    OK(role_any_pending(c, child.id, &pending, &err));
    ck_assert(!pending);
    OK(branch_delete(c, child.id, &err));
    OK(role_list(c, a, child.id, true, &roles, &n, &err));
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(operations_are_a_queue_and_a_history)
{
    auto_dbc *c = NULL;
    struct operation got, *list;
    size_t n, seen = 0;
    OK(db_write(db, &c, &err));
    for (int i = 0; i < 12; i++) {
        struct operation o = { .id = id_uuid(a),
                               .project_id = "p",
                               .branch_id = "b",
                               .action = "create_branch",
                               .status = "scheduling",
                               .args = "{}",
                               .created_at = 1000000,
                               .updated_at = 1000000 };
        OK(operation_insert(c, &o, &err));
        if (i % 2) {
            o.status = "finished";
            OK(operation_update(c, &o, 1000000 + 5000 + i, &err));
        }
    }
    OK(operation_list_open(c, a, &list, &n, &err));
    ck_assert_uint_eq(n, 6);
    ck_assert_int_lt(list[0].seq, list[1].seq);
    OK(operation_get(c, a, "p", list[0].id, &got, &err));
    FAILS(operation_get(c, a, "other", list[0].id, &got, &err), ERR_NOT_FOUND);
    struct page page = { .limit = 5 };
    do {
        OK(operation_list(c, a, "p", &page, &list, &n, &err));
        seen += n;
        page.cursor = page.next;
    } while (n > 0);
    ck_assert_uint_eq(seen, 12); /* twelve of one microsecond: each still has a place of its own */
    page.cursor = "yesterday";
    FAILS(operation_list(c, a, "p", &page, &list, &n, &err), ERR_BAD_REQUEST);
    OK(operation_prune(c, 2000000, 100, &err));
    page.cursor = NULL;
    OK(operation_list(c, a, "p", &page, &list, &n, &err));
    ck_assert_uint_eq(n, 5);
    OK(operation_list_open(c, a, &list, &n, &err));
    ck_assert_uint_eq(n, 6); /* open ones are never pruned */
}
END_TEST

START_TEST(keys_are_found_by_hash_until_revoked)
{
    auto_dbc *c = NULL;
    uint8_t hash[32] = { 1 }, other[32] = { 2 };
    struct apikey k, *list;
    int64_t id;
    size_t n;
    bool found;
    OK(db_write(db, &c, &err));
    OK(apikey_insert(c, "ci", hash, 5, &id, &err));
    FAILS(apikey_insert(c, "ci2", hash, 5, &id, &err), ERR_CONFLICT);
    OK(apikey_find(c, a, hash, &k, &found, &err));
    ck_assert(found);
    OK(apikey_find(c, a, other, &k, &found, &err));
    ck_assert(!found);
    OK(apikey_touch(c, k.id, 9, "127.0.0.1", &err));
    OK(apikey_revoke(c, a, 1, 10, &k, &err));
    ck_assert_int_eq(k.last_used_at, 9);
    FAILS(apikey_revoke(c, a, 1, 11, &k, &err), ERR_NOT_FOUND);
    OK(apikey_find(c, a, hash, &k, &found, &err));
    ck_assert(!found);
    OK(apikey_list(c, a, &list, &n, &err));
    ck_assert_uint_eq(n, 0);
}
END_TEST

static void *writer(void *arg)
{
    const char *key = arg;
    for (int i = 0; i < 50; i++) {
        struct err e = ERR_INIT;
        auto_arena *mem = arena_new(0);
        auto_dbc *c = NULL;
        const char *text;
        if (db_write(db, &c, &e) < 0 || instance_get(c, mem, "n", &text, &e) < 0)
            return arg;
        if (instance_set(c, "n", arena_printf(mem, "%d", (text ? (int)strtol(text, NULL, 10) : 0) + 1), &e) <
                0 ||
            instance_set(c, key, "x", &e) < 0 || db_commit(c, &e) < 0)
            return arg;
    }
    return NULL;
}

START_TEST(eight_threads_write_without_loss)
{
    static char names[8][8];
    pthread_t threads[8];
    const char *text;
    for (size_t i = 0; i < N_ELEMENTS(threads); i++) {
        snprintf(names[i], sizeof(names[i]), "t%zu", i);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, writer, names[i]), 0);
    }
    for (size_t i = 0; i < N_ELEMENTS(threads); i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
    auto_dbc *c = NULL;
    OK(db_read(db, &c, &err));
    OK(instance_get(c, a, "n", &text, &err));
    ck_assert_str_eq(text, "400");
}
END_TEST

START_TEST(a_full_disk_is_said_and_changes_nothing)
{
    auto_dbc *c = NULL;
    const char *text;
    auto_free char *big = xmalloc(1 << 20);
    memset(big, 'x', (1 << 20) - 1);
    big[(1 << 20) - 1] = '\0';
    ck_assert_int_eq(db_limit_pages(db, 60), 0);
    OK(db_write(db, &c, &err));
    FAILS(instance_set(c, "big", big, &err), ERR_DISK_FULL);
    db_end(&c);
    ck_assert_int_eq(db_limit_pages(db, 1 << 30), 0);
    OK(db_write(db, &c, &err));
    OK(instance_get(c, a, "big", &text, &err));
    ck_assert_ptr_null(text);
    OK(instance_set(c, "big", big, &err));
    OK(db_commit(c, &err));
}
END_TEST

Suite *t_meta_suite(void)
{
    Suite *s = suite_create("meta");
    TCase *t = tcase_create("meta");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_file_is_private_and_survives);
    tcase_add_test(t, what_is_not_committed_is_gone);
    tcase_add_test(t, a_reader_sees_one_moment);
    tcase_add_test(t, a_newer_schema_is_refused);
    tcase_add_test(t, garbage_is_not_a_database);
    tcase_add_test(t, names_are_taken_until_the_branch_is_being_deleted);
    tcase_add_test(t, an_id_wins_over_a_name);
    tcase_add_test(t, there_is_one_default);
    tcase_add_test(t, lists_page_without_gaps_or_repeats);
    tcase_add_test(t, a_fork_is_fixed_once);
    tcase_add_test(t, images_that_branches_stand_on);
    tcase_add_test(t, one_writer_endpoint_a_branch);
    tcase_add_test(t, roles_and_databases_follow_a_fork);
    tcase_add_test(t, operations_are_a_queue_and_a_history);
    tcase_add_test(t, keys_are_found_by_hash_until_revoked);
    tcase_add_test(t, eight_threads_write_without_loss);
    tcase_add_test(t, a_full_disk_is_said_and_changes_nothing);
    suite_add_tcase(s, t);
    return s;
}
