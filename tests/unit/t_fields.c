/*
 * t_fields.c - field tables: both directions, and everything that has to be refused
 */
#include "base/fields.h"

#include <check.h>
#include <math.h>

Suite *t_fields_suite(void);

struct thing {
    const char *id, *name, *secret, *settings;
    int64_t size, quota, created_at;
    uint64_t lsn;
    bool on;
    double ratio;
    int64_t row;
};

static const struct field THING[] = {
    FIELD(thing, id, F_STR, F_READONLY, 0),
    FIELD_RANGE(thing, name, F_STR, F_REQUIRED, 1, 8),
    FIELD(thing, secret, F_STR, F_SECRET | F_NULLABLE, 0),
    FIELD(thing, settings, F_JSON, F_NULLABLE, 40),
    FIELD_RANGE(thing, size, F_I64, F_OPTIONAL, -5, 10),
    FIELD(thing, quota, F_I64, F_OPTVAL | F_NULLABLE, 0),
    FIELD(thing, created_at, F_TIME, F_NULLABLE, 0),
    FIELD(thing, lsn, F_LSN, F_NULLABLE, 0),
    FIELD(thing, on, F_BOOL, F_NULLABLE, 0),
    FIELD(thing, ratio, F_DOUBLE, F_OPTIONAL, 0),
    FIELD(thing, row, F_I64, F_HIDDEN, 0),
};

static struct arena *arena;

static void setup(void)
{
    arena = arena_new(0);
}

static void teardown(void)
{
    arena_free(arena);
}

static int read_thing(const char *json, struct thing *t, uint64_t *seen, struct err *err)
{
    json_error_t why;
    json_t *obj = json_loads(json, JSON_ALLOW_NUL | JSON_DECODE_ANY, &why);
    int rc;

    ck_assert_msg(obj != NULL, "%s: %s", json, why.text);
    rc = fields_from_json(THING, N_ELEMENTS(THING), obj, "/thing", arena, t, seen, err);
    json_decref(obj);
    return rc;
}

static void check_refused(const char *json, const char *pointer, const char *text)
{
    struct thing t = { 0 };
    struct err err = ERR_INIT;

    ck_assert_msg(read_thing(json, &t, NULL, &err) == -1, "accepted %s", json);
    ck_assert_int_eq(err.code, ERR_INVALID);
    ck_assert_str_eq(err.pointer, pointer);
    ck_assert_msg(strstr(err.msg, text) != NULL, "\"%s\" not in \"%s\" for %s", text, err.msg, json);
}

START_TEST(to_json)
{
    struct thing t = { .id = "x",
                       .name = "n",
                       .secret = "s",
                       .settings = "{\"a\":[1]}",
                       .size = 3,
                       .quota = INT64_MIN,
                       .created_at = INT64_C(1737061321000000),
                       .lsn = 0x16B3748,
                       .ratio = 0.5,
                       .row = 9 };
    json_t *obj = fields_to_json(THING, N_ELEMENTS(THING), &t);
    char *text = json_dumps(obj, JSON_COMPACT);

    ck_assert_str_eq(
        text, "{\"id\":\"x\",\"name\":\"n\",\"settings\":{\"a\":[1]},\"size\":3,"
              "\"created_at\":\"2025-01-16T21:02:01Z\",\"lsn\":\"0/16B3748\",\"on\":false,\"ratio\":0.5}");
    free(text);
    json_decref(obj);
}
END_TEST

START_TEST(what_has_no_value_is_left_out)
{
    struct thing t = { .quota = INT64_MIN, .ratio = NAN };
    json_t *obj = fields_to_json(THING, N_ELEMENTS(THING), &t);
    char *text = json_dumps(obj, JSON_COMPACT);

    ck_assert_str_eq(text, "{\"size\":0,\"on\":false}");
    free(text);
    json_decref(obj);
}
END_TEST

START_TEST(from_json)
{
    struct thing t = { .size = 7, .row = 5, .id = "kept" };
    struct err err = ERR_INIT;
    uint64_t seen = 0;

    ck_assert_int_eq(
        read_thing("{\"name\":\"caf\xc3\xa9\",\"settings\":{ \"a\" : [ 1 ] "
                   "},\"quota\":-4,\"lsn\":\"1/0\",\"on\":true,"
                   "\"ratio\":2,\"created_at\":\"2025-01-16T22:02:01.5+01:00\",\"secret\":\"p\"}",
                   &t, &seen, &err),
        0);
    ck_assert_str_eq(t.name, "caf\xc3\xa9");
    ck_assert_str_eq(t.settings, "{\"a\":[1]}");
    ck_assert_str_eq(t.secret, "p");
    ck_assert_int_eq(t.quota, -4);
    ck_assert_uint_eq(t.lsn, UINT64_C(1) << 32);
    ck_assert_int_eq(t.created_at, INT64_C(1737061321500000));
    ck_assert(t.on);
    ck_assert_double_eq(t.ratio, 2.0);
    ck_assert_int_eq(t.size, 7); /* absent: as it was */
    ck_assert_int_eq(t.row, 5);
    ck_assert_str_eq(t.id, "kept");
    ck_assert_uint_eq(seen, 0x3EE);
}
END_TEST

START_TEST(null_means_no_value)
{
    struct thing t = { .secret = "x", .settings = "{}", .quota = 3, .created_at = 9, .lsn = 8 };
    struct err err = ERR_INIT;
    uint64_t seen;

    ck_assert_int_eq(
        read_thing("{\"name\":\"n\",\"secret\":null,\"settings\":null,\"quota\":null,\"created_at\":null,"
                   "\"lsn\":null}",
                   &t, &seen, &err),
        0);
    ck_assert_ptr_null(t.secret);
    ck_assert_ptr_null(t.settings);
    ck_assert_int_eq(t.quota, INT64_MIN);
    ck_assert_int_eq(t.created_at, 0);
    ck_assert_uint_eq(t.lsn, 0);
    ck_assert_uint_eq(seen, 0xEE);
    check_refused("{\"name\":null}", "/thing/name", "must not be null");
    check_refused("{\"name\":\"n\",\"size\":null}", "/thing/size", "must not be null");
    check_refused("{\"name\":\"n\",\"on\":null}", "/thing/on",
                  "must not be null"); /* a bool has no "no value" */
}
END_TEST

START_TEST(keys)
{
    check_refused("{}", "/thing/name", "name is required");
    check_refused("{\"name\":\"n\",\"nmae\":1}", "/thing/nmae", "unknown field \"nmae\"");
    check_refused("{\"name\":\"n\",\"a/b~c\":1}", "/thing/a~1b~0c", "unknown field \"a/b~c\"");
    check_refused("{\"name\":\"n\",\"id\":\"y\"}", "/thing/id", "set by the server");
    check_refused("{\"name\":\"n\",\"row\":1}", "/thing/row",
                  "unknown field"); /* hidden: does not even exist */
    check_refused("{\"name\":\"n\",\"\":1}", "/thing/", "unknown field");
    check_refused("[]", "/thing", "object");
    check_refused("\"x\"", "/thing", "object");
    check_refused("null", "/thing", "object");
}
END_TEST

START_TEST(long_keys_fit_the_pointer)
{
    char json[2048] = "{\"name\":\"n\",\"";
    size_t n = strlen(json);
    struct thing t = { 0 };
    struct err err = ERR_INIT;

    memset(json + n, '~', 1000);
    strncpy(json + n + 1000, "\":1}", 8);
    ck_assert_int_eq(read_thing(json, &t, NULL, &err), -1);
    ck_assert_uint_lt(strlen(err.pointer), sizeof(err.pointer));
    ck_assert_uint_eq(strncmp(err.pointer, "/thing/~0~0", 11), 0);
}
END_TEST

START_TEST(strings)
{
    check_refused("{\"name\":1}", "/thing/name", "must be a string");
    check_refused("{\"name\":\"\"}", "/thing/name", "must not be empty");
    check_refused("{\"name\":\"123456789\"}", "/thing/name", "at most 8 bytes");
    check_refused("{\"name\":\"a\\u0000b\"}", "/thing/name", "without NUL");
}
END_TEST

START_TEST(numbers)
{
    check_refused("{\"name\":\"n\",\"size\":11}", "/thing/size", "between -5 and 10");
    check_refused("{\"name\":\"n\",\"size\":-6}", "/thing/size", "between -5 and 10");
    check_refused("{\"name\":\"n\",\"size\":1.0}", "/thing/size", "whole number");
    check_refused("{\"name\":\"n\",\"size\":\"1\"}", "/thing/size", "whole number");
    check_refused("{\"name\":\"n\",\"size\":true}", "/thing/size", "whole number");
    check_refused("{\"name\":\"n\",\"quota\":-9223372036854775808}", "/thing/quota", "out of range");
    check_refused("{\"name\":\"n\",\"on\":1}", "/thing/on", "true or false");
    check_refused("{\"name\":\"n\",\"ratio\":\"1\"}", "/thing/ratio", "number");
}
END_TEST

START_TEST(lsns_and_times)
{
    check_refused("{\"name\":\"n\",\"lsn\":5}", "/thing/lsn", "LSN");
    check_refused("{\"name\":\"n\",\"lsn\":\"0/0\"}", "/thing/lsn", "LSN");
    check_refused("{\"name\":\"n\",\"lsn\":\"0/1\\u0000\"}", "/thing/lsn", "LSN");
    check_refused("{\"name\":\"n\",\"created_at\":\"yesterday\"}", "/thing/created_at", "time");
    check_refused("{\"name\":\"n\",\"created_at\":1737061321}", "/thing/created_at", "time");
}
END_TEST

static char *nested(int depth, char *out)
{
    char *p = out + snprintf(out, 32, "{\"name\":\"n\",\"settings\":");

    memset(p, '[', (size_t)depth);
    memset(p + depth, ']', (size_t)depth);
    p[2 * depth] = '}';
    p[2 * depth + 1] = '\0';
    return out;
}

START_TEST(json_values)
{
    char text[4096];
    struct thing t = { 0 };
    struct err err = ERR_INIT;

    check_refused("{\"name\":\"n\",\"settings\":\"x\"}", "/thing/settings", "object or an array");
    check_refused("{\"name\":\"n\",\"settings\":{\"k\":\"0123456789012345678901234567890123456789\"}}",
                  "/thing/settings", "at most 40 bytes");
    check_refused("{\"name\":\"n\",\"settings\":{\"k\":[\"a\\u0000\"]}}", "/thing/settings", "NUL");
    ck_assert_int_eq(read_thing(nested(20, text), &t, NULL, &err), 0);
    ck_assert_uint_eq(strlen(t.settings), 40);
    check_refused(nested(33, text), "/thing/settings", "too deeply");
    check_refused(nested(1500, text), "/thing/settings", "too deeply");
}
END_TEST

START_TEST(a_full_arena_is_unavailable)
{
    auto_arena *small = arena_new(16);
    json_t *obj = json_pack("{s:s,s:s}", "name", "12345678", "secret", "a string that does not fit");
    struct thing t = { 0 };
    struct err err = ERR_INIT;

    ck_assert_int_eq(fields_from_json(THING, N_ELEMENTS(THING), obj, NULL, small, &t, NULL, &err), -1);
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    json_decref(obj);
}
END_TEST

Suite *t_fields_suite(void)
{
    Suite *s = suite_create("fields");
    TCase *c = tcase_create("fields");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, to_json);
    tcase_add_test(c, what_has_no_value_is_left_out);
    tcase_add_test(c, from_json);
    tcase_add_test(c, null_means_no_value);
    tcase_add_test(c, keys);
    tcase_add_test(c, long_keys_fit_the_pointer);
    tcase_add_test(c, strings);
    tcase_add_test(c, numbers);
    tcase_add_test(c, lsns_and_times);
    tcase_add_test(c, json_values);
    tcase_add_test(c, a_full_arena_is_unavailable);
    suite_add_tcase(s, c);
    return s;
}
