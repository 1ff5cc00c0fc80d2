/*
 * shape.c - small checks that bodies have in common
 */
#include "api/shape.h"

#include "api/view.h"

#include <string.h>

#define LABELS_MAX     64
#define LABEL_KEY_MAX  128
#define LABEL_TEXT_MAX 1024

static bool is_refused(enum refuse_when when, json_t *v)
{
    switch (when) {
    case REFUSE_TRUE:
        return json_is_true(v);
    case REFUSE_FALSE:
        return json_is_false(v);
    case REFUSE_ANY:
        return !json_is_null(v);
    case REFUSE_NOT_EMPTY:
        return json_array_size(v) > 0 || json_object_size(v) > 0;
    case REFUSE_NOT_ZERO:
        return json_number_value(v) != 0;
    }
    return true;
}

int shape_refuse(const struct refusal *table, size_t n, json_t *obj, const char *prefix, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_object_get(obj, table[i].name);

        if (v != NULL && is_refused(table[i].when, v)) {
            auto_free char *pointer = xasprintf("%s/%s", prefix, table[i].name);

            return err_field(err, ERR_NOT_SUPPORTED, pointer, "%s: %s; nothing was changed", table[i].name,
                             table[i].why);
        }
    }
    return 0;
}

bool shape_seen(uint64_t bits, const struct field *table, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(table[i].name, name) == 0)
            return (bits >> i & 1) != 0;
    return false;
}

const char *shape_text(struct arena *a, json_t *v)
{
    auto_free char *text = json_dumps(v, JSON_COMPACT);

    return arena_strdup(a, text);
}

int shape_bad(struct err *err, const char *prefix, const char *name, const char *what)
{
    auto_free char *pointer = xasprintf("%s/%s", prefix, name);

    return err_field(err, ERR_INVALID, pointer, "%s %s", name, what);
}

int shape_labels(struct arena *a, json_t *obj, const char *prefix, const char *name, const char **ret,
                 struct err *err)
{
    json_t *labels = json_object_get(obj, name), *v;
    const char *key;

    if (labels == NULL)
        return 0;
    if (!json_is_object(labels))
        return shape_bad(err, prefix, name, "must be an object of texts");
    if (json_object_size(labels) > LABELS_MAX)
        return shape_bad(err, prefix, name, "must have at most 64 members");
    json_object_foreach(labels, key, v)
    {
        if (key[0] == '\0' || strlen(key) > LABEL_KEY_MAX)
            return shape_bad(err, prefix, name, "must have keys of 1 to 128 bytes");
        if (!json_is_string(v) || json_string_length(v) > LABEL_TEXT_MAX)
            return shape_bad(err, prefix, name, "must have texts of at most 1024 bytes as values");
    }
    *ret = shape_text(a, labels);
    return 0;
}

const char *shape_given(struct arena *a, json_t *obj, const char *but, const char *from, const char *to)
{
    json_auto_t *given = json_object();
    const char *name;
    json_t *value;

    json_object_foreach(obj, name, value)
    {
        if (but == NULL || strcmp(name, but) != 0)
            json_object_set(given, from != NULL && strcmp(name, from) == 0 ? to : name, value);
    }
    return shape_text(a, given);
}

void shape_drop_nulls(const struct field *table, size_t n, json_t *body)
{
    for (size_t i = 0; i < n; i++)
        if (json_is_null(json_object_get(body, table[i].name)))
            (void)json_object_del(body, table[i].name);
}

int shape_same_name(json_t *body, const char *name, struct err *err)
{
    json_t *value = json_object_get(body, "name");

    if (value == NULL || (json_is_string(value) && strcmp(json_string_value(value), name) == 0))
        return 0;
    return err_field(
        err, ERR_INVALID, "/name",
        "the name in the body is not the one in the path (\"%.80s\"); nothing was changed: PUT does "
        "not rename (PATCH does), so a tool that replaces must be told that a new name is a new thing",
        name);
}

bool shape_are_texts(json_t *v)
{
    json_t *one;
    size_t i;

    json_array_foreach(v, i, one)
    {
        if (!json_is_string(one))
            return false;
    }
    return json_is_array(v);
}

int shape_place(struct http_req *req, const char *org_id, const char *region_id, const char *provisioner,
                const char *prefix, struct err *err)
{
    auto_free char *p_org = xasprintf("%s/org_id", prefix), *p_region = xasprintf("%s/region_id", prefix);
    auto_free char *p_provisioner = xasprintf("%s/provisioner", prefix);

    if (org_id != NULL && strcmp(org_id, VIEW_ORG_ID) != 0)
        return err_field(err, ERR_INVALID, p_org, "there is one organisation here: \"%s\"", VIEW_ORG_ID);
    if (region_id != NULL && strcmp(region_id, sched_info(req->sched)->region_id) != 0)
        return err_field(err, ERR_INVALID, p_region, "there is one region here: \"%s\"",
                         sched_info(req->sched)->region_id);
    if (provisioner != NULL && strcmp(provisioner, VIEW_PROVISIONER) != 0)
        return err_field(err, ERR_NOT_SUPPORTED, p_provisioner, "there is one provisioner here: \"%s\"",
                         VIEW_PROVISIONER);
    return 0;
}

struct preload_body {
    bool use_defaults;
    const char *enabled_libraries;
};

static const struct field PRELOAD[] = {
    FIELD(preload_body, use_defaults, F_BOOL, 0, 0),
    FIELD(preload_body, enabled_libraries, F_JSON, 0, SHAPE_JSON_MAX),
};

int shape_preload(struct arena *a, json_t *obj, const char *prefix, struct err *err)
{
    struct preload_body body;

    if (obj == NULL)
        return 0;
    if (fields_from_json(PRELOAD, N_ELEMENTS(PRELOAD), obj, prefix, a, &body, NULL, err) < 0)
        return -1;
    if (json_object_get(obj, "enabled_libraries") != NULL &&
        !shape_are_texts(json_object_get(obj, "enabled_libraries")))
        return shape_bad(err, prefix, "enabled_libraries", "must be an array of texts");
    return 0;
}
