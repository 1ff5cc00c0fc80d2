/*
 * given.c - what a client has set of a resource
 */
#include "scheduler/given.h"

#include <jansson.h>
#include <stdlib.h>

static json_t *parse(const char *given)
{
    json_t *obj = given != NULL ? json_loads(given, 0, NULL) : NULL;
    return obj != NULL ? obj : json_object();
}

const char *given_merge(struct arena *a, const char *given, const char *more)
{
    json_auto_t *all = parse(given), *added = parse(more);
    const char *name;
    json_t *value;
    json_object_foreach(added, name, value)
    {
        if (json_is_null(value))
            (void)json_object_del(all, name);
        else
            (void)json_object_set(all, name, value);
    }
    if (json_object_size(all) == 0)
        return NULL;
    auto_free char *text = json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(15));
    return arena_strdup(a, text);
}

bool given_equal(const char *given, const char *other)
{
    json_auto_t *x = parse(given), *y = parse(other);
    return json_equal(x, y);
}

bool given_again(const char *given, const char *other, const char *name)
{
    json_auto_t *x = parse(given), *y = parse(other);
    return json_equal(json_object_get(x, name), json_object_get(y, name)) == 1;
}

bool given_has(const char *given, const char *name)
{
    json_auto_t *x = parse(given);
    json_t *value = json_object_get(x, name);
    return value != NULL && !json_is_null(value);
}
