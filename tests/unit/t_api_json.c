/*
 * t_api_json.c - what bodies may say, what clients see, what errors look like
 */
#include "api/spec.h"
#include "api/view.h"

#include <check.h>

Suite *t_api_json_suite(void);

static const int64_t PG_VERSIONS[] = { 15, 17 };
static const int64_t T = INT64_C(1737061321123456); /* 2025-01-16T21:02:01.123456Z */

static struct sched_info info;
static struct http_req req;

static void setup(void)
{
    info = (struct sched_info){ .version = "0",
                                .pg_host = "127.0.0.1",
                                .pg_port = 7433,
                                .host_suffix = "localhost",
                                .region_id = "local",
                                .pg_versions = PG_VERSIONS,
                                .n_pg_versions = 2,
                                .default_min_cu = 0.25,
                                .default_max_cu = 2 };
    req = (struct http_req){
        .arena = arena_new(0), .method = "POST", .path = "/api/v2/x", .request_id = "r-1"
    };
}

static void teardown(void)
{
    json_decref(req.body);
    arena_free(req.arena);
}

/* --- bodies --- */

static enum err_code parse(const char *data, size_t len)
{
    struct err err = ERR_INIT;
    json_t *body = NULL;
    int rc = http_parse_body(data, len, &body, &err);

    ck_assert((rc == 0) == (body != NULL));
    json_decref(body);
    return rc == 0 ? ERR_NONE : err.code;
}

static enum err_code parse_text(const char *text)
{
    return parse(text, strlen(text));
}

START_TEST(bodies_that_are_read)
{
    ck_assert_int_eq(parse("", 0), ERR_NONE);
    ck_assert_int_eq(parse(NULL, 0), ERR_NONE);
    ck_assert_int_eq(parse_text(" \r\n\t "), ERR_NONE);
    ck_assert_int_eq(parse_text("{}"), ERR_NONE);
    ck_assert_int_eq(parse_text(" {\"a\": [1, \"\\u00fc\", {\"b\": null}]} "), ERR_NONE);
    ck_assert_int_eq(
        parse_text("{\"a\": \"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\\\", \"b\": \"\\\\\"}"),
        ERR_NONE);
}
END_TEST

START_TEST(bodies_that_are_not)
{
    static const char *const BROKEN[] = {
        "{",
        "}",
        "{\"a\"}",
        "{'a': 1}",
        "{\"a\": 1,}",
        "{\"a\": 01}",
        "{\"a\": NaN}",
        "{} {}",
        "{}x",
        "nul",
        "\"",
        "{\"a\": 1, \"a\": 2}",
        "{\"a\": 1e999}",
        "{\"a\": 99999999999999999999}",
        "{\"a\": \"\\u0000\"}",
        "{\"\\u0000\": 1}",
        "{\"a\": \"\xff\"}",
        "{\"a\": \"\xed\xa0\x80\"}",
        "{\"a\": \"\\ud800\"}",
        "{\"a\": \"\x01\"}",
        "\xef\xbb\xbf{}",
        "{\"a\": \"\n\"}",
        "// {}",
        "<a/>",
        "a=b&c=d",
    };
    static const char *const NO_OBJECT[] = { "null", "[]", "1", "\"x\"", "true", "[{}]" };

    for (size_t i = 0; i < N_ELEMENTS(BROKEN); i++)
        ck_assert_msg(parse_text(BROKEN[i]) == ERR_BAD_REQUEST, "%s", BROKEN[i]);
    for (size_t i = 0; i < N_ELEMENTS(NO_OBJECT); i++)
        ck_assert_msg(parse_text(NO_OBJECT[i]) == ERR_INVALID, "%s", NO_OBJECT[i]);
    ck_assert_int_eq(parse("{}\0", 3), ERR_BAD_REQUEST);
}
END_TEST

static enum err_code parse_nested(size_t depth, const char *open, const char *close)
{
    char *text = arena_strdup(req.arena, "{\"a\":");

    for (size_t i = 1; i < depth; i++)
        text = arena_printf(req.arena, "%s%s", text, open);
    text = arena_printf(req.arena, "%s1", text);
    for (size_t i = 1; i < depth; i++)
        text = arena_printf(req.arena, "%s%s", text, close);
    return parse_text(arena_printf(req.arena, "%s}", text));
}

START_TEST(nesting_has_a_limit)
{
    ck_assert_int_eq(parse_nested(32, "[", "]"), ERR_NONE);
    ck_assert_int_eq(parse_nested(33, "[", "]"), ERR_BAD_REQUEST);
    ck_assert_int_eq(parse_nested(32, "{\"a\":", "}"), ERR_NONE);
    ck_assert_int_eq(parse_nested(33, "{\"a\":", "}"), ERR_BAD_REQUEST);
}
END_TEST

START_TEST(a_megabyte_of_brackets_is_refused_at_once)
{
    size_t n = 1 << 20;
    auto_free char *brackets = xmalloc(n);

    memset(brackets, '[', n);
    ck_assert_int_eq(parse(brackets, n), ERR_BAD_REQUEST);
    memset(brackets, '{', n);
    ck_assert_int_eq(parse(brackets, n), ERR_BAD_REQUEST);
    memset(brackets, '"', n);
    ck_assert_int_eq(parse(brackets, n), ERR_BAD_REQUEST);
    memset(brackets, '\\', n);
    ck_assert_int_eq(parse(brackets, n), ERR_BAD_REQUEST);
}
END_TEST

/* --- specs --- */

static struct project_spec project;
static struct branch_spec branch;
static struct endpoint_spec endpoint;

enum what { PROJECT_CREATE, PROJECT_UPDATE, BRANCH_CREATE, BRANCH_UPDATE, ENDPOINT_CREATE, ENDPOINT_UPDATE };

static int read_spec(enum what what, const char *body, struct err *err)
{
    static const struct project NOW = { .settings = "{\"audit_log_level\":\"full\"}",
                                        .default_endpoint_settings = "{\"autoscaling_limit_max_cu\":1}" };

    *err = (struct err)ERR_INIT;
    json_decref(req.body);
    req.body = NULL;
    ck_assert_msg(http_parse_body(body, strlen(body), &req.body, err) == 0, "%s", body);
    switch (what) {
    case PROJECT_CREATE:
        return spec_project_create(&req, &project, err);
    case PROJECT_UPDATE:
        return spec_project_update(&req, &NOW, &project, err);
    case BRANCH_CREATE:
        return spec_branch_create(&req, &branch, err);
    case BRANCH_UPDATE:
        return spec_branch_update(&req, &branch, err);
    case ENDPOINT_CREATE:
        return spec_endpoint_create(&req, &endpoint, err);
    case ENDPOINT_UPDATE:
        return spec_endpoint_update(&req, &endpoint, err);
    }
    return -1;
}

static void accept(enum what what, const char *body)
{
    struct err err;

    ck_assert_msg(read_spec(what, body, &err) == 0, "%s: %s %s", body, err.msg, err.pointer);
}

START_TEST(a_project_with_everything_that_works)
{
    accept(
        PROJECT_CREATE,
        "{\"project\": {\"name\": \"p\", \"pg_version\": 15, \"org_id\": \"" VIEW_ORG_ID
        "\", \"provisioner\": \"k8s-neonvm\","
        " \"store_passwords\": false, \"history_retention_seconds\": 0,"
        " \"settings\": {\"quota\": {\"active_time_seconds\": 0}, \"allowed_ips\": {\"ips\": [\"10.0.0.1\", "
        "\"10.0.0.0/8\", \"::1-::9\"], \"protected_branches_only\": true},"
        "   \"enable_logical_replication\": false, \"block_public_connections\": false, "
        "\"block_vpc_connections\": false,"
        "   \"hipaa\": false, \"audit_log_level\": \"extended\", \"preload_libraries\": {\"use_defaults\": "
        "true, \"enabled_libraries\": []},"
        "   \"maintenance_window\": {\"weekdays\": [1, 7], \"start_time\": \"00:00\", \"end_time\": "
        "\"23:59\"}},"
        " \"default_endpoint_settings\": {\"autoscaling_limit_min_cu\": 0.5, \"suspend_timeout_seconds\": -1,"
        "   \"pg_settings\": {\"work_mem\": \"8MB\"}, \"pgbouncer_settings\": {}}, "
        "\"autoscaling_limit_max_cu\": 2,"
        " \"branch\": {\"name\": \"trunk\", \"role_name\": \"r\", \"database_name\": \"d\", \"annotations\": "
        "{\"a\": \"b\"}}}}");
    ck_assert_str_eq(project.name, "p");
    ck_assert_int_eq(project.pg_version, 15);
    ck_assert_int_eq(project.store_passwords, 0);
    ck_assert_int_eq(project.history_retention_seconds, 0);
    ck_assert_str_eq(project.branch_name, "trunk");
    ck_assert_str_eq(project.role_name, "r");
    ck_assert_str_eq(project.database_name, "d");
    ck_assert_str_eq(project.branch_annotations, "{\"a\":\"b\"}");
    ck_assert_double_eq(project.endpoint.min_cu, 0.5);
    ck_assert_double_eq(project.endpoint.max_cu, 2);
    ck_assert_int_eq(project.endpoint.suspend_timeout_seconds, -1);
    ck_assert_str_eq(project.endpoint.pg_settings, "{\"work_mem\":\"8MB\"}");
    ck_assert_ptr_nonnull(strstr(project.settings, "\"extended\""));
    ck_assert_ptr_nonnull(strstr(project.default_endpoint_settings, "\"autoscaling_limit_max_cu\":2"));
}
END_TEST

START_TEST(what_is_not_given)
{
    accept(PROJECT_CREATE, "{\"project\": {}}");
    ck_assert_ptr_null(project.name);
    ck_assert_int_eq(project.pg_version, 0);
    ck_assert_int_eq(project.store_passwords, -1);
    ck_assert_int_eq(project.history_retention_seconds, INTENT_UNSET);
    ck_assert_ptr_null(project.settings);
    ck_assert_ptr_null(project.default_endpoint_settings);
    ck_assert_int_eq(project.endpoint.suspend_timeout_seconds, INTENT_UNSET);
    ck_assert_int_eq(project.endpoint.disabled, -1);
    accept(BRANCH_CREATE, "");
    ck_assert_ptr_null(branch.name);
    ck_assert_ptr_null(branch.parent);
    ck_assert_int_eq(branch.is_protected, -1);
    ck_assert_uint_eq(branch.n_endpoints, 0);
    ck_assert_ptr_null(branch.annotations);
    accept(ENDPOINT_UPDATE, "{\"endpoint\": {}}");
    ck_assert_int_eq(endpoint.disabled, -1);
    ck_assert_ptr_null(endpoint.branch_id);
}
END_TEST

START_TEST(an_update_keeps_what_it_does_not_name)
{
    accept(PROJECT_UPDATE, "{\"project\": {\"settings\": {\"allowed_ips\": {\"ips\": []}},"
                           " \"default_endpoint_settings\": {\"autoscaling_limit_min_cu\": 0.5}}}");
    ck_assert_ptr_nonnull(strstr(project.settings, "\"audit_log_level\":\"full\""));
    ck_assert_ptr_nonnull(strstr(project.settings, "allowed_ips"));
    ck_assert_double_eq(project.endpoint.min_cu, 0.5);
    ck_assert_double_eq(project.endpoint.max_cu, 1); /* so that the intent sees both */
    accept(PROJECT_UPDATE, "{\"project\": {\"name\": \"n\"}}");
    ck_assert_ptr_null(project.settings);
    ck_assert_ptr_null(project.default_endpoint_settings);
}
END_TEST

START_TEST(a_branch_as_clients_ask_for_it)
{
    accept(BRANCH_CREATE,
           "{\"branch\": {\"name\": \"test/1\", \"parent_id\": \"main\", \"protected\": true, \"archived\": "
           "false,"
           " \"init_source\": \"parent-data\", \"expires_at\": null, \"durability\": \"relaxed\"},"
           " \"endpoints\": [{\"type\": \"read_write\", \"provisioner\": \"k8s-neonvm\", "
           "\"suspend_timeout_seconds\": 0, \"park_sessions\": true,"
           "   \"settings\": {\"pg_settings\": {\"work_mem\": \"4MB\"}, \"preload_libraries\": "
           "{\"enabled_libraries\": []}}}],"
           " \"annotation_value\": {}}");
    ck_assert_str_eq(branch.name, "test/1");
    ck_assert_str_eq(branch.parent, "main");
    ck_assert_int_eq(branch.is_protected, 1);
    ck_assert_str_eq(branch.durability, "relaxed");
    ck_assert_uint_eq(branch.n_endpoints, 1);
    ck_assert_str_eq(branch.endpoints[0].type, "read_write");
    ck_assert_int_eq(branch.endpoints[0].suspend_timeout_seconds, 0);
    ck_assert_int_eq(branch.endpoints[0].disabled, -1);
    ck_assert_int_eq(branch.endpoints[0].park_sessions, 1);
    ck_assert_str_eq(branch.endpoints[0].pg_settings, "{\"work_mem\":\"4MB\"}");
    ck_assert_str_eq(branch.annotations, "{}");
    accept(BRANCH_UPDATE, "{\"branch\": {\"expires_at\": null, \"protected\": false}}");
    ck_assert_int_eq(branch.is_protected, 0);
    accept(
        BRANCH_CREATE,
        "{\"branch\": {\"parent_lsn\": \"0/1DE2850\", \"parent_timestamp\": \"2024-01-01T00:00:00.000Z\"}}");
    ck_assert_uint_eq(branch.parent_lsn, 0x1DE2850);
    ck_assert_int_ne(branch.parent_timestamp, 0); /* the intent says what it thinks of them */
}
END_TEST

START_TEST(zero_compute_units_are_not_nothing)
{
    accept(ENDPOINT_UPDATE, "{\"endpoint\": {\"autoscaling_limit_min_cu\": 0, \"autoscaling_limit_max_cu\": "
                            "0.0, \"disabled\": true}}");
    ck_assert_double_lt(endpoint.min_cu, 0);
    ck_assert_double_lt(endpoint.max_cu, 0);
    ck_assert_int_eq(endpoint.disabled, 1);
}
END_TEST

static const struct {
    enum what what;
    const char *body;
    enum err_code code;
    const char *pointer;
} REFUSED[] = {
    { PROJECT_CREATE, "{}", ERR_INVALID, "/project" },
    { PROJECT_CREATE, "{\"project\": []}", ERR_INVALID, "/project" },
    { PROJECT_CREATE, "{\"project\": null}", ERR_INVALID, "/project" },
    { PROJECT_CREATE, "{\"project\": {}, \"x/y~\": 1}", ERR_INVALID, "/x~1y~0" },
    { PROJECT_CREATE, "{\"project\": {\"nmae\": \"x\"}}", ERR_INVALID, "/project/nmae" },
    { PROJECT_CREATE, "{\"project\": {\"name\": 1}}", ERR_INVALID, "/project/name" },
    { PROJECT_CREATE, "{\"project\": {\"name\": null}}", ERR_INVALID, "/project/name" },
    { PROJECT_CREATE, "{\"project\": {\"pg_version\": \"15\"}}", ERR_INVALID, "/project/pg_version" },
    { PROJECT_CREATE, "{\"project\": {\"pg_version\": 15.5}}", ERR_INVALID, "/project/pg_version" },
    { PROJECT_CREATE, "{\"project\": {\"pg_version\": 0}}", ERR_INVALID, "/project/pg_version" },
    { PROJECT_CREATE, "{\"project\": {\"org_id\": \"org-other-one-12345678\"}}", ERR_INVALID,
      "/project/org_id" },
    { PROJECT_CREATE, "{\"project\": {\"provisioner\": \"k8s-pod\"}}", ERR_NOT_SUPPORTED,
      "/project/provisioner" },
    { PROJECT_CREATE, "{\"project\": {\"store_passwords\": \"no\"}}", ERR_INVALID,
      "/project/store_passwords" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": []}}", ERR_INVALID, "/project/settings" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"x\": 1}}}", ERR_INVALID, "/project/settings/x" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"quota\": {\"active_time_seconds\": 1}}}}",
      ERR_NOT_SUPPORTED, "/project/settings/quota/active_time_seconds" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"quota\": {\"logical_size_bytes\": -1}}}}", ERR_INVALID,
      "/project/settings/quota/logical_size_bytes" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"quota\": []}}}", ERR_INVALID,
      "/project/settings/quota" },
    { PROJECT_CREATE,
      "{\"project\": {\"settings\": {\"allowed_ips\": {\"ips\": [\"10.0.0.1\", \"10.0.0.1/33\"]}}}}",
      ERR_INVALID, "/project/settings/allowed_ips/ips/1" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"allowed_ips\": {\"ips\": [\"example.org\"]}}}}",
      ERR_INVALID, "/project/settings/allowed_ips/ips/0" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"allowed_ips\": {\"ips\": [\"\"]}}}}", ERR_INVALID,
      "/project/settings/allowed_ips/ips/0" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"allowed_ips\": {\"ips\": [1]}}}}", ERR_INVALID,
      "/project/settings/allowed_ips/ips" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"allowed_ips\": {\"ips\": {}}}}}", ERR_INVALID,
      "/project/settings/allowed_ips/ips" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"allowed_ips\": {\"protected_branches_only\": 1}}}}",
      ERR_INVALID, "/project/settings/allowed_ips/protected_branches_only" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"enable_logical_replication\": true}}}",
      ERR_NOT_SUPPORTED, "/project/settings/enable_logical_replication" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"block_public_connections\": true}}}",
      ERR_NOT_SUPPORTED, "/project/settings/block_public_connections" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"block_vpc_connections\": true}}}", ERR_NOT_SUPPORTED,
      "/project/settings/block_vpc_connections" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"hipaa\": true}}}", ERR_NOT_SUPPORTED,
      "/project/settings/hipaa" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"audit_log_level\": \"all\"}}}", ERR_INVALID,
      "/project/settings/audit_log_level" },
    { PROJECT_CREATE, "{\"project\": {\"settings\": {\"preload_libraries\": {\"enabled_libraries\": [1]}}}}",
      ERR_INVALID, "/project/settings/preload_libraries/enabled_libraries" },
    { PROJECT_CREATE,
      "{\"project\": {\"settings\": {\"maintenance_window\": {\"weekdays\": [1], \"start_time\": "
      "\"01:00\"}}}}",
      ERR_INVALID, "/project/settings/maintenance_window/end_time" },
    { PROJECT_CREATE,
      "{\"project\": {\"settings\": {\"maintenance_window\": {\"weekdays\": [0], \"start_time\": \"01:00\", "
      "\"end_time\": \"02:00\"}}}}",
      ERR_INVALID, "/project/settings/maintenance_window/weekdays" },
    { PROJECT_CREATE,
      "{\"project\": {\"settings\": {\"maintenance_window\": {\"weekdays\": [1], \"start_time\": \"24:00\", "
      "\"end_time\": \"02:00\"}}}}",
      ERR_INVALID, "/project/settings/maintenance_window/start_time" },
    { PROJECT_CREATE,
      "{\"project\": {\"settings\": {\"maintenance_window\": {\"weekdays\": [1], \"start_time\": \"01:00\", "
      "\"end_time\": \"2:00\"}}}}",
      ERR_INVALID, "/project/settings/maintenance_window/end_time" },
    { PROJECT_CREATE, "{\"project\": {\"default_endpoint_settings\": []}}", ERR_INVALID,
      "/project/default_endpoint_settings" },
    { PROJECT_CREATE,
      "{\"project\": {\"default_endpoint_settings\": {\"pgbouncer_settings\": {\"a\": \"b\"}}}}",
      ERR_NOT_SUPPORTED, "/project/default_endpoint_settings/pgbouncer_settings" },
    { PROJECT_CREATE, "{\"project\": {\"default_endpoint_settings\": {\"settings\": {}}}}", ERR_INVALID,
      "/project/default_endpoint_settings/settings" },
    { PROJECT_CREATE, "{\"project\": {\"branch\": {\"parent_id\": \"x\"}}}", ERR_INVALID,
      "/project/branch/parent_id" },
    { PROJECT_CREATE, "{\"project\": {\"branch\": {\"annotations\": {\"a\": 1}}}}", ERR_INVALID,
      "/project/branch/annotations" },
    { PROJECT_UPDATE, "{\"project\": {\"pg_version\": 15}}", ERR_INVALID, "/project/pg_version" },
    { BRANCH_CREATE, "{\"name\": \"x\"}", ERR_INVALID, "/name" },
    { BRANCH_CREATE, "{\"branch\": \"x\"}", ERR_INVALID, "/branch" },
    { BRANCH_CREATE, "{\"branch\": {\"id\": \"br-a-b-c\"}}", ERR_INVALID, "/branch/id" },
    { BRANCH_CREATE, "{\"branch\": {\"archived\": true}}", ERR_NOT_SUPPORTED, "/branch/archived" },
    { BRANCH_CREATE, "{\"branch\": {\"parent_lsn\": \"0\"}}", ERR_INVALID, "/branch/parent_lsn" },
    { BRANCH_CREATE, "{\"branch\": {\"parent_timestamp\": \"yesterday\"}}", ERR_INVALID,
      "/branch/parent_timestamp" },
    { BRANCH_CREATE, "{\"endpoints\": {}}", ERR_INVALID, "/endpoints" },
    { BRANCH_CREATE, "{\"endpoints\": [1]}", ERR_INVALID, "/endpoints/0" },
    { BRANCH_CREATE, "{\"endpoints\": [{}]}", ERR_INVALID, "/endpoints/0/type" },
    { BRANCH_CREATE,
      "{\"endpoints\": [{\"type\": \"read_write\"}, {\"type\": \"read_write\", \"branch_id\": \"x\"}]}",
      ERR_INVALID, "/endpoints/1/branch_id" },
    { BRANCH_CREATE,
      "{\"endpoints\": [{\"type\": \"read_write\", \"settings\": {\"pgbouncer_settings\": {\"a\": \"b\"}}}]}",
      ERR_NOT_SUPPORTED, "/endpoints/0/settings/pgbouncer_settings" },
    { BRANCH_CREATE, "{\"annotation_value\": {\"a\": {}}}", ERR_INVALID, "/annotation_value" },
    { BRANCH_CREATE, "{\"annotation_value\": {\"\": \"a\"}}", ERR_INVALID, "/annotation_value" },
    { BRANCH_CREATE, "{\"annotation_value\": []}", ERR_INVALID, "/annotation_value" },
    { BRANCH_UPDATE, "{}", ERR_INVALID, "/branch" },
    { BRANCH_UPDATE, "{\"branch\": {\"parent_id\": \"x\"}}", ERR_INVALID, "/branch/parent_id" },
    { BRANCH_UPDATE, "{\"branch\": {\"expires_at\": \"tomorrow\"}}", ERR_INVALID, "/branch/expires_at" },
    { BRANCH_UPDATE, "{\"branch\": {\"ttl_seconds\": 0}}", ERR_INVALID, "/branch/ttl_seconds" },
    { BRANCH_CREATE, "{\"branch\": {\"ttl_seconds\": -9223372036854775808}}", ERR_INVALID,
      "/branch/ttl_seconds" },
    { BRANCH_CREATE, "{\"branch\": {\"ttl_seconds\": \"1h\"}}", ERR_INVALID, "/branch/ttl_seconds" },
    { ENDPOINT_CREATE, "{\"endpoint\": {\"type\": \"read_write\"}}", ERR_INVALID, "/endpoint/branch_id" },
    { ENDPOINT_CREATE, "{\"endpoint\": {\"branch_id\": \"b\"}}", ERR_INVALID, "/endpoint/type" },
    { ENDPOINT_CREATE,
      "{\"endpoint\": {\"branch_id\": \"b\", \"type\": \"read_write\", \"pooler_mode\": \"session\"}}",
      ERR_INVALID, "/endpoint/pooler_mode" },
    { ENDPOINT_CREATE,
      "{\"endpoint\": {\"branch_id\": \"b\", \"type\": \"read_write\", \"passwordless_access\": false}}",
      ERR_NOT_SUPPORTED, "/endpoint/passwordless_access" },
    { ENDPOINT_UPDATE, "{\"endpoint\": {\"type\": \"read_only\"}}", ERR_INVALID, "/endpoint/type" },
    { ENDPOINT_UPDATE, "{\"endpoint\": {\"disabled\": 1}}", ERR_INVALID, "/endpoint/disabled" },
    { ENDPOINT_UPDATE,
      "{\"endpoint\": {\"settings\": {\"preload_libraries\": {\"enabled_libraries\": \"x\"}}}}", ERR_INVALID,
      "/endpoint/settings/preload_libraries/enabled_libraries" },
    { ENDPOINT_UPDATE, "{\"endpoint\": {\"settings\": {\"preload_libraries\": 1}}}", ERR_INVALID,
      "/endpoint/settings/preload_libraries" },
    { ENDPOINT_UPDATE, "{\"endpoint\": {\"autoscaling_limit_min_cu\": \"1\"}}", ERR_INVALID,
      "/endpoint/autoscaling_limit_min_cu" },
};

START_TEST(what_is_refused_says_where)
{
    for (size_t i = 0; i < N_ELEMENTS(REFUSED); i++) {
        struct err err;

        ck_assert_msg(read_spec(REFUSED[i].what, REFUSED[i].body, &err) < 0, "%s", REFUSED[i].body);
        ck_assert_msg(err.code == REFUSED[i].code, "%s: %s %s", REFUSED[i].body, err_name(err.code), err.msg);
        ck_assert_msg(strcmp(err.pointer, REFUSED[i].pointer) == 0, "%s: %s", REFUSED[i].body, err.pointer);
        ck_assert_uint_gt(strlen(err.msg), 10);
    }
}
END_TEST

/* --- views --- */

/* Nothing in an answer may be null: clients read what is there without looking. */
static void check_no_null(json_t *v)
{
    const char *key;
    json_t *child;
    size_t i;

    ck_assert(!json_is_null(v));
    json_object_foreach(v, key, child)
    {
        check_no_null(child);
    }
    json_array_foreach(v, i, child)
    {
        check_no_null(child);
    }
}

static const char *text_of(json_t *obj, const char *key)
{
    const char *text = json_string_value(json_object_get(obj, key));

    return text != NULL ? text : "(none)";
}

static struct endpoint an_endpoint(void)
{
    return (struct endpoint){ .id = "ep-a-b-c",
                              .project_id = "p",
                              .branch_id = "br-a-b-c",
                              .type = "read_write",
                              .desired = "stopped",
                              .observed = "STOPPED",
                              .min_cu = 0.25,
                              .max_cu = 2,
                              .created_at = T,
                              .updated_at = T };
}

START_TEST(view_of_a_root_branch)
{
    struct branch b = { .id = "br-a-b-c",
                        .project_id = "p",
                        .name = "main",
                        .state = "ready",
                        .is_default = true,
                        .durability = "full",
                        .volume = "none",
                        .head_lsn = 7,
                        .state_changed_at = T,
                        .created_at = T,
                        .updated_at = T };
    json_auto_t *v = view_branch(&b);

    check_no_null(v);
    ck_assert_str_eq(text_of(v, "current_state"), "ready");
    ck_assert_str_eq(text_of(v, "created_at"), "2025-01-16T21:02:01Z");
    ck_assert(json_is_true(json_object_get(v, "default")));
    ck_assert(json_is_true(json_object_get(v, "primary")));
    ck_assert(json_is_false(json_object_get(v, "protected")));
    ck_assert_int_eq(json_integer_value(json_object_get(v, "data_transfer_bytes")), 0);
    for (const char *const *name =
             (const char *const[]){ "parent_id", "parent_lsn", "parent_timestamp", "pending_state", "volume",
                                    "tli", "head_lsn", "image_id", "annotations", NULL };
         *name != NULL; name++)
        ck_assert_msg(json_object_get(v, *name) == NULL, "%s", *name);
}
END_TEST

START_TEST(view_of_a_child_that_is_being_made)
{
    struct branch b = { .id = "br-a-b-d",
                        .project_id = "p",
                        .name = "x",
                        .state = "init",
                        .parent_id = "snap-a-b-d",
                        .shown_parent_id = "br-a-b-c",
                        .durability = "relaxed",
                        .volume = "none",
                        .is_protected = true,
                        .state_changed_at = T,
                        .created_at = T,
                        .updated_at = T };
    json_auto_t *v = view_branch(&b);
    json_auto_t *w = NULL;

    ck_assert_str_eq(text_of(v, "current_state"), "init");
    ck_assert_str_eq(text_of(v, "pending_state"), "ready");
    ck_assert_str_eq(text_of(v, "parent_id"), "br-a-b-c");
    ck_assert_str_eq(text_of(v, "durability"), "relaxed");
    ck_assert(json_is_true(json_object_get(v, "protected")));
    ck_assert_ptr_null(json_object_get(v, "parent_lsn"));
    b.state = "damaged";
    b.parent_lsn = 0x100000028;
    b.parent_timestamp = T;
    w = view_branch(&b);
    ck_assert_str_eq(text_of(w, "current_state"), "damaged");
    ck_assert_str_eq(text_of(w, "parent_lsn"), "1/28");
    ck_assert_str_eq(text_of(w, "parent_timestamp"), "2025-01-16T21:02:01Z");
    ck_assert_ptr_null(json_object_get(w, "pending_state"));
}
END_TEST

START_TEST(view_of_a_child_whose_parent_nobody_sees)
{
    struct branch b = { .id = "br-a-b-d",
                        .project_id = "p",
                        .name = "x",
                        .state = "deleted",
                        .parent_id = "br-a-b-c",
                        .parent_lsn = 0x100000028,
                        .parent_timestamp = T,
                        .durability = "full",
                        .volume = "none",
                        .expires_at = T,
                        .ttl_seconds = 60,
                        .deleted_at = T,
                        .recoverable_until = T,
                        .deletion_method = "user" };
    json_auto_t *v = view_branch(&b), *w = NULL;

    for (const char *const *name =
             (const char *const[]){ "parent_id", "parent_lsn", "parent_timestamp", "recovery", NULL };
         *name != NULL; name++)
        ck_assert_msg(json_object_get(v, *name) == NULL, "%s", *name);
    ck_assert_str_eq(text_of(v, "expires_at"), "2025-01-16T21:02:01Z");
    ck_assert_int_eq(json_integer_value(json_object_get(v, "ttl_interval_seconds")), 60);
    b.recoverable_until += 1000000;
    w = view_branch(&b);
    ck_assert_str_eq(text_of(json_object_get(w, "recovery"), "recoverable_until"), "2025-01-16T21:02:02Z");
    ck_assert_str_eq(text_of(json_object_get(w, "recovery"), "deletion_method"), "user");
}
END_TEST

START_TEST(view_of_annotations)
{
    struct branch b = { .id = "br-a-b-c", .annotations = "{\"a\":\"b\"}" };
    json_auto_t *v = view_annotation(&b);
    json_auto_t *w = NULL;

    ck_assert_str_eq(text_of(json_object_get(v, "object"), "id"), "br-a-b-c");
    ck_assert_str_eq(text_of(json_object_get(v, "value"), "a"), "b");
    b.annotations = NULL;
    w = view_annotation(&b);
    ck_assert(json_is_object(json_object_get(w, "value")));
    ck_assert_uint_eq(json_object_size(json_object_get(w, "value")), 0);
}
END_TEST

START_TEST(view_of_endpoint_states)
{
    static const char *const CASES[][3] = {
        { "STOPPED", "idle", "(none)" },   { "FAILED", "idle", "(none)" },
        { "PREPARING", "init", "active" }, { "STARTING", "init", "active" },
        { "RUNNING", "active", "(none)" }, { "DRAINING", "active", "(none)" },
        { "STOPPING", "active", "idle" },  { "CAPTURING", "active", "idle" },
    };

    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        struct endpoint e = an_endpoint();
        json_auto_t *v = NULL;

        e.observed = CASES[i][0];
        v = view_endpoint(&info, &e);
        check_no_null(v);
        ck_assert_str_eq(text_of(v, "current_state"), CASES[i][1]);
        ck_assert_str_eq(text_of(v, "pending_state"), CASES[i][2]);
    }
}
END_TEST

START_TEST(view_of_an_endpoint)
{
    struct endpoint e = an_endpoint();
    json_auto_t *v = NULL;
    json_auto_t *w = NULL;

    e.name = "n";
    e.pg_settings = "{\"work_mem\":\"8MB\"}";
    e.last_error = "out of \xff";
    v = view_endpoint(&info, &e);
    check_no_null(v);
    ck_assert_str_eq(text_of(v, "host"), "ep-a-b-c.localhost:7433");
    ck_assert_str_eq(text_of(v, "proxy_host"), "localhost:7433");
    ck_assert_str_eq(text_of(v, "pooler_mode"), "transaction");
    ck_assert_str_eq(text_of(v, "pooler_host"), "ep-a-b-c-pooler.localhost:7433");
    ck_assert(json_is_false(json_object_get(v, "pooler_enabled"))); /* info.pooler is none */
    ck_assert_str_eq(text_of(v, "name"), "n");
    ck_assert_double_eq(json_real_value(json_object_get(v, "autoscaling_limit_min_cu")), 0.25);
    ck_assert_str_eq(text_of(json_object_get(json_object_get(v, "settings"), "pg_settings"), "work_mem"),
                     "8MB");
    ck_assert_ptr_null(json_object_get(v, "last_active"));
    ck_assert_ptr_null(json_object_get(v, "pid"));
    ck_assert_ptr_null(json_object_get(v, "desired"));
    info.pg_port = 5432;
    info.host_suffix = "db.example";
    w = view_endpoint(&info, &e);
    ck_assert_str_eq(text_of(w, "host"), "ep-a-b-c.db.example");
    ck_assert_str_eq(text_of(w, "proxy_host"), "db.example");
}
END_TEST

static void check_uri(const struct view_connection *c, const char *want)
{
    auto_free char *uri = view_uri(&info, c);

    ck_assert_str_eq(uri, want);
}

START_TEST(connection_strings)
{
    struct view_connection c = {
        .endpoint_id = "ep-a-b-c", .role = "neondb_owner", .password = "npg_x", .database = "neondb"
    };
    struct view_connection odd = {
        .endpoint_id = "ep-a-b-c", .role = "r/@:", .password = "p w%?", .database = "d\xc3\xbc&"
    };
    json_auto_t *v = view_connection(&info, &c);
    json_t *p = json_object_get(v, "connection_parameters");

    check_uri(
        &c,
        "postgresql://neondb_owner:npg_x@127.0.0.1:7433/neondb?sslmode=require&options=endpoint%3Dep-a-b-c");
    check_uri(&odd, "postgresql://r%2F%40%3A:p%20w%25%3F@127.0.0.1:7433/"
                    "d%C3%BC%26?sslmode=require&options=endpoint%3Dep-a-b-c");
    ck_assert_str_eq(text_of(p, "host"), "ep-a-b-c.localhost:7433");
    ck_assert_str_eq(text_of(p, "pooler_host"), "ep-a-b-c-pooler.localhost:7433");
    ck_assert_str_eq(text_of(p, "password"), "npg_x");
    c.pooled = true;
    check_uri(&c, "postgresql://neondb_owner:npg_x@127.0.0.1:7433/"
                  "neondb?sslmode=require&options=endpoint%3Dep-a-b-c-pooler");
    info.has_domain = true;
    check_uri(&c, "postgresql://neondb_owner:npg_x@ep-a-b-c-pooler.localhost:7433/neondb?sslmode=require");
    info.has_domain = c.pooled = false;
    info.pg_host = "::1";
    check_uri(
        &c, "postgresql://neondb_owner:npg_x@[::1]:7433/neondb?sslmode=require&options=endpoint%3Dep-a-b-c");
    info.has_domain = true;
    info.host_suffix = "db.example";
    check_uri(&c, "postgresql://neondb_owner:npg_x@ep-a-b-c.db.example:7433/neondb?sslmode=require");
    info.pg_port = 5432;
    check_uri(&c, "postgresql://neondb_owner:npg_x@ep-a-b-c.db.example/neondb?sslmode=require");
}
END_TEST

START_TEST(view_of_a_project)
{
    struct project p = { .id = "a-b-12345678",
                         .name = "n",
                         .state = "ready",
                         .pg_version = 15,
                         .region_id = "local",
                         .store_passwords = true,
                         .history_retention_seconds = 86400,
                         .created_at = T,
                         .updated_at = T };
    json_auto_t *v = view_project(&info, &p);
    json_auto_t *w = NULL;
    json_auto_t *item = view_project_item(&info, &p);

    check_no_null(v);
    ck_assert(json_is_array(
        json_object_get(json_object_get(json_object_get(v, "settings"), "allowed_ips"), "ips")));
    ck_assert_double_eq(json_number_value(json_object_get(json_object_get(v, "default_endpoint_settings"),
                                                          "autoscaling_limit_max_cu")),
                        2);
    ck_assert_str_eq(text_of(v, "consumption_period_start"), "0001-01-01T00:00:00Z");
    ck_assert_ptr_null(json_object_get(v, "state"));
    ck_assert_ptr_nonnull(json_object_get(item, "active_time"));
    ck_assert_ptr_null(json_object_get(item, "consumption_period_start"));
    p.settings = "{\"audit_log_level\":\"full\",\"allowed_ips\":{\"protected_branches_only\":false}}";
    p.default_endpoint_settings = "{\"autoscaling_limit_max_cu\":1}";
    w = view_project(&info, &p);
    ck_assert_str_eq(text_of(json_object_get(w, "settings"), "audit_log_level"), "full");
    ck_assert(json_is_array(
        json_object_get(json_object_get(json_object_get(w, "settings"), "allowed_ips"), "ips")));
    ck_assert_double_eq(json_number_value(json_object_get(json_object_get(w, "default_endpoint_settings"),
                                                          "autoscaling_limit_max_cu")),
                        1);
    ck_assert_double_eq(json_number_value(json_object_get(json_object_get(w, "default_endpoint_settings"),
                                                          "autoscaling_limit_min_cu")),
                        0.25);
}
END_TEST

START_TEST(passwords_are_shown_only_when_passed)
{
    struct role r = { .branch_id = "br-a-b-c",
                      .name = "r",
                      .sealed = (const uint8_t *)"x",
                      .sealed_len = 1,
                      .state = "ready",
                      .created_at = T,
                      .updated_at = T };
    json_auto_t *v = view_role(&r, NULL);
    json_auto_t *w = view_role(&r, "secret");

    check_no_null(v);
    ck_assert_ptr_null(json_object_get(v, "password"));
    ck_assert_ptr_null(json_object_get(v, "sealed"));
    ck_assert_str_eq(text_of(v, "authentication_method"), "password");
    ck_assert_str_eq(text_of(w, "password"), "secret");
    r.no_login = true;
    json_decref(v);
    v = view_role(&r, NULL);
    ck_assert_str_eq(text_of(v, "authentication_method"), "no_login");
}
END_TEST

START_TEST(view_of_an_operation)
{
    struct operation o = { .seq = 7,
                           .id = "u",
                           .project_id = "p",
                           .action = "apply_config",
                           .status = "failed",
                           .args = "{\"x\":1}",
                           .error = "cut \xc3",
                           .failures_count = 2,
                           .created_at = T,
                           .updated_at = T };
    json_auto_t *v = view_operation(&o);

    check_no_null(v);
    ck_assert_ptr_null(json_object_get(v, "args"));
    ck_assert_ptr_null(json_object_get(v, "seq"));
    ck_assert_ptr_null(json_object_get(v, "branch_id"));
    ck_assert_ptr_null(json_object_get(v, "retry_at"));
    ck_assert_str_eq(text_of(v, "error"), "cut ?");
    ck_assert_int_eq(json_integer_value(json_object_get(v, "failures_count")), 2);
}
END_TEST

/* --- errors --- */

START_TEST(an_error_has_both_kinds_of_members)
{
    struct err err = ERR_INIT;
    json_auto_t *v = NULL;
    json_t *one;

    err_field(&err, ERR_NOT_SUPPORTED, "/branch/x", "not here");
    err_detail(&err, "for the log only");
    v = http_error_json(&req, &err);
    check_no_null(v);
    ck_assert_str_eq(text_of(v, "request_id"), "r-1");
    ck_assert_str_eq(text_of(v, "code"), "not_supported");
    ck_assert_str_eq(text_of(v, "message"), "not here");
    ck_assert_str_eq(text_of(v, "detail"), "not here");
    ck_assert_str_eq(text_of(v, "type"), "/problems/not_supported");
    ck_assert_str_eq(text_of(v, "title"), "Unprocessable Content");
    ck_assert_str_eq(text_of(v, "instance"), "/api/v2/x");
    ck_assert_int_eq(json_integer_value(json_object_get(v, "status")), 422);
    one = json_array_get(json_object_get(v, "errors"), 0);
    ck_assert_str_eq(text_of(one, "pointer"), "/branch/x");
    ck_assert_str_eq(text_of(one, "detail"), "not here");
}
END_TEST

START_TEST(every_error_has_a_title_and_a_message)
{
    for (int code = ERR_BAD_REQUEST; code <= ERR_DISK_FULL; code++) {
        struct err err = ERR_INIT;
        json_auto_t *v = NULL;

        err_set(&err, (enum err_code)code, "said \xff and cut \xe2\x82");
        v = http_error_json(&req, &err);
        check_no_null(v);
        ck_assert_str_ne(text_of(v, "title"), "Error");
        ck_assert_str_ne(text_of(v, "message"), "(none)");
        ck_assert_ptr_null(json_object_get(v, "errors"));
        ck_assert_int_ge(json_integer_value(json_object_get(v, "status")), 400);
    }
}
END_TEST

Suite *t_api_json_suite(void)
{
    Suite *s = suite_create("api_json");
    TCase *c = tcase_create("api_json");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, bodies_that_are_read);
    tcase_add_test(c, bodies_that_are_not);
    tcase_add_test(c, nesting_has_a_limit);
    tcase_add_test(c, a_megabyte_of_brackets_is_refused_at_once);
    tcase_add_test(c, a_project_with_everything_that_works);
    tcase_add_test(c, what_is_not_given);
    tcase_add_test(c, an_update_keeps_what_it_does_not_name);
    tcase_add_test(c, a_branch_as_clients_ask_for_it);
    tcase_add_test(c, zero_compute_units_are_not_nothing);
    tcase_add_test(c, what_is_refused_says_where);
    tcase_add_test(c, view_of_a_root_branch);
    tcase_add_test(c, view_of_a_child_that_is_being_made);
    tcase_add_test(c, view_of_a_child_whose_parent_nobody_sees);
    tcase_add_test(c, view_of_annotations);
    tcase_add_test(c, view_of_endpoint_states);
    tcase_add_test(c, view_of_an_endpoint);
    tcase_add_test(c, connection_strings);
    tcase_add_test(c, view_of_a_project);
    tcase_add_test(c, passwords_are_shown_only_when_passed);
    tcase_add_test(c, view_of_an_operation);
    tcase_add_test(c, an_error_has_both_kinds_of_members);
    tcase_add_test(c, every_error_has_a_title_and_a_message);
    suite_add_tcase(s, c);
    return s;
}
