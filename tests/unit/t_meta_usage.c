/*
 * t_meta_usage.c - what was used: cut at hours, added up, folded into days, read in pages
 */
#include "meta_bed.h"

#include "base/clock.h"
#include "meta/endpoint.h"
#include "meta/size.h"
#include "meta/usage.h"

#define S ((int64_t)1000000)
#define H USAGE_HOUR_US
#define D USAGE_DAY_US

Suite *t_meta_usage_suite(void);

static void add_endpoint(struct dbc *c, const char *id, const char *branch_id, double cu)
{
    const struct endpoint e = { .id = id,
                                .project_id = "p",
                                .branch_id = branch_id,
                                .type = "read_write",
                                .desired = "stopped",
                                .observed = "STOPPED",
                                .min_cu = cu,
                                .max_cu = cu,
                                .created_at = 1,
                                .updated_at = 1 };
    OK(endpoint_insert(c, &e, &E));
}

static void fill(struct dbc *c)
{
    add_project(c, "p", "p", 1);
    add_branch(c, "br-1", "main", NULL, 1);
    add_branch(c, "br-2", "child", "br-1", 2);
    add_endpoint(c, "ep-1", "br-1", 2);
    add_endpoint(c, "ep-2", "br-2", 0.5);
}

/* "branch begins/h active/s cu/s root child history" of each row. */
static const char *rows(struct dbc *c, const struct usage_query *q)
{
    const char *text = "", *last;
    struct usage *list;
    size_t n;
    OK(usage_list(c, A, q, &list, &n, &last, &E));
    for (size_t i = 0; i < n; i++)
        text =
            arena_printf(A, "%s%s %d %d %d %d %d %d\n", text, list[i].branch_id ? list[i].branch_id : "-",
                         (int)(list[i].begins_at / H), (int)(list[i].active_us / S), (int)(list[i].cu_us / S),
                         (int)list[i].root_bytes, (int)list[i].child_bytes, (int)list[i].history_bytes);
    ck_assert(n == 0 ? last == NULL : last != NULL);
    return text;
}

#define ALL(g) (&(struct usage_query){ .to_us = 1000 * D, .granularity = g, .limit = 100 })
#define EACH(g)                                                                                              \
    (&(struct usage_query){ .to_us = 1000 * D, .granularity = g, .limit = 100, .by_branch = true })

START_TEST(hours)
{
    struct endpoint e;
    WRITE();
    fill(c);
    OK(usage_note(c, "ep-1", 5 * H, true, &E)); /* nothing has begun */
    ck_assert_str_eq(rows(c, ALL("hourly")), "");
    OK(usage_begin(c, "ep-1", 10 * H - 60 * S, &E));
    OK(usage_begin(c, "ep-1", 10 * H, &E)); /* it has begun */
    OK(usage_note(c, "ep-1", 12 * H + 5 * S, false, &E));
    OK(usage_note(c, "ep-1", 12 * H + 5 * S, false, &E)); /* no time has passed */
    OK(usage_note(c, "ep-1", 12 * H + 7 * S, true, &E));
    OK(usage_note(c, "ep-1", 13 * H, true, &E)); /* it has ended */
    ck_assert_str_eq(
        rows(c, EACH("hourly")),
        "br-1 9 60 120 0 0 0\nbr-1 10 3600 7200 0 0 0\nbr-1 11 3600 7200 0 0 0\nbr-1 12 7 14 0 0 0\n");
    OK(endpoint_get_id(c, A, "ep-1", &e, &E));
    ck_assert_int_eq(e.metered_until, 0);
}
END_TEST

START_TEST(a_clock_that_goes_back)
{
    struct endpoint e;
    WRITE();
    fill(c);
    OK(usage_begin(c, "ep-1", 10 * H, &E));
    OK(usage_note(c, "ep-1", 9 * H, false, &E));
    ck_assert_str_eq(rows(c, ALL("hourly")), "");
    OK(endpoint_get_id(c, A, "ep-1", &e, &E));
    ck_assert_int_eq(e.metered_until, 9 * H);
}
END_TEST

START_TEST(due_and_forgotten)
{
    const char *id;
    WRITE();
    fill(c);
    OK(usage_find_due(c, A, 100 * H, &id, &E));
    ck_assert_ptr_null(id);
    OK(usage_begin(c, "ep-1", 10 * H, &E));
    OK(usage_begin(c, "ep-2", 9 * H, &E));
    OK(usage_find_due(c, A, 10 * H, &id, &E));
    ck_assert_str_eq(id, "ep-2");
    OK(usage_forget(c, "ep-2", &E));
    OK(usage_find_due(c, A, 10 * H, &id, &E));
    ck_assert_ptr_null(id);
    OK(usage_find_due(c, A, 10 * H + 1, &id, &E));
    ck_assert_str_eq(id, "ep-1");
    OK(usage_note(c, "ep-2", 20 * H, true, &E));
    ck_assert_str_eq(rows(c, ALL("hourly")), "");
}
END_TEST

START_TEST(what_is_hidden_counts_for_what_it_is_of)
{
    struct branch b = a_branch("br-h", "hidden", 3);
    WRITE();
    fill(c);
    b.kind = "temporary";
    b.parent_id = "br-2";
    OK(branch_insert(c, &b, &E));
    add_endpoint(c, "ep-h", "br-h", 1);
    OK(usage_begin(c, "ep-h", 10 * H, &E));
    OK(usage_note(c, "ep-h", 10 * H + 9 * S, true, &E));
    ck_assert_str_eq(rows(c, EACH("hourly")), "br-2 10 9 9 0 0 0\n");
}
END_TEST

START_TEST(space)
{
    struct branch_size size = {
        .branch_id = "br-1", .logical_bytes = 100, .own_bytes = 10, .history_bytes = 5, .measured_at = 10 * H
    };
    bool due;
    WRITE();
    fill(c);
    OK(usage_space_is_due(c, 10 * H, &due, &E));
    ck_assert(!due);
    OK(size_put(c, &size, &E));
    size.branch_id = "br-2";
    OK(size_put(c, &size, &E));
    OK(usage_note_space(c, "br-1", 10 * H + 1, &E));
    ck_assert_str_eq(rows(c, EACH("hourly")), "br-1 10 0 0 100 0 5\n");
    OK(usage_note_space(c, NULL, 10 * H + 2, &E));
    OK(usage_note_space(c, NULL, 11 * H, &E));
    ck_assert_str_eq(rows(c, ALL("hourly")), "- 10 0 0 100 10 10\n- 11 0 0 100 10 10\n");
    ck_assert_str_eq(rows(c, ALL("daily")), "- 0 0 0 200 20 20\n");
    size.own_bytes = 30; /* measured again in the same hour: that counts */
    OK(size_put(c, &size, &E));
    OK(usage_note_space(c, NULL, 11 * H, &E));
    ck_assert_str_eq(rows(c, EACH("hourly")),
                     "br-1 10 0 0 100 0 5\nbr-1 11 0 0 100 0 5\nbr-2 10 0 0 0 10 5\nbr-2 11 0 0 0 10 5\n");
    OK(usage_note_space(c, "br-2", 11 * H, &E));
    ck_assert_str_eq(rows(c, ALL("hourly")), "- 10 0 0 100 10 10\n- 11 0 0 100 30 10\n");
    OK(usage_space_is_due(c, 11 * H, &due, &E));
    ck_assert(due);
    OK(usage_fold(c, 11 * H + 5, &E));
    OK(usage_space_is_due(c, 12 * H - 1, &due, &E));
    ck_assert(!due);
    OK(usage_space_is_due(c, 12 * H, &due, &E));
    ck_assert(due);
}
END_TEST

START_TEST(folded)
{
    WRITE();
    fill(c);
    OK(usage_begin(c, "ep-1", D, &E));
    OK(usage_note(c, "ep-1", D + 3 * H, true, &E));
    OK(usage_begin(c, "ep-1", 2 * D + H, &E));
    OK(usage_note(c, "ep-1", 2 * D + 2 * H, true, &E));
    OK(usage_fold(c, 9 * D + 5 * H, &E)); /* day 1 is not 8 whole days ago */
    ck_assert_str_eq(
        rows(c, ALL("hourly")),
        "- 24 3600 7200 0 0 0\n- 25 3600 7200 0 0 0\n- 26 3600 7200 0 0 0\n- 49 3600 7200 0 0 0\n");
    OK(usage_fold(c, 10 * D, &E));
    OK(usage_fold(c, 10 * D, &E)); /* again is nothing new */
    ck_assert_str_eq(rows(c, ALL("hourly")), "- 24 10800 21600 0 0 0\n- 49 3600 7200 0 0 0\n");
    ck_assert_str_eq(rows(c, ALL("daily")), "- 24 10800 21600 0 0 0\n- 48 3600 7200 0 0 0\n");
    ck_assert_str_eq(rows(c, ALL("monthly")), "- 0 14400 28800 0 0 0\n");
    OK(usage_fold(c, 402 * D, &E));
    ck_assert_str_eq(rows(c, ALL("monthly")), "- 0 3600 7200 0 0 0\n");
}
END_TEST

START_TEST(asked_for)
{
    struct usage_query q = { .to_us = 1000 * D, .granularity = "hourly", .limit = 1, .by_branch = true };
    WRITE();
    fill(c);
    OK(usage_begin(c, "ep-1", 10 * H, &E));
    OK(usage_note(c, "ep-1", 11 * H + S, true, &E));
    OK(usage_begin(c, "ep-2", 10 * H, &E));
    OK(usage_note(c, "ep-2", 10 * H + 4 * S, true, &E));
    ck_assert_str_eq(rows(c, &q), "br-1 10 3600 7200 0 0 0\nbr-1 11 1 2 0 0 0\n");
    q.after = "br-1";
    ck_assert_str_eq(rows(c, &q), "br-2 10 4 2 0 0 0\n");
    q.after = "br-2";
    ck_assert_str_eq(rows(c, &q), "");
    q = (struct usage_query){
        .from_us = 11 * H, .to_us = 12 * H, .granularity = "hourly", .limit = 9, .by_branch = true
    };
    ck_assert_str_eq(rows(c, &q), "br-1 11 1 2 0 0 0\n");
    q.project_ids = "[\"q\"]";
    ck_assert_str_eq(rows(c, &q), "");
    q.project_ids = "[\"q\", \"p\"]";
    ck_assert_str_eq(rows(c, &q), "br-1 11 1 2 0 0 0\n");
}
END_TEST

Suite *t_meta_usage_suite(void)
{
    Suite *s = suite_create("meta_usage");
    TCase *t = tcase_create("meta_usage");
    tcase_add_checked_fixture(t, meta_setup, meta_teardown);
    TESTS(t, hours, a_clock_that_goes_back, due_and_forgotten, what_is_hidden_counts_for_what_it_is_of, space,
          folded, asked_for);
    suite_add_tcase(s, t);
    return s;
}
