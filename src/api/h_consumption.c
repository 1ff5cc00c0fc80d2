/*
 * h_consumption.c - what was used, by project or branch and hour, day or month
 *
 * Reads what is recorded; wakes nothing.
 */
#include "api/routes.gen.h"
#include "api/view.h"
#include "base/clock.h"
#include "base/text.h"
#include "meta/usage.h"

#include <string.h>
#include <time.h>

#define PAGE_MAX    100
#define PERIOD_ID   "00000000-0000-4000-8000-000000000002" /* there is one, and it has no end */
#define PERIOD_PLAN "self_hosted"

/* ---- frames ---- */

static const struct granularity {
    const char *name;
    int64_t reach_us; /* how far back it can be asked for */
    const char *reach_text;
} GRANULARITIES[] = {
    { "hourly", 168 * USAGE_HOUR_US, "168 hours" },
    { "daily", 60 * USAGE_DAY_US, "60 days" },
    { "monthly", 366 * USAGE_DAY_US, "year" },
};

static int64_t month_begin(int64_t us, int more)
{
    time_t s = us / 1000000;
    struct tm tm;

    gmtime_r(&s, &tm);
    tm = (struct tm){ .tm_year = tm.tm_year, .tm_mon = tm.tm_mon + more, .tm_mday = 1 };
    return (int64_t)timegm(&tm) * 1000000;
}

/* Where the frame begins that this time is in; more: that many frames later. */
static int64_t frame_begin(const struct granularity *g, int64_t us, int more)
{
    int64_t step = strcmp(g->name, "hourly") == 0 ? USAGE_HOUR_US : USAGE_DAY_US;

    return strcmp(g->name, "monthly") == 0 ? month_begin(us, more) : us - us % step + more * step;
}

/* ---- what is asked ---- */

/* The values of a parameter that may be repeated and may be a list with commas. */
static json_t *listed(const struct http_req *req, const char *name)
{
    json_t *all = json_array();

    for (size_t i = 0; i < req->n_query; i++) {
        const char *at = req->query[i].value;

        if (strcmp(req->query[i].name, name) != 0)
            continue;
        while (*at != '\0') {
            size_t len = strcspn(at, ",");

            if (len > 0)
                json_array_append_new(all, json_stringn(at, len));
            at += len + (at[len] == ',');
        }
    }
    return all;
}

static int read_time(const struct http_req *req, const char *name, int64_t *ret, struct err *err)
{
    if (http_query(req, name) == NULL)
        return err_set(err, ERR_BAD_REQUEST, "the query parameter %s is required", name);
    return http_query_time(req, name, ret, err);
}

static int read_range(const struct http_req *req, struct usage_query *q, const struct granularity **ret,
                      struct err *err)
{
    const char *name = http_query(req, "granularity");
    const struct granularity *g = NULL;
    int64_t now = clock_wall_us();

    for (size_t i = 0; name != NULL && i < N_ELEMENTS(GRANULARITIES); i++)
        if (strcmp(GRANULARITIES[i].name, name) == 0)
            g = &GRANULARITIES[i];
    if (g == NULL)
        return err_set(err, ERR_BAD_REQUEST,
                       "the query parameter granularity must be hourly, daily or monthly");
    if (read_time(req, "from", &q->from_us, err) < 0 || read_time(req, "to", &q->to_us, err) < 0)
        return -1;
    if (q->from_us > q->to_us)
        return err_set(err, ERR_BAD_REQUEST, "the query parameter from lies after to");
    q->from_us = frame_begin(g, q->from_us, 0);
    q->to_us = frame_begin(g, q->to_us, 1); /* the frame that `to` is in counts as a whole */
    if (q->from_us < frame_begin(g, now - g->reach_us, 0))
        return err_set(err, ERR_NOT_ACCEPTABLE,
                       "%s figures are kept for the last %s; choose a later from, or a coarser granularity",
                       g->name, g->reach_text);
    q->granularity = g->name;
    *ret = g;
    return 0;
}

static int read_org(const struct http_req *req, bool required, struct err *err)
{
    const char *org = http_query(req, "org_id");

    if (org == NULL && required)
        return err_set(err, ERR_BAD_REQUEST, "org_id is required; the organization here is \"%s\"",
                       VIEW_ORG_ID);
    if (org != NULL && strcmp(org, VIEW_ORG_ID) != 0)
        return err_set(err, ERR_NOT_FOUND, "organization not found; there is one here: \"%s\"", VIEW_ORG_ID);
    return 0;
}

static int read_query(const struct http_req *req, struct usage_query *q, const struct granularity **ret,
                      struct err *err)
{
    json_auto_t *ids = listed(req, "project_ids");
    auto_free char *text = json_dumps(ids, JSON_COMPACT);
    const char *cursor = http_query(req, "cursor");

    if (read_range(req, q, ret, err) < 0 ||
        http_query_i64(req, "limit", 1, PAGE_MAX, PAGE_MAX, &q->limit, err) < 0)
        return -1;
    q->project_ids = json_array_size(ids) > 0 ? arena_strdup(req->arena, text) : NULL;
    q->after = cursor != NULL && cursor[0] != '\0' ? cursor : NULL;
    return 0;
}

/* ---- figures ---- */

/* A member of struct usage, divided by `per`; 0: nothing of the kind is metered. */
struct metric {
    const char *name;
    size_t offset;
    int64_t per;
};

#define METRIC(json_name, member, per)                                                                       \
    {                                                                                                        \
        json_name, offsetof(struct usage, member), per                                                       \
    }
#define NOT_METERED(json_name)                                                                               \
    {                                                                                                        \
        json_name, 0, 0                                                                                      \
    }

static const struct metric METRICS[] = {
    METRIC("compute_unit_seconds", cu_us, 1000000),
    METRIC("root_branch_bytes_month", root_bytes, 1),
    METRIC("child_branch_bytes_month", child_bytes, 1),
    METRIC("instant_restore_bytes_month", history_bytes, 1),
    NOT_METERED("public_network_transfer_bytes"),
    NOT_METERED("private_network_transfer_bytes"),
    NOT_METERED("extra_branches_month"),
    NOT_METERED("snapshot_storage_bytes_month"),
};

static const struct metric FIRST_GENERATION[] = {
    METRIC("active_time_seconds", active_us, 1000000),
    METRIC("compute_time_seconds", cu_us, 1000000),
    NOT_METERED("written_data_bytes"),
};

static int64_t value_of(const struct metric *m, const struct usage *u)
{
    return m->per == 0 ? 0 : *(const int64_t *)((const char *)u + m->offset) / m->per;
}

static const struct metric *find_metric(const char *name)
{
    for (size_t i = 0; i < N_ELEMENTS(METRICS); i++)
        if (strcmp(METRICS[i].name, name) == 0)
            return &METRICS[i];
    return NULL;
}

static int read_metrics(const struct http_req *req, json_t **ret, struct err *err)
{
    json_auto_t *names = listed(req, "metrics");
    json_t *one;
    size_t i;

    if (json_array_size(names) == 0)
        return err_set(err, ERR_BAD_REQUEST, "the query parameter metrics is required");
    json_array_foreach(names, i, one)
    {
        if (find_metric(json_string_value(one)) == NULL)
            return err_set(err, ERR_BAD_REQUEST, "the query parameter metrics: there is no metric \"%.60s\"",
                           json_string_value(one));
    }
    *ret = json_incref(names);
    return 0;
}

static json_t *new_frame(const struct granularity *g, const struct usage *u)
{
    char from[TIME_TEXT_SIZE], to[TIME_TEXT_SIZE];

    return json_pack("{s:s, s:s}", "timeframe_start", text_time(u->begins_at, from), "timeframe_end",
                     text_time(frame_begin(g, u->begins_at, 1), to));
}

/* metrics: which; NULL: the members of the first generation. */
static json_t *view_frame(const struct granularity *g, json_t *metrics, const struct usage *u)
{
    int64_t hours = (frame_begin(g, u->begins_at, 1) - u->begins_at) / USAGE_HOUR_US;
    int64_t bytes = u->root_bytes + u->child_bytes + u->history_bytes;
    json_t *frame = new_frame(g, u), *list, *one;
    size_t i;

    if (metrics != NULL) {
        list = json_array();
        json_array_foreach(metrics, i, one)
        {
            const struct metric *m = find_metric(json_string_value(one));

            json_array_append_new(
                list, json_pack("{s:s, s:I}", "metric_name", m->name, "value", (json_int_t)value_of(m, u)));
        }
        json_object_set_new(frame, "metrics", list);
        return frame;
    }
    for (i = 0; i < N_ELEMENTS(FIRST_GENERATION); i++)
        json_object_set_new(frame, FIRST_GENERATION[i].name, json_integer(value_of(&FIRST_GENERATION[i], u)));
    json_object_set_new(frame, "synthetic_storage_size_bytes", json_integer(bytes / hours));
    json_object_set_new(frame, "data_storage_bytes_hour", json_integer(bytes));
    return frame;
}

/* A project or branch with its one period, to whose frames the caller adds. */
static json_t *new_item(const struct usage_query *q, const struct usage *u, json_t **ret_frames)
{
    char from[TIME_TEXT_SIZE];
    json_t *item = json_pack("{s:s}", "project_id", u->project_id);

    *ret_frames = json_array();
    if (u->branch_id != NULL)
        json_object_set_new(item, "branch_id", json_string(u->branch_id));
    json_object_set_new(item, "periods",
                        json_pack("[{s:s, s:s, s:s, s:o}]", "period_id", PERIOD_ID, "period_plan",
                                  PERIOD_PLAN, "period_start", text_time(q->from_us, from), "consumption",
                                  *ret_frames));
    return item;
}

static bool is_same(const struct usage *x, const struct usage *y)
{
    return strcmp(x->project_id, y->project_id) == 0 &&
           (x->branch_id == NULL || strcmp(x->branch_id, y->branch_id) == 0);
}

static int answer(struct http_req *req, struct http_res *res, const char *key, struct usage_query *q,
                  const struct granularity *g, json_t *metrics, struct err *err)
{
    struct usage *list;
    const char *last;
    json_t *items, *frames = NULL, *body;
    size_t n;
    auto_dbc *c = NULL;

    if (db_read(sched_db(req->sched), &c, err) < 0 || usage_list(c, req->arena, q, &list, &n, &last, err) < 0)
        return -1;
    items = json_array();
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || !is_same(&list[i], &list[i - 1]))
            json_array_append_new(items, new_item(q, &list[i], &frames));
        json_array_append_new(frames, view_frame(g, metrics, &list[i]));
    }
    body = json_pack("{s:o}", key, items);
    if (last != NULL)
        json_object_set_new(body, "pagination", json_pack("{s:s}", "cursor", last));
    return res_json(res, 200, body);
}

int api_consumption_projects(struct http_req *req, struct http_res *res, struct err *err)
{
    struct usage_query q = { 0 };
    const struct granularity *g;

    if (read_query(req, &q, &g, err) < 0 || read_org(req, false, err) < 0)
        return -1;
    return answer(req, res, "projects", &q, g, NULL, err);
}

static int second_generation(struct http_req *req, struct http_res *res, const char *key, bool by_branch,
                             struct err *err)
{
    struct usage_query q = { .by_branch = by_branch };
    const struct granularity *g;
    json_auto_t *metrics = NULL;

    if (read_query(req, &q, &g, err) < 0 || read_org(req, true, err) < 0 ||
        read_metrics(req, &metrics, err) < 0)
        return -1;
    return answer(req, res, key, &q, g, metrics, err);
}

int api_consumption_projects_v2(struct http_req *req, struct http_res *res, struct err *err)
{
    return second_generation(req, res, "projects", false, err);
}

int api_consumption_branches_v2(struct http_req *req, struct http_res *res, struct err *err)
{
    return second_generation(req, res, "branches", true, err);
}
